//! A gRPC gateway in front of OnboardFlow's Customers REST API.
pub mod config;
pub mod error;
pub mod rest;
pub mod translate;

/// The messages and the service, as `build.rs` makes them from `proto/`.
#[expect(missing_docs, clippy::pedantic, unreachable_pub, reason = "generated")]
pub mod proto {
    tonic::include_proto!("onboardflow.customer.v1");

    /// The descriptors of the package and of all that it imports, comments included.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/customer.binpb"));
}
