//! `import`: sends the rows of files to a running gateway, as a caller like any other. So every rule, the
//! quota and the ledger hold for it too.
//!
//! It keeps no state. A row's `request_id` is made of the row, so the ledger knows after a crash what went
//! out before.

mod columns;
mod errors;
mod lines;
mod pace;
mod requests;
mod rows;
mod send;
mod tally;

use std::{fs::File, path::Path, sync::Arc};

use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{JoinSet, spawn_blocking},
};
use tokio_util::sync::CancellationToken;

pub use self::tally::Counts;
use self::{
    errors::Errors,
    pace::Pace,
    requests::Rpc,
    rows::{Row, Rows},
    send::{Client, Fate},
    tally::Tally,
};
use crate::{config::ImportConfig, error::Source};

/// Rows that are read before they can be sent.
const READ_AHEAD: usize = 64;

/// How an import ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every row is in.
    Complete(Counts),
    /// Some are not, or may not be.
    Incomplete(Counts),
    /// It was interrupted.
    Interrupted(Counts),
    /// A file can't be used, or rows break rules: nothing was sent.
    BadFile(String),
    /// The gateway takes no row.
    Stopped(String, Counts),
}

impl Ended {
    /// What became of the rows, where any were sent.
    #[must_use]
    pub fn counts(&self) -> Option<&Counts> {
        match self {
            Self::Complete(counts)
            | Self::Incomplete(counts)
            | Self::Interrupted(counts)
            | Self::Stopped(_, counts) => Some(counts),
            Self::BadFile(_) => None,
        }
    }
}

/// What a CSV file's header is read with.
#[derive(Clone, Debug)]
pub(crate) struct RowShape {
    pub(crate) message: MessageDescriptor,
    pub(crate) site_key: Option<String>,
    pub(crate) map: std::collections::HashMap<String, String>,
}

/// A row that can be sent, or what is wrong with it.
struct Ready {
    place: String,
    raw: Vec<u8>,
    request: Result<Bytes, String>,
}

/// Reads files for one RPC.
#[derive(Clone)]
struct Reader {
    rpc: Rpc,
    shape: RowShape,
    config: Arc<ImportConfig>,
}

impl Reader {
    fn new(config: Arc<ImportConfig>) -> Result<Self, Source> {
        let rpc = Rpc::of(config.resource, config.operation)?;
        let shape = RowShape {
            message: rpc.message.clone(),
            site_key: config.site_key.clone(),
            map: config.map.clone(),
        };
        Ok(Self { rpc, shape, config })
    }

    fn open(&self, file: &Path) -> Result<Rows, String> {
        let format = self.config.format_of(file);
        Rows::open(file, format, &self.shape)
            .map_err(|problem| format!("{}: {problem}", file.display()))
    }

    fn ready(&self, file: &Path, row: Row) -> Ready {
        let is_named = !self.config.allow_duplicates;
        let request = row
            .json
            .and_then(|json| self.rpc.request(self.shape.with_site_key(json), is_named));
        Ready {
            place: format!("{}:{}", file.display(), row.line),
            raw: row.raw,
            request: request.map(Bytes::from),
        }
    }

