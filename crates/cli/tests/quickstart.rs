//! docs/quickstart.md, command by command: what it says is printed is what is printed.
#![allow(clippy::disallowed_methods, reason = "tests run the program")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "commands/node.rs"]
#[allow(dead_code, reason = "this test needs a part of it")]
mod node;

use std::path::Path;
use std::process::{Command, Stdio};

use node::Node;

/// A command of the page, and the lines below it.
#[derive(Debug)]
struct Step {
    command: String,
    printed: Vec<String>,
}

/// The steps of the blocks that show a console.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(language) => inside = language == "console",
            None if inside => match line.strip_prefix("$ ") {
                Some(command) => {
                    steps.push(Step { command: command.to_owned(), printed: Vec::new() })
                }
                None => steps.last_mut().unwrap().printed.push(line.to_owned()),
            },
            None => {}
        }
    }
    steps
}

/// Whether a line is what the page says: `<time>` and `<id>` stand for a word without blanks.
fn matches(wanted: &str, line: &str) -> bool {
    let Some((before, rest)) = wanted.split_once('<') else { return wanted == line };
    let Some((_, after)) = rest.split_once('>') else { return wanted == line };
    let Some(line) = line.strip_prefix(before) else { return false };
    let word = line.split([' ', ',']).next().unwrap_or_default();
    !word.is_empty() && matches(after, &line[word.len()..])
}

/// Runs a command in a shell, where `ottla` is this program and asks `node`. What it prints to both
/// streams.
fn run(node: &Node, dir: &Path, command: &str) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_ottla")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-c", &format!("{{ {command}; }} 2>&1")])
        .current_dir(dir)
        .env("PATH", path)
        .env("OTTLA_BOOTSTRAP_SERVER", node.address())
        .env("XDG_CONFIG_HOME", dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // The page's node listens where a node listens by itself.
    text.replace(node.address(), "127.0.0.1:9092").lines().map(str::to_owned).collect()
}

#[test]
fn the_quickstart_prints_what_it_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/quickstart.md");
    let steps = steps(&std::fs::read_to_string(page).unwrap());
    assert!(steps.len() > 10, "the page has lost its commands");
    let node = Node::start();
    let dir = tempfile::tempdir().unwrap();
    for step in steps {
        let printed = run(&node, dir.path(), &step.command);
        let equal = printed.len() == step.printed.len()
            && step.printed.iter().zip(&printed).all(|(wanted, line)| matches(wanted, line));
        assert!(equal, "{}\nwanted {:#?}\nprinted {printed:#?}", step.command, step.printed);
    }
}

#[test]
fn a_placeholder_stands_for_one_word() {
    assert!(matches("<time> 0@0", "2026-11-20T19:20:00.000Z 0@0"));
    assert!(matches("{\"t\":<time>,\"v\":1}", "{\"t\":12,\"v\":1}"));
    assert!(!matches("<time> 0@0", " 0@0"));
    assert!(!matches("<time> 0@0", "now 0@1"));
    assert!(!matches("a", "b"));
}
