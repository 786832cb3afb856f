//! Asks a running gateway for its health, as an exec probe does.

use std::{net::SocketAddr, time::Duration};

use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tonic::body::Body;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::error::Source;

/// Longest wait for an answer. A probe that waits longer hides what it should show.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Fails unless the gateway at `address` says in time that it is SERVING.
pub async fn check(address: SocketAddr) -> Result<(), Source> {
    tokio::time::timeout(TIMEOUT, ask(address))
        .await
        .map_err(|_| "no answer in time")?
}

async fn ask(address: SocketAddr) -> Result<(), Source> {
    let http = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let origin = http::Uri::try_from(format!("http://{address}"))?;
    let answer = HealthClient::with_origin(http, origin)
        .check(HealthCheckRequest::default())
        .await?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        status => Err(status.as_str_name().into()),
    }
}
