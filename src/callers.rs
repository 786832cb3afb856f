//! Who may do what: the names of callers, and the rules about them. Pure; what identifies a caller stands in
//! [`crate::server`].
//!
//! A call meets the rules at three places: at the door, where a caller that isn't listed is refused
//! ([`Rules::admit`]), once its site and method are known ([`Caller::may`]), and where the day's calls are
//! counted ([`Caller::allotment`]).

mod check;
mod pattern;
mod rules;
mod share;

pub use self::{
    check::{Answer, Question},
    pattern::Pattern,
    rules::{Caller, Entry, Rules},
    share::{Allotment, Counts, Owner, Spent},
};

/// What a name is, and so what vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameKind {
    /// A DNS name in a certificate.
    Dns,
    /// A URI in a certificate.
    Uri,
    /// The subject of a token.
    Subject,
}

/// A caller's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name {
    /// What it is.
    pub kind: NameKind,
    /// How it reads.
    pub text: String,
}
