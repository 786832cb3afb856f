//! What became of a write, as callers are told it, and what of it left, as evidence has it. Knows
//! no failure.

/// What became of the write, so that a caller can decide on a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing left the gateway.
    NotSent,
    /// OnboardFlow refused it.
    Rejected,
    /// Sent, fate not known.
    Unknown,
    /// Taken, but the reply could not be read.
    Applied,
}

impl Write {
    /// The value under `write` in the metadata of `google.rpc.ErrorInfo`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Rejected => "rejected",
            Self::Unknown => "unknown",
            Self::Applied => "applied",
        }
    }
}

/// Whether any byte of the request can have reached OnboardFlow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// None can have.
    No,
    /// Some may have.
    Maybe,
}

impl Sent {
    /// What can be said of the write.
    pub fn write(self) -> Write {
        match self {
            Self::No => Write::NotSent,
            Self::Maybe => Write::Unknown,
        }
    }
}
