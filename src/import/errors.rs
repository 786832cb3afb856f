//! The file of `--errors`: the rows that are not in, as they were, each below a remark that says why.

use std::{
    fs::File,
    io::{self, BufWriter, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use super::rows::REMARK;

/// Problems that are printed too. The rest is counted.
const PRINTED: usize = 20;

/// Takes the rows that are not in.
#[derive(Debug)]
pub(super) struct Errors(Mutex<State>);

#[derive(Debug)]
struct State {
    file: Option<BufWriter<File>>,
    /// What has to stand above the first row.
    header: Vec<u8>,
    noted: usize,
}

impl Errors {
    /// With the header that the rows stand under.
    pub(super) fn new(file: Option<&Path>, header: Vec<u8>) -> io::Result<Self> {
        Ok(Self(Mutex::new(State {
            file: file.map(File::create).transpose()?.map(BufWriter::new),
            header,
            noted: 0,
        })))
    }

    /// Takes a row and the reason.
    pub(super) fn note(&self, place: &str, raw: &[u8], why: &str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State {
            file,
            header,
            noted,
        } = &mut *state;
        *noted += 1;
        if *noted <= PRINTED {
            let _ = writeln!(io::stderr(), "{place}: {why}");
        } else if *noted == PRINTED + 1 {
            let _ = writeln!(
                io::stderr(),
                "more rows are wrong; --errors FILE takes them all"
            );
        }
        let Some(file) = file else {
            return Ok(());
        };
        for line in [
            std::mem::take(header).as_slice(),
            remark(place, why).as_bytes(),
            raw,
        ] {
            if !line.is_empty() {
                file.write_all(line)?;
                file.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.file.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

fn remark(place: &str, why: &str) -> String {
    format!("{REMARK}{place}: {}", why.replace(['\n', '\r'], " "))
}
