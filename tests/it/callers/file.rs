//! `--callers-file`: who may do what.

use std::collections::HashMap;

use onboardflow_gateway::config::{AuthScheme, CallersFile, Credentials};
use secrecy::SecretString;
use tokio::task::JoinSet;
use tonic::{Request, transport::Channel};
use tonic_types::StatusExt as _;

use super::*;
use crate::support::{Store, fresh_id, insist, program, update_request};

const AUDITOR: &str = "system:serviceaccount:prod:auditor";

fn quota_exhausted() -> Told {
    refused(Code::ResourceExhausted, "CALLER_QUOTA_EXHAUSTED")
}

/// Files with rules and the keys of this signer.
fn files(rules: &str, signer: &Signer) -> Secret {
    Secret::new(&[("callers.toml", rules), ("jwks.json", &jwks(&[signer]))])
}

fn held_to(config: &mut Config, files: &Secret, daily_quota: Option<u64>) {
    config.server.callers.jwt = Some(jwt(files));
    config.server.callers.rules = RulesConfig::File(CallersFile {
        path: files.path("callers.toml"),
        daily_quota,
    });
    config.upstream.daily_quota = daily_quota;
    config.server.reload_interval = Duration::from_millis(50);
}

async fn gateway(files: &Secret, daily_quota: Option<u64>) -> Gateway {
    let upstream = Upstream::answering(200, CREATED).await;
    let mut config = Config::new(upstream.url());
    held_to(&mut config, files, daily_quota);
    Gateway::start(config).await
}

/// Calls of one caller.
struct Calls {
    client: CustomerServiceClient<Channel>,
    authorization: String,
}

