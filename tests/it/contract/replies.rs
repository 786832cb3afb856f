//! Successes by their status whose body isn't one: a row of the table each, in bounded memory and
//! within the deadline.

use std::time::Duration;

use tokio::{io::AsyncWriteExt as _, net::TcpStream};
use tonic::Code;

use crate::support::{
    CREATED, Config, Gateway, Told, Upstream, create_request, response, told, update_request,
};

/// What a create and an update are told when the upstream's 200 has this body.
async fn told_of_body(body: &str) -> Told {
    told_of_answer(response(200, &[("content-type", "application/json")], body)).await
}

async fn told_of_answer(answer: impl Into<Vec<u8>>) -> Told {
    let upstream = Upstream::saying(answer).await;
    told_before(&upstream).await
}

async fn told_before(upstream: &Upstream) -> Told {
    let gateway = Gateway::before(upstream.url()).await;
    let create = gateway.create(create_request()).await.unwrap_err();
    let update = gateway.update(update_request()).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(told(&create), told(&update));
    told(&create)
}

fn unreadable(write: &str) -> Told {
    Told {
        code: Code::Internal,
        reason: "UPSTREAM_REPLY_UNREADABLE".to_owned(),
        write: write.to_owned(),
        http_status: Some("200".to_owned()),
    }
}

#[tokio::test]
async fn bodies_that_are_no_envelope() {
    let deep = "[".repeat(200_000);
    for body in [
        "",
        "null",
        "true",
        "12",
        "\"success\"",
        "[]",
        "<html><body>OK</body></html>",
        "{\"success\": tr",
        "{\"data\": {\"id\": 1",
        "\u{feff}{}",
        &deep,
    ] {
        assert_eq!(
            told_of_body(body).await,
            unreadable("unknown"),
            "{body:.40}"
        );
    }
}

