//! `google.protobuf.Struct` ↔ JSON.
//!
//! A `Struct` has one kind of number, a double. JSON that says `2` and JSON that says `2.0` are
//! different things to an API that checks types, so whole numbers are written as integers.
//!
//! What is sent comes back in the reply. So requests and replies have the same bounds: what a reply could
//! not be read with is refused before it is sent.

use std::{cell::Cell, collections::BTreeMap, fmt};

use prost_types::{ListValue, NullValue, Struct, Value, value::Kind};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::path::Path;
use crate::error::Violation;

/// The largest whole number that a double holds exactly with all its neighbours.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// How deep lists and objects may be nested. A level costs up to three of Protobuf's, and decoders
/// stop at 100 of those.
const MAX_DEPTH: usize = 30;
/// The same for a reply, in which a user's properties stand one level deeper: within `site_user`.
const MAX_REPLY_DEPTH: usize = MAX_DEPTH + 1;

/// Values that one `Struct` may hold, on all its levels: as many as a request of 64 KiB has room for.
/// An object of one field takes seven bytes of JSON and some 600 of memory, so that the size of a reply
/// alone is no bound.
const MAX_VALUES: usize = 16_384;
/// The same for a reply, with room for what stands beside the properties.
const MAX_REPLY_VALUES: usize = MAX_VALUES + 64;

/// Violations that are listed of one `Struct`.
const MAX_VIOLATIONS: usize = 64;

/// A `Struct`, written as JSON.
pub(super) struct AsJson<'a, T>(pub(super) &'a T);

impl Serialize for AsJson<'_, Struct> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .fields
                .iter()
                .map(|(key, value)| (key, AsJson(value))),
        )
    }
}

impl Serialize for AsJson<'_, Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.kind {
            // `violations` refuses a value without a kind before this is reached.
            None | Some(Kind::NullValue(_)) => serializer.serialize_unit(),
            Some(Kind::BoolValue(value)) => serializer.serialize_bool(*value),
            Some(Kind::NumberValue(value)) => serialize_number(*value, serializer),
            Some(Kind::StringValue(value)) => serializer.serialize_str(value),
            Some(Kind::ListValue(list)) => serializer.collect_seq(list.values.iter().map(AsJson)),
            Some(Kind::StructValue(value)) => AsJson(value).serialize(serializer),
        }
    }
}

fn serialize_number<S: Serializer>(value: f64, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 && value.abs() <= MAX_WHOLE {
        #[expect(clippy::cast_possible_truncation, reason = "whole, and within ±2^53")]
        serializer.serialize_i64(value as i64)
    } else {
        serializer.serialize_f64(value)
    }
}

/// What JSON or the reply can't hold of the values below `path`: NaN, infinity, a value of no kind, and
/// too much nesting. The first ones are listed, the rest is counted.
pub(super) fn violations(path: Path<'_>, value: &Struct, found: &mut Vec<Violation>) {
    let mut check = Check {
        found: Vec::new(),
        left_out: 0,
        values: 0,
    };
    check.fields(path, value, 0);
    if check.values > MAX_VALUES {
        let rule = format!(
            "may hold {MAX_VALUES} values on all its levels, and holds {}",
            check.values
        );
        found.push(Violation::new(path.clipped(), rule));
    }
    if check.left_out > 0 {
        let rule = format!(
            "breaks rules in {} places; the first {MAX_VIOLATIONS} are listed",
            check.found.len() + check.left_out
        );
        found.push(Violation::new(path.clipped(), rule));
    }
    found.append(&mut check.found);
}

/// A walk through a `Struct`.
struct Check {
    found: Vec<Violation>,
    left_out: usize,
    values: usize,
}

impl Check {
    fn fields(&mut self, path: Path<'_>, value: &Struct, depth: usize) {
        for (key, value) in &value.fields {
            self.value(Path::Field(&path, key), value, depth + 1);
        }
    }

    fn value(&mut self, path: Path<'_>, value: &Value, depth: usize) {
        self.values += 1;
        match &value.kind {
            None => self.violation(path, "has no value; use null to say so"),
            Some(Kind::NumberValue(number)) if !number.is_finite() => {
                self.violation(path, "must be a finite number");
            }
            Some(Kind::ListValue(_) | Kind::StructValue(_)) if depth >= MAX_DEPTH => {
                self.violation(path, "is nested too deeply: 30 levels are allowed");
            }
            Some(Kind::ListValue(list)) => {
                for (index, value) in list.values.iter().enumerate() {
                    self.value(Path::Index(&path, index), value, depth + 1);
                }
            }
            Some(Kind::StructValue(value)) => self.fields(path, value, depth),
            Some(
                Kind::NullValue(_)
                | Kind::BoolValue(_)
                | Kind::NumberValue(_)
                | Kind::StringValue(_),
            ) => {}
        }
    }

    fn violation(&mut self, path: Path<'_>, rule: &'static str) {
        if self.found.len() < MAX_VIOLATIONS {
            self.found.push(Violation::new(path.clipped(), rule));
        } else {
            self.left_out += 1;
        }
    }
}

/// A `Struct`, read from a JSON object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FromJson(pub(super) Struct);

impl<'de> Deserialize<'de> for FromJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = AnyJson::deserialize(deserializer)?;
        match value.0.kind {
            Some(Kind::StructValue(value)) => Ok(Self(value)),
            _ => Err(D::Error::custom("not a JSON object")),
        }
    }
}

/// A `Value`, read from any JSON within the bounds.
pub(super) struct AnyJson(pub(super) Value);

impl<'de> Deserialize<'de> for AnyJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let left = Cell::new(MAX_REPLY_VALUES);
        let reader = Reader {
            depth: 0,
            left: &left,
        };
        reader.deserialize(deserializer).map(Self)
    }
}

/// Reads a JSON value that stands this deep, in a document with room for so many more.
#[derive(Clone, Copy)]
struct Reader<'a> {
    depth: usize,
    left: &'a Cell<usize>,
}

impl Reader<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < MAX_REPLY_DEPTH {
            Ok(Self {
                depth: self.depth + 1,
                ..self
            })
        } else {
            Err(E::custom("nested too deeply"))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left
            .set(left.ok_or_else(|| D::Error::custom("too many values"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Kind::NullValue(NullValue::NullValue.into()).into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Kind::BoolValue(value).into())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a Struct holds doubles and no more"
    )]
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Kind::NumberValue(value as f64).into())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a Struct holds doubles and no more"
    )]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Kind::NumberValue(value as f64).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Kind::NumberValue(value).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Kind::StringValue(value.to_owned()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self.deeper()?)? {
            values.push(value);
        }
        Ok(Kind::ListValue(ListValue { values }).into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            fields.insert(key, map.next_value_seed(self.deeper()?)?);
        }
        Ok(Kind::StructValue(Struct { fields }).into())
    }
}

#[cfg(test)]
mod tests;
