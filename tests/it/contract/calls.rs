//! What goes out and what comes back when all is well.

use onboardflow_gateway::{
    config::{AuthScheme, Credentials},
    proto::{CreateCustomerRequest, Customer, CustomerEvent, EventData, EventMeta},
};
use prost_types::{ListValue, Struct, Timestamp, Value, value::Kind};
use secrecy::SecretString;
use tonic::Request;

use crate::support::{
    CREATED, Config, Gateway, KEY, Received, Upstream, create_request, customer, told,
    update_request,
};

/// The reply of the specification's worked example to an update.
const UPDATED: &str = include_str!("../../fixtures/updated.json");

/// The request body of the worked example, to the byte.
const BODY: &str = r#"{"site_key":"f37F2PPh","event_date":1583020800,"user_id":"user_123XYZ","customer_id":"cus_123XYZ","customer_first_name":"Joe","customer_has_payment_method":true,"customer_email":"test@onboardflow.com"}"#;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanos: 0 }
}

/// The event of the worked example.
fn event(kind: &str) -> CustomerEvent {
    CustomerEvent {
        id: 979_924,
        event_provider: "API".to_owned(),
        site_user: Some(Struct::default()),
        site_hash: "f37F2PPh".to_owned(),
        session_id: "f37F2PPh-1585922303".to_owned(),
        event_date: Some(at(1_583_020_800)),
        event_value: "1923c497cf0fc93ff63414795ec58c59d4ccab38".to_owned(),
        event_type: "PROVIDER_EVENT".to_owned(),
        event_meta: Some(EventMeta {
            data: Some(EventData {
                customer: Some(customer()),
                custom_properties: None,
            }),
            r#type: kind.to_owned(),
            created: Some(at(1_583_020_800)),
        }),
        updated: Some(at(1_585_918_703)),
        created: Some(at(1_585_918_703)),
    }
}

fn only(upstream: &Upstream) -> Received {
    let received = upstream.received();
    assert_eq!(received.len(), 1, "{received:?}");
    received.into_iter().next().unwrap()
}

fn assert_sent(sent: &Received, verb: &str) {
    let line = format!("{verb} /api/v1/customer/ HTTP/1.1");
    assert_eq!(sent.head.lines().next(), Some(line.as_str()));
    assert_eq!(
        sent.header("authorization"),
        Some(format!("Token {KEY}").as_str())
    );
    assert_eq!(sent.header("content-type"), Some("application/json"));
    assert_eq!(sent.header("accept"), Some("application/json"));
    assert_eq!(
        sent.header("user-agent"),
        Some(concat!("onboardflow-gateway/", env!("CARGO_PKG_VERSION")))
    );
    assert_eq!(std::str::from_utf8(&sent.body).unwrap(), BODY);
}

#[tokio::test]
async fn a_create_is_a_post_of_the_worked_example() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;

    let response = gateway.create(create_request()).await.unwrap();

    assert_eq!(
        *response.into_inner().event.unwrap(),
        event("CUSTOMER_CREATED")
    );
    assert_sent(&only(&upstream), "POST");
    gateway.stop().await;
}

#[tokio::test]
async fn an_update_is_a_put_of_the_worked_example() {
    let upstream = Upstream::answering(200, UPDATED).await;
    let gateway = Gateway::before(upstream.url()).await;

    let response = gateway.update(update_request()).await.unwrap();

    assert_eq!(
        *response.into_inner().event.unwrap(),
        event("CUSTOMER_UPDATED")
    );
    assert_sent(&only(&upstream), "PUT");
    gateway.stop().await;
}

/// The body that the gateway sends for a request.
async fn sent_for(request: CreateCustomerRequest) -> serde_json::Value {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    gateway.create(request).await.unwrap();
    gateway.stop().await;
    serde_json::from_slice(&only(&upstream).body).unwrap()
}

#[tokio::test]
async fn what_is_set_is_sent_even_if_it_is_empty() {
    let customer = Customer {
        first_name: Some(String::new()),
        last_name: Some("Doe".to_owned()),
        image_url: Some(String::new()),
        has_payment_method: Some(false),
        ..customer()
    };
    let body = sent_for(CreateCustomerRequest {
        customer: Some(customer),
        ..create_request()
    })
    .await;

    assert_eq!(body["customer_first_name"], "");
    assert_eq!(body["customer_last_name"], "Doe");
    assert_eq!(body["customer_image_url"], "");
    assert_eq!(body["customer_has_payment_method"], false);
    assert_eq!(body.as_object().unwrap().len(), 9);
}

#[tokio::test]
async fn custom_properties_keep_their_types() {
    let values = [
        1.0.into(),
        0.5.into(),
        Kind::NullValue(0).into(),
        true.into(),
        "x".into(),
    ];
    let nested = Struct {
        fields: [("qty".to_owned(), Value::from(2.0))].into(),
    };
    let custom_properties = Struct {
        fields: [
            (
                "list".to_owned(),
                Kind::ListValue(ListValue {
                    values: values.into(),
                })
                .into(),
            ),
            ("nested".to_owned(), Kind::StructValue(nested).into()),
        ]
        .into(),
    };
    let request = CreateCustomerRequest {
        custom_properties: Some(custom_properties),
        ..create_request()
    };
    let body = sent_for(request).await;

    assert_eq!(
        body["custom_properties"].to_string(),
        r#"{"list":[1,0.5,null,true,"x"],"nested":{"qty":2}}"#
    );
}

