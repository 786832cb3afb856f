//! Prints what came of a call: for people, or as the line of JSON that the interop test compares between languages.

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::Status;

use crate::failure::Failure;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

pub struct Report {
    pub rpc: String,
    pub call_id: String,
    pub request_id: String,
    /// The event that was recorded. A delete may have none.
    pub outcome: Result<Option<Value>, Status>,
}

impl Report {
    pub fn print(&self, as_json: bool) {
        match &self.outcome {
            _ if as_json => println!("{}", self.line()),
            Ok(Some(event)) => {
                let id = event["id"].as_str().unwrap_or_default();
                println!("{}: done, event {id}", self.rpc);
            }
            Ok(None) => println!("{}: done", self.rpc),
            Err(status) => self.print_failure(&Failure::of(status)),
        }
    }

    fn print_failure(&self, failure: &Failure) {
        println!(
            "{} failed: {}: {}",
            self.rpc,
            code_name(failure),
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
            "applied" => println!("  it was written: do not repeat it"),
            _ => println!(
                "  it may have been written: repeat it only with the same request_id, {}",
                self.request_id
            ),
        }
        if let Some(delay) = failure.retry_after {
            println!("  try again after {delay:?}");
        }
    }

    fn line(&self) -> Value {
        let mut line = match &self.outcome {
            Ok(event) => json!({"code": "OK", "event": event}),
            Err(status) => failure_line(&Failure::of(status)),
        };
        line["call"] = self.rpc.as_str().into();
        line["call_id"] = self.call_id.as_str().into();
        line["request_id"] = self.request_id.as_str().into();
        line
    }
}

fn failure_line(failure: &Failure) -> Value {
    let violations: Vec<_> = (failure.violations.iter())
        .map(|v| json!({"field": v.field, "description": v.description}))
        .collect();
    let retry_after = failure
        .retry_after
        .map(|delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    json!({
        "code": code_name(failure),
        "message": failure.message,
        "reason": failure.reason,
        "write": failure.write(),
        "metadata": failure.metadata,
        "violations": violations,
        "retry_after_ms": retry_after,
    })
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
pub fn to_json<M: Message + Name>(message: M) -> Value {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("build.rs wrote it");
    let descriptor = pool
        .get_message_by_name(&M::full_name())
        .expect("the proto has it");
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .expect("it was a message before");
    serde_json::to_value(message).expect("a protobuf message has a JSON form")
}
