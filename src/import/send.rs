//! Sends rows until it is known what became of each. How to read a row, when to send it, and what an answer
//! means, others know.

use std::sync::{Arc, OnceLock};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{sync::mpsc, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::{
    Ended, How,
    client::{Client, Fate},
    errors::Errors,
    pace::Pace,
    reader::{Reader, Ready},
    tally::Tally,
};
use crate::error::Source;

/// Rows that are read before they can be sent.
const READ_AHEAD: usize = 64;

/// What all rows are sent with.
pub(super) struct Sending {
    client: Client,
    pace: Pace,
    tally: Tally,
    errors: Arc<Errors>,
    /// Nothing more goes out: somebody said so, or the gateway takes no row.
    end: CancellationToken,
    /// How it ends where the gateway takes no row.
    refused: OnceLock<How>,
}

impl Sending {
    pub(super) fn new(
        client: Client,
        pace: Pace,
        tally: Tally,
        errors: Arc<Errors>,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            client,
            pace,
            tally,
            errors,
            end: stop.child_token(),
            refused: OnceLock::new(),
        }
    }

    /// Sends what is read. At the end, what is under way is finished.
    pub(super) async fn run(self, reader: Reader, concurrency: usize) -> Result<Ended, Source> {
        let (rows, mut read) = mpsc::channel(READ_AHEAD);
        let reading =
            spawn_blocking(move || reader.read(|row| Ok(rows.blocking_send(row).is_ok())));
        tokio::select! {
            sent = stream::poll_fn(|task| read.poll_recv(task))
                .take_until(self.end.cancelled())
                .map(Ok)
                .try_for_each_concurrent(concurrency, |row| self.send(row)) => sent?,
            never = self.tally.show(&self.pace) => match never {},
        }
        self.tally.finish(&self.pace);
        self.errors.finish()?;
        // A reader that nobody listens to may wait for standard input for ever.
        let unread = if read.is_closed() && read.is_empty() {
            reading.await?.err()
        } else {
            self.tally.note(|counts| counts.interrupted = true);
            None
        };
        Ok(self.ended(unread))
    }

    fn ended(self, unread: Option<String>) -> Ended {
        let counts = self.tally.counts();
        let how = match self.refused.into_inner().or(unread.map(How::Stopped)) {
            // What was right for other rows is no bad argument.
            Some(How::BadInput(why)) if counts.done() > 0 => How::Stopped(why),
            Some(how) => how,
            None if counts.interrupted => How::Interrupted,
            None if counts.troubled() > 0 => How::Incomplete,
            None => How::Complete,
        };
        Ended { how, counts }
    }

    async fn send(&self, row: Ready) -> Result<(), Source> {
        let request = match row.request {
            Ok(request) => request,
            Err(why) => {
                self.tally.note(|counts| counts.invalid += 1);
                return Ok(self.errors.note(&row.place, &row.raw, &why)?);
            }
        };
        loop {
            let day = tokio::select! {
                biased;
                () = self.end.cancelled() => {
                    self.tally.note(|counts| counts.interrupted = true);
                    return Ok(());
                }
                day = self.pace.admit() => day,
            };
            let answer = self.client.send(request.clone()).await;
            self.pace.settle(day, answer.spent);
            match answer.fate {
                Fate::Sent => self.tally.note(|counts| counts.sent += 1),
                Fate::Replayed => self.tally.note(|counts| counts.replayed += 1),
                Fate::Again(wait, why) => {
                    self.pace.hold(wait, why);
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
                Fate::Stop(how) => {
                    self.refused.get_or_init(|| how);
                    self.end.cancel();
                }
            }
            return Ok(());
        }
    }
}
