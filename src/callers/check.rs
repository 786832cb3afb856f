//! `onboardflow-gateway callers check`: what a file means, before a gateway reads it.

use std::fmt;

use super::{Entry, Name, Rules};

/// What is asked about a file.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who would call.
    pub caller: Name,
    /// The site that it would use, or any.
    pub site: Option<String>,
    /// The method, or any.
    pub method: Option<String>,
}

/// What a file says to it.
#[derive(Debug)]
pub enum Answer<'a> {
    /// It may.
    Allowed(&'a Entry),
    /// It may call, but not so.
    NotThis(&'a Entry),
    /// No entry is for this caller.
    NotListed,
}

impl Rules {
    /// What the rules say to this question.
    pub fn answer(&self, question: &Question) -> Answer<'_> {
        let Some(entry) = self.entry(&question.caller) else {
            return Answer::NotListed;
        };
        let (method, site) = (question.method.as_ref(), question.site.as_ref());
        let may_call = method.is_none_or(|method| entry.may_call(method));
        if may_call && site.is_none_or(|site| entry.may_use(site)) {
            Answer::Allowed(entry)
        } else {
            Answer::NotThis(entry)
        }
    }
}

impl Answer<'_> {
    /// Whether the caller may.
    pub fn is_yes(&self) -> bool {
        matches!(self, Self::Allowed(_))
    }
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed(entry) => write!(f, "allowed, by the entry\n{entry}"),
            Self::NotThis(entry) => write!(f, "refused, by the entry\n{entry}"),
            Self::NotListed => writeln!(f, "refused: no entry is for this caller"),
        }
    }
}
