//! `ottla consume`.

mod bounds;
mod group;
mod template;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use clap::{ArgGroup, Args};
use ottla_client::{Consumer, ConsumerError, ConsumerOptions, ConsumerRecord, OffsetQuery};
use ottla_protocol::{Offset, Timestamp, TopicPartition};

use self::bounds::{Start, Stop, first_offset};
use self::template::{LANGUAGE, Template};
use super::session::{self, Session, Target, explain};
use super::time::parse_time;
use super::topic::offsets;
use crate::failure::Failure;

#[derive(Args)]
#[command(group(ArgGroup::new("start")), after_help = format!("A format is made of {LANGUAGE}."))]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    /// The topic.
    topic: String,
    /// Read as a member of this group: go on where it has committed, share the partitions with its
    /// other members, and commit what was printed. Where it has committed nothing it begins at the
    /// end, or with --from-beginning at the beginning.
    #[arg(long, short, value_name = "NAME", conflicts_with_all =
        ["partitions", "from_offset", "from_time", "last", "to_offset", "to_time"])]
    group: Option<String>,
    /// Only these partitions.
    #[arg(long, short, value_name = "PARTITIONS", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// From the first record that is still there. Without any of the --from options: from now on.
    #[arg(long, group = "start")]
    from_beginning: bool,
    /// From this offset of each partition.
    #[arg(long, group = "start", value_name = "OFFSET",
        value_parser = clap::value_parser!(i64).range(0..))]
    from_offset: Option<i64>,
    /// From the first record of this time or later: 2026-11-20T19:20:00Z, milliseconds since 1970,
    /// or a span before now (1h).
    #[arg(long, group = "start", value_name = "TIME")]
    from_time: Option<String>,
    /// The last so many records of each partition.
    #[arg(long, group = "start", value_name = "COUNT",
        value_parser = clap::value_parser!(i64).range(1..))]
    last: Option<i64>,
    /// Stop after so many records.
    #[arg(long, short = 'n', value_name = "COUNT",
        value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Stop before this offset of each partition.
    #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    to_offset: Option<i64>,
    /// Stop before the first record of this time or later.
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// Stop at the end, and do not wait for more.
    #[arg(long, short)]
    exit: bool,
    /// How records are printed: json, raw (values, one per line), or a format as '%t %p %o %k %v'.
    #[arg(long, short, default_value = "raw", value_parser = Template::parse)]
    format: Template,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    session::with(&options.target, async |session| consume(&session, options).await)
}

async fn consume(session: &Session, options: &Options) -> Result<()> {
    if let Some(group) = &options.group {
        return group::consume(session, options, group).await;
    }
    let (start, stop) = range(options, session.env.clock.wall())?;
    let partitions = chosen(session, options).await?;
    let mut reading = Reading::begin(session, &partitions, start, stop).await?;
    let mut printed = 0;
    let mut out = Vec::new();
    let mut stdout = io::stdout().lock();
    while !reading.is_done() {
        for record in reading.next().await? {
            options.format.print(&record, &mut out);
            printed += 1;
            if options.count.is_some_and(|count| printed >= count) {
                stdout.write_all(&out)?;
                return Ok(stdout.flush()?);
            }
        }
        stdout.write_all(&out)?;
        stdout.flush()?;
        out.clear();
    }
    Ok(())
}

fn range(options: &Options, now: Timestamp) -> Result<(Start, Stop)> {
    let time = |text: &str| {
        parse_time(text, now).map_err(|why| Failure {
            what: "that is no time".to_owned(),
            why,
            next: "give --from-time 1h, or --from-time 2026-11-20T19:20:00Z".to_owned(),
        })
    };
    let start = match (&options.from_time, options.from_offset, options.last) {
        (Some(text), _, _) => Start::Time(time(text)?),
        (_, Some(offset), _) => Start::Offset(offset),
        (_, _, Some(count)) => Start::Last(count),
        _ if options.from_beginning => Start::Beginning,
        _ => Start::End,
    };
    let until = options.to_time.as_deref().map(time).transpose()?;
    Ok((start, Stop { offset: options.to_offset, time: until, at_end: options.exit }))
}

async fn chosen(session: &Session, options: &Options) -> Result<Vec<TopicPartition>> {
    let all = session.partitions(&options.topic).await?;
    if let Some(missing) =
        options.partitions.iter().find(|it| !all.iter().any(|p| p.partition == **it))
    {
        return Err(Failure {
            what: format!("topic {} has no partition {missing}", options.topic),
            why: format!("it has {} partitions, counted from 0", all.len()),
            next: format!("ottla topic describe {}", options.topic),
        }
        .into());
    }
    let wanted = |it: &TopicPartition| {
        options.partitions.is_empty() || options.partitions.contains(&it.partition)
    };
    Ok(all.into_iter().filter(wanted).collect())
}

