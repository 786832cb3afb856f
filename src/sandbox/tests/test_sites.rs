//! What each test site key does to a client, and how the API stops.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, timeout},
};

use super::{Answered, Call, Running};
use crate::sandbox::{TEST_SITE_KEYS, Welcome, customer::CREATE, test_site::provoke};

fn call(site_key: &str) -> Call {
    Call::with_fields("POST", &json!({ "site_key": site_key }))
}

async fn answer_of(site_key: &str) -> Answered {
    let running = Running::start().await;
    let answer = running.call(&call(site_key)).await;
    running.stop().await;
    answer
}

#[test]
fn each_listed_key_provokes_something_and_no_other_does() {
    for (key, about) in TEST_SITE_KEYS {
        assert!(provoke(&CREATE, key).is_some(), "{key}: {about}");
    }
    for key in [
        "f37F2PPh",
        "sandbox",
        "sandbox-",
        "sandbox-200",
        "SANDBOX-400",
    ] {
        assert!(provoke(&CREATE, key).is_none(), "{key}");
    }
}

#[test]
fn the_welcome_names_each_key_and_what_is_not_emulated() {
    let address = "127.0.0.1:1".parse().unwrap();
    let welcome = Welcome {
        grpc: address,
        rest: address,
        token: "key",
    };
    let welcome = welcome.to_string();
    for (key, about) in TEST_SITE_KEYS {
        assert!(welcome.contains(&format!("  {key:<16} {about}\n")), "{key}");
    }
    assert!(welcome.contains("The emulated API checks the path"));
    assert!(welcome.contains("It doesn't emulate:\n  - records"));
}

#[tokio::test]
async fn sandbox_400_names_fields() {
    let answer = answer_of("sandbox-400").await;
    assert_eq!(answer.status, 400);
    let expected = json!({
        "customer_email": ["Enter a valid email address."],
        "non_field_errors": ["The customer could not be saved."],
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn sandbox_401_refuses_the_key() {
    let answer = answer_of("sandbox-401").await;
    answer.assert_detail(401, "Invalid token.");
    assert_eq!(answer.header("www-authenticate"), Some("Token"));
}

#[tokio::test]
async fn sandbox_404_finds_nothing() {
    answer_of("sandbox-404")
        .await
        .assert_detail(404, "Not found.");
}

#[tokio::test]
async fn sandbox_409_has_the_record_already() {
    let answer = answer_of("sandbox-409").await;
    answer.assert_detail(409, "This record exists already.");
}

#[tokio::test]
async fn sandbox_applied_says_that_the_write_was_taken_and_breaks_off() {
    let answer = answer_of("sandbox-applied").await;
    assert_eq!(answer.status, 200);
    assert!(answer.body.starts_with(br#"{"success":true,"#));
    let read: Result<serde_json::Value, _> = serde_json::from_slice(&answer.body);
    assert!(read.unwrap_err().is_eof());
}

#[tokio::test]
async fn sandbox_429_is_throttled_for_the_day() {
    let answer = answer_of("sandbox-429").await;
    let detail = "Request was throttled. Expected available in 86399 seconds.";
    answer.assert_detail(429, detail);
    assert_eq!(answer.header("retry-after"), Some("86399"));
}

#[tokio::test]
async fn sandbox_500_and_503_show_the_proxys_pages() {
    for (key, status, retry_after) in [
        ("sandbox-500", 500, None),
        ("sandbox-503", 503, Some("120")),
    ] {
        let answer = answer_of(key).await;
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8")
        );
        assert_eq!(answer.header("retry-after"), retry_after);
        assert!(answer.body.starts_with(b"<html>"));
    }
}

#[tokio::test]
async fn sandbox_garbage_is_a_success_that_cannot_be_read() {
    let answer = answer_of("sandbox-garbage").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let read: Result<serde_json::Value, _> = serde_json::from_slice(&answer.body);
    assert!(read.unwrap_err().is_eof());
}

#[tokio::test]
async fn sandbox_refused_says_so_in_the_body_alone() {
    let answer = answer_of("sandbox-refused").await;
    assert_eq!(answer.status, 200);
    let expected = json!({"success": false, "error": "This site does not take events."});
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn sandbox_drop_takes_the_request_and_closes_the_connection() {
    let running = Running::start().await;
    let mut client = running.connect().await;
    client.send(&call("sandbox-drop")).await;
    assert!(client.answer().await.is_none());
    running.stop().await;
}

/// The clock is paused and leaps whenever nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn sandbox_slow_answers_after_any_deadline() {
    let running = Running::start().await;
    let started = Instant::now();
    let answer = running.call(&call("sandbox-slow")).await;
    assert_eq!(answer.json()["success"], true);
    assert!(started.elapsed() >= Duration::from_secs(90));
    running.stop().await;
}

/// The connection closes as soon as the client ends its side, long before the answer is due.
#[tokio::test]
async fn sandbox_slow_stops_when_the_client_goes() {
    let running = Running::start().await;
    let mut client = running.connect().await;
    client.send(&call("sandbox-slow")).await;
    client.0.shutdown().await.unwrap();
    let answer = timeout(Duration::from_secs(20), client.answer()).await;
    assert!(answer.unwrap().is_none());
    running.stop().await;
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_ends_slow_calls() {
    let running = Running::start().await;
    let mut idle = running.connect().await;
    idle.send(&call("f37F2PPh")).await;
    assert_eq!(idle.answer().await.unwrap().status, 200);
    let mut slow = running.connect().await;
    slow.send(&call("sandbox-slow")).await;
    // Accepted after it and answered, so the slow one has arrived.
    running.call(&call("f37F2PPh")).await;

    running.stop().await;
    assert!(idle.answer().await.is_none());
    assert!(slow.answer().await.is_none());
}
