//! Compiles the proto to Rust with protox, so that no machine needs protoc, and keeps its descriptors for `--json`.

use std::{env, error::Error, fs, path::PathBuf};

const PROTOS: [&str; 3] = [
    "onboardflow/customer/v1/customer.proto",
    "onboardflow/event/v1/event.proto",
    "onboardflow/subscription/v1/subscription.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../../proto");
    let files = protox::compile(PROTOS, ["../../proto"])?;

    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("descriptors.binpb"),
        prost::Message::encode_to_vec(&files),
    )?;

    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .build_server(false)
        .compile_fds_with_config(files, config)?;
    Ok(())
}
