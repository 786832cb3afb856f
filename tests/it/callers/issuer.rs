//! Keys by HTTP: from a URL, and by discovery.

use std::{path::PathBuf, time::Duration};

use futures_util::future::join_all;
use onboardflow_gateway::config::{Endpoint, FetchTimes, HttpKeys};
use tokio::{task::JoinSet, time::timeout};

use super::*;
use crate::support::issuer::Issuer;

const AUDIENCE: &str = "onboardflow-gateway";

/// Times that a test can wait for.
fn quick() -> FetchTimes {
    FetchTimes {
        least: Duration::from_millis(50),
        cooldown: Duration::from_secs(3600),
        retry: Duration::from_millis(20),
        ..FetchTimes::default()
    }
}

/// Tokens of this issuer, with the keys at its URL.
fn tokens(issuer: &Issuer, times: FetchTimes) -> JwtConfig {
    JwtConfig {
        keys: KeySource::Http(HttpKeys {
            endpoint: Endpoint::Jwks(issuer.keys_url().parse().unwrap()),
            ca: None,
            token: None,
            times,
        }),
        issuer: "https://issuer.test".to_owned(),
        audience: AUDIENCE.to_owned(),
    }
}

async fn gateway(jwt: JwtConfig) -> Gateway {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    config.server.callers.jwt = Some(jwt);
    Gateway::start(config).await
}

fn bearer(signer: &Signer) -> String {
    format!("Bearer {}", signer.sign(&claims(&[])))
}

#[tokio::test]
async fn keys_come_from_a_url() {
    let signer = Signer::ec("ec");
    let issuer = Issuer::with(jwks(&[&signer])).await;
    let started = tokio::time::Instant::now();
    let gateway = gateway(tokens(&issuer, FetchTimes::default())).await;
    let mut client = gateway.client().await;
    for _ in 0..10 {
        present(&mut client, &bearer(&signer)).await.unwrap();
    }
    let stranger = present(&mut client, &bearer(&Signer::ec("ec"))).await;
    assert_eq!(told(&stranger.unwrap_err()), unauthenticated());
    assert_eq!(issuer.asked().len(), 1);
    // A key that nobody knows is a reason to ask again, but not within ten seconds.
    let unknown = bearer(&Signer::ec("unknown"));
    for _ in 0..5 {
        present(&mut client, &unknown).await.unwrap_err();
    }
    assert!(issuer.asked().len() as u64 <= 1 + started.elapsed().as_secs() / 10);
    gateway.stop().await;
}

#[tokio::test]
async fn an_issuer_names_its_keys_by_discovery() {
    let signer = Signer::ec("ec");
    let issuer = Issuer::with(jwks(&[&signer])).await;
    let mut jwt = tokens(&issuer, FetchTimes::default());
    let KeySource::Http(http) = &mut jwt.keys else {
        unreachable!()
    };
    http.endpoint = Endpoint::Issuer(issuer.url.clone());
    jwt.issuer.clone_from(&issuer.url);
    let gateway = gateway(jwt).await;
    let mut client = gateway.client().await;
    let own = signer.sign(&claims(&[("iss", json!(issuer.url))]));
    present(&mut client, &format!("Bearer {own}"))
        .await
        .unwrap();
    let others = present(&mut client, &bearer(&signer)).await;
    assert_eq!(told(&others.unwrap_err()), unauthenticated());
    gateway.stop().await;
}

