//! The commands that run until they are told to stop, or are done: one file each. They put the library's
//! parts together, and know no rule of their own.

pub(crate) mod import;
pub(crate) mod sandbox;
pub(crate) mod seen;
pub(crate) mod serve;
pub(crate) mod signals;
