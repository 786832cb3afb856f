//! API keys in files: the gateway's own, and those of sites that have one. Says what is wrong
//! with a file, and never what is in it.

use std::{collections::HashMap, path::PathBuf};

use secrecy::SecretString;

use super::checked::Checked;
use crate::files;

/// The gateway's keys.
#[derive(Clone, Debug)]
pub struct Keys {
    /// For every site without a key of its own.
    pub default: Option<SecretString>,
    /// By site key.
    pub sites: HashMap<String, SecretString>,
}

impl Keys {
    /// One for all sites.
    pub fn one(token: SecretString) -> Self {
        Self {
            default: Some(token),
            sites: HashMap::new(),
        }
    }
}

/// Where the gateway's keys are.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The default, where it is not in a file.
    pub fixed: Option<SecretString>,
    /// `--token-file`.
    pub default: Option<PathBuf>,
    /// `--site-tokens-file`.
    pub sites: Option<PathBuf>,
}

impl KeyFiles {
    /// What the files hold, or what is wrong, which never quotes them.
    pub fn read(&self) -> Result<Keys, String> {
        let default = self.read_default();
        let sites = self.read_sites();
        Ok(Keys {
            default: default.map_err(|problem| format!("--token-file: {problem}"))?,
            sites: sites.map_err(|problem| format!("--site-tokens-file: {problem}"))?,
        })
    }

    pub(super) fn read_default(&self) -> Result<Option<SecretString>, String> {
        let Some(file) = &self.default else {
            return Ok(self.fixed.clone());
        };
        let text = files::read_text(file)?;
        Ok(Some(check_token(&text)?))
    }

    pub(super) fn read_sites(&self) -> Result<HashMap<String, SecretString>, String> {
        let Some(file) = &self.sites else {
            return Ok(HashMap::new());
        };
        let text = files::read_text(file)?;
        // toml's errors quote the line that they are about.
        let sites: HashMap<String, String> = toml::from_str(&text)
            .map_err(|_| "must be TOML with lines like site_key = \"API key\"")?;
        sites
            .into_iter()
            .map(|(site, token)| Ok((site, check_token(&token)?)))
            .collect()
    }
}

/// An API key: one word that a header can hold.
pub(super) fn check_token(text: &str) -> Checked<SecretString> {
    let token = text.trim();
    let is_word = token.chars().all(|c| c.is_ascii_graphic());
    if token.is_empty() {
        Err("is empty; it must hold the API key")
    } else if is_word {
        Ok(SecretString::from(token))
    } else {
        Err("the API key must be one word of printable ASCII")
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use secrecy::ExposeSecret as _;

    use super::*;

    fn files(folder: &Path) -> KeyFiles {
        KeyFiles {
            fixed: None,
            default: Some(folder.join("token")),
            sites: Some(folder.join("sites.toml")),
        }
    }

    #[test]
    fn both_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        fs::write(folder.path().join("token"), "abc\n").unwrap();
        fs::write(folder.path().join("sites.toml"), "f37F2PPh = \"def\"\n").unwrap();
        let keys = files.read().unwrap();
        assert_eq!(keys.default.as_ref().unwrap().expose_secret(), "abc");
        assert_eq!(keys.sites["f37F2PPh"].expose_secret(), "def");
    }

    #[test]
    fn problems_quote_no_key() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path());
        fs::write(folder.path().join("token"), "abc").unwrap();
        for text in [
            "site = secret",
            "site = \"sec ret\"",
            "[site]\nkey = \"secret\"",
            "=",
        ] {
            fs::write(folder.path().join("sites.toml"), text).unwrap();
            let problem = files.read().unwrap_err();
            assert!(problem.starts_with("--site-tokens-file: "), "{problem}");
            assert!(!problem.contains("sec"), "{problem}");
        }
    }
}
