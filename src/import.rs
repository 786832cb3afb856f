//! `import`: sends the rows of files to a running gateway, as a caller like any other. So every rule, the
//! quota and the ledger hold for it too.
//!
//! It keeps no state. A row's `request_id` is made of the row, so the ledger knows after a crash what went
//! out before.

mod client;
mod columns;
mod errors;
mod lines;
mod pace;
mod reader;
mod requests;
mod rows;
mod send;
mod tally;

use std::{
    fs::{self, File},
    ops::ControlFlow::{self, Break, Continue},
    path::Path,
    sync::Arc,
};

use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

pub use self::tally::Counts;
use self::{
    client::Client, errors::Errors, pace::Pace, reader::Reader, requests::Rpc, send::Sending,
    tally::Tally,
};
use crate::{config::ImportConfig, error::Source};

/// How an import ended, and what became of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// How it ended.
    pub how: How,
    /// What became of the rows.
    pub counts: Counts,
}

/// How an import ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// Every row is in.
    Complete,
    /// So many rows were checked alone, and break no rule.
    Checked(u64),
    /// Some rows are not in, or may not be.
    Incomplete,
    /// It was interrupted.
    Interrupted,
    /// Arguments or a file can't be used, or rows break rules: nothing was sent.
    BadInput(String),
    /// The gateway takes no row, or a file can't be read on.
    Stopped(String),
}

impl How {
    /// The process's exit code: the shell's for an interrupt, and `EX_USAGE` of sysexits(3).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Complete | Self::Checked(_) => 0,
            Self::Incomplete | Self::Stopped(_) => 1,
            Self::Interrupted => 130,
            Self::BadInput(_) => 64,
        }
    }
}

impl Ended {
    fn unsent(how: How) -> Self {
        let counts = Counts::default();
        Self { how, counts }
    }
}

/// Imports the files, until `stop` is cancelled.
pub async fn run(config: ImportConfig, stop: CancellationToken) -> Result<Ended, Source> {
    if let Some(problem) = overwritten(&config) {
        return Ok(Ended::unsent(How::BadInput(problem)));
    }
    let config = Arc::new(config);
    let ended = import(Arc::clone(&config), stop).await?;
    if let Some(file) = &config.report {
        serde_json::to_writer_pretty(File::create(file)?, &ended.counts)?;
    }
    Ok(ended)
}

async fn import(config: Arc<ImportConfig>, stop: CancellationToken) -> Result<Ended, Source> {
    let rpc = Rpc::of(config.resource, config.operation)?;
    let client = Client::new(&config, rpc.clone())?;
    let mut tally = Tally::new();
    let errors = Arc::new(Errors::new(config.errors.as_deref(), tally.bar())?);
    let reader = Reader {
        config: Arc::clone(&config),
        rpc,
        errors: Arc::clone(&errors),
    };
    if config.dry_run || !reader.is_stream() {
        match check(reader.clone(), &stop, config.dry_run).await? {
            Continue(rows) => tally.expect(rows),
            Break(ended) => return Ok(ended),
        }
    }
    let pace = Pace::new(config.daily_budget, config.rate);
    let sending = Sending::new(client, pace, tally, errors, &stop);
    sending.run(reader, config.concurrency).await
}

/// How many rows there are, where each is right and they are to be sent.
async fn check(
    reader: Reader,
    stop: &CancellationToken,
    dry_run: bool,
) -> Result<ControlFlow<Ended, u64>, Source> {
    let told = stop.clone();
    let checking = spawn_blocking(move || reader.check(&told));
    let checked = tokio::select! {
        checked = checking => checked?,
        // Standard input may bring nothing more.
        () = stop.cancelled() => return Ok(Break(Ended::unsent(How::Interrupted))),
    };
    let (rows, invalid) = match checked {
        Ok(counted) => counted,
        Err(problem) => return Ok(Break(Ended::unsent(How::BadInput(problem)))),
    };
    let how = match invalid {
        0 if dry_run => How::Checked(rows),
        0 => return Ok(Continue(rows)),
        _ => How::BadInput(format!(
            "{invalid} of {rows} rows are wrong; nothing was sent"
        )),
    };
    let mut ended = Ended::unsent(how);
    ended.counts.invalid = invalid;
    Ok(Break(ended))
}

/// The file of `--errors` is often what is imported next.
fn overwritten(config: &ImportConfig) -> Option<String> {
    let place = |file: &Path| fs::canonicalize(file).ok();
    let written = [&config.errors, &config.report].into_iter().flatten();
    let written: Vec<_> = written.filter_map(|file| place(file)).collect();
    let mut files = config.files.iter();
    let file = files.find(|file| place(file).is_some_and(|file| written.contains(&file)))?;
    let file = file.display();
    Some(format!(
        "{file}: can't be the file of --errors or --report too"
    ))
}
