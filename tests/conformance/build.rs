//! Compiles the suite's protos, which come with its Go module; `scripts/check-conformance` says where that is.

use std::{env, error::Error};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-env-changed=CONFORMANCE_PROTOS");
    let root = env::var("CONFORMANCE_PROTOS")
        .map_err(|_| "CONFORMANCE_PROTOS is not set; scripts/check-conformance sets it")?;
    let protos =
        ["service", "server_compat"].map(|name| format!("connectrpc/conformance/v1/{name}.proto"));
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .generate_default_stubs(true)
        .compile_fds(protox::compile(protos, [root])?)?;
    Ok(())
}
