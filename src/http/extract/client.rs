//! The client's address. Headers can contain anything: they are used only as far as trusted proxies wrote them.

use actix_web::HttpRequest;
use actix_web::http::header::{FORWARDED, HeaderMap, HeaderName, X_FORWARDED_FOR};
use actix_web::web;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// Proxies in a chain that are checked, from the nearest on.
const HOPS_MAX: usize = 16;

/// The networks of proxies whose headers are trusted. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl FromStr for TrustedProxies {
    type Err = String;

    /// Networks (`10.0.0.0/8`) and addresses, separated by commas.
    fn from_str(text: &str) -> Result<Self, String> {
        let network = |text: &str| {
            let text = text.trim();
            let network = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<IpAddr>().ok()?.into()));
            network.ok_or_else(|| "must be networks such as 10.0.0.0/8 or addresses".to_owned())
        };
        text.split(',')
            .filter(|part| !part.trim().is_empty())
            .map(network)
            .collect::<Result<Vec<_>, _>>()
            .map(|networks| Self(networks.into()))
    }
}

impl TrustedProxies {
    /// Whether there are no trusted proxies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the address is in one of the networks.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The client's address: the peer's, unless the peer is a trusted proxy. Then it is the last address in its headers
    /// that is not a trusted proxy.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.has(peer) {
            return peer;
        }
        let forwarded = told(headers, &FORWARDED, forwarded_hops).map(|hops| self.walk(peer, &hops));
        let x_forwarded_for = told(headers, &X_FORWARDED_FOR, plain_hops).map(|hops| self.walk(peer, &hops));
        match (forwarded, x_forwarded_for) {
            // A proxy that writes one of the headers may forward the other from its client: if they differ, one is
            // forged.
            (Some(one), Some(other)) if one != other => peer,
            (Some(client), _) | (None, Some(client)) => client,
            (None, None) => peer,
        }
    }

    /// Walks back from the peer while the proxies are trusted. An entry that is not an address ends the walk at the
    /// proxy that wrote it.
    fn walk(&self, peer: IpAddr, hops: &[Option<IpAddr>]) -> IpAddr {
        let mut nearest = peer;
        for hop in hops.iter().rev().take(HOPS_MAX) {
            let Some(address) = *hop else { return nearest };
            nearest = address;
            if !self.has(address) {
                return nearest;
            }
        }
        nearest
    }
}

/// The client's address of a request. Needs `web::Data<TrustedProxies>` to trust proxies.
#[must_use]
pub fn address(request: &HttpRequest) -> Option<IpAddr> {
    let peer = request.peer_addr()?.ip();
    match request.app_data::<web::Data<TrustedProxies>>() {
        Some(proxies) => Some(proxies.client(peer, request.headers())),
        None => Some(peer.to_canonical()),
    }
}

/// The hops of a header, the nearest last; `None` for entries that are not addresses. `None` as a whole without the
/// header.
fn told(headers: &HeaderMap, name: &HeaderName, hops: fn(&str) -> Vec<Option<IpAddr>>) -> Option<Vec<Option<IpAddr>>> {
    let mut lines = headers.get_all(name).peekable();
    lines.peek()?;
    Some(lines.flat_map(|line| line.to_str().map_or_else(|_| vec![None], hops)).collect())
}

fn plain_hops(line: &str) -> Vec<Option<IpAddr>> {
    line.split(',').map(node).collect()
}

/// The `for` of each element (RFC 7239). A malformed line gives no address: a client may have begun it with a quotation
/// mark that swallows the proxies' additions.
fn forwarded_hops(line: &str) -> Vec<Option<IpAddr>> {
    split_unquoted(line, ',').map_or_else(|| vec![None], |elements| elements.into_iter().map(forwarded_for).collect())
}

fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split_unquoted(element, ';')? {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") {
            let value = value.trim();
            let bare = value.strip_prefix('"').map_or(Some(value), |quoted| quoted.strip_suffix('"'));
            // Two in one element are malformed.
            if found.replace(bare?).is_some() {
                return None;
            }
        }
    }
    node(found?)
}

