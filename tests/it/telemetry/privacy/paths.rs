//! Every way that a call can go.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp, jwk::Jwk};
use onboardflow_gateway::proto::{
    CreateCustomerRequest, CreateCustomerResponse, customer_service_client::CustomerServiceClient,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Request, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

use super::{
    HIDDEN, KEY, check, hidden,
    program::{Program, Shown},
    quoting, request, update,
};
use crate::support::{Upstream, certificates::Secret, eventually, nobody, response};

/// The next answer is the one that the number of requests so far names.
fn answers() -> Vec<Vec<u8>> {
    let ok = quoting(true);
    let mut answers = vec![
        response(200, &[], &ok),
        response(200, &[], &quoting(false)),
        response(200, &[], &ok[..ok.len() / 2]),
        response(200, &[], &format!("<html>{}</html>", hidden("html"))),
        b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{\"success\":true,\"x\":\"unm1stakable\""
            .to_vec(),
        b"unm1stakable garbage\r\n\r\n".to_vec(),
        Vec::new(),
    ];
    let location = hidden("location");
    for status in [
        301, 400, 401, 403, 404, 405, 408, 409, 412, 422, 429, 500, 501, 502, 503, 504,
    ] {
        answers.push(response(
            status,
            &[("location", &location), ("x-echo", KEY)],
            &quoting(false),
        ));
    }
    answers
}

/// Requests that can't be served.
async fn refused(channel: &Channel) {
    let mut client = CustomerServiceClient::new(channel.clone());
    let mut bad = request();
    bad.customer.as_mut().unwrap().email = String::new();
    bad.customer.as_mut().unwrap().image_url = Some(hidden("no url"));
    check(&client.create_customer(bad).await.unwrap_err());

    let mut large = request();
    large.customer.as_mut().unwrap().first_name = Some(HIDDEN.repeat(10_000));
    check(&client.create_customer(large).await.unwrap_err());

    let mut odd = Request::new(request());
    let metadata = odd.metadata_mut();
    metadata.insert("grpc-timeout", hidden("timeout").parse().unwrap());
    metadata.insert("authorization", KEY.parse().unwrap());
    metadata.insert("x-anything", KEY.parse().unwrap());
    metadata.insert("traceparent", hidden("trace").parse().unwrap());
    metadata.insert("tracestate", hidden("state").parse().unwrap());
    metadata.insert("baggage", hidden("baggage").parse().unwrap());
    check(&client.create_customer(odd).await.unwrap_err());

    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = format!(
        "/onboardflow.customer.v1.CustomerService/{}",
        hidden("method")
    );
    let codec = ProstCodec::<CreateCustomerRequest, CreateCustomerResponse>::default();
    let answer = grpc
        .unary(Request::new(request()), path.parse().unwrap(), codec)
        .await;
    check(&answer.unwrap_err());
}

/// What the upstream says to each request; nothing for ever where there is nothing left.
type Script = Arc<Mutex<Vec<Vec<u8>>>>;

async fn upstream(script: Script) -> Upstream {
    Upstream::with(move |mut stream| {
        let answer = script.lock().unwrap().pop();
        async move {
            match answer {
                Some(answer) => {
                    let _ = stream.write_all(&answer).await;
                    let _ = stream.shutdown().await;
                }
                None => {
                    let _ = stream.read_u8().await;
                }
            }
        }
    })
    .await
}

/// Calls that OnboardFlow answers, in every way.
async fn answered(client: &mut CustomerServiceClient<Channel>, script: &Script) {
    for answer in answers() {
        // A retry may ask more than once.
        *script.lock().unwrap() = vec![answer; 6];
        if let Err(status) = client.create_customer(request()).await {
            check(&status);
        }
        if let Err(status) = client.update_customer(update()).await {
            check(&status);
        }
        // A success between failures keeps the circuit closed. After a 503 the gateway answers by itself
        // for a second.
        *script.lock().unwrap() = vec![response(200, &[], &quoting(true))];
        let started = tokio::time::Instant::now();
        while let Err(status) = client.create_customer(request()).await {
            check(&status);
            assert!(started.elapsed() < Duration::from_secs(30), "{status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    script.lock().unwrap().clear();
    // No answer: once until the deadline, and once until the caller goes.
    check(&client.create_customer(request()).await.unwrap_err());
    let gone = client.create_customer(request());
    tokio::time::timeout(Duration::from_millis(100), gone)
        .await
        .unwrap_err();
}

/// A gateway whose key is its own, and the metrics that it leaves.
pub(super) async fn own_key(collector: &Upstream) -> String {
    let script = Script::default();
    let upstream = upstream(Arc::clone(&script)).await;
    let key = [("ONBOARDFLOW_TOKEN", KEY)];
    let gateway = Program::start(upstream.url().as_str(), collector, &[], &key).await;
    let channel = gateway.channel().await;
    refused(&channel).await;
    answered(&mut CustomerServiceClient::new(channel), &script).await;
    gateway.gave_up().await;
    gateway.end().await.metrics
}

/// A call with this in its `authorization`.
fn with_authorization(authorization: &str) -> Request<CreateCustomerRequest> {
    let mut request = Request::new(request());
    let authorization = authorization.parse().unwrap();
    let metadata = request.metadata_mut();
    metadata.insert("authorization", authorization);
    request
}

/// One where callers have to name themselves, sites have keys of their own and few calls a day, and
/// one call at a time is let in.
pub(super) async fn guarded(collector: &Upstream) -> String {
    let signer = EncodingKey::from_ec_der(&rcgen::KeyPair::generate().unwrap().serialize_der());
    let jwk = Jwk::from_encoding_key(&signer, Algorithm::ES256).unwrap();
    let token = |subject: &str| {
        let expires = get_current_timestamp() + 600;
        let claims = json!({ "iss": "i", "aud": "a", "sub": subject, "exp": expires });
        encode(&Header::new(Algorithm::ES256), &claims, &signer).unwrap()
    };
    let call = |token: &str| with_authorization(&format!("Bearer {token}"));
    let web = token("web");
    let files = Secret::new(&[
        ("jwks", &json!({ "keys": [jwk] }).to_string()),
        ("sites", &format!("{} = \"{KEY}\"", hidden("site"))),
    ]);
    let flags = [
        format!("--jwks-file={}", files.path("jwks").display()),
        format!("--site-tokens-file={}", files.path("sites").display()),
    ];
    let flags: Vec<_> = (flags.iter().map(String::as_str))
        .chain(["--jwt-issuer=i", "--jwt-audience=a", "--allow-caller=web"])
        .chain(["--daily-quota=2", "--max-in-flight=1"])
        .collect();
    let script = Script::default();
    let upstream = upstream(Arc::clone(&script)).await;
    let gateway = Program::start(upstream.url().as_str(), collector, &flags, &[]).await;
    let mut client = CustomerServiceClient::new(gateway.channel().await);

    check(&client.create_customer(request()).await.unwrap_err());
    let nonsense = with_authorization(&format!("Bearer {}", hidden("token")));
    check(&client.create_customer(nonsense).await.unwrap_err());
    // Longer than a line shows, and with what would begin another one.
    let subject = format!("a-stranger\n{}", "x".repeat(600));
    let stranger = token(&subject);
    let status = client.create_customer(call(&stranger)).await.unwrap_err();
    check(&status);
    assert!(!format!("{status:?}").contains("a-stranger"), "{status:?}");

    let mut first = client.clone();
    let first = tokio::spawn({
        let request = call(&web);
        async move { first.create_customer(request).await.map(drop) }
    });
    let arrived = || (!upstream.received().is_empty()).then_some(());
    eventually("the first call at OnboardFlow", arrived).await;
    check(&client.create_customer(call(&web)).await.unwrap_err());
    check(&first.await.unwrap().unwrap_err());

    *script.lock().unwrap() = vec![response(200, &[], &quoting(true))];
    client.create_customer(call(&web)).await.unwrap();
    check(&client.create_customer(call(&web)).await.unwrap_err());
    let Shown { metrics, log } = gateway.end().await;
    names_strangers_and_shows_no_token(&log, &[&stranger, &web]);
    metrics
}

/// Operators have to know whom the rules refuse: a name that is proven is in the log, and never what proves it.
fn names_strangers_and_shows_no_token(log: &str, tokens: &[&str]) {
    let events = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let refused: Vec<_> = events
        .filter(|event| event["reason"] == "CALLER_NOT_ALLOWED")
        .collect();
    assert_eq!(refused.len(), 1, "{log}");
    let name = refused[0]["caller"].as_str().unwrap();
    assert!(name.starts_with(r"a-stranger\u{a}xxx"), "{name}");
    assert!(name.ends_with("x…") && name.len() < 520, "{name}");
    assert!(
        refused[0]["peer"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:")
    );
    for part in tokens.iter().flat_map(|token| token.split('.')) {
        assert!(!log.contains(part), "{log}");
    }
}

/// One whose callers bring their keys, in front of nobody, until the circuit opens.
pub(super) async fn unreachable(collector: &Upstream) -> String {
    let flags = ["--credentials=caller", "--max-attempts=1"];
    let gateway = Program::start(nobody().await.as_str(), collector, &flags, &[]).await;
    let mut client = CustomerServiceClient::new(gateway.channel().await);
    check(&client.create_customer(request()).await.unwrap_err());
    for _ in 0..12 {
        let own = with_authorization(&format!("Token {KEY}"));
        check(&client.create_customer(own).await.unwrap_err());
    }
    gateway.end().await.metrics
}
