//! No customer data, and no key: the program itself, at trace level, with every exporter on, on every
//! path that a call can take. What it was given to hide is unmistakable, and must be nowhere.

mod paths;
mod program;

use std::collections::BTreeSet;

use onboardflow_gateway::{
    config::ServerConfig,
    error::Kind,
    proto::{
        CreateCustomerRequest, CreateCustomerResponse, Customer, DeleteCustomerRequest,
        DeleteCustomerResponse, UpdateCustomerRequest, UpdateCustomerResponse,
        customer_service_server::{self, CustomerService, CustomerServiceServer},
    },
    server::Services,
    telemetry::logs::report_panics,
};
use prost_types::{Struct, Value, value::Kind as Of};
use tokio::process::Command;
use tonic::{Request, Response, Status};

use crate::support::{Gateway, Upstream, create_request, logs, response};

/// In every value that is given to the gateway to hide, whatever its case.
const HIDDEN: &str = "unm1stakable";
const KEY: &str = "unm1stakable0000000000000000000000000key";

fn hidden(what: &str) -> String {
    format!("{HIDDEN}-{what}")
}

fn properties() -> Struct {
    let text = Value {
        kind: Some(Of::StringValue(hidden("property"))),
    };
    Struct {
        fields: [(hidden("property-name"), text)].into(),
    }
}

fn request() -> CreateCustomerRequest {
    CreateCustomerRequest {
        site_key: hidden("site"),
        customer: Some(Customer {
            id: hidden("id"),
            user_id: hidden("user"),
            email: hidden("email@example.com"),
            first_name: Some(hidden("first")),
            last_name: Some(hidden("last")),
            image_url: Some(format!("https://example.com/{}", hidden("image"))),
            has_payment_method: Some(true),
        }),
        custom_properties: Some(properties()),
        ..create_request()
    }
}

fn update() -> UpdateCustomerRequest {
    let CreateCustomerRequest {
        site_key,
        event_date,
        customer,
        custom_properties,
        request_id,
    } = request();
    UpdateCustomerRequest {
        site_key,
        event_date,
        customer,
        custom_properties,
        request_id,
    }
}

/// A name that OnboardFlow gives a field. A status may hold it, as the caller has to know where to
/// look; nothing else may.
const NAME: &str = "sh0wn-name";

/// A body that quotes all that it was sent, key included, in places known and unknown.
fn quoting(success: bool) -> String {
    format!(
        r#"{{"success":{success},"detail":"{KEY} {site}","error":"{site}","customer_email":["{email} is bad"],
        "{field}":["{email}"],"data":{{"id":1,"{field}":"{email}","site_hash":"{site}","event_value":"{KEY}",
        "event_meta":{{"type":"X","data":{{"customer":{{"email":"{email}","first_name":"{first}","{field}":1}},
        "custom_properties":{{"{field}":"{email}"}}}}}}}}}}"#,
        site = hidden("site"),
        email = hidden("email@example.com"),
        first = hidden("first"),
        field = NAME,
    )
}

fn assert_hidden(what: &str, text: &str) {
    let named = text.contains(NAME) && !what.starts_with("a status");
    if let Some(at) = text.to_lowercase().find(if named { NAME } else { HIDDEN }) {
        let before: String = text[..at].chars().rev().take(300).collect();
        let before: String = before.chars().rev().collect();
        panic!("in {what}: …{before}{}…", &text[at..at + 20]);
    }
}

fn check(status: &Status) {
    assert_hidden("a status", &format!("{status:?}"));
    assert_hidden(
        "a status' details",
        &String::from_utf8_lossy(status.details()),
    );
}

/// Every reason that some call failed for.
fn reasons(metrics: &str) -> BTreeSet<&str> {
    let failures = metrics.lines().filter(|line| {
        line.starts_with("onboardflow_gateway_failures_total") && !line.ends_with(" 0")
    });
    failures
        .map(|line| {
            line.split("reason=\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
        })
        .collect()
}

#[tokio::test]
async fn nothing_of_a_customer_is_seen_on_any_path() {
    let collector = Upstream::saying(response(200, &[], "")).await;
    let metrics = [
        paths::own_key(&collector).await,
        paths::guarded(&collector).await,
        paths::unreachable(&collector).await,
    ]
    .concat();

    let mut names = 0;
    for sent in collector.received() {
        let body = String::from_utf8_lossy(&sent.body).into_owned();
        names += body.matches("CustomerService/CreateCustomer").count();
        assert_hidden("spans", &body);
    }
    assert!(names > 20, "{names} spans of creates");
    let every: BTreeSet<_> = Kind::all().map(|kind| kind.row().reason).collect();
    let seen = reasons(&metrics);
    let missed: Vec<_> = every.difference(&seen).collect();
    // A bug is looked for below; who still calls at the end of a drain, by the tests of drains. The
    // others come with the ledger and the callers' shares.
    assert_eq!(
        missed,
        [
            &"CALLER_QUOTA_EXHAUSTED",
            &"GATEWAY_DRAINING",
            &"GATEWAY_FAILED",
            &"LEDGER_OFF",
            &"LEDGER_UNAVAILABLE",
            &"REQUEST_ID_REUSED",
            &"REQUEST_IN_PROGRESS",
            &"WRITE_SETTLED",
            &"WRITE_UNKNOWN",
        ]
    );
}

/// A service with a bug, which says too much of it.
struct Buggy;

#[tonic::async_trait]
impl CustomerService for Buggy {
    async fn create_customer(
        &self,
        request: Request<CreateCustomerRequest>,
    ) -> Result<Response<CreateCustomerResponse>, Status> {
        panic!("{:?}", request.into_inner());
    }

    async fn update_customer(
        &self,
        request: Request<UpdateCustomerRequest>,
    ) -> Result<Response<UpdateCustomerResponse>, Status> {
        Err(Status::unknown(format!("{:?}", request.into_inner())))
    }

    async fn delete_customer(
        &self,
        request: Request<DeleteCustomerRequest>,
    ) -> Result<Response<DeleteCustomerResponse>, Status> {
        Err(Status::unknown(format!("{:?}", request.into_inner())))
    }
}

/// Run in a process of its own by the test below: a panic hook is a process's.
#[tokio::test]
#[ignore = "started by a_panic_is_logged_without_its_message"]
async fn panics() {
    report_panics();
    let config = ServerConfig {
        workers: 1,
        drain_delay: std::time::Duration::ZERO,
        ..ServerConfig::default()
    };
    let buggy = || {
        let service = CustomerServiceServer::new(Buggy);
        Services::default().with(customer_service_server::SERVICE_NAME, service)
    };
    let gateway = Gateway::with(buggy, config).await;
    let mut client = gateway.client().await;
    check(&client.create_customer(request()).await.unwrap_err());
    check(&client.update_customer(update()).await.unwrap_err());
    drop(client);
    let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
    assert_eq!(reasons(&metrics), ["GATEWAY_FAILED"].into());
    gateway.stop().await;
    eprintln!("{}{metrics}", logs::so_far());
}

#[tokio::test]
async fn a_panic_is_logged_without_its_message() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "telemetry::privacy::panics",
            "--ignored",
            "--nocapture",
        ])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(printed[1].contains("a task panicked"), "{printed:?}");
    assert!(printed[1].contains("privacy.rs"), "{printed:?}");
    assert_hidden("a panic's log", &printed.concat());
}
