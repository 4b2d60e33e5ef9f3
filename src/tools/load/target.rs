//! The address of the server.

use super::error::LoadError;
use std::net::{SocketAddr, ToSocketAddrs};

/// The server that gets the load.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(super) address: SocketAddr,
    /// The value of the `Host` header.
    pub(super) host: String,
}

impl Target {
    pub(super) fn of(url: &str) -> Result<Self, LoadError> {
        let wrong = |why: &str| LoadError::Option(format!("--url {url}: {why}"));
        let parsed = url::Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(wrong("only http:// is spoken; behind TLS, ask the server past its proxy"));
        }
        let host = parsed.host_str().ok_or_else(|| wrong("it has no host"))?;
        let port = parsed.port_or_known_default().unwrap_or(80);
        let name = host.trim_matches(['[', ']']);
        let address = (name, port).to_socket_addrs().map_err(|error| wrong(&error.to_string()))?.next();
        Ok(Self { address: address.ok_or_else(|| wrong("its host has no address"))?, host: format!("{host}:{port}") })
    }
}
