//! Who may call: by certificate, by token, by both.

mod file;
mod issuer;
mod recipes;

use std::time::Duration;

use futures_util::stream;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, get_current_timestamp, jwk::JwkSet};
use onboardflow_gateway::{
    callers::Rules,
    config::{JwtConfig, KeySource, RulesConfig},
    proto::{CreateCustomerRequest, customer_service_client::CustomerServiceClient},
};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    support::{
        CREATED, Config, Gateway, Told, Upstream,
        certificates::{Authority, Secret},
        create_request, eventually, logs,
        tokens::{Signer, WEB, claims, claims_of, jwks, present},
        told,
    },
    tls::{NAME, connect, gateway_with, until},
};

fn refused(code: Code, reason: &str) -> Told {
    Told {
        code,
        reason: reason.to_owned(),
        write: "not_sent".to_owned(),
        http_status: None,
    }
}

fn unauthenticated() -> Told {
    refused(Code::Unauthenticated, "CALLER_UNAUTHENTICATED")
}

fn not_allowed() -> Told {
    refused(Code::PermissionDenied, "CALLER_NOT_ALLOWED")
}

fn allow(entries: &[&'static str]) -> RulesConfig {
    RulesConfig::Fixed(Rules::allowing(entries.iter().copied()).unwrap().into())
}

#[tokio::test]
async fn the_names_in_a_certificate_say_who_calls() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway_with(&secret, true, |config| {
        config.server.callers.rules = allow(&["spiffe://td/ns/prod/*", "billing.svc"]);
    })
    .await;
    for (names, expected) in [
        (&["spiffe://td/ns/prod/web"][..], None),
        (&["billing.svc"], None),
        (&["other.svc", "billing.svc"], None),
        (&["spiffe://td/ns/test/refused-san"], Some(not_allowed())),
        (&["web.billing.svc"], Some(not_allowed())),
        (&[], Some(unauthenticated())),
    ] {
        let leaf = ca.issue(names);
        let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
        let answer = client.create_customer(create_request()).await;
        assert_eq!(
            answer.err().map(|status| told(&status)),
            expected,
            "{names:?}"
        );
    }
    let log = logs::so_far();
    let refused = log.lines().find(|line| line.contains("refused-san"));
    let refused = refused.expect("operators have to know who was refused");
    assert!(refused.contains("CALLER_NOT_ALLOWED"), "{refused}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_failure_is_logged_with_its_caller() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway_with(&secret, true, |_| ()).await;
    let leaf = ca.issue(&["spiffe://td/named-in-the-log"]);
    let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
    let empty = CreateCustomerRequest::default();
    client.create_customer(empty).await.unwrap_err();
    assert!(logs::so_far().contains("spiffe://td/named-in-the-log"));
    gateway.stop().await;
}

async fn gateway_with_tokens(secret: &Secret, entries: &[&'static str]) -> Gateway {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.callers.jwt = Some(jwt(secret));
    config.server.callers.rules = allow(entries);
    config.server.reload_interval = Duration::from_millis(50);
    Gateway::start(config).await
}

pub fn jwt(secret: &Secret) -> JwtConfig {
    JwtConfig {
        keys: KeySource::File(secret.path("jwks.json")),
        issuer: "https://issuer.test".to_owned(),
        audience: "onboardflow-gateway".to_owned(),
    }
}

#[tokio::test]
async fn a_tokens_subject_says_who_calls() {
    let (ec, rsa, ed) = (Signer::ec("ec"), Signer::rsa("rsa"), Signer::ed("ed"));
    let secret = Secret::new(&[("jwks.json", &jwks(&[&ec, &rsa, &ed]))]);
    let gateway = gateway_with_tokens(&secret, &["system:serviceaccount:prod:*"]).await;
    let mut client = gateway.client().await;
    for signer in [&ec, &rsa, &ed] {
        let token = signer.sign(&claims(&[]));
        // The second one is remembered.
        for scheme in ["Bearer", "bearer"] {
            present(&mut client, &format!("{scheme} {token}"))
                .await
                .unwrap();
            present(&mut client, &format!("{scheme} {token}"))
                .await
                .unwrap();
        }
        let other = signer.sign(&claims_of("system:serviceaccount:test:web"));
        let status = present(&mut client, &format!("Bearer {other}")).await;
        assert_eq!(told(&status.unwrap_err()), not_allowed());
    }
    // Health and reflection ask for nothing.
    let mut health = HealthClient::new(gateway.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    reflect(&gateway).await.unwrap();
    gateway.stop().await;
}

/// Asks for the names of the services.
async fn reflect(gateway: &Gateway) -> Result<(), Status> {
    let mut reflection = ServerReflectionClient::new(gateway.channel().await);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let answers = reflection.server_reflection_info(stream::iter([request]));
    let answer = answers.await?.into_inner().message().await?;
    assert!(answer.unwrap().message_response.is_some());
    Ok(())
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.reflection = false;
    let gateway = Gateway::start(config).await;
    let status = reflect(&gateway).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_that_is_not_to_be_believed_is_refused() {
    let (ec, rsa) = (Signer::ec("ec"), Signer::rsa("rsa"));
    let secret = Secret::new(&[("jwks.json", &jwks(&[&ec, &rsa]))]);
    let gateway = gateway_with_tokens(&secret, &[]).await;
    let now = get_current_timestamp();
    let mut refused: Vec<String> = [
        ("exp", json!(now - 100)),
        ("exp", json!("soon")),
        ("exp", Value::Null),
        ("nbf", json!(now + 100)),
        ("aud", json!("other")),
        ("aud", Value::Null),
        ("iss", json!("https://other.test")),
        ("iss", json!(["https://issuer.test"])),
        ("iss", Value::Null),
        ("sub", Value::Null),
        ("sub", json!("")),
    ]
    .into_iter()
    .map(|change| format!("Bearer {}", ec.sign(&claims(&[change]))))
    .collect();
    let good = ec.sign(&claims(&[]));
    let secret_key = EncodingKey::from_secret(jwks(&[&ec]).as_bytes());
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("ec".to_owned());
    let as_hmac = encode(&header, &claims(&[]), &secret_key).unwrap();
    let mut header = Header::new(ec.algorithm);
    header.kid = Some("ec".to_owned());
    header.crit = Some(vec!["exp".to_owned()]);
    let critical = encode(&header, &claims(&[]), &ec.key).unwrap();
    let confused = Signer::ec("rsa");
    refused.extend([
        good.clone(),
        format!("Basic {good}"),
        "Bearer".to_owned(),
        "Bearer x.y.z".to_owned(),
        format!("Bearer {}", &good[..good.len() - 8]),
        format!("Bearer {as_hmac}"),
        format!("Bearer {critical}"),
        format!("Bearer {}", confused.sign(&claims(&[]))),
        format!("Bearer {}", Signer::ec("ec").sign(&claims(&[]))),
        format!("Bearer {}", Signer::ec("unknown").sign(&claims(&[]))),
    ]);
    let mut client = gateway.client().await;
    for authorization in refused {
        let status = present(&mut client, &authorization).await.unwrap_err();
        assert_eq!(told(&status), unauthenticated(), "{authorization}");
    }
    let status = client.create_customer(create_request()).await.unwrap_err();
    assert_eq!(told(&status), unauthenticated());
    assert!(!logs::so_far().contains(&good));
    present(&mut client, &format!("Bearer {good}"))
        .await
        .unwrap();
    gateway.stop().await;
}

/// As docs/callers.md says.
#[tokio::test]
async fn clocks_may_differ_by_thirty_seconds() {
    let signer = Signer::ec("ec");
    let secret = Secret::new(&[("jwks.json", &jwks(&[&signer]))]);
    let gateway = gateway_with_tokens(&secret, &[]).await;
    let mut client = gateway.client().await;
    // Time goes on while the test runs, so each bound is tried from the side on which it makes no difference.
    for (claim, seconds, is_good) in [
        ("nbf", 30, true),
        ("nbf", 90, false),
        ("exp", -15, true),
        ("exp", -31, false),
    ] {
        let at = get_current_timestamp().saturating_add_signed(seconds);
        let token = signer.sign(&claims(&[(claim, json!(at))]));
        let answer = present(&mut client, &format!("Bearer {token}")).await;
        let expected = if is_good {
            Ok(())
        } else {
            Err(unauthenticated())
        };
        let got = answer.map_err(|status| told(&status));
        assert_eq!(got, expected, "{claim} {seconds}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn keys_of_one_id_and_keys_without_one_are_all_tried() {
    let signers = [Signer::ec("same"), Signer::rsa("same"), Signer::ec("same")];
    let nameless = Signer::ec("whatever");
    let mut keys: Vec<_> = signers.iter().map(Signer::jwk).collect();
    let mut jwk = nameless.jwk();
    jwk.common.key_id = None;
    keys.push(jwk);
    let set = serde_json::to_string(&JwkSet { keys }).unwrap();
    let secret = Secret::new(&[("jwks.json", &set)]);
    let gateway = gateway_with_tokens(&secret, &[]).await;
    let mut client = gateway.client().await;
    for signer in signers.iter().chain([&nameless]) {
        let token = signer.sign(&claims(&[]));
        present(&mut client, &format!("Bearer {token}"))
            .await
            .unwrap();
    }
    let stranger = Signer::ec("same").sign(&claims(&[]));
    let status = present(&mut client, &format!("Bearer {stranger}")).await;
    assert_eq!(told(&status.unwrap_err()), unauthenticated());
    gateway.stop().await;
}

/// Issuers publish keys of kinds that the gateway has no use for.
#[tokio::test]
async fn keys_of_no_use_do_not_spoil_the_set() {
    let signer = Signer::ec("ec");
    let mut set: Value = serde_json::from_str(&jwks(&[&signer])).unwrap();
    let others = [
        json!({"kty": "EC", "crv": "secp256k1", "x": "", "y": ""}),
        json!(7),
    ];
    set["keys"].as_array_mut().unwrap().extend(others);
    let secret = Secret::new(&[("jwks.json", &set.to_string())]);
    let gateway = gateway_with_tokens(&secret, &[]).await;
    let token = signer.sign(&claims(&[]));
    let mut client = gateway.client().await;
    present(&mut client, &format!("Bearer {token}"))
        .await
        .unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn new_keys_are_taken_up_and_old_ones_forgotten() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let secret = Secret::new(&[("jwks.json", &jwks(&[&old]))]);
    let gateway = gateway_with_tokens(&secret, &[]).await;
    let mut client = gateway.client().await;
    let (by_old, by_new) = (old.sign(&claims(&[])), new.sign(&claims(&[])));
    let (by_old, by_new) = (format!("Bearer {by_old}"), format!("Bearer {by_new}"));
    present(&mut client, &by_old).await.unwrap();

    secret.swap(&[("jwks.json", "{\"keys\":[]}")]);
    let failures = "onboardflow_gateway_secret_reload_failures_total{secret=\"token_keys\"}";
    until("noticed", async || gateway.metric(failures) == 1).await;
    present(&mut client, &by_old).await.unwrap();

    secret.swap(&[("jwks.json", &jwks(&[&new]))]);
    until("taken up", async || {
        present(&mut client, &by_new).await.is_ok()
    })
    .await;
    let status = present(&mut client, &by_old).await.unwrap_err();
    assert_eq!(told(&status), unauthenticated());
    gateway.stop().await;
}

#[tokio::test]
async fn both_are_demanded_and_both_must_be_on_the_list() {
    let ca = Authority::new();
    let signer = Signer::ec("ec");
    let keys = Secret::new(&[("jwks.json", &jwks(&[&signer]))]);
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway_with(&secret, true, |config| {
        config.server.callers.jwt = Some(jwt(&keys));
        config.server.callers.rules = allow(&[WEB, "web.test"]);
    })
    .await;
    let listed = format!("Bearer {}", signer.sign(&claims(&[])));
    let other = signer.sign(&claims_of("system:serviceaccount:test:web"));
    let unlisted = format!("Bearer {other}");
    for (certificate, token, expected) in [
        (&["web.test"][..], &listed, None),
        (&["other.test", "web.test"], &listed, None),
        (&["web.test"], &unlisted, Some(not_allowed())),
        (&["other.test"], &listed, Some(not_allowed())),
        (&[], &listed, Some(not_allowed())),
        (&["other.test"], &unlisted, Some(not_allowed())),
    ] {
        let leaf = ca.issue(certificate);
        let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
        // The second answer comes from memory.
        for _ in 0..2 {
            let answer = present(&mut client, token).await;
            let told = answer.err().map(|status| told(&status));
            assert_eq!(told, expected, "{certificate:?}");
        }
    }
    let leaf = ca.issue(&["web.test"]);
    let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
    let status = client.create_customer(create_request()).await.unwrap_err();
    assert_eq!(told(&status), unauthenticated());
    gateway.stop().await;
}

/// `--allow-caller '*.prod.svc'` is about the DNS names of certificates.
#[tokio::test]
async fn a_pattern_of_dns_names_lets_no_uri_and_no_subject_in() {
    let ca = Authority::new();
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway_with(&secret, true, |config| {
        config.server.callers.rules = allow(&["*.prod.svc"]);
    })
    .await;
    for (name, expected) in [
        ("web.prod.svc", None),
        ("spiffe://evil.prod.svc", Some(not_allowed())),
    ] {
        let leaf = ca.issue(&[name]);
        let mut client = connect(&gateway, &ca, Some(&leaf)).await.unwrap();
        let answer = client.create_customer(create_request()).await;
        assert_eq!(answer.err().map(|status| told(&status)), expected, "{name}");
    }
    gateway.stop().await;

    let signer = Signer::ec("ec");
    let keys = Secret::new(&[("jwks.json", &jwks(&[&signer]))]);
    let gateway = gateway_with_tokens(&keys, &["*.prod.svc"]).await;
    let mut client = gateway.client().await;
    for subject in ["system:serviceaccount:evil:x.prod.svc", "web.prod.svc"] {
        let token = signer.sign(&claims_of(subject));
        let status = present(&mut client, &format!("Bearer {token}")).await;
        assert_eq!(told(&status.unwrap_err()), not_allowed(), "{subject}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_caller_holds_a_quarter_of_the_places_over_all_its_connections() {
    let upstream = Upstream::with(|mut stream| async move {
        let _ = stream.read_u8().await; // for ever
    })
    .await;
    let signer = Signer::ec("ec");
    let secret = Secret::new(&[("jwks.json", &jwks(&[&signer]))]);
    let mut config = Config::new(upstream.url());
    config.server.callers.jwt = Some(jwt(&secret));
    config.server.callers.rules = allow(&[]);
    config.server.max_in_flight = 8;
    let gateway = Gateway::start(config).await;
    let token = |subject: &str| format!("Bearer {}", signer.sign(&claims_of(subject)));
    let (greedy, other) = (token("greedy"), token("other"));
    let mut held = Vec::new();
    let mut holds = async |token: &String| {
        let (mut client, token) = (gateway.client().await, token.clone());
        held.push(tokio::spawn(async move {
            let _ = present(&mut client, &token).await;
        }));
        let calls = held.len();
        eventually("a call", || {
            (upstream.received().len() == calls).then_some(())
        })
        .await;
    };
    holds(&greedy).await;
    holds(&greedy).await;
    let mut third = gateway.client().await;
    let status = present(&mut third, &greedy).await.unwrap_err();
    assert_eq!(told(&status).reason, "GATEWAY_OVERLOADED");
    assert!(status.message().contains("caller"), "{status:?}");
    let refusals = "onboardflow_gateway_refusals_total{reason=\"GATEWAY_OVERLOADED\"}";
    assert_eq!(gateway.metric(refusals), 1);
    holds(&other).await;
    for call in held {
        call.abort();
    }
    gateway.stop().await;
}
