//! What stands beside the service on its port: health and reflection.

use onboardflow_gateway::proto::customer_service_server::SERVICE_NAME;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{Gateway, nobody};

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
