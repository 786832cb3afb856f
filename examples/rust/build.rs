//! Compiles the proto to Rust with protox, so that no machine needs protoc, and keeps its descriptors for `--json`.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let files = protox::compile(["onboardflow/customer/v1/customer.proto"], ["../../proto"])?;

    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("customer.binpb"),
        prost::Message::encode_to_vec(&files),
    )?;

    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
