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
use crate::rest::Ending;

/// The reply that OnboardFlow gives to a call that it takes.
fn event_of(call: &Call) -> Value {
    let sent: Value = serde_json::from_slice(call.body.as_ref().unwrap()).unwrap();
    let millis = sent["event_date"].as_i64().map(|seconds| seconds * 1000);
    json!({ "success": true, "data": {
        "id": 1, "event_provider": "JSTRACKER", "site_hash": sent["s"], "event_date": millis,
        "event_value": sent["value"], "event_type": sent["event"], "event_meta": sent["meta"],
        "site_user": sent["site_user"], "created": 1_585_920_768_000_i64,
        "updated": 1_585_920_768_001_i64,
    }})
}

fn any_text() -> impl Strategy<Value = String> {
    "\\PC{0,20}[a-z]\\PC{0,20}"
}

fn any_struct() -> impl Strategy<Value = Option<Struct>> {
    let fields = prop::collection::btree_map(".{0,10}", prop::num::f64::NORMAL, 0..4);
    prop::option::of(fields.prop_map(|fields| {
        Struct {
            fields: fields
                .into_iter()
                .map(|(key, value)| (key, value.into()))
                .collect(),
        }
    }))
}

fn any_request() -> impl Strategy<Value = RecordEventRequest> {
    let texts = (any_text(), any_text(), any_text(), any_text());
    let date = (TIMESTAMP_SECONDS, 0..1_000_000_000_i32);
    let optional = (prop::option::of(date), "[a-z]{0,5}");
    (texts, 1..=3_i32, any_struct(), any_struct(), optional).prop_map(
        |(texts, r#type, meta, custom_properties, (date, session_id))| RecordEventRequest {
            site_key: texts.0,
            r#type,
            value: texts.1,
            user: Some(EventUser {
                id: texts.2,
                customer_id: texts.3,
                custom_properties,
            }),
            meta,
            event_date: date.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
            session_id,
            request_id: String::new(),
        },
    )
}

/// Bytes of any kind, and envelopes that break off.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any_request(), any::<prop::sample::Index>()).prop_map(|(request, cut)| {
        let event = event_of(&Record::encode(request).unwrap());
        let mut bytes = event.to_string().into_bytes();
        bytes.truncate(cut.index(bytes.len()));
        bytes
    });
    let json_like = "[\\[\\]{}:,\"a-z0-9.eE+-]{0,60}".prop_map(String::into_bytes);
    prop_oneof![cut, json_like, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn encode_then_decode_keeps_every_field(request in any_request()) {
        let call = Record::encode(request.clone()).unwrap();
        let sent: Value = serde_json::from_slice(call.body.as_ref().unwrap()).unwrap();
        let body = event_of(&call).to_string();
        let reply = reply(StatusCode::OK, body, Ending::Complete);
        prop_assert_eq!(RecordEventResponse::unknown_fields(&reply), Vec::<String>::new());
        let decoded = Record::decode(reply).unwrap();
        let event = decoded.event.unwrap();
        let user = request.user.unwrap();
        let recorded_user = event.site_user.unwrap();

        prop_assert_eq!(event.site_hash, request.site_key);
        prop_assert_eq!(event.event_type, type_name(request.r#type).unwrap());
        prop_assert_eq!(event.event_value, request.value);
        prop_assert_eq!(&event.event_meta, &request.meta);
        prop_assert_eq!(&recorded_user.fields["id"], &user.id.into());
        prop_assert_eq!(&recorded_user.fields["customer_id"], &user.customer_id.into());
        prop_assert_eq!(
            event.event_date,
            request.event_date.map(|date| Timestamp { nanos: 0, ..date })
        );
        prop_assert_eq!(sent.get("session_id").is_some(), !request.session_id.is_empty());
        prop_assert_eq!(sent.get("meta").is_some(), event.event_meta.is_some());
        prop_assert_eq!(sent.get("event_date").is_some(), event.event_date.is_some());
    }

    #[test]
    fn no_reply_panics_and_none_but_a_2xx_is_a_success(
        status in 100_u16..600,
        body in any_body(),
        cut in any::<bool>(),
    ) {
        let ending = if cut { Ending::CutShort } else { Ending::Complete };
        match Record::decode(reply(StatusCode::from_u16(status).unwrap(), body, ending)) {
            Ok(_) => prop_assert!((200..300).contains(&status) && !cut),
            Err(error) => prop_assert_ne!(error.kind.row().code, Code::Ok),
        }
    }
}
