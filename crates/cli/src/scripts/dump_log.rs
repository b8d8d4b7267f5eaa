//! `kafka-dump-log`.

mod cluster;
mod coordinators;
mod decoder;
mod indexes;
mod log_file;
mod schema;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_env::Disk;

use self::decoder::Decoder;
use self::indexes::{Look, Mismatches, base_offset};
use self::log_file::{Gaps, LogDump};
use super::options::{Grammar, Options, flag, perhaps, value};
use super::{Outcome, Stop, say, target, warn};

static GRAMMAR: Grammar = Grammar {
    about: "This tool helps to parse a log file and dump its contents to the console, useful for debugging a seemingly corrupt log segment.",
    known: &[
        flag(&["print-data-log"], "Print keys and values, too; implied by every decoder."),
        flag(&["verify-index-only"], "Hold indexes against their logs, and print no entries."),
        flag(
            &["index-sanity-check"],
            "Only look at indexes as a node does at its start, to see whether they have to be made anew.",
        ),
        value(&["files"], "file1, file2, ...", "REQUIRED: the files, with commas between them."),
        value(
            &["max-message-size"],
            "size",
            "The longest batch that an index may point to; 5242880 by default.",
        ),
        value(&["max-bytes"], "size", "Read no more of a log; 2147483647 by default."),
        flag(&["deep-iteration"], "Print the records of batches; implied by --print-data-log."),
        perhaps(
            &["value-decoder-class"],
            "class",
            "How values are read: StringDecoder, the default, IntegerDecoder or LongDecoder of org.apache.kafka.tools.api.",
        ),
        perhaps(&["key-decoder-class"], "class", "How keys are read; as for values."),
        flag(&["offsets-decoder"], "The log is one of __consumer_offsets."),
        flag(&["transaction-log-decoder"], "The log is one of __transaction_state."),
        flag(&["cluster-metadata-decoder"], "The log is that of __cluster_metadata."),
        flag(&["remote-log-metadata-decoder"], "Not here: there is no tiered storage."),
        flag(&["share-group-state-decoder"], "Not here: there are no share groups."),
        flag(
            &["skip-record-metadata"],
            "Print keys and values of records, and nothing else of them.",
        ),
    ],
};

/// Options that have records printed.
const PRINTING: [&str; 8] = [
    "print-data-log",
    "offsets-decoder",
    "transaction-log-decoder",
    "cluster-metadata-decoder",
    "remote-log-metadata-decoder",
    "value-decoder-class",
    "key-decoder-class",
    "share-group-state-decoder",
];
const MAX_MESSAGE_SIZE: i32 = 5 << 20;

pub(super) fn run(arguments: &[String]) -> Outcome {
    let options = GRAMMAR.parse(arguments)?;
    options.help_or_version()?;
    options.require(&["files"])?;
    target::block_on(async |env| {
        let mut found = Found::default();
        for file in options.value("files")?.unwrap_or_default().split(',') {
            found.dump(&*env.disk, &options, Path::new(file))?;
        }
        found.mismatches.say();
        for (file, gaps) in &found.gaps {
            warn(format!("Non-consecutive offsets in {}", file.display()));
            for (offset, next) in gaps {
                warn(format!("  {offset} is followed by {next}"));
            }
        }
        Ok(())
    })
}

/// What is said of all files at the end.
#[derive(Default)]
struct Found {
    mismatches: Mismatches,
    gaps: BTreeMap<PathBuf, Gaps>,
}

impl Found {
    fn dump(&mut self, disk: &dyn Disk, options: &Options, path: &Path) -> Outcome {
        say(format!("Dumping {}", path.display()))?;
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let (stem, ending) = name.rsplit_once('.').unwrap_or((&name, ""));
        let look = if options.has("index-sanity-check") {
            Look::Sanity
        } else if options.has("verify-index-only") {
            Look::Verify
        } else {
            Look::Show
        };
        match ending {
            "log" => self.log(disk, options, path, || {
                Ok(format!("Log starting offset: {}", base_offset(path)?))
            }),
            "checkpoint" => self.log(disk, options, path, || snapshot_title(stem)),
            "index" => {
                let size = options.number("max-message-size")?.unwrap_or(MAX_MESSAGE_SIZE);
                indexes::offset_index(disk, path, look, size, &mut self.mismatches)
            }
            "timeindex" => indexes::time_index(disk, path, look, &mut self.mismatches),
            "txnindex" => indexes::transaction_index(disk, path),
            "snapshot" => indexes::producer_snapshot(disk, path),
            _ => {
                warn(format!("Ignoring unknown file {}", path.display()));
                Ok(())
            }
        }
    }

    fn log(
        &mut self,
        disk: &dyn Disk,
        options: &Options,
        path: &Path,
        title: impl FnOnce() -> Outcome<String>,
    ) -> Outcome {
        let contents = options.count(&PRINTING) > 0;
        let dump = LogDump {
            deep: contents || options.has("deep-iteration"),
            contents,
            skip_metadata: options.has("skip-record-metadata"),
            max_bytes: options.number("max-bytes")?.unwrap_or(i32::MAX),
        };
        let decoder = Decoder::of(options)?;
        say(title()?)?;
        let mut gaps = Gaps::new();
        dump.dump(disk, path, &decoder, &mut gaps)?;
        if !gaps.is_empty() {
            self.gaps.entry(std::path::absolute(path)?).or_default().extend(gaps);
        }
        Ok(())
    }
}

/// What the name of a snapshot says: `<end offset>-<epoch>` (KIP-630).
fn snapshot_title(stem: &str) -> Outcome<String> {
    if stem == "bootstrap" {
        return Ok("KRaft bootstrap snapshot".to_owned());
    }
    let numbers = stem.split_once('-').and_then(|(offset, epoch)| {
        Some((offset.parse::<i64>().ok()?, epoch.parse::<i32>().ok()?))
    });
    let Some((offset, epoch)) = numbers else {
        return Err(Stop::failed(format!(
            "{stem}.checkpoint is no snapshot: those are called OFFSET-EPOCH.checkpoint"
        )));
    };
    Ok(format!("Snapshot end offset: {offset}, epoch: {epoch}"))
}
