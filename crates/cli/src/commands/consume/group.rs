//! Reading as a member of a group.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use ottla_client::{
    AutoOffsetReset, Consumer, ConsumerOptions, OffsetAndMetadata, OffsetQuery, Records,
};
use ottla_env::process;
use ottla_protocol::{Monotonic, Offset, TopicPartition};

use super::super::session::Session;
use super::super::topic::offsets;
use super::{Options, PATIENCE, unreadable};

/// How often what was printed is committed: `auto.commit.interval.ms`.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);
/// How long leaving the group may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Prints records until the end that `options` say, or a signal; commits what was printed, and
/// nothing else.
pub(super) async fn consume(session: &Session, options: &Options, group: &str) -> Result<()> {
    let partitions = session.partitions(&options.topic).await?;
    let ends = offsets(session, &partitions, OffsetQuery::Latest).await?;
    let start = match options.from_beginning {
        true => AutoOffsetReset::Earliest,
        false => AutoOffsetReset::Latest,
    };
    let settings = ConsumerOptions {
        auto_commit: false,
        auto_offset_reset: start,
        ..ConsumerOptions::in_group(group)
    };
    let mut consumer = Consumer::new(session.client.clone(), settings);
    consumer.subscribe([options.topic.as_str()]).map_err(unreadable)?;
    let member = Member {
        consumer,
        options,
        ends: if options.exit { ends } else { BTreeMap::new() },
        printed: 0,
        open: BTreeMap::new(),
        commit_at: session.env.clock.now() + COMMIT_INTERVAL,
    };
    member.run(session).await
}

struct Member<'a> {
    consumer: Consumer,
    options: &'a Options,
    /// Where the partitions ended in the beginning, if that is where to stop.
    ends: BTreeMap<TopicPartition, i64>,
    printed: u64,
    /// What is printed and not yet committed.
    open: BTreeMap<TopicPartition, OffsetAndMetadata>,
    commit_at: Monotonic,
}

impl Member<'_> {
    async fn run(mut self, session: &Session) -> Result<()> {
        let asked_to_stop = process::shutdown_signal().context("cannot listen for signals")?;
        tokio::pin!(asked_to_stop);
        let mut ended = Ok(());
        while ended.is_ok() && !self.is_done() {
            let records = tokio::select! {
                biased;
                _ = &mut asked_to_stop => break,
                records = self.consumer.poll(PATIENCE) => records.map_err(unreadable),
            };
            ended = records.and_then(|records| self.print(&records));
            if ended.is_ok() && session.env.clock.now() >= self.commit_at {
                ended = self.commit().await;
                self.commit_at = session.env.clock.now() + COMMIT_INTERVAL;
            }
        }
        let committed = self.commit().await;
        let closed = self.consumer.close(CLOSE_LIMIT).await.map_err(unreadable);
        ended.and(committed).and(closed)
    }

    fn is_done(&self) -> bool {
        if self.options.count.is_some_and(|count| self.printed >= count) {
            return true;
        }
        let assignment = self.consumer.assignment();
        // Nothing is assigned before the group has formed; another member may have the rest.
        let at_end = |it: &TopicPartition| {
            let end = self.ends.get(it).copied().unwrap_or(0);
            self.consumer.position(it).is_some_and(|position| position.0 >= end)
        };
        self.options.exit && !assignment.is_empty() && assignment.iter().all(at_end)
    }

    fn print(&mut self, records: &Records) -> Result<()> {
        let mut out = Vec::new();
        for record in records.iter() {
            if self.options.count.is_some_and(|count| self.printed >= count) {
                break;
            }
            self.options.format.print(&record.to_record(), &mut out);
            self.printed += 1;
            let next = OffsetAndMetadata::new(Offset(record.offset.0 + 1));
            self.open.insert(record.partition.clone(), next);
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out)?;
        Ok(stdout.flush()?)
    }

    async fn commit(&mut self) -> Result<()> {
        if self.open.is_empty() {
            return Ok(());
        }
        let offsets = std::mem::take(&mut self.open);
        self.consumer.commit_offsets(offsets).await.map_err(unreadable)
    }
}
