//! Opens the ports that flags name, and says by its flag which one can't be opened.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

/// A port that can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum CantListen {
    /// Another program has it.
    #[error(
        "--{flag}: can't listen on {address}: another program uses this port. Stop it, or give \
         --{flag} another address"
    )]
    Taken {
        /// The flag that names the port, without its dashes.
        flag: &'static str,
        /// What the flag says.
        address: SocketAddr,
    },
    /// The system refuses for another reason.
    #[error("--{flag}: can't listen on {address}: {error}")]
    Refused {
        /// The flag that names the port, without its dashes.
        flag: &'static str,
        /// What the flag says.
        address: SocketAddr,
        /// What the system says.
        error: io::Error,
    },
}

/// Listens on the address that a flag names.
pub async fn open(flag: &'static str, address: SocketAddr) -> Result<TcpListener, CantListen> {
    let opened = TcpListener::bind(address).await;
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => CantListen::Taken { flag, address },
        _ => CantListen::Refused {
            flag,
            address,
            error,
        },
    })
}
