//! Signatures of Stripe's webhooks: `Stripe-Signature: t=<seconds>,v1=<hex>,…`, an HMAC-SHA256 of `<t>.<body>` with the
//! endpoint's secret. Pure: the time comes from the caller.

use super::limits::{SECRETS_MAX, SIGNATURE_AGE_MS_MAX, SIGNATURES_MAX};
use super::secret::StripeSecret;
use crate::domain::Timestamp;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of an HMAC-SHA256.
const HASH_BYTES: usize = 32;

/// Why a webhook is not taken. Says nothing about the expected signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignatureError {
    #[error("the Stripe-Signature header is missing or not of the form t=…,v1=…")]
    Malformed,
    #[error("the signature does not match the body")]
    Mismatch,
    #[error("the signature is older than five minutes, or of a time to come: is a clock wrong?")]
    WrongTime,
}

/// Checks that a body was signed with one of these secrets, at most five minutes before or after `now`.
///
/// # Errors
/// If it was not. The time is judged after the signature: until then it is not known who wrote it.
pub fn verify(header: &str, body: &[u8], secrets: &[StripeSecret], now: Timestamp) -> Result<(), SignatureError> {
    let (signed_at, signatures) = parse(header).ok_or(SignatureError::Malformed)?;
    let matches = |secret: &StripeSecret| {
        let mac = mac_of(secret, signed_at.as_bytes(), body);
        // `verify_slice` compares in constant time.
        signatures.iter().any(|signature| mac.clone().verify_slice(signature).is_ok())
    };
    if !secrets.iter().take(SECRETS_MAX).any(matches) {
        return Err(SignatureError::Mismatch);
    }
    let at = signed_at.parse::<i64>().ok().and_then(|seconds| seconds.checked_mul(1_000));
    let at = at.ok_or(SignatureError::Malformed)?;
    if now.as_millis().abs_diff(at) > SIGNATURE_AGE_MS_MAX.unsigned_abs() {
        return Err(SignatureError::WrongTime);
    }
    Ok(())
}

