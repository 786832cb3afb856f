//! What stands beside the service on its port: health and reflection.

use onboardflow_gateway::proto::customer_service_server::SERVICE_NAME;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    Gateway, eventually, nobody,
    peer::{DATA, END_HEADERS, HEADERS, Peer, frame, headers},
    told,
};

/// What error details are made of, and what callers look for.
const SYMBOLS: [&str; 5] = [
    SERVICE_NAME,
    "google.rpc.ErrorInfo",
    "google.rpc.BadRequest",
    "google.rpc.RetryInfo",
    "google.rpc.QuotaFailure",
];

#[tokio::test]
async fn health_is_told_for_the_server_and_for_the_service() {
    let gateway = Gateway::before(nobody().await).await;
    let mut health = HealthClient::new(gateway.channel().await);
    let asked = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    for service in ["", SERVICE_NAME] {
        let checked = health.check(asked(service)).await.unwrap().into_inner();
        assert_eq!(checked.status(), ServingStatus::Serving);
        let mut watched = health.watch(asked(service)).await.unwrap().into_inner();
        let first = watched.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
    }
    let unknown = health.check(asked("other")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    gateway.stop().await;
}

/// The same for both versions, whose types differ in nothing but their module.
macro_rules! reflection_describes_errors {
    ($name:ident, $version:ident) => {
        #[tokio::test]
        async fn $name() {
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest,
                server_reflection_response::MessageResponse,
            };

            let gateway = Gateway::before(nobody().await).await;
            let mut reflection = ServerReflectionClient::new(gateway.channel().await);
            let asked = SYMBOLS.map(|symbol| ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::FileContainingSymbol(symbol.to_owned())),
            });
            let asked = futures_util::stream::iter(asked);
            let mut answers = reflection
                .server_reflection_info(asked)
                .await
                .unwrap()
                .into_inner();
            for symbol in SYMBOLS {
                let answer = answers.message().await.unwrap().unwrap().message_response;
                let is_file = matches!(answer, Some(MessageResponse::FileDescriptorResponse(_)));
                assert!(is_file, "{symbol}: {answer:?}");
            }
            drop(answers);
            gateway.stop().await;
        }
    };
}

reflection_describes_errors!(reflection_v1_describes_errors_too, v1);
reflection_describes_errors!(reflection_v1alpha_describes_errors_too, v1alpha);

#[tokio::test]
async fn what_only_begins_like_health_is_a_method_that_is_none() {
    let gateway = Gateway::before(nobody().await).await;
    let mut grpc = tonic::client::Grpc::new(gateway.channel().await);
    for path in ["/grpc.other.v1.Other/Ask", "/grpc.health.v1.Healthy/Check"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckRequest>::default();
        let asked = tonic::Request::new(HealthCheckRequest::default());
        let status = grpc.unary(asked, path.parse().unwrap(), codec).await;
        assert_eq!(told(&status.unwrap_err()).reason, "UNIMPLEMENTED", "{path}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn health_takes_4_kib() {
    let gateway = Gateway::before(nobody().await).await;
    let mut health = HealthClient::new(gateway.channel().await);
    for (bytes, code) in [(4093, Code::NotFound), (4094, Code::OutOfRange)] {
        let service = "x".repeat(bytes);
        let status = health.check(HealthCheckRequest { service }).await;
        assert_eq!(status.unwrap_err().code(), code, "{bytes}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn calls_of_health_that_are_open_have_a_limit() {
    let gateway = Gateway::before(nobody().await).await;
    let mut health = HealthClient::new(gateway.channel().await);
    let mut open = Vec::new();
    for _ in 0..32 {
        let watch = health.watch(HealthCheckRequest::default()).await.unwrap();
        open.push(watch);
    }
    assert_eq!(gateway.metric("onboardflow_gateway_health_calls"), 32);
    let status = health.check(HealthCheckRequest::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::Unavailable);
    let refused = "onboardflow_gateway_health_calls_refused_total";
    assert_eq!(gateway.metric(refused), 1);
    let mut other = HealthClient::new(gateway.channel().await);
    other.check(HealthCheckRequest::default()).await.unwrap();
    drop(open);
    let are_gone = || (gateway.metric("onboardflow_gateway_health_calls") == 0).then_some(());
    eventually("their end", are_gone).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_first_message_that_is_not_whole_ends_its_call() {
    let gateway = Gateway::before(nobody().await).await;
    let mut peer = Peer::greeting(gateway.address, &[]).await;
    let paths = [
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ];
    for (path, stream) in paths.iter().zip([1, 3, 5]) {
        peer.send(&frame(HEADERS, END_HEADERS, stream, &headers(path)))
            .await;
        peer.send(&frame(DATA, 0, stream, &[0, 0, 0, 0, 9, 10]))
            .await;
    }
    let is = |count| {
        move |gateway: &Gateway| gateway.metric("onboardflow_gateway_health_calls") == count
    };
    eventually("all three", || is(3)(&gateway).then_some(())).await;
    eventually("their end", || is(0)(&gateway).then_some(())).await;
    // Theirs, not that of their connection, whose pings this peer leaves unanswered.
    let failed = "onboardflow_gateway_connections_closed_total{reason=\"failed\"}";
    assert_eq!(gateway.metric(failed), 0);
    gateway.stop().await;
}
