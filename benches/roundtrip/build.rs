//! Compiles the gateway's proto once more, with what tonic makes of it by default: the textbook
//! gateway is to have nothing that the real one adds, and the load needs no more than messages. And
//! the proto that Envoy needs, as messages and as the descriptors that it reads.

use std::{env, error::Error, fs, path::Path};

use prost::Message as _;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["onboardflow/customer/v1/customer.proto"], ["../../proto"])?;
    tonic_prost_build::configure()
        .build_client(false)
        .generate_default_stubs(true)
        .compile_fds(files)?;
    // prost drops the options that it doesn't know, and with them the mapping onto HTTP.
    let mirrored = protox::Compiler::new(["proto"])?
        .include_imports(true)
        .open_file("mirrored.proto")?
        .encode_file_descriptor_set();
    fs::write(
        Path::new(&env::var("OUT_DIR")?).join("mirrored.pb"),
        &mirrored,
    )?;
    let files = prost_types::FileDescriptorSet::decode(&*mirrored)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
