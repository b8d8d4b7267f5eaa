//! `ottla start`.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ottla_config::{BrokerConfig, ConfigError, ConfigWarning};
use ottla_env::{Env, process};
use ottla_server::{Server, StartError};
use tracing::{debug, info, warn};
use tracing_subscriber::EnvFilter;

use super::key_and_value;
use crate::failure::Failure;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Args)]
pub(crate) struct Options {
    /// A server.properties as Kafka has it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, over the file's value; may be given many times.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
    /// Where data lies; short for --set log.dirs=DIR [without --config: ./ottla-data].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Where clients connect; short for --set listeners=PLAINTEXT://HOST:PORT
    /// [without --config: 127.0.0.1:9092].
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    log_to_stderr()?;
    // As many workers as there are cores: a request is handled on the worker that read it, so
    // num.network.threads and num.io.threads have nothing to divide.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(serve(options))
}

fn log_to_stderr() -> Result<()> {
    // The Raft library tells below this level what is for its own developers.
    const DEFAULT: &str = "info,openraft=error";
    let directives = std::env::var("OTTLA_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
    let filter = EnvFilter::try_new(&directives).map_err(|error| Failure {
        what: format!("OTTLA_LOG={directives} cannot be read"),
        why: error.to_string(),
        next: "set it to error, warn, info, debug or trace, or to a list of target=level"
            .to_owned(),
    })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter);
    subscriber.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr).init();
    Ok(())
}

async fn serve(options: &Options) -> Result<()> {
    let env = Env::os();
    let (mut config, warnings) = read_config(&env, options)?;
    for warning in warnings {
        warn!("{warning}");
    }
    for dir in config.node.log_dirs.iter_mut().chain([&mut config.node.metadata_log_dir]) {
        // As DescribeLogDirs tells them, wherever the node was started.
        *dir = std::path::absolute(&*dir).unwrap_or_else(|_| dir.clone());
    }
    match process::raise_open_file_limit() {
        Ok(limit) => {
            debug!(limit, "open files");
            for warning in fit_open_files(&mut config, limit) {
                warn!("{warning}");
            }
        }
        Err(error) => warn!("the limit of open files stays as it is: {error}"),
    }
    let asked_to_stop = process::shutdown_signal().context("cannot listen for signals")?;
    tokio::pin!(asked_to_stop);
    let data = config.node.log_dirs.clone();
    let node_id = config.node.node_id.0;
    let server = tokio::select! {
        server = Server::start(env, config) => server.map_err(|error| cannot_start(&error))?,
        _ = &mut asked_to_stop => return Ok(()),
    };
    announce(&server, node_id, &data);
    if let Some(address) = server.metrics_address() {
        info!("metrics: http://{address}/metrics");
    }
    let failure = tokio::select! {
        _ = asked_to_stop => None,
        reason = server.failed() => Some(reason),
    };
    server.shutdown().await;
    failure.map_or(Ok(()), |why| Err(stopped(why).into()))
}

/// Files besides those of logs and connections: listeners, locks, the metadata log, files that are open for a moment.
const OTHER_FILES: u64 = 128;
/// Fewer connections than so many are worth a word.
const FEW_CONNECTIONS: u64 = 1000;

/// Makes the files of logs and connections fit the limit of this process, as far as it can; what does not is said.
fn fit_open_files(config: &mut BrokerConfig, limit: u64) -> Vec<String> {
    let mut warnings = Vec::new();
    let usable = limit.saturating_sub(OTHER_FILES);
    let asked = config.log_manager.max_open_files;
    let files = (asked as u64).min((usable / 2).max(1));
    if files < asked as u64 {
        warnings.push(format!(
            "log.max.open.files={asked} does not fit the limit of {limit} open files: keeping {files} (raise ulimit -n)"
        ));
        config.log_manager.max_open_files = usize::try_from(files).unwrap_or(asked);
    }
    let connections = usable.saturating_sub(files);
    let wanted = config.socket_server.max_connections as u64;
    if connections < wanted.min(FEW_CONNECTIONS)
        || (connections < wanted && wanted < u64::from(u32::MAX >> 1))
    {
        warnings.push(format!(
            "the limit of {limit} open files leaves room for {connections} connections: raise ulimit -n, or lower max.connections or log.max.open.files"
        ));
    }
    warnings
}

fn read_config(env: &Env, options: &Options) -> Result<(BrokerConfig, Vec<ConfigWarning>)> {
    let file = options.config.as_deref();
    let text = match file {
        None => BrokerConfig::STANDALONE.to_owned(),
        Some(path) => read_file(env, path)?,
    };
    let mut overrides = options.set.clone();
    if let Some(dir) = &options.data_dir {
        overrides.push(("log.dirs".to_owned(), dir.clone()));
    }
    if let Some(address) = &options.listen {
        overrides.push(("listeners".to_owned(), format!("PLAINTEXT://{address}")));
    }
    let overrides: Vec<(&str, &str)> =
        overrides.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let read = BrokerConfig::parse(&[&text], &overrides);
    let (config, warnings) = read.map_err(|error| misconfigured(file, &error))?;
    Ok((config, warnings))
}

