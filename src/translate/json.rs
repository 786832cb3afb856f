//! `google.protobuf.Struct` ↔ JSON.
//!
//! A `Struct` has one kind of number, a double. JSON that says `2` and JSON that says `2.0` are
//! different things to an API that checks types, so whole numbers are written as integers.

use std::{collections::BTreeMap, fmt};

use prost_types::{ListValue, NullValue, Struct, Value, value::Kind};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor},
};

use super::path::Path;
use crate::error::Violation;

/// The largest whole number that a double holds exactly with all its neighbours.
const MAX_WHOLE: f64 = 9_007_199_254_740_992.0;

/// How deep the JSON of a reply may be nested. A level costs up to three of Protobuf's, and
/// decoders stop at 100 of those.
const MAX_DEPTH: usize = 30;

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

/// What JSON can't say of the values below `path`: NaN, infinity, and a value of no kind.
pub(super) fn violations(path: Path<'_>, value: &Struct, found: &mut Vec<Violation>) {
    for (key, value) in &value.fields {
        value_violations(Path::Field(&path, key), value, found);
    }
}

fn value_violations(path: Path<'_>, value: &Value, found: &mut Vec<Violation>) {
    let mut violation = |rule| found.push(Violation::new(path.to_string(), rule));
    match &value.kind {
        None => violation("has no value; use null to say so"),
        Some(Kind::NumberValue(number)) if !number.is_finite() => {
            violation("must be a finite number");
        }
        Some(Kind::ListValue(list)) => {
            for (index, value) in list.values.iter().enumerate() {
                value_violations(Path::Index(&path, index), value, found);
            }
        }
        Some(Kind::StructValue(value)) => violations(path, value, found),
        Some(
            Kind::NullValue(_) | Kind::BoolValue(_) | Kind::NumberValue(_) | Kind::StringValue(_),
        ) => {}
    }
}

/// A `Struct`, read from a JSON object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FromJson(pub(super) Struct);

impl<'de> Deserialize<'de> for FromJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = AtDepth(0).deserialize(deserializer)?;
        match value.kind {
            Some(Kind::StructValue(value)) => Ok(Self(value)),
            _ => Err(D::Error::custom("not a JSON object")),
        }
    }
}

/// Reads a JSON value that stands this deep.
struct AtDepth(usize);

impl AtDepth {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        if self.0 < MAX_DEPTH {
            Ok(Self(self.0 + 1))
        } else {
            Err(E::custom("nested too deeply"))
        }
    }
}

impl<'de> DeserializeSeed<'de> for AtDepth {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AtDepth {
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

    #[test]
    fn the_deepest_reply_can_be_decoded_by_a_caller() {
        use prost::Message as _;

        let deepest = r#"{"a":"#.repeat(MAX_DEPTH) + "1" + &"}".repeat(MAX_DEPTH);
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
