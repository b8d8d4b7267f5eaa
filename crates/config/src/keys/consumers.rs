//! What consumers are configured with, beside what every client is.

use std::time::Duration;

use crate::key::*;

const OFFSET_RESET: Valid = Valid::Rule(
    |text| {
        matches!(text, "earliest" | "latest" | "none")
            || text.strip_prefix("by_duration:").is_some_and(|age| iso_duration(age).is_some())
    },
    "earliest, latest, none, or by_duration: and a time like PT1H30M or P7D",
);
const ASSIGNORS: Valid = Valid::Rule(
    |text| {
        let known = |name: &str| {
            let name = name.strip_prefix("org.apache.kafka.clients.consumer.").unwrap_or(name);
            ASSIGNOR_NAMES.contains(&name)
        };
        list_elements(text).next().is_some() && list_elements(text).all(|name| known(&name))
    },
    "a list of range, roundrobin, sticky, cooperative-sticky, or of Kafka's classes for them; give others to the \
     consumer in code",
);
const ASSIGNOR_NAMES: [&str; 8] = [
    "range",
    "roundrobin",
    "sticky",
    "cooperative-sticky",
    "RangeAssignor",
    "RoundRobinAssignor",
    "StickyAssignor",
    "CooperativeStickyAssignor",
];
const CLASSIC: Valid = Valid::Rule(
    |text| text.eq_ignore_ascii_case("classic"),
    "classic; the protocol of KIP-848 is not there yet",
);
const NO_CLASSES: Valid = Valid::Rule(
    |text| list_elements(text).next().is_none(),
    "empty: a Java class cannot be loaded here; give interceptors to the consumer in code",
);

/// A time in ISO 8601, as `by_duration` takes it (KIP-1106): `P7D`, `PT1H30M`, `PT0.5S`.
/// Days have 24 hours; there are no months or years.
pub fn iso_duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((_, "")) => return None,
        Some((days, time)) => (days, time),
        None => (text.strip_prefix('P')?, ""),
    };
    let mut seconds = 0.0;
    let mut parts = 0;
    for (part, units) in [(days, &[('D', 86_400.0)][..]), (time, &TIME_UNITS)] {
        let mut rest = part;
        for (unit, factor) in units {
            let Some((number, after)) = rest.split_once(*unit) else { continue };
            let plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let number: f64 = number.parse().ok().filter(|_| plain)?;
            seconds += number * factor;
            parts += 1;
            rest = after;
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (parts > 0).then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

const TIME_UNITS: [(char, f64); 3] = [('H', 3600.0), ('M', 60.0), ('S', 1.0)];

#[rustfmt::skip] // A table: one row per line.
pub(super) const KEYS: &[ConfigKey] = &[
    string_or_null("group.id", Valid::Any, "The group that the consumer belongs to; needed to subscribe and to commit.").high(),
    string_or_null("group.instance.id", Valid::Any, "Makes it a static member, whose place is kept while it restarts (KIP-345)."),
    string("group.protocol", "classic", CLASSIC, "How members and coordinator agree.").high(),
    int("session.timeout.ms", "45000", Valid::AtLeast(1), "Milliseconds without a heartbeat after which a member counts as gone; within the broker's group.min.session.timeout.ms and group.max.session.timeout.ms.").high(),
    int("heartbeat.interval.ms", "3000", Valid::AtLeast(1), "Milliseconds between heartbeats; less than session.timeout.ms, of which a third does well.").high(),
    int("max.poll.interval.ms", "300000", Valid::AtLeast(1), "Milliseconds between polls after which a member leaves its group (KIP-62)."),
    list("partition.assignment.strategy", "range,cooperative-sticky", ASSIGNORS, "Who decides about the members' partitions, the preferred one first; all members need one in common. Rebalances are cooperative only if all named are (KIP-429)."),
    boolean("enable.auto.commit", "true", Valid::Any, "Whether what was handed out is committed by itself."),
    int("auto.commit.interval.ms", "5000", Valid::AtLeast(0), "Milliseconds between such commits.").low(),
    string("auto.offset.reset", "latest", OFFSET_RESET, "Where to begin where nothing is committed, or where it is gone; by_duration: so long ago (KIP-1106)."),
    string("isolation.level", "read_uncommitted", Valid::OneOf(&["read_uncommitted", "read_committed"]), "Which records of transactions are read (KIP-98)."),
    int("fetch.min.bytes", "1", Valid::AtLeast(0), "Bytes that a broker waits for before it answers.").high(),
    int("fetch.max.wait.ms", "500", Valid::AtLeast(0), "Milliseconds that it waits for them at most.").low(),
    int("fetch.max.bytes", "52428800", Valid::AtLeast(0), "Bytes of one response; a larger batch comes all the same (KIP-74)."),
    int("max.partition.fetch.bytes", "1048576", Valid::AtLeast(0), "Bytes of one partition in one response; a larger batch comes all the same.").high(),
    int("max.poll.records", "500", Valid::AtLeast(1), "Records that one poll hands out at most."),
    boolean("check.crcs", "true", Valid::Any, "Whether checksums of batches are checked.").low(),
    string("client.rack", "", Valid::Any, "Where the consumer is: replicas there are read from, if the cluster is set up for it (KIP-392).").low(),
    boolean("allow.auto.create.topics", "true", Valid::Any, "Whether brokers may make topics that are subscribed to."),
    boolean("exclude.internal.topics", "true", Valid::Any, "Whether patterns leave out topics like __consumer_offsets."),
    int("default.api.timeout.ms", "60000", Valid::AtLeast(0), "Milliseconds that calls take which wait for an answer."),
    list("interceptor.classes", "", NO_CLASSES, "Java classes that see what is handed out and committed.").low(),
    string_or_null("group.remote.assignor", Valid::Any, "Who decides about partitions in the protocol of KIP-848.").not_yet(),
    string("key.deserializer", "", Valid::Any, "What Java makes of keys; here keys are bytes, and Records::typed takes a deserializer.").not_yet(),
    string("value.deserializer", "", Valid::Any, "What Java makes of values; here values are bytes, and Records::typed takes a deserializer.").not_yet(),
];
