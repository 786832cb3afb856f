//! What a gateway can be asked to do besides, and what calls to it carry then.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{Fallible, tls};

/// A key that was made for this, and thrown away: a token of `roundtrip` until the year 2100.
const JWKS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"roundtrip","alg":"EdDSA","use":"sig","x":"087AClVbn4nKSRgrlq23KWzOyNiS-M9jLEUa5QAl0Yo"}]}"#;
const ISSUER: &str = "https://roundtrip.example";
const AUDIENCE: &str = "onboardflow-gateway";
const BEARER: &str = "Bearer eyJhbGciOiJFZERTQSIsInR5cCI6IkpXVCIsImtpZCI6InJvdW5kdHJpcCJ9.eyJpc3MiOiJodHRwczovL3JvdW5kdHJpcC5leGFtcGxlIiwiYXVkIjoib25ib2FyZGZsb3ctZ2F0ZXdheSIsInN1YiI6InJvdW5kdHJpcCIsImV4cCI6NDEwMjQ0NDgwMH0.l73fuZ8rHimCQkhrJdIvzutphsgBjJoOZBCr7A3CmXUr6nOScO3yfbJv3le-jXUsb0iBMpX0dizHzosCSeOdDg";
const CALLERS: &str = "[[caller]]\nname = \"sub:roundtrip\"\nsites = [\"f37F2PPh\"]\nmethods = [\"CreateCustomer\"]\n";

/// One thing that a gateway does besides.
#[derive(Clone, Debug)]
pub(crate) enum Feature {
    /// The plain gateway.
    None,
    /// Callers show a certificate. It needs TLS.
    ClientCertificates,
    /// Callers send a token, which is checked once.
    Jwt,
    /// The same, and a file says what each of them may do.
    CallersFile,
    /// OnboardFlow's replies are in gzip.
    Gzip,
    /// Each call has a `request_id` of its own, kept in a file.
    Sqlite,
    /// The same, kept in the PostgreSQL of this URL.
    Postgres(String),
}

impl Feature {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::ClientCertificates => ", client certificates",
            Self::Jwt => ", JWT",
            Self::CallersFile => ", JWT and callers' file",
            Self::Gzip => ", replies in gzip",
            Self::Sqlite => ", keyed, SQLite",
            Self::Postgres(_) => ", keyed, PostgreSQL",
        }
    }

    /// Environment of the gateway, and the files that it names.
    pub(crate) fn settings(&self, folder: &Path) -> Fallible<Vec<(&'static str, String)>> {
        let path = |name: &str| folder.join(name).display().to_string();
        let file = |name: &str, content: &str| -> Fallible<String> {
            fs::write(folder.join(name), content)?;
            Ok(path(name))
        };
        Ok(match self {
            Self::None | Self::Gzip => vec![],
            Self::ClientCertificates => vec![("ONBOARDFLOW_CLIENT_CA", path(tls::CERTIFICATE))],
            Self::Jwt => vec![
                ("ONBOARDFLOW_JWKS_FILE", file("jwks.json", JWKS)?),
                ("ONBOARDFLOW_JWT_ISSUER", ISSUER.to_owned()),
                ("ONBOARDFLOW_JWT_AUDIENCE", AUDIENCE.to_owned()),
            ],
            Self::CallersFile => {
                let mut settings = Self::Jwt.settings(folder)?;
                settings.push(("ONBOARDFLOW_CALLERS_FILE", file("callers.toml", CALLERS)?));
                settings
            }
            Self::Sqlite => vec![("ONBOARDFLOW_LEDGER", format!("sqlite:{}", path("ledger")))],
            Self::Postgres(url) => vec![("ONBOARDFLOW_LEDGER", url.clone())],
        })
    }

    /// What stands before the path of a call to the upstream.
    pub(crate) fn base_path(&self) -> &'static str {
        match self {
            Self::Gzip => "/gzip",
            Self::None
            | Self::ClientCertificates
            | Self::Jwt
            | Self::CallersFile
            | Self::Sqlite
            | Self::Postgres(_) => "",
        }
    }

    /// The `authorization` of calls.
    pub(crate) fn authorization(&self) -> Option<&'static str> {
        match self {
            Self::Jwt | Self::CallersFile => Some(BEARER),
            Self::None
            | Self::ClientCertificates
            | Self::Gzip
            | Self::Sqlite
            | Self::Postgres(_) => None,
        }
    }

    /// The `request_id` of the next call: another one in every run, as a database may stay.
    pub(crate) fn next_request_id(&self) -> Option<String> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        match self {
            Self::Sqlite | Self::Postgres(_) => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let start = SystemTime::now().duration_since(UNIX_EPOCH);
                let start = start.unwrap_or_default().as_secs();
                Some(format!("{start:08x}-0000-4000-8000-{number:012x}"))
            }
            Self::None | Self::ClientCertificates | Self::Jwt | Self::CallersFile | Self::Gzip => {
                None
            }
        }
    }
}
