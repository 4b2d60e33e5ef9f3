//! The demo's server: a child process of this program.

use super::DemoError;
use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time,
};

/// The beginning of the single line that a server prints on standard output.
const LISTENING: &str = "livedrop listening on http://";
/// Time limit of a start, recovery and migrations included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time limit from SIGTERM to exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Starts after a crash: the port of a killed server may take a moment to be free.
const START_ATTEMPTS: u32 = 5;

/// The parameters of a start; the same for the first one and for the one after a crash.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub database_url: Option<String>,
    /// The file for its log: the terminal belongs to the display.
    pub log: PathBuf,
    /// A directory without a `livedrop.toml`.
    pub working_dir: PathBuf,
}

/// A running server. It is killed on drop, so that no exit of the demo leaves one behind.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    launch: Launch,
}

impl Launch {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// [`DemoError::Server`] if it does not print its address within a minute.
    pub async fn start(&self) -> Result<Server, DemoError> {
        self.start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    async fn start_at(&self, bind: SocketAddr) -> Result<Server, DemoError> {
        let mut child = self.spawn(bind)?;
        let stdout = child.stdout.take().expect("standard output is piped");
        let addr = match time::timeout(START_TIMEOUT, read_address(stdout)).await {
            Ok(Ok(addr)) => addr,
            Ok(Err(why)) => return Err(self.failed(&format!("the server did not start: {why}"))),
            Err(_) => return Err(self.failed(&format!("the server did not start within {START_TIMEOUT:?}"))),
        };
        Ok(Server { child, addr, launch: self.clone() })
    }

    fn spawn(&self, bind: SocketAddr) -> Result<Child, DemoError> {
        let io = |what: &'static str| move |source| DemoError::Io { what, source };
        let log = File::options().create(true).append(true).open(&self.log).map_err(io("open the server's log"))?;
        let mut command = Command::new(&self.program);
        // The user's own settings are not meant for this server.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LIVEDROP_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").arg("--bind").arg(bind.to_string()).arg("--data-dir").arg(&self.data_dir);
        match &self.database_url {
            // The URL may contain a path relative to the user's directory.
            Some(url) => command.arg("--database-url").arg(url),
            None => command.current_dir(&self.working_dir),
        };
        command
            // Thousands of registrations with the safe setting take minutes of pure hashing.
            .env("LIVEDROP_PASSWORD_HASHING", "rehearsal")
            // The whole crowd has one address.
            .env("LIVEDROP_RATE_LIMITS", "off")
            .env("LIVEDROP_LOG", "warn")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(io("start the server"))
    }

    /// An error with the end of the server's log, if there is one.
    fn failed(&self, what: &str) -> DemoError {
        let last_words = log_tail(&self.log);
        DemoError::Server(format!("{what}\n{last_words}").trim_end().to_owned())
    }
}

impl Server {
    /// The address that the server listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns when the server exits by itself.
    pub async fn died(&mut self) -> DemoError {
        let status = self.child.wait().await;
        self.launch.failed(&format!("the server died: {}", describe(status)))
    }

    /// Kills the server with `kill -9`, then starts a new one on the same port and data.
    ///
    /// # Errors
    /// [`DemoError::Server`] if it does not start.
    pub async fn crash_and_restart(&mut self) -> Result<(), DemoError> {
        self.child.kill().await.map_err(|source| DemoError::Io { what: "kill the server", source })?;
        for _ in 1..START_ATTEMPTS {
            if let Ok(again) = self.launch.start_at(self.addr).await {
                *self = again;
                return Ok(());
            }
            time::sleep(Duration::from_millis(100)).await;
        }
        *self = self.launch.start_at(self.addr).await?;
        Ok(())
    }

    /// Sends SIGTERM, then waits for the end: `Ok` if the exit code is 0, else the reason.
    pub async fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().ok_or("it had exited before it was asked to")?;
        // By the shell's `kill`: neither std nor tokio can send a SIGTERM, and the crate forbids unsafe code.
        let kill = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &pid.to_string()]).status().await;
        if !kill.is_ok_and(|status| status.success()) {
            return Err(format!("SIGTERM could not be sent to process {pid}"));
        }
        match time::timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(describe(status)),
            Err(_) => Err(format!("it was still running {STOP_TIMEOUT:?} after SIGTERM")),
        }
    }
}

async fn read_address(stdout: ChildStdout) -> Result<SocketAddr, String> {
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await.map_err(|why| why.to_string())?;
    let line = line.ok_or("it exited")?;
    // Further output must neither block on a full pipe nor fail on a closed one.
    tokio::spawn(async move {
        let mut rest = lines.into_inner();
        let mut scratch = [0; 4096];
        while matches!(rest.read(&mut scratch).await, Ok(1..)) {}
    });
    listening_address(&line).ok_or_else(|| format!("it said {line:?}"))
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    line.strip_prefix(LISTENING)?.trim_end().trim_end_matches('/').parse().ok()
}

fn describe(status: std::io::Result<ExitStatus>) -> String {
    status.map_or_else(|why| why.to_string(), |status| status.to_string())
}

/// The last lines of the server's log, if there are any.
fn log_tail(log: &std::path::Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_line_names_its_address() {
        let expected = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 40123)));
        assert_eq!(listening_address("livedrop listening on http://127.0.0.1:40123"), expected);
        assert_eq!(listening_address("livedrop listening on http://127.0.0.1:40123/\r"), expected);
        assert_eq!(listening_address("listening"), None);
        assert_eq!(listening_address("livedrop listening on http://nowhere"), None);
    }

    #[tokio::test]
    async fn a_program_that_is_no_server_is_an_error_with_its_last_words() {
        let dir = tempfile::tempdir().unwrap();
        let launch = Launch {
            // A shell that should run a script named `serve`, which does not exist.
            program: "/bin/sh".into(),
            data_dir: dir.path().join("data"),
            database_url: None,
            log: dir.path().join("server.log"),
            working_dir: dir.path().to_owned(),
        };
        let error = launch.start().await.err().expect("it exits at once").to_string();
        assert!(error.contains("it exited") && error.contains("serve"), "{error}");
    }
}
