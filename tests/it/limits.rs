//! Calls that are too many, too late, given up, or hit a bug.

use std::time::Duration;

use onboardflow_gateway::{
    config::ServerConfig,
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, DeleteCustomerRequest,
        DeleteCustomerResponse, UpdateCustomerRequest, UpdateCustomerResponse,
        customer_service_server::{self, CustomerService, CustomerServiceServer},
    },
    server::Services,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
    time::{Instant, timeout},
};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use crate::support::{
    CREATED, Config, Gateway, Told, Upstream, create_request, response, told, update_request,
};

/// An upstream that says when a request has come, answers when it is told to, and says when the
/// connection is closed instead.
fn held() -> (Control, impl Future<Output = Upstream>) {
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let (closed, closings) = mpsc::unbounded_channel();
    let (answer, answers) = tokio::sync::watch::channel(false);
    let upstream = Upstream::with(move |mut stream| {
        let (arrived, closed, mut answers) = (arrived.clone(), closed.clone(), answers.clone());
        async move {
            arrived.send(()).unwrap();
            let mut byte = [0];
            tokio::select! {
                () = async { drop(answers.wait_for(|answer| *answer).await) } => {
                    let _ = stream.write_all(&response(200, &[], CREATED)).await;
                }
                read = stream.read(&mut byte) => {
                    let _ = closed.send(read.unwrap_or(0));
                }
            }
        }
    });
    let control = Control {
        arrivals,
        closings,
        answer,
    };
    (control, upstream)
}

struct Control {
    arrivals: mpsc::UnboundedReceiver<()>,
    closings: mpsc::UnboundedReceiver<usize>,
    answer: tokio::sync::watch::Sender<bool>,
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_at_once() {
    let (mut control, upstream) = held();
    let mut config = Config::new(upstream.await.url());
    config.server.max_in_flight = 2;
    config.server.workers = 2;
    let gateway = Gateway::start(config).await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        // On a connection, and so a worker, each.
        let mut client = gateway.client().await;
        calls.push(tokio::spawn(async move {
            client.create_customer(create_request()).await
        }));
        control.arrivals.recv().await.unwrap();
    }
    let mut client = gateway.client().await;
    let begun = Instant::now();
    let status = client.create_customer(create_request()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1));
    let expected = Told {
        code: Code::Unavailable,
        reason: "GATEWAY_OVERLOADED".to_owned(),
        write: "not_sent".to_owned(),
        http_status: None,
    };
    assert_eq!(told(&status), expected);
    assert!(status.get_error_details().retry_info().is_some());
    let refusals = "onboardflow_gateway_refusals_total{reason=\"GATEWAY_OVERLOADED\"}";
    assert_eq!(gateway.metric(refusals), 1);

    control.answer.send(true).unwrap();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    for _ in 0..3 {
        client.create_customer(create_request()).await.unwrap();
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_caller_that_goes_away_cancels_its_rest_call() {
    let (mut control, upstream) = held();
    let mut config = Config::new(upstream.await.url());
    config.server.max_in_flight = 1;
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let mut second = client.clone();
    let call = tokio::spawn(async move { client.create_customer(create_request()).await });
    control.arrivals.recv().await.unwrap();
    call.abort();
    let closed = timeout(Duration::from_secs(5), control.closings.recv()).await;
    assert_eq!(closed.unwrap(), Some(0));

    // The connection is as good as before, and its place is free.
    control.answer.send(true).unwrap();
    second.create_customer(create_request()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn the_default_deadline_ends_a_call() {
    let (mut control, upstream) = held();
    let mut config = Config::new(upstream.await.url());
    config.server.default_timeout = Duration::from_millis(200);
    let gateway = Gateway::start(config).await;
    let mut client = gateway.client().await;
    let status = client.create_customer(create_request()).await.unwrap_err();
    let told = told(&status);
    assert_eq!(
        (told.code, told.write.as_str()),
        (Code::DeadlineExceeded, "unknown")
    );
    let closed = timeout(Duration::from_secs(5), control.closings.recv()).await;
    assert_eq!(closed.unwrap(), Some(0));
    gateway.stop().await;
}

#[tokio::test]
async fn the_cap_holds_for_callers_that_ask_for_more() {
    let (_control, upstream) = held();
    let mut config = Config::new(upstream.await.url());
    config.server.default_timeout = Duration::from_millis(100);
    config.server.max_timeout = Duration::from_millis(300);
    let gateway = Gateway::start(config).await;
    let mut request = Request::new(create_request());
    request.set_timeout(Duration::from_secs(60));
    let begun = Instant::now();
    let status = gateway.client().await.create_customer(request).await;
    assert_eq!(told(&status.unwrap_err()).code, Code::DeadlineExceeded);
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(begun.elapsed() < Duration::from_secs(5));
    gateway.stop().await;
}

/// A service with a bug.
struct Buggy;

#[tonic::async_trait]
impl CustomerService for Buggy {
    async fn create_customer(
        &self,
        _: Request<CreateCustomerRequest>,
    ) -> Result<Response<CreateCustomerResponse>, Status> {
        panic!("{} is nobody's business", crate::support::EMAIL);
    }

    async fn update_customer(
        &self,
        _: Request<UpdateCustomerRequest>,
    ) -> Result<Response<UpdateCustomerResponse>, Status> {
        Ok(Response::new(UpdateCustomerResponse::default()))
    }

    async fn delete_customer(
        &self,
        _: Request<DeleteCustomerRequest>,
    ) -> Result<Response<DeleteCustomerResponse>, Status> {
        Ok(Response::new(DeleteCustomerResponse::default()))
    }
}

#[tokio::test]
async fn a_panic_is_one_calls_failure() {
    let config = ServerConfig {
        workers: 1,
        max_in_flight: 1,
        drain_delay: Duration::ZERO,
        ..ServerConfig::default()
    };
    let buggy = || {
        let service = CustomerServiceServer::new(Buggy);
        Services::default().with(customer_service_server::SERVICE_NAME, service)
    };
    let gateway = Gateway::with(buggy, config).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        let status = client.create_customer(create_request()).await.unwrap_err();
        let expected = Told {
            code: Code::Internal,
            reason: "GATEWAY_FAILED".to_owned(),
            write: "not_sent".to_owned(),
            http_status: None,
        };
        assert_eq!(told(&status), expected);
        client.update_customer(update_request()).await.unwrap();
    }
    gateway.stop().await;
}
