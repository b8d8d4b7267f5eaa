//! The cluster that a script works on: `--bootstrap-server` and `--command-config`.

use std::path::Path;
use std::time::Duration;

use ottla_client::{Admin, Client, CommonClientConfig, DEFAULT_API_TIMEOUT};
use ottla_env::Env;

use super::{Outcome, Stop, warn};

/// Does `work` in a runtime of its own.
pub(super) fn block_on(work: impl AsyncFnOnce(Env) -> Outcome) -> Outcome {
    // One thread: a script asks one thing after another.
    run(tokio::runtime::Builder::new_current_thread(), work)
}

/// [`block_on`] with what `work` starts beside it on other threads.
pub(super) fn block_on_threads(work: impl AsyncFnOnce(Env) -> Outcome) -> Outcome {
    run(tokio::runtime::Builder::new_multi_thread(), work)
}

fn run(mut runtime: tokio::runtime::Builder, work: impl AsyncFnOnce(Env) -> Outcome) -> Outcome {
    let runtime = runtime.enable_all().build()?;
    let done = runtime.block_on(async { work(Env::os()).await });
    // Who waits for standard input would wait for ever.
    runtime.shutdown_background();
    done
}

/// `key=value` arguments; a key alone has an empty value.
pub(super) fn pairs(arguments: &[&str]) -> Vec<(String, String)> {
    let split = arguments.iter().map(|it| it.split_once('=').unwrap_or((it, "")));
    split.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// The keys and values of a properties file; none without one.
pub(super) fn properties(env: &Env, file: Option<&str>) -> Outcome<Vec<(String, String)>> {
    let Some(file) = file else { return Ok(Vec::new()) };
    let bytes = env.disk.read(Path::new(file))?;
    let text = String::from_utf8_lossy(&bytes);
    ottla_config::read_properties(&text).map_err(|problem| Stop::failed(problem.to_string()))
}

/// Connects to the cluster at `servers`, as the file of properties says.
pub(super) async fn connect(env: &Env, servers: &str, file: Option<&str>) -> Outcome<Admin> {
    let mut pairs = properties(env, file)?;
    let timeout = pairs.iter().find(|(key, _)| key == "default.api.timeout.ms");
    let timeout = timeout.and_then(|(_, value)| value.trim().parse().ok());
    let timeout = timeout.map_or(DEFAULT_API_TIMEOUT, Duration::from_millis);
    pairs.retain(|(key, _)| key != "bootstrap.servers");
    pairs.push(("bootstrap.servers".to_owned(), servers.to_owned()));
    let (config, warnings) = CommonClientConfig::from_properties(
        pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())),
    )
    .map_err(|error| Stop::failed(error.to_string()))?;
    warnings.iter().for_each(|warning| warn(warning.to_string()));
    let options = config.connection_options();
    let client = Client::connect(env, config.bootstrap_servers, options).await?;
    Ok(Admin::new(client, timeout))
}
