//! Rows of a file, each with the line on which it begins. A row that can't be read is one that is wrong,
//! and the next is read all the same. Knows the two formats, and no rule of a request.

use std::{collections::VecDeque, io, path::Path};

use prost_reflect::MessageDescriptor;
use serde_json::Value;

use super::{
    columns::Columns,
    lines::{Line, Lines, MAX_ROW},
};
use crate::config::ImportFormat;

/// What stands before a row in the file of `--errors`, and is passed over when that is imported.
pub(super) const REMARK: &str = "#import: ";

/// Why a file can't be read, or not to its end.
pub(super) fn unreadable(error: &std::io::Error) -> String {
    format!("can't be read: {error}")
}

#[derive(Debug)]
pub(super) struct Row<T = Value> {
    /// The line on which it begins.
    pub(super) line: u64,
    /// As it stands in the file; nothing of a row that is too long.
    pub(super) raw: Vec<u8>,
    /// The request in Protobuf's JSON mapping, or why there is none. Of CSV, first the cells.
    pub(super) content: Result<T, String>,
}

impl<T> Row<T> {
    fn wrong(line: u64, raw: Vec<u8>, why: &str) -> Self {
        let content = Err(why.to_owned());
        Self { line, raw, content }
    }

    fn and_then<U>(self, next: impl FnOnce(T) -> Result<U, String>) -> Row<U> {
        let Self { line, raw, content } = self;
        let content = content.and_then(next);
        Row { line, raw, content }
    }
}

pub(super) struct Rows {
    texts: Texts,
    /// Of CSV: what its header says.
    columns: Option<Columns>,
    /// The header's line, which is empty where the file has none.
    pub(super) header: Vec<u8>,
}

impl Rows {
    /// The rows of this file. Fails if it can't be read, or has a header that can't be used.
    pub(super) fn open(
        file: &Path,
        format: ImportFormat,
        message: &MessageDescriptor,
        map: &[(String, String)],
    ) -> Result<Self, String> {
        let lines = Lines::open(file).map_err(|error| unreadable(&error))?;
        Self::of(lines, format, message, map)
    }

    fn of(
        lines: Lines,
        format: ImportFormat,
        message: &MessageDescriptor,
        map: &[(String, String)],
    ) -> Result<Self, String> {
        let again = VecDeque::new();
        let mut texts = Texts { lines, again };
        let (columns, header) = match format {
            ImportFormat::Jsonl => (None, Vec::new()),
            ImportFormat::Csv => {
                let header = texts.next_csv().map_err(|error| unreadable(&error))?;
                let header = header.ok_or("has no header")?;
                let header = header.and_then(|cells| Columns::of(&cells, message, map));
                let told = |problem| format!("line {}: {problem}", header.line);
                (Some(header.content.map_err(told)?), header.raw)
            }
        };
        Ok(Self {
            texts,
            columns,
            header,
        })
    }

    /// The next row. An error is the file's, and its end.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        match &self.columns {
            None => self.texts.next_json(),
            Some(columns) => {
                let row = self.texts.next_csv()?;
                Ok(row.map(|row| row.and_then(|cells| columns.json(&cells))))
            }
        }
    }
}

struct Texts {
    lines: Lines,
    /// Lines that were read for a row that they turned out not to belong to.
    again: VecDeque<(u64, Line)>,
}

impl Texts {
    fn next_json(&mut self) -> io::Result<Option<Row>> {
        let Some((line, text)) = self.next_filled()? else {
            return Ok(None);
        };
        let Line::Whole(raw) = text else {
            return Ok(Some(Row::wrong(line, Vec::new(), TOO_LONG)));
        };
        let content = serde_json::from_slice(&raw).map_err(|error| match str::from_utf8(&raw) {
            Err(_) => NOT_UTF8.to_owned(),
            Ok(_) => format!("is not JSON: {error}"),
        });
        Ok(Some(Row { line, raw, content }))
    }

    /// The lines of one CSV row: those up to the one that ends outside of quotes. Where none does, the
    /// first line is the row that is wrong, and what follows it is read again.
    fn next_csv(&mut self) -> io::Result<Option<Row<csv::StringRecord>>> {
        let Some((line, first)) = self.next_filled()? else {
            return Ok(None);
        };
        let Line::Whole(first) = first else {
            return Ok(Some(Row::wrong(line, Vec::new(), TOO_LONG)));
        };
        let mut place = Place::Start.after(&first);
        let mut raw = first.clone();
        let mut taken = VecDeque::new();
        while place == Place::Quoted {
            let next = self.next_line()?;
            let fits = |text: &[u8]| raw.len() + text.len() < MAX_ROW;
            match next {
                Some((number, Line::Whole(text))) if fits(&text) => {
                    place = place.after(b"\n").after(&text);
                    raw.push(b'\n');
                    raw.extend_from_slice(&text);
                    taken.push_back((number, Line::Whole(text)));
                }
                other => {
                    taken.extend(other);
                    taken.append(&mut self.again);
                    self.again = taken;
                    let why = "has a quote that is never closed";
                    return Ok(Some(Row::wrong(line, first, why)));
                }
            }
        }
        let content = cells(&raw);
        Ok(Some(Row { line, raw, content }))
    }

