//! Properties of the translation. The rows of the contract are in `tests/it/contract`.

use http::StatusCode;
use proptest::prelude::*;
use prost_types::Timestamp;
use serde_json::{Value, json};
use tonic::Code;

use super::{
    super::{Response as _, reply, time::TIMESTAMP_SECONDS},
    *,
};
use crate::{
    error::{Answer, Kind, Write},
    rest::{Ending, KeyHolder},
};

/// The reply that OnboardFlow gives to a call that it takes.
fn event_of(call: &Call) -> Value {
    let sent: Value = serde_json::from_slice(call.body.as_ref().unwrap()).unwrap();
    let seconds = sent["event_date"].as_i64().unwrap();
    let mut data = json!({ "customer": {
        "id": sent["customer_id"], "email": sent["customer_email"], "user_id": sent["user_id"],
        "first_name": sent["customer_first_name"], "last_name": sent["customer_last_name"],
        "image_url": sent["customer_image_url"],
        "has_payment_method": sent["customer_has_payment_method"],
    }});
    if let Some(properties) = sent.get("custom_properties") {
        data["custom_properties"] = properties.clone();
    }
    json!({ "success": true, "data": {
        "id": 1, "event_provider": "API", "site_user": {}, "site_hash": sent["site_key"],
        "session_id": "s", "event_date": seconds * 1000, "event_value": "v",
        "event_type": "PROVIDER_EVENT",
        "event_meta": { "data": data, "type": "CUSTOMER_CREATED", "created": seconds },
        "updated": 1_585_918_703_001_i64, "created": 1_585_918_703_999_i64,
    }})
}

fn any_text() -> impl Strategy<Value = String> {
    "\\PC{0,20}[a-z]\\PC{0,20}"
}

fn any_customer() -> impl Strategy<Value = Customer> {
    (
        (any_text(), any_text(), any_text()),
        prop::option::of(".{0,20}"),
        prop::option::of(".{0,20}"),
        prop::option::of("https://[a-z]{1,10}/[a-z]{0,10}|"),
        any::<bool>(),
    )
        .prop_map(
            |((id, user_id, email), first_name, last_name, image_url, paying)| Customer {
                id,
                user_id,
                email,
                first_name,
                last_name,
                image_url,
                has_payment_method: Some(paying),
            },
        )
}

fn any_request() -> impl Strategy<Value = CreateCustomerRequest> {
    let date = (TIMESTAMP_SECONDS, 0..1_000_000_000_i32);
    let properties = prop::collection::btree_map(".{0,10}", prop::num::f64::NORMAL, 0..4);
    (
        any_text(),
        date,
        any_customer(),
        prop::option::of(properties),
    )
        .prop_map(
            |(site_key, (seconds, nanos), customer, properties)| CreateCustomerRequest {
                site_key,
                event_date: Some(Timestamp { seconds, nanos }),
                customer: Some(customer),
                custom_properties: properties.map(|fields| Struct {
                    fields: fields
                        .into_iter()
                        .map(|(key, value)| (key, value.into()))
                        .collect(),
                }),
                request_id: String::new(),
            },
        )
}

fn any_ending() -> impl Strategy<Value = Ending> {
    prop_oneof![
        Just(Ending::Complete),
        Just(Ending::TooLarge),
        Just(Ending::CutShort)
    ]
}

