//! Both sides of a `Struct`: what is written, read and refused.

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
    let nested = |levels: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
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
