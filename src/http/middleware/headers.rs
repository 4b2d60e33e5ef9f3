//! Security headers of every answer: no content sniffing, no scripts, no framing.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
};

// Statics, so that they are validated at compile time and not for each answer.
static AS_IT_SAYS: HeaderValue = HeaderValue::from_static("nosniff");
static NO_REFERRER: HeaderValue = HeaderValue::from_static("no-referrer");
/// For answers that are data. A page that needs more sets its own.
static POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
static NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// Two years, as browsers' preload lists require. Without subdomains: they may belong to others.
static TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=63072000");

/// Adds the headers; a handler's own stay. `tls`: whether the connection is encrypted, because browsers must ignore the
/// HSTS header otherwise (RFC 6797, section 7.2). An answer without `Cache-Control` must not be cached.
pub fn protect(headers: &mut HeaderMap, tls: bool) {
    let mut set = |name: HeaderName, value: &HeaderValue| {
        if !headers.contains_key(&name) {
            headers.insert(name, value.clone());
        }
    };
    set(X_CONTENT_TYPE_OPTIONS, &AS_IT_SAYS);
    set(REFERRER_POLICY, &NO_REFERRER);
    set(CONTENT_SECURITY_POLICY, &POLICY);
    set(CACHE_CONTROL, &NO_STORE);
    if tls {
        set(STRICT_TRANSPORT_SECURITY, &TRANSPORT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_handler_says_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'self'"));
        protect(&mut headers, false);
        assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "private, no-cache");
        assert_eq!(headers.get(CONTENT_SECURITY_POLICY).unwrap(), "default-src 'self'");
        assert_eq!(headers.get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
        assert!(!headers.contains_key(STRICT_TRANSPORT_SECURITY));
    }

    #[test]
    fn answers_are_not_stored_and_encrypted_ones_stay_encrypted() {
        let mut headers = HeaderMap::new();
        protect(&mut headers, true);
        assert_eq!(headers.get(CACHE_CONTROL).unwrap(), "no-store");
        assert_eq!(headers.get(STRICT_TRANSPORT_SECURITY).unwrap(), "max-age=63072000");
    }
}
