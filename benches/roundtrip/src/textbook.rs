//! The gateway that one writes in an afternoon from the front pages of tonic and reqwest: a
//! service on tonic's own server, `reqwest::Client`, `.json(…)` both ways. The translation is
//! whole; nothing is checked, retried, limited, counted or logged.

use prost_types::{Struct, Timestamp};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

use crate::{
    Fallible, ServerArgs,
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, Customer, CustomerEvent, EventData,
        EventMeta, UpdateCustomerRequest, UpdateCustomerResponse,
        customer_service_server::{CustomerService, CustomerServiceServer},
    },
    target::TOKEN,
    tls,
};

#[tokio::main]
pub(crate) async fn run(args: &ServerArgs) -> Fallible<()> {
    let (client, origin) = match &args.tls {
        None => (
            reqwest::Client::new(),
            format!("http://{}", args.upstream()?),
        ),
        Some(folder) => {
            let root = std::fs::read(folder.join(tls::CERTIFICATE))?;
            let root = reqwest::Certificate::from_pem(&root)?;
            let client = reqwest::Client::builder().add_root_certificate(root);
            let origin = format!("https://{}:{}", tls::HOST, args.upstream()?.port());
            (client.build()?, origin)
        }
    };
    let textbook = Textbook {
        client,
        url: format!("{origin}/api/v1/customer/"),
    };
    tonic::transport::Server::builder()
        .add_service(CustomerServiceServer::new(textbook))
        .serve(args.listen)
        .await?;
    Ok(())
}

struct Textbook {
    client: reqwest::Client,
    url: String,
}

#[tonic::async_trait]
impl CustomerService for Textbook {
    async fn create_customer(
        &self,
        request: Request<CreateCustomerRequest>,
    ) -> Result<Response<CreateCustomerResponse>, Status> {
        let request = request.into_inner();
        let record = Record::new(request.site_key, request.event_date, request.customer);
        let event = self.send(Method::POST, &record).await?;
        Ok(Response::new(CreateCustomerResponse { event: Some(event) }))
    }

    async fn update_customer(
        &self,
        request: Request<UpdateCustomerRequest>,
    ) -> Result<Response<UpdateCustomerResponse>, Status> {
        let request = request.into_inner();
        let record = Record::new(request.site_key, request.event_date, request.customer);
        let event = self.send(Method::PUT, &record).await?;
        Ok(Response::new(UpdateCustomerResponse { event: Some(event) }))
    }
}

impl Textbook {
    async fn send(&self, method: Method, record: &Record) -> Result<CustomerEvent, Status> {
        let unavailable = |error: reqwest::Error| Status::unavailable(error.to_string());
        let envelope: Envelope = self
            .client
            .request(method, &self.url)
            .header("Authorization", format!("Token {TOKEN}"))
            .json(record)
            .send()
            .await
            .map_err(unavailable)?
            .error_for_status()
            .map_err(unavailable)?
            .json()
            .await
            .map_err(unavailable)?;
        if envelope.success {
            Ok(envelope.data.into())
        } else {
            Err(Status::failed_precondition("refused"))
        }
    }
}

#[derive(Serialize)]
struct Record {
    site_key: String,
    event_date: i64,
    user_id: String,
    customer_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_first_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_last_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer_image_url: Option<String>,
    customer_has_payment_method: bool,
    customer_email: String,
}

impl Record {
    fn new(site_key: String, date: Option<Timestamp>, customer: Option<Customer>) -> Self {
        let customer = customer.unwrap_or_default();
        Self {
            site_key,
            event_date: date.unwrap_or_default().seconds,
            user_id: customer.user_id,
            customer_id: customer.id,
            customer_first_name: customer.first_name,
            customer_last_name: customer.last_name,
            customer_image_url: customer.image_url,
            customer_has_payment_method: customer.has_payment_method.unwrap_or_default(),
            customer_email: customer.email,
        }
    }
}

#[derive(Deserialize)]
struct Envelope {
    success: bool,
    data: EventJson,
}

#[derive(Deserialize)]
struct EventJson {
    id: i64,
    event_provider: String,
    site_hash: String,
    session_id: String,
    event_date: i64,
    event_value: String,
    event_type: String,
    event_meta: MetaJson,
    updated: i64,
    created: i64,
}

#[derive(Deserialize)]
struct MetaJson {
    data: DataJson,
    r#type: String,
    created: i64,
}

#[derive(Deserialize)]
struct DataJson {
    customer: CustomerJson,
}

#[derive(Deserialize)]
struct CustomerJson {
    id: String,
    email: String,
    user_id: String,
    image_url: Option<String>,
    last_name: Option<String>,
    first_name: Option<String>,
    has_payment_method: bool,
}

impl From<EventJson> for CustomerEvent {
    fn from(event: EventJson) -> Self {
        Self {
            id: event.id,
            event_provider: event.event_provider,
            site_user: Some(Struct::default()),
            site_hash: event.site_hash,
            session_id: event.session_id,
            event_date: timestamp(event.event_date / 1000),
            event_value: event.event_value,
            event_type: event.event_type,
            event_meta: Some(EventMeta {
                data: Some(EventData {
                    customer: Some(event.event_meta.data.customer.into()),
                    custom_properties: None,
                }),
                r#type: event.event_meta.r#type,
                created: timestamp(event.event_meta.created),
            }),
            updated: timestamp(event.updated / 1000),
            created: timestamp(event.created / 1000),
        }
    }
}

impl From<CustomerJson> for Customer {
    fn from(customer: CustomerJson) -> Self {
        Self {
            id: customer.id,
            user_id: customer.user_id,
            email: customer.email,
            first_name: customer.first_name,
            last_name: customer.last_name,
            image_url: customer.image_url,
            has_payment_method: Some(customer.has_payment_method),
        }
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the messages' fields are optional"
)]
fn timestamp(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp { seconds, nanos: 0 })
}
