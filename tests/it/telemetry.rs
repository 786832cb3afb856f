//! What an operator sees: metrics, traces, the log and the admin port. And what nobody does.

mod admin;
mod metrics;
mod monitoring;
mod operator;
mod otlp;
mod privacy;
mod traces;
