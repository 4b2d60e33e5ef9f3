//! Formats numbers and colours for people.

use super::understands_escapes;
use std::io::IsTerminal;

/// Whether text may be coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    Colour,
    Plain,
}

impl Paint {
    /// Colours, unless the user set `NO_COLOR` (no-color.org: present and not empty) or the terminal has none.
    #[must_use]
    pub fn from_environment() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if refused || !understands_escapes() { Self::Plain } else { Self::Colour }
    }

    /// Colours for standard output, if it is a terminal.
    #[must_use]
    pub fn for_stdout() -> Self {
        if std::io::stdout().is_terminal() { Self::from_environment() } else { Self::Plain }
    }

    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }

    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        match self {
            Self::Colour if !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Colour | Self::Plain => text.to_owned(),
        }
    }
}

/// A count with separated thousands: `12,345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A latency: two decimals below a millisecond, one below a hundred, none above.
#[must_use]
pub fn millis(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 7, 999, 1_000, 12_345, 1_000_000].map(count);
        assert_eq!(texts, ["0", "7", "999", "1,000", "12,345", "1,000,000"]);
    }

    #[test]
    fn a_latency_has_no_more_digits_than_it_means() {
        assert_eq!([0.0, 0.123, 4.25, 99.94, 123.4].map(millis), ["0.00 ms", "0.12 ms", "4.2 ms", "99.9 ms", "123 ms"]);
    }

    #[test]
    fn plain_text_has_no_escapes() {
        assert_eq!(Paint::Plain.bold("x"), "x");
        assert_eq!(Paint::Colour.red("x"), "\x1b[31mx\x1b[0m");
        assert_eq!(Paint::Colour.dim(""), "");
    }
}
