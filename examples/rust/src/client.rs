//! The client: how to connect, and how to make each call so that it neither hangs nor records a customer twice.

use std::{error::Error, fs, path::Path, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{
    Code, Request, Response, Status,
    codec::CompressionEncoding,
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    failure::Failure,
    proto::{
        CreateCustomerRequest, CustomerEvent, DeleteCustomerRequest, UpdateCustomerRequest,
        customer_service_client::CustomerServiceClient,
    },
};

/// Bounds a call's tries, the first one included.
const MAX_ATTEMPTS: u32 = 3;

/// Where the gateway is, and how to speak to it. No CA means plaintext.
pub struct Connection<'a> {
    pub target: &'a str,
    pub ca: Option<&'a Path>,
    pub cert_and_key: Option<(&'a Path, &'a Path)>,
    pub gzip: bool,
}

/// Creates, updates and deletes customers.
pub struct Client {
    stub: CustomerServiceClient<Channel>,
    timeout: Duration,
}

impl Client {
    /// One client serves the whole program, and reconnects by itself; `timeout` is for a call as a whole.
    ///
    /// tonic reads no gRPC service config: it connects to one address (`Channel::balance_list` takes several), and what
    /// ../service-config.json says about retries is the loop below.
    pub fn new(connection: &Connection, timeout: Duration) -> Result<Self, Box<dyn Error>> {
        let mut stub = CustomerServiceClient::new(endpoint(connection)?.connect_lazy())
            .accept_compressed(CompressionEncoding::Gzip);
        if connection.gzip {
            stub = stub.send_compressed(CompressionEncoding::Gzip);
        }
        Ok(Self { stub, timeout })
    }

    /// Records a new customer. A create isn't idempotent: it is repeated only where the gateway says that nothing was
    /// written.
    pub async fn create(
        &self,
        request: CreateCustomerRequest,
        request_id: &str,
    ) -> Result<CustomerEvent, Status> {
        let call = async |request| self.stub.clone().create_customer(request).await;
        let response = self
            .repeat(request, request_id, call, Failure::nothing_written)
            .await?;
        Ok(response.event.unwrap_or_default())
    }

    /// Records a changed customer. The same update twice does no harm, so it is repeated whatever became of the first.
    pub async fn update(
        &self,
        request: UpdateCustomerRequest,
        request_id: &str,
    ) -> Result<CustomerEvent, Status> {
        let call = async |request| self.stub.clone().update_customer(request).await;
        let response = self
            .repeat(request, request_id, call, Failure::unavailable)
            .await?;
        Ok(response.event.unwrap_or_default())
    }

    /// Removes a customer. One that is gone stays gone, so it is repeated whatever became of the first try. The event is
    /// empty where OnboardFlow's reply has none.
    pub async fn delete(
        &self,
        request: DeleteCustomerRequest,
        request_id: &str,
    ) -> Result<CustomerEvent, Status> {
        let call = async |request| self.stub.clone().delete_customer(request).await;
        let response = self
            .repeat(request, request_id, call, Failure::unavailable)
            .await?;
        Ok(response.event.unwrap_or_default())
    }

    /// Calls until it goes well, the failure may not be repeated, or the next try wouldn't fit in the deadline.
    async fn repeat<Q: Clone, R>(
        &self,
        request: Q,
        request_id: &str,
        call: impl AsyncFn(Request<Q>) -> Result<Response<R>, Status>,
        may_repeat: fn(&Failure) -> bool,
    ) -> Result<R, Status> {
        let deadline = Instant::now() + self.timeout;
        let mut attempt = 1;
        loop {
            let message = with_metadata(request.clone(), request_id, deadline)?;
            let status = match timeout_at(deadline, call(message)).await {
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
            if attempt == MAX_ATTEMPTS || !may_repeat(&failure) || Instant::now() + wait >= deadline
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

/// The gateway learns the deadline too, and keeps it for its own call to OnboardFlow. The request id is what it logs the
/// call under.
fn with_metadata<Q>(message: Q, request_id: &str, deadline: Instant) -> Result<Request<Q>, Status> {
    let id = AsciiMetadataValue::try_from(request_id)
        .map_err(|_| Status::invalid_argument("request id isn't ASCII"))?;
    let mut request = Request::new(message);
    request.set_timeout(deadline - Instant::now());
    request.metadata_mut().insert("x-request-id", id);
    Ok(request)
}

fn endpoint(connection: &Connection) -> Result<Endpoint, Box<dyn Error>> {
    let Some(ca) = connection.ca else {
        return Ok(Endpoint::from_shared(format!(
            "http://{}",
            connection.target
        ))?);
    };
    let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(ca)?));
    if let Some((cert, key)) = connection.cert_and_key {
        tls = tls.identity(Identity::from_pem(fs::read(cert)?, fs::read(key)?));
    }
    Ok(Endpoint::from_shared(format!("https://{}", connection.target))?.tls_config(tls)?)
}
