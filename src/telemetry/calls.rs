//! Metrics of calls, as a caller sees them: OpenTelemetry's duration, the counters that gRPC dashboards
//! know from go-grpc-prometheus, and why calls failed. Methods are those of the proto's
//! descriptors; none is named here.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use prost_types::{MethodDescriptorProto, MethodOptions, method_options::IdempotencyLevel};
use tonic::Code;

use super::{
    add, add_seconds,
    histogram::Histogram,
    rows::{self, Told},
};
use crate::{
    error::{Kind, Refusal, Write},
    proto,
    rest::Effect,
};

/// Labels, some of which are only there where they mean something.
pub(super) type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// What stands for a method that the gateway doesn't have: the name is the caller's to choose.
const OTHER: &str = "_OTHER";

/// The codes, by their number, as Go spells them and as the protocol does.
const CODES: [(&str, &str); 17] = [
    ("OK", "OK"),
    ("Canceled", "CANCELLED"),
    ("Unknown", "UNKNOWN"),
    ("InvalidArgument", "INVALID_ARGUMENT"),
    ("DeadlineExceeded", "DEADLINE_EXCEEDED"),
    ("NotFound", "NOT_FOUND"),
    ("AlreadyExists", "ALREADY_EXISTS"),
    ("PermissionDenied", "PERMISSION_DENIED"),
    ("ResourceExhausted", "RESOURCE_EXHAUSTED"),
    ("FailedPrecondition", "FAILED_PRECONDITION"),
    ("Aborted", "ABORTED"),
    ("OutOfRange", "OUT_OF_RANGE"),
    ("Unimplemented", "UNIMPLEMENTED"),
    ("Internal", "INTERNAL"),
    ("Unavailable", "UNAVAILABLE"),
    ("DataLoss", "DATA_LOSS"),
    ("Unauthenticated", "UNAUTHENTICATED"),
];

/// The name of a code, as the protocol spells it.
pub(crate) fn code_name(code: Code) -> &'static str {
    CODES[code as usize].1
}

/// Whether a code means that the server failed, and not that it refused what it was asked, by
/// OpenTelemetry's conventions.
pub(super) fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// Metrics of calls.
#[derive(Clone, Debug)]
pub struct Calls {
    methods: Arc<[Arc<Method>]>,
    other: Arc<Method>,
    refusals: Arc<[Counter; Refusal::ALL.len()]>,
}

/// The handles of one method.
#[derive(Debug)]
pub struct Method {
    /// Full name, as in `onboardflow.customer.v1.CustomerService/CreateCustomer`.
    pub name: Cow<'static, str>,
    /// The name without its service, as in `CreateCustomer`.
    pub short_name: Arc<str>,
    path: String,
    started: Counter,
    in_flight: Gauge,
    /// There from the start for codes that its calls can end with.
    handled: [OnceLock<Counter>; CODES.len()],
    /// Made when a call first ends so: most codes never come, and each would be 17 lines.
    durations: [OnceLock<Histogram>; CODES.len()],
    labels: Labels,
    families: Families,
}

/// The families that every method has a part in.
#[derive(Clone, Debug)]
struct Families {
    started: Family<Labels, Counter>,
    handled: Family<Labels, Counter>,
    in_flight: Family<Labels, Gauge>,
    duration: Family<Labels, Histogram>,
    failures: Family<Labels, Counter>,
}

impl Calls {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let families = Families::register(registry);
        let other = Arc::new(families.method(OTHER.into(), OTHER, OTHER, "unary"));
        let methods = methods(&families);
        let own = registry.sub_registry_with_prefix("onboardflow_gateway");
        let refusals: Family<Labels, Counter> = add(
            own,
            "refusals",
            "Calls that the gateway refused, with nothing sent to OnboardFlow",
        );
        let refusals = Refusal::ALL.map(|refusal| {
            let reason = Kind::Refused(refusal).row().reason;
            refusals.get_or_create_owned(&vec![("reason", reason.into())])
        });
        Self {
            methods,
            other,
            refusals: Arc::new(refusals),
        }
    }

    /// The handles of the method with this path, which starts with a slash.
    pub fn method(&self, path: &str) -> &Arc<Method> {
        self.methods
            .iter()
            .find(|method| method.path == path)
            .unwrap_or(&self.other)
    }

    /// Counts a call that failed.
    pub fn failed(&self, method: &Method, kind: Kind, write: Write) {
        if let Kind::Refused(refusal) = kind {
            self.refusals[refusal as usize].inc();
        }
        let labels = method.failure(Told::new(kind, write));
        method.families.failures.get_or_create(&labels).inc();
    }
}

impl Method {
    /// Counts a call that begins.
    pub fn started(&self) {
        self.started.inc();
        self.in_flight.inc();
    }

