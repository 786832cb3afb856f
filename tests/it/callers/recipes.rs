//! The recipes of docs/callers.md, as they are written there.

use tonic::transport::{Channel, ClientTlsConfig};

use super::*;
use crate::support::{KEY, Process, issuer::Issuer, update_request};

const PAGE: &str = include_str!("../../../docs/callers.md");

/// A recipe's command and its file of callers.
struct Recipe {
    command: String,
    callers: &'static str,
}

impl Recipe {
    fn called(heading: &str) -> Self {
        let recipe = PAGE
            .split(&format!("## Recipe: {heading}\n"))
            .nth(1)
            .unwrap();
        let block = |language: &str| {
            let block = recipe.split(&format!("```{language}\n")).nth(1).unwrap();
            block.split("```").next().unwrap()
        };
        Self {
            command: block("sh").replace("\\\n", " "),
            callers: block("toml"),
        }
    }

    /// Runs it with these files and URLs in place of those that a cluster has.
    async fn run(&self, places: &[(&str, String)]) -> Process {
        let upstream = Upstream::answering(200, CREATED).await;
        let upstream = format!("--upstream-url={}", upstream.url());
        let replaced = |word: String, (from, to): &(&str, String)| word.replace(from, to);
        let command = places.iter().fold(self.command.clone(), replaced);
        let mut words = command.split_whitespace();
        assert_eq!(words.next(), Some("onboardflow-gateway"));
        let args = words.chain([upstream.as_str(), "--drain-delay=0s"]);
        Process::run(&args.collect::<Vec<_>>(), &[]).await
    }
}

fn in_folder(files: &Secret) -> String {
    files.path("").display().to_string()
}

#[tokio::test]
async fn client_certificates_by_cert_manager() {
    let ca = Authority::new();
    let recipe = Recipe::called("client certificates by cert-manager");
    let own = ca.issue(&[NAME]);
    let files = Secret::new(&[
        ("token", KEY),
        ("tls.crt", &own.cert),
        ("tls.key", &own.key),
        ("ca.crt", &ca.pem()),
        ("callers.toml", recipe.callers),
    ]);
    let folder = in_folder(&files);
    let places = ["/etc/onboardflow/", "/etc/gateway-tls/", "/etc/gateway/"];
    let program = recipe
        .run(&places.map(|place| (place, folder.clone())))
        .await;
    let connect = async |name: &str| {
        let tls = ClientTlsConfig::new()
            .ca_certificate(ca.certificate())
            .domain_name(NAME)
            .identity(ca.issue(&[name]).identity());
        let endpoint = Channel::from_shared(format!("https://{}", program.address)).unwrap();
        let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
        CustomerServiceClient::new(channel)
    };
    let mut orders = connect("spiffe://cluster.local/ns/shop/sa/orders").await;
    orders.create_customer(create_request()).await.unwrap();
    let refused = orders.update_customer(update_request()).await.unwrap_err();
    assert_eq!(told(&refused), not_allowed());
    let mut other = connect("spiffe://cluster.local/ns/shop/sa/other").await;
    let refused = other.create_customer(create_request()).await.unwrap_err();
    assert_eq!(told(&refused), not_allowed());
}

#[tokio::test]
async fn kubernetes_service_accounts() {
    let ca = Authority::new();
    let signer = Signer::rsa("cluster");
    let cluster = Issuer::with_tls(jwks(&[&signer]), &ca.issue(&["localhost"])).await;
    let recipe = Recipe::called("Kubernetes service accounts");
    let files = Secret::new(&[
        ("token", KEY),
        ("ca.crt", &ca.pem()),
        ("callers.toml", recipe.callers),
    ]);
    let folder = in_folder(&files);
    let program = recipe
        .run(&[
            ("/etc/onboardflow/", folder.clone()),
            ("/etc/gateway/", folder.clone()),
            ("/var/run/secrets/kubernetes.io/serviceaccount/", folder),
            (
                "https://kubernetes.default.svc/",
                format!("{}/", cluster.url),
            ),
        ])
        .await;
    let authorization = |subject: &str, audience: &str| {
        let token = signer.sign(&claims(&[
            ("iss", json!("https://kubernetes.default.svc.cluster.local")),
            ("sub", json!(subject)),
            ("aud", json!([audience])),
        ]));
        format!("Bearer {token}")
    };
    let orders = "system:serviceaccount:shop:orders";
    let mut client = program.client().await;
    present(&mut client, &authorization(orders, "onboardflow-gateway"))
        .await
        .unwrap();
    let other = authorization("system:serviceaccount:shop:other", "onboardflow-gateway");
    let refused = present(&mut client, &other).await.unwrap_err();
    assert_eq!(told(&refused), not_allowed());
    let elsewhere = authorization(orders, "https://kubernetes.default.svc");
    let refused = present(&mut client, &elsewhere).await.unwrap_err();
    assert_eq!(told(&refused), unauthenticated());
}

#[tokio::test]
async fn an_oidc_provider() {
    let signer = Signer::ed("provider");
    let provider = Issuer::with(jwks(&[&signer])).await;
    let recipe = Recipe::called("an OIDC provider");
    let files = Secret::new(&[("token", KEY), ("callers.toml", recipe.callers)]);
    let folder = in_folder(&files);
    let program = recipe
        .run(&[
            ("/etc/onboardflow/", folder.clone()),
            ("/etc/gateway/", folder),
            (
                "https://login.example.com/realms/services",
                provider.url.clone(),
            ),
        ])
        .await;
    let authorization = |subject: &str| {
        let named = [("iss", json!(provider.url)), ("sub", json!(subject))];
        format!("Bearer {}", signer.sign(&claims(&named)))
    };
    let mut client = program.client().await;
    present(&mut client, &authorization("0a1b2c3d-orders"))
        .await
        .unwrap();
    let refused = present(&mut client, &authorization("other"))
        .await
        .unwrap_err();
    assert_eq!(told(&refused), not_allowed());
}
