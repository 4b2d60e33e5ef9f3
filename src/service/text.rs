//! What people may write into a field: one rule for names, titles, longer texts and whatever else is shown to others.

use std::{borrow::Cow, ops::RangeInclusive};

/// Why a text is not taken: the end of a sentence that begins with the field's name.
pub type Reason = Cow<'static, str>;

/// One line, without the white space around it. `chars`: how many characters it may have then.
///
/// # Errors
/// What is wrong with it.
pub fn line(text: String, chars: RangeInclusive<usize>) -> Result<String, Reason> {
    checked(text, chars, char::is_control)
}

/// Text of several lines, without the white space around it.
///
/// # Errors
/// What is wrong with it.
pub fn lines(text: String, chars: RangeInclusive<usize>) -> Result<String, Reason> {
    checked(text, chars, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
}

/// Control characters would let a name break out of a log line or a terminal.
fn checked(mut text: String, chars: RangeInclusive<usize>, forbidden: fn(char) -> bool) -> Result<String, Reason> {
    let trimmed = text.trim();
    if trimmed.len() != text.len() {
        text = trimmed.to_owned();
    }
    let count = text.chars().take(chars.end() + 1).count();
    if !chars.contains(&count) {
        Err(format!("must have {} to {} characters", chars.start(), chars.end()).into())
    } else if text.chars().any(forbidden) {
        Err("must not have control characters".into())
    } else {
        Ok(text)
    }
}
