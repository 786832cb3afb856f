//! What the gateway says about a failed call, beyond its code.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{FieldViolation, StatusExt};

/// A status with its google.rpc details. One without an `ErrorInfo` was not made by the gateway (the deadline passed
/// here, say, or the gateway couldn't be reached), so it doesn't tell what became of the write.
pub struct Failure {
    pub code: Code,
    pub message: String,
    /// `ErrorInfo.reason`: `INVALID_REQUEST`, `UPSTREAM_MAINTENANCE`, …
    pub reason: String,
    /// `ErrorInfo.metadata`: `write`, `http_status`, `request_id`
    pub metadata: HashMap<String, String>,
    /// `BadRequest`: every field at fault
    pub violations: Vec<FieldViolation>,
    /// `RetryInfo`
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            message: status.message().to_owned(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            metadata: info.map(|info| info.metadata.clone()).unwrap_or_default(),
            violations: details
                .bad_request()
                .map(|bad| bad.field_violations.clone())
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }

    /// What became of the write: `not_sent`, `rejected`, `unknown` or `applied`.
    pub fn write(&self) -> &str {
        self.metadata.get("write").map_or("", String::as_str)
    }

    /// The trouble is passing: another try with the same `request_id` may go well. Of a connection that broke, tonic says
    /// UNKNOWN or CANCELLED, where every other gRPC client says UNAVAILABLE.
    pub fn is_passing(&self) -> bool {
        let from_the_gateway = !self.reason.is_empty();
        match self.code {
            Code::Unavailable => true,
            Code::Unknown | Code::Cancelled => !from_the_gateway,
            _ => false,
        }
    }

    /// How long to wait before another try: what the gateway asks for, or 0.2 s and then twice that.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.retry_after
            .unwrap_or(Duration::from_millis(100) * 2u32.pow(attempt))
    }
}
