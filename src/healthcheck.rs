//! Asks a running gateway for its health, as an exec probe does. Knows no configuration but an
//! address.

use std::{error::Error as StdError, time::Duration};

use http::{Uri, uri::Authority};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tonic::{Status, body::Body};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::error::Source;

/// Longest wait for an answer. A probe that waits longer hides what it should show.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Fails unless the gateway at `address` says in time that it is SERVING.
pub async fn check(address: Authority) -> Result<(), Source> {
    let asked = tokio::time::timeout(TIMEOUT, ask(&address)).await;
    asked
        .unwrap_or_else(|_| Err("no answer in time".into()))
        .map_err(|why| format!("{address} is not SERVING: {why}").into())
}

async fn ask(address: &Authority) -> Result<(), Source> {
    let http = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let origin = Uri::try_from(format!("http://{address}"))?;
    let answer = HealthClient::with_origin(http, origin)
        .check(HealthCheckRequest::default())
        .await
        .map_err(|status| root_cause(&status))?;
    match answer.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        status => Err(status.as_str_name().into()),
    }
}

/// Why there was no answer: what stands at the end of the chain of sources, such as "Connection
/// refused", or else the status itself.
fn root_cause(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(StdError::source) {
        cause = Some(deeper);
    }
    match cause {
        None => format!("{:?}: {}", status.code(), status.message()),
        Some(cause) if cause.is::<h2::Error>() => {
            format!("no HTTP/2 in plaintext ({cause}); with TLS, ask the admin port")
        }
        Some(cause) => cause.to_string(),
    }
}
