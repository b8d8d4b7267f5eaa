//! Documents name files that exist, and decisions are numbered without a gap.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::files;

const DOCUMENTS: [&str; 12] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "compat/README.md",
    "docs/cli.md",
    "docs/client-telemetry.md",
    "docs/durability.md",
    "docs/operations.md",
    "docs/quickstart.md",
    "docs/quotas.md",
    "docs/storage-format.md",
    "fuzz/README.md",
];
const DECISIONS: &str = "docs/adr";

pub(super) fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let decisions = decisions(root, &mut found)?;
    for name in DOCUMENTS {
        let path = root.join(name);
        let Ok(text) = std::fs::read_to_string(&path) else {
            found.push(format!("{name}: is missing"));
            continue;
        };
        let beside = path.parent().context("a document lies in a folder")?;
        for (number, line) in text.lines().enumerate() {
            for named in paths(line) {
                if !root.join(named).exists() && !beside.join(named).exists() {
                    found.push(format!("{name}:{}: there is no {named}", number + 1));
                }
            }
        }
    }
    for path in cited_from(root)? {
        let text = std::fs::read_to_string(&path)?;
        for number in cited_decisions(&text) {
            if !decisions.contains(&number) {
                let name = path.strip_prefix(root)?.display();
                found.push(format!("{name}: there is no decision {number:04}"));
            }
        }
    }
    Ok(found)
}

/// Code and manifests give decisions as reasons.
fn cited_from(root: &Path) -> Result<Vec<std::path::PathBuf>> {
    let mut all = vec![root.join("Cargo.toml")];
    for folder in ["crates", "docs"] {
        all.extend(files(&root.join(folder))?);
    }
    all.retain(|path| {
        path.extension()
            .is_some_and(|extension| matches!(extension.to_str(), Some("rs" | "md" | "toml")))
    });
    Ok(all)
}

fn decisions(root: &Path, found: &mut Vec<String>) -> Result<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for path in files(&root.join(DECISIONS))? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.split_once('-').and_then(|(digits, title)| {
            let whole = digits.len() == 4 && title.ends_with(".md");
            digits.parse::<u32>().ok().filter(|_| whole)
        });
        match number {
            None => found.push(format!("{DECISIONS}/{name}: is not called NNNN-title.md")),
            Some(number) if !numbers.insert(number) => {
                found.push(format!("{DECISIONS}/{name}: its number is taken"));
            }
            Some(_) => {}
        }
    }
    for (expected, number) in (1..).zip(&numbers) {
        if *number != expected {
            found.push(format!("{DECISIONS}: {expected:04} is missing before {number:04}"));
            break;
        }
    }
    Ok(numbers)
}

/// What looks like a path of ours: in backticks or as a link's target, with a slash or a known ending.
fn paths(line: &str) -> impl Iterator<Item = &str> {
    let quoted = line.split('`').skip(1).step_by(2);
    let linked = line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    quoted.chain(linked).map(|path| path.trim_end_matches('/')).filter(|path| {
        let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        let ours = ["crates/", "docs/", "xtask/", "compat/", "fuzz/", "bench/", ".ci/"]
            .iter()
            .any(|folder| path.starts_with(folder));
        let known = [".md", ".rs", ".toml"].iter().any(|ending| path.ends_with(ending));
        plain && !path.is_empty() && (ours || (known && !path.starts_with('.')))
    })
}

/// Numbers in `docs/adr/NNNN`.
fn cited_decisions(text: &str) -> Vec<u32> {
    text.split("docs/adr/").skip(1).filter_map(|rest| rest.get(..4)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_paths_that_a_line_names() {
        let line = "See `crates/storage/src/log.rs`, [the plan](docs/plan.md#now) and `cargo xtask test`, `a/b {c}`.";
        assert_eq!(paths(line).collect::<Vec<_>>(), ["crates/storage/src/log.rs", "docs/plan.md"]);
    }

    #[test]
    fn finds_the_decisions_that_a_comment_cites() {
        assert_eq!(cited_decisions("(docs/adr/0002) and docs/adr/NNNN-title.md"), [2]);
    }
}
