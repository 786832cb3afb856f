//! What tests start: a gateway, and an upstream that says what it is told to say.

pub mod certificates;
mod fault;
mod gateway;
mod http;
mod http2;
pub mod issuer;
pub mod logs;
pub mod peer;
mod process;
mod store;
pub mod tokens;
mod upstream;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use onboardflow_gateway::{
    config::Resolver,
    proto::{CreateCustomerRequest, Customer, UpdateCustomerRequest},
};
use prost_types::Timestamp;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic_types::StatusExt as _;
use tower::{service_fn, util::BoxCloneSyncService};

pub use self::{
    fault::{Chance, Event, Fault, Faulty, answer},
    gateway::{Config, Gateway},
    http::{http, http_with},
    http2::{Http2, Life, Manner, acceptor},
    process::{Process, program},
    store::{Store, fresh_id, insist},
    upstream::{Received, Upstream, nobody, read_request, response},
};

/// The key that gateways under test hold. Unmistakable, so that a leak can be found.
pub const KEY: &str = "5ec2e7000000000000000000000000000000c0de";
/// An address that must not turn up where it doesn't belong.
pub const EMAIL: &str = "test@onboardflow.com";

/// OnboardFlow's reply to the create of the specification's worked example.
pub const CREATED: &str = include_str!("../fixtures/created.json");

/// The request of the specification's worked example.
pub fn create_request() -> CreateCustomerRequest {
    CreateCustomerRequest {
        site_key: "f37F2PPh".to_owned(),
        event_date: Some(Timestamp {
            seconds: 1_583_020_800,
            nanos: 0,
        }),
        customer: Some(customer()),
        custom_properties: None,
        request_id: String::new(),
    }
}

/// The same, as an update.
pub fn update_request() -> UpdateCustomerRequest {
    let CreateCustomerRequest {
        site_key,
        event_date,
        customer,
        custom_properties,
        request_id,
    } = create_request();
    UpdateCustomerRequest {
        site_key,
        event_date,
        customer,
        custom_properties,
        request_id,
    }
}

/// The customer of the worked example.
pub fn customer() -> Customer {
    Customer {
        id: "cus_123XYZ".to_owned(),
        user_id: "user_123XYZ".to_owned(),
        email: EMAIL.to_owned(),
        first_name: Some("Joe".to_owned()),
        last_name: None,
        image_url: None,
        has_payment_method: Some(true),
    }
}

/// Resolves every name to the address that `find` gives, or fails without one.
pub fn resolver(find: impl Fn() -> Option<SocketAddr> + Send + Sync + 'static) -> Resolver {
    let find = Arc::new(find);
    BoxCloneSyncService::new(service_fn(move |_name| {
        let found = find().map(|address| vec![address].into_iter());
        async move { found.ok_or_else(|| io::Error::other("no such name")) }
    }))
}

/// What `find` finds, looked for again and again, for a minute at most.
pub async fn eventually<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = find() {
                return found;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), found)
        .await
        .unwrap_or_else(|_elapsed| panic!("{what} did not come within a minute"))
}

/// What a program reads out of a failure.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub code: tonic::Code,
    pub reason: String,
    pub write: String,
    pub http_status: Option<String>,
}

/// The machine-readable part of a status. Every failure has to have one, and none of them, nor any
/// log line, may hold the key or the customer's address.
pub fn told(status: &Status) -> Told {
    assert_clean("status", &format!("{status:?}"));
    assert_clean("status details", &String::from_utf8_lossy(status.details()));
    assert_clean("log", &logs::unread());
    assert!(status.message().len() <= 1024, "{status:?}");
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "onboardflow.com");
    assert!(info.metadata.contains_key("request_id"), "{info:?}");
    Told {
        code: status.code(),
        reason: info.reason.clone(),
        write: info.metadata["write"].clone(),
        http_status: info.metadata.get("http_status").cloned(),
    }
}

/// Fails if a text holds the key, or what identifies the customer of the worked example.
pub fn assert_clean(what: &str, text: &str) {
    for secret in [KEY, EMAIL, "Joe", "cus_123XYZ", "user_123XYZ"] {
        if let Some(at) = text.find(secret) {
            let context: String = text[..at].chars().rev().take(200).collect();
            let context: String = context.chars().rev().collect();
            panic!("{secret} is in a {what}: ...{context}{secret}");
        }
    }
}