    /// The next line that isn't passed over.
    fn next_filled(&mut self) -> io::Result<Option<(u64, Line)>> {
        let is_passed_over = |line: &[u8]| {
            line.iter().all(u8::is_ascii_whitespace) || line.starts_with(REMARK.as_bytes())
        };
        loop {
            match self.next_line()? {
                Some((_, Line::Whole(text))) if is_passed_over(&text) => {}
                other => return Ok(other),
            }
        }
    }

    fn next_line(&mut self) -> io::Result<Option<(u64, Line)>> {
        match self.again.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }
}

const TOO_LONG: &str = "is longer than 1 MiB";
const NOT_UTF8: &str = "is not UTF-8";

fn cells(raw: &[u8]) -> Result<csv::StringRecord, String> {
    let mut record = csv::ByteRecord::new();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .buffer_capacity(raw.len() + 1)
        .from_reader(raw);
    let read = reader.read_byte_record(&mut record);
    read.map_err(|error| format!("is not CSV: {error}"))?;
    csv::StringRecord::from_byte_record(record).map_err(|_| NOT_UTF8.to_owned())
}

/// Where in a CSV row its last byte stands. A quote opens only where a cell begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Plain,
    Quoted,
    /// After a quote that closes, unless another one follows: that is a quote in the text.
    Closed,
}

impl Place {
    fn after(self, bytes: &[u8]) -> Self {
        bytes.iter().fold(self, |place, byte| match (place, byte) {
            (Self::Quoted, b'"') => Self::Closed,
            (Self::Start | Self::Closed, b'"') | (Self::Quoted, _) => Self::Quoted,
            (Self::Start | Self::Plain | Self::Closed, b',') => Self::Start,
            (Self::Start | Self::Plain | Self::Closed, _) => Self::Plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::{
        config::{ImportOperation, ImportResource},
        import::requests::Rpc,
    };

    fn rows(text: impl Into<Vec<u8>>, format: ImportFormat) -> Vec<(u64, Result<Value, String>)> {
        let lines = Lines::of(Cursor::new(text.into())).unwrap();
        let rpc = Rpc::of(ImportResource::Customer, ImportOperation::Create).unwrap();
        let mut rows = Rows::of(lines, format, &rpc.message, &[]).unwrap();
        let rows = std::iter::from_fn(|| rows.next().unwrap());
        rows.map(|row| (row.line, row.content)).collect()
    }

    fn ids(rows: &[(u64, Result<Value, String>)]) -> Vec<(u64, &str)> {
        rows.iter()
            .map(|(line, row)| {
                let said = match row {
                    Ok(json) => json["customer"]["id"].as_str().unwrap_or("none"),
                    Err(problem) => problem,
                };
                (*line, said)
            })
            .collect()
    }

    #[test]
    fn cells_may_hold_commas_quotes_and_lines() {
        let text = "customer.id,customer.first_name\na,\"x, \"\"y\"\"\nz\"\n\nb,5\" nail\n";
        let rows = rows(text, ImportFormat::Csv);
        assert_eq!(ids(&rows), [(2, "a"), (5, "b")]);
        let name = |place: usize| &rows[place].1.as_ref().unwrap()["customer"]["first_name"];
        assert_eq!(name(0), "x, \"y\"\nz");
        assert_eq!(name(1), "5\" nail");
    }

    #[test]
    fn a_row_that_is_wrong_is_named_by_its_line_and_costs_no_other() {
        let mut text =
            b"customer.id,customer.email\na,a@x\nb,\"never\nc,c@x\nd,d@x,more\ne,\xff\n".to_vec();
        text.extend(vec![b'x'; 10 << 20]);
        text.extend(b"\nf,f@x\n");
        let rows = rows(text, ImportFormat::Csv);
        let expected = [
            (2, "a"),
            (3, "has a quote that is never closed"),
            (4, "c"),
            (5, "has 3 cells, and the header has 2"),
            (6, "is not UTF-8"),
            (7, TOO_LONG),
            (8, "f"),
        ];
        assert_eq!(ids(&rows), expected);
    }

    #[test]
    fn json_lines_are_rows() {
        let text = b"{\"customer\":{\"id\":\"a\"}}\n#import: x: why\n{\n\"\xff\"\n{\"customer\":{\"id\":\"b\"}}";
        let rows = rows(*text, ImportFormat::Jsonl);
        let ids = ids(&rows);
        assert_eq!((ids[0], ids[3]), ((1, "a"), (5, "b")));
        assert!(
            ids[1].0 == 3 && ids[1].1.starts_with("is not JSON: "),
            "{ids:?}"
        );
        assert_eq!(ids[2], (4, "is not UTF-8"));
    }
}
