//! Kafka's scripts and `ottla`'s of the same names: the sessions in `compat/interop/sessions.txt`, run by
//! Kafka's tools on one node and by `ottla` on another, have to print the same and to end the same.
//!
//! What may differ is masked: addresses, directories, ids that are drawn at random, times, and what was measured.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::jvm::Jvm;
use crate::node::{Node, Settings, binary};
use crate::program::{Running, within};

const COMMAND_SECONDS: u64 = 90;
/// Files that sessions read.
const FILES: [(&str, &str); 14] = [
    ("plan.csv", "orders,0,1\norders,1,0\n"),
    ("plans.csv", "billing,orders,0,2\nnewcomer,orders,1,1\n"),
    (
        "offsets.json",
        r#"{"partitions": [{"topic": "orders", "partition": 0, "offset": 2},
            {"topic": "orders", "partition": 1, "offset": -1},
            {"topic": "orders", "partition": 2, "offset": 9}], "version": 1}"#,
    ),
    (
        "elect.json",
        r#"{"partitions": [{"topic": "orders", "partition": 0}, {"topic": "orders", "partition": 2}]}"#,
    ),
    (
        "reassign.json",
        r#"{"version": 1, "partitions": [{"topic": "orders", "partition": 0, "replicas": [1]},
            {"topic": "orders", "partition": 1, "replicas": [1]}]}"#,
    ),
    (
        "nowhere.json",
        r#"{"version": 1, "partitions": [{"topic": "orders", "partition": 0, "replicas": [9]}]}"#,
    ),
    (
        "no.such.topic.json",
        r#"{"version": 1, "partitions": [{"topic": "nothing", "partition": 0, "replicas": [1]}]}"#,
    ),
    ("no.json", "{partitions"),
    ("move.json", r#"{"topics": [{"topic": "orders"}], "version": 1}"#),
    ("move.two.json", r#"{"topics": [{"topic": "orders"}, {"topic": "pay"}], "version": 1}"#),
    ("move.twice.json", r#"{"topics": [{"topic": "orders"}, {"topic": "orders"}]}"#),
    ("move.nothing.json", r#"{"topics": [{"topic": "nothing"}], "version": 1}"#),
    ("moved.csv", "orders,0,3\norders,1,1\npay,0,0\n"),
    ("topic.properties", "segment.ms=100000\nmin.insync.replicas=1\n"),
];

/// A line of a session.
struct Step {
    line: usize,
    text: String,
    words: Vec<String>,
    input: Option<String>,
}

/// What a line asks for.
enum Deed<'a> {
    /// A command of `ottla` prepares something, on both nodes.
    Prepare,
    /// A script that goes on in the background under a name.
    Start(&'a str),
    /// So many lines of a script in the background, and no more are waited for.
    Await(&'a str, usize),
    /// So many members of a group have their partitions.
    AwaitMembers(&'a str, usize),
    /// A script in the background is asked to end; it must have said and end with the same.
    End(&'a str),
    /// A script, whose output and end must be the same.
    Run,
}

impl Step {
    fn script(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    fn deed(&self) -> Result<Deed<'_>> {
        let words: Vec<&str> = self.words.iter().take(4).map(String::as_str).collect();
        Ok(match *words.as_slice() {
            ["ottla", ..] => Deed::Prepare,
            ["start", name, ..] => Deed::Start(name),
            ["await", name, count, "lines"] => Deed::Await(name, count.parse()?),
            ["await", group, count, "members"] => Deed::AwaitMembers(group, count.parse()?),
            ["end", name] => Deed::End(name),
            _ => Deed::Run,
        })
    }
}

/// What a command came to.
#[derive(PartialEq, Eq)]
struct End {
    code: i32,
    said: String,
}

pub(super) fn compare(jvm: &Jvm, root: &Path) -> Result<String> {
    let sessions =
        read(&std::fs::read_to_string(crate::root().join("compat/interop/sessions.txt"))?)?;
    let files = root.join("files");
    std::fs::create_dir_all(&files)?;
    for (name, text) in FILES {
        std::fs::write(files.join(name), text)?;
    }
    let by_kafka = Side::start(root, "by-kafka", &files)?;
    let by_ottla = Side::start(root, "by-ottla", &files)?;
    let mut comparison = Comparison {
        jvm,
        tools: Tools::start(jvm, &files)?,
        by_kafka,
        by_ottla,
        background: BTreeMap::new(),
    };
    let mut commands = 0;
    let mut wrong = Vec::new();
    for (title, steps) in &sessions {
        for step in steps {
            let place = || format!("{title}, line {}: {}", step.line, step.text);
            let Some((kafka, ottla)) = comparison.step(step).with_context(place)? else { continue };
            commands += 1;
            if kafka != ottla {
                wrong.push(format!("{}\n{}", place(), difference(&kafka, &ottla)));
            }
        }
        let left: Vec<_> = comparison.background.keys().collect();
        ensure!(left.is_empty(), "{title}: {left:?} are not ended");
    }
    comparison.by_kafka.node.stop()?;
    comparison.by_ottla.node.stop()?;
    ensure!(
        wrong.is_empty(),
        "{} of {commands} commands end differently:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(format!("{} sessions, {commands} commands", sessions.len()))
}

/// Both sides, and what goes on in the background of each.
struct Comparison<'a> {
    jvm: &'a Jvm,
    tools: Tools,
    by_kafka: Side,
    by_ottla: Side,
    background: BTreeMap<String, (Background, Background)>,
}

impl Comparison<'_> {
    /// What a step came to on both sides, if that is to be compared.
    fn step(&mut self, step: &Step) -> Result<Option<(End, End)>> {
        match step.deed()? {
            Deed::Prepare => {
                for side in [&self.by_kafka, &self.by_ottla] {
                    let code = side.prepare(step)?.code;
                    ensure!(code == 0, "ended with {code}");
                }
            }
            Deed::Start(name) => {
                let kafka = self.jvm.script(&self.by_kafka.words(&step.words[2..]))?;
                let ottla = self.by_ottla.command(&self.by_ottla.words(&step.words[2..]))?;
                let both = (Background::start(kafka)?, Background::start(ottla)?);
                self.background.insert(name.to_owned(), both);
            }
            Deed::Await(name, count) => {
                let both = self.background.get_mut(name).context("nothing has that name")?;
                both.0.await_lines(count).context("Kafka's")?;
                both.1.await_lines(count).context("Ottla's")?;
            }
            Deed::AwaitMembers(group, count) => {
                self.by_kafka.await_members(group, count)?;
                self.by_ottla.await_members(group, count)?;
            }
            Deed::End(name) => {
                let both = self.background.remove(name).context("nothing has that name")?;
                return Ok(Some((both.0.end(&self.by_kafka)?, both.1.end(&self.by_ottla)?)));
            }
            Deed::Run => {
                let (mut kafka, mut ottla) =
                    (self.tools.run(&self.by_kafka, step)?, self.by_ottla.run(step)?);
                for end in [&mut kafka, &mut ottla] {
                    end.said = comparable(step.script(), &end.said);
                }
                return Ok(Some((kafka, ottla)));
            }
        }
        Ok(None)
    }
}

/// A script that goes on beside the others.
struct Background {
    running: Running,
    lines: Vec<String>,
}

impl Background {
    fn start(mut command: Command) -> Result<Self> {
        Ok(Self { running: Running::start(&mut command)?, lines: Vec::new() })
    }

    fn await_lines(&mut self, count: usize) -> Result<()> {
        let deadline = within(COMMAND_SECONDS);
        while self.lines.len() < count {
            let line = self.running.line_before(deadline)?;
            self.lines.push(line.context("it ended early")?);
        }
        Ok(())
    }

    /// Has it end, as an operator does.
    fn end(mut self, side: &Side) -> Result<End> {
        self.running.terminate()?;
        let deadline = within(COMMAND_SECONDS);
        while let Some(line) = self.running.line_before(deadline)? {
            self.lines.push(line);
        }
        let status = self.running.ended_before(deadline)?;
        let code = status.code().context("the signal ended it")?;
        Ok(End { code, said: side.masked(self.lines.join("\n").as_bytes()) })
    }
}

fn difference(kafka: &End, ottla: &End) -> String {
    let shown = |who: &str, end: &End| -> String {
        let lines = end.said.lines().map(|line| format!("    {line}\n"));
        format!("  {who} ended with {}:\n{}", end.code, lines.collect::<String>())
    };
    shown("Kafka", kafka) + &shown("Ottla", ottla)
}

/// Sessions with their titles.
fn read(text: &str) -> Result<Vec<(String, Vec<Step>)>> {
    let mut sessions: Vec<(String, Vec<Step>)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if let Some(title) = line.strip_prefix("== ") {
            sessions.push((title.to_owned(), Vec::new()));
        } else if !line.is_empty() && !line.starts_with('#') {
            let (command, input) = line.split_once(" <<< ").unzip();
            let command = command.unwrap_or(line);
            let step = Step {
                line: at + 1,
                text: line.to_owned(),
                words: words(command),
                input: input.map(|text| text.replace("\\n", "\n").replace("\\t", "\t") + "\n"),
            };
            let (_, steps) = sessions.last_mut().context("a command in front of the sessions")?;
            steps.push(step);
        }
    }
    Ok(sessions)
}

/// Words with blanks between them, but for those in single quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(ToOwned::to_owned));
        }
    }
    words
}

/// A node, and how what is said about it is made comparable.
struct Side {
    node: Node,
    folder: PathBuf,
    files: PathBuf,
    /// The data of one of the nodes, for both.
    same: String,
}

impl Side {
    fn start(root: &Path, name: &str, files: &Path) -> Result<Self> {
        let folder = root.join(name);
        std::fs::create_dir_all(&folder)?;
        let mut settings = Settings::default();
        settings.set.push(("offsets.topic.num.partitions", "3".to_owned()));
        let node = Node::start(&folder, &settings)?;
        let same = root.join("by-kafka/data").display().to_string();
        Ok(Self { node, folder, files: files.to_owned(), same })
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// Words with what their placeholders stand for.
    fn words(&self, given: &[String]) -> Vec<String> {
        let mut words = Vec::new();
        for word in given {
            if word == "{at}" {
                words.extend(["--bootstrap-server".to_owned(), self.node.address().to_owned()]);
                continue;
            }
            let word = word.replace("{data}", &self.data()).replace("{same}", &self.same);
            words.push(word.replace("{files}", &self.files.display().to_string()));
        }
        words
    }

    /// One of `ottla`'s own commands.
    fn prepare(&self, step: &Step) -> Result<End> {
        let mut words = self.words(&step.words);
        words.remove(0);
        words.extend(["--bootstrap-server".to_owned(), self.node.address().to_owned()]);
        self.ottla(&words, step)
    }

    /// One of Kafka's scripts by `ottla`.
    fn run(&self, step: &Step) -> Result<End> {
        self.ottla(&self.words(&step.words), step)
    }

    /// The program, with words; what it says on standard error goes to a file.
    fn command(&self, words: &[String]) -> Result<Command> {
        let log = File::options().create(true).append(true).open(self.folder.join("ottla.log"))?;
        let mut command = Command::new(binary()?);
        command.args(words).stdin(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Waits until so many members of a group are there, and each has its partitions.
    fn await_members(&self, group: &str, count: usize) -> Result<()> {
        let deadline = within(COMMAND_SECONDS);
        loop {
            let mut command = Command::new(binary()?);
            command.args(["group", "describe", group, "--members", "--format", "json"]);
            let said = command.args(["--bootstrap-server", self.node.address()]).output()?;
            let members: Vec<Value> = said
                .stdout
                .split(|byte| *byte == b'\n')
                .filter_map(|line| serde_json::from_slice(line).ok())
                .collect();
            if members.len() == count && members.iter().all(|member| member["state"] == "Stable") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the members of {group} are {members:?}");
        }
    }

    fn ottla(&self, words: &[String], step: &Step) -> Result<End> {
        let input = self.folder.join("input");
        std::fs::write(&input, step.input.as_deref().unwrap_or_default())?;
        let output = self.folder.join("output");
        let mut command = self.command(words)?;
        command.stdin(File::open(&input)?).stdout(File::create(&output)?);
        let mut running = Running::silent(&mut command)?;
        let status = running.ended_before(within(COMMAND_SECONDS))?;
        let code = status.code().context("it was killed")?;
        Ok(End { code, said: self.masked(&std::fs::read(&output)?) })
    }

    /// What was said, without what may differ.
    fn masked(&self, said: &[u8]) -> String {
        let text = String::from_utf8_lossy(said);
        let text = text
            .replace(&self.same, "DATA")
            .replace(&self.data(), "DATA")
            .replace(self.node.address(), "ADDRESS");
        let mut masked = String::new();
        for line in text.split_inclusive('\n') {
            masked.push_str(&mask_uuids(&mask_ids(line)));
        }
        masked
    }
}

/// What a script said, without what two runs of it may say differently.
fn comparable(script: &str, said: &str) -> String {
    match script {
        "kafka-producer-perf-test" | "kafka-consumer-perf-test" => mask_figures(said),
        "kafka-reassign-partitions" => without_trace(said),
        "kafka-delete-records" => sorted(said),
        "kafka-broker-api-versions" => without_usable(said),
        "kafka-metadata-quorum" => mask_times(said),
        _ => said.to_owned(),
    }
}

/// The trace of an exception stands behind its message.
fn without_trace(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n') {
        lines.push(line);
        if line.starts_with("Error: ") {
            break;
        }
    }
    lines.concat()
}

/// Kafka prints partitions in whatever order they are answered.
fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Without the version that the client would use: clients differ.
fn without_usable(text: &str) -> String {
    let lines = text.lines().map(|line| line.split(" [usable: ").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// Milliseconds since 1970, and ids of clusters and directories.
fn mask_times(text: &str) -> String {
    const ID: usize = 22;
    let is_long = |word: &str| word.len() == ID || (word.len() > 9 && word.parse::<i64>().is_ok());
    let words = text.split_inclusive(['\t', ' ', '\n', '"']).map(|word| {
        let bare = word.trim_end_matches(['\t', ' ', '\n', '"']);
        if is_long(bare) { word.replace(bare, "MASKED") } else { word.to_owned() }
    });
    words.collect()
}

/// What was measured.
fn mask_figures(text: &str) -> String {
    let mut masked = String::new();
    for letter in text.chars() {
        let is_figure = letter.is_ascii_digit() || (letter == '.' && masked.ends_with('N'));
        if !is_figure {
            masked.push(letter);
        } else if !masked.ends_with('N') {
            masked.push('N');
        }
    }
    masked
}

/// Ids of topics.
fn mask_ids(line: &str) -> String {
    const LENGTH: usize = 22;
    let Some((before, after)) = line.split_once("TopicId: ") else { return line.to_owned() };
    format!("{before}TopicId: ID{}", after.get(LENGTH..).unwrap_or_default())
}

/// Ids of members end with one that is drawn at random.
fn mask_uuids(line: &str) -> String {
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    const LENGTH: usize = 36;
    let is_uuid = |text: &str| {
        let groups: Vec<&str> = text.split('-').collect();
        groups.iter().map(|it| it.len()).eq(GROUPS)
            && groups.iter().all(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    let mut masked = String::new();
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        if rest.get(..LENGTH).is_some_and(is_uuid) {
            masked.push_str("UUID");
            rest = &rest[LENGTH..];
        } else {
            masked.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    masked
}

/// Kafka's tools, in one virtual machine.
struct Tools {
    running: Running,
    commands: ChildStdin,
    files: PathBuf,
}

impl Tools {
    fn start(jvm: &Jvm, files: &Path) -> Result<Self> {
        let mut command = jvm.command("ottla.interop.Main")?;
        command.args(["scripts", "-"]).stdin(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let commands = running.child().stdin.take().context("its standard input is piped")?;
        Ok(Self { running, commands, files: files.to_owned() })
    }

    fn run(&mut self, side: &Side, step: &Step) -> Result<End> {
        let (output, input) = (self.files.join("output"), self.files.join("input"));
        let mut parts = vec![output.display().to_string()];
        match &step.input {
            Some(text) => {
                std::fs::write(&input, text)?;
                parts.push(input.display().to_string());
            }
            None => parts.push("-".to_owned()),
        }
        parts.extend(side.words(&step.words));
        writeln!(self.commands, "{}", parts.join("\t"))?;
        self.commands.flush()?;
        let code = self.answer()?.parse().context("an exit code")?;
        ensure!(self.answer()? == "written", "Kafka's tools are out of step");
        if code < 0 {
            bail!("Kafka's script did not end");
        }
        Ok(End { code, said: side.masked(&std::fs::read(&output)?) })
    }

    fn answer(&self) -> Result<String> {
        self.running.line_before(within(COMMAND_SECONDS))?.context("Kafka's tools ended early")
    }
}