    /// Counts a call that is over. Each that began must be.
    pub fn handled(&self, code: Code, duration: Duration) {
        self.in_flight.dec();
        self.handled[code as usize]
            .get_or_init(|| self.handled_with(code))
            .inc();
        self.durations[code as usize]
            .get_or_init(|| self.duration_of(code))
            .observe(duration);
    }

    /// At zero from the start, so that a rate is right from the first call that ends so.
    fn expect(&self, effect: Effect) {
        let rows = rows::within_reach(effect);
        for told in &rows {
            drop(self.families.failures.get_or_create(&self.failure(*told)));
        }
        for code in rows.iter().map(|told| told.code).chain([Code::Ok]) {
            self.handled[code as usize].get_or_init(|| self.handled_with(code));
        }
    }

    fn failure(&self, told: Told) -> Labels {
        vec![
            ("rpc_method", self.name.clone()),
            ("rpc_response_status_code", code_name(told.code).into()),
            ("reason", told.reason.into()),
            ("write", told.write.as_str().into()),
        ]
    }

    fn handled_with(&self, code: Code) -> Counter {
        let mut labels = self.labels.clone();
        labels.push(("grpc_code", CODES[code as usize].0.into()));
        self.families.handled.get_or_create_owned(&labels)
    }

    fn duration_of(&self, code: Code) -> Histogram {
        let mut labels = vec![
            ("rpc_system_name", "grpc".into()),
            ("rpc_method", self.name.clone()),
            ("rpc_response_status_code", code_name(code).into()),
        ];
        if is_server_error(code) {
            labels.push(("error_type", code_name(code).into()));
        }
        self.families.duration.get_or_create_owned(&labels)
    }
}

impl Families {
    fn register(registry: &mut Registry) -> Self {
        Self {
            duration: add_seconds(
                registry,
                "rpc_server_call_duration",
                "How long calls took, from their headers to the response's",
            ),
            started: add(registry, "grpc_server_started", "Calls that began"),
            handled: add(registry, "grpc_server_handled", "Calls that ended, by code"),
            in_flight: add(
                registry,
                "onboardflow_gateway_calls_in_flight",
                "Calls that are under way",
            ),
            failures: add(
                registry,
                "onboardflow_gateway_failures",
                "Calls that failed, by code, reason and what became of the write",
            ),
        }
    }

    fn method(
        &self,
        name: Cow<'static, str>,
        service: &str,
        method: &str,
        kind: &'static str,
    ) -> Method {
        let labels = vec![
            ("grpc_service", service.to_owned().into()),
            ("grpc_method", method.to_owned().into()),
            ("grpc_type", Cow::Borrowed(kind)),
        ];
        Method {
            short_name: method.into(),
            path: format!("/{name}"),
            started: self.started.get_or_create_owned(&labels),
            in_flight: self
                .in_flight
                .get_or_create_owned(&vec![("rpc_method", name.clone())]),
            handled: [const { OnceLock::new() }; CODES.len()],
            durations: [const { OnceLock::new() }; CODES.len()],
            labels,
            families: self.clone(),
            name,
        }
    }
}

/// The methods that the proto has, so that a new RPC has its metrics by being there.
fn methods(families: &Families) -> Arc<[Arc<Method>]> {
    let mut methods = Vec::new();
    for service in proto::services() {
        for method in &service.methods {
            let name = format!("{}/{}", service.name, method.name());
            let kind = match (method.client_streaming(), method.server_streaming()) {
                (false, false) => "unary",
                (true, false) => "client_stream",
                (false, true) => "server_stream",
                (true, true) => "bidi_stream",
            };
            let handles = families.method(name.into(), &service.name, method.name(), kind);
            handles.expect(effect(method));
            methods.push(Arc::new(handles));
        }
    }
    methods.into()
}

/// What a method does, as far as the table of failures tells it apart.
fn effect(method: &MethodDescriptorProto) -> Effect {
    let options = method.options.as_ref();
    match options.map(MethodOptions::idempotency_level) {
        Some(IdempotencyLevel::Idempotent) => Effect::Updates,
        Some(IdempotencyLevel::NoSideEffects | IdempotencyLevel::IdempotencyUnknown) | None => {
            Effect::Creates
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name() {
        for (number, (_, name)) in (0..).zip(CODES) {
            assert_eq!(code_name(Code::from_i32(number)), name);
        }
        assert_eq!(code_name(Code::Unauthenticated), "UNAUTHENTICATED");
    }

    #[test]
    fn refusals_are_numbered_in_their_order() {
        for (number, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, number, "{refusal:?}");
        }
    }

    #[test]
    fn a_method_that_is_not_ours_is_other() {
        let calls = Calls::new(&mut Registry::default());
        for path in [
            "/onboardflow.customer.v1.CustomerService/DropCustomer",
            "/",
            "",
        ] {
            assert_eq!(calls.method(path).name, OTHER);
        }
        let path = "/onboardflow.customer.v1.CustomerService/CreateCustomer";
        assert_eq!(calls.method(path).name, path[1..]);
    }
}
