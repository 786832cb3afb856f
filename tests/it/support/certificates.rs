//! Certificates as cert-manager makes them, in a directory as the kubelet mounts it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use onboardflow_gateway::config::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use tonic::transport::{Certificate, Identity};

/// A CA.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Leaf {
    pub cert: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap());
        Self(issuer.unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn certificate(&self) -> Certificate {
        Certificate::from_pem(self.pem())
    }

    /// For these DNS names and URIs.
    pub fn issue(&self, names: &[&str]) -> Leaf {
        self.leaf(names, |_| ())
    }

    pub fn issue_expired(&self, names: &[&str]) -> Leaf {
        self.leaf(names, |params| {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        })
    }

    fn leaf(&self, names: &[&str], change: impl Fn(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new([]).unwrap();
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Leaf {
            cert: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

fn san(name: &str) -> SanType {
    let text = name.try_into().unwrap();
    if name.contains("://") {
        SanType::URI(text)
    } else {
        SanType::DnsName(text)
    }
}

impl Leaf {
    pub fn identity(&self) -> Identity {
        Identity::from_pem(&self.cert, &self.key)
    }
}

/// A mounted secret: files that are links through `..data`, which one rename makes point elsewhere.
pub struct Secret {
    directory: tempfile::TempDir,
    version: AtomicU32,
}

impl Secret {
    pub fn new(files: &[(&str, &str)]) -> Self {
        let secret = Self {
            directory: tempfile::tempdir().unwrap(),
            version: AtomicU32::new(0),
        };
        secret.swap(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), secret.path(name)).unwrap();
        }
        secret
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces all of it at once.
    pub fn swap(&self, files: &[(&str, &str)]) {
        let version = self.version.fetch_add(1, Ordering::Relaxed);
        let data = format!("..{version}");
        fs::create_dir(self.path(&data)).unwrap();
        for (name, content) in files {
            fs::write(self.path(&data).join(name), content).unwrap();
        }
        symlink(&data, self.path("..data_tmp")).unwrap();
        fs::rename(self.path("..data_tmp"), self.path("..data")).unwrap();
    }

    /// A certificate for the gateway, and the CA of its callers.
    pub fn tls(leaf: &Leaf, client_ca: &Authority) -> Self {
        Self::new(&tls_files(leaf, &client_ca.pem()))
    }

    pub fn swap_tls(&self, leaf: &Leaf, client_ca: &Authority) {
        self.swap(&tls_files(leaf, &client_ca.pem()));
    }

    /// Its files as the gateway is configured with them, with client certificates or without.
    pub fn files(&self, demands_certificates: bool) -> TlsFiles {
        TlsFiles {
            cert: self.path("tls.crt"),
            key: self.path("tls.key"),
            client_ca: demands_certificates.then(|| self.path("ca.crt")),
        }
    }
}

fn tls_files<'a>(leaf: &'a Leaf, ca: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("tls.crt", &leaf.cert),
        ("tls.key", &leaf.key),
        ("ca.crt", ca),
    ]
}
