//! A gRPC gateway in front of OnboardFlow's Customers REST API.
pub mod config;
pub mod context;
pub mod error;
pub mod rest;
pub mod server;
pub mod service;
pub mod translate;
pub mod upstream;

/// The messages and the service, as `build.rs` makes them from `proto/`.
#[allow(clippy::pedantic, reason = "generated")]
pub mod proto {
    tonic::include_proto!("onboardflow.customer.v1");

    /// The descriptors of the package and of all that it imports, comments included.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/customer.binpb"));
}
