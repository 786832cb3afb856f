//! Properties of the translation. The rows of the contract are in `tests/it/contract`.

use http::StatusCode;
use proptest::prelude::*;
use tonic::Code;

use super::{
    super::{Response as _, reply, time::TIMESTAMP_SECONDS},
    *,
};
use crate::rest::Ending;

/// The reply that OnboardFlow gives to a call that it takes. Made by hand, as a JSON library would
/// read the value as a double.
fn event_of(call: &Call) -> String {
    let body = std::str::from_utf8(call.body.as_ref().unwrap()).unwrap();
    let sent: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> =
        serde_json::from_str(body).unwrap();
    let of = |name: &str| sent[name].get().to_owned();
    format!(
        r#"{{"success":true,"data":{{"id":1,"event_date":{0}000,"site_hash":{1},"event_meta":{{"data":{{"customer":{{"id":{2}}},"subscription":{{"id":{3},"name":{4},"value":{5},"status":{6},"currency":{7},"interval":{8},"trial_end":{9},"product_id":null,"started_at":{10},"trial_start":{11}}}}},"type":"SUBSCRIPTION_CREATED","created":{0}}}}}}}"#,
        of("event_date"),
        of("site_key"),
        of("customer_id"),
        of("subscription_id"),
        of("subscription_name"),
        of("subscription_value"),
        of("subscription_status"),
        of("subscription_currency"),
        of("subscription_interval"),
        of("subscription_trial_end"),
        of("subscription_started_at"),
        of("subscription_trial_start"),
    )
}

fn any_text() -> impl Strategy<Value = String> {
    "\\PC{0,20}[a-z]\\PC{0,20}"
}

fn any_time() -> impl Strategy<Value = Option<Timestamp>> {
    (TIMESTAMP_SECONDS, 0..1_000_000_000_i32)
        .prop_map(|(seconds, nanos)| Some(Timestamp { seconds, nanos }))
}

fn any_request() -> impl Strategy<Value = CreateSubscriptionRequest> {
    let texts = (any_text(), any_text(), any_text(), any_text());
    let choices = (1..=3_i32, 1..=4_i32);
    let amount = ("-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,25})?", "[A-Z]{3}");
    let times = (any_time(), any_time(), any_time(), any_time());
    (texts, choices, amount, times).prop_map(|(texts, choices, amount, times)| {
        let (site_key, id, customer_id, name) = texts;
        CreateSubscriptionRequest {
            site_key,
            event_date: times.0,
            subscription: Some(Subscription {
                id,
                customer_id,
                name,
                status: choices.0,
                interval: choices.1,
                value: amount.0,
                currency: amount.1,
                started_at: times.1,
                trial_start: times.2,
                trial_end: times.3,
            }),
            request_id: String::new(),
        }
    })
}

fn whole_seconds(time: Option<Timestamp>) -> Option<Timestamp> {
    time.map(|time| Timestamp { nanos: 0, ..time })
}

/// Bytes of any kind, and envelopes that break off.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let cut = (any_request(), any::<prop::sample::Index>()).prop_map(|(request, cut)| {
        let mut bytes = event_of(&Create::encode(request).unwrap()).into_bytes();
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
        let call = Create::encode(request.clone()).unwrap();
        let body = event_of(&call);
        let reply = reply(StatusCode::OK, body, Ending::Complete);
        prop_assert_eq!(CreateSubscriptionResponse::unknown_fields(&reply), Vec::<String>::new());
        let decoded = Create::decode(reply).unwrap();
        let event = decoded.event.unwrap();
        let meta = event.event_meta.unwrap();
        let data = meta.data.unwrap();
        let subscription = request.subscription.unwrap();

        prop_assert_eq!(event.site_hash, request.site_key);
        prop_assert_eq!(event.event_date, whole_seconds(request.event_date));
        prop_assert_eq!(meta.created, whole_seconds(request.event_date));
        prop_assert_eq!(data.customer.unwrap().id, subscription.customer_id);
        prop_assert_eq!(data.subscription.unwrap(), RecordedSubscription {
            id: subscription.id,
            name: subscription.name,
            status: status_name(subscription.status).unwrap().to_owned(),
            interval: interval_name(subscription.interval).unwrap().to_owned(),
            value: subscription.value,
            currency: subscription.currency,
            started_at: whole_seconds(subscription.started_at),
            trial_start: whole_seconds(subscription.trial_start),
            trial_end: whole_seconds(subscription.trial_end),
            product_id: None,
        });
    }

    #[test]
    fn no_reply_panics_and_none_but_a_2xx_is_a_success(
        status in 100_u16..600,
        body in any_body(),
        cut in any::<bool>(),
    ) {
        let ending = if cut { Ending::CutShort } else { Ending::Complete };
        match Update::decode(reply(StatusCode::from_u16(status).unwrap(), body, ending)) {
            Ok(_) => prop_assert!((200..300).contains(&status) && !cut),
            Err(error) => prop_assert_ne!(error.kind.row().code, Code::Ok),
        }
    }
}

#[test]
fn fields_that_are_not_known_are_named_beside_those_that_keep_their_digits() {
    let body = r#"{"success":true,"data":{"event_meta":{"data":{"subscription":{"value":1.50,"plan":"x","product_id":7}}}}}"#;
    let reply = reply(StatusCode::OK, body, Ending::Complete);
    assert_eq!(
        CreateSubscriptionResponse::unknown_fields(&reply),
        ["data.event_meta.data.subscription.plan"]
    );
    let decoded = Create::decode(reply).unwrap();
    let meta = decoded.event.unwrap().event_meta.unwrap();
    let subscription = meta.data.unwrap().subscription.unwrap();
    assert_eq!(subscription.value, "1.50");
    assert_eq!(subscription.product_id.as_deref(), Some("7"));
}
