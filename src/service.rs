//! The services, as tonic serves them: one line an RPC, and one a service in [`Service::services`]. What
//! the RPCs have in common is [`Service::call`].

use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding::{Gzip, Zstd},
    metadata::MetadataValue,
};

use crate::{
    context::Context,
    error::{Error, Loss, Sent},
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, DeleteCustomerRequest,
        DeleteCustomerResponse, UpdateCustomerRequest, UpdateCustomerResponse,
        customer_service_server::{self, CustomerService, CustomerServiceServer},
        onboardflow::event::v1::{
            RecordEventRequest, RecordEventResponse,
            event_service_server::{self, EventService, EventServiceServer},
        },
        onboardflow::subscription::v1::{
            CreateSubscriptionRequest, CreateSubscriptionResponse, UpdateSubscriptionRequest,
            UpdateSubscriptionResponse,
            subscription_service_server::{self, SubscriptionService, SubscriptionServiceServer},
        },
    },
    server::Services,
    translate::{Operation, customer, event, subscription},
    upstream::{Origin, Upstream},
};

/// The metadata of a response that an earlier call got too.
pub const REPLAYED: &str = "onboardflow-replayed";

/// tonic's servers have the same options, and no trait for them.
macro_rules! served {
    ($server:expr, $max_request_bytes:expr) => {
        $server
            .accept_compressed(Gzip)
            .accept_compressed(Zstd)
            .send_compressed(Gzip)
            .send_compressed(Zstd)
            .max_decoding_message_size($max_request_bytes)
    };
}

/// The RPCs, made with one upstream.
#[derive(Clone, Debug)]
pub struct Service {
    upstream: Upstream,
}

#[tonic::async_trait]
impl CustomerService for Service {
    async fn create_customer(
        &self,
        request: Request<CreateCustomerRequest>,
    ) -> Result<Response<CreateCustomerResponse>, Status> {
        self.call::<customer::Create>(request).await
    }

    async fn update_customer(
        &self,
        request: Request<UpdateCustomerRequest>,
    ) -> Result<Response<UpdateCustomerResponse>, Status> {
        self.call::<customer::Update>(request).await
    }

    async fn delete_customer(
        &self,
        request: Request<DeleteCustomerRequest>,
    ) -> Result<Response<DeleteCustomerResponse>, Status> {
        self.call::<customer::Delete>(request).await
    }
}

#[tonic::async_trait]
impl SubscriptionService for Service {
    async fn create_subscription(
        &self,
        request: Request<CreateSubscriptionRequest>,
    ) -> Result<Response<CreateSubscriptionResponse>, Status> {
        self.call::<subscription::Create>(request).await
    }

    async fn update_subscription(
        &self,
        request: Request<UpdateSubscriptionRequest>,
    ) -> Result<Response<UpdateSubscriptionResponse>, Status> {
        self.call::<subscription::Update>(request).await
    }
}

#[tonic::async_trait]
impl EventService for Service {
    async fn record_event(
        &self,
        request: Request<RecordEventRequest>,
    ) -> Result<Response<RecordEventResponse>, Status> {
        self.call::<event::Record>(request).await
    }
}

impl Service {
    /// The RPCs, made with this upstream.
    pub fn new(upstream: Upstream) -> Self {
        Self { upstream }
    }

    /// All services of the proto, which take messages up to this size.
    pub fn services(self, max_request_bytes: usize) -> Services {
        let customers = CustomerServiceServer::new(self.clone());
        let subscriptions = SubscriptionServiceServer::new(self.clone());
        let events = EventServiceServer::new(self);
        Services::default()
            .with(
                customer_service_server::SERVICE_NAME,
                served!(customers, max_request_bytes),
            )
            .with(
                subscription_service_server::SERVICE_NAME,
                served!(subscriptions, max_request_bytes),
            )
            .with(
                event_service_server::SERVICE_NAME,
                served!(events, max_request_bytes),
            )
    }

    /// Encodes before the future begins, as a future holds what it is given to its end. In it the call is passed
    /// on by reference: there would be room for it twice.
    fn call<Op: Operation>(
        &self,
        mut request: Request<Op::Request>,
    ) -> impl Future<Output = Result<Response<Op::Response>, Status>> {
        let context = request.extensions_mut().remove::<Context>();
        let call = Op::encode(request.into_inner());
        async move {
            let Some(context) = &context else {
                let error = Error::new(Loss::Internal(Sent::No));
                return Err(error.because("call without a context").into());
            };
            let call = match call {
                Ok(ref call) => call,
                Err(error) => return Err(error.into()),
            };
            context.progress.means_to(call.purpose(Op::INTENT));
            let outcome = self.upstream.call::<Op>(call, context).await?;
            let mut response = Response::new(outcome.message);
            if outcome.origin == Origin::EarlierCall {
                let replayed = MetadataValue::from_static("true");
                response.metadata_mut().insert(REPLAYED, replayed);
            }
            Ok(response)
        }
    }
}
