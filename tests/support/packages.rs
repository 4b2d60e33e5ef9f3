//! Programs that tests need, from the distribution's packages where they are missing and may be installed.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The path of a program, if it is in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Installs packages, as root only; returns whether that worked.
pub fn install(packages: &[&str]) -> bool {
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    is_root() && apt(&["update"]) && apt(&[&["install", "-y", "--no-install-recommends"], packages].concat())
}

/// Unpacks packages of another release of the distribution below `folder`, without installing them: the system stays as
/// it is. Done once per folder; returns whether that worked.
pub fn unpack(release: &str, packages: &[&str], folder: &Path) -> bool {
    let lock = fs::File::create(folder.with_extension("lock")).and_then(|file| file.lock().map(|()| file));
    let (done, Ok(_lock)) = (folder.join("complete"), lock) else { return false };
    if done.is_file() {
        return true;
    }
    let _ = fs::remove_dir_all(folder);
    let inside = |name: &str| folder.join(name);
    for name in ["lists/partial", "cache/archives/partial", "downloads", "root"] {
        fs::create_dir_all(inside(name)).expect("a folder for packages");
    }
    let source = format!(
        "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {release}\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    );
    fs::write(inside("one.sources"), source).expect("a list of one source");
    let apt = |arguments: &[&str]| {
        let option = |name: &str, path: &Path| format!("-oDir::{name}={}", path.display());
        let mut command = Command::new("apt-get");
        command.arg(option("Etc::sourcelist", &inside("one.sources"))).arg("-oDir::Etc::sourceparts=/dev/null");
        command.arg(option("State::lists", &inside("lists"))).arg(option("Cache", &inside("cache")));
        // As the current user: apt's own user may not write here.
        command.arg("-oAPT::Sandbox::User=root").args(arguments).current_dir(inside("downloads"));
        command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !apt(&["update"]) || !apt(&[&["download"], packages].concat()) {
        return false;
    }
    let unpacked = fs::read_dir(inside("downloads")).expect("the downloads").flatten().all(|package| {
        let mut command = Command::new("dpkg-deb");
        command.arg("--extract").arg(package.path()).arg(inside("root"));
        command.status().is_ok_and(|status| status.success())
    });
    unpacked && fs::write(done, "").is_ok()
}

/// Makes sure that something is there.
fn ensure(what: &str, packages: &[&str], is_there: impl Fn() -> bool) {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock();
    let packages_named = packages.join(" ");
    assert!(
        is_there() || (install(packages) && is_there()),
        "these tests need {what}, and could not install it: the package is {packages_named}"
    );
}

/// Makes sure that a program is in `PATH`.
///
/// # Panics
/// If it is missing and cannot be installed; the message says what to do.
pub fn need(program: &str, package: &str) {
    ensure(program, &[package], || find(program).is_some());
}

/// Makes sure that there is a Python that can make environments.
///
/// # Panics
/// As [`need`].
pub fn need_python() {
    let complete = || {
        let mut command = Command::new("python3");
        command.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    ensure("python3 with venv", &["python3-venv"], complete);
}

/// Whether this process may install packages. The owner of our own process's directory is its effective user.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}
