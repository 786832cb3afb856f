//! One self-signed certificate for every process, and the rustls configurations made of it.

use std::{fs, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::Fallible;

/// The certificate's name.
pub(crate) const HOST: &str = "localhost";
/// The certificate's file, in the folder with both.
pub(crate) const CERTIFICATE: &str = "certificate.pem";
/// The key's file.
pub(crate) const KEY: &str = "key.pem";

/// Writes certificate and key into the folder.
pub(crate) fn write_files(folder: &Path) -> Fallible<()> {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    fs::write(folder.join(CERTIFICATE), made.cert.pem())?;
    fs::write(folder.join(KEY), made.signing_key.serialize_pem())?;
    Ok(())
}

fn read_files(folder: &Path) -> Fallible<(CertificateDer<'static>, PrivateKeyDer<'static>)> {
    let certificate = CertificateDer::from_pem_file(folder.join(CERTIFICATE))?;
    Ok((certificate, PrivateKeyDer::from_pem_file(folder.join(KEY))?))
}

pub(crate) fn server(folder: &Path, protocol: &[u8]) -> Fallible<Arc<ServerConfig>> {
    let (certificate, key) = read_files(folder)?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}

/// Trusts the one certificate, and shows it where a server asks.
pub(crate) fn client(folder: &Path, protocol: &[u8]) -> Fallible<Arc<ClientConfig>> {
    let (certificate, key) = read_files(folder)?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(Arc::new(config))
}
