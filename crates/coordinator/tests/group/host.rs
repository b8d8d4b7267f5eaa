//! A host as the crate's documentation asks for: it appends, replays, reports back, and keeps one timer.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use kafka_wire_core::{ApiVersion, KafkaEncode};
use ottla_coordinator::group::{
    AppendId, Effects, GroupCoordinator, GroupCoordinatorConfig, Now, Outcome, Reply, ReplyToken,
};
use ottla_coordinator::records::{CoordinatorRecord, EncodedRecord};
use ottla_protocol::{ErrorCode, Monotonic, Timestamp};

/// One shard, its log and its clock.
pub(crate) struct Host {
    pub(crate) config: GroupCoordinatorConfig,
    pub(crate) shard: GroupCoordinator,
    /// The partition, as bytes: what is read back is what a broker would read.
    pub(crate) log: Vec<EncodedRecord>,
    pub(crate) elapsed_ms: u64,
    /// Records are appended, but not committed until somebody says so.
    pub(crate) hold: bool,
    held: VecDeque<AppendId>,
    /// The log refuses the next append.
    pub(crate) refuse: Option<ErrorCode>,
    pub(crate) events: Vec<Event>,
    tokens: u64,
    /// Who asked, by token. A reply must find its asker here, and only once.
    asked: BTreeMap<u64, (String, i16)>,
}

pub(crate) enum Event {
    Reply { asker: String, reply: Reply },
    Append(CoordinatorRecord),
    Refused(ErrorCode),
}

impl Host {
    pub(crate) fn new(config: GroupCoordinatorConfig) -> Self {
        Self {
            shard: GroupCoordinator::new(config.clone()),
            config,
            log: Vec::new(),
            elapsed_ms: 0,
            hold: false,
            held: VecDeque::new(),
            refuse: None,
            events: Vec::new(),
            tokens: 0,
            asked: BTreeMap::new(),
        }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = i64::try_from(self.elapsed_ms).unwrap() + 1_000_000;
        Now { monotonic: Monotonic(Duration::from_millis(self.elapsed_ms)), wall: Timestamp(wall) }
    }

    pub(crate) fn token(&mut self, asker: &str, api_version: i16) -> ReplyToken {
        self.tokens += 1;
        self.asked.insert(self.tokens, (asker.to_owned(), api_version));
        ReplyToken(self.tokens)
    }

    /// Requests that still wait for a reply.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &String> {
        self.asked.values().map(|(asker, _)| asker)
    }

    pub(crate) fn perform(&mut self, effects: Effects) {
        for (token, reply) in effects.replies {
            let asked = self.asked.remove(&token.0);
            let (asker, api_version) = asked.expect("a token is replied to once");
            check_encodes(&reply, api_version);
            self.events.push(Event::Reply { asker, reply });
        }
        for append in effects.appends {
            if let Some(error) = self.refuse.take() {
                self.events.push(Event::Refused(error));
                self.finish(append.id, Err(error));
                continue;
            }
            self.append(append.records);
            if self.hold {
                self.held.push_back(append.id);
            } else {
                self.finish(append.id, Ok(()));
            }
        }
    }

    /// Reports the oldest append that is held: committed, or given up on. Its records stay in the log.
    pub(crate) fn finish_held(&mut self, result: Result<(), ErrorCode>) -> bool {
        let Some(id) = self.held.pop_front() else { return false };
        self.finish(id, result);
        true
    }

    /// Appends are committed at once again, after those that are held.
    pub(crate) fn release(&mut self) {
        while self.finish_held(Ok(())) {}
        self.hold = false;
    }

    fn finish(&mut self, id: AppendId, result: Result<(), ErrorCode>) {
        let effects = self.shard.append_finished(self.now(), id, result);
        self.perform(effects);
    }

    pub(crate) fn decide<A>(&mut self, outcome: Outcome<A>) -> A {
        self.append(outcome.records);
        outcome.answer
    }

    fn append(&mut self, records: Vec<CoordinatorRecord>) {
        for record in records {
            let encoded = record.encode().expect("deciders refuse what cannot be written");
            self.shard.replay(&decode(&encoded));
            self.log.push(encoded);
            self.events.push(Event::Append(record));
        }
    }

    /// Lets time pass; ticks exactly when the shard asks for it.
    pub(crate) fn wait(&mut self, millis: u64) {
        let until = self.elapsed_ms + millis;
        while let Some(at) = self.shard.next_deadline() {
            let at = u64::try_from(at.0.as_millis()).unwrap();
            if at > until {
                break;
            }
            self.elapsed_ms = self.elapsed_ms.max(at);
            let effects = self.shard.tick(self.now());
            self.perform(effects);
        }
        self.elapsed_ms = until;
    }

    /// Lets time pass and ticks once, at the end: a host whose timer was late.
    pub(crate) fn late(&mut self, millis: u64) {
        self.elapsed_ms += millis;
        let effects = self.shard.tick(self.now());
        self.perform(effects);
    }

    /// The partition moves to another broker, which knows the log and nothing else.
    pub(crate) fn fail_over(&mut self) {
        let effects = self.shard.resigned();
        self.held.clear();
        self.perform(effects);
        self.shard = self.twin();
        let effects = self.shard.elected(self.now());
        self.perform(effects);
    }

    /// A shard that has replayed the log.
    pub(crate) fn twin(&self) -> GroupCoordinator {
        let mut twin = GroupCoordinator::new(self.config.clone());
        for encoded in &self.log {
            twin.replay(&decode(encoded));
        }
        twin
    }
}

/// A reply must have a form in the version that was asked.
fn check_encodes(reply: &Reply, api_version: i16) {
    let version = ApiVersion::new(api_version);
    let encoded = match reply {
        Reply::Join(response) => response.encoded_len(version),
        Reply::Sync(response) => response.encoded_len(version),
        Reply::Leave(response) => response.encoded_len(version),
    };
    encoded.expect("the reply fits its version");
}

fn decode(encoded: &EncodedRecord) -> CoordinatorRecord {
    CoordinatorRecord::decode(Some(&encoded.key), encoded.value.as_ref())
        .expect("what was written can be read")
        .expect("every kind that is written is known")
}
