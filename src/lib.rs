//! `onboardflow-gateway`: gRPC in front of OnboardFlow's Customers REST API.
//!
//! The path of a request, file by file:
//!
//! 1. [`server`] accepts connections, and passes each call through the inbound stack: access log,
//!    rescue, limit, deadline.
//! 2. [`service`] takes it from tonic, one line an RPC.
//! 3. [`translate`] makes a [`rest::Call`] of the request message. Pure.
//! 4. [`upstream`] sends it with an API key, and brings back a [`rest::Reply`].
//! 5. [`translate`] reads the event in the reply. Pure.
//! 6. [`error`] holds the table of what a caller is told when one of these fails.
//!
//! Beside the path: [`proto`] is what `build.rs` makes of `proto/`, [`config`] reads flags and environment, [`pem`] reads the files of TLS,
//! [`port`] opens the ports that they name, [`callers`] holds the rules on who may do what, [`reload`] reads files again that change, [`context`] is what travels with a call,
//! [`codec`] reads and writes messages,
//! [`telemetry`] is what an operator sees of it, [`admin`] the port where that is asked for,
//! [`ledger`] remembers writes that name themselves, [`sandbox`] emulates OnboardFlow, [`healthcheck`] asks a running gateway for its health,
//! [`import`] sends it the rows of files.

pub mod admin;
pub mod callers;
pub mod codec;
pub mod config;
pub mod context;
pub mod error;
mod files;
pub mod healthcheck;
pub mod import;
mod jwks;
pub mod ledger;
pub mod pem;
pub mod port;
pub mod proto;
pub mod reload;
pub mod rest;
pub mod sandbox;
pub mod server;
pub mod service;
pub mod telemetry;
pub mod translate;
pub mod upstream;
