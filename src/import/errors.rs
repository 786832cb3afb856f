//! The rows that are not in: each is told on standard error, and written to the file of `--errors`, as it
//! was, below a remark that says why. Judges nothing, and counts nothing.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use indicatif::ProgressBar;

use super::rows::REMARK;

/// Takes the rows that are not in.
#[derive(Debug)]
pub(super) struct Errors {
    /// What is told must not be drawn over.
    bar: ProgressBar,
    file: Option<Mutex<Written>>,
}

/// The file of `--errors`.
#[derive(Debug)]
struct Written {
    file: BufWriter<File>,
    /// The header that the rows stand below, once one is known.
    header: Option<Vec<u8>>,
    is_begun: bool,
}

impl Errors {
    pub(super) fn new(file: Option<&Path>, bar: ProgressBar) -> io::Result<Self> {
        let file = file.map(File::create).transpose()?;
        let file = file.map(|file| {
            Mutex::new(Written {
                file: BufWriter::new(file),
                header: None,
                is_begun: false,
            })
        });
        Ok(Self { bar, file })
    }

    /// The rows to come stand below this header, which is empty where their file has none.
    pub(super) fn stand_below(&self, header: &[u8]) -> Result<(), String> {
        let Some(mut written) = self.written() else {
            return Ok(());
        };
        let known = written.header.get_or_insert_with(|| header.to_vec());
        if known != header {
            return Err("with --errors, all files must have the same header".to_owned());
        }
        Ok(())
    }

    /// Takes a row and the reason.
    pub(super) fn note(&self, place: &str, raw: &[u8], why: &str) -> Result<(), String> {
        let told = format!("{place}: {}", why.replace(['\n', '\r'], " "));
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr(), "{told}");
        });
        let written = self.written().map(|mut written| written.row(&told, raw));
        written.unwrap_or(Ok(())).map_err(|error| failed(&error))
    }

    pub(super) fn finish(&self) -> Result<(), String> {
        let flushed = self.written().map(|mut written| written.file.flush());
        flushed.unwrap_or(Ok(())).map_err(|error| failed(&error))
    }

    fn written(&self) -> Option<MutexGuard<'_, Written>> {
        let file = self.file.as_ref()?;
        Some(file.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Written {
    fn row(&mut self, told: &str, raw: &[u8]) -> io::Result<()> {
        if let (false, Some(header)) = (self.is_begun, &self.header)
            && !header.is_empty()
        {
            self.file.write_all(header)?;
            writeln!(self.file)?;
        }
        self.is_begun = true;
        writeln!(self.file, "{REMARK}{told}")?;
        if !raw.is_empty() {
            self.file.write_all(raw)?;
            writeln!(self.file)?;
        }
        Ok(())
    }
}

fn failed(error: &io::Error) -> String {
    format!("--errors: {error}")
}
