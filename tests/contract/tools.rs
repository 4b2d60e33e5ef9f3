//! The tools of others that the document is held against: Python packages in an environment of their own, made once.

use crate::packages;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

/// Every package with its version, so that a run today and one in a year check the same.
const REQUIREMENTS: &str = include_str!("requirements.txt");

/// Where tools may write.
pub fn scratch() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contract");
    fs::create_dir_all(&folder).expect("a folder below target");
    folder
}

/// A tool of the environment.
pub fn tool(name: &str) -> Command {
    static BIN: LazyLock<PathBuf> = LazyLock::new(|| environment().join("bin"));
    let mut command = Command::new(BIN.join(name));
    command.current_dir(scratch()).env("PYTHONDONTWRITEBYTECODE", "1").env("NO_COLOR", "1").env("COLUMNS", "160");
    command
}

/// What a tool said.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The environment, made now if it is not there or is another one.
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

fn run(command: &mut Command, what: &str) {
    const NEEDS: &str = "the contract tests need Python 3.11 with venv, and a package index for their first run";
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("cannot {what} ({}): {NEEDS}\n{}", output.status, said(&output)),
        Err(error) => panic!("cannot {what}: {error}: {NEEDS}"),
    }
}
