//! Opens the ports that flags name, and says by its flag which one can't be opened.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::error::Source;

/// Listens on the address that a flag names.
pub async fn open(flag: &'static str, address: SocketAddr) -> Result<TcpListener, Source> {
    let opened = TcpListener::bind(address).await;
    opened.map_err(|error| {
        let problem = format!("--{flag}: can't listen on {address}");
        let problem = match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "{problem}: another program uses this port. Stop it, or give --{flag} another address"
            ),
            _ => format!("{problem}: {error}"),
        };
        problem.into()
    })
}
