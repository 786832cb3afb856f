//! The import: flags, and what they come to. Opens no file of rows.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use url::Url;

use super::checked::{Checked, Problems, base_url, choice, count, quota};

/// Everything that `import` needs.
#[derive(Clone, Debug, Args)]
pub struct ImportConfig {
    /// Files to import: JSON Lines, with one request a line in Protobuf's JSON mapping, or CSV, with a header
    /// of field paths, if the name says .csv. They may be compressed with gzip or zstd. `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Where rows go.
    #[command(flatten)]
    pub target: ImportTarget,
    /// What the rows are.
    #[arg(long, value_name = "RESOURCE", default_value = "customer", value_parser = choice::<ImportResource>)]
    pub resource: ImportResource,
    /// What to do with them.
    #[arg(long, value_name = "OPERATION", default_value = "create", value_parser = choice::<ImportOperation>)]
    pub operation: ImportOperation,
    /// Format of all files, whatever their names say.
    #[arg(long, value_name = "FORMAT", value_parser = choice::<ImportFormat>)]
    pub format: Option<ImportFormat>,
    /// Site key for rows that have none.
    #[arg(long, value_name = "KEY")]
    pub site_key: Option<String>,
    /// Field path of a CSV column with another name, as in --map mail=customer.email. Repeatable.
    #[arg(long, value_name = "COLUMN=PATH", value_parser = renaming)]
    pub map: Vec<(String, String)>,
    /// Check every row, and send none.
    #[arg(long)]
    pub dry_run: bool,
    /// File for the rows that were not imported, unchanged, each with the reason on the line above it.
    /// Correct them, and import this file.
    #[arg(long, value_name = "FILE")]
    pub errors: Option<PathBuf>,
    /// File for a summary in JSON.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Most rows to send on one day (UTC). The rest waits for the next day. Rows that were sent
    /// earlier today, as the ledger counts them, are included.
    #[arg(long, value_name = "N", value_parser = quota)]
    pub daily_budget: Option<u64>,
    /// Most rows to send in a second.
    #[arg(long, value_name = "N", value_parser = count::<u32>)]
    pub rate: Option<u32>,
    /// Rows to send at the same time.
    #[arg(long, value_name = "N", default_value = "16", value_parser = count::<usize>)]
    pub concurrency: usize,
    /// Send rows without a request_id, to a gateway that keeps no ledger. If the import is run again, rows
    /// can be recorded twice.
    #[arg(long)]
    pub allow_duplicates: bool,
}

/// A gateway, and what it demands of its callers.
#[derive(Clone, Debug, Args)]
pub struct ImportTarget {
    /// URL of the gateway.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", value_parser = base_url)]
    pub to: Url,
    /// PEM file with the CA of the gateway's certificate. Required with an https URL.
    #[arg(long = "to-ca", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file with a client certificate, where the gateway demands one.
    #[arg(long = "to-cert", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    #[arg(long = "to-key", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with a bearer token, where the gateway demands one.
    #[arg(long = "to-token-file", value_name = "FILE")]
    pub bearer: Option<PathBuf>,
}

/// What is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportResource {
    /// Customers.
    Customer,
    /// Subscriptions.
    Subscription,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportOperation {
    /// Record new ones.
    Create,
    /// Record that they changed.
    Update,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ImportFormat {
    /// A JSON object a line.
    Jsonl,
    /// Comma-separated values with a header.
    Csv,
}

impl ImportConfig {
    /// The format of a file: what was said, or what its name says.
    pub fn format_of(&self, file: &Path) -> ImportFormat {
        let is = |path: &Path, wanted: &str| {
            let extension = path.extension();
            extension.is_some_and(|extension| extension.eq_ignore_ascii_case(wanted))
        };
        let is_packed = is(file, "gz") || is(file, "zst");
        let inner = file.with_extension("");
        let unpacked = if is_packed { &inner } else { file };
        match self.format {
            Some(format) => format,
            None if is(unpacked, "csv") => ImportFormat::Csv,
            None => ImportFormat::Jsonl,
        }
    }

    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let target = &self.target;
        if target.to.scheme() == "https" && target.ca.is_none() {
            problems.add("to-ca", "is required with an https URL");
        }
        if target.cert.is_some() != target.key.is_some() {
            problems.add("to-cert", "goes together with --to-key");
        }
        problems.finish(Some(self))
    }
}

fn renaming(text: &str) -> Checked<(String, String)> {
    let pair = text
        .split_once('=')
        .filter(|(column, path)| !column.is_empty() && !path.is_empty());
    pair.map(|(column, path)| (column.to_owned(), path.to_owned()))
        .ok_or("must be like column=field.path")
}
