//! An HTTP/1.1 client for the admin port: one request a connection.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Status and body of the answer.
pub async fn http(method: &str, address: SocketAddr, path: &str, body: &str) -> (u16, String) {
    let host = format!("host: {address}\r\n");
    http_with(&host, method, address, path, body).await
}

/// The same, with these header lines.
pub async fn http_with(
    headers: &str,
    method: &str,
    address: SocketAddr,
    path: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.parse().unwrap(), body.to_owned())
}
