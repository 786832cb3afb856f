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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(value: &Struct) -> String {
        serde_json::to_string(&AsJson(value)).unwrap()
    }

    fn read(json: &str) -> Result<Struct, serde_json::Error> {
        serde_json::from_str::<FromJson>(json).map(|read| read.0)
    }

    fn number(value: f64) -> Struct {
        let value = Kind::NumberValue(value).into();
        Struct {
            fields: [("n".to_owned(), value)].into(),
        }
    }

    #[test]
    fn whole_numbers_are_integers() {
        for (value, json) in [
            (2.0, r#"{"n":2}"#),
            (-2.0, r#"{"n":-2}"#),
            (-0.0, r#"{"n":0}"#),
            (2.5, r#"{"n":2.5}"#),
            (MAX_WHOLE, r#"{"n":9007199254740992}"#),
            (-MAX_WHOLE, r#"{"n":-9007199254740992}"#),
            (1e300, r#"{"n":1e+300}"#),
        ] {
            assert_eq!(write(&number(value)), json);
        }
    }

    #[test]
    fn what_json_cannot_say_is_refused_with_its_path() {
        let list = ListValue {
            values: vec![
                Kind::NumberValue(f64::NAN).into(),
                Value { kind: None },
                Kind::StructValue(number(f64::INFINITY)).into(),
            ],
        };
        let value = Struct {
            fields: [("list".to_owned(), Kind::ListValue(list).into())].into(),
        };
        let mut found = Vec::new();
        violations(
            Path::Field(&Path::Root, "custom_properties"),
            &value,
            &mut found,
        );
        let fields: Vec<_> = found.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "custom_properties.list[0]",
                "custom_properties.list[1]",
                "custom_properties.list[2].n"
            ]
        );
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested =
            |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        assert!(read(&nested(MAX_DEPTH - 1)).is_ok());
        assert!(read(&nested(MAX_DEPTH + 1)).is_err());
        assert!(read(&nested(100_000)).is_err());
    }

    /// Whether a request may hold it. If so, its echo is read, also within the `site_user` of an event.
    fn is_taken(value: &Struct) -> bool {
        let mut found = Vec::new();
        violations(Path::Root, value, &mut found);
        let json = write(value);
        let is_read = read(&json).is_ok();
        let in_user = format!(r#"{{"id":"u","customer_id":"c","custom_properties":{json}}}"#);
        assert!(!found.is_empty() || (is_read && read(&in_user).is_ok()));
        found.is_empty()
    }

    #[test]
    fn a_request_is_refused_where_its_echo_could_not_be_read() {
        let list = |value: Value| {
            let values = vec![value];
            Kind::ListValue(ListValue { values }).into()
        };
        let object = |value: Value| {
            let fields = [("a".to_owned(), value)].into();
            Kind::StructValue(Struct { fields }).into()
        };
        for levels in 1..60 {
            for nest in [&list as &dyn Fn(Value) -> Value, &object] {
                let value = (0..levels).fold(Value::from(1.0), |value, _| nest(value));
                let fields = [("a".to_owned(), value)].into();
                let taken = is_taken(&Struct { fields });
                assert_eq!(taken, levels < MAX_DEPTH, "{levels}");
            }
        }
        for count in [MAX_VALUES - 1, MAX_VALUES] {
            let values = vec![Value::from(true); count];
            let fields = [("a".to_owned(), Kind::ListValue(ListValue { values }).into())].into();
            assert_eq!(is_taken(&Struct { fields }), count < MAX_VALUES, "{count}");
        }
    }

    #[test]
    fn violations_beyond_the_first_are_counted() {
        let values = vec![Value { kind: None }; 100];
        let fields = [("a".to_owned(), Kind::ListValue(ListValue { values }).into())].into();
        let mut found = Vec::new();
        let path = Path::Field(&Path::Root, "custom_properties");
        violations(path, &Struct { fields }, &mut found);
        assert_eq!(found.len(), 1 + MAX_VIOLATIONS);
        assert_eq!(found[0].field, "custom_properties");
        assert_eq!(
            found[0].description,
            "breaks rules in 100 places; the first 64 are listed"
        );
        assert_eq!(found[64].field, "custom_properties.a[63]");
    }

    #[test]
    fn the_deepest_reply_can_be_decoded_by_a_caller() {
        use prost::Message as _;

        let deepest = r#"{"a":"#.repeat(MAX_REPLY_DEPTH) + "1" + &"}".repeat(MAX_REPLY_DEPTH);
        let bytes = read(&deepest).unwrap().encode_to_vec();
        assert!(Struct::decode(bytes.as_slice()).is_ok());
    }

    #[test]
    fn only_an_object_is_a_struct() {
        for json in ["1", "[]", "null", r#""a""#, "true"] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Kind::NullValue(0)),
            any::<bool>().prop_map(Kind::BoolValue),
            prop::num::f64::NORMAL.prop_map(Kind::NumberValue),
            any::<i32>().prop_map(|n| Kind::NumberValue(n.into())),
            ".*".prop_map(Kind::StringValue),
        ]
        .prop_map(Value::from);
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5)
                    .prop_map(|values| Kind::ListValue(ListValue { values }).into()),
                prop::collection::btree_map(".*", inner, 0..5)
                    .prop_map(|fields| Kind::StructValue(Struct { fields }).into()),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_struct_survives_the_round_trip(
            fields in prop::collection::btree_map(".*", any_value(), 0..6),
        ) {
            let value = Struct { fields };
            prop_assert_eq!(read(&write(&value)).unwrap(), value);
        }
    }
}
