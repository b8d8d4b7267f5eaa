//! `ottla partition move-log`: replicas go from one directory of a broker to another (KIP-113).

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ottla_protocol::{BrokerId, ErrorCode, TopicPartition};
use serde_json::json;

use super::super::output::Format;
use super::super::row;
use super::super::session::{Session, explain, explained, nearest, refusal};
use crate::failure::Failure;

/// Between two looks at how far moves are.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Args)]
pub(crate) struct Options {
    /// TOPIC, or TOPIC:PARTITION,PARTITION.
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<String>,
    /// The directory, one of the log.dirs of the broker.
    #[arg(long, value_name = "DIR")]
    to: String,
    /// The broker [default: the only one].
    #[arg(long, value_name = "ID")]
    broker: Option<i32>,
    /// Begin, and do not wait for the end.
    #[arg(long)]
    no_wait: bool,
}

/// A directory and bytes in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    dir: String,
    bytes: i64,
}

/// Where the logs of a partition are on a broker: the one in use, and the one that is to take its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    current: Option<Place>,
    future: Option<Place>,
}

/// What the directories of a broker hold.
struct Disks {
    usable: Vec<String>,
    places: BTreeMap<TopicPartition, Places>,
}

impl Disks {
    async fn of(session: &Session, broker: BrokerId) -> Result<Self> {
        let described = session.admin.describe_log_dirs(broker, None).await.map_err(explained)?;
        let mut disks = Self { usable: Vec::new(), places: BTreeMap::new() };
        for (dir, answer) in described {
            let Ok(described) = answer else { continue };
            disks.usable.push(dir.clone());
            for (partition, replica) in described.replicas {
                let places = disks.places.entry(partition).or_default();
                let place = Some(Place { dir: dir.clone(), bytes: replica.size });
                match replica.is_future {
                    true => places.future = place,
                    false => places.current = place,
                }
            }
        }
        Ok(disks)
    }

    fn of_partition(&self, partition: &TopicPartition) -> Places {
        self.places.get(partition).cloned().unwrap_or_default()
    }
}

pub(super) async fn run(session: &Session, format: Format, options: &Options) -> Result<()> {
    let partitions = session.chosen_partitions(&options.topics).await?;
    let broker = broker(session, options.broker).await?;
    let before = Disks::of(session, broker).await?;
    check(&before, &partitions, broker, &options.to)?;
    let moves = partitions.iter().map(|it| (it.clone(), options.to.clone())).collect();
    let answers = session.admin.alter_replica_log_dirs(broker, &moves).await;
    for (partition, answer) in answers.map_err(explained)? {
        match answer {
            // Another broker's log: that was looked at before, so it went meanwhile.
            Err(error) if refusal(&error) == Some(ErrorCode::ReplicaNotAvailable) => {
                return Err(not_there(&partition, broker));
            }
            answer => answer
                .map_err(|error| explain(&format!("{partition} stays where it is"), &error))?,
        }
    }
    if !options.no_wait {
        wait(session, (broker, &options.to), &partitions).await?;
    }
    for partition in &partitions {
        let Some(from) = before.of_partition(partition).current else { continue };
        let moved = !options.no_wait || from.dir == options.to;
        let said = match (from.dir == options.to, options.no_wait) {
            (true, _) => format!("{partition} is in {} already", options.to),
            (false, true) => format!("{partition} is on its way to {}", options.to),
            (false, false) => format!("{partition} is in {} now", options.to),
        };
        let fields = json!({
            "broker": broker.0, "from": from.dir, "to": options.to, "bytes": from.bytes,
            "moved": moved,
        });
        format.object(&row(partition, fields), &said)?;
    }
    match options.no_wait {
        true => format.remark("ottla cluster log-dirs shows how far they are"),
        false => Ok(()),
    }
}

/// The broker that is named, or the only one there is.
async fn broker(session: &Session, named: Option<i32>) -> Result<BrokerId> {
    let cluster = session.admin.describe_cluster(false).await.map_err(explained)?;
    let ids: Vec<BrokerId> = cluster.brokers.iter().map(|node| node.id).collect();
    let found = match named {
        Some(named) => ids.iter().find(|id| id.0 == named),
        None if ids.len() == 1 => ids.first(),
        None => None,
    };
    found.copied().ok_or_else(|| {
        let list: Vec<String> = ids.iter().map(ToString::to_string).collect();
        Failure {
            what: match named {
                Some(named) => format!("there is no broker {named} alive"),
                None => "no broker is named, and there are several".to_owned(),
            },
            why: format!("alive are {}", list.join(", ")),
            next: "give --broker ID; ottla cluster log-dirs shows what is where".to_owned(),
        }
        .into()
    })
}

