//! The listener's flags, as the program takes and refuses them.

use std::process::Output;

use crate::support::{
    Process,
    certificates::{Authority, Secret},
    program,
};

/// What `serve` says to these flags. It must not get as far as to listen.
async fn serve(flags: &[&str]) -> (Option<i32>, String) {
    serve_with_key(crate::support::KEY, flags).await
}

async fn serve_with_key(key: &str, flags: &[&str]) -> (Option<i32>, String) {
    let ports = [
        "serve",
        "--listen=127.0.0.1:0",
        "--admin-listen=127.0.0.1:0",
    ];
    let mut command = program(&[&ports, flags].concat(), &[("ONBOARDFLOW_TOKEN", key)]);
    let Output { status, stderr, .. } = command.output().await.unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// Flags, and what is said about each.
#[rustfmt::skip]
const REFUSED: &[(&[&str], &[&str])] = &[
    (&["--workers=0", "--max-in-flight=none"], &["--workers: must be", "--max-in-flight: must be"]),
    (&["--max-connection-age=0s", "--max-connection-idle=x"], &["--max-connection-age:", "--max-connection-idle:"]),
    (&["--tls-cert=/nowhere"], &["--tls-key: is required"]),
    (&["--tls-key=/nowhere"], &["--tls-cert: is required"]),
    (
        &["--tls-cert=/nowhere", "--tls-key=/nowhere", "--client-ca=/nowhere"],
        &["--tls-cert: can't be read", "--tls-key: can't be read", "--client-ca: can't be read"],
    ),
    (&["--client-ca=/nowhere"], &["--client-ca: needs --tls-cert"]),
    (&["--allow-caller=web.svc"], &["--allow-caller: needs --client-ca or --jwks-file"]),
    (&["--allow-caller=web.svc,*"], &["--allow-caller: `*` may only stand"]),
    (&["--allow-caller=web.*"], &["--allow-caller: `*` may only stand"]),
    (&["--jwks-file=/nowhere"], &["--jwks-file: can't be read", "--jwt-issuer: is required", "--jwt-audience: is required"]),
    (&["--ledger=redis://h"], &["--ledger: must be sqlite:FILE or postgres://"]),
    (&["--ledger=postgres://u:pw@h/d"], &["--ledger: must not hold a password"]),
    (&["--ledger=sqlite:a", "--ledger-file=/nowhere"], &["--ledger-file: can't be given together"]),
    (&["--ledger-file=/nowhere", "--ledger-retention=0s"], &["--ledger-file: can't be read", "--ledger-retention: must be"]),
    (&["--jwt-issuer=https://issuer.test"], &["--jwks-file: is required"]),
    (&["--jwks-url=http://keys.test/x", "--jwt-audience=a"], &["--jwks-url: must be an https URL", "--jwt-issuer: is required"]),
    (&["--jwks-url=https://user:word@keys.test"], &["--jwks-url: must not hold credentials"]),
    (&["--jwks-url=https://keys.test", "--oidc-issuer=https://issuer.test"], &["--oidc-issuer: can't be given together with --jwks-url"]),
    (&["--oidc-issuer=issuer.test", "--jwt-audience=a"], &["--oidc-issuer: must be an https URL"]),
    (&["--oidc-issuer=https://issuer.test", "--jwt-issuer=x"], &["--jwt-issuer: can't be given together with --oidc-issuer", "--jwt-audience: is required"]),
    (&["--jwks-ca=/nowhere", "--jwks-token-file=/nowhere"], &["--jwks-ca: needs --jwks-url", "--jwks-token-file: needs --jwks-url"]),
    (&["--jwks-url=https://keys.test", "--jwks-ca=/nowhere"], &["--jwks-ca: can't be read"]),
    (&["--callers-file=/nowhere", "--allow-caller=a"], &["--callers-file: needs --client-ca", "--callers-file: can't be read", "--allow-caller: can't be given together with --callers-file"]),
];

#[tokio::test]
async fn a_bad_configuration_is_told_whole() {
    for &(flags, problems) in REFUSED {
        let (code, said) = serve(flags).await;
        assert_eq!(code, Some(64), "{flags:?}: {said}");
        for problem in problems {
            assert!(said.contains(problem), "{flags:?}: {said}");
        }
        assert!(!said.contains(crate::support::KEY), "{flags:?}: {said}");
    }
}

#[tokio::test]
async fn files_that_do_not_go_together_are_refused() {
    let ca = Authority::new();
    let (one, other) = (ca.issue(&["gateway.test"]), ca.issue(&["gateway.test"]));
    let files = [("tls.crt", one.cert.as_str()), ("tls.key", &other.key)];
    let secret = Secret::new(&files);
    let cert = format!("--tls-cert={}", secret.path("tls.crt").display());
    let key = format!("--tls-key={}", secret.path("tls.key").display());
    let (code, said) = serve(&[&cert, &key]).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(
        said.contains("--tls-cert: does not go with --tls-key"),
        "{said}"
    );
}

#[tokio::test]
async fn a_file_of_64_mib_is_refused_before_it_is_parsed() {
    let huge = format!("{}{{\"keys\":[]}}", " ".repeat(64 << 20));
    let secret = Secret::new(&[("jwks.json", &huge)]);
    let file = format!("--jwks-file={}", secret.path("jwks.json").display());
    let (code, said) = serve(&[&file, "--jwt-issuer=i", "--jwt-audience=a"]).await;
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("--jwks-file: is larger than 1 MiB"), "{said}");
}

/// More than a file may have, which would be good otherwise.
const HUGE: usize = (1 << 20) + 1;

#[tokio::test]
async fn every_file_has_a_bound() {
    let secret = Secret::new(&[("huge", &" ".repeat(HUGE))]);
    let huge = secret.path("huge");
    for flags in [
        &[
            "token-file",
            "site-tokens-file",
            "tls-cert",
            "tls-key",
            "client-ca",
        ][..],
        &["upstream-ca", "callers-file", "ledger-file", "jwks-file"],
        &["jwks-ca", "jwks-token-file"],
    ] {
        let mut given: Vec<_> = flags
            .iter()
            .map(|flag| format!("--{flag}={}", huge.display()))
            .collect();
        if flags.contains(&"jwks-ca") {
            given.push("--jwks-url=https://keys.test".to_owned());
        }
        let given: Vec<_> = given.iter().map(String::as_str).collect();
        let (code, said) = serve_with_key("", &given).await;
        assert_eq!(code, Some(64), "{said}");
        for flag in flags {
            let problem = format!("--{flag}: is larger than 1 MiB");
            assert!(said.contains(&problem), "{flag}: {said}");
        }
    }
}

#[tokio::test]
async fn one_header_is_not_for_two_things() {
    let flags = ["serve", "--credentials=caller", "--jwks-file=/nowhere"];
    let output = program(&flags, &[]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("can't be given together with --credentials caller"),
        "{said}"
    );
}

/// Linux says what threads a process has.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_worker_is_a_thread_and_the_first_does_all_else() {
    for workers in [1, 3] {
        // It says that it serves once every worker does.
        let workers_flag = format!("--workers={workers}");
        let sandbox = Process::run(&["sandbox", &workers_flag], &[]).await;
        let tasks = format!("/proc/{}/task", sandbox.id());
        // By name, as others write the log and the ledger's file.
        let tasks = std::fs::read_dir(tasks).unwrap().filter(|task| {
            let name = task.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(name).is_ok_and(|name| name.starts_with("worker-"))
        });
        assert_eq!(tasks.count(), workers - 1);
    }
}
