//! Names the fields of a reply that the gateway doesn't know, while serde reads it.
//!
//! serde skips a field that a struct lacks, and tells nobody. [`Watch`] stands around the
//! deserializer and sees the skipping. Only structs are watched: in an open object, each field is
//! as good as any other. (The crate `serde_ignored` watches everything and copies each key for it:
//! 25 of the 35 allocations that reading the worked example's reply took.)

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IntoDeserializer as _, MapAccess, Visitor},
    forward_to_deserialize_any,
};

use super::path::Path;

/// Most unknown fields that one reply is asked for.
const MAX_UNKNOWN: usize = 16;

/// Reads a `T`, and adds the paths of fields that it skips.
///
/// A struct is read from a JSON object and nothing else.
pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
    unknown: &mut Vec<String>,
) -> Result<T, D::Error> {
    T::deserialize(Watch {
        inner: deserializer,
        path: Path::Root,
        unknown,
    })
}

/// What serde passes down, watched.
struct Watch<'a, T> {
    inner: T,
    path: Path<'a>,
    unknown: &'a mut Vec<String>,
}

impl<'a, T> Watch<'a, T> {
    /// Splits what is watched from the watching, which goes on with something else.
    fn split<U>(self) -> (T, impl FnOnce(U) -> Watch<'a, U>) {
        let Self {
            inner,
            path,
            unknown,
        } = self;
        (inner, move |inner| Watch {
            inner,
            path,
            unknown,
        })
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Watch<'_, D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let (inner, watch) = self.split();
        inner.deserialize_option(watch(visitor))
    }

    /// `serde_json` hands out the raw text of a value as a newtype. Nothing in it is watched.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let (inner, watch) = self.split();
        inner.deserialize_struct(name, fields, watch(visitor))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.push(self.path.clipped());
        }
        self.inner.deserialize_ignored_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map enum identifier
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Watch<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let (inner, watch) = self.split();
        inner.visit_some(watch(deserializer))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Fields {
            map,
            path: self.path,
            name: Cow::Borrowed(""),
            unknown: self.unknown,
        })
    }
}

/// The fields of a struct.
struct Fields<'a, 'de, A> {
    map: A,
    path: Path<'a>,
    /// Of the field whose value comes next.
    name: Cow<'de, str>,
    unknown: &'a mut Vec<String>,
}

/// A field's name, where it stands in the document unless it is written with escapes.
#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<'_, 'de, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        let Some(Name(name)) = self.map.next_key()? else {
            return Ok(None);
        };
        let key = seed.deserialize(name.as_ref().into_deserializer())?;
        self.name = name;
        Ok(Some(key))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(Watch {
            inner: seed,
            path: Path::Field(&self.path, &self.name),
            unknown: self.unknown,
        })
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Watch<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let (inner, watch) = self.split();
        inner.deserialize(watch(deserializer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Outer {
        inner: Option<Inner>,
        open: Option<serde_json::Value>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    struct Inner {
        number: Option<i64>,
    }

    fn read(json: &str) -> Result<(Outer, Vec<String>), serde_json::Error> {
        let mut unknown = Vec::new();
        let mut json = serde_json::Deserializer::from_str(json);
        deserialize(&mut json, &mut unknown).map(|outer| (outer, unknown))
    }

    #[test]
    fn what_a_struct_lacks_is_named_once_and_skipped() {
        let json = r#"{"new":{"a":[1]},"inner":{"number":1,"\u0061ge":2},"open":{"a":{"b":1}},"last":null}"#;
        let (outer, unknown) = read(json).unwrap();
        assert_eq!(unknown, ["new", "inner.age", "last"]);
        assert_eq!(outer.inner, Some(Inner { number: Some(1) }));
        assert_eq!(outer.open, Some(serde_json::json!({"a": {"b": 1}})));
    }

    #[test]
    fn null_and_missing_are_none() {
        for json in ["{}", r#"{"inner":null,"open":null}"#] {
            assert_eq!(read(json).unwrap(), (Outer::default(), vec![]));
        }
    }

    #[test]
    fn a_struct_is_an_object() {
        for json in ["[]", r#"{"inner":[1]}"#, r#"{"inner":1}"#, "1", "null"] {
            assert!(read(json).is_err(), "{json}");
        }
    }

    #[test]
    fn the_list_has_an_end() {
        let fields: Vec<String> = (0..100).map(|n| format!(r#""f{n}":{n}"#)).collect();
        let (_, unknown) = read(&format!("{{{}}}", fields.join(","))).unwrap();
        assert_eq!(unknown.len(), MAX_UNKNOWN);
    }
}
