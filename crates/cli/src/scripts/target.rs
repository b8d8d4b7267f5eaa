//! The cluster that a script works on: how it is reached, and what it answers.

use std::path::Path;
use std::time::Duration;

use ottla_client::{
    Admin, Answers, Client, ClientError, CommonClientConfig, ConfigWarning, DEFAULT_API_TIMEOUT,
};
use ottla_config::ConfigError;
use ottla_env::Env;
use ottla_protocol::ErrorCode;

use super::options::Options;
use super::{Outcome, Stop, java, warn};

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

/// The value of a key: the last that it has.
pub(super) fn find<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(it, _)| it == key).map(|(_, value)| value.as_str())
}

/// A configuration that was read; what is to be warned of goes to standard error.
pub(super) fn warned<C>(read: Result<(C, Vec<ConfigWarning>), ConfigError>) -> Outcome<C> {
    let (config, warnings) = read.map_err(|error| Stop::failed(error.to_string()))?;
    warnings.iter().for_each(|warning| warn(warning.to_string()));
    Ok(config)
}

/// Connects to the cluster that `--bootstrap-server` or `--bootstrap-controller` names, as the file
/// of `--command-config` says.
pub(super) async fn connect(env: &Env, options: &Options) -> Outcome<Admin> {
    // The second is how kafka-leader-election called it.
    let file = options.value("command-config")?.or(options.value("admin.config")?);
    let pairs = properties(env, file)?;
    connect_with(env, options, pairs).await
}

/// [`connect`] with these keys and values, whatever file is named.
pub(super) async fn connect_with(
    env: &Env,
    options: &Options,
    mut pairs: Vec<(String, String)>,
) -> Outcome<Admin> {
    let server = options.value("bootstrap-server")?.or(options.value("bootstrap-controller")?);
    let timeout = pairs.iter().find(|(key, _)| key == "default.api.timeout.ms");
    let timeout = timeout.and_then(|(_, value)| value.trim().parse().ok());
    let timeout = timeout.map_or(DEFAULT_API_TIMEOUT, Duration::from_millis);
    pairs.retain(|(key, _)| key != "bootstrap.servers");
    pairs.push(("bootstrap.servers".to_owned(), server.unwrap_or_default().to_owned()));
    let config = warned(CommonClientConfig::from_properties(pairs))?;
    let options = config.connection_options();
    let client = Client::connect(env, config.bootstrap_servers, options).await?;
    Ok(Admin::new(client, timeout))
}

/// The first failure among answers.
pub(super) fn all_done<K>(answers: Answers<K>) -> Result<(), ClientError> {
    answers.into_values().collect()
}

/// What is answered of each if a call fails as a whole.
pub(super) fn all_failed<K: Ord>(
    keys: impl IntoIterator<Item = K>,
    error: &ClientError,
) -> Answers<K> {
    let code = error.code().unwrap_or(ErrorCode::UnknownServerError);
    let message = java::message(error);
    let each = || ClientError::Refused { code, message: Some(message.clone()) };
    keys.into_iter().map(|key| (key, Err(each()))).collect()
}
