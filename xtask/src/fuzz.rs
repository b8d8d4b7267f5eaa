//! Fuzz targets with the stable compiler, as `fuzz/README.md` describes: coverage by LLVM's own pass, nothing to install.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::tally::Tally;

/// Their own, so that build scripts are built without the flags below.
const TRIPLE: &str = "x86_64-unknown-linux-gnu";
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=4 \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";
pub(crate) const SECONDS: u32 = 60;

/// Runs one target, or each in turn for so many seconds.
pub(crate) fn run(tally: &mut Tally, target: Option<&str>, seconds: u32) -> Result<()> {
    let folder = crate::root().join("fuzz");
    let known = targets(&folder)?;
    let chosen: Vec<&String> =
        known.iter().filter(|name| target.is_none_or(|wanted| *name == wanted)).collect();
    if chosen.is_empty() {
        bail!("no such target; there are {}", known.join(", "));
    }
    let seeded = Command::new("cargo")
        .args(["run", "--quiet", "--bin", "seeds"])
        .current_dir(&folder)
        .status()?;
    ensure!(seeded.success(), "the corpus could not be written");
    let built = Command::new("cargo")
        .args(["build", "--release", "--target", TRIPLE])
        // Not the program that writes the seeds: it does not link what the coverage calls.
        .args(known.iter().flat_map(|name| ["--bin", name]))
        .env("RUSTFLAGS", FLAGS)
        .current_dir(&folder)
        .status()?;
    ensure!(built.success(), "the targets do not build");
    std::fs::create_dir_all(folder.join("artifacts"))?;
    for name in chosen {
        // A target without seeds begins with nothing.
        std::fs::create_dir_all(folder.join("corpus").join(name))?;
        let status = Command::new(folder.join("target").join(TRIPLE).join("release").join(name))
            .arg(format!("corpus/{name}"))
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix=artifacts/{name}-"))
            .args(["-max_len=8192", "-rss_limit_mb=1024", "-timeout=5", "-print_final_stats=1"])
            .current_dir(&folder)
            .status()?;
        tally.record(&format!("fuzz {name}"), status.success(), "see fuzz/artifacts");
    }
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder.join("fuzz_targets")).context("fuzz/fuzz_targets")? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}
