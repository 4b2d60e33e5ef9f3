//! Common to all commands: exit codes, reports as JSON, and the terminal.

pub mod text;

use serde::Serialize;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A promise was broken, or the journal and the database differ. A server exits with it for every failure after its
/// start.
pub const EXIT_BROKEN: u8 = 1;
/// The command was invalid, or could not do its work: there is no result.
pub const EXIT_UNABLE: u8 = 2;
/// Interrupted by Ctrl-C or SIGTERM: 128 + SIGINT, as in shells.
pub const EXIT_INTERRUPTED: u8 = 130;

/// `--json`, the same for every command that ends with a report.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonReport {
    /// Write the report as JSON to this file; alone, or as -, to standard output, which then carries nothing else
    #[arg(long = "json", value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    pub target: Option<PathBuf>,
}

impl JsonReport {
    /// Whether standard output carries only the JSON.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        self.target.as_deref() == Some(Path::new("-"))
    }

    /// Writes the report to its target, and `text` to standard output unless the JSON goes there.
    ///
    /// # Errors
    /// One line that names the file. A closed standard output is no error.
    pub fn deliver(&self, report: &impl Serialize, text: &str) -> Result<(), String> {
        let json = || serde_json::to_string_pretty(report).expect("a report of plain fields") + "\n";
        if self.is_stdout() {
            print(&json());
            return Ok(());
        }
        print(text);
        match &self.target {
            Some(path) => write_file(path, &json()),
            None => Ok(()),
        }
    }
}

/// Writes a file that the user named.
///
/// # Errors
/// One line that names the file.
pub fn write_file(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Writes to standard output. `print!` would panic if its reader has gone.
pub fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Whether the terminal supports escape sequences: not with `TERM=dumb` or without `TERM`.
#[must_use]
pub fn understands_escapes() -> bool {
    std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

/// The width of the terminal on standard error, if it is one.
#[must_use]
pub fn stderr_columns() -> Option<usize> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(stderr).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Interval of progress reports: each second to a person, seldom to a log.
#[must_use]
pub fn progress_interval() -> Duration {
    Duration::from_secs(if io::stderr().is_terminal() { 1 } else { 10 })
}

/// Cuts a line to `columns` visible characters. Escape sequences (`ESC [ … m`) have no width and are kept, so that
/// colours end.
#[must_use]
pub fn fit(line: &str, columns: usize) -> String {
    let (mut text, mut visible, mut in_escape) = (String::with_capacity(line.len()), 0, false);
    for character in line.chars() {
        if character == '\x1b' {
            in_escape = true;
        }
        if in_escape {
            text.push(character);
            in_escape = character != 'm';
        } else if visible < columns {
            text.push(character);
            visible += 1;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        json: JsonReport,
    }

    #[test]
    fn a_report_goes_to_a_file_or_to_standard_output() {
        let parsed = |line: &[&str]| Cli::parse_from([&["x"], line].concat()).json;
        assert_eq!(parsed(&[]).target, None);
        assert!(parsed(&["--json"]).is_stdout() && parsed(&["--json", "-"]).is_stdout());
        assert_eq!(parsed(&["--json", "report.json"]).target, Some(PathBuf::from("report.json")));
        let directory = tempfile::tempdir().unwrap();
        let file = JsonReport { target: Some(directory.path().join("report.json")) };
        file.deliver(&[1, 2], "").unwrap();
        assert_eq!(fs::read_to_string(directory.path().join("report.json")).unwrap(), "[\n  1,\n  2\n]\n");
        let nowhere = JsonReport { target: Some(directory.path().join("no/report.json")) };
        assert!(nowhere.deliver(&[1], "").unwrap_err().contains("report.json"));
    }

    #[test]
    fn a_line_is_cut_by_what_can_be_seen_of_it() {
        assert_eq!(fit("one two", 3), "one");
        assert_eq!(fit("\x1b[1mbold\x1b[0m and more", 6), "\x1b[1mbold\x1b[0m a");
        assert_eq!(fit("\x1b[2m███\x1b[0m", 2), "\x1b[2m██\x1b[0m");
        assert_eq!(fit("", 0), "");
    }
}
