//! Decimal numbers that keep their digits: text in Protobuf ↔ a number in JSON, never through a double.
//!
//! `RawValue` carries the digits through `serde_json`, so that only the fields that ask for it pay: the
//! feature `arbitrary_precision` would make text of every number of every reply.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;

/// Characters that a number of a request may have.
const MAX_LENGTH: usize = 64;

/// Whether a text is a decimal number as JSON writes it, without an exponent: `-?(0|[1-9]\d*)(\.\d+)?`.
pub(super) fn is_decimal(text: &str) -> bool {
    let number = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= MAX_LENGTH
        && is_digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(is_digits)
}

/// A decimal number, written as JSON.
pub(super) struct AsNumber<'a>(pub(super) &'a str);

impl Serialize for AsNumber<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.0.to_owned()).map_err(S::Error::custom)?;
        number.serialize(serializer)
    }
}

/// The digits of a JSON number, or what stands in a JSON string: some frameworks write decimals as one.
#[derive(Debug, PartialEq)]
pub(super) struct Digits(pub(super) String);

impl<'de> Deserialize<'de> for Digits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <Box<RawValue>>::deserialize(deserializer)?;
        let text = raw.get();
        if text.starts_with('"') {
            return serde_json::from_str(text)
                .map(Self)
                .map_err(D::Error::custom);
        }
        if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            return Ok(Self(text.to_owned()));
        }
        Err(D::Error::custom("neither a number nor a string"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_decimals_are_taken() {
        let longest = "9".repeat(MAX_LENGTH);
        for text in ["0", "49.99", "49.990", "-1", "0.10", "100", "0.0", &longest] {
            assert!(is_decimal(text), "{text}");
        }
        let too_long = "9".repeat(MAX_LENGTH + 1);
        for text in [
            "", " ", " 1", "1 ", "1,5", "1,000", "1.000,5", "1e3", "1E3", "0x1f", "NaN", "nan",
            "Infinity", "-inf", "+1", ".5", "5.", "-", "-.5", "01", "00", "-01", "1.2.3", "1_000",
            "١", "1\n", "1\0", "null", "\"1\"", "1/2", "$1", "--1", &too_long,
        ] {
            assert!(!is_decimal(text), "{text:?}");
        }
    }

    #[test]
    fn digits_are_read_as_they_are_written() {
        let read = |json| {
            serde_json::from_str::<Digits>(json)
                .ok()
                .map(|digits| digits.0)
        };
        for (json, digits) in [
            ("49.99", "49.99"),
            ("49.990", "49.990"),
            (
                "0.1000000000000000055511151231257827",
                "0.1000000000000000055511151231257827",
            ),
            ("1e2", "1e2"),
            ("-7", "-7"),
            (r#""49.99""#, "49.99"),
        ] {
            assert_eq!(read(json).as_deref(), Some(digits), "{json}");
        }
        for json in ["null", "true", "[]", "{}", "NaN", "01"] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn every_decimal_survives_the_round_trip(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?") {
            prop_assert!(is_decimal(&text));
            let json = serde_json::to_string(&AsNumber(&text)).unwrap();
            prop_assert_eq!(&json, &text);
            prop_assert_eq!(serde_json::from_str::<Digits>(&json).unwrap(), Digits(text));
        }

        #[test]
        fn what_is_taken_is_a_json_number(text in "[-+0-9.eE ,x]{0,8}") {
            if is_decimal(&text) {
                prop_assert!(serde_json::from_str::<serde_json::Number>(&text).is_ok());
            }
        }
    }
}
