//! `add-controller` and `remove-controller` (KIP-853).

use std::path::Path;

use ottla_client::Admin;
use ottla_env::Env;
use ottla_protocol::{BrokerId, TopicId, format_uuid, parse_uuid};

use super::super::options::Options;
use super::super::{Outcome, Stop, say, target};

/// A controller as its configuration file and its directory name it.
struct Controller {
    id: i32,
    directory_id: TopicId,
    /// Name, host and port of each listener.
    endpoints: Vec<(String, String, u16)>,
}

pub(super) async fn add(env: &Env, admin: &Admin, options: &Options) -> Outcome {
    let file = options.value("command-config")?;
    let controller = read(env, &target::properties(env, file)?)?;
    let is_dry_run = options.has("dry-run");
    if !is_dry_run {
        let Controller { id, directory_id, endpoints } = &controller;
        admin.add_raft_voter(BrokerId(*id), *directory_id, endpoints).await?;
    }
    let endpoints = controller.endpoints.iter().map(|(name, host, port)| {
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{name}://{host}:{port}")
    });
    say(format!(
        "{} controller {} with directory id {} and endpoints: {}",
        if is_dry_run { "DRY RUN of adding" } else { "Added" },
        controller.id,
        format_uuid(controller.directory_id),
        endpoints.collect::<Vec<_>>().join(", ")
    ))
}

pub(super) async fn remove(admin: &Admin, options: &Options) -> Outcome {
    let id = options.number::<i32>("i")?.unwrap_or(-1);
    if id < 0 {
        return Err(Stop::failed(format!("Invalid negative --controller-id: {id}")));
    }
    let text = options.value("d")?.unwrap_or_default();
    let directory_id = parse_uuid(text).map_err(|error| {
        Stop::failed(format!("Failed to parse --controller-directory-id: {error}"))
    })?;
    let is_dry_run = options.has("dry-run");
    if !is_dry_run {
        admin.remove_raft_voter(BrokerId(id), directory_id).await?;
    }
    // The first has two blanks, as Kafka prints it.
    let done = if is_dry_run { "DRY RUN of removing " } else { "Removed " };
    say(format!("{done} KRaft controller {id} with directory id {}", format_uuid(directory_id)))
}

fn read(env: &Env, properties: &[(String, String)]) -> Outcome<Controller> {
    let invalid = |what: String| {
        Stop::failed(format!("{what}. Is this a valid controller configuration file?"))
    };
    let find = |key: &str| target::find(properties, key);
    let id = find("node.id")
        .ok_or_else(|| invalid("node.id not found in configuration file".to_owned()))?;
    let id: i32 = id
        .trim()
        .parse()
        .map_err(|_| Stop::failed(format!("For input string: \"{}\"", id.trim())))?;
    if id < 0 {
        return Err(invalid("node.id was negative in configuration file".to_owned()));
    }
    if !find("process.roles").unwrap_or_default().contains("controller") {
        let what = "process.roles did not contain 'controller' in configuration file";
        return Err(invalid(what.to_owned()));
    }
    let first_dir = |dirs: &'static str| find(dirs)?.trim().split(',').next();
    let dir = find("metadata.log.dir").or_else(|| first_dir("log.dirs"));
    let dir =
        dir.ok_or_else(|| invalid("Neither metadata.log.dir nor log.dirs were found".to_owned()))?;
    let directory_id = directory_id(env, dir)?;
    Ok(Controller { id, directory_id, endpoints: endpoints(properties)? })
}

fn directory_id(env: &Env, dir: &str) -> Outcome<TopicId> {
    let path = Path::new(dir).join("meta.properties");
    if !env.disk.exists(&path) {
        return Err(Stop::failed(format!("Unable to read meta.properties from {dir}")));
    }
    let properties = target::properties(env, path.to_str())?;
    let id = target::find(&properties, "directory.id");
    let id = id.ok_or_else(|| Stop::failed(format!("No directory id found in {dir}")))?;
    parse_uuid(id).map_err(|error| Stop::failed(error.to_string()))
}

/// Where the listeners of the controller are, as others are told or as it listens.
fn endpoints(properties: &[(String, String)]) -> Outcome<Vec<(String, String, u16)>> {
    let find = |key: &str| target::find(properties, key);
    let names = find("controller.listener.names").ok_or_else(|| {
        Stop::failed(
            "controller.listener.names was not found. Is this a valid controller configuration file?",
        )
    })?;
    let told = [find("advertised.listeners"), find("listeners")];
    let listeners = told.into_iter().flatten().flat_map(|list| list.split(','));
    let listeners: Vec<(String, String, u16)> = listeners.filter_map(listener).collect();
    let endpoint = |name: &str| {
        let name = name.trim().to_uppercase();
        listeners.iter().find(|(it, ..)| *it == name).cloned().ok_or_else(|| {
            Stop::failed(format!("Cannot find information about controller listener name: {name}"))
        })
    };
    names.split(',').map(endpoint).collect()
}

fn listener(text: &str) -> Option<(String, String, u16)> {
    let (name, place) = text.trim().split_once("://")?;
    let (host, port) = place.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let host = if host.is_empty() { "localhost" } else { host };
    Some((name.to_uppercase(), host.to_owned(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_is_where_it_tells_others_or_where_it_listens() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let names = ("controller.listener.names", "controller");
        let listens = ("listeners", "PLAINTEXT://:9092,CONTROLLER://:9093");
        let place = |host: &str, port| ("CONTROLLER".to_owned(), host.to_owned(), port);
        let found = endpoints(&pairs(&[names, listens])).unwrap();
        assert_eq!(found, [place("localhost", 9093)]);
        let told = ("advertised.listeners", "CONTROLLER://[::1]:7");
        assert_eq!(endpoints(&pairs(&[names, listens, told])).unwrap(), [place("::1", 7)]);
        assert!(
            endpoints(&pairs(&[listens])).unwrap_err().said.contains("controller.listener.names")
        );
        assert!(
            endpoints(&pairs(&[names])).unwrap_err().said.contains("listener name: CONTROLLER")
        );
    }
}
