//! Failures, and the one place where they become a [`tonic::Status`].
//!
//! An [`Error`] has two sides. The public one (kind, text, violations) is for the caller and never
//! holds a secret, customer data, upstream HTML or a chain of sources; the source is for the log.
//! Errors travel inside the gateway as they are, or as the source of a bare status where tonic
//! stands between; the rescue layer gives them their details once the request id is known.

mod details;
mod kind;
mod table;
mod write;

use std::{
    borrow::Cow,
    error::Error as StdError,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::StatusCode;
use tonic::Status;

pub use self::{
    details::DOMAIN,
    kind::{Answer, Earlier, Kind, Loss, Refusal},
    table::Row,
    write::{Sent, Write},
};

/// A cause, for the log alone.
pub type Source = Box<dyn StdError + Send + Sync>;

/// A failed call.
#[derive(Debug)]
pub struct Error {
    /// What happened.
    pub kind: Kind,
    /// What OnboardFlow or the rule that was broken says, besides what the kind does.
    pub says: Option<Cow<'static, str>>,
    /// The fields that are at fault.
    pub violations: Vec<Violation>,
    /// When it makes sense to try again.
    pub retry_after: Option<Duration>,
    /// What OnboardFlow answered with.
    pub http_status: Option<StatusCode>,
    /// When the write was first tried, where an earlier call stands in the way.
    pub first_attempt: Option<SystemTime>,
    /// Whether an attempt before the one that is told of may have been taken.
    pub earlier: Sent,
    /// The cause, for the log alone.
    pub source: Option<Source>,
}

/// A field at fault.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// Path of the field from the request message on, such as `customer.email`.
    pub field: String,
    /// What is wrong with it, never its value.
    pub description: Cow<'static, str>,
}

impl Violation {
    /// A violation of the rule that `description` states.
    pub fn new(field: impl Into<String>, description: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

impl Error {
    /// A failure of this kind.
    pub fn new(kind: impl Into<Kind>) -> Self {
        Self {
            kind: kind.into(),
            says: None,
            violations: Vec::new(),
            retry_after: None,
            http_status: None,
            first_attempt: None,
            earlier: Sent::No,
            source: None,
        }
    }

    /// A request that breaks these rules.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..Self::new(Refusal::InvalidRequest)
        }
    }

    /// With a cause, for the log alone.
    #[must_use]
    pub fn because(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// With words of the gateway's own that say more than the kind does.
    #[must_use]
    pub fn saying(mut self, says: impl Into<Cow<'static, str>>) -> Self {
        self.says = Some(says.into());
        self
    }

    /// With what OnboardFlow answered.
    #[must_use]
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.http_status = Some(status);
        self
    }

    /// With the time after which it makes sense to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// After attempts that may have been taken.
    #[must_use]
    pub fn after(mut self, earlier: Sent) -> Self {
        self.earlier = earlier;
        self
    }

    /// What became of the write. That the last attempt was refused says nothing of one before it.
    pub fn write(&self) -> Write {
        match (self.kind.row().write, self.earlier) {
            (Write::NotSent | Write::Rejected, Sent::Maybe) => Write::Unknown,
            (write, _) => write,
        }
    }

    /// The error that a status carries.
    pub fn of_status(status: &Status) -> Option<&Self> {
        status.source()?.downcast_ref()
    }
}

/// What an operator reads in the log: what happened and why, without the caller's side.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.row().happened)?;
        if let (Kind::Refused(_), Some(says)) = (self.kind, &self.says) {
            // The gateway's own words. OnboardFlow's are for the caller alone.
            write!(f, ": {says}")?;
        }
        let mut cause = self.source.as_deref().map(|source| source as &dyn StdError);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {}

/// This error as the source of a bare status, to pass through tonic's service.
/// [`Error::of_status`] finds it again.
impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = Self::new(error.kind.row().code, error.kind.row().reason);
        status.set_source(Arc::new(error));
        status
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
