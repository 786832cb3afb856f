//! Compiles the proto to Rust with protox, so that no machine needs protoc, and keeps the descriptor set, comments
//! included, for reflection.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO: &str = "proto/onboardflow/customer/v1/customer.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file(PROTO.trim_start_matches("proto/"))?;

    #[expect(
        clippy::disallowed_methods,
        reason = "this is how cargo tells a build script where to write"
    )]
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("customer.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;

    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Protobuf")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
