//! Golden scripts: what the controller answers, and which records it writes.
//!
//! A script is a list of paragraphs: a command, `---`, and what came of it. `UPDATE=1 cargo test -p
//! ottla-metadata --test controller` writes down what comes of it now; read the difference before
//! it is committed.

#![allow(clippy::unwrap_used)]

mod properties;
mod script;

use std::path::Path;

use script::Cluster;

#[test]
fn scripts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/controller");
    let mut paths: Vec<_> = scripts_in(&dir);
    paths.sort();
    assert!(!paths.is_empty(), "no scripts in {}", dir.display());
    let update = std::env::var_os("UPDATE").is_some();
    for path in paths {
        let written = read(&path);
        let now = run(&written);
        if update {
            write(&path, &now);
        } else {
            assert!(now == written, "{}: expected\n{written}\nbut got\n{now}", path.display());
        }
    }
}

/// The script as it comes out now.
fn run(script: &str) -> String {
    let mut cluster = Cluster::default();
    let mut out = Vec::new();
    for paragraph in script.split("\n\n").map(str::trim).filter(|text| !text.is_empty()) {
        let command = paragraph.split("\n---").next().unwrap_or_default().trim_end_matches("---");
        let lines = command.lines().filter(|line| !line.starts_with('#'));
        let answer: String =
            lines.flat_map(|line| cluster.run(line)).map(|line| line + "\n").collect();
        match command.lines().all(|line| line.starts_with('#')) {
            true => out.push(command.to_owned() + "\n"),
            false => out.push(format!("{}\n---\n{answer}", command.trim_end())),
        }
    }
    out.join("\n")
}

// Tests read their scripts from the source tree: the fence around `env` is for the broker.
#[allow(clippy::disallowed_methods)]
fn scripts_in(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|ext| ext == "script")).collect()
}

#[allow(clippy::disallowed_methods)]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[allow(clippy::disallowed_methods)]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
