//! Rows of a file, each with the line on which it begins. A row that can't be read is one that is wrong,
//! and the next is read all the same.

use std::{
    collections::{HashMap, VecDeque},
    io,
    path::Path,
};

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

/// A row of a file.
#[derive(Debug)]
pub(super) struct Row {
    /// The line on which it begins.
    pub(super) line: u64,
    /// As it stands in the file; nothing of a row that is too long.
    pub(super) raw: Vec<u8>,
    /// The request in Protobuf's JSON mapping, or why there is none.
    pub(super) json: Result<Value, String>,
}

/// The rows of a file.
pub(super) struct Rows {
    lines: Lines,
    /// Lines that were read for a row that they turned out not to belong to.
    again: VecDeque<(u64, Line)>,
    /// Of CSV: what its header says.
    columns: Option<Columns>,
    header: Vec<u8>,
}

impl Rows {
    /// The rows of this file. Fails if it can't be read, or has a header that can't be used.
    pub(super) fn open(
        file: &Path,
        format: ImportFormat,
        message: &MessageDescriptor,
        map: &HashMap<String, String>,
    ) -> Result<Self, String> {
        let lines = Lines::open(file).map_err(|error| unreadable(&error))?;
        Self::of(lines, format, message, map)
    }

    fn of(
        lines: Lines,
        format: ImportFormat,
        message: &MessageDescriptor,
        map: &HashMap<String, String>,
    ) -> Result<Self, String> {
        let mut rows = Self {
            lines,
            again: VecDeque::new(),
            columns: None,
            header: Vec::new(),
        };
        match format {
            ImportFormat::Jsonl => {}
            ImportFormat::Csv => {
                let header = rows.next_csv_text().map_err(|error| unreadable(&error))?;
                let header = header.ok_or("has no header")?;
                let cells = header.cells();
                let columns = cells.and_then(|cells| Columns::of(&cells, message, map));
                let told = |problem| format!("line {}: {problem}", header.line);
                rows.columns = Some(columns.map_err(told)?);
                rows.header = header.raw;
            }
        }
        Ok(rows)
    }

    /// The header's line, which is empty where the file has none.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// The next row. An error is the file's, and its end.
    pub(super) fn next(&mut self) -> io::Result<Option<Row>> {
        if self.columns.is_some() {
            self.next_of_csv()
        } else {
            self.next_of_json()
        }
    }

    fn next_of_json(&mut self) -> io::Result<Option<Row>> {
        while let Some((line, text)) = self.next_line()? {
            let Line::Whole(raw) = text else {
                return Ok(Some(too_long(line)));
            };
            if is_passed_over(&raw) {
                continue;
            }
            let json =
                serde_json::from_slice(&raw).map_err(|error| match std::str::from_utf8(&raw) {
                    Err(_) => "is not UTF-8".to_owned(),
                    Ok(_) => format!("is not JSON: {error}"),
                });
            return Ok(Some(Row { line, raw, json }));
        }
        Ok(None)
    }

    fn next_of_csv(&mut self) -> io::Result<Option<Row>> {
        let Some(text) = self.next_csv_text()? else {
            return Ok(None);
        };
        let cells = text.cells();
        let json = match &self.columns {
            Some(columns) => cells.and_then(|cells| columns.json(&cells)),
            None => Err("comes before the header".to_owned()),
        };
        let Text { line, raw, .. } = text;
        Ok(Some(Row { line, raw, json }))
    }

    /// The lines of one CSV row: those up to the one that ends outside of quotes. Where none does, the
    /// first line is the row that is wrong, and what follows it is read again.
    fn next_csv_text(&mut self) -> io::Result<Option<Text>> {
        let (line, first) = loop {
            match self.next_line()? {
                None => return Ok(None),
                Some((line, Line::TooLong)) => {
                    return Ok(Some(Text::wrong(line, vec![], TOO_LONG)));
                }
                Some((_, Line::Whole(text))) if is_passed_over(&text) => {}
                Some((line, Line::Whole(text))) => break (line, text),
            }
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
                    return Ok(Some(Text::wrong(line, first, NEVER_CLOSED)));
                }
            }
        }
        let problem = None;
        Ok(Some(Text { line, raw, problem }))
    }

    fn next_line(&mut self) -> io::Result<Option<(u64, Line)>> {
        match self.again.pop_front() {
            Some(line) => Ok(Some(line)),
            None => self.lines.next(),
        }
    }
}

const TOO_LONG: &str = "is longer than 1 MiB";
const NEVER_CLOSED: &str = "has a quote that is never closed";

fn too_long(line: u64) -> Row {
    Row {
        line,
        raw: Vec::new(),
        json: Err(TOO_LONG.to_owned()),
    }
}

fn is_passed_over(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace) || line.starts_with(REMARK.as_bytes())
}

/// A row of CSV before it is taken apart.
struct Text {
    line: u64,
    raw: Vec<u8>,
    problem: Option<&'static str>,
}

impl Text {
    fn wrong(line: u64, raw: Vec<u8>, problem: &'static str) -> Self {
        let problem = Some(problem);
        Self { line, raw, problem }
    }

    fn cells(&self) -> Result<csv::StringRecord, String> {
        if let Some(problem) = self.problem {
            return Err(problem.to_owned());
        }
        let mut record = csv::ByteRecord::new();
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .buffer_capacity(self.raw.len() + 1)
            .from_reader(self.raw.as_slice());
        let read = reader.read_byte_record(&mut record);
        read.map_err(|error| format!("is not CSV: {error}"))?;
        csv::StringRecord::from_byte_record(record).map_err(|_| "is not UTF-8".to_owned())
    }
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
        let mut rows = Rows::of(lines, format, &rpc.message, &HashMap::new()).unwrap();
        let rows = std::iter::from_fn(|| rows.next().unwrap());
        rows.map(|row| (row.line, row.json)).collect()
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
