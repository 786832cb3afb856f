//! The emulated OnboardFlow as a client on a socket sees it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod refusals;
mod subscriptions;
mod test_sites;
mod tracked;
mod writes;

use std::{fmt::Write as _, io, net::Ipv4Addr, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use super::OnboardFlow;

const KEY: &str = "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b";

/// The request of the worked example, byte for byte.
const EXAMPLE: &str = r#"{"site_key":"f37F2PPh","event_date":1583020800,"user_id":"user_123XYZ","customer_id":"cus_123XYZ","customer_first_name":"Joe","customer_has_payment_method":true,"customer_email":"test@onboardflow.com"}"#;

/// An API under test, and the means to stop it.
struct Running {
    api: OnboardFlow,
    port: u16,
    stop: oneshot::Sender<()>,
    served: JoinHandle<io::Result<()>>,
}

impl Running {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let api = OnboardFlow::new(SecretString::from(KEY));
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            let _ = stopped.await;
        };
        let served = tokio::spawn(api.clone().serve(listener, shutdown));
        Self {
            api,
            port,
            stop,
            served,
        }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).await;
        Client(BufReader::new(stream.unwrap()))
    }

    /// Sends one request on a connection of its own.
    async fn call(&self, request: &Call) -> Answered {
        let mut client = self.connect().await;
        client.send(request).await;
        client.answer().await.unwrap()
    }

    /// Stops it, and fails where it panicked or did not stop in time.
    async fn stop(self) {
        self.stop.send(()).unwrap();
        let served = timeout(Duration::from_secs(20), self.served).await;
        served.unwrap().unwrap().unwrap();
    }
}

/// A request that is right in everything until a test says otherwise.
struct Call {
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Call {
    fn new(method: &'static str, body: &(impl ToString + ?Sized)) -> Self {
        let authorization = format!("Token {KEY}");
        Self {
            method,
            path: "/api/v1/customer/",
            headers: vec![
                ("host", "gateway.onboardflow.com".into()),
                ("authorization", authorization),
                ("content-type", "application/json".into()),
            ],
            body: body.to_string(),
        }
    }

    /// The worked example with some of its fields replaced; `null` takes one out.
    fn with_fields(method: &'static str, fields: &Value) -> Self {
        let mut document: Value = serde_json::from_str(EXAMPLE).unwrap();
        for (name, value) in fields.as_object().unwrap() {
            document[name] = value.clone();
        }
        document
            .as_object_mut()
            .unwrap()
            .retain(|_, v| !v.is_null());
        Self::new(method, &document)
    }

    fn at(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    fn without(mut self, name: &'static str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self
    }

    fn with(self, name: &'static str, value: &str) -> Self {
        let mut call = self.without(name);
        call.headers.push((name, value.into()));
        call
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        write!(text, "content-length: {}\r\n\r\n", self.body.len()).unwrap();
        text.push_str(&self.body);
        text.into_bytes()
    }
}

/// One connection to the API, kept alive as long as the API does.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn send(&mut self, request: &Call) {
        self.0.write_all(&request.to_bytes()).await.unwrap();
    }

    /// The next answer; nothing where the connection was closed instead.
    async fn answer(&mut self) -> Option<Answered> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head).await.unwrap() == 0 {
                assert_eq!(head, "", "an answer cut off in its head");
                return None;
            }
        }
        let mut lines = head.trim_end().lines();
        let status_line = lines.next().unwrap();
        let headers = lines.map(|line| line.split_once(": ").unwrap());
        let headers: Vec<_> = headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let mut answered = Answered {
            status: status_line.split(' ').nth(1).unwrap().parse().unwrap(),
            headers,
            body: Vec::new(),
        };
        // Only a 204 has none.
        let length = answered.header("content-length").unwrap_or("0");
        let length = length.parse().unwrap();
        answered.body.resize(length, 0);
        self.0.read_exact(&mut answered.body).await.unwrap();
        Some(answered)
    }
}

/// An answer as the client read it.
#[derive(Debug)]
struct Answered {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Fails unless this is the framework's error of this status and these words.
    #[track_caller]
    fn assert_detail(&self, status: u16, detail: &str) {
        assert_eq!(
            (self.status, self.json()),
            (status, json!({ "detail": detail }))
        );
    }
}
