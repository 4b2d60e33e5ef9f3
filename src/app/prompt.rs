//! Reads a new password: twice and without echo from a terminal, else the first line of the input.

use crate::domain::limits::PASSWORD_CHARS_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead, IsTerminal, Read, Stdin, Write};

/// Bytes read of a line: more than the longest password has.
const LINE_BYTES_MAX: u64 = 4 * PASSWORD_CHARS_MAX as u64 + 2;

/// Why no password was read.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// The input ended before the first line did.
    #[error("no password: it is the first line of standard input")]
    Missing,
    /// The line is too long, or not UTF-8 text.
    #[error("the password must be one line of at most {PASSWORD_CHARS_MAX} characters, in UTF-8")]
    NoText,
    /// The second input differs from the first.
    #[error("the two passwords differ")]
    Different,
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The terminal could not be read.
    #[error("cannot read the password: {0}")]
    Io(#[from] io::Error),
}

/// Asks for the new password.
///
/// # Errors
/// [`PromptError`]. After [`PromptError::Interrupted`] a thread still waits for the terminal: the process has to exit.
pub async fn new_password() -> Result<String, PromptError> {
    if !io::stdin().is_terminal() {
        return first_line(&mut io::stdin().lock());
    }
    // Restores the terminal in every case: a shell without echo looks dead.
    let _silence = Silence::begin(io::stdin())?;
    let asked = tokio::task::spawn_blocking(|| {
        let first = ask("Password: ")?;
        let again = ask("The same again: ")?;
        if first == again { Ok(first) } else { Err(PromptError::Different) }
    });
    tokio::select! {
        asked = asked => asked.map_err(io::Error::other)?,
        _ = tokio::signal::ctrl_c() => Err(PromptError::Interrupted),
    }
}

fn ask(prompt: &str) -> Result<String, PromptError> {
    io::stderr().write_all(prompt.as_bytes())?;
    first_line(&mut io::stdin().lock())
}

fn first_line(input: &mut impl BufRead) -> Result<String, PromptError> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(PromptError::Missing);
    }
    let ended = line.ends_with(b"\n");
    let mut line = String::from_utf8(line).map_err(|_| PromptError::NoText)?;
    if !ended && line.len() as u64 == LINE_BYTES_MAX {
        return Err(PromptError::NoText);
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// A terminal without echo, except for line ends.
struct Silence {
    terminal: Stdin,
    before: Termios,
}

impl Silence {
    fn begin(terminal: Stdin) -> io::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, PromptError> {
        first_line(&mut io::Cursor::new(bytes))
    }

    #[test]
    fn a_password_is_the_first_line() {
        assert_eq!(read(b"one two \nthree\n").unwrap(), "one two ");
        assert_eq!(read(b"one two\r\n").unwrap(), "one two");
        assert_eq!(read(b"no end").unwrap(), "no end");
        assert_eq!(read(b"\n").unwrap(), "");
        assert!(matches!(read(b""), Err(PromptError::Missing)));
        assert!(matches!(read(b"\xff\n"), Err(PromptError::NoText)));
        assert!(matches!(read(&[b'x'; 5_000]), Err(PromptError::NoText)));
        let longest = format!("{}\r\n", "\u{1f40e}".repeat(PASSWORD_CHARS_MAX));
        assert_eq!(read(longest.as_bytes()).unwrap().chars().count(), PASSWORD_CHARS_MAX);
    }
}
