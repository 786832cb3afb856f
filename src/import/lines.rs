//! Lines of a file, numbered and bounded: plain, gzip or zstd, by what the file begins with. Doesn't look into a
//! line.
//!
//! The memory it takes is that of one line, whatever the file is.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use flate2::bufread::MultiGzDecoder;

/// Bytes that a row may have. A gateway takes far less by default (`--max-request-bytes`).
pub(super) const MAX_ROW: usize = 1 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// It has more than [`MAX_ROW`] bytes, which were passed over.
    TooLong,
}

pub(super) struct Lines {
    reader: Box<dyn BufRead + Send>,
    /// The number of the last line that was read.
    number: u64,
}

impl Lines {
    /// Those of this file, or of standard input where it is `-`.
    pub(super) fn open(file: &Path) -> io::Result<Self> {
        if file.as_os_str() == "-" {
            Self::of(io::stdin())
        } else {
            Self::of(File::open(file)?)
        }
    }

    pub(super) fn of(raw: impl Read + Send + 'static) -> io::Result<Self> {
        let mut raw = BufReader::with_capacity(64 << 10, raw);
        // A pipe may bring these bytes one by one.
        let mut start = Vec::new();
        raw.by_ref()
            .take(ZSTD.len() as u64)
            .read_to_end(&mut start)?;
        let packing = start.clone();
        let raw = BufReader::new(io::Cursor::new(start).chain(raw));
        let mut reader: Box<dyn BufRead + Send> = if packing.starts_with(&ZSTD) {
            Box::new(BufReader::new(zstd::Decoder::with_buffer(raw)?))
        } else if packing.starts_with(&GZIP) {
            Box::new(BufReader::new(MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        if reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
            reader.consume(BYTE_ORDER_MARK.len());
        }
        Ok(Self { reader, number: 0 })
    }

    /// The next line and its number, counted from 1.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line)>> {
        let mut line = Vec::new();
        let limit = MAX_ROW as u64 + 2;
        if self
            .reader
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(None);
        }
        self.number += 1;
        let ended = line.last() == Some(&b'\n');
        if ended {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > MAX_ROW {
            if !ended {
                self.reader.skip_until(b'\n')?;
            }
            return Ok(Some((self.number, Line::TooLong)));
        }
        Ok(Some((self.number, Line::Whole(line))))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(raw: Vec<u8>) -> Vec<(u64, Line)> {
        let mut lines = Lines::of(io::Cursor::new(raw)).unwrap();
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    #[test]
    fn every_packing_is_read_by_its_first_bytes() {
        let text = b"\xef\xbb\xbfa\r\nb\n\nc";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        let expected: Vec<_> = [&b"a"[..], b"b", b"", b"c"]
            .into_iter()
            .zip(1..)
            .map(|(line, number)| (number, Line::Whole(line.to_vec())))
            .collect();
        for raw in [
            text.to_vec(),
            gzip.finish().unwrap(),
            zstd::encode_all(&text[..], 1).unwrap(),
        ] {
            assert_eq!(read(raw), expected);
        }
        assert_eq!(read(vec![]), []);
    }

    #[test]
    fn a_line_of_10_mb_is_passed_over_and_the_next_is_read() {
        let mut raw = vec![b'x'; 10 << 20];
        raw.extend_from_slice(b"\nnext\n");
        let lines = read(raw);
        assert_eq!(
            lines,
            [(1, Line::TooLong), (2, Line::Whole(b"next".to_vec()))]
        );
        let edge = [vec![b'x'; MAX_ROW], b"\r\n".to_vec()].concat();
        assert_eq!(read(edge), [(1, Line::Whole(vec![b'x'; MAX_ROW]))]);
    }
}
