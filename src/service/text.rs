//! Validation of user texts: one rule for names, titles, longer texts and all other public texts.

use icu_properties::CodePointSetData;
use icu_properties::props::{BidiControl, DefaultIgnorableCodePoint};
use std::{borrow::Cow, iter::Peekable, ops::RangeInclusive, str::Chars};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Why a text is refused: the end of a sentence that begins with the field's name.
pub type Reason = Cow<'static, str>;

/// Validates one line: trims white space and composes it (NFC). `chars`: the allowed number of characters of the input.
///
/// # Errors
/// The fault.
pub fn line(text: String, chars: RangeInclusive<usize>) -> Result<String, Reason> {
    checked(text, chars, false)
}

/// Validates text of several lines, otherwise as [`line()`].
///
/// # Errors
/// The fault.
pub fn lines(text: String, chars: RangeInclusive<usize>) -> Result<String, Reason> {
    checked(text, chars, true)
}

fn checked(mut text: String, chars: RangeInclusive<usize>, of_several_lines: bool) -> Result<String, Reason> {
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        text = trimmed.to_owned();
    }
    let count = text.chars().take(chars.end() + 1).count();
    if !chars.contains(&count) {
        return Err(format!("must have {} to {} characters", chars.start(), chars.end()).into());
    }
    // Control characters would let a name break out of a log line or a terminal.
    if text.chars().any(|c| c.is_control() && !(of_several_lines && matches!(c, '\n' | '\r' | '\t'))) {
        return Err("must not have control characters".into());
    }
    if text.is_ascii() {
        return Ok(text);
    }
    if let Some(hidden) = hidden(&text, of_several_lines) {
        return Err(
            format!("must not have invisible or direction-changing characters (U+{:04X})", hidden as u32).into()
        );
    }
    Ok(match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text,
        _ => text.nfc().collect(),
    })
}

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
const BLACK_FLAG: char = '\u{1f3f4}';
const END_OF_TAGS: char = '\u{e007f}';

/// Finds a character that makes a text pass for another one, or for nothing at all: it is invisible, or changes the
/// direction of others. The ones that emoji and scripts need are allowed where they need them.
fn hidden(text: &str, of_several_lines: bool) -> Option<char> {
    let (invisible, turning) =
        (CodePointSetData::new::<DefaultIgnorableCodePoint>(), CodePointSetData::new::<BidiControl>());
    let (mut before, mut rest) = (' ', text.chars().peekable());
    while let Some(c) = rest.next() {
        let separates = matches!(c, '\u{2028}' | '\u{2029}') && !of_several_lines;
        // A pattern of Braille without a dot.
        let blank = c == '\u{2800}';
        if separates || blank || turning.contains(c) {
            return Some(c);
        }
        if invisible.contains(c) {
            let shapes_something = match c {
                // Allowed between letters of joining scripts, and between emoji.
                NON_JOINER | JOINER => !before.is_ascii() && rest.peek().is_some_and(|next| !next.is_ascii()),
                // A keycap is a digit, this character, and the enclosing key.
                '\u{fe00}'..='\u{fe0f}' if before.is_ascii() => {
                    matches!(before, '0'..='9' | '#' | '*') && rest.peek() == Some(&'\u{20e3}')
                }
                '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}' => !before.is_ascii() && !before.is_whitespace(),
                '\u{e0020}'..=END_OF_TAGS => before == BLACK_FLAG && skip_tags(c, &mut rest),
                _ => false,
            };
            // Two in a row have no effect; an emoji's variant selector may be followed by a joiner.
            let twice = invisible.contains(before) && !(c == JOINER && ('\u{fe00}'..='\u{fe0f}').contains(&before));
            if !shapes_something || twice {
                return Some(c);
            }
        }
        before = c;
    }
    None
}

/// Skips the tag letters of a flag, such as Scotland's; returns whether they are terminated.
fn skip_tags(first: char, rest: &mut Peekable<Chars>) -> bool {
    let mut last = first;
    while let Some(tag) = rest.next_if(|next| ('\u{e0020}'..=END_OF_TAGS).contains(next)) {
        last = tag;
        if tag == END_OF_TAGS {
            break;
        }
    }
    last == END_OF_TAGS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<String, Reason> {
        line(text.to_owned(), 1..=120)
    }

    #[test]
    fn names_of_all_scripts_and_emoji_are_taken() {
        for good in [
            "Ada",
            "Änn",
            "名前",
            "عربى",
            "می\u{200c}خواهم",
            "ශ්\u{200d}ර",
            "😀🎫",
            "👨\u{200d}👩\u{200d}👧\u{200d}👦",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "🏳\u{fe0f}\u{200d}🌈",
            "🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f}",
            "葛\u{e0100}",
            "<script>alert(1)</script>",
            "DJ Артём",
        ] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        assert_eq!(name("  lead and trail  ").unwrap(), "lead and trail");
        assert_eq!(name("e\u{301}").unwrap(), "\u{e9}", "composed");
    }

    #[test]
    fn what_cannot_be_seen_or_turns_the_text_is_refused() {
        for bad in [
            "a\u{202e}gnp.exe",
            "\u{200b}",
            "a\u{200b}b",
            "\u{2800}",
            "a\0b",
            "a\nb",
            "a\tb",
            "\u{feff}a",
            "\u{61c}a",
            "\u{2066}x\u{2069}",
            "\u{e0041}",
            "a\u{e0041}b",
            "\u{3164}",
            "a\u{ad}b",
            "a\u{200d}b",
            "a\u{200c}b",
            "名\u{200d}",
            "\u{200d}名",
            "名\u{200d}\u{200d}名",
            "a\u{fe0f}",
            "1\u{fe0f}",
            "❤\u{fe0f}\u{fe0f}",
            "a\u{2028}b",
            "\u{34f}",
            "\u{200e}a",
            "🏴\u{e0067}\u{e0062}",
            "a\u{180e}b",
            "\u{115f}",
        ] {
            assert!(name(bad).is_err(), "{bad:?}");
            assert!(bad.contains(['\n', '\t', '\u{2028}']) || lines(bad.to_owned(), 0..=120).is_err(), "{bad:?}");
        }
        assert_eq!(lines("one\r\n\ttwo\n".to_owned(), 0..=120).unwrap(), "one\r\n\ttwo");
    }

    #[test]
    fn characters_are_counted_as_they_come() {
        assert!(line("😀".repeat(120), 1..=120).is_ok());
        assert!(line("😀".repeat(121), 1..=120).is_err());
        assert!(name(" ").is_err());
        // Three characters each when composed.
        assert!(line("\u{1d160}".repeat(120), 1..=120).is_ok());
    }
}
