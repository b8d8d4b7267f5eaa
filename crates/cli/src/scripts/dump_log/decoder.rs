//! What the records of a log mean: `--offsets-decoder` and the others.

use bytes::Bytes;
use kafka_wire_core::{DecodeLimits, Decoder as Fields};
use ottla_protocol::Offset;
use ottla_protocol::record_batch::{ControlRecordType, Record};

use super::cluster::{
    KRAFT_VERSION, KRAFT_VOTERS, LEADER_CHANGE, METADATA, SNAPSHOT_FOOTER, SNAPSHOT_HEADER,
};
use super::coordinators::{CLASSIC_GROUP, CONSUMERS_METADATA, RecordKind};
use super::schema::{Message, quoted, version_of};
use crate::scripts::options::Options;
use crate::scripts::{Outcome, Stop, java};

/// Keys and values as text, or what a decoder makes of them.
pub(super) enum Decoder {
    /// Each on its own.
    Each { key: Reading, value: Reading },
    /// Of the internal topic of a coordinator.
    Coordinator(&'static [RecordKind]),
    /// Of `__cluster_metadata`.
    Metadata,
}

/// What bytes are read as. Kafka's `Decoder`s.
#[derive(Clone, Copy)]
pub(super) enum Reading {
    Text,
    Integer,
    Long,
}

/// What a key and a value say, where there is one.
type Parsed = (Option<String>, Option<String>);

impl Decoder {
    /// The decoder that the options ask for.
    pub(super) fn of(options: &Options) -> Outcome<Self> {
        let refused = |why: &str| Err(Stop::failed(why));
        if options.has("offsets-decoder") {
            Ok(Self::Coordinator(super::coordinators::OFFSETS))
        } else if options.has("transaction-log-decoder") {
            Ok(Self::Coordinator(super::coordinators::TRANSACTIONS))
        } else if options.has("cluster-metadata-decoder") {
            Ok(Self::Metadata)
        } else if options.has("remote-log-metadata-decoder") {
            refused(
                "--remote-log-metadata-decoder is not served: there is no tiered storage (KIP-405) yet. Without it the records are shown as they are.",
            )
        } else if options.has("share-group-state-decoder") {
            refused(
                "--share-group-state-decoder is not served: there are no share groups (KIP-932) yet. Without it the records are shown as they are.",
            )
        } else {
            Ok(Self::Each {
                key: Reading::of(options, "key-decoder-class")?,
                value: Reading::of(options, "value-decoder-class")?,
            })
        }
    }

    pub(super) fn parse(&self, offset: Offset, record: &Record<'_>) -> Outcome<Parsed> {
        match self {
            Self::Each { key, value } => Ok((
                record.key.map(|bytes| key.text(bytes)).transpose()?,
                record.value.map(|bytes| value.text(bytes)).transpose()?,
            )),
            Self::Coordinator(kinds) => {
                let Some(key) = record.key else {
                    return Err(Stop::failed(format!(
                        "Failed to decode message at offset {offset} using the specified decoder (message had a missing key)"
                    )));
                };
                Ok(coordinator_record(kinds, offset, key, record.value))
            }
            Self::Metadata => {
                let json = metadata_record(record.value.unwrap_or_default());
                let said = json.unwrap_or_else(|why| format!("Error at {offset}, skipping. {why}"));
                Ok((None, Some(said)))
            }
        }
    }
}

impl Reading {
    fn of(options: &Options, option: &str) -> Outcome<Self> {
        const PACKAGE: &str = "org.apache.kafka.tools.api.";
        let class = options.value(option)?.unwrap_or("org.apache.kafka.tools.api.StringDecoder");
        match class.strip_prefix(PACKAGE) {
            Some("StringDecoder") => Ok(Self::Text),
            Some("IntegerDecoder") => Ok(Self::Integer),
            Some("LongDecoder") => Ok(Self::Long),
            Some(_) | None => Err(Stop::failed(format!(
                "Failed to load decoder class {class}: --{option} takes {PACKAGE}StringDecoder, IntegerDecoder or LongDecoder; no other class can be loaded here."
            ))),
        }
    }

