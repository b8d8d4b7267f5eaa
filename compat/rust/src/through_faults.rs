//! A producer and a group of two of Ottla's own client that go on through whatever happens to the nodes:
//! `ottla-through-faults BOOTSTRAP TOPIC`. All is as the client has it by default, but that the group, which has the topic's
//! name, begins at the start.
//!
//! It says what the programs of Java and Python say, in the same words: now and then `at ACKNOWLEDGED READ WAITING`, for each
//! line on its standard input `gaps MS MS`, the longest that a partition went without an acknowledgement and without being
//! read since the line before, and for each complaint `FAIL why`. When its standard input ends it sends no more, waits
//! until all is read, and looks at what each partition holds.

use std::collections::BTreeMap;
use std::io::{BufRead, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ottla_client::{
    Admin, Client, Consumer, ConsumerConfig, Delivery, NewTopic, OffsetQuery, OffsetSpec, Producer,
    ProducerConfig, ProducerRecord,
};
use ottla_env::Env;
use ottla_protocol::{Monotonic, TopicPartition};
use parking_lot::Mutex;
use tokio::sync::mpsc;

const PARTITIONS: i32 = 6;
const RECORDS_PER_SECOND: u128 = 1_200;
const REPORT: Duration = Duration::from_millis(50);
const PAUSE: Duration = Duration::from_millis(2);
const POLL: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);
/// More than can be on its way in that time.
const UNHEARD: usize = 1 << 17;

/// One run.
struct Run {
    env: Env,
    bootstrap: String,
    topic: String,
    sent: AtomicI64,
    acknowledged: Mutex<Progress>,
    read: Mutex<Progress>,
    failures: Mutex<Vec<String>>,
    ended: AtomicBool,
    left: AtomicBool,
}

/// What became of the records of each partition: value i belongs at offset i, and comes after i - 1.
struct Progress {
    partitions: BTreeMap<i32, (i64, Monotonic)>,
    longest: Duration,
}

impl Progress {
    fn new(now: Monotonic) -> Self {
        let partitions = (0..PARTITIONS).map(|partition| (partition, (0, now))).collect();
        Self { partitions, longest: Duration::ZERO }
    }

    /// Whether that is the next; says which would have been.
    fn next(&mut self, partition: i32, value: i64, now: Monotonic) -> Result<(), i64> {
        let (count, last) = self.partitions.entry(partition).or_insert((0, now));
        self.longest = self.longest.max(now.since(*last));
        *last = now;
        let expected = *count;
        *count = expected.max(value + 1);
        if expected == value { Ok(()) } else { Err(expected) }
    }

    /// Begins a new time, and answers the longest gap of the last in milliseconds.
    fn begin(&mut self, now: Monotonic) -> u128 {
        let since = self.partitions.values().map(|(_, last)| now.since(*last)).max();
        let longest = self.longest.max(since.unwrap_or_default());
        self.longest = Duration::ZERO;
        longest.as_millis()
    }

    fn count(&self, partition: i32) -> i64 {
        self.partitions.get(&partition).map_or(0, |(count, _)| *count)
    }

    fn total(&self) -> i64 {
        self.partitions.values().map(|(count, _)| count).sum()
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, topic] = &arguments[..] else { bail!("usage: BOOTSTRAP TOPIC") };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let entered = runtime.enter();
    let env = Env::os();
    let now = env.clock.now();
    let run = Arc::new(Run {
        env,
        bootstrap: bootstrap.clone(),
        topic: topic.clone(),
        sent: AtomicI64::new(0),
        acknowledged: Mutex::new(Progress::new(now)),
        read: Mutex::new(Progress::new(now)),
        failures: Mutex::default(),
        ended: AtomicBool::new(false),
        left: AtomicBool::new(false),
    });
    let going = {
        let run = run.clone();
        run.env.clone().spawn("run", async move {
            if let Err(error) = run.all().await {
                run.complain(format!("{error:#}"));
            }
            run.say_failures();
        })
    };
    drop(entered);
    for line in std::io::stdin().lock().lines() {
        line?;
        let now = run.env.clock.now();
        let (acknowledged, read) = (run.acknowledged.lock().begin(now), run.read.lock().begin(now));
        say(&format!("gaps {acknowledged} {read}"));
    }
    run.ended.store(true, Ordering::Relaxed);
    let _end = runtime.block_on(going.wait());
    let failed = !run.failures.lock().is_empty();
    std::process::exit(i32::from(failed));
}