/// Splits at a separator outside quoted strings; `None` if one is not terminated, or begins or ends inside a value.
fn split_unquoted(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped, mut before) = (Vec::new(), 0, false, false, ',');
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' if quoted => quoted = false,
            '"' if before == '=' => quoted = true,
            '"' => return None,
            _ if quoted => {}
            _ if before == '"' && !matches!(c, ',' | ';' | ' ' | '\t') => return None,
            _ if c == separator => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
        before = c;
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// Parses `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn seen(proxies: &str, peer: &str, headers: &[(&'static str, &str)]) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        proxies.parse::<TrustedProxies>().unwrap().client(peer.parse().unwrap(), &map).to_string()
    }

    const XFF: &str = "x-forwarded-for";
    const FWD: &str = "forwarded";

    #[test]
    fn nobody_is_believed_by_default() {
        for header in [(XFF, "192.0.2.1"), (FWD, "for=192.0.2.1")] {
            assert_eq!(seen("", "198.51.100.7", &[header]), "198.51.100.7");
            assert_eq!(seen("10.0.0.0/8", "198.51.100.7", &[header]), "198.51.100.7");
            assert_eq!(seen("10.0.0.0/8", "10.1.2.3", &[header]), "192.0.2.1");
        }
        assert_eq!(seen("10.0.0.0/8", "10.1.2.3", &[]), "10.1.2.3");
    }

    #[test]
    fn the_last_address_that_is_no_proxy_counts() {
        let one = "10.0.0.0/8, 192.0.2.200";
        assert_eq!(seen(one, "10.0.0.1", &[(XFF, "1.1.1.1, 203.0.113.9")]), "203.0.113.9");
        assert_eq!(seen(one, "10.0.0.1", &[(XFF, "1.1.1.1, 203.0.113.9, 192.0.2.200,10.9.9.9")]), "203.0.113.9");
        assert_eq!(seen(one, "10.0.0.1", &[(XFF, "1.1.1.1"), (XFF, "203.0.113.9")]), "203.0.113.9");
        assert_eq!(seen(one, "10.0.0.1", &[(FWD, "for=1.1.1.1, for=203.0.113.9;proto=https")]), "203.0.113.9");
        assert_eq!(seen(one, "10.0.0.1", &[(FWD, "for=\"[2001:db8::1]:4711\";by=10.0.0.1")]), "2001:db8::1");
        assert_eq!(seen(one, "::ffff:10.0.0.1", &[(XFF, "203.0.113.9:4711")]), "203.0.113.9");
        // All hops are trusted: the farthest is the client.
        assert_eq!(seen(one, "10.0.0.1", &[(XFF, "10.0.0.3, 10.0.0.2")]), "10.0.0.3");
    }

    #[test]
    fn what_a_client_makes_up_is_not_believed() {
        let behind = |headers: &[(&'static str, &str)]| seen("10.0.0.0/8", "10.0.0.1", headers);
        // An entry that is not an address hides everything to its left.
        assert_eq!(behind(&[(XFF, "1.1.1.1, unknown")]), "10.0.0.1");
        assert_eq!(behind(&[(XFF, "1.1.1.1, 10.0.0.2, x")]), "10.0.0.1");
        assert_eq!(behind(&[(XFF, "1.1.1.1, x, 10.0.0.2")]), "10.0.0.2");
        assert_eq!(behind(&[(FWD, "for=1.1.1.1, for=_hidden")]), "10.0.0.1");
        assert_eq!(behind(&[(FWD, "for=1.1.1.1;for=2.2.2.2")]), "10.0.0.1");
        assert_eq!(behind(&[(XFF, "")]), "10.0.0.1");
        // A quotation mark of the client cannot swallow the proxy's entry, nor make it part of a value.
        for forged in ["for=\"1.1.1.1, for=203.0.113.9", "for=\"x\\, for=\"[2001:db8::1]\"", "for=\"1.1.1.1\"x, for=a"]
        {
            assert_eq!(behind(&[(FWD, forged)]), "10.0.0.1", "{forged}");
        }
        // The proxy writes one header and forwards the other.
        assert_eq!(behind(&[(FWD, "for=1.1.1.1"), (XFF, "203.0.113.9")]), "10.0.0.1");
        assert_eq!(behind(&[(FWD, "for=203.0.113.9"), (XFF, "203.0.113.9")]), "203.0.113.9");
        // The walk through a long chain is bounded.
        assert_eq!(behind(&[(XFF, &"10.0.0.2, ".repeat(1_000))]), "10.0.0.1");
    }

    #[test]
    fn networks_are_read() {
        assert!("".parse::<TrustedProxies>().unwrap().is_empty());
        assert!(!"10.0.0.0/8,::1".parse::<TrustedProxies>().unwrap().is_empty());
        for bad in ["10.0.0.0/33", "localhost", "10.0.0", "*"] {
            assert!(bad.parse::<TrustedProxies>().is_err(), "{bad}");
        }
    }
}
