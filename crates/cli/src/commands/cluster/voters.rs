//! `ottla cluster voters` (KIP-853).

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, Subcommand};
use ottla_env::Env;
use ottla_protocol::{BrokerId, TopicId, format_uuid, parse_uuid};
use serde_json::{Value, json};

use super::super::confirm::Confirmation;
use super::super::output::Format;
use super::super::session::{Session, explain, explained};
use crate::failure::Failure;

#[derive(Args)]
pub(crate) struct Voters {
    #[command(subcommand)]
    change: Option<Change>,
}

#[derive(Subcommand)]
enum Change {
    /// Let a controller vote that runs and follows already.
    Add {
        /// Which node, and where its controller listener is.
        #[arg(value_name = "ID@HOST:PORT")]
        voter: Address,
        #[command(flatten)]
        directory: Directory,
        /// The name of the listener.
        #[arg(long, value_name = "NAME", default_value = "CONTROLLER")]
        listener: String,
    },
    /// Take the vote from a controller.
    Remove {
        /// Which node.
        #[arg(value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
        voter: i32,
        /// The directory of its metadata log [default: that which it votes with].
        #[arg(long, value_name = "UUID", value_parser = directory_id)]
        directory_id: Option<TopicId>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// The directory of a new voter's metadata log: a wiped disk is another voter.
#[derive(Args)]
#[group(required = true, multiple = false)]
struct Directory {
    /// The id of the directory of its metadata log.
    #[arg(long, value_name = "UUID", value_parser = directory_id)]
    directory_id: Option<TopicId>,
    /// That directory, if it can be read from here.
    #[arg(long, value_name = "DIR")]
    metadata_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq)]
struct Address {
    id: i32,
    host: String,
    port: u16,
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not ID@HOST:PORT, for example 4@host4:9093");
        let (id, place) = text.split_once('@').ok_or_else(wrong)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let id = id.parse().ok().filter(|id| *id >= 0).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { id, host, port: port.parse().map_err(|_| wrong())? })
    }
}

fn directory_id(text: &str) -> Result<TopicId, String> {
    parse_uuid(text)
        .map_err(|_| format!("{text:?} is no id of a directory, as meta.properties has it"))
}

pub(super) async fn run(session: &Session, format: Format, voters: &Voters) -> Result<()> {
    match &voters.change {
        None => list(session, format).await,
        Some(Change::Add { voter, directory, listener }) => {
            let id = match (&directory.directory_id, &directory.metadata_dir) {
                (Some(id), _) => *id,
                (None, Some(dir)) => read_directory_id(&session.env, dir)?,
                (None, None) => TopicId::default(),
            };
            let Address { id: node, host, port } = voter;
            let place = [(listener.clone(), host.clone(), *port)];
            let added = session.admin.add_raft_voter(BrokerId(*node), id, &place).await;
            added.map_err(|error| explain(&format!("node {node} does not vote"), &error))?;
            let object = json!({ "voter": node, "directory_id": format_uuid(id), "votes": true });
            format.object(&object, &format!("node {node} votes in the metadata quorum"))
        }
        Some(Change::Remove { voter, directory_id, confirmation }) => {
            let id = match directory_id {
                Some(id) => *id,
                None => known_directory(session, BrokerId(*voter)).await?,
            };
            confirmation.ask(&format!("take the vote in the metadata quorum from node {voter}"))?;
            let removed = session.admin.remove_raft_voter(BrokerId(*voter), id).await;
            removed.map_err(|error| explain(&format!("node {voter} goes on voting"), &error))?;
            let object = json!({ "voter": voter, "directory_id": format_uuid(id), "votes": false });
            format.object(&object, &format!("node {voter} votes no more; it may be stopped"))
        }
    }
}

async fn list(session: &Session, format: Format) -> Result<()> {
    let quorum = session.admin.describe_quorum().await.map_err(explained)?;
    let rows: Vec<Value> = quorum
        .voters
        .iter()
        .map(|voter| {
            let places = quorum.nodes.get(&voter.id).into_iter().flatten();
            let places: Vec<String> =
                places.map(|(name, host, port)| format!("{name}://{host}:{port}")).collect();
            json!({
                "voter": voter.id.0, "directory_id": format_uuid(voter.directory_id),
                "endpoints": places, "leader": voter.id == quorum.leader,
                "lag": quorum.high_watermark.0.saturating_sub(voter.log_end_offset.0).max(0),
            })
        })
        .collect();
    let columns = [
        ("VOTER", "voter"),
        ("LEADER", "leader"),
        ("LAG", "lag"),
        ("DIRECTORY", "directory_id"),
        ("ENDPOINTS", "endpoints"),
    ];
    format.rows(&columns, &rows)
}

/// With which directory a voter votes.
async fn known_directory(session: &Session, id: BrokerId) -> Result<TopicId> {
    let quorum = session.admin.describe_quorum().await.map_err(explained)?;
    if let Some(voter) = quorum.voters.iter().find(|voter| voter.id == id) {
        return Ok(voter.directory_id);
    }
    let ids: Vec<String> = quorum.voters.iter().map(|voter| voter.id.to_string()).collect();
    Err(Failure {
        what: format!("node {id} does not vote"),
        why: format!("the voters are {}", ids.join(", ")),
        next: "ottla cluster voters lists them".to_owned(),
    }
    .into())
}

fn read_directory_id(env: &Env, dir: &Path) -> Result<TopicId> {
    let path = dir.join("meta.properties");
    let unreadable = |why: String| Failure {
        what: format!("the directory's id cannot be read from {}", path.display()),
        why,
        next: "name the directory of metadata.log.dir, or give --directory-id UUID".to_owned(),
    };
    let bytes = env.disk.read(&path).map_err(|error| unreadable(error.to_string()))?;
    let text = String::from_utf8_lossy(&bytes);
    let pairs = ottla_config::read_properties(&text).map_err(|it| unreadable(it.to_string()))?;
    let id = pairs.into_iter().find(|(key, _)| key == "directory.id").map(|(_, value)| value);
    let id = id.ok_or_else(|| unreadable("it has no directory.id".to_owned()))?;
    Ok(directory_id(&id).map_err(unreadable)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_is_named_with_its_place() {
        let voter = Address { id: 4, host: "host".to_owned(), port: 9093 };
        assert_eq!("4@host:9093".parse(), Ok(voter));
        assert_eq!("4@[::1]:9093".parse::<Address>().unwrap().host, "::1");
        for wrong in ["4", "x@host:1", "4@host", "-1@host:1", "4@host:99999"] {
            assert!(wrong.parse::<Address>().unwrap_err().contains("ID@HOST:PORT"), "{wrong}");
        }
    }
}