/// How long one poll waits for records.
const PATIENCE: Duration = Duration::from_millis(500);

/// An error of a consumer, as people read it.
fn unreadable(error: ConsumerError) -> anyhow::Error {
    if let ConsumerError::Client(error) = &error {
        return explain("the records cannot be read", error);
    }
    Failure {
        what: "the records cannot be read".to_owned(),
        why: error.to_string(),
        next: "ottla topic describe TOPIC shows where each partition begins and ends; begin \
               elsewhere with --from-offset"
            .to_owned(),
    }
    .into()
}

/// What is still read.
struct Reading {
    consumer: Consumer,
    stop: Stop,
    /// The partitions that are not at their end, with the offset that it is at, if there is one.
    open: BTreeMap<TopicPartition, Option<i64>>,
}

impl Reading {
    async fn begin(
        session: &Session,
        partitions: &[TopicPartition],
        start: Start,
        stop: Stop,
    ) -> Result<Self> {
        let begins = offsets(session, partitions, OffsetQuery::Earliest).await?;
        let ends = offsets(session, partitions, OffsetQuery::Latest).await?;
        let at_time = match start {
            Start::Time(time) => offsets(session, partitions, OffsetQuery::At(time)).await?,
            Start::Beginning | Start::End | Start::Offset(_) | Start::Last(_) => BTreeMap::new(),
        };
        let options = ConsumerOptions { auto_commit: false, ..ConsumerOptions::default() };
        let mut consumer = Consumer::new(session.client.clone(), options);
        let mut open = BTreeMap::new();
        let mut firsts = Vec::new();
        for it in partitions {
            let (Some(begin), Some(end)) = (begins.get(it), ends.get(it)) else { continue };
            let first = first_offset(start, (*begin, *end), at_time.get(it).copied());
            let last = stop.last_offset(*end);
            if last.is_none_or(|last| first < last) {
                firsts.push((it.clone(), Offset(first)));
                open.insert(it.clone(), last);
            }
        }
        consumer.assign(open.keys().cloned()).map_err(unreadable)?;
        for (partition, first) in firsts {
            consumer.seek(&partition, first).map_err(unreadable)?;
        }
        Ok(Self { consumer, stop, open })
    }

    fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// The next records that are wanted.
    async fn next(&mut self) -> Result<Vec<ConsumerRecord>> {
        let records = self.consumer.poll(PATIENCE).await.map_err(unreadable)?;
        let mut wanted = Vec::with_capacity(records.len());
        for record in records.iter() {
            let record = record.to_record();
            let Some(last) = self.open.get(&record.partition) else { continue };
            let is_behind = last.is_some_and(|last| record.offset.0 >= last);
            if is_behind || self.stop.is_too_young(record.timestamp) {
                self.close(&record.partition.clone())?;
            } else {
                wanted.push(record);
            }
        }
        // The last offsets may be those of markers, or compacted away: no record tells.
        let at_end = |(it, last): (&TopicPartition, &Option<i64>)| {
            let position = self.consumer.position(it)?;
            last.filter(|last| position.0 >= *last).map(|_| it.clone())
        };
        let at_end: Vec<TopicPartition> = self.open.iter().filter_map(at_end).collect();
        at_end.iter().try_for_each(|partition| self.close(partition))?;
        Ok(wanted)
    }

    /// Reads a partition no longer.
    fn close(&mut self, partition: &TopicPartition) -> Result<()> {
        self.open.remove(partition);
        self.consumer.assign(self.open.keys().cloned()).map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A record as it comes from a partition.
    pub(super) fn record(
        partition: TopicPartition,
        (offset, timestamp): (Offset, Timestamp),
        (key, value): (Option<&'static str>, Option<&'static str>),
        headers: Vec<(Bytes, Option<Bytes>)>,
    ) -> ConsumerRecord {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let (key, value) = (key.map(bytes), value.map(bytes));
        ConsumerRecord {
            partition,
            offset,
            leader_epoch: ottla_protocol::LeaderEpoch::NONE,
            timestamp,
            timestamp_type: ottla_protocol::record_batch::TimestampType::CreateTime,
            key,
            value,
            headers,
        }
    }
}
