//! The ledger: flags, and what they come to. Opens none.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{ArgGroup, Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;

use super::checked::{Checked, Problems, timeout, variable};
use crate::files;

/// Where the ledger is, and how long it remembers.
#[derive(Debug, Args)]
pub(super) struct PlaceArgs {
    /// Ledger that makes writes with a request_id safe to repeat: sqlite:FILE for one instance, or
    /// postgres://USER@HOST/DATABASE for several. Off by default. Put a URL with a password into
    /// --ledger-file or ONBOARDFLOW_LEDGER.
    #[arg(long, global = true, value_name = "PLACE")]
    pub(super) ledger: Option<SecretString>,
    /// File with the value of --ledger.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) ledger_file: Option<PathBuf>,
    /// How long the ledger remembers a request_id.
    #[arg(long, global = true, value_name = "DURATION", default_value = "72h", value_parser = timeout)]
    pub(super) ledger_retention: Duration,
}

/// Flags of `ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What to do.
    #[command(subcommand)]
    action: LedgerAction,
}

/// What a person does with a ledger.
#[derive(Clone, Debug, Subcommand)]
pub enum LedgerAction {
    /// Show the writes that the ledger knows, oldest first.
    List {
        /// Those of unknown fate alone.
        #[arg(long)]
        unknown: bool,
    },
    /// Say what became of a write of unknown fate, once that was looked up in OnboardFlow's pages.
    #[command(group(ArgGroup::new("fate").required(true)))]
    Settle {
        /// The write: its ID in `list`, its whole request_id, or the eight characters of that in `list`.
        #[arg(value_name = "ID")]
        id: String,
        /// It was applied: a repeat gets ALREADY_EXISTS.
        #[arg(long, group = "fate")]
        applied: bool,
        /// It was not applied: a repeat is executed.
        #[arg(long, group = "fate")]
        not_applied: bool,
    },
    /// Forget the writes that are older than --ledger-retention, as a running gateway does.
    Prune,
}

/// Everything that `ledger` needs.
#[derive(Debug)]
pub struct LedgerCommand {
    /// Which ledger.
    pub ledger: LedgerConfig,
    /// What to do with it.
    pub action: LedgerAction,
}

impl LedgerArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<LedgerCommand, Problems> {
        let mut problems = Problems::default();
        if self.place.ledger.is_none() && self.place.ledger_file.is_none() {
            problems.add("ledger", "is required, or --ledger-file");
        }
        let ledger = self.place.check(&mut problems);
        let action = self.action;
        let config = ledger.map(|ledger| LedgerCommand { ledger, action });
        problems.finish(config)
    }
}

/// The ledger that a gateway keeps.
#[derive(Clone, Debug)]
pub struct LedgerConfig {
    /// Where it is.
    pub location: Location,
    /// How long it remembers.
    pub retention: Duration,
}

impl PlaceArgs {
    /// The ledger, if there is one and nothing is wrong with it.
    pub(super) fn check(self, problems: &mut Problems) -> Option<LedgerConfig> {
        let retention = self.ledger_retention;
        let location = self.location(problems)?;
        Some(LedgerConfig {
            location,
            retention,
        })
    }

    fn location(self, problems: &mut Problems) -> Option<Location> {
        match (self.ledger, self.ledger_file) {
            (None, None) => None,
            (Some(_), Some(_)) => {
                problems.add("ledger-file", "can't be given together with --ledger");
                None
            }
            (None, Some(file)) => problems.check("ledger-file", read(&file)),
            (Some(location), None) => {
                let location = Location::parse(location.expose_secret());
                let location = problems.check("ledger", location)?;
                if location.tells_a_password() {
                    problems.add(
                        "ledger",
                        "must not hold a password; use --ledger-file or ONBOARDFLOW_LEDGER",
                    );
                }
                Some(location)
            }
        }
    }
}

fn read(file: &Path) -> Checked<Location> {
    Location::parse(files::read_text(file)?.trim())
}

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

    /// Whether it holds a password that the environment doesn't: everybody on the machine reads a command line.
    fn tells_a_password(&self) -> bool {
        let Self::Postgres(text) = self else {
            return false;
        };
        let text = text.expose_secret();
        let has_password = Url::parse(text).is_ok_and(|url| {
            url.password().is_some() || url.query_pairs().any(|(name, _)| name == "password")
        });
        has_password && variable("ONBOARDFLOW_LEDGER").is_none_or(|value| value != text)
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