#[tokio::test]
async fn envelopes_that_say_success_and_break_off() {
    let deep = format!(
        r#"{{"success":true,"data":{{"site_user":{{"a":{}"#,
        "[".repeat(200_000)
    );
    let deep_unknown = format!(r#"{{"success":true,"more":{}"#, "[".repeat(200_000));
    for body in [
        r#"{"success":true}"#,
        r#"{"success":true,"data":null}"#,
        r#"{"success":true,"data":{"id":97"#,
        r#"{"success":true,"data":{}} trailing"#,
        r#"{"success":true,"data":{"created":9223372036854775807}}"#,
        r#"{"success":true,"data":{"id":NaN}}"#,
        r#"{"success":true,"data":{"site_user":{"a":-Infinity}}}"#,
        r#"{"success":true,"data":{"site_user":{"a":1e400}}}"#,
        r#"{"success":true,"data":{"id":1,"id":2}}"#,
        r#"{"success":true,"data":{"site_hash":"\ud800"}}"#,
        r#"{"success":true,"data":[]}"#,
        r#"{"success":true,"data":"event"}"#,
        r#"{"success":true,"data":{}}{"success":true,"data":{}}"#,
        &deep,
        &deep_unknown,
    ] {
        assert_eq!(
            told_of_body(body).await,
            unreadable("applied"),
            "{body:.40}"
        );
    }
}

#[tokio::test]
async fn wrong_types_in_every_field() {
    let wrong =
        |field: &str, value: &str| format!(r#"{{"success":true,"data":{{"{field}":{value}}}}}"#);
    for field in ["id", "event_date", "updated", "created"] {
        for value in [
            "\"1\"",
            "true",
            "1.5",
            "[]",
            "{}",
            "1e400",
            "99999999999999999999",
        ] {
            let told = told_of_body(&wrong(field, value)).await;
            assert_eq!(told, unreadable("applied"), "{field} {value}");
        }
    }
    for field in [
        "event_provider",
        "site_hash",
        "session_id",
        "event_value",
        "event_type",
    ] {
        for value in ["1", "true", "[]", "{}"] {
            let told = told_of_body(&wrong(field, value)).await;
            assert_eq!(told, unreadable("applied"), "{field} {value}");
        }
    }
    for (field, value) in [
        ("site_user", "[]"),
        ("site_user", "1"),
        ("event_meta", "1"),
        ("event_meta", r#"{"type":1}"#),
        ("event_meta", r#"{"created":"x"}"#),
        ("event_meta", r#"{"data":1}"#),
        ("event_meta", r#"{"data":{"custom_properties":[]}}"#),
        ("event_meta", r#"{"data":{"customer":1}}"#),
        ("event_meta", r#"{"data":{"customer":{"id":1}}}"#),
        ("event_meta", r#"{"data":{"customer":{"email":[]}}}"#),
        (
            "event_meta",
            r#"{"data":{"customer":{"has_payment_method":"yes"}}}"#,
        ),
    ] {
        let told = told_of_body(&wrong(field, value)).await;
        assert_eq!(told, unreadable("applied"), "{field} {value}");
    }
}

#[tokio::test]
async fn a_flag_that_is_not_true_is_a_refusal() {
    for body in [
        "{}",
        r#"{"success":false}"#,
        r#"{"success":null,"data":{}}"#,
        r#"{"success":"true","data":{}}"#,
        r#"{"success":1,"data":{}}"#,
        r#"{"success":false,"data":"no object","error":"No."}"#,
        r#"{"data":{"id":1}}"#,
        r#"{"success":true,"success":false,"data":{}}"#,
    ] {
        let expected = Told {
            code: Code::FailedPrecondition,
            reason: "UPSTREAM_REJECTED".to_owned(),
            write: "rejected".to_owned(),
            http_status: Some("200".to_owned()),
        };
        assert_eq!(told_of_body(body).await, expected, "{body}");
    }
}

#[tokio::test]
async fn nulls_missing_and_unknown_fields_are_fine() {
    for body in [
        r#"{"success":true,"data":{}}"#,
        r#"{"success":true,"data":{"id":null,"site_user":null,"event_date":null,"event_meta":null}}"#,
        r#"{"success":true,"data":{"event_meta":{"data":null,"type":null,"created":null}}}"#,
        r#"{"success":true,"data":{"event_meta":{"data":{"customer":null,"custom_properties":null}}}}"#,
        r#"{"success":true,"data":{"new":[{"a":1}]},"more":1}"#,
    ] {
        let upstream = Upstream::answering(200, body).await;
        let gateway = Gateway::before(upstream.url()).await;
        let created = gateway.create(create_request()).await.unwrap();
        let event = created.into_inner().event.unwrap();
        assert_eq!(
            (event.id, event.event_date, event.site_user),
            (0, None, None),
            "{body}"
        );
        gateway.stop().await;
    }
}

#[tokio::test]
async fn bytes_that_are_not_what_they_are_said_to_be() {
    let not_utf8 = b"{\"success\":true,\"data\":{\"site_hash\":\"\xff\"}}";
    let json = br#"{"success":true,"data":{}}"#;
    for (headers, body, write) in [
        ("", &not_utf8[..], "applied"),
        ("content-encoding: gzip\r\n", json, "unknown"),
    ] {
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\n{headers}content-length: {length}\r\n\r\n");
        let answer = [head.as_bytes(), body].concat();
        assert_eq!(told_of_answer(answer).await, unreadable(write), "{headers}");
    }
}

/// Writes a head that promises `length` bytes (or chunks without end), and then `piece` for as
/// long as the gateway reads.
async fn endless(mut stream: TcpStream, head: &str, piece: &[u8]) {
    let mut written = stream.write_all(head.as_bytes()).await;
    while written.is_ok() {
        written = stream.write_all(piece).await;
    }
}

#[tokio::test]
async fn bodies_of_100_mb_and_without_end() {
    const SIZED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n";
    const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

    let spaces = vec![b' '; 64 << 10];
    let mut chunk = b"10000\r\n".to_vec();
    chunk.extend_from_slice(&spaces);
    chunk.extend_from_slice(b"\r\n");
    for (head, success, piece) in [
        (SIZED, "", spaces.clone()),
        (SIZED, "{\"success\":true,", spaces),
        (CHUNKED, "", chunk.clone()),
        (CHUNKED, "10\r\n{\"success\":true,\r\n", chunk),
    ] {
        let write = if success.is_empty() {
            "unknown"
        } else {
            "applied"
        };
        let head = format!("{head}{success}");
        let upstream = Upstream::with(move |stream| {
            let (head, piece) = (head.clone(), piece.clone());
            async move { endless(stream, &head, &piece).await }
        })
        .await;
        assert_eq!(told_before(&upstream).await, unreadable(write));
    }
}

#[tokio::test]
async fn bodies_that_are_cut_short() {
    for (body, write) in [
        ("{\"succ", "unknown"),
        ("{\"success\":true,\"data\":{", "applied"),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{body}");
        assert_eq!(told_of_answer(answer).await, unreadable(write));
    }
}

#[tokio::test]
async fn a_body_that_stands_still_ends_with_the_deadline() {
    let upstream = Upstream::with(|mut stream| async move {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let mut config = Config::new(upstream.url());
    config.server.default_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(config).await;
    let status = gateway.create(create_request()).await.unwrap_err();
    gateway.stop().await;
    let told = told(&status);
    assert_eq!(
        (told.code, told.write.as_str()),
        (Code::DeadlineExceeded, "unknown")
    );
}

#[tokio::test]
async fn a_gzip_bomb_is_cut_at_the_cap() {
    use std::io::Write as _;

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..100 {
        gzip.write_all(&zeros).unwrap();
    }
    let body = gzip.finish().unwrap();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    assert_eq!(told_of_answer(answer).await, unreadable("unknown"));
}

#[tokio::test]
async fn a_reply_in_gzip_is_read() {
    use std::io::Write as _;

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(include_bytes!("../../fixtures/created.json"))
        .unwrap();
    let body = gzip.finish().unwrap();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    let upstream = Upstream::saying(answer).await;
    let gateway = Gateway::before(upstream.url()).await;
    let created = gateway.create(create_request()).await.unwrap();
    assert_eq!(created.into_inner().event.unwrap().id, 979_924);
    gateway.stop().await;
}

#[tokio::test]
async fn the_head_of_a_reply_has_a_bound() {
    let long = |bytes: usize| {
        let answer = response(200, &[("x-long", &"x".repeat(bytes))], CREATED);
        Upstream::saying(answer)
    };
    let upstream = long(31 << 10).await;
    let gateway = Gateway::before(upstream.url()).await;
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;

    let upstream = long(96 << 10).await;
    let gateway = Gateway::before(upstream.url()).await;
    let status = gateway.create(create_request()).await.unwrap_err();
    gateway.stop().await;
    let told = told(&status);
    assert_eq!(
        (told.reason.as_str(), told.write.as_str()),
        ("UPSTREAM_CONNECTION_LOST", "unknown")
    );
}
