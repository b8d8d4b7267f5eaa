//! Files that are short, and named after what they hold.

use std::path::Path;

use anyhow::{Context, Result};

use super::files;

/// Without tests.
const MAX_LINES: usize = 700;
/// With them.
const MAX_LINES_IN_ALL: usize = 1_000;
/// Names that say nothing.
const BANNED: [&str; 6] = ["common", "util", "utils", "helpers", "misc", "types"];

pub(super) fn violations(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask", "fuzz"] {
        for path in files(&root.join(folder))? {
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            let name = path.strip_prefix(root)?.display().to_string();
            let text = std::fs::read_to_string(&path).with_context(|| name.clone())?;
            found.extend(violations_of(&name, &text));
        }
    }
    Ok(found)
}

fn violations_of(path: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let words: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if words.last() == Some(&"mod") {
        found.push(format!("{path}: write `foo.rs` beside `foo/`, never `mod.rs`"));
    }
    if let Some(word) = words.iter().find(|word| BANNED.contains(word)) {
        found.push(format!("{path}: `{word}` says nothing; name it after what it holds"));
    }
    let lines = text.lines().count();
    if lines > MAX_LINES_IN_ALL {
        found.push(format!("{path}: {lines} lines, of {MAX_LINES_IN_ALL} with tests"));
    }
    let code = if is_test(&words) { 0 } else { lines_before_tests(text) };
    if code > MAX_LINES {
        found.push(format!("{path}: {code} lines, of {MAX_LINES} without tests"));
    }
    found
}

fn is_test(words: &[&str]) -> bool {
    words.iter().any(|word| *word == "tests" || word.ends_with("_tests"))
}

fn lines_before_tests(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod "))
        .unwrap_or(lines.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_do_not_count_up_to_a_point() {
        let code = "fn f() {}\n".repeat(700);
        let with_tests = |lines: usize| {
            format!("{code}#[cfg(test)]\nmod tests {{\n{}}}\n", "// …\n".repeat(lines))
        };
        assert_eq!(violations_of("crates/a/src/log.rs", &with_tests(200)), [""; 0]);
        assert_eq!(violations_of("crates/a/src/log.rs", &with_tests(400)).len(), 1);
        assert_eq!(violations_of("crates/a/src/log.rs", &format!("{code}fn g() {{}}\n")).len(), 1);
    }

    #[test]
    fn names_say_something() {
        assert_eq!(violations_of("crates/a/src/utils.rs", "").len(), 1);
        assert_eq!(violations_of("crates/a/src/log/mod.rs", "").len(), 1);
        assert_eq!(violations_of("crates/a/src/log/segment.rs", ""), [""; 0]);
    }
}
