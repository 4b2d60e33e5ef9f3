//! Certificates: read once at startup, and checked against their key before anything is served.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The configuration of encrypted connections.
pub type TlsConfig = ServerConfig;

/// The paths of certificate and key. Both are PEM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsFiles {
    /// The certificate and its chain up to the root, in this order.
    pub certificate: PathBuf,
    /// The private key: PKCS #8, PKCS #1 or SEC 1.
    pub key: PathBuf,
}

/// Why the files are unusable: one line, which never contains parts of the key.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct TlsError {
    /// The configuration key that names the file.
    pub key: &'static str,
    /// The fault, in a few words.
    pub reason: String,
}

impl TlsFiles {
    /// Reads both files, for TLS 1.2 and 1.3.
    ///
    /// # Errors
    /// A file that cannot be read or has other contents, or a key that does not match the certificate.
    pub fn load(&self) -> Result<ServerConfig, TlsError> {
        let certificate = |reason: String| TlsError { key: "tls_certificate", reason };
        let key_error = |reason: String| TlsError { key: "tls_key", reason };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| certificate(unreadable(&self.certificate, &error, "certificate")))?;
        if chain.is_empty() {
            return Err(certificate(nothing_in(&self.certificate, "certificate")));
        }
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| key_error(unreadable(&self.key, &error, "private key")))?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3");
        builder.with_no_client_auth().with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                key_error(format!("{} is not the key of {}", self.key.display(), self.certificate.display()))
            }
            rustls::Error::InvalidCertificate(error) => {
                certificate(format!("{} is no valid certificate: {error}", self.certificate.display()))
            }
            other => key_error(format!("{} cannot be used: {other}", self.key.display())),
        })
    }
}

fn unreadable(path: &Path, error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::Io(error) => format!("cannot read {}: {error}", path.display()),
        pem::Error::NoItemsFound => nothing_in(path, what),
        // The error's own text would quote the file.
        _ => format!("{} is not well-formed PEM", path.display()),
    }
}

fn nothing_in(path: &Path, what: &str) -> String {
    format!("there is no {what} in {} (PEM is expected)", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_is_wrong_with_the_files_is_said_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, text: &str| fs::write(path(name), text).unwrap();
        for name in ["one", "two"] {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            write(&format!("{name}.crt"), &made.cert.pem());
            write(&format!("{name}.key"), &made.signing_key.serialize_pem());
        }
        write("empty", "");
        write("cut", &fs::read_to_string(path("one.key")).unwrap()[..80]);
        write("no.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let load = |certificate: &str, key: &str| {
            TlsFiles { certificate: path(certificate), key: path(key) }.load().err().map(|error| error.to_string())
        };
        assert_eq!(load("one.crt", "one.key"), None);
        for (certificate, key, begins, says) in [
            ("none", "one.key", "tls_certificate: cannot read ", "No such file"),
            ("one.crt", "none", "tls_key: cannot read ", "No such file"),
            ("empty", "one.key", "tls_certificate: ", "no certificate in "),
            ("one.key", "one.key", "tls_certificate: ", "no certificate in "),
            ("one.crt", "one.crt", "tls_key: ", "no private key in "),
            ("one.crt", "cut", "tls_key: ", "cut"),
            ("one.crt", "two.key", "tls_key: ", "is not the key of "),
            ("no.crt", "one.key", "tls_certificate: ", "is no valid certificate"),
        ] {
            let line = load(certificate, key).unwrap_or_default();
            assert!(
                line.starts_with(begins) && line.contains(says) && !line.contains('\n'),
                "{certificate} {key}: {line}"
            );
        }
    }
}
