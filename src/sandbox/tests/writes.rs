//! Calls that are taken.

use std::{
    ops::RangeInclusive,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::json;

use super::{Call, EXAMPLE, KEY, Running};

fn now() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the times of events"
    )]
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since_epoch.as_millis()).unwrap()
}

/// The worked example's reply, with what the clock and the hash decide filled in.
fn example_reply(kind: &str, session: i64, value: &str, updated: i64) -> String {
    format!(
        r#"{{"success":true,"data":{{"id":979924,"event_provider":"API","site_user":{{}},"site_hash":"f37F2PPh","session_id":"f37F2PPh-{session}","event_date":1583020800000,"event_value":"{value}","event_type":"PROVIDER_EVENT","event_meta":{{"data":{{"customer":{{"id":"cus_123XYZ","email":"test@onboardflow.com","user_id":"user_123XYZ","image_url":null,"last_name":null,"first_name":"Joe","has_payment_method":true}}}},"type":"{kind}","created":1583020800}},"updated":{updated},"created":{updated}}}}}"#
    )
}

async fn answers_like_the_worked_example(method: &'static str, kind: &str) {
    let running = Running::start().await;
    let before = now();
    let answer = running.call(&Call::new(method, EXAMPLE)).await;
    let during: RangeInclusive<i64> = before..=now();

    assert_eq!(answer.status, 200);
    let document = answer.json();
    let updated = document["data"]["updated"].as_i64().unwrap();
    assert!(during.contains(&updated), "{updated} not in {during:?}");
    let value = document["data"]["event_value"].as_str().unwrap();
    assert!(value.len() == 40 && value.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let expected = example_reply(kind, updated / 1000, value, updated);
    assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    running.stop().await;
}

#[tokio::test]
async fn a_create_is_answered_like_the_worked_example() {
    answers_like_the_worked_example("POST", "CUSTOMER_CREATED").await;
}

#[tokio::test]
async fn an_update_is_answered_like_the_worked_example() {
    answers_like_the_worked_example("PUT", "CUSTOMER_UPDATED").await;
}

#[tokio::test]
async fn a_delete_is_answered_without_a_body() {
    let running = Running::start().await;
    let body = r#"{"site_key":"f37F2PPh","user_id":"user_123XYZ","customer_id":"cus_123XYZ"}"#;
    let answer = running.call(&Call::new("DELETE", body)).await;
    assert_eq!((answer.status, answer.body), (204, vec![]));

    let answer = running.call(&Call::new("DELETE", "{}")).await;
    assert_eq!(answer.status, 400);
    let required = ["This field is required."];
    let expected = json!({"site_key": required, "user_id": required, "customer_id": required});
    assert_eq!(answer.json(), expected);
    running.stop().await;
}

#[tokio::test]
async fn every_field_comes_back() {
    let running = Running::start().await;
    let fields = json!({
        "site_key": "\"f37\\\"",
        "event_date": -1,
        "customer_first_name": "",
        "customer_last_name": "Doe",
        "customer_image_url": "https://example.com/joe.png?size=2",
        "customer_has_payment_method": false,
        "custom_properties": {"qty_tasks": 2, "has_created_project": true, "rate": 0.5, "tags": [null]},
    });
    let answer = running.call(&Call::with_fields("PUT", &fields)).await;
    let data = &answer.json()["data"];
    let customer = &data["event_meta"]["data"]["customer"];
    assert_eq!(data["site_hash"], fields["site_key"]);
    let session = data["session_id"].as_str().unwrap();
    assert!(session.starts_with("\"f37\\\"-"), "{session}");
    assert_eq!(data["event_date"], -1000);
    assert_eq!(data["event_meta"]["created"], -1);
    assert_eq!(customer["first_name"], "");
    assert_eq!(customer["last_name"], "Doe");
    assert_eq!(customer["image_url"], fields["customer_image_url"]);
    assert_eq!(customer["has_payment_method"], false);
    let properties = &data["event_meta"]["data"]["custom_properties"];
    assert_eq!(properties, &fields["custom_properties"]);
    running.stop().await;
}

#[tokio::test]
async fn ids_and_values_differ_between_calls_on_one_connection() {
    let running = Running::start().await;
    let mut client = running.connect().await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        client.send(&Call::new("POST", EXAMPLE)).await;
        let data = client.answer().await.unwrap().json()["data"].take();
        seen.push((data["id"].clone(), data["event_value"].clone()));
    }
    assert_eq!(seen[0].0, 979_924);
    assert_eq!(seen[1].0, 979_925);
    assert_eq!(seen[2].0, 979_926);
    assert!(seen[0].1 != seen[1].1 && seen[1].1 != seen[2].1);
    running.stop().await;
}

#[tokio::test]
async fn both_schemes_are_accepted_in_any_case() {
    let running = Running::start().await;
    for scheme in ["Token", "Bearer", "token", "BEARER"] {
        let authorization = format!("{scheme} {KEY}");
        let call = Call::new("POST", EXAMPLE).with("authorization", &authorization);
        assert_eq!(running.call(&call).await.status, 200, "{scheme}");
    }
    running.stop().await;
}

#[tokio::test]
async fn json_is_recognized_among_media_types() {
    let running = Running::start().await;
    for accept in ["*/*", "application/*", "text/html, Application/JSON;q=0.5"] {
        let call = Call::new("POST", EXAMPLE)
            .with("accept", accept)
            .with("content-type", "Application/JSON; charset=utf-8");
        assert_eq!(running.call(&call).await.status, 200, "{accept}");
    }
    running.stop().await;
}

#[tokio::test]
async fn debug_output_shows_no_key() {
    let running = Running::start().await;
    let shown = format!("{:?}", running.api);
    assert!(!shown.contains(KEY), "{shown}");
    running.stop().await;
}
