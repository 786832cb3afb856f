//! The client: how to connect, and how to make a call so that it neither hangs nor records anything twice.

use std::{error::Error, fs, path::Path, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    codec::CompressionEncoding::Gzip,
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    failure::Failure,
    proto::{
        customer::customer_service_client::CustomerServiceClient,
        event::event_service_client::EventServiceClient,
        subscription::subscription_service_client::SubscriptionServiceClient,
    },
};

/// Bounds a call's tries, the first one included.
const MAX_ATTEMPTS: u32 = 3;

/// A ping every 30 s, between calls too: a connection that has fallen silent is replaced before the next call needs it.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the gateway is, and how to speak to it. No CA means plaintext.
pub struct Connection<'a> {
    pub target: &'a str,
    pub ca: Option<&'a Path>,
    pub cert_and_key: Option<(&'a Path, &'a Path)>,
    pub gzip: bool,
}

/// Has a stub for each service. They share one channel; clone a stub for each call.
pub struct Client {
    pub customers: CustomerServiceClient<Channel>,
    pub subscriptions: SubscriptionServiceClient<Channel>,
    pub events: EventServiceClient<Channel>,
    timeout: Duration,
}

impl Client {
    /// One client serves the whole program, and reconnects by itself; `timeout` is for a call as a whole.
    ///
    /// tonic reads no gRPC service config: it connects to one address (`Channel::balance_list` takes several), and what
    /// ../service-config.json says about retries is the loop in `call`.
    pub fn new(connection: &Connection, timeout: Duration) -> Result<Self, Box<dyn Error>> {
        let channel = endpoint(connection)?.connect_lazy();
        let mut customers = CustomerServiceClient::new(channel.clone()).accept_compressed(Gzip);
        let mut subscriptions =
            SubscriptionServiceClient::new(channel.clone()).accept_compressed(Gzip);
        let mut events = EventServiceClient::new(channel).accept_compressed(Gzip);
        if connection.gzip {
            customers = customers.send_compressed(Gzip);
            subscriptions = subscriptions.send_compressed(Gzip);
            events = events.send_compressed(Gzip);
        }
        Ok(Self {
            customers,
            subscriptions,
            events,
            timeout,
        })
    }

    /// Calls until it goes well, the failure is not a passing one, or the next try wouldn't fit in the deadline.
    ///
    /// Creates are repeated too. That is safe only because each request has a `request_id` and the gateway keeps a
    /// ledger: a gateway without one refuses the call with `LEDGER_OFF`.
    pub async fn call<Q: Clone, R>(
        &self,
        request: Q,
        call_id: &str,
        rpc: impl AsyncFn(Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, Status> {
        let deadline = Instant::now() + self.timeout;
        let mut attempt = 1;
        loop {
            let message = with_metadata(request.clone(), call_id, deadline)?;
            let status = match timeout_at(deadline, rpc(message)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                // tonic's own timer says CANCELLED, where every other gRPC client says DEADLINE_EXCEEDED.
                Ok(Err(status))
                    if status.code() == Code::Cancelled && Instant::now() >= deadline =>
                {
                    return Err(deadline_exceeded());
                }
                Ok(Err(status)) => status,
                Err(_) => return Err(deadline_exceeded()),
            };
            let failure = Failure::of(&status);
            let wait = failure.wait(attempt);
            if attempt == MAX_ATTEMPTS || !failure.is_passing() || Instant::now() + wait >= deadline
            {
                return Err(status);
            }
            sleep(wait).await;
            attempt += 1;
        }
    }
}

fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the deadline passed before an answer came")
}

/// The gateway learns the deadline too, and keeps it for its own call to OnboardFlow. The call id is what it logs the
/// call under.
fn with_metadata<Q>(message: Q, call_id: &str, deadline: Instant) -> Result<Request<Q>, Status> {
    let id = AsciiMetadataValue::try_from(call_id)
        .map_err(|_| Status::invalid_argument("call id isn't ASCII"))?;
    let mut request = Request::new(message);
    request.set_timeout(deadline - Instant::now());
    request.metadata_mut().insert("x-request-id", id);
    Ok(request)
}

fn endpoint(connection: &Connection) -> Result<Endpoint, Box<dyn Error>> {
    let scheme = if connection.ca.is_some() {
        "https"
    } else {
        "http"
    };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", connection.target))?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let Some(ca) = connection.ca else {
        return Ok(endpoint);
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(ca)?));
    if let Some((cert, key)) = connection.cert_and_key {
        tls = tls.identity(Identity::from_pem(fs::read(cert)?, fs::read(key)?));
    }
    Ok(endpoint.tls_config(tls)?)
}