impl Calls {
    async fn of(gateway: &Gateway, signer: &Signer, subject: &str) -> Self {
        Self {
            client: gateway.client().await,
            authorization: format!("Bearer {}", signer.sign(&claims_of(subject))),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let authorization = self.authorization.parse().unwrap();
        request
            .metadata_mut()
            .insert("authorization", authorization);
        request
    }

    async fn create(&mut self, site: &str) -> Result<(), Status> {
        let mut message = create_request();
        site.clone_into(&mut message.site_key);
        let request = self.request(message);
        self.client.create_customer(request).await.map(drop)
    }

    async fn update(&mut self, site: &str) -> Result<(), Status> {
        let mut message = update_request();
        site.clone_into(&mut message.site_key);
        let request = self.request(message);
        self.client.update_customer(request).await.map(drop)
    }
}

#[tokio::test]
async fn a_caller_may_use_its_sites_and_methods_alone() {
    let signer = Signer::ec("ec");
    let rules = format!(
        "[[caller]]\nname = \"sub:{WEB}\"\nsites = [\"f37F2PPh\"]\nmethods = [\"CreateCustomer\"]\n\
         [[caller]]\nname = \"sub:{AUDITOR}\"\n"
    );
    let files = files(&rules, &signer);
    let gateway = gateway(&files, None).await;
    let mut web = Calls::of(&gateway, &signer, WEB).await;
    web.create("f37F2PPh").await.unwrap();
    for refused in [web.create("other").await, web.update("f37F2PPh").await] {
        let status = refused.unwrap_err();
        assert_eq!(told(&status), not_allowed());
        assert!(status.message().contains(WEB), "{status:?}");
        assert!(!status.message().contains(AUDITOR), "{status:?}");
    }
    let mut auditor = Calls::of(&gateway, &signer, AUDITOR).await;
    auditor.create("other").await.unwrap();
    auditor.update("f37F2PPh").await.unwrap();
    let mut stranger = Calls::of(&gateway, &signer, "system:serviceaccount:prod:other").await;
    let status = stranger.create("f37F2PPh").await.unwrap_err();
    assert_eq!(told(&status), not_allowed());
    assert!(!status.message().contains(WEB), "{status:?}");

    for (caller, calls, refused) in [(WEB, 3, 2), (AUDITOR, 2, 0)] {
        let label = format!("caller=\"sub:{caller}\"");
        let counted = gateway.metric(&format!(
            "onboardflow_gateway_caller_calls_total{{{label}}}"
        ));
        assert_eq!(counted, calls, "{caller}");
        let name = "onboardflow_gateway_caller_refusals_total";
        let reason = "reason=\"CALLER_NOT_ALLOWED\"";
        assert_eq!(
            gateway.metric(&format!("{name}{{{label},{reason}}}")),
            refused,
            "{caller}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_changed_file_holds_and_a_broken_one_keeps_the_old() {
    let signer = Signer::ec("ec");
    let file =
        |methods: &str| format!("[[caller]]\nname = \"sub:{WEB}\"\nmethods = [\"{methods}\"]\n");
    let keys = jwks(&[&signer]);
    let files = files(&file("CreateCustomer"), &signer);
    let gateway = gateway(&files, None).await;
    let mut web = Calls::of(&gateway, &signer, WEB).await;
    web.create("a").await.unwrap();

    files.swap(&[
        ("callers.toml", "[[caller]]\nname = 7"),
        ("jwks.json", &keys),
    ]);
    let failures = "onboardflow_gateway_secret_reload_failures_total{secret=\"callers\"}";
    until("noticed", async || gateway.metric(failures) == 1).await;
    web.create("a").await.unwrap();

    files.swap(&[
        ("callers.toml", &file("UpdateCustomer")),
        ("jwks.json", &keys),
    ]);
    until("taken up", async || web.update("a").await.is_ok()).await;
    assert_eq!(told(&web.create("a").await.unwrap_err()), not_allowed());

    let other = format!("[[caller]]\nname = \"sub:{AUDITOR}\"\n");
    files.swap(&[("callers.toml", &other), ("jwks.json", &keys)]);
    until("gone", async || web.update("a").await.is_err()).await;
    let series = format!("caller=\"sub:{WEB}\"");
    assert!(
        !gateway
            .handles
            .telemetry
            .metrics
            .encode()
            .unwrap()
            .contains(&series)
    );
    gateway.stop().await;
}

#[tokio::test]
async fn certificates_and_tokens_have_entries_of_their_own_and_both_have_to_allow_the_call() {
    let ca = Authority::new();
    let signer = Signer::ec("ec");
    let rules = format!(
        "[[caller]]\nname = \"web.test\"\nsites = [\"a\", \"b\"]\n\
         [[caller]]\nname = \"sub:{WEB}\"\nsites = [\"b\", \"c\"]\n\
         [[caller]]\nname = \"sub:plain\"\n[[caller]]\nname = \"dns.test\"\n"
    );
    let rules = files(&rules, &signer);
    let secret = Secret::tls(&ca.issue(&[NAME]), &ca);
    let gateway = gateway_with(&secret, true, |config| held_to(config, &rules, None)).await;
    let answer = async |certificate: &str, subject: &str, site: &str| {
        let client = connect(&gateway, &ca, Some(&ca.issue(&[certificate])))
            .await
            .unwrap();
        let authorization = format!("Bearer {}", signer.sign(&claims_of(subject)));
        let mut calls = Calls {
            client,
            authorization,
        };
        calls.create(site).await.map_err(|status| told(&status))
    };
    assert_eq!(answer("web.test", WEB, "b").await, Ok(()));
    for (certificate, subject, site) in [
        ("web.test", WEB, "a"),
        ("web.test", WEB, "c"),
        ("other.test", WEB, "b"),
        ("web.test", "other", "b"),
        // A name of the other kind.
        ("plain", "plain", "b"),
        ("dns.test", "dns.test", "b"),
    ] {
        let refused = answer(certificate, subject, site).await;
        assert_eq!(
            refused,
            Err(not_allowed()),
            "{certificate} {subject} {site}"
        );
    }
    gateway.stop().await;
}

/// 0.5, 0.3 and none of 1,000 calls: 500, 300 and 200.
#[tokio::test]
async fn a_day_is_divided_as_the_file_says() {
    let signer = Signer::ec("ec");
    let rules = "[[caller]]\nname = \"sub:half\"\ndaily_share = 0.5\n\
                 [[caller]]\nname = \"sub:third\"\ndaily_share = 0.3\n\
                 [[caller]]\nname = \"sub:rest\"\n";
    let files = files(rules, &signer);
    let gateway = gateway(&files, Some(1000)).await;
    let load = async |subject| {
        let mut calls = Calls::of(&gateway, &signer, subject).await;
        let mut made = 0;
        // More than its own part, one after the other, while the others call too.
        for _ in 0..510 {
            match calls.create("f37F2PPh").await {
                Ok(()) => made += 1,
                Err(status) => {
                    assert_eq!(told(&status), quota_exhausted(), "{subject}");
                    let details = status.get_error_details();
                    assert!(details.quota_failure().is_some(), "{details:?}");
                    let delay = details.retry_info().unwrap().retry_delay.unwrap();
                    assert!(
                        delay <= Duration::from_secs(24 * 3600),
                        "until midnight UTC"
                    );
                }
            }
        }
        (subject, made)
    };
    let (half, third, rest) = tokio::join!(load("half"), load("third"), load("rest"));
    let made = HashMap::from([half, third, rest]);
    assert_eq!(
        made,
        HashMap::from([("half", 500), ("third", 300), ("rest", 200)])
    );
    for caller in ["half", "third"] {
        let labels = format!("{{caller=\"sub:{caller}\",key=\"default\"}}");
        let left = format!("onboardflow_gateway_caller_quota_left{labels} 0");
        let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
        assert!(metrics.contains(&left), "{left}");
    }
    gateway.stop().await;
}

/// Three callers, each over two replicas that share a ledger.
#[tokio::test]
async fn shares_are_exact_over_replicas() {
    let signer = Signer::ec("ec");
    let rules = "[[caller]]\nname = \"sub:half\"\ndaily_share = 0.5\n\
                 [[caller]]\nname = \"sub:third\"\ndaily_share = 0.3\n\
                 [[caller]]\nname = \"sub:rest\"\n";
    let files = files(rules, &signer);
    for store in Store::all() {
        let upstream = Upstream::answering(200, CREATED).await;
        let key = SecretString::from(fresh_id());
        let start = async || {
            let mut config = Config::new(upstream.url());
            held_to(&mut config, &files, Some(1000));
            config.upstream.credentials = Credentials::Gateway {
                token: key.clone(),
                scheme: AuthScheme::Token,
            };
            config.ledger = Some(store.ledger());
            Gateway::start(config).await
        };
        let replicas = [start().await, start().await];
        let mut callers = JoinSet::new();
        for number in 0..18 {
            let subject = ["half", "third", "rest"][number % 3];
            let calls = Calls::of(&replicas[number % 2], &signer, subject).await;
            let mut client = calls.client.clone();
            callers.spawn(async move {
                let mut taken = 0;
                loop {
                    let id = fresh_id();
                    let request = || {
                        calls.request(CreateCustomerRequest {
                            request_id: id.clone(),
                            ..create_request()
                        })
                    };
                    match insist(&mut client, request).await {
                        Ok(_) => taken += 1,
                        Err(status) => {
                            assert_eq!(told(&status), quota_exhausted());
                            return (subject, taken);
                        }
                    }
                }
            });
        }
        let mut taken = HashMap::<_, usize>::new();
        for (subject, calls) in callers.join_all().await {
            *taken.entry(subject).or_default() += calls;
        }
        let expected = [("half", 500), ("third", 300), ("rest", 200)];
        assert_eq!(taken, HashMap::from(expected));
        assert_eq!(upstream.received().len(), 1000);
        for gateway in replicas {
            gateway.stop().await;
        }
    }
}

/// What `callers check` says to these arguments, and its exit code.
async fn check(files: &Secret, arguments: &[&str]) -> (i32, String) {
    let file = files.path("callers.toml").display().to_string();
    let args = [&["callers", "check", &file], arguments].concat();
    let output = program(&args, &[]).output().await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap(),
        String::from_utf8(said).unwrap(),
    )
}

#[tokio::test]
async fn a_file_can_be_asked_what_it_means() {
    let rules = "[[caller]]\nname = \"spiffe://td/orders\"\nsites = [\"f37F2PPh\"]\n\
                 methods = [\"CreateCustomer\"]\ndaily_share = 0.4\n\
                 [[caller]]\nname = \"sub:web\"\n";
    let files = Secret::new(&[("callers.toml", rules)]);
    let (code, said) = check(&files, &[]).await;
    assert_eq!(code, 0, "{said}");
    for part in [
        "spiffe://td/orders",
        "methods: CreateCustomer",
        "sites: f37F2PPh",
        "0.4",
        "sub:web",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let orders = ["--caller=spiffe://td/orders", "--site=f37F2PPh"];
    for (more, code, word) in [
        ("--method=CreateCustomer", 0, "allowed"),
        ("--method=UpdateCustomer", 1, "refused"),
        ("--method=DropCustomer", 64, "--method: must be one of"),
    ] {
        let (got, said) = check(&files, &[orders[0], orders[1], more]).await;
        assert_eq!(got, code, "{more}: {said}");
        assert!(said.contains(word), "{more}: {said}");
    }
    assert_eq!(
        check(&files, &["--caller=spiffe://td/orders", "--site=other"])
            .await
            .0,
        1
    );
    assert_eq!(
        check(&files, &["--caller=web"]).await.0,
        1,
        "a token's subject has sub:"
    );
    assert_eq!(check(&files, &["--caller=sub:web"]).await.0, 0);
    assert_eq!(check(&files, &["--caller=*.svc"]).await.0, 64);

    let broken = Secret::new(&[(
        "callers.toml",
        "[[caller]]\nname = \"a\"\nsites = []\n[[caller]]\n",
    )]);
    let (code, said) = check(&broken, &[]).await;
    assert_eq!(code, 64, "{said}");
    assert!(
        said.contains("caller 1, a:") && said.contains("caller 2:"),
        "all of it: {said}"
    );
}
