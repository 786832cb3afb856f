//! Reads the files, and makes a request of each row. Runs where it may block, and knows no gateway.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{
    errors::Errors,
    requests::Rpc,
    rows::{Row, Rows, unreadable},
};
use crate::config::ImportConfig;

/// A row that can be sent, or what is wrong with it.
pub(super) struct Ready {
    /// Its file and line.
    pub(super) place: String,
    /// As it stands in the file.
    pub(super) raw: Vec<u8>,
    pub(super) request: Result<Bytes, String>,
}

/// Reads files for one RPC.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) config: Arc<ImportConfig>,
    pub(super) rpc: Rpc,
    pub(super) errors: Arc<Errors>,
}

impl Reader {
    /// Whether something can be read only once: standard input, or another pipe.
    pub(super) fn is_stream(&self) -> bool {
        let mut files = self.config.files.iter();
        files.any(|file| file.as_os_str() == "-" || (file.exists() && !file.is_file()))
    }

    /// Gives every row of the files to `take`, until that says that it is enough.
    pub(super) fn read(
        &self,
        mut take: impl FnMut(Ready) -> Result<bool, String>,
    ) -> Result<(), String> {
        for file in &self.config.files {
            let told = |problem| format!("{}: {problem}", file.display());
            let mut rows = self.open(file).map_err(told)?;
            self.errors.stand_below(&rows.header).map_err(told)?;
            while let Some(row) = rows.next().map_err(|error| told(unreadable(&error)))? {
                if !take(self.ready(file, row))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Counts the rows, and those that are wrong.
    pub(super) fn check(&self, stop: &CancellationToken) -> Result<(u64, u64), String> {
        let (mut rows, mut wrong) = (0, 0);
        self.read(|row| {
            rows += 1;
            if let Err(why) = &row.request {
                wrong += 1;
                self.errors.note(&row.place, &row.raw, why)?;
            }
            Ok(!stop.is_cancelled())
        })?;
        self.errors.finish()?;
        Ok((rows, wrong))
    }

    fn open(&self, file: &Path) -> Result<Rows, String> {
        let format = self.config.format_of(file);
        Rows::open(file, format, &self.rpc.message, &self.config.map)
    }

    fn ready(&self, file: &Path, row: Row) -> Ready {
        let request = row.content.and_then(|mut json| {
            self.name_site(&mut json);
            self.rpc.request(json, !self.config.allow_duplicates)
        });
        Ready {
            place: format!("{}:{}", file.display(), row.line),
            raw: row.raw,
            request: request.map(Bytes::from),
        }
    }

    /// A row that names no site is of the one that was given.
    fn name_site(&self, json: &mut serde_json::Value) {
        if let (Some(site_key), Some(row)) = (&self.config.site_key, json.as_object_mut())
            && !row.contains_key("site_key")
            && !row.contains_key("siteKey")
        {
            row.insert("site_key".to_owned(), site_key.as_str().into());
        }
    }
}
