//! Envoy with `grpc_json_reverse_transcoder`, which is what it has for gRPC in front of REST. It maps
//! field by field, so its messages mirror the JSON, and nothing is checked.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::{Value, json};

use crate::Fallible;

/// The messages.
#[allow(clippy::pedantic, unreachable_pub, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("roundtrip.mirrored.v1");
}

/// The same, as Envoy reads them.
const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mirrored.pb"));

/// The binary, where `scripts/tools` has installed it.
pub(crate) fn binary() -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/bin/envoy");
    file.exists().then_some(file)
}

/// Runs it with as many workers as there are CPUs, as the others have.
pub(crate) fn command(
    binary: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    folder: &Path,
) -> Fallible<Command> {
    let (descriptors, file) = (folder.join("mirrored.pb"), folder.join("envoy.json"));
    fs::write(&descriptors, DESCRIPTORS)?;
    fs::write(
        &file,
        configuration(listen, upstream, &descriptors).to_string(),
    )?;
    let mut command = Command::new(binary);
    command
        .args([
            "--use-dynamic-base-id",
            "--log-level",
            "warning",
            "--concurrency",
        ])
        .arg(thread::available_parallelism()?.to_string())
        .arg("-c")
        .arg(file);
    Ok(command)
}

fn configuration(listen: SocketAddr, upstream: SocketAddr, descriptors: &Path) -> Value {
    let transcoder = filter(
        "grpc_json_reverse_transcoder",
        "GrpcJsonReverseTranscoder",
        &json!({"descriptor_path": descriptors}),
    );
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "calls",
        "codec_type": "HTTP2",
        "generate_request_id": false,
        "route_config": {"virtual_hosts": [{
            "name": "rest",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "rest"}}],
        }]},
        "http_filters": [transcoder, filter("router", "Router", &json!({}))],
    });
    json!({"static_resources": {
        "listeners": [{
            "name": "calls",
            "address": address(listen),
            "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager},
            ]}],
        }],
        "clusters": [{
            "name": "rest",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "rest", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(upstream)}}]},
            ]},
        }],
    }})
}

fn filter(name: &str, message: &str, config: &Value) -> Value {
    let mut config = config.clone();
    config["@type"] =
        format!("type.googleapis.com/envoy.extensions.filters.http.{name}.v3.{message}").into();
    json!({"name": format!("envoy.filters.http.{name}"), "typed_config": config})
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}