/// Bytes of any kind, and some that look like an envelope for a while.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let cut_envelope = (any_request(), any::<prop::sample::Index>()).prop_map(|(request, cut)| {
        let mut bytes = event_of(&Create::encode(request).unwrap())
            .to_string()
            .into_bytes();
        bytes.truncate(cut.index(bytes.len()));
        bytes
    });
    let json_like = "[\\[\\]{}:,\"a-z0-9.eE+-]{0,60}".prop_map(String::into_bytes);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        json_like,
        cut_envelope
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn encode_then_decode_keeps_every_field(request in any_request()) {
        let call = Create::encode(request.clone()).unwrap();
        let body = event_of(&call).to_string();
        let reply = reply(StatusCode::OK, body, Ending::Complete);
        prop_assert_eq!(CreateCustomerResponse::unknown_fields(&reply), Vec::<String>::new());
        let decoded = Create::decode(reply).unwrap();
        let event = decoded.event.unwrap();
        let whole_seconds = request.event_date.map(|date| Timestamp { nanos: 0, ..date });
        let meta = event.event_meta.unwrap();
        let data = meta.data.unwrap();

        prop_assert_eq!(event.site_hash, request.site_key);
        prop_assert_eq!(event.event_date, whole_seconds);
        prop_assert_eq!(meta.created, whole_seconds);
        prop_assert_eq!(data.customer, request.customer);
        prop_assert_eq!(data.custom_properties, request.custom_properties);
        prop_assert_eq!(event.updated.unwrap().nanos, 1_000_000);
        prop_assert_eq!(event.created.unwrap().nanos, 999_000_000);
    }

    #[test]
    fn no_reply_panics_and_none_but_a_2xx_is_a_success(
        status in 100_u16..600,
        body in any_body(),
        ending in any_ending(),
    ) {
        let reply = reply(StatusCode::from_u16(status).unwrap(), body, ending);
        let updated = Update::decode(reply.clone()).map(|_| ());
        for decoded in [updated, Delete::decode(reply).map(|_| ())] {
            match decoded {
                Ok(()) => prop_assert!((200..300).contains(&status) && ending == Ending::Complete),
                Err(error) => prop_assert_ne!(error.kind.row().code, Code::Ok),
            }
        }
    }

    #[test]
    fn a_delete_sends_its_ids_as_they_are(ids in (any_text(), any_text(), any_text())) {
        let (site_key, customer_id, user_id) = ids;
        let expected = json!({"site_key": site_key, "customer_id": customer_id, "user_id": user_id});
        let call = Delete::encode(DeleteCustomerRequest { site_key, customer_id, user_id, request_id: String::new() }).unwrap();
        let sent: Value = serde_json::from_slice(&call.body.unwrap()).unwrap();
        prop_assert_eq!(sent, expected);
    }
}

#[test]
fn every_status_has_a_code_and_none_invites_a_blind_retry_of_a_create() {
    for status in (100..600).map(|status| StatusCode::from_u16(status).unwrap()) {
        for holder in [KeyHolder::Gateway, KeyHolder::Caller] {
            let Some(answer) = Answer::of_status(status, Effect::Creates, holder) else {
                assert!(status.is_success());
                continue;
            };
            let row = Kind::from(answer).row();
            assert_ne!(row.code, Code::Ok, "{status}");
            // gRPC clients repeat UNAVAILABLE by themselves.
            let may_be_applied = matches!(row.write, Write::Unknown | Write::Applied);
            assert!(
                !(row.code == Code::Unavailable && may_be_applied),
                "{status}"
            );
        }
    }
}

#[test]
fn fields_that_are_not_known_are_named() {
    let body = r#"{"success":true,"data":{"id":1,"new":{"a":1},"event_meta":{"data":{"customer":{"plan":"x"}}}}}"#;
    let reply = reply(StatusCode::OK, body, Ending::Complete);
    assert_eq!(
        CreateCustomerResponse::unknown_fields(&reply),
        ["data.new", "data.event_meta.data.customer.plan"]
    );
}

#[test]
fn unknown_fields_are_bounded_in_number_and_length() {
    let long = "x".repeat(100_000);
    let fields: Vec<String> = (0..100).map(|n| format!(r#""{n}{long}":{n}"#)).collect();
    let body = format!(r#"{{"success":true,"data":{{{}}}}}"#, fields.join(","));
    let unknown =
        CreateCustomerResponse::unknown_fields(&reply(StatusCode::OK, body, Ending::Complete));
    assert_eq!(unknown.len(), 16);
    assert!(unknown.iter().all(|path| path.len() <= 256));
}

#[test]
fn an_envelope_is_an_object() {
    for body in ["[true,{}]", "[]", "1", "null", ""] {
        Create::decode(reply(StatusCode::OK, body, Ending::Complete)).unwrap_err();
    }
}
