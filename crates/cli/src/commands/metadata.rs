//! `ottla metadata`: the cluster's metadata as the tree that ZooKeeper had.

mod tree;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;
use ottla_client::{ConfigEntry, ConfigResource, ConfigResourceType};
use ottla_protocol::ApiKey;
use serde_json::json;

use self::tree::{Parts, Tree};
use super::output::Format;
use super::session::{self, Session, explained, nearest};
use crate::failure::Failure;

pub(crate) type Options = session::Options<Task>;

#[derive(Subcommand)]
pub(crate) enum Task {
    /// List what is below a path.
    Ls {
        /// The path.
        #[arg(default_value = "/")]
        path: String,
        /// All that is below it, not only the next level.
        #[arg(long, short)]
        recursive: bool,
    },
    /// Print what is at a path.
    Get {
        /// The path.
        path: String,
    },
    /// Print what changes at a path and below, until it is interrupted.
    Watch {
        /// The path.
        #[arg(default_value = "/")]
        path: String,
        /// Milliseconds between two looks.
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..))]
        interval: u64,
        /// Stop after so many changes.
        #[arg(long, value_name = "COUNT")]
        changes: Option<u64>,
    },
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| match &options.task {
        Task::Ls { path, recursive } => {
            let tree = read(&session).await?;
            let path = existing(&tree, path)?;
            let names = if *recursive { tree.below(&path) } else { tree.children(&path) };
            names.iter().try_for_each(|name| {
                options.format.object(&json!({ "path": path, "name": name }), name)
            })
        }
        Task::Get { path } => {
            let tree = read(&session).await?;
            let path = existing(&tree, path)?;
            let value = tree.get(&path);
            let object = json!({ "path": path, "value": value });
            let text = value.map(|value| format!("{value:#}")).unwrap_or_default();
            options.format.object(&object, &text)
        }
        Task::Watch { path, interval, changes } => {
            let interval = Duration::from_millis(*interval);
            watch(&session, options.format, path, interval, *changes).await
        }
    })
}

fn existing(tree: &Tree, path: &str) -> Result<String> {
    let path = tree::normalized(path);
    if tree.exists(&path) {
        return Ok(path);
    }
    let all = tree.below("/");
    let nearest = nearest(&path, all.iter().map(String::as_str));
    let parent = path.rsplit_once('/').map_or("/", |(parent, _)| parent);
    Err(Failure {
        what: format!("there is nothing at {path}"),
        why: nearest.map_or_else(
            || "the cluster's metadata have no such node".to_owned(),
            |nearest| format!("did you mean {nearest}?"),
        ),
        next: format!("ottla metadata ls {}", if parent.is_empty() { "/" } else { parent }),
    }
    .into())
}

async fn watch(
    session: &Session,
    format: Format,
    path: &str,
    interval: Duration,
    limit: Option<u64>,
) -> Result<()> {
    let path = tree::normalized(path);
    let mut before = read(session).await?;
    let mut seen = 0;
    loop {
        session.env.clock.sleep(interval).await;
        let now = read(session).await?;
        for change in before.changes_to(&now, &path) {
            let value = change.value.map(ToString::to_string).unwrap_or_default();
            let text = format!("{:8} {}  {value}", change.kind, change.path);
            let object =
                json!({ "path": change.path, "change": change.kind, "value": change.value });
            format.object(&object, text.trim_end())?;
            seen += 1;
            if limit.is_some_and(|limit| seen >= limit) {
                return Ok(());
            }
        }
        before = now;
    }
}

/// Asks for all that the tree is made of.
async fn read(session: &Session) -> Result<Tree> {
    let admin = &session.admin;
    let cluster = admin.describe_cluster(true).await.map_err(explained)?;
    let topics = admin.describe_all_topics().await.map_err(explained)?;
    let mut resources: Vec<ConfigResource> =
        topics.keys().map(|name| ConfigResource::new(ConfigResourceType::Topic, name)).collect();
    resources.push(ConfigResource::new(ConfigResourceType::Broker, ""));
    let configs = admin.describe_configs(&resources, None, false).await.map_err(explained)?;
    let mut configs: BTreeMap<ConfigResource, Vec<ConfigEntry>> =
        configs.into_iter().filter_map(|(it, answer)| Some((it, answer.ok()?))).collect();
    // Only a broker itself tells its configuration.
    let alive = cluster.brokers.iter().filter(|node| !node.is_fenced).map(|node| node.id);
    let own = session.ask_each(alive, async |id| {
        let resource = ConfigResource::new(ConfigResourceType::Broker, id.to_string());
        admin.describe_configs(&[resource], None, false).await
    });
    let mut unknown = BTreeMap::new();
    for (id, answer) in own.await {
        match answer {
            Ok(own) => {
                configs.extend(own.into_iter().filter_map(|(it, answer)| Some((it, answer.ok()?))));
            }
            Err(why) => _ = unknown.insert(id, why),
        }
    }
    // What this broker does not serve is not under way either.
    let reassignments = match admin.check_served(ApiKey::ListPartitionReassignments).await {
        Ok(()) => admin.list_reassignments(None).await.map_err(explained)?,
        Err(_) => Default::default(),
    };
    let epoch = match admin.check_served(ApiKey::DescribeQuorum).await {
        Ok(()) => Some(admin.describe_quorum().await.map_err(explained)?.leader_epoch.0),
        Err(_) => None,
    };
    Ok(Tree::of(&Parts { cluster, topics, configs, unknown, reassignments, epoch }))
}