/// One line, whole.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // Nobody listens any more: the input ends too.
    let _ended = writeln!(output, "{line}").and_then(|()| output.flush());
}

impl Run {
    async fn all(self: &Arc<Self>) -> Result<()> {
        let new = NewTopic { partitions: Some(PARTITIONS), ..NewTopic::new(&self.topic) };
        self.admin().await?.create_topic(new).await?;
        let mut members = Vec::new();
        for _ in 0..2 {
            let member = self.member().await?;
            let run = self.clone();
            members.push(self.env.spawn("member", async move {
                if let Err(error) = run.consume(member).await {
                    run.complain(format!("a member: {error:#}"));
                }
            }));
        }
        // Nothing is missed before.
        let now = self.env.clock.now();
        *self.acknowledged.lock() = Progress::new(now);
        *self.read.lock() = Progress::new(now);
        self.produce().await?;
        self.say_progress();
        let all_read = || self.read.lock().total() >= self.acknowledged.lock().total();
        self.wait("the group to read all", all_read).await;
        self.left.store(true, Ordering::Relaxed);
        for member in members {
            let _end = member.wait().await;
        }
        self.say_progress();
        if self.is_well() { self.verify().await } else { Ok(()) }
    }

    async fn admin(&self) -> Result<Admin> {
        let servers = self.bootstrap.split(',').map(str::to_owned).collect();
        let client = Client::connect(&self.env, servers, Default::default()).await?;
        Ok(Admin::new(client, PATIENCE))
    }

    async fn produce(self: &Arc<Self>) -> Result<()> {
        let servers = [("bootstrap.servers", self.bootstrap.as_str())];
        let (config, _) = ProducerConfig::from_properties(servers)?;
        let producer = Producer::connect(&self.env, config).await?;
        let mut hearing = Vec::new();
        let tell: Vec<_> = (0..PARTITIONS)
            .map(|partition| {
                let (tell, deliveries) = mpsc::channel(UNHEARD);
                let run = self.clone();
                let hear = async move { run.hear(partition, deliveries).await };
                hearing.push(self.env.spawn("deliveries", hear));
                tell
            })
            .collect();
        let begin = self.env.clock.now();
        let mut said = begin;
        while !self.ended.load(Ordering::Relaxed) && self.is_well() {
            let now = self.env.clock.now();
            let due = now.since(begin).as_millis() * RECORDS_PER_SECOND / 1_000;
            self.send_until(due.try_into()?, &producer, &tell).await?;
            if now.since(said) > REPORT {
                said = now;
                self.say_progress();
            }
            self.env.clock.sleep(PAUSE).await;
        }
        producer.close(PATIENCE).await;
        drop(tell);
        for heard in hearing {
            let _end = heard.wait().await;
        }
        let (sent, done) = (self.sent.load(Ordering::Relaxed), self.acknowledged.lock().total());
        ensure!(!self.is_well() || sent == done, "sent {sent} records, acknowledged {done}");
        Ok(())
    }

