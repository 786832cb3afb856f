//! What translation costs: `cargo bench --bench translate` prints the time and the allocations of
//! a call's encode and decode.
//!
//! `translate --count WHAT N` does one of them N times and no more, for a tool that counts
//! instructions: scripts/check-cost.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;

use bytes::Bytes;
use divan::{AllocProfiler, Bencher};
use http::StatusCode;
use onboardflow_gateway::{
    proto::{CreateCustomerRequest, Customer},
    rest::{Ending, KeyHolder, Reply},
    translate::{Operation as _, customer::Create},
};
use prost::Message as _;
use prost_types::{Struct, Timestamp, value::Kind};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

/// The reply of the specification's worked example.
const CREATED: &str = include_str!("../tests/fixtures/created.json");

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [_, "--count", what, times] => count(what, times.parse().unwrap()),
        _ => divan::main(),
    }
}

fn count(what: &str, times: usize) {
    let (request, reply) = (request(), created());
    let (rich_request, rich_reply) = (request_with_properties(), created_with_properties());
    for _ in 0..times {
        match what {
            "encode" => encode(black_box(&request)),
            "decode" => decode(black_box(&reply)),
            "encode-properties" => encode(black_box(&rich_request)),
            "decode-properties" => decode(black_box(&rich_reply)),
            _ => panic!("no such thing to count: {what}"),
        }
    }
}

#[divan::bench(args = ["encode", "encode-properties"])]
fn protobuf_to_json(bencher: Bencher, what: &str) {
    let request = match what {
        "encode" => request(),
        _ => request_with_properties(),
    };
    bencher.bench_local(|| encode(black_box(&request)));
}

#[divan::bench(args = ["decode", "decode-properties"])]
fn json_to_protobuf(bencher: Bencher, what: &str) {
    let reply = match what {
        "decode" => created(),
        _ => created_with_properties(),
    };
    bencher.bench_local(|| decode(black_box(&reply)));
}

/// The way there, from the message's bytes to the call's body.
fn encode(message: &Bytes) {
    let request = CreateCustomerRequest::decode(message.clone()).unwrap();
    black_box(Create::encode(request).unwrap());
}

/// The way back, from the reply's body to the message's bytes.
fn decode(reply: &Reply) {
    let decoded = Create::decode(reply.clone()).unwrap();
    let mut bytes = bytes::BytesMut::with_capacity(8 << 10); // tonic's buffer
    decoded.encode(&mut bytes).unwrap();
    black_box(bytes);
}

/// The worked example's request.
fn request() -> Bytes {
    Bytes::from(message(None).encode_to_vec())
}

/// The same with custom properties, as the vendor's documentation has them, and some more.
fn request_with_properties() -> Bytes {
    let fields = [
        ("qty_tasks", Kind::NumberValue(2.0)),
        ("has_created_project", Kind::BoolValue(true)),
        ("plan", Kind::StringValue("team".to_owned())),
        ("score", Kind::NumberValue(0.75)),
    ];
    let properties = Struct {
        fields: fields
            .map(|(name, kind)| (name.to_owned(), kind.into()))
            .into(),
    };
    Bytes::from(message(Some(properties)).encode_to_vec())
}

fn message(custom_properties: Option<Struct>) -> CreateCustomerRequest {
    CreateCustomerRequest {
        site_key: "f37F2PPh".to_owned(),
        event_date: Some(Timestamp {
            seconds: 1_583_020_800,
            nanos: 0,
        }),
        customer: Some(Customer {
            id: "cus_123XYZ".to_owned(),
            user_id: "user_123XYZ".to_owned(),
            email: "test@onboardflow.com".to_owned(),
            first_name: Some("Joe".to_owned()),
            last_name: None,
            image_url: None,
            has_payment_method: Some(true),
        }),
        custom_properties,
        request_id: String::new(),
    }
}

fn created() -> Reply {
    reply(CREATED.to_owned())
}

fn created_with_properties() -> Reply {
    let properties = r#""custom_properties":{"qty_tasks":2,"has_created_project":true,"plan":"team","score":0.75},"customer":{"#;
    reply(CREATED.replace(r#""customer":{"#, properties))
}

fn reply(body: String) -> Reply {
    Reply {
        status: StatusCode::OK,
        retry_after: None,
        body: Bytes::from(body),
        ending: Ending::Complete,
        key_holder: KeyHolder::Gateway,
    }
}