    /// Gives every row of the files to `take`, until that says that it is enough.
    fn read(&self, mut take: impl FnMut(Ready) -> bool) -> Result<(), String> {
        for file in &self.config.files {
            let mut rows = self.open(file)?;
            loop {
                let next = rows.next();
                let next =
                    next.map_err(|error| format!("{}: can't be read on: {error}", file.display()))?;
                let Some(row) = next else { break };
                if !take(self.ready(file, row)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The header under which the rows of all files stand.
    fn header(&self) -> Result<Vec<u8>, String> {
        let mut headers = Vec::new();
        for file in self.config.files.iter().filter(|file| !is_stdin(file)) {
            headers.push(self.open(file)?.header().to_vec());
        }
        headers.dedup();
        match headers.len() {
            0 | 1 => Ok(headers.pop().unwrap_or_default()),
            _ => Err("with --errors, all files must have the same header".to_owned()),
        }
    }

    /// Looks at every row, and counts them, and those that are wrong.
    fn check(&self, errors: &Errors) -> Result<(u64, u64), String> {
        let (mut rows, mut wrong) = (0, 0);
        let mut written = Ok(());
        self.read(|row| {
            rows += 1;
            if let Err(why) = &row.request {
                wrong += 1;
                written = errors.note(&row.place, &row.raw, why);
            }
            written.is_ok()
        })?;
        written.map_err(|error| format!("--errors: {error}"))?;
        Ok((rows, wrong))
    }
}

impl RowShape {
    /// JSON rows too get the site's key where they have none.
    fn with_site_key(&self, mut json: serde_json::Value) -> serde_json::Value {
        if let (Some(site_key), Some(row)) = (&self.site_key, json.as_object_mut())
            && !row.contains_key("site_key")
            && !row.contains_key("siteKey")
        {
            row.insert("site_key".to_owned(), site_key.as_str().into());
        }
        json
    }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

/// Imports the files, until `stop` is cancelled.
pub async fn run(config: ImportConfig, stop: CancellationToken) -> Result<Ended, Source> {
    let config = Arc::new(config);
    let reader = Reader::new(Arc::clone(&config))?;
    let is_stream = config.files.iter().any(|file| is_stdin(file));
    let header = match config.errors {
        Some(_) => reader.header(),
        None => Ok(Vec::new()),
    };
    let header = match header {
        Ok(header) => header,
        Err(problem) => return Ok(Ended::BadFile(problem)),
    };
    let errors = Arc::new(Errors::new(config.errors.as_deref(), header)?);
    let mut total = None;
    if config.dry_run || !is_stream {
        let (reader, noted) = (reader.clone(), Arc::clone(&errors));
        let checked = spawn_blocking(move || reader.check(&noted)).await?;
        errors.finish()?;
        match checked {
            Err(problem) => return Ok(Ended::BadFile(problem)),
            Ok((rows, 0)) => total = Some(rows),
            Ok((rows, wrong)) => {
                return Ok(Ended::BadFile(format!(
                    "{wrong} of {rows} rows are wrong; nothing was sent"
                )));
            }
        }
    }
    if config.dry_run {
        return Ok(Ended::Complete(Counts::default()));
    }
    let sending = Sending {
        client: Client::new(&config.target, reader.rpc.path.clone())?,
        is_named: !config.allow_duplicates,
        pace: Pace::new(config.daily_budget, config.rate),
        tally: Tally::new(total),
        errors,
        stop,
        stopped: CancellationToken::new(),
        why: std::sync::Mutex::default(),
    };
    let ended = Arc::new(sending).run(reader, config.concurrency).await?;
    if let (Some(file), Some(counts)) = (&config.report, ended.counts()) {
        serde_json::to_writer_pretty(File::create(file)?, counts)?;
    }
    Ok(ended)
}

/// What all rows are sent with.
struct Sending {
    client: Client,
    is_named: bool,
    pace: Pace,
    tally: Tally,
    errors: Arc<Errors>,
    /// Somebody asks for the end.
    stop: CancellationToken,
    /// The gateway takes no row, and why.
    stopped: CancellationToken,
    why: std::sync::Mutex<String>,
}

impl Sending {
    async fn run(self: Arc<Self>, reader: Reader, concurrency: usize) -> Result<Ended, Source> {
        let (rows, mut read) = mpsc::channel(READ_AHEAD);
        let reading = spawn_blocking(move || reader.read(|row| rows.blocking_send(row).is_ok()));
        let showing = Arc::clone(&self);
        let showing = tokio::spawn(async move { showing.tally.show(&showing.pace).await });
        let places = Arc::new(Semaphore::new(concurrency));
        let mut under_way = JoinSet::new();
        while !self.is_over() {
            let place = Arc::clone(&places).acquire_owned().await?;
            while let Some(ended) = under_way.try_join_next() {
                ended??;
            }
            let row = tokio::select! {
                row = read.recv() => row,
                () = self.over() => None,
            };
            let Some(row) = row else { break };
            let sending = Arc::clone(&self);
            under_way.spawn(async move {
                let noted = sending.send(row).await;
                drop(place);
                noted
            });
        }
        let all_read = read.is_closed() && read.is_empty();
        drop(read);
        while let Some(ended) = under_way.join_next().await {
            ended??;
        }
        showing.abort();
        self.errors.finish()?;
        let unread = reading.await?.err();
        Ok(self.ended(unread, all_read))
    }

    fn ended(&self, unread: Option<String>, all_read: bool) -> Ended {
        let was_told = self.stop.is_cancelled() && !all_read;
        self.tally.note(|counts| counts.interrupted |= was_told);
        let counts = self.tally.counts();
        let why = self.why.lock().map(|why| why.clone()).unwrap_or_default();
        match unread {
            _ if self.stopped.is_cancelled() => Ended::Stopped(why, counts),
            _ if counts.interrupted => Ended::Interrupted(counts),
            Some(problem) => Ended::Stopped(problem, counts),
            None if counts.troubled() > 0 => Ended::Incomplete(counts),
            None => Ended::Complete(counts),
        }
    }

    fn is_over(&self) -> bool {
        self.stop.is_cancelled() || self.stopped.is_cancelled()
    }

    async fn over(&self) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = self.stopped.cancelled() => {}
        }
    }

    /// Sends a row until it is known what became of it.
    async fn send(&self, row: Ready) -> Result<(), Source> {
        let request = match row.request {
            Ok(request) => request,
            Err(why) => {
                self.tally.note(|counts| counts.invalid += 1);
                return Ok(self.errors.note(&row.place, &row.raw, &why)?);
            }
        };
        loop {
            tokio::select! {
                () = self.pace.admit() => {}
                () = self.over() => {
                    self.tally.note(|counts| counts.interrupted = true);
                    return Ok(());
                }
            }
            match self.client.send(request.clone(), self.is_named).await {
                Fate::Sent => self.tally.note(|counts| counts.sent += 1),
                Fate::Replayed => {
                    self.pace.refund();
                    self.tally.note(|counts| counts.replayed += 1);
                }
                Fate::Again(wait) => {
                    self.pace.refund();
                    self.pace.hold(wait);
                    continue;
                }
                Fate::Failed(reason) => {
                    self.errors.note(&row.place, &row.raw, &reason)?;
                    self.tally
                        .note(|counts| *counts.failed.entry(reason).or_default() += 1);
                }
                Fate::Unknown(reason) => {
                    let why = format!("{reason}: it may be in");
                    self.errors.note(&row.place, &row.raw, &why)?;
                    self.tally
                        .note(|counts| *counts.unknown.entry(reason).or_default() += 1);
                }
                Fate::Stop(why) => {
                    self.pace.refund();
                    if let Ok(mut told) = self.why.lock() {
                        *told = why;
                    }
                    self.stopped.cancel();
                }
            }
            return Ok(());
        }
    }
}
