//! The gateway from outside: real sockets, a scripted upstream, a real gRPC client. One binary, so
//! that it is linked once.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod arrival;
mod callers;
mod connections;
mod contract;
mod crash;
mod documents;
mod drain;
mod flags;
mod import;
mod ledger;
mod limits;
mod program;
mod resilience;
mod rotation;
mod support;
mod telemetry;
mod tls;
mod way_out;
