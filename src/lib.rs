//! `onboardflow-gateway`: gRPC in front of OnboardFlow's Customers REST API.
//!
//! The path of a request, file by file:
//!
//! 1. [`server`] accepts connections, and passes each call through the inbound stack: access log,
//!    rescue, deadline, limit.
//! 2. [`service`] takes it from tonic, one line per RPC.
//! 3. [`translate`] makes a [`rest::Call`] of the request message. Pure.
//! 4. [`upstream`] sends it with an API key, and brings back a [`rest::Reply`].
//! 5. [`translate`] reads the event in the reply. Pure.
//! 6. [`error`] holds the table of what a caller is told when one of these fails.
//!
//! Beside the path:
//!
//! - What is configured: [`config`] reads flags and environment, [`pem`] the files of TLS, [`port`] opens
//!   the ports, [`reload`] reads files again that change.
//! - What travels with a call: [`context`]. [`codec`] reads and writes its messages, and [`proto`] is what
//!   `build.rs` makes of `proto/`.
//! - Who may call: [`callers`].
//! - What is remembered: [`ledger`], the writes that have a `request_id`.
//! - What an operator sees: [`telemetry`], and [`admin`], the port where it is asked for.
//! - Other commands: [`sandbox`] emulates OnboardFlow, [`healthcheck`] asks a running gateway for its
//!   health, [`import`] sends it the rows of files.

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
