//! Reads PEM files: certificates, their keys, and what the gRPC port's TLS is made of. A leaf: the
//! configuration checks files with it before a port is opened, and the server reads them again with it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::files;

/// The files of the gRPC port's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// CAs of client certificates, which are demanded then.
    pub client_ca: Option<PathBuf>,
}

/// A file that can't be used. Tells neither its name nor its content.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct TlsError {
    flag: &'static str,
    problem: String,
}

impl TlsError {
    /// The flag that names the file.
    pub fn flag(&self) -> &'static str {
        self.flag
    }

    fn of(flag: &'static str, problem: impl Into<String>) -> Self {
        let problem = problem.into();
        Self { flag, problem }
    }
}

/// What was read from the files.
pub(crate) struct Read {
    pub(crate) config: ServerConfig,
    /// The end of the certificate's validity, in Unix seconds.
    pub(crate) expires: Option<i64>,
}

/// Whether these files can be used; if not, what is wrong with each.
pub fn check(files: &TlsFiles) -> Result<(), Vec<TlsError>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let client_ca = files.client_ca.as_ref();
    let of_its_own: Vec<_> = [
        chain(&files.cert, "tls-cert").err(),
        private_key(&files.key).err(),
        client_ca.and_then(|file| client_verifier(file, provider).err()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if of_its_own.is_empty() {
        read(files).map(drop).map_err(|error| vec![error])
    } else {
        Err(of_its_own)
    }
}

/// Sessions are not resumed across a change: each configuration has a cache of its own, so that a CA
/// that was taken out is out.
pub(crate) fn read(files: &TlsFiles) -> Result<Read, TlsError> {
    let chain = chain(&files.cert, "tls-cert")?;
    let expires = chain.first().and_then(|leaf| end_of_validity(leaf));
    let key = private_key(&files.key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsError::of("tls-cert", format!("TLS can't be set up: {error}")))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => builder.with_client_cert_verifier(client_verifier(file, provider)?),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        TlsError::of("tls-cert", format!("does not go with --tls-key: {error}"))
    })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Read { config, expires })
}

fn end_of_validity(certificate: &CertificateDer<'_>) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn client_verifier(
    file: &Path,
    provider: Arc<rustls::crypto::CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(file, "client-ca")? {
        roots.add(certificate).map_err(|error| {
            TlsError::of(
                "client-ca",
                format!("holds an unusable certificate: {error}"),
            )
        })?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| TlsError::of("client-ca", format!("is unusable: {error}")))
}

fn chain(file: &Path, flag: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    certificates(file).map_err(|problem| TlsError::of(flag, problem))
}

/// The certificates in a PEM file.
pub(crate) fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let pem = files::read(file)?;
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "can't be read as a PEM file with certificates")?;
    if certificates.is_empty() {
        return Err("holds no certificate");
    }
    Ok(certificates)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let pem = files::read(file).map_err(|problem| TlsError::of("tls-key", problem))?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| TlsError::of("tls-key", "can't be read as a PEM file with a private key"))
}
