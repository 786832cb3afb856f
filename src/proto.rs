//! The messages and services, as `build.rs` makes them from `proto/`, and what their descriptors say.
//!
//! Whoever serves, counts or describes methods reads the descriptors, and so names no resource.

#![allow(
    clippy::pedantic,
    missing_docs,
    reason = "generated, for the most part"
)]

use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};

include!(concat!(env!("OUT_DIR"), "/packages.rs"));

pub use self::onboardflow::customer::v1::*;

/// The descriptors of every package and of all that they import, comments included.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// A service of the proto.
#[derive(Debug)]
pub struct Service {
    /// Full name, as in `onboardflow.customer.v1.CustomerService`.
    pub name: String,
    /// Its methods, in the order of the proto.
    pub methods: Vec<MethodDescriptorProto>,
}

/// Every service of the proto.
pub fn services() -> Vec<Service> {
    // The descriptors are the build's own; without them there would be no code to serve either.
    let descriptors = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let files = descriptors.file.into_iter();
    files
        .flat_map(|file| {
            let package = file.package.unwrap_or_default();
            file.service.into_iter().map(move |service| Service {
                name: format!("{package}.{}", service.name.unwrap_or_default()),
                methods: service.method,
            })
        })
        .collect()
}

/// The full names of all services.
pub fn service_names() -> Vec<String> {
    services().into_iter().map(|service| service.name).collect()
}
