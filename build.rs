//! Compiles everything under `proto/` to Rust with protox, so that no machine needs protoc, and keeps
//! the descriptors of all of it, comments included: reflection, health and metrics read them.
//!
//! Names no file and no package: a resource appears by lying there.

use std::{
    env,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
};

const ROOT: &str = "proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={ROOT}");

    let mut compiler = protox::Compiler::new([ROOT])?;
    compiler.include_source_info(true).include_imports(true);
    for file in protos(Path::new(ROOT))? {
        compiler.open_file(file)?;
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is how cargo tells a build script where to write"
    )]
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(
        out_dir.join("descriptors.binpb"),
        compiler.encode_file_descriptor_set(),
    )?;

    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::Protobuf")
        .include_file("packages.rs")
        // A response holds its event and nothing else, and is moved a dozen times on its way out.
        .boxed("event")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}

/// Every proto below a folder, in the order of their names.
fn protos(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.append(&mut protos(&path)?);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
