//! The server under demonstration: a real child process of this very program.

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

/// The one line that a server prints on standard output begins with this.
const LISTENING: &str = "livedrop listening on http://";
/// Recovery and migrations included.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// From SIGTERM to exit.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// The port of a killed server may take a moment to be free.
const START_ATTEMPTS: u32 = 5;

/// How to start the server; the same for the first start and for the one after a crash.
#[derive(Debug, Clone)]
pub struct Launch {
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub database_url: Option<String>,
    /// Where its log goes: the terminal belongs to the display.
    pub log: PathBuf,
    /// A directory without a `livedrop.toml`.
    pub working_dir: PathBuf,
}

/// A running server. It is killed when this is dropped, so that no way out of the demo leaves one behind.
pub struct Server {
    child: Child,
    addr: SocketAddr,
    launch: Launch,
}

impl Launch {
    /// Starts a server on a port that is free now.
    ///
    /// # Errors
    /// [`DemoError::Server`] when it does not say within a minute where it listens.
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
        // What the user has set for their own server is not meant for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LIVEDROP_") {
                command.env_remove(name);
            }
        }
        command.arg("serve").arg("--bind").arg(bind.to_string()).arg("--data-dir").arg(&self.data_dir);
        match &self.database_url {
            // It may be a path relative to where the user is.
            Some(url) => command.arg("--database-url").arg(url),
            None => command.current_dir(&self.working_dir),
        };
        command
            // Thousands of registrations with the real thing take minutes of pure hashing.
            .env("LIVEDROP_PASSWORD_HASHING", "rehearsal")
            // The whole crowd comes from one address.
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

    /// What went wrong, and the server's last words if it had any.
    fn failed(&self, what: &str) -> DemoError {
        let last_words = log_tail(&self.log);
        DemoError::Server(format!("{what}\n{last_words}").trim_end().to_owned())
    }
}

impl Server {
    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns when the server exits although nobody asked it to.
    pub async fn died(&mut self) -> DemoError {
        let status = self.child.wait().await;
        self.launch.failed(&format!("the server died: {}", describe(status)))
    }

    /// `kill -9`, then a new server on the same port and data.
    ///
    /// # Errors
    /// [`DemoError::Server`] when it does not come back.
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

    /// SIGTERM, then waits for the end: `Ok` when it left with exit code 0, otherwise what happened.
    pub async fn stop(mut self) -> Result<(), String> {
        let pid = self.child.id().ok_or("it had exited before it was asked to")?;
        // The shell's own `kill`: neither std nor tokio can send a SIGTERM, and the crate forbids unsafe code.
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
    // Should it ever print more, it must not block on a full pipe or fail on a closed one.
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
            // A shell that is asked to run a script named `serve`, which is not there.
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
