//! The columns of a CSV file: which field of the request each of them is.

use std::collections::HashSet;

use prost_reflect::{Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::RowShape;

const STRUCT: &str = "google.protobuf.Struct";

/// A header that was understood.
#[derive(Debug)]
pub(super) struct Columns {
    columns: Vec<Column>,
    site_key: Option<String>,
}

#[derive(Debug)]
struct Column {
    /// The names of the fields from the request down to the value.
    path: Vec<String>,
    is_bool: bool,
}

impl Columns {
    /// What the header says, or the first thing that is wrong with it.
    pub(super) fn of(header: &csv::StringRecord, shape: &RowShape) -> Result<Self, String> {
        let mut seen = HashSet::new();
        let mut columns = Vec::new();
        for name in header {
            let name = name.trim();
            let path = shape.map.get(name).map_or(name, String::as_str);
            if !seen.insert(path.to_owned()) {
                return Err(format!("the header has the column {path:?} twice"));
            }
            columns.push(Column::of(path, &shape.message)?);
        }
        let site_key = shape
            .site_key
            .clone()
            .filter(|_| !seen.contains("site_key"));
        Ok(Self { columns, site_key })
    }

    /// The request of a row. An empty cell is a field that isn't set.
    pub(super) fn json(&self, cells: &csv::StringRecord) -> Result<Value, String> {
        let (found, wanted) = (cells.len(), self.columns.len());
        if found != wanted {
            return Err(format!("has {found} cells, and the header has {wanted}"));
        }
        let mut request = Map::new();
        if let Some(site_key) = &self.site_key {
            request.insert("site_key".to_owned(), site_key.as_str().into());
        }
        for (column, cell) in self.columns.iter().zip(cells) {
            if !cell.is_empty() {
                column.put(cell, &mut request)?;
            }
        }
        Ok(Value::Object(request))
    }
}

impl Column {
    fn of(path: &str, message: &MessageDescriptor) -> Result<Self, String> {
        let unknown = || format!("the column {path:?} names no field of {}", message.name());
        let names: Vec<_> = path.split('.').map(str::to_owned).collect();
        let mut message = message.clone();
        for (place, name) in names.iter().enumerate() {
            let field = message.get_field_by_name(name).ok_or_else(unknown)?;
            let is_last = place + 1 == names.len();
            match field.kind() {
                // Seconds and nanoseconds aren't written one by one.
                Kind::Message(below) if below.full_name() == "google.protobuf.Timestamp" => {
                    return if is_last {
                        Ok(Self::text(names))
                    } else {
                        Err(unknown())
                    };
                }
                // Below a Struct any name may stand, and a cell is a text.
                Kind::Message(below) if below.full_name() == STRUCT => {
                    let is_named = names.len() == place + 2;
                    return if is_named {
                        Ok(Self::text(names))
                    } else {
                        Err(unknown())
                    };
                }
                Kind::Message(below) if !is_last => message = below,
                Kind::Message(_) => return Err(unknown()),
                _ if !is_last => return Err(unknown()),
                kind => {
                    let is_bool = kind == Kind::Bool;
                    return Ok(Self {
                        path: names,
                        is_bool,
                    });
                }
            }
        }
        Err(unknown())
    }

    fn text(path: Vec<String>) -> Self {
        let is_bool = false;
        Self { path, is_bool }
    }

    fn put(&self, cell: &str, request: &mut Map<String, Value>) -> Result<(), String> {
        let value = match (self.is_bool, cell) {
            (false, _) => Value::from(cell),
            (true, "true") => Value::from(true),
            (true, "false") => Value::from(false),
            (true, _) => return Err(format!("{} must be true or false", self.path.join("."))),
        };
        let Some((last, above)) = self.path.split_last() else {
            return Ok(());
        };
        let mut object = request;
        for name in above {
            let below = object
                .entry(name.as_str())
                .or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(below) = below else {
                return Ok(()); // Two columns can't be one field and a part of it: `of` refuses that.
            };
            object = below;
        }
        object.insert(last.clone(), value);
        Ok(())
    }
}
