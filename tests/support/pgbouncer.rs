//! A real PgBouncer for tests, 1.21 or newer: the installed one, or Debian's from a later release, unpacked and not
//! installed.
//!
//! Like a private Postgres, it ends with this process: its shell waits for the end of a pipe.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use crate::packages::{self, is_root};
use crate::postgres::{PrivatePostgres, free_port, private_directory, unprivileged_user};
use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

/// The first release that supports named statements across sessions.
const OLDEST: (u32, u32) = (1, 21);
/// This Debian release has PgBouncer 1.24.
const RELEASE: &str = "trixie";
/// PgBouncer and every library that it is linked with, the loader's own included.
const PACKAGES: [&str; 12] = [
    "pgbouncer",
    "libc6",
    "libcares2",
    "libevent-2.1-7t64",
    "libpam0g",
    "libssl3t64",
    "libsystemd0",
    "libcap2",
    "libaudit1",
    "libcap-ng0",
    "libzstd1",
    "zlib1g",
];
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Runs the given command, and kills it when the pipe ends.
const WATCHDOG: &str = r#"
folder=$1; shift
"$@" >"$folder/said" 2>&1 &
pooler=$!
read -r word
kill -KILL "$pooler" 2>/dev/null
wait "$pooler"
rm -rf "$folder"
"#;

/// A pooler in front of one server.
pub struct Pooler {
    port: u16,
    folder: PathBuf,
    watchdog: Option<(Child, ChildStdin)>,
}

impl Pooler {
    /// A pooler in transaction mode with this many connections to the server, and further settings.
    pub fn of_transactions(server: &PrivatePostgres, connections: u32, settings: &str) -> Self {
        let owner = is_root().then(unprivileged_user);
        let folder = private_directory(owner);
        let port = free_port();
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=livedrop\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 200\ndefault_pool_size = {connections}\n\
             logfile = {}\n{settings}\n",
            server.port(),
            folder.join("log").display(),
        );
        let file = folder.join("pgbouncer.ini");
        fs::write(&file, configuration).expect("a configuration is written");
        if let Some((user, group)) = owner {
            chown(&file, Some(user), Some(group)).expect("root can give a file away");
        }
        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHDOG, "watchdog"]).arg(&folder).args(program(&folder)).arg(&file);
        command.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        if let Some((user, group)) = owner {
            command.uid(user).gid(group);
        }
        let mut child = command.spawn().expect("/bin/sh runs");
        let pipe = child.stdin.take().expect("stdin is a pipe");
        let pooler = Self { port, folder, watchdog: Some((child, pipe)) };
        pooler.wait_until_it_listens();
        pooler
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits for its pooler: nobody else is on its thread")]
    fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + START_TIMEOUT;
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let said = |name: &str| fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            assert!(Instant::now() < deadline, "pgbouncer does not listen:\n{}\n{}", said("said"), said("log"));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The URL of a database behind the pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://livedrop@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Some((mut child, pipe)) = self.watchdog.take() {
            drop(pipe);
            let _ = child.wait();
        }
    }
}

/// The command to run. `folder` is the pooler's own: its user may read there.
fn program(folder: &Path) -> Vec<PathBuf> {
    let installed = packages::find("pgbouncer").or_else(|| Some(PathBuf::from("/usr/sbin/pgbouncer")));
    if let Some(program) = installed.filter(|program| is_new_enough(program)) {
        return vec![program];
    }
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pgbouncer");
    assert!(
        packages::unpack(RELEASE, &PACKAGES, &unpacked),
        "these tests need PgBouncer {}.{} or newer: put it into PATH, or let apt-get reach Debian's packages",
        OLDEST.0,
        OLDEST.1,
    );
    let root = unpacked.join("root");
    let mut command = vec![folder.join("ld.so"), "--library-path".into(), folder.to_owned()];
    fs::copy(root.join(LIBRARIES).join("ld-linux-x86-64.so.2"), folder.join("ld.so")).expect("its loader");
    fs::copy(root.join("usr/sbin/pgbouncer"), folder.join("pgbouncer")).expect("its program");
    for library in fs::read_dir(root.join(LIBRARIES)).expect("its libraries").flatten() {
        if library.path().is_file() {
            fs::copy(library.path(), folder.join(library.file_name())).expect("a library");
        }
    }
    command.push(folder.join("pgbouncer"));
    command
}

fn is_new_enough(program: &Path) -> bool {
    let Ok(output) = Command::new(program).arg("--version").output() else { return false };
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = told.split_whitespace().nth(1).unwrap_or_default().split('.').map_while(|part| part.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(OLDEST.0), Some(OLDEST.1))
}
