//! Tells OnboardFlow about a customer, through onboardflow-gateway: one call for each RPC that it names.
//!
//! `client.rs` is the part to copy: the channel, the deadline, and what is repeated. `failure.rs` reads the gateway's
//! error details, and `requests.rs` has a request for each RPC. This file is only the command line.

mod client;
mod failure;
mod report;
mod requests;

use std::{error::Error, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, ValueEnum};
use serde_json::Value;
use tonic::Status;
use uuid::Uuid;

use client::{Client, Connection};
use report::{Report, to_json};
use requests::Details;

/// What `build.rs` made of the proto.
pub mod proto {
    pub mod customer {
        tonic::include_proto!("onboardflow.customer.v1");
    }
    pub mod event {
        tonic::include_proto!("onboardflow.event.v1");
    }
    pub mod subscription {
        tonic::include_proto!("onboardflow.subscription.v1");
    }
}

/// Tells OnboardFlow about a customer.
#[derive(Parser)]
struct Arguments {
    #[arg(default_values = ["CreateCustomer", "UpdateCustomer"])]
    rpcs: Vec<Rpc>,
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
    #[command(flatten)]
    details: Details,
    /// Print a line of JSON per call
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum Rpc {
    CreateCustomer,
    UpdateCustomer,
    DeleteCustomer,
    CreateSubscription,
    UpdateSubscription,
    RecordEvent,
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
    for rpc in arguments.rpcs {
        // Names this write in each attempt at it. Store it where your own program may repeat the write later.
        let request_id = Uuid::new_v4().to_string();
        let call_id = Uuid::new_v4().to_string();
        let report = Report {
            outcome: call(&client, rpc, &arguments.details, &call_id, &request_id).await,
            rpc: format!("{rpc:?}"),
            call_id,
            request_id,
        };
        if report.outcome.is_err() {
            exit = ExitCode::FAILURE;
        }
        report.print(arguments.json);
    }
    Ok(exit)
}

/// Returns the event that OnboardFlow recorded, as JSON. A delete may have none.
async fn call(
    client: &Client,
    rpc: Rpc,
    details: &Details,
    call_id: &str,
    request_id: &str,
) -> Result<Option<Value>, Status> {
    let id = request_id.to_owned();
    Ok(match rpc {
        Rpc::CreateCustomer => {
            let rpc = async |request| client.customers.clone().create_customer(request).await;
            let request = details.create_customer(id);
            client.call(request, call_id, rpc).await?.event.map(to_json)
        }
        Rpc::UpdateCustomer => {
            let rpc = async |request| client.customers.clone().update_customer(request).await;
            let request = details.update_customer(id);
            client.call(request, call_id, rpc).await?.event.map(to_json)
        }
        Rpc::DeleteCustomer => {
            let rpc = async |request| client.customers.clone().delete_customer(request).await;
            let request = details.delete_customer(id);
            client.call(request, call_id, rpc).await?.event.map(to_json)
        }
        Rpc::CreateSubscription => {
            let rpc = async |request| {
                client
                    .subscriptions
                    .clone()
                    .create_subscription(request)
                    .await
            };
            let request = details.create_subscription(id);
            client.call(request, call_id, rpc).await?.event.map(to_json)
        }
        Rpc::UpdateSubscription => {
            let rpc = async |request| {
                client
                    .subscriptions
                    .clone()
                    .update_subscription(request)
                    .await
            };
            let request = details.update_subscription(id);
            client.call(request, call_id, rpc).await?.event.map(to_json)
        }
        Rpc::RecordEvent => {
            let rpc = async |request| client.events.clone().record_event(request).await;
            let request = details.record_event(id);
            client.call(request, call_id, rpc).await?.event.map(to_json)
        }
    })
}
