//! What a gateway demands of its callers, and every RPC that rows can be for.

use std::{fs, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, time::sleep};
use url::Url;

use super::{MAP, attempts, csv, emulated, ended, gateway, import, import_to, ledger_in, said};
use crate::{
    callers::jwt,
    support::{
        Config, Gateway,
        certificates::{Authority, Secret},
        tokens::{Signer, claims, jwks},
    },
    tls::until,
};

/// A gateway with TLS that demands certificates and tokens.
async fn guarded(secret: &Secret, keys: &Secret, folder: &TempDir) -> Gateway {
    let api = emulated().await;
    let mut config = Config::new(Url::parse(&format!("http://{api}")).unwrap());
    config.ledger = Some(ledger_in(folder));
    config.server.tls = Some(secret.files(true));
    config.server.callers.jwt = Some(jwt(keys));
    Gateway::start(config).await
}

#[tokio::test]
async fn a_gateway_gets_the_certificate_and_the_token_that_it_demands() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Authority::new(), Authority::new());
    let caller = ca.issue(&["importer.test"]);
    let secret = Secret::tls(&ca.issue(&["localhost"]), &ca);
    let signer = Signer::ec("a");
    let keys = Secret::new(&[("jwks.json", &jwks(&[&signer]))]);
    let gateway = guarded(&secret, &keys, &folder).await;
    let write = |name: &str, text: &str| {
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(3)).unwrap();
    let url = format!("https://localhost:{}", gateway.address.port());
    let cert = format!("--to-cert={}", write("cert.pem", &caller.cert));
    let key = format!("--to-key={}", write("key.pem", &caller.key));
    let trusts = format!("--to-ca={}", write("ca.pem", &ca.pem()));
    let token = write("token", &format!("{}\n", signer.sign(&claims(&[]))));
    let token = format!("--to-token-file={token}");
    let forged = write("forged", &Signer::ec("a").sign(&claims(&[])));
    let forged = format!("--to-token-file={forged}");
    let distrusts = format!("--to-ca={}", write("other.pem", &other.pem()));
    for (flags, expected, problem) in [
        (
            &[MAP, &trusts, &cert, &key][..],
            1,
            "CALLER_UNAUTHENTICATED: ",
        ),
        (
            &[MAP, &trusts, &cert, &key, &forged],
            1,
            "CALLER_UNAUTHENTICATED: ",
        ),
        (
            &[MAP, &distrusts, &cert, &key, &token],
            64,
            "no TLS with the gateway: invalid peer certificate",
        ),
        (
            &[MAP, &trusts, &token],
            64,
            "no TLS with the gateway: received fatal alert: CertificateRequired (see --to-ca, --to-cert",
        ),
    ] {
        let (code, said) = ended(import_to(&url, &file, flags)).await;
        assert_eq!(code, Some(expected), "{problem}: {said}");
        assert!(said.contains(problem), "{said}");
    }
    assert_eq!(attempts(&gateway), 0);
    let flags = [MAP, &trusts, &cert, &key, &token];
    let (code, said) = ended(import_to(&url, &file, &flags)).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("sent 3, "), "{said}");
    let (code, said) = ended(import_to(&url, &file, &[])).await;
    assert!(code == Some(64) && said.contains("--to-ca"), "{said}");
}

#[tokio::test]
async fn a_token_that_changes_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let (signer, other) = (Signer::ec("a"), Signer::ec("a"));
    let keys = Secret::new(&[("jwks.json", &jwks(&[&signer]))]);
    let api = emulated().await;
    let mut config = Config::new(Url::parse(&format!("http://{api}")).unwrap());
    config.ledger = Some(ledger_in(&folder));
    config.server.callers.jwt = Some(jwt(&keys));
    let gateway = Gateway::start(config).await;
    let token = folder.path().join("token");
    fs::write(&token, signer.sign(&claims(&[]))).unwrap();
    let flags = [
        MAP,
        "--format=csv",
        &format!("--to-token-file={}", token.display()),
    ];
    let mut command = import(&gateway, Path::new("-"), &flags);
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    let rows = csv(1000);
    let mut rows = rows.split_inclusive('\n');
    let first: String = rows.by_ref().take(2).collect();
    stdin.write_all(first.as_bytes()).await.unwrap();
    until("the first row is in", async || attempts(&gateway) == 1).await;
    fs::write(&token, other.sign(&claims(&[]))).unwrap();
    for row in rows {
        if running.try_wait().unwrap().is_some() {
            break;
        }
        let _ = stdin.write_all(row.as_bytes()).await;
        sleep(Duration::from_millis(50)).await;
    }
    let (code, said) = said(running.wait_with_output().await.unwrap());
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("CALLER_UNAUTHENTICATED: "), "{said}");
}

const SUBSCRIPTIONS: &str = "\
event_date,subscription.id,subscription.customer_id,subscription.name,subscription.status,subscription.interval,\
subscription.value,subscription.currency,subscription.started_at,subscription.trial_start,subscription.trial_end
2023-01-02T03:04:05Z,sub_1,cus_1,Pro,SUBSCRIPTION_STATUS_ACTIVE,BILLING_INTERVAL_MONTH,49.99,USD,\
2023-01-02T03:04:05Z,2023-01-02T03:04:05Z,2023-01-02T03:04:05Z
";

#[tokio::test]
async fn rows_are_customers_or_subscriptions_that_are_created_or_updated() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let (customers, subscriptions) = (folder.path().join("c.csv"), folder.path().join("s.csv"));
    fs::write(&customers, csv(1)).unwrap();
    fs::write(&subscriptions, SUBSCRIPTIONS).unwrap();
    for (file, resource, operation, method) in [
        (
            &customers,
            "customer",
            "create",
            "customer.v1.CustomerService/CreateCustomer",
        ),
        (
            &customers,
            "customer",
            "update",
            "customer.v1.CustomerService/UpdateCustomer",
        ),
        (
            &subscriptions,
            "subscription",
            "create",
            "subscription.v1.SubscriptionService/CreateSubscription",
        ),
        (
            &subscriptions,
            "subscription",
            "update",
            "subscription.v1.SubscriptionService/UpdateSubscription",
        ),
    ] {
        let resource = format!("--resource={resource}");
        let operation = format!("--operation={operation}");
        let flags = [MAP, "--site-key=f37F2PPh", &resource, &operation];
        let (code, said) = ended(import(&gateway, file, &flags)).await;
        assert_eq!(code, Some(0), "{method}: {said}");
        assert!(said.starts_with("sent 1, "), "{method}: {said}");
        let metrics = gateway.handles.telemetry.metrics.encode().unwrap();
        let calls = metrics
            .lines()
            .filter(|line| line.contains(method) && line.contains("_count"));
        assert!(calls.count() > 0, "{method} was not called: {metrics}");
    }
    assert_eq!(attempts(&gateway), 4);
    let (code, said) = ended(import(
        &gateway,
        &subscriptions,
        &["--resource=subscription", "--dry-run"],
    ))
    .await;
    assert!(
        code == Some(64) && said.contains("s.csv:2: site_key: "),
        "{said}"
    );
}
