//! Requests that the real API would refuse, in the order of its checks.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Call, EXAMPLE, KEY, Running};

#[tokio::test]
async fn unknown_paths_are_not_found() {
    let running = Running::start().await;
    for path in ["/", "/api/v1/customers/", "/api/v1/customer//", "/api/v1"] {
        let answer = running.call(&Call::new("POST", EXAMPLE).at(path)).await;
        answer.assert_detail(404, "Not found.");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_path_without_its_slash_is_redirected() {
    let running = Running::start().await;
    for method in ["GET", "POST", "PUT"] {
        let call = Call::new(method, EXAMPLE).at("/api/v1/customer");
        let answer = running.call(&call).await;
        assert_eq!(answer.status, 301, "{method}");
        assert_eq!(answer.header("location"), Some("/api/v1/customer/"));
    }
    running.stop().await;
}

#[tokio::test]
async fn other_verbs_are_not_allowed() {
    let running = Running::start().await;
    for method in ["GET", "PATCH", "OPTIONS", "post"] {
        let answer = running.call(&Call::new(method, EXAMPLE)).await;
        let detail = format!("Method \"{method}\" not allowed.");
        answer.assert_detail(405, &detail);
        assert_eq!(answer.header("allow"), Some("POST,PUT,DELETE"));
    }
    running.stop().await;
}

#[tokio::test]
async fn credentials_are_checked_in_the_frameworks_words() {
    let missing = "Authentication credentials were not provided.";
    let cases = [
        (String::new(), missing),
        (format!("Basic {KEY}"), missing),
        (KEY.to_owned(), missing),
        (
            "Token".to_owned(),
            "Invalid token header. No credentials provided.",
        ),
        (
            format!("Token {KEY} {KEY}"),
            "Invalid token header. Token string should not contain spaces.",
        ),
        (format!("Token {}", &KEY[1..]), "Invalid token."),
        (format!("Bearer {}", KEY.to_uppercase()), "Invalid token."),
    ];
    let running = Running::start().await;
    for (authorization, detail) in cases {
        let call = Call::new("POST", EXAMPLE).with("authorization", &authorization);
        let answer = running.call(&call).await;
        answer.assert_detail(401, detail);
        assert_eq!(answer.header("www-authenticate"), Some("Token"));
    }
    let call = Call::new("POST", EXAMPLE).without("authorization");
    running.call(&call).await.assert_detail(401, missing);
    running.stop().await;
}

#[tokio::test]
async fn only_json_is_spoken() {
    let running = Running::start().await;
    let call = Call::new("POST", EXAMPLE).with("accept", "text/html, image/*");
    let answer = running.call(&call).await;
    answer.assert_detail(406, "Could not satisfy the request Accept header.");

    let call = Call::new("POST", EXAMPLE).with("content-type", "text/plain");
    let answer = running.call(&call).await;
    answer.assert_detail(415, "Unsupported media type \"text/plain\" in request.");

    let call = Call::new("POST", EXAMPLE).without("content-type");
    let answer = running.call(&call).await;
    answer.assert_detail(415, "Unsupported media type \"\" in request.");
    running.stop().await;
}

#[tokio::test]
async fn malformed_json_is_a_parse_error_that_echoes_nothing() {
    let running = Running::start().await;
    let deep = "[".repeat(100_000);
    for body in [
        "",
        "{",
        "{\"site_key\": NaN}",
        "'secret'",
        &EXAMPLE[1..],
        &deep,
    ] {
        let answer = running.call(&Call::new("POST", body)).await;
        assert_eq!(answer.status, 400);
        let detail = answer.json()["detail"].take();
        let detail = detail.as_str().unwrap();
        assert!(detail.starts_with("JSON parse error - "), "{detail}");
        assert!(!detail.contains("secret"), "{detail}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_document_must_be_an_object() {
    let running = Running::start().await;
    let cases = [
        ("[]", "list"),
        ("\"x\"", "str"),
        ("null", "NoneType"),
        ("2.5", "float"),
    ];
    for (body, got) in cases {
        let answer = running.call(&Call::new("POST", body)).await;
        let problem = format!("Invalid data. Expected a dictionary, but got {got}.");
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json(), json!({ "non_field_errors": [problem] }));
    }
    running.stop().await;
}

#[tokio::test]
async fn required_fields_are_missed_all_at_once_in_their_order() {
    let running = Running::start().await;
    let answer = running.call(&Call::new("POST", "{}")).await;
    assert_eq!(answer.status, 400);
    let required = r#"["This field is required."]"#;
    let expected = format!(
        r#"{{"site_key":{required},"event_date":{required},"user_id":{required},"customer_id":{required},"customer_email":{required},"customer_has_payment_method":{required}}}"#
    );
    assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    running.stop().await;
}

/// Name, value and the one problem that it has.
type WrongField = (&'static str, Value, &'static str);

const NULL: &str = "This field may not be null.";
const STRING: &str = "Not a valid string.";

fn wrong_required_fields() -> Vec<WrongField> {
    let blank = "This field may not be blank.";
    let integer = "A valid integer is required.";
    let boolean = "Must be a valid boolean.";
    let email = "Enter a valid email address.";
    vec![
        ("site_key", json!(null), NULL),
        ("site_key", json!(""), blank),
        ("user_id", json!(" \t"), blank),
        ("user_id", json!(7), STRING),
        ("customer_id", json!(["cus_123XYZ"]), STRING),
        (
            "customer_id",
            json!("cus\0"),
            "Null characters are not allowed.",
        ),
        ("event_date", json!(null), NULL),
        ("event_date", json!(1_583_020_800.0), integer),
        ("event_date", json!(1_583_020_800.5), integer),
        ("event_date", json!("1583020800"), integer),
        ("event_date", json!(true), integer),
        ("event_date", json!(u64::MAX), integer),
        (
            "event_date",
            json!(1_583_020_800_000_i64),
            "Ensure this value is less than or equal to 253402300799.",
        ),
        (
            "event_date",
            json!(i64::MIN),
            "Ensure this value is greater than or equal to -62135596800.",
        ),
        ("customer_email", json!(""), blank),
        ("customer_email", json!("joe"), email),
        ("customer_email", json!("joe@"), email),
        ("customer_email", json!("joe@doe"), email),
        ("customer_email", json!("j oe@doe.com"), email),
        ("customer_email", json!("joe@-doe.com"), email),
        ("customer_email", json!("joe@doe..com"), email),
        ("customer_has_payment_method", json!(null), NULL),
        ("customer_has_payment_method", json!("true"), boolean),
        ("customer_has_payment_method", json!(1), boolean),
    ]
}

fn wrong_optional_fields() -> Vec<WrongField> {
    let url = "Enter a valid URL.";
    vec![
        ("customer_first_name", json!(null), NULL),
        ("customer_last_name", json!({}), STRING),
        ("customer_image_url", json!("/joe.png"), url),
        (
            "customer_image_url",
            json!("ftp://example.com/joe.png"),
            url,
        ),
        ("customer_image_url", json!("http:example.com"), url),
        ("customer_image_url", json!("https:///joe.png"), url),
        ("customer_image_url", json!("https://example.com/a b"), url),
        ("customer_image_url", json!(5), STRING),
        ("custom_properties", json!(null), NULL),
        (
            "custom_properties",
            json!([1]),
            "Expected a dictionary of items but got type \"list\".",
        ),
    ]
}

#[tokio::test]
async fn a_wrong_field_is_named_with_its_problem() {
    let running = Running::start().await;
    let optional = wrong_optional_fields();
    for (name, value, problem) in wrong_required_fields().into_iter().chain(optional) {
        let mut document: Value = serde_json::from_str(EXAMPLE).unwrap();
        document[name] = value;
        let answer = running.call(&Call::new("PUT", &document)).await;
        assert_eq!(answer.status, 400, "{name}: {}", document[name]);
        assert_eq!(answer.json(), json!({ name: [problem] }), "{document}");
    }
    running.stop().await;
}

#[tokio::test]
async fn unusual_addresses_are_taken() {
    let running = Running::start().await;
    for email in ["a.b+c@sub.example.co", "o'hara@localhost", "x@münchen.de"] {
        let call = Call::with_fields("POST", &json!({ "customer_email": email }));
        assert_eq!(running.call(&call).await.status, 200, "{email}");
    }
    for url in ["", "http://127.0.0.1:8080/x", "HTTPS://example.com"] {
        let call = Call::with_fields("POST", &json!({ "customer_image_url": url }));
        assert_eq!(running.call(&call).await.status, 200, "{url}");
    }
    running.stop().await;
}

#[tokio::test]
async fn checks_come_in_their_order() {
    let running = Running::start().await;
    let wrong = || {
        Call::new("GET", "{")
            .without("authorization")
            .with("accept", "a/b")
    };
    let mut call = wrong().with("content-type", "text/plain").at("/");
    let mut statuses = Vec::new();
    for mend in 0..6 {
        call = match mend {
            0 => call,
            1 => call.at("/api/v1/customer/"),
            2 => Call {
                method: "POST",
                ..call
            },
            3 => call.with("authorization", &format!("Token {KEY}")),
            4 => call.without("accept"),
            _ => call.with("content-type", "application/json"),
        };
        statuses.push(running.call(&call).await.status);
    }
    assert_eq!(statuses, [404, 405, 401, 406, 415, 400]);
    running.stop().await;
}

#[tokio::test]
async fn a_body_is_taken_up_to_one_mebibyte() {
    let running = Running::start().await;
    let spare = 1024 * 1024 - EXAMPLE.len();
    let fits = format!("{EXAMPLE}{}", " ".repeat(spare));
    let answer = running.call(&Call::new("POST", &fits)).await;
    assert_eq!(answer.status, 200);

    let answer = running.call(&Call::new("POST", &format!("{fits} "))).await;
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    running.stop().await;
}

/// A client that announces no length and never ends gets its answer while it still writes.
#[tokio::test]
async fn an_endless_body_is_refused_in_the_end() {
    let running = Running::start().await;
    let stream = running.connect().await.0.into_inner();
    let (mut reading, mut writing) = stream.into_split();
    let head = format!(
        "POST /api/v1/customer/ HTTP/1.1\r\nauthorization: Token {KEY}\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let writer = tokio::spawn(async move {
        writing.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        // Ends when the server closes the connection.
        while writing.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let mut answer = vec![0; 12];
    reading.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "HTTP/1.1 413");
    writer.await.unwrap();
    running.stop().await;
}
