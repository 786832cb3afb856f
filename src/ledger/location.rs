//! Where a ledger is: `sqlite:FILE` or `postgres://…`.

use std::{fmt, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

/// Where a ledger is. Shows nothing of a URL, which may hold a password.
#[derive(Clone)]
pub enum Location {
    /// A file of this machine.
    Sqlite(PathBuf),
    /// A server's URL.
    Postgres(SecretString),
}

impl Location {
    /// Reads `sqlite:FILE` or `postgres://…`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORMS: &str = "must be sqlite:FILE or postgres://USER@HOST/DATABASE";

        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return match file.to_ascii_lowercase().as_str() {
                "" => Err("sqlite: needs the name of a file"),
                // Each connection would have a ledger of its own, and no restart any.
                ":memory:" => Err("must be a file, as the ledger has to survive a restart"),
                _ => Ok(Self::Sqlite(file.into())),
            };
        }
        let is_server = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if is_server && Url::parse(text).is_ok() {
            Ok(Self::Postgres(text.into()))
        } else {
            Err(FORMS)
        }
    }

    /// As sqlx takes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Sqlite(file) => {
                let file = file.to_string_lossy();
                let file = file
                    .replace('%', "%25")
                    .replace('?', "%3F")
                    .replace('#', "%23");
                format!("sqlite://{file}?mode=rwc")
            }
            Self::Postgres(url) => url.expose_secret().to_owned(),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_file_or_a_server() {
        for good in [
            "sqlite:/tmp/a.db",
            "sqlite:a b.db",
            "postgres://u:p@h/d",
            "postgresql://h",
        ] {
            assert!(Location::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "sqlite:",
            "sqlite::memory:",
            "/tmp/a.db",
            "redis://h",
            "postgres:",
        ] {
            assert!(Location::parse(bad).is_err(), "{bad}");
        }
        let shown = format!("{:?}", Location::parse("postgres://u:hunter2@h/d").unwrap());
        assert!(!shown.contains("hunter2"));
    }
}