/// Until then it isn't SERVING, and no call meets keys that aren't there.
#[tokio::test]
async fn the_first_fetch_is_repeated_until_there_are_keys() {
    let signer = Signer::ec("ec");
    let issuer = Issuer::with(jwks(&[&signer])).await;
    issuer.change(|says| says.status = 503);
    let waiting = tokio::spawn(gateway(tokens(&issuer, quick())));
    until("asked again", async || issuer.asked().len() >= 3).await;
    assert!(!waiting.is_finished());
    issuer.change(|says| says.status = 200);
    let gateway = waiting.await.unwrap();
    let mut client = gateway.client().await;
    present(&mut client, &bearer(&signer)).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn keys_are_renewed_before_they_are_out_of_date_and_kept_through_an_outage() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let issuer = Issuer::with(jwks(&[&old])).await;
    issuer.change(|says| says.cache_control = "max-age=0");
    let gateway = gateway(tokens(&issuer, quick())).await;
    let mut client = gateway.client().await;
    present(&mut client, &bearer(&old)).await.unwrap();

    issuer.change(|says| says.status = 500);
    let failures = "onboardflow_gateway_secret_reload_failures_total{secret=\"token_keys\"}";
    until("noticed", async || gateway.metric(failures) >= 2).await;
    present(&mut client, &bearer(&old)).await.unwrap();

    let too_many = jwks(&[&new; 65]);
    for nonsense in ["{}", "[", "{\"keys\":[]}", too_many.as_str()] {
        let before = gateway.metric(failures);
        issuer.change(|says| (says.status, says.keys) = (200, nonsense.to_owned()));
        until("refused", async || gateway.metric(failures) > before).await;
        present(&mut client, &bearer(&old)).await.unwrap();
    }

    issuer.change(|says| says.keys = jwks(&[&new; 64]));
    until("renewed", async || {
        present(&mut client, &bearer(&new)).await.is_ok()
    })
    .await;
    let status = present(&mut client, &bearer(&old)).await.unwrap_err();
    assert_eq!(told(&status), unauthenticated());
    gateway.stop().await;
}

/// The call that brings the first token of a new key waits for it, and is served.
#[tokio::test]
async fn a_key_that_nobody_knows_is_fetched_once_whoever_asks() {
    let (old, new) = (Signer::ec("old"), Signer::ec("new"));
    let issuer = Issuer::with(jwks(&[&old])).await;
    let cooldown = Duration::ZERO;
    let gateway = gateway(tokens(
        &issuer,
        FetchTimes {
            cooldown,
            ..quick()
        },
    ))
    .await;
    issuer.change(|says| says.keys = jwks(&[&old, &new]));
    let mut client = gateway.client().await;
    present(&mut client, &bearer(&new)).await.unwrap();
    assert_eq!(issuer.asked().len(), 2);
    gateway.stop().await;

    let issuer = Issuer::with(jwks(&[&old])).await;
    let started = tokio::time::Instant::now();
    let cooldown = Duration::from_secs(2);
    let gateway = self::gateway(tokens(
        &issuer,
        FetchTimes {
            cooldown,
            ..quick()
        },
    ))
    .await;
    let made_up = async |n| {
        let mut client = gateway.client().await;
        let signer = Signer::ec(Box::leak(format!("made up {n}").into_boxed_str()));
        let status = present(&mut client, &bearer(&signer)).await.unwrap_err();
        assert_eq!(told(&status), unauthenticated());
    };
    join_all((0..50).map(&made_up)).await;
    assert!(issuer.asked().len() as u64 <= 1 + started.elapsed().as_secs() / 2);
    until("the pause is over", async || {
        made_up(50).await;
        issuer.asked().len() > 1
    })
    .await;
    gateway.stop().await;
}