    /// Sends so many in all.
    async fn send_until(
        &self,
        due: i64,
        producer: &Producer,
        tell: &[mpsc::Sender<Delivery>],
    ) -> Result<()> {
        for record in self.sent.load(Ordering::Relaxed)..due {
            let (place, value) = (record % i64::from(PARTITIONS), record / i64::from(PARTITIONS));
            let sent = ProducerRecord::to(self.topic.as_str()).partition(i32::try_from(place)?);
            let delivery = producer.send(sent.value(value.to_string())).await?;
            tell[usize::try_from(place)?].send(delivery).await?;
            self.sent.store(record + 1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Hears of the records of one partition in the order in which they were sent.
    async fn hear(&self, partition: i32, mut deliveries: mpsc::Receiver<Delivery>) {
        let mut value = 0;
        while let Some(delivery) = deliveries.recv().await {
            match delivery.await {
                Err(error) => {
                    self.complain(format!("record {value} of partition {partition}: {error}"));
                }
                // One that a broker knows already is told of without its offset.
                Ok(stored) if stored.offset.0 != value && stored.offset.0 != -1 => {
                    let at = stored.offset.0;
                    self.complain(format!("record {value} of partition {partition} is at {at}"));
                }
                Ok(_) => {
                    let now = self.env.clock.now();
                    // Told in order, for they are heard in order.
                    let _in_order = self.acknowledged.lock().next(partition, value, now);
                }
            }
            value += 1;
        }
    }

    async fn member(&self) -> Result<Consumer> {
        let (config, _) = ConsumerConfig::from_properties([
            ("bootstrap.servers", self.bootstrap.as_str()),
            ("group.id", self.topic.as_str()),
            ("auto.offset.reset", "earliest"),
        ])?;
        let mut member = Consumer::connect(&self.env, &config).await?;
        member.subscribe([self.topic.as_str()])?;
        Ok(member)
    }

    async fn consume(&self, mut member: Consumer) -> Result<()> {
        while !self.left.load(Ordering::Relaxed) {
            let records = member.poll(POLL).await?;
            let now = self.env.clock.now();
            for record in records.iter() {
                let (partition, offset) = (record.partition.partition, record.offset.0);
                if let Err(next) = self.read.lock().next(partition, offset, now) {
                    self.complain(format!(
                        "the group read offset {offset} of partition {partition} where {next} was the next"
                    ));
                }
            }
        }
        Ok(member.close(PATIENCE).await?)
    }

    /// Every partition holds value i at offset i, and nothing else.
    async fn verify(&self) -> Result<()> {
        let servers = [("bootstrap.servers", self.bootstrap.as_str())];
        let (config, _) = ConsumerConfig::from_properties(servers)?;
        let mut reader = Consumer::connect(&self.env, &config).await?;
        let places: Vec<TopicPartition> =
            (0..PARTITIONS).map(|it| TopicPartition::new(self.topic.as_str(), it)).collect();
        reader.assign(places.iter().cloned())?;
        let latest = places.iter().map(|place| (place.clone(), OffsetQuery::Latest)).collect();
        let mut ends = self.admin().await?.list_offsets(&latest, false).await?;
        let mut left = 0;
        for place in &places {
            let end = ends.remove(place).context("no answer")??.offset.0;
            let acknowledged = self.acknowledged.lock().count(place.partition);
            ensure!(end == acknowledged, "{place} ends at {end}, acknowledged were {acknowledged}");
            reader.seek_to(place, OffsetSpec::Earliest)?;
            left += end;
        }
        let now = self.env.clock.now();
        let mut found = Progress::new(now);
        while left > 0 {
            let records = self.env.timeout(PATIENCE, reader.poll(PATIENCE)).await;
            let records = records.ok().context("the records are not there to be read")??;
            ensure!(!records.is_empty(), "{left} records are not there to be read");
            for record in records.iter() {
                let (partition, offset) = (record.partition.partition, record.offset.0);
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                let is_next = found.next(partition, offset, now).is_ok();
                ensure!(
                    is_next && value == offset.to_string(),
                    "{value} at {offset} of {partition}, after {} records",
                    found.count(partition)
                );
                left -= 1;
            }
        }
        Ok(())
    }

    async fn wait(&self, what: &str, holds: impl Fn() -> bool) {
        let waiting = async {
            while self.is_well() && !holds() {
                self.env.clock.sleep(REPORT).await;
            }
        };
        if self.env.timeout(PATIENCE, waiting).await.is_err() {
            self.complain(format!("waited {} s for: {what}", PATIENCE.as_secs()));
        }
    }

    fn is_well(&self) -> bool {
        self.failures.lock().is_empty()
    }

    fn complain(&self, why: String) {
        self.failures.lock().push(why);
    }

    fn say_failures(&self) {
        for why in self.failures.lock().iter() {
            say(&format!("FAIL {}", why.replace('\n', " ")));
        }
    }

    fn say_progress(&self) {
        let (done, read) = (self.acknowledged.lock().total(), self.read.lock().total());
        let waiting = self.sent.load(Ordering::Relaxed) - done;
        say(&format!("at {done} {read} {waiting}"));
    }
}
