//! The options of Kafka's scripts: read as their option parser reads them, with its messages.
//!
//! `--name value` and `--name=value` are the same, one hyphen is as good as two, an option may stand
//! anywhere and many times. What a value means is looked at when it is needed.

use std::fmt::Write as _;
use std::str::FromStr;

use super::{Outcome, Stop};

/// The widest line of a usage.
const WIDTH: usize = 100;
/// Where the explanations in a usage begin.
const COLUMN: usize = 34;

/// What an option takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    /// A value.
    Value(&'static str),
    /// Values, separated by commas.
    List(&'static str),
    /// A value, unless another option follows.
    Perhaps(&'static str),
}

/// An option that a script knows.
pub(super) struct Known {
    /// The names it has, the first one first.
    names: &'static [&'static str],
    takes: Takes,
    about: &'static str,
}

/// An option without a value.
pub(super) const fn flag(names: &'static [&'static str], about: &'static str) -> Known {
    Known { names, takes: Takes::Nothing, about }
}

/// An option with a value.
pub(super) const fn value(
    names: &'static [&'static str],
    value: &'static str,
    about: &'static str,
) -> Known {
    Known { names, takes: Takes::Value(value), about }
}

/// An option with values that are separated by commas.
pub(super) const fn list(
    names: &'static [&'static str],
    value: &'static str,
    about: &'static str,
) -> Known {
    Known { names, takes: Takes::List(value), about }
}

/// An option that may have a value.
pub(super) const fn perhaps(
    names: &'static [&'static str],
    value: &'static str,
    about: &'static str,
) -> Known {
    Known { names, takes: Takes::Perhaps(value), about }
}

/// The cluster, where it has to be named.
pub(super) const REQUIRED_SERVERS: Known =
    value(&["bootstrap-server"], "servers", "REQUIRED: nodes of the cluster, HOST:PORT,...");
/// The cluster, where something else may name it.
pub(super) const SERVERS: Known =
    value(&["bootstrap-server"], "servers", "Nodes of the cluster, HOST:PORT,...");
/// What may name the cluster in place of [`SERVERS`].
pub(super) const CONTROLLERS: Known =
    value(&["bootstrap-controller"], "controllers", "Controllers of the cluster, HOST:PORT,...");
/// How to connect to the cluster.
pub(super) const COMMAND_CONFIG: Known =
    value(&["command-config"], "file", "A properties file for the admin client.");

const HELP: Known = flag(&["help"], "Print this, and do nothing.");
const VERSION: Known =
    flag(&["version"], "Print the version of Kafka whose scripts these follow, and do nothing.");

/// What a script understands.
pub(super) struct Grammar {
    /// What it is for, in one sentence, as Kafka's script says it.
    pub(super) about: &'static str,
    pub(super) known: &'static [Known],
}

/// What was given on a command line.
pub(super) struct Options {
    grammar: &'static Grammar,
    given: Vec<(&'static Known, Option<String>)>,
    /// What is no option and no option's value: the command, where a script has such.
    words: Vec<String>,
    is_empty: bool,
}

impl Grammar {
    /// Reads a command line.
    pub(super) fn parse(&'static self, arguments: &[String]) -> Outcome<Options> {
        let mut options = Options {
            grammar: self,
            given: Vec::new(),
            words: Vec::new(),
            is_empty: arguments.is_empty(),
        };
        let mut words = arguments.iter().peekable();
        while let Some(word) = words.next() {
            if word == "--" {
                break;
            }
            let Some(text) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                options.words.push(word.clone());
                continue;
            };
            if text.is_empty() {
                continue;
            }
            let (name, value) =
                text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
            let known = self.find(name).ok_or_else(|| unrecognized(word, name))?;
            let value = match known.takes {
                Takes::Nothing => None,
                Takes::Value(_) | Takes::List(_) => {
                    let value = value.or_else(|| words.next().map(String::as_str));
                    Some(value.ok_or_else(|| {
                        Stop::failed(format!("Option {} requires an argument", known.title()))
                    })?)
                }
                Takes::Perhaps(_) => value.or_else(|| {
                    words.next_if(|next| !next.starts_with('-') || *next == "-").map(String::as_str)
                }),
            };
            options.add(known, value);
        }
        Ok(options)
    }

    /// What is wrong with a command line, with the usage.
    pub(super) fn usage_error(&self, stop: &Stop) -> Stop {
        Stop::failed(format!("{}\n{}", stop.said, self.usage().trim_end()))
    }

