//! `EventService`: the worked example, and each rule.

use onboardflow_gateway::proto::onboardflow::event::v1::{
    EventType, EventUser, RecordEventRequest, RecordedEvent,
    event_service_client::EventServiceClient,
};
use prost_types::{Struct, Timestamp, Value, value::Kind};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::{Gateway, Told, Upstream, told};

/// The reply of the worked example.
const RECORDED: &str = include_str!("../../fixtures/event_recorded.json");

/// The request body of the worked example, to the byte.
const BODY: &str = r#"{"s":"f37F2PPh","site_user":{"id":"user_123XYZ","customer_id":"cus_123XYZ","custom_properties":{"projects_created":7}},"event":"PAGE_VIEW","value":"/manage/settings/","meta":{"title":"App Settings Page"}}"#;

fn object(name: &str, value: impl Into<Value>) -> Struct {
    Struct {
        fields: [(name.to_owned(), value.into())].into(),
    }
}

fn user() -> EventUser {
    EventUser {
        id: "user_123XYZ".to_owned(),
        customer_id: "cus_123XYZ".to_owned(),
        custom_properties: Some(object("projects_created", 7.0)),
    }
}

fn request() -> RecordEventRequest {
    RecordEventRequest {
        site_key: "f37F2PPh".to_owned(),
        r#type: EventType::PageView.into(),
        value: "/manage/settings/".to_owned(),
        user: Some(user()),
        meta: Some(object("title", "App Settings Page")),
        event_date: None,
        session_id: String::new(),
        request_id: String::new(),
    }
}

/// What a call is told where the upstream says this, and the bodies that it sent.
async fn recorded(
    request: RecordEventRequest,
    status: u16,
    reply: &str,
) -> (Result<RecordedEvent, Status>, Vec<String>) {
    let upstream = Upstream::answering(status, reply).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut client = EventServiceClient::new(gateway.channel().await);
    let answered = client.record_event(request).await;
    gateway.stop().await;
    let sent = upstream.received().into_iter().map(|sent| {
        let line = "POST /api/v1/tracker/event/ HTTP/1.1\r\n";
        assert!(sent.head.starts_with(line), "{}", sent.head);
        String::from_utf8(sent.body).unwrap()
    });
    let event = answered.map(|response| *response.into_inner().event.unwrap());
    (event, sent.collect())
}

#[tokio::test]
async fn a_record_is_a_post_of_the_worked_example() {
    let (answered, sent) = recorded(request(), 200, RECORDED).await;
    let at = Some(Timestamp {
        seconds: 1_585_920_768,
        nanos: 0,
    });
    let mut site_user = object("id", "user_123XYZ");
    site_user
        .fields
        .insert("customer_id".to_owned(), "cus_123XYZ".into());
    let properties = Kind::StructValue(object("projects_created", 7.0));
    let properties = Value::from(properties);
    site_user
        .fields
        .insert("custom_properties".to_owned(), properties);
    let expected = RecordedEvent {
        id: 979_927,
        event_provider: "JSTRACKER".to_owned(),
        site_user: Some(site_user),
        site_hash: "f37F2PPh".to_owned(),
        event_date: at,
        event_value: "/manage/settings/".to_owned(),
        event_type: "PAGE_VIEW".to_owned(),
        event_meta: Some(object("title", "App Settings Page")),
        updated: at,
        created: at,
    };
    assert_eq!(answered.unwrap(), expected);
    assert_eq!(sent, [BODY]);
}

#[tokio::test]
async fn what_is_optional_is_sent_where_it_is_set() {
    let request = RecordEventRequest {
        r#type: EventType::Custom.into(),
        user: Some(EventUser {
            custom_properties: None,
            ..user()
        }),
        meta: None,
        event_date: Some(Timestamp {
            seconds: -2,
            nanos: 999_999_999,
        }),
        session_id: "session-1".to_owned(),
        ..request()
    };
    let (answered, sent) = recorded(request, 200, RECORDED).await;
    answered.unwrap();
    assert_eq!(
        sent,
        [
            r#"{"s":"f37F2PPh","site_user":{"id":"user_123XYZ","customer_id":"cus_123XYZ"},"event":"CUSTOM","value":"/manage/settings/","event_date":-2,"session_id":"session-1"}"#
        ]
    );
}

/// The fields at fault of a request of which nothing may be sent.
async fn faults(request: RecordEventRequest) -> Vec<String> {
    let (answered, sent) = recorded(request, 200, RECORDED).await;
    assert!(sent.is_empty(), "nothing may be sent");
    let status = answered.unwrap_err();
    let expected = Told {
        code: Code::InvalidArgument,
        reason: "INVALID_REQUEST".to_owned(),
        write: "not_sent".to_owned(),
        http_status: None,
    };
    assert_eq!(told(&status), expected);
    fields(&status)
}

fn fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations.iter().map(|each| each.field.clone()).collect()
}

#[tokio::test]
async fn an_empty_request_lacks_all_that_is_required() {
    assert_eq!(
        faults(RecordEventRequest::default()).await,
        ["site_key", "type", "value", "user"]
    );
    let request = RecordEventRequest {
        user: Some(EventUser::default()),
        ..request()
    };
    assert_eq!(faults(request).await, ["user.id", "user.customer_id"]);
}

#[tokio::test]
async fn everything_at_once() {
    let request = RecordEventRequest {
        r#type: 9,
        value: " ".to_owned(),
        user: Some(EventUser {
            custom_properties: Some(object("score", f64::NAN)),
            ..user()
        }),
        meta: Some(object("depth", f64::INFINITY)),
        event_date: Some(Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        request_id: "order 17".to_owned(),
        ..request()
    };
    assert_eq!(
        faults(request).await,
        [
            "type",
            "value",
            "user.custom_properties.score",
            "meta.depth",
            "event_date",
            "request_id"
        ]
    );
}

#[tokio::test]
async fn a_refusal_names_the_protos_fields() {
    let body = r#"{"s":["Unknown."],"event":["No."],"site_user":{"customer_id":["Who?"]}}"#;
    let (answered, _) = recorded(request(), 400, body).await;
    let status = answered.unwrap_err();
    assert_eq!(told(&status).reason, "UPSTREAM_REJECTED");
    let mut named = fields(&status);
    named.sort();
    assert_eq!(named, ["site_key", "type", "user.customer_id"]);
}

#[tokio::test]
async fn a_record_of_unknown_fate_is_not_repeated_and_says_what_may_have_happened() {
    let (answered, sent) = recorded(request(), 502, "").await;
    assert_eq!(sent.len(), 1);
    let status = answered.unwrap_err();
    let told = told(&status);
    assert_eq!((told.code, told.write.as_str()), (Code::Unknown, "unknown"));
    let message = status.message();
    assert!(
        message.contains("event may have been recorded"),
        "{message}"
    );
}
