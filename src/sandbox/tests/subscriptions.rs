//! Subscriptions, taken and refused.

use serde_json::{Value, json};

use super::{Call, Running};

/// The request of the worked example, byte for byte, with digits that a double would lose.
const EXAMPLE: &str = r#"{"site_key":"f37F2PPh","event_date":1583020800,"subscription_name":"Pro","customer_id":"cus_123XYZ","subscription_id":"sub_123XYZ","subscription_value":49.990,"subscription_started_at":1583020800,"subscription_trial_start":1583020800,"subscription_trial_end":1583020800,"subscription_currency":"USD","subscription_status":"active","subscription_interval":"MONTH"}"#;
/// What an event holds of it, as the worked example has it.
const RECORDED: &str = r#""data":{"customer":{"id":"cus_123XYZ"},"subscription":{"id":"sub_123XYZ","name":"Pro","value":49.990,"status":"active","currency":"USD","interval":"MONTH","trial_end":1583020800,"product_id":null,"started_at":1583020800,"trial_start":1583020800}}"#;

fn call(method: &'static str, body: &(impl ToString + ?Sized)) -> Call {
    Call::new(method, body).at("/api/v1/subscription/")
}

#[tokio::test]
async fn a_subscription_is_answered_like_the_worked_example() {
    let running = Running::start().await;
    for (method, kind) in [
        ("POST", "SUBSCRIPTION_CREATED"),
        ("PUT", "SUBSCRIPTION_UPDATED"),
    ] {
        let answer = running.call(&call(method, EXAMPLE)).await;
        assert_eq!(answer.status, 200);
        let data = &answer.json()["data"];
        assert_eq!(data["event_date"], 1_583_020_800_000_i64);
        assert_eq!(data["event_meta"]["type"], kind);
        assert_eq!(data["event_meta"]["created"], 1_583_020_800);
        let body = String::from_utf8(answer.body).unwrap();
        assert!(body.contains(RECORDED), "{body}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_field_of_a_subscription_is_named() {
    let running = Running::start().await;
    for (name, value, problem) in [
        (
            "subscription_value",
            json!("49.99"),
            "A valid number is required.",
        ),
        (
            "subscription_status",
            json!("Active"),
            "\"Active\" is not a valid choice.",
        ),
        (
            "subscription_interval",
            json!("month"),
            "\"month\" is not a valid choice.",
        ),
        (
            "subscription_currency",
            json!("usd"),
            "Enter a currency code of ISO 4217.",
        ),
        (
            "subscription_trial_end",
            json!(1.5),
            "A valid integer is required.",
        ),
        (
            "subscription_name",
            json!(" "),
            "This field may not be blank.",
        ),
    ] {
        let mut document: Value = serde_json::from_str(EXAMPLE).unwrap();
        document[name] = value;
        let answer = running.call(&call("PUT", &document)).await;
        assert_eq!(answer.status, 400, "{name}");
        assert_eq!(answer.json(), json!({ name: [problem] }));
    }
    let answer = running.call(&call("POST", "{}")).await;
    assert_eq!(answer.json().as_object().unwrap().len(), 12);
    running.stop().await;
}

#[tokio::test]
async fn a_refused_subscription_names_its_own_fields() {
    let running = Running::start().await;
    let mut document: Value = serde_json::from_str(EXAMPLE).unwrap();
    document["site_key"] = json!("sandbox-400");
    let answer = running.call(&call("POST", &document)).await;
    assert_eq!(answer.status, 400);
    let problems = answer.json();
    assert!(problems["subscription_currency"].is_array(), "{problems}");
    running.stop().await;
}
