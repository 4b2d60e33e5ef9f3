//! A throw-away Postgres for tests: a private directory, a random loopback port, no fsync unless it is asked for.
//!
//! The server's parent is a small shell that reads from a pipe which this process holds. When this process ends, however
//! it ends, the pipe closes, and the shell stops the server and removes its directory. So nothing is left behind by a
//! test that panics, is interrupted or is killed.
//!
//! Use it from another test binary with `#[path = "support/postgres.rs"] mod postgres;`, and `packages.rs` in the same way.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use crate::packages::{self, is_root};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::{
    fs,
    io::{self, Write},
    net::{Ipv4Addr, TcpListener},
    os::unix::{fs::PermissionsExt, fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Starts the server, waits for a word on the pipe, and kills the server like a crash. At the word `stop` the directory
/// stays; at the end of the pipe it is removed.
const WATCHDOG: &str = r#"
"$1" -D "$2/data" -p "$3" >"$2/log" 2>&1 &
server=$!
read -r word
kill -QUIT "$server" 2>/dev/null
wait "$server"
[ "$word" = stop ] || rm -rf "$2"
"#;

const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A Postgres server that belongs to this process.
pub struct PrivatePostgres {
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    owner: Option<(u32, u32)>,
    watchdog: Option<(Child, ChildStdin)>,
    databases: AtomicU32,
    frozen: bool,
}

impl PrivatePostgres {
    /// Makes a new server and starts it.
    pub fn new() -> Self {
        Self::with("fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n")
    }

    /// The same with durable commits, and memory settings as on a server of its own.
    pub fn durable() -> Self {
        Self::with("shared_buffers = 1GB\nwal_buffers = 64MB\n")
    }

    /// As [`PrivatePostgres::new`], with settings, access rules before the usual ones, and files beside the
    /// configuration.
    pub fn customised(settings: &str, access: &str, files: &[(&str, &str)]) -> Self {
        let usual = "fsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";
        Self::made_of(&format!("{usual}{settings}\n"), access, files)
    }

    fn with(settings: &str) -> Self {
        Self::made_of(settings, "", &[])
    }

    fn made_of(settings: &str, access: &str, files: &[(&str, &str)]) -> Self {
        let binaries = binaries();
        let owner = is_root().then(unprivileged_user);
        let directory = private_directory(owner);
        let mut server =
            Self { binaries, directory, port: 0, owner, watchdog: None, databases: AtomicU32::new(0), frozen: false };
        server.initialise(settings);
        server.place(access, files);
        // Another process may take the port between its choice and its use.
        let started = (0..5).any(|_| {
            server.port = free_port();
            server.try_start()
        });
        assert!(started, "postgres did not start:\n{}", server.log());
        server
    }

    fn initialise(&self, settings: &str) {
        let mut command = self.command(&self.binaries.join("initdb"));
        command.arg("-D").arg(self.directory.join("data"));
        command.args(["-U", "livedrop", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        let output = command.output().expect("initdb runs");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        let always =
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 300\nmax_wal_size = 4GB\n";
        let file = self.directory.join("data/postgresql.conf");
        let mut file = fs::OpenOptions::new().append(true).open(file).expect("initdb wrote a configuration");
        file.write_all([always, settings].concat().as_bytes()).expect("the configuration can be extended");
    }

    fn place(&self, access: &str, files: &[(&str, &str)]) {
        let rules = self.directory.join("data/pg_hba.conf");
        let usual = fs::read_to_string(&rules).expect("initdb wrote rules");
        fs::write(&rules, format!("{access}\n{usual}")).expect("rules are written");
        for (name, text) in files {
            let file = self.directory.join("data").join(name);
            fs::write(&file, text).expect("a file is written");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("permissions can be set");
            if let Some((user, group)) = self.owner {
                chown(&file, Some(user), Some(group)).expect("root can give a file away");
            }
        }
    }

    /// The server's port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs statements as the database's owner.
    pub async fn run(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.expect("postgres answers");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.expect("the statements");
        connection.close().await.expect("the connection closes");
    }

    /// A command that runs as the server's user, in a directory which that user may enter.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env("TZ", "UTC");
        if let Some((user, group)) = self.owner {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts the server again after [`PrivatePostgres::stop`], on the same port.
    pub fn start(&mut self) {
        assert!(self.try_start(), "postgres did not start again:\n{}", self.log());
    }

    fn try_start(&mut self) -> bool {
        // Lines of an earlier run must not count for this one.
        let _ = fs::remove_file(self.directory.join("log"));
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", WATCHDOG, "watchdog"]).arg(self.binaries.join("postgres"));
        command.arg(&self.directory).arg(self.port.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its own process group, so that a Ctrl-C reaches it by the pipe and the directory is removed.
        let mut child = command.process_group(0).spawn().expect("/bin/sh runs");
        let pipe = child.stdin.take().expect("stdin is a pipe");
        self.watchdog = Some((child, pipe));
        if self.wait_until_ready() {
            return true;
        }
        self.stop();
        false
    }

    #[allow(clippy::disallowed_methods, reason = "a test waits for its server: nobody else is on its thread")]
    fn wait_until_ready(&self) -> bool {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            let log = self.log();
            if log.contains("database system is ready to accept connections") {
                return true;
            }
            // During recovery a client is refused with a FATAL of its own, which does not count.
            let died = |line: &str| line.contains("FATAL") && !line.contains("the database system is");
            if log.lines().any(died) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Kills the server as a crash would: connections break, nothing is shut down. The data stays.
    pub fn stop(&mut self) {
        if let Some((mut child, mut pipe)) = self.watchdog.take() {
            // The pipe is broken if the watchdog is gone already; then there is nothing to stop.
            let _ = pipe.write_all(b"stop\n");
            drop(pipe);
            child.wait().expect("the watchdog can be waited for");
        }
    }

    /// Stops every process of the server with a signal: connections stay open, and nothing is answered.
    pub fn freeze(&mut self) {
        self.frozen = true;
        self.signal_all("-STOP");
    }

    /// Continues a frozen server.
    pub fn thaw(&mut self) {
        if std::mem::take(&mut self.frozen) {
            self.signal_all("-CONT");
        }
    }

    fn signal_all(&self, signal: &str) {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).expect("a running server");
        let parent = file.lines().next().expect("its process").to_owned();
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("its children");
        let all = children.split_whitespace().chain([parent.as_str()]);
        // Some processes may have ended meanwhile.
        let _ = Command::new("kill").arg(signal).args(all).stderr(Stdio::null()).status().expect("the kill command");
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://livedrop@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and returns its URL.
    pub async fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.url("postgres")).await.expect("postgres answers");
        let sql = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(sql).execute(&mut connection).await.expect("a database can be made");
        connection.close().await.expect("the connection closes");
        self.url(&name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.thaw();
        match self.watchdog.take() {
            Some((mut child, pipe)) => {
                drop(pipe);
                let _ = child.wait();
            }
            None => _ = fs::remove_dir_all(&self.directory),
        }
    }
}

/// A fresh database in the one server that all tests of this process share.
pub async fn fresh_database() -> String {
    // Never dropped: the watchdog stops it when the process ends.
    static SHARED: OnceLock<PrivatePostgres> = OnceLock::new();
    SHARED.get_or_init(PrivatePostgres::new).fresh_database().await
}

/// The path of one of Postgres' own programs, such as `pg_dump`.
pub fn program(name: &str) -> PathBuf {
    let beside = binaries();
    // Beside the server, or beside the target of its symbolic link.
    let meant = fs::canonicalize(beside.join("postgres")).ok().and_then(|path| path.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        [beside].into_iter().chain(meant).chain(std::env::split_paths(&path)).map(|place| place.join(name));
    places.find(|path| path.is_file()).unwrap_or_else(|| panic!("these tests need {name}, which comes with Postgres"))
}

/// Postgres refuses to run as root: `postgres` if that user exists, `nobody` otherwise.
pub fn unprivileged_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody")).expect("a user `postgres` or `nobody` to run postgres as")
}

pub fn private_directory(owner: Option<(u32, u32)>) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::temp_dir();
    loop {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("livedrop-postgres-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).expect("permissions can be set");
                if let Some((user, group)) = owner {
                    chown(&path, Some(user), Some(group)).expect("root can give a directory away");
                }
                return path;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{} cannot be made: {error}", path.display()),
        }
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("it has an address").port()
}

/// The directory with `initdb` and `postgres`; installs them where this process may.
fn binaries() -> PathBuf {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one_at_a_time = INSTALLING.lock();
    if let Some(found) = find_binaries() {
        return found;
    }
    if let Some(found) = packages::install(&["postgresql"]).then(find_binaries).flatten() {
        return found;
    }
    panic!("these tests need Postgres: install the package `postgresql`, or put `initdb` and `postgres` into PATH");
}

fn find_binaries() -> Option<PathBuf> {
    let complete = |path: &PathBuf| ["initdb", "postgres"].iter().all(|name| path.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut installed: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    // The newest first.
    installed.sort_by_key(|path| {
        let version = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    std::env::split_paths(&path).chain(installed).find(complete)
}
