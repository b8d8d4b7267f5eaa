//! What no compiler checks: which crate may use which, how long files are, what things are called, whether documents
//! still tell the truth.

mod crate_graph;
mod documents;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tally::Tally;

pub(crate) fn check(tally: &mut Tally) -> Result<()> {
    let root = crate::root();
    let checks = [
        ("crate graph", crate_graph::violations(&root)?),
        ("sources", sources::violations(&root)?),
        ("documents", documents::violations(&root)?),
    ];
    for (name, found) in checks {
        for violation in &found {
            println!("  {violation}");
        }
        tally.record(&format!("tidy: {name}"), found.is_empty(), &format!("{} found", found.len()));
    }
    Ok(())
}

/// All files below a folder, sorted, without what is built or fetched. A folder that is not there holds none.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !matches!(name, "target" | ".git" | "corpus" | "artifacts") {
            found.extend(files(&path)?);
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
