//! `ottla topic delete-records`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{ArgGroup, Args};
use ottla_client::{ListedOffset, OffsetQuery};
use ottla_protocol::{Offset, TopicPartition};
use serde_json::{Value, json};

use super::super::confirm::Confirmation;
use super::super::output::Format;
use super::super::session::{Session, explain, explained};
use super::super::time::parse_time;
use super::super::{row, text};
use super::offsets;
use crate::failure::Failure;

#[derive(Args)]
#[command(group(ArgGroup::new("end").required(true)))]
pub(crate) struct Options {
    /// TOPIC, or TOPIC:PARTITION,PARTITION.
    #[arg(required = true, value_name = "TOPIC[:PARTITIONS]")]
    topics: Vec<String>,
    /// All before this offset.
    #[arg(long, group = "end", value_name = "OFFSET",
        value_parser = clap::value_parser!(i64).range(0..))]
    before_offset: Option<i64>,
    /// All before the first record of this time or later: 2026-11-20T19:20:00Z, milliseconds
    /// since 1970, or a span before now as 1h.
    #[arg(long, group = "end", value_name = "TIME")]
    before_time: Option<String>,
    /// All that are there now.
    #[arg(long, group = "end")]
    all: bool,
    #[command(flatten)]
    confirmation: Confirmation,
}

/// Where a log begins and ends, and before which offset its records are to go.
struct Cut {
    start: i64,
    end: i64,
    before: i64,
}

impl Cut {
    /// `before` lies in the log, or at its nearer end.
    fn new((start, end): (i64, i64), before: i64) -> Self {
        Self { start, end, before: before.clamp(start, end) }
    }

    fn records(&self) -> i64 {
        self.before - self.start
    }
}

pub(super) async fn run(session: &Session, format: Format, options: &Options) -> Result<()> {
    let partitions = session.chosen_partitions(&options.topics).await?;
    let mut cuts = cuts(session, options, &partitions).await?;
    if format == Format::Text {
        let rows: Vec<Value> = cuts.iter().map(|(it, cut)| preview(it, cut)).collect();
        let columns = [
            ("TOPIC", "topic"),
            ("PARTITION", "partition"),
            ("START", "start_offset"),
            ("END", "end_offset"),
            ("NEW START", "new_start_offset"),
            ("DELETED", "records"),
        ];
        format.rows(&columns, &rows)?;
    }
    cuts.retain(|_, cut| cut.records() > 0);
    let records: i64 = cuts.values().map(Cut::records).sum();
    if records == 0 {
        return format.remark("there is nothing to delete");
    }
    let count = text::count(u64::try_from(records).unwrap_or(0), "record", "records");
    let of = text::count(cuts.len() as u64, "partition", "partitions");
    options.confirmation.ask(&format!("delete {count} of {of}"))?;
    let before = cuts.iter().map(|(it, cut)| (it.clone(), Offset(cut.before))).collect();
    for (partition, answer) in session.admin.delete_records(&before).await.map_err(explained)? {
        let start =
            answer.map_err(|error| explain(&format!("{partition} is as it was"), &error))?;
        let object = row(&partition, json!({ "start_offset": start.0, "deleted": true }));
        format.object(&object, &format!("{partition} begins at {start} now"))?;
    }
    Ok(())
}

fn preview(partition: &TopicPartition, cut: &Cut) -> Value {
    let fields = json!({
        "start_offset": cut.start, "end_offset": cut.end, "new_start_offset": cut.before,
        "records": cut.records(),
    });
    row(partition, fields)
}

async fn cuts(
    session: &Session,
    options: &Options,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, Cut>> {
    let starts = offsets(session, partitions, OffsetQuery::Earliest).await?;
    let ends = offsets(session, partitions, OffsetQuery::Latest).await?;
    let found = match &options.before_time {
        Some(text) => first_since(session, text, partitions).await?,
        None => BTreeMap::new(),
    };
    let mut cuts = BTreeMap::new();
    for partition in partitions {
        let (Some(start), Some(end)) = (starts.get(partition), ends.get(partition)) else {
            return Err(Failure {
                what: format!("nothing is deleted: {partition} does not say where it begins"),
                why: "it has no leader".to_owned(),
                next: "ottla cluster health shows what is wrong".to_owned(),
            }
            .into());
        };
        // No record is as young: all go.
        let before = match options.before_offset {
            Some(offset) => offset,
            None => found.get(partition).copied().unwrap_or(*end),
        };
        cuts.insert(partition.clone(), Cut::new((*start, *end), before));
    }
    Ok(cuts)
}

/// The first offset of each partition with the time that `text` says or a later one, if there is any.
async fn first_since(
    session: &Session,
    text: &str,
    partitions: &[TopicPartition],
) -> Result<BTreeMap<TopicPartition, i64>> {
    let time = parse_time(text, session.env.clock.wall()).map_err(|why| Failure {
        what: "no time to delete before".to_owned(),
        why,
        next: "give --before-time 2026-11-20T19:20:00Z, for example".to_owned(),
    })?;
    let queries = partitions.iter().map(|it| (it.clone(), OffsetQuery::At(time))).collect();
    let mut found = BTreeMap::new();
    for (partition, answer) in
        session.admin.list_offsets(&queries, false).await.map_err(explained)?
    {
        // Whoever cannot say must not lose everything for it.
        let ListedOffset { offset, .. } =
            answer.map_err(|error| explain("nothing is deleted", &error))?;
        if offset != Offset::NONE {
            found.insert(partition, offset.0);
        }
    }
    Ok(found)
}