/// The header for a body, as Stripe writes it; for the fake and for tests.
#[must_use]
pub fn sign(body: &[u8], secret: &StripeSecret, at: Timestamp) -> String {
    let seconds = (at.as_millis() / 1_000).to_string();
    let hash = mac_of(secret, seconds.as_bytes(), body).finalize().into_bytes();
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

fn mac_of(secret: &StripeSecret, seconds: &[u8], body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("any length is a key");
    mac.update(seconds);
    mac.update(b".");
    mac.update(body);
    mac
}

/// The time as it was signed, and the signatures of scheme `v1`. Other schemes are skipped: `v0` is of test events and
/// weaker.
fn parse(header: &str) -> Option<(&str, Vec<[u8; HASH_BYTES]>)> {
    let (mut at, mut signatures) = (None, Vec::new());
    for item in header.split(',') {
        match item.trim().split_once('=')? {
            ("t", seconds) if at.is_none() && is_number(seconds) => at = Some(seconds),
            ("t", _) => return None,
            ("v1", hex) if signatures.len() < SIGNATURES_MAX => signatures.push(from_hex(hex)?),
            ("v1", _) => return None,
            _ => {}
        }
    }
    Some((at?, signatures)).filter(|(_, signatures)| !signatures.is_empty())
}

fn is_number(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn from_hex(text: &str) -> Option<[u8; HASH_BYTES]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let text = text.as_bytes();
    if text.len() != 2 * HASH_BYTES {
        return None;
    }
    let mut bytes = [0; HASH_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"id":"evt_1","type":"payment_intent.succeeded"}"#;

    fn secret(text: &str) -> StripeSecret {
        StripeSecret::new(text.to_owned())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    /// Computed with OpenSSL: `printf '1700000000.{…}' | openssl dgst -sha256 -hmac whsec_test`.
    const VECTOR: &str = "001ce3ef73e456cedaab328328720d3ad59defb8bbd0f1518f46c04ad4ac0bb7";

    #[test]
    fn a_vector_of_another_implementation_is_right() {
        let header = format!("t=1700000000,v1={VECTOR}");
        assert_eq!(sign(BODY, &secret("whsec_test"), at(1_700_000_000)), header);
        assert_eq!(verify(&header, BODY, &[secret("whsec_test")], at(1_700_000_000)), Ok(()));
    }

    #[test]
    fn other_bytes_times_and_secrets_do_not_match() {
        let now = at(1_700_000_000);
        let header = sign(BODY, &secret("whsec_test"), now);
        let verify = |header: &str, body: &[u8], known: &str| verify(header, body, &[secret(known)], now);
        assert_eq!(verify(&header, BODY, "whsec_test"), Ok(()));
        assert_eq!(verify(&header, BODY, "whsec_other"), Err(SignatureError::Mismatch));
        assert_eq!(verify(&header, BODY, ""), Err(SignatureError::Mismatch));
        for index in 0..BODY.len() {
            let mut other = BODY.to_vec();
            other[index] ^= 1;
            assert_eq!(verify(&header, &other, "whsec_test"), Err(SignatureError::Mismatch), "byte {index}");
        }
        let later = header.replace("t=1700000000", "t=1700000001");
        assert_eq!(verify(&later, BODY, "whsec_test"), Err(SignatureError::Mismatch));
        let mut signature = header.clone().into_bytes();
        let last = signature.len() - 1;
        signature[last] = if signature[last] == b'0' { b'1' } else { b'0' };
        assert_eq!(verify(&String::from_utf8(signature).unwrap(), BODY, "whsec_test"), Err(SignatureError::Mismatch));
    }

    #[test]
    fn five_minutes_on_each_side_are_tolerated_and_no_more() {
        let signed = at(1_700_000_000);
        let header = sign(BODY, &secret("whsec_test"), signed);
        let after = |millis| verify(&header, BODY, &[secret("whsec_test")], signed.plus_millis(millis));
        for tolerated in [0, 1, 299_999, 300_000, -1, -300_000] {
            assert_eq!(after(tolerated), Ok(()), "{tolerated}");
        }
        for refused in [300_001, 86_400_000, -300_001] {
            assert_eq!(after(refused), Err(SignatureError::WrongTime), "{refused}");
        }
        // Who does not know the secret does not learn what time the server has.
        assert_eq!(verify(&header, BODY, &[secret("no")], Timestamp::EPOCH), Err(SignatureError::Mismatch));
    }

    #[test]
    fn two_secrets_are_valid_while_one_replaces_the_other() {
        let now = at(1_700_000_000);
        let both = [secret("whsec_new"), secret("whsec_old")];
        for signer in ["whsec_new", "whsec_old"] {
            assert_eq!(verify(&sign(BODY, &secret(signer), now), BODY, &both, now), Ok(()), "{signer}");
        }
        // Stripe signs with both while it rotates: one match is enough.
        let old = sign(BODY, &secret("whsec_old"), now);
        let new = sign(BODY, &secret("whsec_new"), now);
        let header = format!("{old},{}", new.split_once(',').unwrap().1);
        assert_eq!(verify(&header, BODY, &[secret("whsec_new")], now), Ok(()));
        assert_eq!(verify(&header, BODY, &[], now), Err(SignatureError::Mismatch));
    }

    #[test]
    fn a_header_of_another_form_is_refused() {
        let now = at(1_700_000_000);
        let signature = sign(BODY, &secret("s"), now).split_once("v1=").unwrap().1.to_owned();
        let many = format!("t=1700000000{}", format!(",v1={signature}").repeat(SIGNATURES_MAX + 1));
        for header in [
            String::new(),
            "t=1700000000".to_owned(),
            format!("v1={signature}"),
            format!("t=,v1={signature}"),
            format!("t=-1,v1={signature}"),
            format!("t=1700000000,t=1700000000,v1={signature}"),
            format!("t=1700000000,v0={signature}"),
            format!("t=1700000000,v1={}", &signature[1..]),
            format!("t=1700000000,v1={}x", &signature[1..]),
            format!("t=1700000000,v1={signature},"),
            "t=1700000000,v1=€€€€€€€€€€€€€€€€€€€€€a".to_owned(),
            many,
        ] {
            assert_eq!(verify(&header, BODY, &[secret("s")], now), Err(SignatureError::Malformed), "{header}");
        }
        let spaced = format!("t=1700000000, v0=anything, v1={signature}");
        assert_eq!(verify(&spaced, BODY, &[secret("s")], now), Ok(()));
    }
}
