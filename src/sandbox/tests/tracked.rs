//! Events of users, taken and refused.

use serde_json::{Value, json};

use super::{Call, Running};

/// The request of the worked example.
const EXAMPLE: &str = r#"{"s":"f37F2PPh","site_user":{"id":"user_123XYZ","customer_id":"cus_123XYZ","custom_properties":{"projects_created":7}},"event":"PAGE_VIEW","value":"/manage/settings/","meta":{"title":"App Settings Page"}}"#;

async fn answer_to(running: &Running, body: &Value) -> (u16, Value) {
    let call = Call::new("POST", body).at("/api/v1/tracker/event/");
    let answer = running.call(&call).await;
    (answer.status, answer.json())
}

#[tokio::test]
async fn an_event_is_answered_like_the_worked_example() {
    let running = Running::start().await;
    let sent: Value = serde_json::from_str(EXAMPLE).unwrap();
    let (status, answer) = answer_to(&running, &sent).await;
    assert_eq!(status, 200);
    let data = &answer["data"];
    assert_eq!(data["event_provider"], "JSTRACKER");
    assert_eq!(data["event_value"], "/manage/settings/");
    assert_eq!(data["event_type"], "PAGE_VIEW");
    assert_eq!(data["event_meta"], sent["meta"]);
    assert_eq!(data["site_user"], sent["site_user"]);
    assert_eq!(data["event_date"], data["created"]);
    assert_eq!(data.get("session_id"), None);
    running.stop().await;
}

#[tokio::test]
async fn a_wrong_field_of_an_event_is_named() {
    let running = Running::start().await;
    let user = |id: Value| json!({"id": id, "customer_id": "cus_123XYZ"});
    for (name, value, problem) in [
        (
            "event",
            json!("page_view"),
            "\"page_view\" is not a valid choice.",
        ),
        ("value", json!(""), "This field may not be blank."),
        (
            "site_user",
            json!("joe"),
            "Expected a dictionary of items but got type \"str\".",
        ),
        (
            "site_user",
            user(json!("")),
            "id: This field may not be blank.",
        ),
        ("site_user", user(json!(7)), "id: Not a valid string."),
        (
            "meta",
            json!([]),
            "Expected a dictionary of items but got type \"list\".",
        ),
        ("session_id", json!(7), "Not a valid string."),
    ] {
        let mut sent: Value = serde_json::from_str(EXAMPLE).unwrap();
        sent[name] = value;
        let (status, answer) = answer_to(&running, &sent).await;
        assert_eq!((status, answer), (400, json!({ name: [problem] })));
    }
    let (_, missing) = answer_to(&running, &json!({})).await;
    assert_eq!(missing.as_object().unwrap().len(), 4, "{missing}");
    running.stop().await;
}

#[tokio::test]
async fn the_site_key_provokes_under_its_other_name() {
    let running = Running::start().await;
    let mut sent: Value = serde_json::from_str(EXAMPLE).unwrap();
    sent["s"] = json!("sandbox-400");
    let (status, answer) = answer_to(&running, &sent).await;
    assert_eq!(status, 400);
    assert!(answer["value"].is_array(), "{answer}");
    running.stop().await;
}
