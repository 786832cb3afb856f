//! A call's place in a trace, as it travels with the call. What is made of it stands in
//! [`crate::telemetry`].

use std::{fmt, sync::Arc};

use http::HeaderValue;
use opentelemetry::{Context as Scope, trace::TraceContextExt as _};
use opentelemetry_sdk::trace::SdkTracer;

/// A call's place in a trace.
#[derive(Clone, Debug, Default)]
pub enum Trace {
    /// Nobody traces it.
    #[default]
    None,
    /// Its caller traces it: OnboardFlow is told, and no span is made here.
    Passed(Arc<Passed>),
    /// It has a span.
    Recorded(Recorded),
}

/// A caller's trace context, as it came.
#[derive(Debug)]
pub struct Passed {
    pub(crate) parent: HeaderValue,
    pub(crate) state: Option<HeaderValue>,
}

/// A span under way.
#[derive(Clone)]
pub struct Recorded {
    pub(crate) tracer: SdkTracer,
    pub(crate) scope: Scope,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorded").finish_non_exhaustive()
    }
}

impl Trace {
    /// The trace's id, for the log.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::None => None,
            Self::Passed(passed) => Some(passed.parent.to_str().ok()?.get(3..35)?.to_owned()),
            Self::Recorded(recorded) => {
                Some(recorded.scope.span().span_context().trace_id().to_string())
            }
        }
    }
}