#[tokio::test]
async fn times_are_whole_seconds_rounded_towards_the_past() {
    for (seconds, nanos, sent) in [
        (1_583_020_800_i64, 999_999_999, 1_583_020_800_i64),
        (0, 0, 0),
        (-1, 500_000_000, -1), // half a second before 1970
        (-62_135_596_800, 0, -62_135_596_800),
        (253_402_300_799, 999_999_999, 253_402_300_799),
    ] {
        let event_date = Some(Timestamp { seconds, nanos });
        let body = sent_for(CreateCustomerRequest {
            event_date,
            ..create_request()
        })
        .await;
        assert_eq!(body["event_date"].to_string(), sent.to_string());
    }
}

#[tokio::test]
async fn the_bearer_scheme_is_supported() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.upstream.credentials = Credentials::Gateway {
        token: SecretString::from(KEY),
        scheme: AuthScheme::Bearer,
    };
    let gateway = Gateway::start(config).await;
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;

    let sent = only(&upstream);
    assert_eq!(
        sent.header("authorization"),
        Some(format!("Bearer {KEY}").as_str())
    );
}

#[tokio::test]
async fn a_caller_s_key_is_passed_on_and_demanded_where_callers_hold_it() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.upstream.credentials = Credentials::Caller;
    let gateway = Gateway::start(config).await;

    let mut request = Request::new(create_request());
    request
        .metadata_mut()
        .insert("authorization", "Token callers-own".parse().unwrap());
    gateway.create(request).await.unwrap();
    let status = gateway.create(create_request()).await.unwrap_err();
    gateway.stop().await;

    assert_eq!(
        only(&upstream).header("authorization"),
        Some("Token callers-own")
    );
    assert_eq!(told(&status).reason, "CALLER_UNAUTHENTICATED");
}

#[tokio::test]
async fn only_the_request_id_of_a_caller_s_metadata_reaches_the_api() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut request = Request::new(create_request());
    for (key, value) in [
        ("authorization", "Bearer for-the-gateway"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-request-id", "caller-chose-this"),
    ] {
        request.metadata_mut().insert(key, value.parse().unwrap());
    }
    let response = gateway.create(request).await.unwrap();
    gateway.stop().await;

    assert_eq!(
        response.metadata().get("x-request-id").unwrap(),
        "caller-chose-this"
    );
    let sent = only(&upstream);
    assert_eq!(sent.header("x-request-id"), Some("caller-chose-this"));
    assert_eq!(
        sent.header("authorization"),
        Some(format!("Token {KEY}").as_str())
    );
    assert_eq!(sent.header("cookie"), None);
    assert_eq!(sent.header("x-forwarded-for"), None);
}

#[tokio::test]
async fn the_path_and_query_of_the_upstream_url_are_kept() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut url = upstream.url();
    url.set_path("/onboardflow/");
    url.set_query(Some("tenant=1"));
    let gateway = Gateway::before(url).await;
    gateway.create(create_request()).await.unwrap();
    gateway.stop().await;

    let sent = only(&upstream);
    let line = "POST /onboardflow/api/v1/customer/?tenant=1 HTTP/1.1";
    assert_eq!(sent.head.lines().next(), Some(line));
}

#[tokio::test]
async fn compressed_calls_are_answered_compressed() {
    use tonic::codec::CompressionEncoding::{Gzip, Zstd};

    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    for encoding in [Gzip, Zstd] {
        let mut client = gateway
            .client()
            .await
            .send_compressed(encoding)
            .accept_compressed(encoding);
        let response = client.create_customer(create_request()).await.unwrap();
        assert_eq!(
            response
                .metadata()
                .get("grpc-encoding")
                .unwrap()
                .to_str()
                .unwrap(),
            encoding.to_string()
        );
        assert_eq!(
            *response.into_inner().event.unwrap(),
            event("CUSTOMER_CREATED")
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_request_id_that_cannot_be_used_is_replaced_and_the_reply_says_so() {
    let upstream = Upstream::answering(200, CREATED).await;
    let gateway = Gateway::before(upstream.url()).await;
    let longest = "x".repeat(128);
    let too_long = "x".repeat(129);
    for (id, is_replaced) in [
        ("order-17", false),
        (longest.as_str(), false),
        (too_long.as_str(), true),
        ("order 17", true),
        ("", true),
    ] {
        let mut request = Request::new(create_request());
        let metadata = request.metadata_mut();
        metadata.insert("x-request-id", id.parse().unwrap());
        let response = gateway.create(request).await.unwrap();
        let metadata = response.metadata();
        let answered = metadata.get("x-request-id").unwrap();
        assert_eq!(answered != id, is_replaced, "{id}");
        let told = metadata.get("x-request-id-replaced");
        assert_eq!(told.is_some(), is_replaced, "{id}");
        if is_replaced {
            let named = format!("request_id=\"{}\"", answered.to_str().unwrap());
            let log = crate::support::logs::so_far();
            let mut lines = log.lines().filter(|line| line.contains(&named));
            let said = lines.any(|line| line.contains("request_id_replaced=true"));
            assert!(said, "{id}");
        }
    }
    gateway.stop().await;
}