    fn text(self, bytes: &[u8]) -> Outcome<String> {
        let short = |size: usize| {
            Stop::failed(format!("a number of {size} bytes was to be read from {}", bytes.len()))
        };
        match self {
            Self::Text => Ok(java::string(bytes)),
            Self::Integer => {
                let number = bytes.first_chunk().map(|it| i32::from_be_bytes(*it));
                number.map(|it| it.to_string()).ok_or_else(|| short(4))
            }
            Self::Long => {
                let number = bytes.first_chunk().map(|it| i64::from_be_bytes(*it));
                number.map(|it| it.to_string()).ok_or_else(|| short(8))
            }
        }
    }
}

fn coordinator_record(
    kinds: &[RecordKind],
    offset: Offset,
    key: &[u8],
    value: Option<&[u8]>,
) -> Parsed {
    let failed = |why: String| (Some(format!("Error at offset {offset}, skipping. {why}")), None);
    let unversioned = |what: &str| format!("Could not read version from {what}'s buffer.");
    let mut key = Bytes::copy_from_slice(key);
    let Some(number) = version_of(&mut key) else { return failed(unversioned("key")) };
    let Some(kind) = kinds.iter().find(|kind| kind.number == number) else {
        let said = format!("Unknown record type {number} at offset {offset}, skipping.");
        return (Some(said), None);
    };
    let unreadable = |what: &str, version: i16, why: String| {
        format!("Could not read record with version {version} from {what}'s buffer due to: {why}.")
    };
    let key = match kind.key.json(key, 0) {
        Ok((json, _)) => format!("{{\"type\":\"{number}\",\"data\":{json}}}"),
        Err(why) => return failed(unreadable("key", 0, why)),
    };
    let Some(value) = value else { return (Some(key), Some("<DELETE>".to_owned())) };
    let mut value = Bytes::copy_from_slice(value);
    let Some(version) = version_of(&mut value) else { return failed(unversioned("value")) };
    let message = match number {
        CLASSIC_GROUP if is_of_consumers(&value, version >= kind.value.flexible) => {
            &CONSUMERS_METADATA
        }
        _ => kind.value,
    };
    match message.json(value, version) {
        Ok((json, _)) => {
            (Some(key), Some(format!("{{\"version\":\"{version}\",\"data\":{json}}}")))
        }
        Err(why) => failed(unreadable("value", version, why)),
    }
}

/// Whether the protocol type of a classic group, which comes first, is that of consumers.
fn is_of_consumers(value: &Bytes, is_flexible: bool) -> bool {
    let Ok(mut from) = Fields::new(value.clone(), DecodeLimits::default()) else { return false };
    let read = if is_flexible { from.read_compact_string() } else { from.read_string() };
    read.is_ok_and(|protocol_type| &*protocol_type == "consumer")
}

/// A record of the metadata log: a frame version, a type and a version stand in front (KIP-631).
fn metadata_record(value: &[u8]) -> Result<String, String> {
    let bytes = Bytes::copy_from_slice(value);
    let mut from =
        Fields::new(bytes.clone(), DecodeLimits::default()).map_err(|error| error.to_string())?;
    let mut number = |what: &str| {
        from.read_unsigned_varint().map_err(|error| format!("Error while reading {what}: {error}"))
    };
    match number("frame version")? {
        1 => {}
        0 => return Err("Could not deserialize metadata record with frame version 0. Note that upgrades from the preview release of KRaft in 2.8 to newer versions are not supported.".to_owned()),
        frame => return Err(format!("Could not deserialize metadata record due to unknown frame version {frame}(only frame version 1 is supported)")),
    }
    let key = number("type")?;
    let version = number("version")?;
    let kind = METADATA.iter().find(|kind| kind.number == key);
    let kind = kind.ok_or_else(|| format!("Unknown metadata id {key}"))?;
    let body = bytes.slice(bytes.len() - from.remaining()..);
    let shown = i16::try_from(version).unwrap_or(i16::MAX);
    let (json, left) = kind.message.json(body, shown)?;
    if left > 0 {
        return Err(format!("Found {left} byte(s) of garbage after {}", kind.title));
    }
    Ok(format!("{{\"type\":{},\"version\":{version},\"data\":{json}}}", quoted(kind.title)))
}

/// What a control record says, as it stands behind the rest of its line.
pub(super) fn control_record(record: &Record<'_>) -> Outcome<String> {
    let Some([_, _, high, low]) = record.key.and_then(|key| key.first_chunk()).copied() else {
        return Err(Stop::failed(
            "Invalid value size found for control record key. Must have at least 4 bytes.",
        ));
    };
    let kind = record.key.and_then(ControlRecordType::from_key);
    let message = |title: &str, message: &Message| {
        let value = Bytes::copy_from_slice(record.value.unwrap_or_default());
        // The version is also the first field.
        let version = version_of(&mut value.clone()).ok_or("it has no version".to_owned());
        let json = version.and_then(|version| message.json(value, version));
        json.map(|(json, _)| format!(" {title} {json}")).map_err(Stop::failed)
    };
    match kind {
        Some(kind @ (ControlRecordType::Abort | ControlRecordType::Commit)) => {
            let title = if kind == ControlRecordType::Abort { "ABORT" } else { "COMMIT" };
            let epoch = record.value.and_then(|value| value.get(2..)?.first_chunk());
            let Some(epoch) = epoch.map(|epoch| i32::from_be_bytes(*epoch)) else {
                return Err(Stop::failed(
                    "Invalid value size found for end transaction marker. Must have at least 6 bytes.",
                ));
            };
            Ok(format!(" endTxnMarker: {title} coordinatorEpoch: {epoch}"))
        }
        Some(ControlRecordType::LeaderChange) => message("LeaderChange:", &LEADER_CHANGE),
        Some(ControlRecordType::SnapshotHeader) => message("SnapshotHeader", &SNAPSHOT_HEADER),
        Some(ControlRecordType::SnapshotFooter) => message("SnapshotFooter", &SNAPSHOT_FOOTER),
        Some(ControlRecordType::KraftVersion) => message("KRaftVersion", &KRAFT_VERSION),
        Some(ControlRecordType::KraftVoters) => message("KRaftVoters", &KRAFT_VOTERS),
        None => Ok(format!(" controlType: UNKNOWN({})", i16::from_be_bytes([high, low]))),
    }
}
