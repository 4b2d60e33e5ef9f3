//! Third-party tools that check the document: packages of Python and Node in environments of their own, made once.

use crate::packages;
use serde_json::Value;
use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

/// Every package with its version, so that a later run checks the same.
const REQUIREMENTS: &str = include_str!("requirements.txt");
/// Node's packages: the requested ones, and every package with its version and digest.
const NODE_PACKAGES: [(&str, &str); 2] =
    [("package.json", include_str!("package.json")), ("package-lock.json", include_str!("package-lock.json"))];

/// The folder where tools may write.
pub fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contract");
    fs::create_dir_all(&folder).expect("a folder below target");
    folder
}

/// Writes a document to a file for the tools. Each test uses a `name` of its own, since tests run concurrently.
pub fn written(name: &str, document: &Value) -> PathBuf {
    let file = scratch().join(name);
    fs::write(&file, document.to_string()).expect("a file");
    file
}

/// A command of a Python tool.
pub fn tool(name: &str) -> Command {
    static BIN: LazyLock<PathBuf> = LazyLock::new(|| environment().join("bin"));
    let mut command = command(&BIN, name);
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// A command of a Node tool.
pub fn node_tool(name: &str) -> Command {
    static BIN: LazyLock<PathBuf> = LazyLock::new(|| node_packages().join("node_modules/.bin"));
    let mut command = command(&BIN, name);
    command.env("REDOCLY_TELEMETRY", "off").env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
    command
}

/// A program in `folder`, with that folder in its `PATH`.
fn command(folder: &Path, name: &str) -> Command {
    let others = env::var_os("PATH").unwrap_or_default();
    let path: OsString =
        env::join_paths([folder.to_owned()].into_iter().chain(env::split_paths(&others))).expect("a path");
    let mut command = Command::new(folder.join(name));
    command.current_dir(scratch()).env("PATH", path).env("NO_COLOR", "1").env("COLUMNS", "160");
    command
}

/// A tool's stdout and stderr.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The Python environment; made now if it is missing or outdated.
fn environment() -> PathBuf {
    let folder = scratch().join("venv");
    let lock = File::create(scratch().join("venv.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|text| text == REQUIREMENTS) {
        return folder;
    }
    packages::need_python();
    let _ = fs::remove_dir_all(&folder);
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder), "make a Python environment");
    let list = scratch().join("requirements.txt");
    fs::write(&list, REQUIREMENTS).expect("a list of packages");
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"])
        .arg(list);
    run(&mut pip, "install tests/contract/requirements.txt");
    fs::write(&installed, REQUIREMENTS).expect("a note of what is installed");
    folder
}

/// The folder of Node's packages; made now if it is missing or outdated.
fn node_packages() -> PathBuf {
    let folder = scratch().join("node");
    let lock = File::create(scratch().join("node.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let installed = folder.join("installed.json");
    let wanted = NODE_PACKAGES[1].1;
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return folder;
    }
    packages::need("node", "nodejs");
    packages::need("npm", "npm");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder below target");
    for (name, text) in NODE_PACKAGES {
        fs::write(folder.join(name), text).expect("a list of packages");
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(&folder);
    run(&mut npm, "install tests/contract/package-lock.json");
    fs::write(&installed, wanted).expect("a note of what is installed");
    folder
}

fn run(command: &mut Command, what: &str) {
    const NEEDS: &str =
        "the contract tests need Python 3.11 with venv, Node 20 with npm, and package indexes for their first run";
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("cannot {what} ({}): {NEEDS}\n{}", output.status, said(&output)),
        Err(error) => panic!("cannot {what}: {error}: {NEEDS}"),
    }
}
