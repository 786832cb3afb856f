//! Requests that break a rule: all violations at once, and nothing sent.

use onboardflow_gateway::proto::{CreateCustomerRequest, Customer, UpdateCustomerRequest};
use prost_types::{Struct, Timestamp, Value};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::support::{Gateway, Told, Upstream, create_request, customer, told, update_request};

/// The paths of the fields at fault.
fn fields(status: &Status) -> Vec<String> {
    told(status);
    let details = status.get_error_details();
    let violations = &details.bad_request().unwrap().field_violations;
    violations
        .iter()
        .map(|violation| violation.field.clone())
        .collect()
}

async fn refusal(request: CreateCustomerRequest) -> Status {
    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let status = gateway.create(request).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 0, "nothing may be sent");
    assert_eq!(
        told(&status),
        Told {
            code: Code::InvalidArgument,
            reason: "INVALID_REQUEST".to_owned(),
            write: "not_sent".to_owned(),
            http_status: None,
        }
    );
    status
}

#[tokio::test]
async fn an_empty_create_lacks_all_that_is_required() {
    let status = refusal(CreateCustomerRequest::default()).await;
    assert_eq!(fields(&status), ["site_key", "event_date", "customer"]);
}

#[tokio::test]
async fn an_empty_customer_lacks_all_that_is_required() {
    let customer = Some(Customer::default());
    let status = refusal(CreateCustomerRequest {
        customer,
        ..create_request()
    })
    .await;
    assert_eq!(
        fields(&status),
        [
            "customer.id",
            "customer.user_id",
            "customer.email",
            "customer.has_payment_method"
        ]
    );
}

#[tokio::test]
async fn everything_at_once() {
    let custom_properties = Struct {
        fields: [("score".to_owned(), Value::from(f64::NAN))].into(),
    };
    let status = refusal(CreateCustomerRequest {
        site_key: "  ".to_owned(),
        event_date: Some(Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        customer: Some(Customer {
            image_url: Some("/picture.png".to_owned()),
            has_payment_method: None,
            ..customer()
        }),
        custom_properties: Some(custom_properties),
        request_id: "order-17".to_owned(),
    })
    .await;
    assert_eq!(
        fields(&status),
        [
            "site_key",
            "event_date",
            "customer.image_url",
            "customer.has_payment_method",
            "custom_properties.score",
            "request_id"
        ]
    );
}

#[tokio::test]
async fn times_that_are_none() {
    for (seconds, nanos) in [
        (-62_135_596_801, 0),
        (253_402_300_800, 0),
        (i64::MIN, 0),
        (0, -1),
        (0, 1_000_000_000),
    ] {
        let event_date = Some(Timestamp { seconds, nanos });
        let status = refusal(CreateCustomerRequest {
            event_date,
            ..create_request()
        })
        .await;
        assert_eq!(fields(&status), ["event_date"], "{seconds} {nanos}");
    }
}

#[tokio::test]
async fn picture_addresses_that_are_none() {
    for url in [
        "picture.png",
        "//cdn/picture.png",
        "ftp://cdn/picture.png",
        "data:,x",
        "https://",
        "https:cdn",
        "https:/cdn",
        "https:///cdn",
        "https:\\\\cdn",
        "https://\\cdn",
        " https://cdn",
        "https://cdn ",
        "https://c\ndn",
        "https://cdn/a b.png",
    ] {
        let customer = Some(Customer {
            image_url: Some(url.to_owned()),
            ..customer()
        });
        let status = refusal(CreateCustomerRequest {
            customer,
            ..create_request()
        })
        .await;
        assert_eq!(fields(&status), ["customer.image_url"], "{url}");
    }
}

#[tokio::test]
async fn an_update_is_checked_alike() {
    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let customer = Some(Customer {
        has_payment_method: None,
        ..customer()
    });
    let request = UpdateCustomerRequest {
        customer,
        ..update_request()
    };
    let status = gateway.update(request).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(fields(&status), ["customer.has_payment_method"]);
}

#[tokio::test]
async fn a_message_over_the_limit() {
    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let site_key = "k".repeat(65 << 10);
    let request = CreateCustomerRequest {
        site_key,
        ..create_request()
    };

    let plain = gateway.create(request.clone()).await.unwrap_err();
    // A few hundred bytes on the wire.
    let mut client = gateway
        .client()
        .await
        .send_compressed(tonic::codec::CompressionEncoding::Zstd);
    let compressed = client.create_customer(request).await.unwrap_err();
    gateway.stop().await;

    for status in [plain, compressed] {
        assert_eq!(
            told(&status),
            Told {
                code: Code::ResourceExhausted,
                reason: "REQUEST_TOO_LARGE".to_owned(),
                write: "not_sent".to_owned(),
                http_status: None,
            }
        );
    }
}

#[tokio::test]
async fn a_malformed_timeout() {
    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut request = Request::new(create_request());
    request
        .metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = gateway.create(request).await.unwrap_err();
    gateway.stop().await;
    assert_eq!(told(&status).reason, "INVALID_REQUEST");
    assert_eq!(upstream.received().len(), 0);
}

#[tokio::test]
async fn a_method_that_is_none() {
    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let mut grpc = tonic::client::Grpc::new(gateway.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<CreateCustomerRequest, CreateCustomerRequest>::default();
    let path = "/onboardflow.customer.v1.CustomerService/NoSuchMethod"
        .parse()
        .unwrap();
    let status = grpc
        .unary(Request::new(create_request()), path, codec)
        .await
        .unwrap_err();
    gateway.stop().await;
    assert_eq!(told(&status).code, Code::Unimplemented);
}

#[tokio::test]
async fn a_request_that_is_not_grpc_is_refused_as_http_does() {
    use http_body_util::Empty;
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};

    let upstream = Upstream::answering(200, "{}").await;
    let gateway = Gateway::before(upstream.url()).await;
    let http = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Empty<bytes::Bytes>>();
    let path = "onboardflow.customer.v1.CustomerService/CreateCustomer";
    for (method, path, content_type, status) in [
        ("GET", "", None, 415),
        ("GET", path, None, 415),
        ("POST", path, Some("application/json"), 415),
        ("POST", path, Some("application/grpc-web"), 415),
        ("POST", path, Some("application/grpc+json"), 415),
        ("POST", path, Some("application/grpc+protobuf"), 415),
        ("POST", "grpc.health.v1.Health/Check", None, 415),
        ("GET", path, Some("application/grpc"), 405),
        ("PUT", path, Some("application/grpc"), 405),
        ("OPTIONS", path, Some("application/grpc"), 405),
        (
            "GET",
            "grpc.health.v1.Health/Check",
            Some("application/grpc"),
            405,
        ),
    ] {
        let uri = format!("http://{}/{path}", gateway.address);
        let mut request = http::Request::builder().method(method).uri(uri);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let response = http.request(request.body(Empty::new()).unwrap()).await;
        assert_eq!(response.unwrap().status(), status, "{method} {path}");
    }
    gateway.stop().await;
    assert_eq!(upstream.received().len(), 0);
}