fn read_file(env: &Env, path: &Path) -> Result<String> {
    let unreadable = |why: String| Failure {
        what: format!("cannot read the configuration {}", path.display()),
        why,
        next: "check the path given to --config, or leave it out".to_owned(),
    };
    let bytes = env.disk.read(path).map_err(|error| unreadable(error.to_string()))?;
    Ok(String::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?)
}

fn misconfigured(file: Option<&Path>, error: &ConfigError) -> Failure {
    let count = error.problems.len();
    let place = file.map_or("the options".to_owned(), |path| path.display().to_string());
    Failure {
        what: format!("the configuration has {count} problem{}", if count == 1 { "" } else { "s" }),
        why: error.to_string(),
        next: format!("correct {place}; docs/configuration.md lists every key and its range"),
    }
}

fn cannot_start(error: &StartError) -> Failure {
    let next = match error {
        StartError::Listen(_) => {
            "stop the process that listens there, or choose another place: ottla start --listen 127.0.0.1:0"
        }
        StartError::Logs(_) | StartError::MetadataDir(_) | StartError::ClusterId(_) => {
            "repair the directory, or start on another one: ottla start --data-dir DIR"
        }
        StartError::MetadataLost { .. } => "mount the disk of the directory, then: ottla start …",
        StartError::Metadata(_) | StartError::Registration { .. } => {
            "see what came before: OTTLA_LOG=debug ottla start …"
        }
        StartError::TooSlow(_) => {
            "see in the log what it waited for, or allow it more: server.max.startup.time.ms"
        }
    };
    let why = error.to_string();
    Failure { what: "the node did not start".to_owned(), why, next: next.to_owned() }
}

fn stopped(why: String) -> Failure {
    Failure {
        what: "the node has stopped, because it cannot go on".to_owned(),
        why,
        next: "repair or replace the disk, then start the node again: what it had promised is kept where the disk is whole"
            .to_owned(),
    }
}

/// Says where the node is and what to type next. The last line is for scripts too.
fn announce(server: &Server, node_id: i32, data: &[PathBuf]) {
    let addresses = server.addresses();
    let Some((_, first)) = addresses.first() else { return };
    let list = |texts: Vec<String>| texts.join(", ");
    let listening = list(addresses.iter().map(|(name, it)| format!("{name}://{it}")).collect());
    let data = list(data.iter().map(|dir| absolute(dir)).collect());
    let reachable = reachable(*first);
    let text = format!(
        "Ottla {VERSION}, a broker that speaks Kafka's protocol\n\
         \x20 node       {node_id} of cluster {}\n\
         \x20 listening  {listening}\n\
         \x20 data       {data}\n\
         \x20 try        echo hello | kcat -b {reachable} -t greetings -P\n\
         \x20            ottla bench produce --bootstrap-server {reachable}\n\
         Ottla {VERSION} is ready on {reachable}\n",
        server.cluster_id(),
    );
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        warn!("nobody reads stdout: {error}");
    }
}

fn absolute(dir: &Path) -> String {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()).display().to_string()
}

/// An address that a client on this machine can use.
fn reachable(address: SocketAddr) -> SocketAddr {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    reachable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept, and what is said, of `properties` under a limit of open files.
    fn fitted(properties: &str, limit: u64) -> (usize, Vec<String>) {
        let texts = [BrokerConfig::STANDALONE, properties];
        let (mut config, _) = BrokerConfig::parse(&texts, &[]).unwrap();
        let said = fit_open_files(&mut config, limit);
        (config.log_manager.max_open_files, said)
    }

    #[test]
    fn logs_and_connections_share_the_limit_of_open_files() {
        assert_eq!(fitted("", 1 << 20), (4096, vec![]));
        let (kept, said) = fitted("", 1024);
        assert_eq!(kept, 448);
        assert!(
            said[0].contains("log.max.open.files=4096 does not fit the limit of 1024"),
            "{said:?}"
        );
        assert!(said[1].contains("room for 448 connections"), "{said:?}");
        // As many connections as were asked for, or a word.
        assert_eq!(fitted("log.max.open.files=100\nmax.connections=700\n", 1024), (100, vec![]));
        let (kept, said) = fitted("log.max.open.files=100\nmax.connections=2000\n", 1024);
        assert_eq!((kept, said.len()), (100, 1));
        assert!(said[0].contains("room for 796 connections"), "{said:?}");
        assert_eq!(fitted("", 0).0, 1);
    }
}
