//! Stripe's own `stripe-mock`, built from the Go module proxy: it checks the shape of each call by the API's description.

use crate::packages;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The version, so that a later run checks the same. Its description of the API is the version that the client pins.
const MODULE: &str = "github.com/stripe/stripe-mock@v0.203.0";

/// A running stripe-mock.
pub struct StripeMock {
    child: Child,
    pub base: String,
}

impl StripeMock {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// If it cannot be built or started.
    pub fn start() -> Self {
        let mut command = Command::new(program());
        command
            .args(["-http-addr", "127.0.0.1:0", "-strict-version-check"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("stripe-mock to start");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let address = lines.find_map(|line| {
            let line = line.ok()?;
            Some(line.split_once("Listening for HTTP at address: ")?.1.to_owned())
        });
        let base = format!("http://{}", address.expect("its address"));
        // Its output is read to the end, so that it never waits.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, base }
    }
}

impl Drop for StripeMock {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The built program.
fn program() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stripe-mock");
    std::fs::create_dir_all(&folder).expect("a folder below target");
    let lock = File::create(folder.join("lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let (program, known) = (folder.join("stripe-mock"), folder.join("version"));
    if program.is_file() && std::fs::read_to_string(&known).is_ok_and(|version| version == MODULE) {
        return program;
    }
    packages::need("go", "golang-go");
    let built = Command::new("go").args(["install", MODULE]).env("GOBIN", &folder).env("GOFLAGS", "-mod=mod").status();
    assert!(built.is_ok_and(|status| status.success()), "go install {MODULE}: it needs Go and the Go module proxy");
    std::fs::write(known, MODULE).expect("a note of what is built");
    program
}
