//! Metrics of the REST calls that the gateway makes, and of what guards them. Knows no resource: paths are
//! templates that a call brings.

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{Method, StatusCode};
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use url::Url;

use super::{add, add_seconds, calls::Labels, histogram::Histogram, unknown_fields::UnknownFields};

/// What the circuit breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It lets them through.
    Closed,
    /// It lets some through, to see how they fare.
    HalfOpen,
    /// It refuses them.
    Open,
}

impl BreakerState {
    const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// Attempts at OnboardFlow, and what guards it.
#[derive(Clone, Debug, Default)]
pub struct UpstreamMetrics {
    duration: Family<Labels, Histogram>,
    in_flight: Gauge,
    retries: Family<[(&'static str, &'static str); 2], Counter>,
    breaker: Family<[(&'static str, &'static str); 1], Gauge>,
    unknown_fields: UnknownFields,
}

impl UpstreamMetrics {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let duration = add_seconds(
            registry,
            "http_client_request_duration",
            "How long attempts at OnboardFlow took",
        );
        let own = registry.sub_registry_with_prefix("onboardflow_gateway");
        let metrics = Self {
            duration,
            in_flight: add(
                own,
                "upstream_attempts_in_flight",
                "Attempts at OnboardFlow that are under way",
            ),
            retries: add(
                own,
                "upstream_retries",
                "Failed attempts that were considered for a retry, by cause and result",
            ),
            breaker: add(
                own,
                "circuit_breaker_state",
                "1 for the state that the circuit breaker is in",
            ),
            unknown_fields: UnknownFields::new(own),
        };
        metrics.breaker(BreakerState::Closed);
        metrics
    }

    /// The handles for attempts at this server.
    pub fn attempts(&self, server: &Url) -> Attempts {
        let address = server.host_str().unwrap_or_default().to_owned();
        let port = server.port_or_known_default().unwrap_or_default();
        let origin = server.origin().ascii_serialization();
        Attempts(Arc::new(Handles {
            answered: [const { OnceLock::new() }; HANDLES],
            url: format!("{origin}{}", server.path().trim_end_matches('/')),
            address,
            port: port.to_string(),
            duration: self.duration.clone(),
            in_flight: self.in_flight.clone(),
        }))
    }

    /// Counts a failed attempt that was considered for a retry: the reason of its failure, and
    /// what came of it.
    pub fn retried(&self, cause: &'static str, result: &'static str) {
        self.retries
            .get_or_create(&[("cause", cause), ("result", result)])
            .inc();
    }

    /// Notes the state that the circuit breaker is in from now on.
    pub fn breaker(&self, state: BreakerState) {
        for other in BreakerState::ALL {
            self.breaker
                .get_or_create(&[("state", other.name())])
                .set(i64::from(other == state));
        }
    }

    /// Whether a reply is to be asked for fields that the gateway doesn't know.
    pub fn samples_fields(&self) -> bool {
        self.unknown_fields.samples()
    }

    /// Counts a field of a reply that the gateway doesn't know.
    pub fn unknown_field(&self, path: &str) {
        self.unknown_fields.seen(path);
    }
}

/// The handles for attempts at one server.
#[derive(Clone, Debug)]
pub struct Attempts(Arc<Handles>);

/// How many kinds of answer have a histogram at hand. More are slower, and not wrong.
const HANDLES: usize = 64;

#[derive(Debug)]
struct Handles {
    /// In the order in which they first came.
    answered: [OnceLock<Answered>; HANDLES],
    /// The server's, without its query, which may hold a secret.
    url: String,
    address: String,
    port: String,
    duration: Family<Labels, Histogram>,
    in_flight: Gauge,
}

#[derive(Debug)]
struct Answered {
    target: Target,
    status: StatusCode,
    duration: Histogram,
}

/// What an attempt calls: its verb, and its path without what differs from call to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) method: Method,
    pub(super) template: &'static str,
}

impl Attempts {
    pub(super) fn begun(&self) {
        self.0.in_flight.inc();
    }

    /// Counts an attempt that was answered.
    pub(super) fn answered(&self, target: &Target, status: StatusCode, duration: Duration) {
        let handles = &*self.0;
        handles.in_flight.dec();
        let make = || Answered {
            target: target.clone(),
            status,
            duration: handles.histogram(target, status),
        };
        // The first free place becomes this one's, unless another worker was quicker.
        let known = handles
            .answered
            .iter()
            .map(|place| place.get_or_init(make))
            .find(|known| known.status == status && known.target == *target);
        match known {
            Some(known) => known.duration.observe(duration),
            None => handles.histogram(target, status).observe(duration),
        }
    }

    /// Counts an attempt without an answer.
    pub(super) fn lost(&self, target: &Target, error_type: &'static str, duration: Duration) {
        let handles = &*self.0;
        handles.in_flight.dec();
        let mut labels = handles.labels(target);
        labels.push(("error_type", error_type.into()));
        handles.duration.get_or_create(&labels).observe(duration);
    }

    /// URL, name and port of the server.
    pub(super) fn server(&self) -> [&str; 3] {
        [&self.0.url, &self.0.address, &self.0.port]
    }
}

impl Handles {
    fn histogram(&self, target: &Target, status: StatusCode) -> Histogram {
        let mut labels = self.labels(target);
        let code: Cow<_> = status.as_str().to_owned().into();
        if status.is_client_error() || status.is_server_error() {
            labels.push(("error_type", code.clone()));
        }
        labels.push(("http_response_status_code", code));
        self.duration.get_or_create_owned(&labels)
    }

    fn labels(&self, target: &Target) -> Labels {
        let method = target.method.as_str().to_owned();
        vec![
            ("http_request_method", method.into()),
            ("url_template", target.template.into()),
            ("server_address", self.address.clone().into()),
            ("server_port", self.port.clone().into()),
        ]
    }
}
