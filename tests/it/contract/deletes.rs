//! `DeleteCustomer`: what goes out, and all that counts as a success.

use onboardflow_gateway::proto::{DeleteCustomerRequest, DeleteCustomerResponse};
use tokio::io::AsyncWriteExt as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{CREATED, Gateway, Told, Upstream, response, told};

fn delete_request() -> DeleteCustomerRequest {
    DeleteCustomerRequest {
        site_key: "f37F2PPh".to_owned(),
        customer_id: "cus_123XYZ".to_owned(),
        user_id: "user_123XYZ".to_owned(),
        request_id: String::new(),
    }
}

/// What a delete is told where the upstream says this.
async fn told_of(status: u16, body: &str) -> Result<DeleteCustomerResponse, Status> {
    let upstream = Upstream::answering(status, body).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    let deleted = client.delete_customer(delete_request()).await;
    gateway.stop().await;
    deleted.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_delete_is_a_delete_with_a_body() {
    let upstream = Upstream::answering(204, "").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    client.delete_customer(delete_request()).await.unwrap();
    gateway.stop().await;

    let received = upstream.received();
    let [sent] = received.as_slice() else {
        panic!("one request, not {received:?}");
    };
    let line = sent.head.lines().next();
    assert_eq!(line, Some("DELETE /api/v1/customer/ HTTP/1.1"));
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(
        std::str::from_utf8(&sent.body).unwrap(),
        r#"{"site_key":"f37F2PPh","user_id":"user_123XYZ","customer_id":"cus_123XYZ"}"#
    );
}

#[tokio::test]
async fn a_success_needs_no_event() {
    for (status, body) in [
        (204, ""),
        (200, ""),
        (202, ""),
        (200, r#"{"success":true}"#),
        (200, r#"{"success":true,"data":null}"#),
    ] {
        let deleted = told_of(status, body).await.unwrap();
        assert_eq!(deleted.event, None, "{status} {body}");
    }
}

#[tokio::test]
async fn an_event_comes_back_where_there_is_one() {
    let event = told_of(200, CREATED).await.unwrap().event.unwrap();
    assert_eq!(event.id, 979_924);
}

#[tokio::test]
async fn what_is_no_success_is_told() {
    #[rustfmt::skip]
    let rows = [
        (200, r#"{"success":false}"#, Code::FailedPrecondition, "UPSTREAM_REJECTED", "rejected"),
        (200, "gone", Code::Internal, "UPSTREAM_REPLY_UNREADABLE", "unknown"),
        (200, r#"{"success":true,"#, Code::Internal, "UPSTREAM_REPLY_UNREADABLE", "applied"),
        (404, r#"{"detail":"Not found."}"#, Code::NotFound, "UPSTREAM_NOT_FOUND", "rejected"),
        (409, "", Code::Aborted, "UPSTREAM_CONFLICT", "rejected"),
        (500, "", Code::Unknown, "UPSTREAM_FAILED", "unknown"),
    ];
    for (status, body, code, reason, write) in rows {
        let failed = told_of(status, body).await.unwrap_err();
        let expected = Told {
            code,
            reason: reason.to_owned(),
            write: write.to_owned(),
            http_status: Some(status.to_string()),
        };
        assert_eq!(told(&failed), expected, "{status} {body}");
    }
}

#[tokio::test]
async fn a_record_that_is_gone_may_have_been_deleted_already() {
    let failed = told_of(404, "").await.unwrap_err();
    let message = failed.message();
    assert!(
        message.contains("unless the record was deleted before"),
        "{message}"
    );
}

#[tokio::test]
async fn a_lost_delete_is_sent_again() {
    let first = std::sync::atomic::AtomicBool::new(true);
    let upstream = Upstream::with(move |mut stream| {
        let lost = first.swap(false, std::sync::atomic::Ordering::Relaxed);
        async move {
            if !lost {
                let _ = stream.write_all(&response(204, &[], "")).await;
            }
        }
    })
    .await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    client.delete_customer(delete_request()).await.unwrap();
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 2);
}

#[tokio::test]
async fn a_refusal_names_the_protos_fields() {
    let body =
        r#"{"customer_id":["Unknown."],"user_id":["Unknown too."],"site_key":["And so is this."]}"#;
    let failed = told_of(400, body).await.unwrap_err();
    assert_eq!(fields(&failed), ["customer_id", "site_key", "user_id"]);
}

#[tokio::test]
async fn an_empty_delete_lacks_all_that_is_required() {
    let upstream = Upstream::answering(204, "").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = gateway.client().await;
    let request = DeleteCustomerRequest {
        user_id: " ".to_owned(),
        ..DeleteCustomerRequest::default()
    };
    let failed = client.delete_customer(request).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(fields(&failed), ["site_key", "customer_id", "user_id"]);
    assert_eq!(told(&failed).write, "not_sent");
    assert_eq!(upstream.received().len(), 0);
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|each| each.field.clone()).collect()
}
