//! The `Idempotency-Key` header (IETF draft): a structured-field string, so quoted; an unquoted one is accepted too.

use crate::domain::limits::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::http::problem::Problem;
use crate::service::{Code, Failure};
use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use std::future::{Ready, ready};

/// The key of a request, unquoted: 1 to 255 printable ASCII characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyKey(pub String);

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut sent = request.headers().get_all("idempotency-key");
        let key = match (sent.next(), sent.next()) {
            (None, _) => Err(Failure::new(Code::IdempotencyKeyMissing)),
            (Some(value), None) => parse(value.as_bytes()).ok_or_else(|| {
                let detail = format!("A key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters");
                Failure::with(Code::IdempotencyKeyInvalid, detail)
            }),
            (Some(_), Some(_)) => Err(Failure::with(Code::IdempotencyKeyInvalid, "There is more than one key")),
        };
        ready(key.map(Self).map_err(Problem::from))
    }
}

/// Parses the key of a header value. `abc` and `"abc"` are the same key.
fn parse(value: &[u8]) -> Option<String> {
    let value = value.trim_ascii();
    let key = match value {
        [b'"', quoted @ ..] => unquote(quoted)?,
        bare => bare.to_vec(),
    };
    let fits = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&key.len());
    let printable = key.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if fits && printable { String::from_utf8(key).ok() } else { None }
}

/// The text before the closing quote (RFC 8941, section 4.2.5): only quotes and backslashes may be escaped, and nothing
/// may follow.
fn unquote(quoted: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(quoted.len());
    let mut bytes = quoted.iter();
    loop {
        match bytes.next()? {
            b'"' => return bytes.next().is_none().then_some(key),
            b'\\' => key.push(*bytes.next().filter(|byte| matches!(byte, b'"' | b'\\'))?),
            &byte => key.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_and_bare_keys_are_the_same() {
        for (sent, key) in [
            ("abc", "abc"),
            (r#""abc""#, "abc"),
            ("  abc\t", "abc"),
            (r#""8e03978e-40d5-43dd-bc93-6894a57f9324""#, "8e03978e-40d5-43dd-bc93-6894a57f9324"),
            (r#""a \"b\" \\c""#, r#"a "b" \c"#),
            (r#""  ""#, "  "),
            (r#"in"side"#, r#"in"side"#),
            (r"back\slash", r"back\slash"),
            ("~!@#$%^&*()", "~!@#$%^&*()"),
        ] {
            assert_eq!(parse(sent.as_bytes()).as_deref(), Some(key), "{sent}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for bad in [
            "",
            " ",
            r#""""#,
            r#"""#,
            r#""open"#,
            r#""closed" and more"#,
            r#""closed";a=1"#,
            r#""a"b""#,
            r#""bad \n escape""#,
            r#""ends in \"#,
            r#""ends in \""#,
            "tab\tinside",
            "ünicode",
            "\u{7f}",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse(b"\xff"), None);
    }

    #[test]
    fn the_bound_counts_what_is_between_the_quotes() {
        let longest = "k".repeat(IDEMPOTENCY_KEY_CHARS_MAX);
        assert_eq!(parse(format!("\"{longest}\"").as_bytes()), Some(longest.clone()));
        assert_eq!(parse(longest.as_bytes()), Some(longest.clone()));
        assert_eq!(parse(format!("{longest}k").as_bytes()), None);
        let escaped = "\\\"".repeat(IDEMPOTENCY_KEY_CHARS_MAX);
        assert_eq!(parse(format!("\"{escaped}\"").as_bytes()), Some("\"".repeat(IDEMPOTENCY_KEY_CHARS_MAX)));
    }
}
