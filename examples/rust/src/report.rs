//! Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::Status;

use crate::{failure::Failure, proto::CustomerEvent};

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/customer.binpb"));

pub fn text(call: &str, outcome: &Result<CustomerEvent, Status>) {
    let failure = match outcome {
        Ok(event) if event.id == 0 => return println!("{call}: done"),
        Ok(event) => {
            let kind = event.event_meta.as_ref().map_or("", |meta| &meta.r#type);
            return println!("{call}: {kind}, event {}", event.id);
        }
        Err(status) => Failure::of(status),
    };
    println!(
        "{call} failed: {}: {}",
        code_name(&failure),
        failure.message
    );
    if !failure.reason.is_empty() {
        println!("  reason: {}", failure.reason);
    }
    for violation in &failure.violations {
        println!("  {}: {}", violation.field, violation.description);
    }
    match failure.write() {
        "not_sent" | "rejected" => println!("  nothing was written"),
        "applied" => println!("  it was written all the same: don't repeat it"),
        _ => println!("  it may have been written: look in the pages of OnboardFlow before you repeat a create"),
    }
    if let Some(delay) = failure.retry_after {
        println!("  worth another try after {delay:?}");
    }
}

pub fn json(call: &str, request_id: &str, outcome: &Result<CustomerEvent, Status>) {
    let mut line = match outcome {
        Ok(event) => json!({"code": "OK", "event": protobuf_json(event)}),
        Err(status) => {
            let failure = Failure::of(status);
            let violations: Vec<_> = (failure.violations.iter())
                .map(|v| json!({"field": v.field, "description": v.description}))
                .collect();
            json!({
                "code": code_name(&failure),
                "message": failure.message,
                "reason": failure.reason,
                "write": failure.write(),
                "metadata": failure.metadata,
                "violations": violations,
                "retry_after_ms": failure.retry_after.map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            })
        }
    };
    line["call"] = call.into();
    line["request_id"] = request_id.into();
    println!("{line}");
}

/// The code as the gRPC specification writes it: `DEADLINE_EXCEEDED`, where tonic says `DeadlineExceeded`.
fn code_name(failure: &Failure) -> String {
    let mut name = String::new();
    for letter in format!("{:?}", failure.code).chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// prost's messages have no JSON of their own, but prost-reflect's do.
fn protobuf_json(event: &CustomerEvent) -> Value {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote it");
    let descriptor = pool
        .get_message_by_name("onboardflow.customer.v1.CustomerEvent")
        .expect("the proto has it");
    let event = DynamicMessage::decode(descriptor, event.encode_to_vec().as_slice())
        .expect("it was a message before");
    serde_json::to_value(event).expect("a protobuf message has a JSON form")
}