/// Whoever makes up keys holds up a bounded number of calls, and none with a key that is known.
#[tokio::test]
async fn behind_a_fetch_256_calls_wait_and_the_others_are_refused_at_once() {
    let known = Signer::ec("known");
    let issuer = Issuer::with(jwks(&[&known])).await;
    let hour = Duration::from_secs(3600);
    let times = FetchTimes {
        cooldown: Duration::ZERO,
        timeout: hour,
        ..FetchTimes::default()
    };
    let gateway = gateway(tokens(&issuer, times)).await;
    issuer.change(|says| says.delay = hour);
    let made_up = bearer(&Signer::ec("made up"));
    let mut calls = JoinSet::new();
    for _ in 0..4 {
        let client = gateway.client().await;
        for _ in 0..75 {
            let (mut client, made_up) = (client.clone(), made_up.clone());
            calls.spawn(async move { present(&mut client, &made_up).await });
        }
    }
    for _ in 0..300 - 257 {
        let refused = timeout(Duration::from_secs(60), calls.join_next()).await;
        let refused = refused.expect("no room behind the fetch").unwrap().unwrap();
        assert_eq!(told(&refused.unwrap_err()), unauthenticated());
    }
    let mut client = gateway.client().await;
    present(&mut client, &bearer(&known)).await.unwrap();
    assert!(calls.try_join_next().is_none(), "256 wait");
    calls.shutdown().await;
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_is_bounded_in_size_and_time() {
    let signer = Signer::ec("ec");
    let issuer = Issuer::with(jwks(&[&signer])).await;
    let huge = format!("{}{}", " ".repeat(1 << 20), jwks(&[&signer]));
    issuer.change(|says| says.keys = huge);
    let timeout = Duration::from_secs(2);
    let waiting = tokio::spawn(gateway(tokens(&issuer, FetchTimes { timeout, ..quick() })));
    until("asked again", async || issuer.asked().len() >= 2).await;
    issuer.change(|says| says.delay = Duration::from_secs(3600));
    let so_far = issuer.asked().len();
    until("asked once more", async || {
        issuer.asked().len() >= so_far + 2
    })
    .await;
    assert!(!waiting.is_finished());
    issuer.change(|says| (says.delay, says.keys) = (Duration::ZERO, jwks(&[&signer])));
    waiting.await.unwrap().stop().await;
}

/// The Kubernetes API server: a CA of its own, and keys for those alone who say who they are.
#[tokio::test]
async fn a_private_issuer_is_asked_with_its_ca_and_a_token() {
    let ca = Authority::new();
    let signer = Signer::ec("ec");
    let issuer = Issuer::with_tls(jwks(&[&signer]), &ca.issue(&["localhost"])).await;
    let files = Secret::new(&[("ca.crt", &ca.pem()), ("token", "of-the-account\n")]);
    let jwt = |ca: Option<PathBuf>| {
        let mut jwt = tokens(&issuer, quick());
        let KeySource::Http(http) = &mut jwt.keys else {
            unreachable!()
        };
        (http.ca, http.token) = (ca, Some(files.path("token")));
        jwt
    };
    let untrusting = tokio::spawn(gateway(jwt(None)));
    let gateway = gateway(jwt(Some(files.path("ca.crt")))).await;
    let mut client = gateway.client().await;
    present(&mut client, &bearer(&signer)).await.unwrap();
    let asked = issuer.asked();
    assert_eq!(asked[0]["authorization"], "Bearer of-the-account");
    assert!(asked.len() == 1 && !untrusting.is_finished());
    untrusting.abort();
    gateway.stop().await;
}

/// An issuer speaks for itself alone.
#[tokio::test]
async fn keys_of_another_issuer_are_not_taken() {
    let issuer = Issuer::with(jwks(&[&Signer::ec("ec")])).await;
    issuer.change(|says| says.issuer = Some("https://other.test".to_owned()));
    let mut jwt = tokens(&issuer, quick());
    let KeySource::Http(http) = &mut jwt.keys else {
        unreachable!()
    };
    http.endpoint = Endpoint::Issuer(issuer.url.clone());
    let waiting = tokio::spawn(gateway(jwt));
    until("told", async || {
        logs::so_far().contains("discovery document is another issuer's")
    })
    .await;
    assert!(issuer.asked().is_empty() && !waiting.is_finished());
    waiting.abort();
}

/// A redirect would send the token, and the question who may call, elsewhere.
#[tokio::test]
async fn redirects_are_not_followed() {
    let signer = Signer::ec("ec");
    let elsewhere = Issuer::with(jwks(&[&signer])).await;
    let files = Secret::new(&[("token", "of-the-account")]);
    for by_discovery in [false, true] {
        let issuer = Issuer::with(jwks(&[&signer])).await;
        issuer.change(|says| says.elsewhere = Some(elsewhere.url.clone()));
        // It would be believed if it were asked.
        elsewhere.change(|says| says.issuer = Some(issuer.url.clone()));
        let mut jwt = tokens(&issuer, quick());
        let KeySource::Http(http) = &mut jwt.keys else {
            unreachable!()
        };
        http.token = Some(files.path("token"));
        if by_discovery {
            http.endpoint = Endpoint::Issuer(issuer.url.clone());
        }
        let waiting = tokio::spawn(gateway(jwt));
        until("asked again", async || issuer.questions() >= 2).await;
        assert_eq!(elsewhere.questions(), 0, "by discovery: {by_discovery}");
        assert!(!waiting.is_finished());
        issuer.change(|says| says.elsewhere = None);
        waiting.await.unwrap().stop().await;
    }
}