    fn find(&'static self, name: &str) -> Option<&'static Known> {
        let own = self.known.iter().chain([&HELP, &VERSION]);
        own.into_iter().find(|known| known.names.contains(&name))
    }

    fn usage(&self) -> String {
        let mut known: Vec<&Known> = self.known.iter().chain([&HELP, &VERSION]).collect();
        known.sort_by_key(|it| it.names[0]);
        let mut text = String::from("Options:\n");
        for option in known {
            let names: Vec<String> = option
                .names
                .iter()
                .map(|it| if it.len() == 1 { format!("-{it}") } else { format!("--{it}") })
                .collect();
            let mut left = format!("  {}", names.join(", "));
            match option.takes {
                Takes::Nothing => {}
                Takes::Value(value) | Takes::List(value) => {
                    let _ = write!(left, " <{value}>");
                }
                Takes::Perhaps(value) => {
                    let _ = write!(left, " [{value}]");
                }
            }
            if left.len() >= COLUMN {
                text.push_str(&left);
                text.push('\n');
                left.clear();
            }
            for line in wrapped(option.about, WIDTH - COLUMN) {
                let _ = writeln!(text, "{left:COLUMN$}{line}");
                left.clear();
            }
        }
        text
    }
}

/// Of a name with one hyphen the parser takes the first letter for a name.
fn unrecognized(word: &str, name: &str) -> Stop {
    let name = if word.starts_with("--") { name } else { name.get(..1).unwrap_or(name) };
    Stop::failed(format!("{name} is not a recognized option"))
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().filter(|it| it.len() + word.len() < width);
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

impl Known {
    /// As messages name it.
    fn title(&self) -> String {
        self.names.join("/")
    }
}

impl Options {
    fn add(&mut self, known: &'static Known, value: Option<&str>) {
        match (known.takes, value) {
            (Takes::List(_), Some(values)) if values.contains(|it| it != ',') => {
                let values = values.split(',').filter(|it| !it.is_empty());
                self.given.extend(values.map(|it| (known, Some(it.to_owned()))));
            }
            (_, value) => self.given.push((known, value.map(ToOwned::to_owned))),
        }
    }

    /// Help or version, if they are asked for. Without a word help is, too.
    pub(super) fn help_or_version(&self) -> Outcome {
        if self.is_empty || self.has("help") {
            return Err(self.usage(self.grammar.about));
        }
        if self.has("version") {
            super::say_version()?;
            return Err(Stop::done());
        }
        Ok(())
    }

    /// An end with a message and the usage.
    pub(super) fn usage(&self, message: impl AsRef<str>) -> Stop {
        Stop::failed(format!("{}\n{}", message.as_ref(), self.grammar.usage().trim_end()))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.given.iter().any(|(known, _)| known.names.contains(&name))
    }

    /// How many of these are there.
    pub(super) fn count(&self, names: &[&str]) -> usize {
        names.iter().filter(|name| self.has(name)).count()
    }

    /// The values of an option, in order.
    pub(super) fn values(&self, name: &str) -> Vec<&str> {
        let given = self.given.iter().filter(|(known, _)| known.names.contains(&name));
        given.filter_map(|(_, value)| value.as_deref()).collect()
    }

    /// The value of an option that may be given once.
    pub(super) fn value(&self, name: &str) -> Outcome<Option<&str>> {
        match *self.values(name) {
            [] => Ok(None),
            [value] => Ok(Some(value)),
            [..] => Err(Stop::failed(format!(
                "Found multiple arguments for option {}, but you asked for only one",
                self.title(name)
            ))),
        }
    }

    /// The value of an option that is a number.
    pub(super) fn number<T: FromStr>(&self, name: &str) -> Outcome<Option<T>> {
        let Some(text) = self.value(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_not_one| {
            Stop::failed(format!("Cannot parse argument '{text}' of option {}", self.title(name)))
        })
    }

    /// The options among these, in the order in which they were given.
    pub(super) fn among(&self, names: &[&'static str]) -> Vec<&'static str> {
        self.given
            .iter()
            .filter_map(|(known, _)| names.iter().copied().find(|it| known.names.contains(it)))
            .collect()
    }

    /// What is no option and no option's value.
    pub(super) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }

    /// Each of these is there.
    pub(super) fn require(&self, names: &[&str]) -> Outcome {
        match names.iter().find(|name| !self.has(name)) {
            None => Ok(()),
            Some(name) => {
                Err(self.usage(format!("Missing required argument \"{}\"", self.bracketed(name))))
            }
        }
    }

    /// If the first is there, none of the others is.
    pub(super) fn exclude(&self, name: &str, others: &[&str]) -> Outcome {
        match others.iter().find(|it| self.has(name) && self.has(it) && **it != name) {
            None => Ok(()),
            Some(other) => Err(self.usage(format!(
                "Option \"{}\" can't be used with option \"{}\"",
                self.bracketed(name),
                self.bracketed(other)
            ))),
        }
    }

    /// Exactly one of these is there.
    pub(super) fn require_one_of(&self, names: &[&str]) -> Outcome {
        if self.count(names) == 1 {
            return Ok(());
        }
        let names: Vec<String> = names.iter().map(|it| self.bracketed(it)).collect();
        Err(self.usage(format!(
            "Exactly one of the following arguments is required: {}",
            names.join(", ")
        )))
    }

    fn title(&self, name: &str) -> String {
        self.grammar.find(name).map_or_else(|| name.to_owned(), Known::title)
    }

    /// As messages about several options name one.
    pub(super) fn bracketed(&self, name: &str) -> String {
        let names = self.grammar.find(name).map(|it| it.names.join(", "));
        format!("[{}]", names.unwrap_or_else(|| name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static GRAMMAR: Grammar = Grammar {
        about: "This tool is for tests.",
        known: &[
            value(&["topic"], "topic", "A topic."),
            list(&["delete-config"], "keys", "Keys."),
            perhaps(&["state"], "state", "A state."),
            flag(&["describe"], "Describe."),
            value(&["t", "timeout"], "ms", "A time."),
        ],
    };

    fn parse(line: &str) -> Outcome<Options> {
        let words: Vec<String> = line.split_whitespace().map(ToOwned::to_owned).collect();
        GRAMMAR.parse(&words)
    }

    fn given(line: &str) -> Options {
        parse(line).unwrap_or_else(|stop| panic!("{line}: {stop:?}"))
    }

    #[track_caller]
    fn refused(result: Outcome<impl Sized>, message: &str) {
        let Err(stop) = result else { panic!("it was not refused") };
        assert_eq!(stop.said.lines().next(), Some(message));
    }

    #[test]
    fn values_stand_beside_or_behind_an_equals_sign_and_one_hyphen_will_do() {
        for line in ["--topic a --topic b", "--topic=a --topic=b", "-topic a -topic=b"] {
            assert_eq!(given(line).values("topic"), ["a", "b"], "{line}");
        }
        assert_eq!(given("--topic --describe").values("topic"), ["--describe"]);
        assert_eq!(given("--delete-config a,,b").values("delete-config"), ["a", "b"]);
        assert!(!given("x - -- --topic").has("topic"));
    }

    #[test]
    fn a_value_that_may_be_missing_is_not_an_option() {
        assert_eq!(given("--state stable").values("state"), ["stable"]);
        let options = given("--state --describe");
        assert!(options.has("state") && options.has("describe"));
        assert!(options.values("state").is_empty());
    }

    #[test]
    fn what_is_wrong_is_said_as_kafkas_scripts_say_it() {
        refused(parse("--topik a"), "topik is not a recognized option");
        refused(parse("-x"), "x is not a recognized option");
        refused(parse("--describe --topic"), "Option topic requires an argument");
        let twice = given("--topic a --topic b");
        let message = "Found multiple arguments for option topic, but you asked for only one";
        refused(twice.value("topic"), message);
        let message = "Cannot parse argument 'soon' of option t/timeout";
        refused(given("-t soon").number::<i32>("timeout"), message);
        let message = "Missing required argument \"[t, timeout]\"";
        refused(twice.require(&["topic", "timeout"]), message);
        let message = "Option \"[topic]\" can't be used with option \"[describe]\"";
        refused(given("--topic a --describe").exclude("topic", &["topic", "describe"]), message);
        let message = "Exactly one of the following arguments is required: [topic], [state]";
        refused(given("--topic a --state").require_one_of(&["topic", "state"]), message);
    }

    #[test]
    fn a_usage_names_every_option_and_keeps_to_its_width() {
        let usage = GRAMMAR.usage();
        for name in ["--topic <topic>", "--state [state]", "-t, --timeout <ms>", "--help"] {
            assert!(usage.contains(name), "{usage}");
        }
        assert!(usage.lines().all(|line| line.len() <= WIDTH), "{usage}");
    }
}
