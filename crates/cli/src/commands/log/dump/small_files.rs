//! Everything but batches: indexes, snapshots, checkpoints.

use std::path::Path;

use anyhow::Result;
use ottla_protocol::{Offset, format_uuid};
use ottla_server::read_quorum_state;
use ottla_storage::inspect::{
    Entries, EntryAt, IndexEntry, OffsetEntry, TimeEntry, TransactionEntry, leader_epoch_lines,
    meta_properties, offset_lines, snapshot_entries, topic_id,
};
use serde_json::{Value, json};

use super::super::text;
use super::Dump;

impl Dump<'_> {
    pub(super) fn offset_index(&mut self, path: &Path, base: Offset) -> Result<()> {
        self.entries(path, base, "offset-index-entry", |entry: OffsetEntry| {
            let OffsetEntry { offset, position } = entry;
            let line = format!("offset {offset}  at byte {position}");
            (line, json!({ "offset": offset.0, "logPosition": position }))
        })
    }

    pub(super) fn time_index(&mut self, path: &Path, base: Offset) -> Result<()> {
        self.entries(path, base, "time-index-entry", |entry: TimeEntry| {
            let TimeEntry { timestamp, offset } = entry;
            let line = format!("{}  offset {offset}", text::time(timestamp));
            (line, json!({ "timestamp": timestamp.0, "offset": offset.0 }))
        })
    }

    pub(super) fn transaction_index(&mut self, path: &Path, base: Offset) -> Result<()> {
        self.entries(path, base, "aborted-transaction", |entry: TransactionEntry| {
            let TransactionEntry { version, aborted } = entry;
            let (first, last) = (aborted.first_offset, aborted.last_offset);
            let (producer, stable) = (aborted.producer_id, aborted.last_stable_offset);
            let line = format!(
                "producer {producer} aborted offsets {first}..={last}  last stable offset {stable}"
            );
            let object = json!({
                "version": version, "producerId": producer.0, "firstOffset": first.0,
                "lastOffset": last.0, "lastStableOffset": stable.0,
            });
            (line, object)
        })
    }

    fn entries<E: IndexEntry>(
        &mut self,
        path: &Path,
        base: Offset,
        kind: &str,
        print: impl Fn(E) -> (String, Value),
    ) -> Result<()> {
        let mut entries = Entries::<E>::open(self.disk, path, base)?;
        let (rest, len) = (entries.rest(), entries.file_length());
        while let Some(EntryAt { position, entry }) = entries.next()? {
            let (line, mut object) = print(entry);
            self.output.text(|| format!("  byte {position}  {line}"))?;
            self.output.json(|| {
                about(&mut object, path, kind, Some(position));
                object
            })?;
            if entries.only_zeroes_left()? {
                let reserved = len - position - E::SIZE as u64;
                self.output.text(|| format!("  {reserved} bytes reserved for more"))?;
                return Ok(());
            }
        }
        match rest {
            0 => Ok(()),
            _ => self.damaged(path, Some(len - rest), "the file ends within an entry"),
        }
    }

    pub(super) fn producer_snapshot(&mut self, path: &Path) -> Result<()> {
        let bytes = self.disk.read(path)?;
        let entries = match snapshot_entries(&bytes) {
            Ok(entries) => entries,
            Err(error) => return self.damaged(path, None, &error.to_string()),
        };
        for entry in entries {
            self.output.text(|| {
                let open = entry
                    .current_txn_first_offset
                    .map_or(String::new(), |first| format!("  transaction open since {first}"));
                format!(
                    "  producer {} epoch {}  last sequence {}  offset {}  {}  coordinator epoch {}{open}",
                    entry.producer_id, entry.epoch, entry.last_sequence, entry.last_offset,
                    text::time(entry.last_timestamp), entry.coordinator_epoch,
                )
            })?;
            self.output.json(|| {
                let mut object = json!({
                    "producerId": entry.producer_id.0, "producerEpoch": entry.epoch.0,
                    "lastSequence": entry.last_sequence, "lastOffset": entry.last_offset.0,
                    "offsetDelta": entry.offset_delta, "lastTimestamp": entry.last_timestamp.0,
                    "coordinatorEpoch": entry.coordinator_epoch,
                    "currentTxnFirstOffset": entry.current_txn_first_offset.map(|first| first.0),
                });
                about(&mut object, path, "producer", None);
                object
            })?;
        }
        Ok(())
    }

    pub(super) fn leader_epochs(&mut self, path: &Path) -> Result<()> {
        let (lines, error) = leader_epoch_lines(&self.disk.read(path)?);
        for line in lines {
            self.output
                .text(|| format!("  epoch {} from offset {}", line.epoch, line.start_offset))?;
            self.output.json(|| {
                let mut object =
                    json!({ "epoch": line.epoch.0, "startOffset": line.start_offset.0 });
                about(&mut object, path, "leader-epoch", None);
                object
            })?;
        }
        error.map_or(Ok(()), |error| self.damaged(path, None, &error.to_string()))
    }

    pub(super) fn offset_checkpoint(&mut self, path: &Path) -> Result<()> {
        let (lines, error) = offset_lines(&self.disk.read(path)?);
        for line in lines {
            self.output.text(|| format!("  {}  offset {}", line.partition, line.offset))?;
            self.output.json(|| {
                let mut object = json!({
                    "topic": &*line.partition.topic, "partition": line.partition.partition,
                    "offset": line.offset.0,
                });
                about(&mut object, path, "checkpoint", None);
                object
            })?;
        }
        error.map_or(Ok(()), |error| self.damaged(path, None, &error.to_string()))
    }

    pub(super) fn partition_metadata(&mut self, path: &Path) -> Result<()> {
        match topic_id(&self.disk.read(path)?) {
            Err(error) => self.damaged(path, None, &error.to_string()),
            Ok(id) => {
                let id = format_uuid(id);
                self.output.text(|| format!("  topic id {id}"))?;
                self.output.json(|| {
                    let mut object = json!({ "topicId": id });
                    about(&mut object, path, "partition-metadata", None);
                    object
                })
            }
        }
    }

    pub(super) fn meta_properties(&mut self, path: &Path) -> Result<()> {
        match meta_properties(&self.disk.read(path)?) {
            Err(error) => self.damaged(path, None, &error.to_string()),
            Ok(read) => {
                let id = format_uuid(read.directory_id);
                let (cluster, node) = (read.cluster_id, read.node_id);
                self.output.text(|| format!("  cluster {cluster}  node {node}  directory {id}"))?;
                self.output.json(|| {
                    let mut object =
                        json!({ "clusterId": cluster, "nodeId": node, "directoryId": id });
                    about(&mut object, path, "meta-properties", None);
                    object
                })
            }
        }
    }

    pub(super) fn plain_text(&mut self, path: &Path) -> Result<()> {
        let bytes = self.disk.read(path)?;
        let contents = String::from_utf8_lossy(&bytes);
        self.output.text(|| format!("  {contents}"))?;
        self.output.json(|| {
            let mut object = json!({ "text": contents });
            about(&mut object, path, "text", None);
            object
        })
    }

    pub(super) fn quorum_state(&mut self, path: &Path) -> Result<()> {
        let Some(read) = read_quorum_state(&self.disk.read(path)?) else {
            return self.damaged(path, None, "no slot has a right checksum");
        };
        let cluster = format_uuid(read.cluster_id);
        let directory = format_uuid(read.directory_id);
        self.output.text(|| {
            let vote = read.vote.map_or("no vote".to_owned(), |(term, node, leads)| {
                let leads = if leads { ", which leads" } else { "" };
                format!("vote in term {term} for node {node}{leads}")
            });
            let purged = read.purged.map_or(String::new(), |(index, term)| {
                format!("  purged up to entry {index} of term {term}")
            });
            format!(
                "  cluster {cluster}  node {}  directory {directory}  {vote}{purged}  log from offset {} on, flushed to {}",
                read.node_id, read.log_start_offset, read.flushed_end_offset,
            )
        })?;
        self.output.json(|| {
            let mut object = json!({
                "clusterId": cluster, "nodeId": read.node_id, "directoryId": directory,
                "voteTerm": read.vote.map(|vote| vote.0),
                "votedFor": read.vote.map(|vote| vote.1),
                "voteCommitted": read.vote.map(|vote| vote.2),
                "purgedIndex": read.purged.map(|purged| purged.0),
                "purgedTerm": read.purged.map(|purged| purged.1),
                "logStartOffset": read.log_start_offset,
                "flushedEndOffset": read.flushed_end_offset,
            });
            about(&mut object, path, "quorum-state", None);
            object
        })
    }
}

/// Adds where an object comes from.
pub(super) fn about(object: &mut Value, path: &Path, kind: &str, position: Option<u64>) {
    object["file"] = json!(path.display().to_string());
    object["kind"] = json!(kind);
    if let Some(position) = position {
        object["position"] = json!(position);
    }
}
