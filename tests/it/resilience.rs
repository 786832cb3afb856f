//! What callers are told when the upstream misbehaves, and whether it is true.

mod connections;
mod faults;
mod guards;
mod http2;
mod warm;
