//! The columns of a CSV file: which field of the request each of them is. Knows the message's fields, and none
//! of the rules on what they hold.

use std::collections::HashSet;

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value};

const STRUCT: &str = "google.protobuf.Struct";
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// A header that was understood.
#[derive(Debug)]
pub(super) struct Columns(Vec<Column>);

#[derive(Debug)]
struct Column {
    /// The names of the fields from the request down to the value.
    path: Vec<String>,
    is_bool: bool,
}

impl Columns {
    /// What the header says, or the first thing that is wrong with it. `map` has the fields of columns with
    /// other names.
    pub(super) fn of(
        header: &csv::StringRecord,
        message: &MessageDescriptor,
        map: &[(String, String)],
    ) -> Result<Self, String> {
        let mut seen = HashSet::new();
        let mut columns = Vec::new();
        for name in header {
            let name = name.trim();
            let renamed = map.iter().rfind(|(column, _)| column == name);
            let path = renamed.map_or(name, |(_, path)| path);
            if !seen.insert(path) {
                return Err(format!("the header has the column {path:?} twice"));
            }
            columns.push(Column::of(path, message)?);
        }
        Ok(Self(columns))
    }

    /// The request of a row. An empty cell is a field that isn't set.
    pub(super) fn json(&self, cells: &csv::StringRecord) -> Result<Value, String> {
        let (found, wanted) = (cells.len(), self.0.len());
        if found != wanted {
            return Err(format!("has {found} cells, and the header has {wanted}"));
        }
        let mut request = Value::Object(Map::new());
        for (column, cell) in self.0.iter().zip(cells) {
            if !cell.is_empty() {
                column.put(cell, &mut request)?;
            }
        }
        Ok(request)
    }
}

impl Column {
    fn of(path: &str, message: &MessageDescriptor) -> Result<Self, String> {
        let names: Vec<_> = path.split('.').map(str::to_owned).collect();
        let is_bool = is_bool(&names, message)
            .ok_or_else(|| format!("the column {path:?} names no field of {}", message.name()))?;
        Ok(Self {
            path: names,
            is_bool,
        })
    }

    fn put(&self, cell: &str, request: &mut Value) -> Result<(), String> {
        let value = match (self.is_bool, cell) {
            (false, _) => Value::from(cell),
            (true, "true") => Value::from(true),
            (true, "false") => Value::from(false),
            (true, _) => return Err(format!("{} must be true or false", self.path.join("."))),
        };
        // Makes the objects on the way. No column is a field that another is a part of: `of` refuses that.
        let field = self
            .path
            .iter()
            .fold(request, |object, name| &mut object[name]);
        *field = value;
        Ok(())
    }
}

/// Whether the field that these names lead to is a bool, and not a text. None if they lead to none.
fn is_bool(names: &[String], message: &MessageDescriptor) -> Option<bool> {
    let (name, below) = names.split_first()?;
    match (message.get_field_by_name(name)?.kind(), below) {
        // Seconds and nanoseconds aren't written one by one.
        (Kind::Message(time), []) if time.full_name() == TIMESTAMP => Some(false),
        (Kind::Message(time), _) if time.full_name() == TIMESTAMP => None,
        // Any name may stand in a Struct, and its cell is a text.
        (Kind::Message(open), _) if open.full_name() == STRUCT => {
            (below.len() == 1).then_some(false)
        }
        (Kind::Message(message), _) => is_bool(below, &message),
        (kind, []) => Some(kind == Kind::Bool),
        (_, _) => None,
    }
}
