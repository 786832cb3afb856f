//! Compiles the gateway's proto once more, with what tonic makes of it by default: the textbook
//! gateway is to have nothing that the real one adds, and the load needs no more than messages.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let files = protox::compile(["onboardflow/customer/v1/customer.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .generate_default_stubs(true)
        .compile_fds(files)?;
    Ok(())
}