/// What the broker has to have before it is asked.
fn check(disks: &Disks, partitions: &[TopicPartition], broker: BrokerId, to: &str) -> Result<()> {
    if !disks.usable.iter().any(|dir| dir == to) {
        let meant = nearest(to, disks.usable.iter().map(String::as_str));
        return Err(Failure {
            what: format!("broker {broker} has no log directory {to} that it can use"),
            why: match meant {
                Some(meant) => format!("did you mean {meant}?"),
                None => format!("it has {}", disks.usable.join(", ")),
            },
            next: "give one of its log.dirs, as ottla cluster log-dirs shows them".to_owned(),
        }
        .into());
    }
    let missing = partitions.iter().find(|it| disks.of_partition(it).current.is_none());
    missing.map_or(Ok(()), |partition| Err(not_there(partition, broker)))
}

fn not_there(partition: &TopicPartition, broker: BrokerId) -> anyhow::Error {
    Failure {
        what: format!("{partition} stays where it is"),
        why: format!("broker {broker} has no replica of it that it can use"),
        next: "ottla topic describe shows the brokers that have one; give --broker ID".to_owned(),
    }
    .into()
}

/// Waits until all of them are there, with a bar over their bytes if somebody watches.
async fn wait(
    session: &Session,
    (broker, to): (BrokerId, &str),
    partitions: &[TopicPartition],
) -> Result<()> {
    let bar = std::io::stderr().is_terminal().then(|| {
        let bar = ProgressBar::new(0);
        let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        // Without the style the bar looks plain, and that is all.
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar
    });
    let ended = loop {
        let disks = Disks::of(session, broker).await?;
        let places: Vec<Places> = partitions.iter().map(|it| disks.of_partition(it)).collect();
        let progress = Progress::of(&places, to);
        if let Some(bar) = &bar {
            bar.set_length(progress.total);
            bar.set_position(progress.copied);
        }
        if progress.moving == 0 {
            let stayed = partitions.iter().zip(&places).find(|(_, it)| !it.is_at(to));
            break stayed.map(|(partition, _)| partition);
        }
        session.env.clock.sleep(LOOK).await;
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    ended.map_or(Ok(()), |partition| {
        Err(Failure {
            what: format!("{partition} did not get to {to}"),
            why: "the broker gave the move up, or was told to move it elsewhere".to_owned(),
            next: "see the log of the broker, and ottla cluster health for its disks".to_owned(),
        }
        .into())
    })
}

impl Places {
    fn is_at(&self, dir: &str) -> bool {
        self.current.as_ref().is_some_and(|current| current.dir == dir)
    }
}

/// How far moves are, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Progress {
    moving: usize,
    copied: u64,
    total: u64,
}

impl Progress {
    fn of(places: &[Places], to: &str) -> Self {
        let mut progress = Self::default();
        for it in places {
            let all = it.current.as_ref().map_or(0, |current| current.bytes);
            let copied = match &it.future {
                _ if it.is_at(to) => all,
                Some(future) if future.dir == to => {
                    progress.moving += 1;
                    future.bytes.min(all)
                }
                Some(_) | None => 0,
            };
            progress.copied += u64::try_from(copied).unwrap_or(0);
            progress.total += u64::try_from(all).unwrap_or(0);
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &str, bytes: i64) -> Option<Place> {
        Some(Place { dir: dir.to_owned(), bytes })
    }

    #[test]
    fn what_is_copied_counts_and_what_is_there_is_done() {
        let places = [
            Places { current: place("/old", 100), future: place("/new", 30) },
            Places { current: place("/new", 50), future: None },
            Places { current: place("/old", 7), future: place("/elsewhere", 7) },
        ];
        let wanted = Progress { moving: 1, copied: 80, total: 157 };
        assert_eq!(Progress::of(&places, "/new"), wanted);
    }
}
