//! Creates, updates or deletes a customer through onboardflow-gateway.
//!
//! `client.rs` is the part to copy: the channel, the deadline, the request id, and what may be repeated. `failure.rs`
//! reads the gateway's error details. This file is only the command line.

mod client;
mod failure;
mod report;

use std::{
    collections::BTreeMap, error::Error, path::PathBuf, process::ExitCode, time::Duration,
    time::SystemTime,
};

use clap::{Parser, ValueEnum};
use prost_types::{Struct, Value, value::Kind};

use client::{Client, Connection};

/// What `build.rs` made of the proto.
pub mod proto {
    tonic::include_proto!("onboardflow.customer.v1");
}

/// Creates, updates or deletes a customer.
#[derive(Parser)]
struct Arguments {
    /// Which calls; default: create, update
    calls: Vec<Call>,
    /// The gateway's host:port
    #[arg(long, default_value = "127.0.0.1:50051")]
    target: String,
    /// PEM of the CA that signed the gateway's certificate; turns TLS on
    #[arg(long)]
    tls_ca: Option<PathBuf>,
    /// PEM of our own certificate, for mTLS
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM of its key
    #[arg(long)]
    tls_key: Option<PathBuf>,
    #[arg(long, default_value = "none")]
    compression: Compression,
    /// Seconds that a call may take, repeats included
    #[arg(long, default_value = "5")]
    timeout: f64,
    /// OnboardFlow site key
    #[arg(long, default_value = "f37F2PPh")]
    site_key: String,
    #[arg(long, default_value = "cus_123XYZ")]
    customer_id: String,
    /// Customer's email address
    #[arg(long, default_value = "zoe@example.com")]
    email: String,
    /// URL of the customer's picture; unset when empty
    #[arg(long, default_value = "")]
    image_url: String,
    /// Print a line of JSON per call
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Call {
    Create,
    Update,
    Delete,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Compression {
    None,
    Gzip,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments = Arguments::parse();
    let client = Client::new(
        &Connection {
            target: &arguments.target,
            ca: arguments.tls_ca.as_deref(),
            cert_and_key: arguments
                .tls_cert
                .as_deref()
                .zip(arguments.tls_key.as_deref()),
            gzip: arguments.compression == Compression::Gzip,
        },
        Duration::try_from_secs_f64(arguments.timeout)?,
    )?;

    let mut exit = ExitCode::SUCCESS;
    let calls = if arguments.calls.is_empty() {
        &[Call::Create, Call::Update][..]
    } else {
        &arguments.calls
    };
    for call in calls {
        let request_id = uuid::Uuid::new_v4().to_string();
        let (name, outcome) = match call {
            Call::Create => (
                "create",
                client.create(create_request(&arguments), &request_id).await,
            ),
            Call::Update => (
                "update",
                client.update(update_request(&arguments), &request_id).await,
            ),
            Call::Delete => (
                "delete",
                client.delete(delete_request(&arguments), &request_id).await,
            ),
        };
        if outcome.is_err() {
            exit = ExitCode::FAILURE;
        }
        if arguments.json {
            report::json(name, &request_id, &outcome);
        } else {
            report::text(name, &outcome);
        }
    }
    Ok(exit)
}

/// A customer who has just started a trial.
fn create_request(arguments: &Arguments) -> proto::CreateCustomerRequest {
    let property = |name: &str, kind| (name.to_owned(), Value { kind: Some(kind) });
    proto::CreateCustomerRequest {
        site_key: arguments.site_key.clone(),
        event_date: Some(SystemTime::now().into()),
        customer: Some(proto::Customer {
            has_payment_method: Some(false),
            ..customer(arguments)
        }),
        custom_properties: Some(Struct {
            fields: BTreeMap::from([
                property("plan", Kind::StringValue("trial".to_owned())),
                property("qty_tasks", Kind::NumberValue(2.0)),
            ]),
        }),
        request_id: String::new(),
    }
}

/// The same customer after adding a payment method. An update carries it whole: what it leaves out is unset.
fn update_request(arguments: &Arguments) -> proto::UpdateCustomerRequest {
    proto::UpdateCustomerRequest {
        site_key: arguments.site_key.clone(),
        event_date: Some(SystemTime::now().into()),
        customer: Some(proto::Customer {
            last_name: Some("Müller".to_owned()),
            has_payment_method: Some(true),
            ..customer(arguments)
        }),
        custom_properties: None,
        request_id: String::new(),
    }
}

/// The customer has left.
fn delete_request(arguments: &Arguments) -> proto::DeleteCustomerRequest {
    proto::DeleteCustomerRequest {
        site_key: arguments.site_key.clone(),
        customer_id: arguments.customer_id.clone(),
        user_id: "user_123XYZ".to_owned(),
        request_id: String::new(),
    }
}

fn customer(arguments: &Arguments) -> proto::Customer {
    proto::Customer {
        id: arguments.customer_id.clone(),
        user_id: "user_123XYZ".to_owned(),
        email: arguments.email.clone(),
        first_name: Some("Zoë".to_owned()),
        image_url: Some(arguments.image_url.clone()).filter(|url| !url.is_empty()),
        ..proto::Customer::default()
    }
}
