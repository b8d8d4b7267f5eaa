//! A crate may use only what stands in a row above its own (ARCHITECTURE.md), and a pure crate touches nothing.

use std::path::Path;

use anyhow::{Context, Result};

/// Rows of crates: each may use those of earlier rows.
const ROWS: [&[&str]; 7] = [
    &["protocol", "history"],
    &["env"],
    &["config", "replication"],
    &["metadata", "storage", "client", "telemetry"],
    &["coordinator"],
    &["server"],
    &["cli", "sim", "faults"],
];
/// They decide and do nothing: time and randomness come in as arguments.
const PURE: [&str; 7] =
    ["protocol", "history", "config", "replication", "metadata", "telemetry", "coordinator"];
/// What would let a pure crate out into the world.
const WORLDLY: [&str; 10] = [
    "ottla-env",
    "ottla-storage",
    "ottla-client",
    "tokio",
    "rustix",
    "socket2",
    "openraft",
    "rand",
    "rand_core",
    "rand_chacha",
];

pub(super) fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root.join("crates"))? {
        let folder = entry?.path();
        let name = folder.file_name().and_then(|name| name.to_str()).context("a crate's name")?;
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml"))
            .with_context(|| format!("crates/{name}/Cargo.toml"))?;
        found.extend(violations_of(name, &manifest));
    }
    found.sort();
    Ok(found)
}

fn violations_of(name: &str, manifest: &str) -> Vec<String> {
    let Some(own) = row(name) else {
        return vec![format!("crates/{name}: not in the crate graph (ARCHITECTURE.md)")];
    };
    let mut found = Vec::new();
    for dependency in dependencies(manifest) {
        if PURE.contains(&name) && WORLDLY.contains(&dependency) {
            found.push(format!("crates/{name}: a pure crate may not use {dependency}"));
        }
        let Some(other) = dependency.strip_prefix("ottla-") else { continue };
        if row(other).is_none_or(|row| row >= own) {
            found.push(format!(
                "crates/{name}: may not use {dependency}, which does not stand above it"
            ));
        }
    }
    found
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

/// Names in the tables of dependencies, but for those of tests.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut counts = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            counts = (table == "dependencies" || table.ends_with(".dependencies"))
                || table == "build-dependencies";
        } else if counts && !line.starts_with('#') {
            names.extend(line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty()));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_crate_stays_pure_but_its_tests_need_not() {
        let manifest = "[dependencies]\nottla-protocol.workspace = true\ntokio = \"1\"\n\n\
                        [dev-dependencies]\nottla-env.workspace = true\n";
        assert_eq!(
            violations_of("replication", manifest),
            ["crates/replication: a pure crate may not use tokio"]
        );
    }

    #[test]
    fn nothing_reaches_down_or_sideways() {
        let manifest =
            "[dependencies]\nottla-server.workspace = true\nottla-client.workspace = true\n";
        assert_eq!(violations_of("storage", manifest).len(), 2);
        assert_eq!(violations_of("cli", manifest), [""; 0]);
    }
}
