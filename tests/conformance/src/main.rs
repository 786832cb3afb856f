//! A server for `connectconformance --mode server`: the suite's service on the gateway's listener, with its TLS, limits,
//! deadlines and rescue. `scripts/check-conformance` runs it.
//!
//! The runner writes a `ServerCompatRequest` to stdin, which says how to listen, reads from stdout where that is, and ends
//! the process when it is done.

mod service;

use std::{
    error::Error,
    io::{self, Read as _, Write as _},
    path::PathBuf,
    time::Duration,
};

use onboardflow_gateway::{
    config::{ServerConfig, TlsFiles},
    server::{self, Handles},
    telemetry::Telemetry,
};
use prost::Message;
use tempfile::TempDir;
use tokio::net::TcpListener;

use self::service::proto::{
    ServerCompatRequest, ServerCompatResponse, conformance_service_server::SERVICE_NAME,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let asked = ServerCompatRequest::decode(&*read_delimited()?)?;
    let files = tempfile::tempdir()?;
    let config = config(&asked, &files)?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let handles = Handles::new(&Telemetry::default(), [SERVICE_NAME.to_owned()]).await;
    let max_bytes = config.max_request_bytes;
    let services = move || service::services(max_bytes);
    let running = handles.clone();
    let served = tokio::spawn(async move {
        server::run(
            listener,
            std::future::pending(),
            services,
            &config,
            &running,
        )
        .await
    });
    while !handles.health.is_ready() && !served.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    write_delimited(&ServerCompatResponse {
        host: address.ip().to_string(),
        port: address.port().into(),
        pem_cert: asked
            .server_creds
            .map(|creds| creds.cert)
            .unwrap_or_default(),
    })?;
    Ok(served.await??)
}

fn config(asked: &ServerCompatRequest, files: &TempDir) -> io::Result<ServerConfig> {
    let write = |name: &str, pem: &[u8]| -> io::Result<PathBuf> {
        let path = files.path().join(name);
        std::fs::write(&path, pem)?;
        Ok(path)
    };
    let mut config = ServerConfig::default();
    if asked.message_receive_limit > 0 {
        config.max_request_bytes = asked.message_receive_limit as usize;
    }
    if let Some(creds) = &asked.server_creds {
        let authority = &asked.client_tls_cert;
        config.tls = Some(TlsFiles {
            cert: write("cert.pem", &creds.cert)?,
            key: write("key.pem", &creds.key)?,
            client_ca: (!authority.is_empty())
                .then(|| write("ca.pem", authority))
                .transpose()?,
        });
    }
    Ok(config)
}

/// A message of the runner: four bytes of length, in network order, stand before it.
fn read_delimited() -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io::stdin().read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    io::stdin().read_exact(&mut message)?;
    Ok(message)
}

fn write_delimited(message: &impl Message) -> Result<(), Box<dyn Error>> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len())?;
    let mut stdout = io::stdout();
    stdout.write_all(&length.to_be_bytes())?;
    stdout.write_all(&bytes)?;
    Ok(stdout.flush()?)
}
