//! What a peer can make the translation allocate: a small multiple of the bytes that it sends.

use allocation_counter::measure;
use http::StatusCode;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::{ListValue, Struct, Value, value::Kind};

use super::{
    Operation as _,
    customer::{Create, Delete, Update},
    json::violations,
    path::Path,
};
use crate::{
    proto::CreateCustomerRequest,
    rest::{Ending, KeyHolder, Reply},
};

/// The defaults of `--max-request-bytes` and `--max-response-bytes`.
const MAX_REQUEST: usize = 64 * 1024;
const MAX_REPLY: usize = 1024 * 1024;

/// What may be allocated at a time for each byte of input, and what beside it. The second is for the
/// values of one or two `Struct`s: an object of one field takes 600 bytes.
const MULTIPLE: u64 = 8;
const BESIDE: u64 = 12 * 1024 * 1024;

fn peak(run: impl FnOnce()) -> u64 {
    measure(run).bytes_max
}

fn with_properties(properties: Struct) -> CreateCustomerRequest {
    CreateCustomerRequest {
        custom_properties: Some(properties),
        ..CreateCustomerRequest::default()
    }
}

fn list_under(key: String, value: Value, count: usize) -> Struct {
    let values = vec![value; count];
    let list = Kind::ListValue(ListValue { values }).into();
    Struct {
        fields: [(key, list)].into(),
    }
}

/// 146 bytes of gzip: the paths alone took 522 MiB.
#[test]
fn a_long_key_over_many_violations_costs_no_more_than_its_request() {
    let key = "k".repeat(MAX_REQUEST / 2);
    let request = with_properties(list_under(key, Value { kind: None }, 16_300));
    let peak = peak(|| drop(Create::encode(request)));
    assert!(peak < 1024 * 1024, "{peak}");
}

/// As many copies of a piece as a reply has room for, between a head and a tail.
fn filled(head: &str, piece: &str, tail: &str, size: usize) -> Vec<u8> {
    let count = size.saturating_sub(head.len() + tail.len() + 1) / (piece.len() + 1);
    let pieces = vec![piece; count].join(",");
    format!("{head}{pieces}{tail}").into_bytes()
}

const PIECES: [&str; 8] = [
    r#"{"":0}"#,
    r#"{"":{"":{}}}"#,
    "[0]",
    "[[[[0]]]]",
    "0",
    "{}",
    r#""a""#,
    r#"{"field":"a","message":"b"}"#,
];

const AROUND: [(&str, &str); 8] = [
    (r#"{"success":true,"data":{"site_user":{"a":["#, "]}}}"),
    (
        r#"{"success":true,"data":{"event_meta":{"data":{"custom_properties":{"a":["#,
        "]}}}}}",
    ),
    (r#"{"success":true,"data":{"new":["#, "]}}"),
    (r#"{"success":["#, "]}"),
    (r#"{"success":false,"errors":["#, "]}"),
    (r#"{"customer_email":["#, "]}"),
    ("[", "]"),
    (r#"{"success":true,"data":["#, ""),
];

fn decode_peak(status: u16, body: Vec<u8>) -> u64 {
    let reply = Reply {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: None,
        body: body.into(),
        ending: Ending::Complete,
        key_holder: KeyHolder::Gateway,
    };
    let for_delete = reply.clone();
    peak(|| drop(Update::decode(reply))).max(peak(|| drop(Delete::decode(for_delete))))
}

/// A reply of 1.6 KB of gzip made 100 MiB of maps.
#[test]
fn the_largest_replies_stay_within_their_bound() {
    for (head, tail) in AROUND {
        for piece in PIECES {
            let status = if head.contains("success") { 200 } else { 400 };
            let peak = decode_peak(status, filled(head, piece, tail, MAX_REPLY));
            assert!(peak < BESIDE, "{peak} for {status} {head}{piece}{tail}");
        }
    }
}

/// What a request of 64 KiB can hold can come back, however it is built.
#[test]
fn the_echo_of_the_richest_request_is_read() {
    let fields = [(String::new(), Kind::NullValue(0).into())].into();
    let object = Value::from(Kind::StructValue(Struct { fields }));
    let values = vec![Value::from(Kind::NullValue(0))];
    let list = Value::from(Kind::ListValue(ListValue { values }));
    for value in [Kind::NullValue(0).into(), list, object] {
        let size = |count| list_under("a".to_owned(), value.clone(), count).encoded_len();
        let count = (MAX_REQUEST - size(1)) / (size(2) - size(1));
        let properties = list_under("a".to_owned(), value.clone(), count);
        let mut found = Vec::new();
        violations(Path::Root, &properties, &mut found);
        assert_eq!(found, [], "{count}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn decode_allocates_a_small_multiple_of_its_input(
        around in prop::sample::select(&AROUND[..]),
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 1..4),
        status in prop::sample::select(&[200_u16, 204, 400, 404, 429, 500][..]),
        size in 64..MAX_REPLY / 32,
    ) {
        let body = filled(around.0, &pieces.join(","), around.1, size);
        let allowed = MULTIPLE * body.len() as u64 + BESIDE;
        let peak = decode_peak(status, body);
        prop_assert!(peak <= allowed, "{peak} > {allowed}");
    }

    #[test]
    fn encode_allocates_a_small_multiple_of_its_input(
        key in ".{0,2000}",
        text in ".{0,20}",
        count in 0..4000_usize,
        kind in 0..4,
    ) {
        let value: Value = match kind {
            0 => Value { kind: None },
            1 => f64::NAN.into(),
            2 => Kind::StringValue(text).into(),
            _ => Kind::StructValue(Struct { fields: [(text, Value { kind: None })].into() }).into(),
        };
        let request = with_properties(list_under(key, value, count));
        let allowed = MULTIPLE * request.encoded_len() as u64 + 64 * 1024;
        let peak = peak(|| drop(Create::encode(request)));
        prop_assert!(peak <= allowed, "{peak} > {allowed}");
    }
}
