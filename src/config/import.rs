//! The import: flags, and what they come to.

#![expect(
    clippy::doc_markdown,
    reason = "the flags' comments are what --help prints"
)]

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use url::Url;

use super::checked::{Checked, Problems, base_url, check, checked, choice, count, quota};

/// Flags of `import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Files to import, plain, gzip or zstd: JSON Lines with a request in Protobuf's JSON mapping on each
    /// line, or CSV with a header of field paths, if the name says .csv. `-` is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// URL of the gateway.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:50051", value_parser = checked(base_url))]
    to: Checked<Url>,
    /// PEM file with the CA of the gateway's certificate. Required with an https URL.
    #[arg(long, value_name = "FILE")]
    to_ca: Option<PathBuf>,
    /// PEM file with a client certificate, where the gateway demands one.
    #[arg(long, value_name = "FILE")]
    to_cert: Option<PathBuf>,
    /// PEM file with the key of the client certificate.
    #[arg(long, value_name = "FILE")]
    to_key: Option<PathBuf>,
    /// File with a bearer token, where the gateway demands one.
    #[arg(long, value_name = "FILE")]
    to_token_file: Option<PathBuf>,
    /// What the rows are.
    #[arg(long, value_name = "RESOURCE", default_value = "customer", value_parser = checked(choice::<ImportResource>))]
    resource: Checked<ImportResource>,
    /// What to do with them.
    #[arg(long, value_name = "OPERATION", default_value = "create", value_parser = checked(choice::<ImportOperation>))]
    operation: Checked<ImportOperation>,
    /// Format of all files, whatever their names say.
    #[arg(long, value_name = "FORMAT", value_parser = checked(choice::<ImportFormat>))]
    format: Option<Checked<ImportFormat>>,
    /// Key of the site of rows that name none.
    #[arg(long, value_name = "KEY")]
    site_key: Option<String>,
    /// A CSV column that has another name than its field, as in --map mail=customer.email. Repeatable.
    #[arg(long, value_name = "COLUMN=PATH", value_parser = checked(renaming))]
    map: Vec<Checked<(String, String)>>,
    /// Check every row, and send none.
    #[arg(long)]
    dry_run: bool,
    /// File for the rows that are not in, as they were, each with the reason above it. It can be imported
    /// once they are mended.
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// File for a summary in JSON.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Rows to send at most on one day (UTC); the rest waits for the next. Each run counts its own.
    #[arg(long, value_name = "N", value_parser = checked(quota))]
    daily_budget: Option<Checked<u64>>,
    /// Rows to send at most in a second.
    #[arg(long, value_name = "N", value_parser = checked(count))]
    rate: Option<Checked<usize>>,
    /// Rows that are under way at once.
    #[arg(long, value_name = "N", default_value = "16", value_parser = checked(count))]
    concurrency: Checked<usize>,
    /// Send rows without a request_id, to a gateway that keeps no ledger. A row can be recorded twice then,
    /// if the import is run again.
    #[arg(long)]
    allow_duplicates: bool,
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

/// Everything that `import` needs.
#[derive(Clone, Debug)]
pub struct ImportConfig {
    /// The files, in their order.
    pub files: Vec<PathBuf>,
    /// Where rows go.
    pub target: ImportTarget,
    /// What they are.
    pub resource: ImportResource,
    /// What is done with them.
    pub operation: ImportOperation,
    /// Their format, where the names of the files don't say it.
    pub format: Option<ImportFormat>,
    /// The site of rows that name none.
    pub site_key: Option<String>,
    /// Columns with another name than their field.
    pub map: HashMap<String, String>,
    /// Whether to check alone.
    pub dry_run: bool,
    /// Where rows go that are not in.
    pub errors: Option<PathBuf>,
    /// Where the summary goes.
    pub report: Option<PathBuf>,
    /// Rows a day.
    pub daily_budget: Option<u64>,
    /// Rows a second.
    pub rate: Option<u32>,
    /// Rows at once.
    pub concurrency: usize,
    /// Whether rows go without an id.
    pub allow_duplicates: bool,
}

/// A gateway, and what it demands of its callers.
#[derive(Clone, Debug)]
pub struct ImportTarget {
    /// Its URL.
    pub to: Url,
    /// The CA of its certificate.
    pub ca: Option<PathBuf>,
    /// A client certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The file with a bearer token.
    pub bearer: Option<PathBuf>,
}

impl ImportConfig {
    /// The format of a file: what was said, or what its name says.
    #[must_use]
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
}

impl ImportArgs {
    /// The configuration, or everything that is wrong with it.
    pub fn check(self) -> Result<ImportConfig, Problems> {
        let mut problems = Problems::default();
        let target = self.target(&mut problems);
        let resource = check!(problems, self.resource);
        let operation = check!(problems, self.operation);
        let format = problems.check("format", self.format.transpose());
        let daily_budget = problems.check("daily_budget", self.daily_budget.transpose());
        let rate = problems.check("rate", self.rate.transpose());
        let concurrency = check!(problems, self.concurrency);
        let map: Checked<HashMap<_, _>> = self.map.into_iter().collect();
        let map = problems.check("map", map);
        let config = (|| {
            Some(ImportConfig {
                files: self.files,
                target: target?,
                resource: resource?,
                operation: operation?,
                format: format?,
                site_key: self.site_key,
                map: map?,
                dry_run: self.dry_run,
                errors: self.errors,
                report: self.report,
                daily_budget: daily_budget?,
                rate: rate?.and_then(|rate| u32::try_from(rate).ok()),
                concurrency: concurrency?,
                allow_duplicates: self.allow_duplicates,
            })
        })();
        problems.finish(config)
    }

    fn target(&self, problems: &mut Problems) -> Option<ImportTarget> {
        let to = problems.check("to", self.to.clone());
        if to.as_ref().is_some_and(|to| to.scheme() == "https") && self.to_ca.is_none() {
            problems.add("to-ca", "is required with an https URL");
        }
        let identity = match (&self.to_cert, &self.to_key) {
            (Some(cert), Some(key)) => Some((cert.clone(), key.clone())),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                problems.add("to-cert", "goes together with --to-key");
                None
            }
        };
        Some(ImportTarget {
            to: to?,
            ca: self.to_ca.clone(),
            identity,
            bearer: self.to_token_file.clone(),
        })
    }
}

fn renaming(text: &str) -> Checked<(String, String)> {
    let pair = text
        .split_once('=')
        .filter(|(column, path)| !column.is_empty() && !path.is_empty());
    pair.map(|(column, path)| (column.to_owned(), path.to_owned()))
        .ok_or("must be like column=field.path")
}
