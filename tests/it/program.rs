//! The binary as a process: what its user types, and what it answers.

use std::{collections::BTreeMap, net::SocketAddr, process::Stdio, time::Duration};

use onboardflow_gateway::proto::{
    CreateCustomerRequest, CustomerEvent, customer_service_client::CustomerServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{ChildStdout, Command},
    time::timeout,
};
use tonic::{Code, transport::Channel};

use crate::support::{
    Process, Told,
    certificates::Authority,
    create_request, fresh_id, http,
    peer::Peer,
    program,
    tokens::{Signer, jwks},
    told, update_request,
};

/// What the program says when it refuses to start, and its exit code.
async fn refusal(args: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = program(args, variables).output().await.unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

async fn sandbox() -> Process {
    Process::run(&["sandbox"], &[]).await
}

/// The address that a sandbox prints for gRPC.
async fn printed(stdout: ChildStdout) -> SocketAddr {
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next_line().await.unwrap().unwrap();
    let (_, address) = line.split_once("gRPC on ").unwrap();
    let (address, _) = address.split_once(',').unwrap();
    // Goes on reading, so that the program never writes into a closed pipe.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    address.parse().unwrap()
}

/// Each call and each `/livez` timed out once the pipe was full.
#[tokio::test]
async fn a_reader_of_the_log_that_stalls_holds_up_nothing() {
    let ports = ["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"];
    let args = [&["sandbox", "--log=debug", "--drain-delay=0s"], &ports[..]];
    let mut child = program(&args.concat(), &[]).spawn().unwrap();
    let address = printed(child.stdout.take().unwrap()).await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let mut client = CustomerServiceClient::new(channel.connect().await.unwrap());
    // A pipe has room for 64 KiB, and a line some 400 bytes.
    let calls = async {
        for _ in 0..600 {
            let refused = client.create_customer(CreateCustomerRequest::default());
            assert_eq!(refused.await.unwrap_err().code(), Code::InvalidArgument);
        }
    };
    let patience = Duration::from_secs(120);
    timeout(patience, calls)
        .await
        .expect("no call waits for the log");

    let pid = child.id().unwrap().to_string();
    let kill = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(kill.await.unwrap().success());
    let ended = timeout(patience, child.wait()).await;
    let ended = ended.expect("nor does the end");
    assert_eq!(ended.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_changed_file_that_cannot_be_used_is_logged_with_flag_and_cause() {
    let keys = jwks(&[&Signer::ec("one")]);
    let tls = Authority::new().issue(&["gateway.test"]);
    let (cert, key) = (tls.cert.as_str(), tls.key.as_str());
    let callers = "[[caller]]\nname = \"web.svc\"\n";
    // What each file holds, then, and what is said of that.
    let files = [
        (
            "token-file",
            "a-key",
            "two words",
            "the API key must be one word",
        ),
        ("site-tokens-file", "a = \"b\"", "a = b", "must be TOML"),
        ("tls-cert", cert, "", "holds no certificate"),
        ("tls-key", key, "?", "can't be read as a PEM file"),
        ("jwks-file", &keys, "{}", "is not a JSON Web Key Set"),
        ("callers-file", callers, "caller = 1", "caller"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = |flag: &str| folder.path().join(flag);
    let fixed = [
        "serve",
        "--drain-delay=0s",
        "--jwt-issuer=i",
        "--jwt-audience=a",
    ];
    let mut args = fixed.map(ToOwned::to_owned).to_vec();
    for (flag, good, ..) in files {
        std::fs::write(path(flag), good).unwrap();
        args.push(format!("--{flag}={}", path(flag).display()));
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mut gateway = Process::run(&args, &[]).await;
    for (flag, good, broken, problem) in files {
        std::fs::write(path(flag), broken).unwrap();
        let line = gateway.line_with("the old content stays in use").await;
        let line = line.to_string();
        let (_, said) = line.split_once(&format!("--{flag}: ")).expect(&line);
        assert!(said.contains(problem), "{line}");
        std::fs::write(path(flag), good).unwrap();
        gateway.line_with("changed files were taken up").await;
    }
    assert_eq!(gateway.stop().await.0, Some(0));
}

#[tokio::test]
async fn the_sandbox_takes_calls_and_ends_cleanly_when_told() {
    let sandbox = sandbox().await;
    let mut client = sandbox.client().await;

    let created = client
        .create_customer(create_request())
        .await
        .unwrap()
        .into_inner();
    let updated = client
        .update_customer(update_request())
        .await
        .unwrap()
        .into_inner();
    let kind = |event: Option<Box<CustomerEvent>>| event.unwrap().event_meta.unwrap().r#type;
    assert_eq!(kind(created.event), "CUSTOMER_CREATED");
    assert_eq!(kind(updated.event), "CUSTOMER_UPDATED");
    assert_eq!(sandbox.stop().await.0, Some(0));
}

/// The emulated OnboardFlow numbers its events.
#[tokio::test]
async fn the_sandbox_makes_one_event_of_a_create_that_is_repeated() {
    let sandbox = sandbox().await;
    let mut client = sandbox.client().await;
    let [id, other] = [fresh_id(), fresh_id()];
    let mut events = Vec::new();
    for (id, replayed) in [(&id, None), (&id, Some("true")), (&other, None)] {
        let request = CreateCustomerRequest {
            request_id: id.clone(),
            ..create_request()
        };
        let created = client.create_customer(request).await.unwrap();
        let said = created.metadata().get("onboardflow-replayed");
        assert_eq!(said.map(|said| said.to_str().unwrap()), replayed);
        events.push(created.into_inner().event.unwrap());
    }
    assert_eq!(events[0], events[1]);
    assert_eq!(events[0].id + 1, events[2].id);
    let (_, metrics) = http("GET", sandbox.admin, "/metrics", "").await;
    let entries = "onboardflow_gateway_ledger_entries{state=\"applied\"} 2";
    assert!(metrics.contains(entries), "{metrics}");
}

/// Test site key, code, reason, write, HTTP status.
#[rustfmt::skip]
const PROVOKED: &[(&str, Code, &str, &str, Option<&str>)] = &[
    ("sandbox-400", Code::InvalidArgument, "UPSTREAM_REJECTED", "rejected", Some("400")),
    ("sandbox-401", Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED", "rejected", Some("401")),
    ("sandbox-404", Code::NotFound, "UPSTREAM_NOT_FOUND", "rejected", Some("404")),
    ("sandbox-409", Code::AlreadyExists, "UPSTREAM_CONFLICT", "rejected", Some("409")),
    ("sandbox-500", Code::Unknown, "UPSTREAM_FAILED", "unknown", Some("500")),
    ("sandbox-503", Code::Unavailable, "UPSTREAM_MAINTENANCE", "rejected", Some("503")),
    ("sandbox-drop", Code::Unknown, "UPSTREAM_CONNECTION_LOST", "unknown", None),
    ("sandbox-garbage", Code::Internal, "UPSTREAM_REPLY_UNREADABLE", "unknown", Some("200")),
    ("sandbox-applied", Code::Internal, "UPSTREAM_REPLY_UNREADABLE", "applied", Some("200")),
    ("sandbox-refused", Code::FailedPrecondition, "UPSTREAM_REJECTED", "rejected", Some("200")),
    ("sandbox-429", Code::ResourceExhausted, "UPSTREAM_QUOTA_EXHAUSTED", "rejected", Some("429")),
];

#[tokio::test]
async fn each_test_site_key_provokes_its_failure() {
    let sandbox = sandbox().await;
    let mut client = sandbox.client().await;
    for &(site_key, code, reason, write, http_status) in PROVOKED {
        let request = CreateCustomerRequest {
            site_key: site_key.to_owned(),
            ..create_request()
        };
        let status = client.create_customer(request).await.unwrap_err();
        let expected = Told {
            code,
            reason: reason.to_owned(),
            write: write.to_owned(),
            http_status: http_status.map(str::to_owned),
        };
        assert_eq!(told(&status), expected, "{site_key}");
    }
}

#[tokio::test]
async fn the_slow_test_site_outlasts_the_deadline() {
    let sandbox = Process::run(&["sandbox", "--default-timeout=300ms"], &[]).await;
    let request = CreateCustomerRequest {
        site_key: "sandbox-slow".to_owned(),
        ..create_request()
    };
    let answer = sandbox.client().await.create_customer(request).await;
    let status = answer.unwrap_err();
    let told = told(&status);
    assert_eq!(
        (told.code, told.write.as_str()),
        (Code::DeadlineExceeded, "unknown")
    );
}

#[tokio::test]
async fn health_is_asked_by_the_program_itself() {
    let sandbox = sandbox().await;
    let address = sandbox.address;
    let ask = async |address: &str| {
        let status = program(&["healthcheck", address], &[]).status().await;
        status.unwrap().code()
    };
    assert_eq!(ask(&address.to_string()).await, Some(0));
    assert_eq!(ask(&format!("localhost:{}", address.port())).await, Some(0));
    sandbox.stop().await;
    assert_eq!(ask(&address.to_string()).await, Some(1));
    let (_, stderr) = refusal(&["healthcheck", &address.to_string()], &[]).await;
    let said = format!("{address} is not SERVING: Connection refused");
    assert!(stderr.contains(&said), "{stderr}");
}

#[tokio::test]
async fn every_problem_of_a_configuration_is_told_at_once() {
    let args = [
        "serve",
        "--listen=localhost",
        "--upstream-url=ftp://example.com",
        "--auth-scheme=basic",
        "--default-timeout=2h",
        "--max-request-bytes=lots",
        "--log=,,=",
    ];
    let (code, stderr) = refusal(&args, &[("ONBOARDFLOW_CONNECT_TIMEOUT", "0s")]).await;
    assert_eq!(code, Some(64));
    for flag in [
        "--listen:",
        "--upstream-url:",
        "--auth-scheme:",
        "--default-timeout:",
        "--max-request-bytes:",
        "--token-file:",
        "ONBOARDFLOW_CONNECT_TIMEOUT:",
    ] {
        assert!(stderr.contains(flag), "{flag} is missing in {stderr}");
    }
}

/// A manifest leaves a variable out by leaving it empty. clap took that for a value, and where the
/// flag is a path, refused it before it looked at any other.
#[tokio::test]
async fn an_empty_variable_is_a_missing_one() {
    let empty = [
        "TOKEN",
        "TOKEN_FILE",
        "TLS_CERT",
        "LISTEN",
        "MAX_TIMEOUT",
        "REFLECTION",
    ];
    let names = empty.map(|name| format!("ONBOARDFLOW_{name}"));
    let variables = names.each_ref().map(|name| (name.as_str(), ""));
    let (code, stderr) = refusal(&["serve", "--admin-listen=bad"], &variables).await;
    assert_eq!(code, Some(64), "{stderr}");
    let problems: Vec<_> = stderr.lines().filter(|line| line.contains("--")).collect();
    assert_eq!(problems.len(), 2, "{stderr}");
    assert!(stderr.contains("--token-file: is required"), "{stderr}");
    assert!(stderr.contains("--admin-listen: must be"), "{stderr}");
}

#[tokio::test]
async fn a_command_line_that_cannot_be_read_names_the_flag() {
    for (args, said) in [
        (&["serve", "--listen"][..], "--listen: needs a value"),
        (
            &["serve", "--workers=1", "--workers=2"],
            "--workers: given more than once",
        ),
        (
            &["serve", "--lisen=x"],
            "--lisen: unexpected argument; did you mean --listen?",
        ),
        (
            &["serv"],
            "the command: unexpected argument; did you mean serve?",
        ),
    ] {
        let (code, stderr) = refusal(args, &[]).await;
        assert_eq!(code, Some(64), "{stderr}");
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[tokio::test]
async fn misspelt_flags_and_bad_values_are_told_together() {
    let args = [
        "serve",
        "--tokn-file=/nowhere",
        "--daily-quota",
        "-1",
        "--workers=1",
        "--workers=2",
        "--max-timeout=5000years",
        "--nothing-like-it",
        "abc",
        "--listen",
    ];
    let (code, stderr) = refusal(&args, &[]).await;
    assert_eq!(code, Some(64), "{stderr}");
    for said in [
        "--tokn-file: unexpected argument; did you mean --token-file?",
        "--token-file: can't be read",
        "--daily-quota: must be a number above zero",
        "--workers: given more than once",
        "--max-timeout: must not be longer than a year",
        "--nothing-like-it: unexpected argument",
        "--listen: needs a value",
    ] {
        assert!(stderr.contains(said), "{said} is missing in {stderr}");
    }
    let problems = stderr.lines().filter(|line| line.contains(": ")).count();
    // One line above them says what they are.
    assert_eq!(problems, 8, "{stderr}");
}

#[tokio::test]
async fn no_duration_is_longer_than_a_clock_can_hold() {
    let help = help("serve").await;
    let durations = help.split("\n      --").filter_map(|flag| {
        let (name, _) = flag.split_once(" <DURATION>")?;
        Some(format!("--{name}=500000000000years"))
    });
    let durations: Vec<_> = durations.collect();
    assert!(durations.len() > 5, "{durations:?}");
    let mut args = vec!["serve"];
    args.extend(durations.iter().map(String::as_str));
    let (code, stderr) = refusal(&args, &[("ONBOARDFLOW_TOKEN", "abc")]).await;
    assert_eq!(code, Some(64), "{stderr}");
    let said = stderr.matches("must not be longer than a year").count();
    assert_eq!(said, durations.len(), "{stderr}");
}

#[tokio::test]
async fn a_variable_that_no_flag_knows_is_bad_configuration() {
    let variables = [
        ("ONBOARDFLOW_TOKEN", "abc"),
        ("ONBOARDFLOW_CLIENT_CAA", "/nowhere"),
        ("ONBOARDFLOW_QQQ", "5ec2e7"),
        ("ONBOARDFLOW_REST_LISTEN", "of another command"),
        ("ONBOARDFLOW_EMPTY", ""),
        ("ONBOARDFLOW_GATEWAY_PORT", "tcp://10.0.0.1:50051"),
        ("ONBOARDFLOW_MAX_TIMEOUT", "never"),
    ];
    let (code, stderr) = refusal(&["serve"], &variables).await;
    assert_eq!(code, Some(64), "{stderr}");
    for said in [
        "ONBOARDFLOW_CLIENT_CAA: unexpected argument; did you mean ONBOARDFLOW_CLIENT_CA?",
        "ONBOARDFLOW_QQQ: unexpected argument",
        // By the name that was set.
        "ONBOARDFLOW_MAX_TIMEOUT: must be a duration",
    ] {
        assert!(stderr.contains(said), "{said} is missing in {stderr}");
    }
    assert_eq!(
        stderr.lines().filter(|line| line.contains(": ")).count(),
        4,
        "{stderr}"
    );
    assert!(!stderr.contains("5ec2e7"), "{stderr}");
}

#[tokio::test]
async fn a_key_that_is_empty_is_called_empty() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "\n").unwrap();
    let flag = format!("--token-file={}", file.display());
    let (code, stderr) = refusal(&["serve", &flag], &[]).await;
    assert_eq!(code, Some(64));
    assert!(stderr.contains("--token-file: is empty"), "{stderr}");
    let (_, stderr) = refusal(&["serve"], &[("ONBOARDFLOW_TOKEN", " ")]).await;
    assert!(stderr.contains("ONBOARDFLOW_TOKEN: is empty"), "{stderr}");
}

#[tokio::test]
async fn a_proxy_that_cannot_be_used_is_bad_configuration() {
    for (name, value) in [
        ("HTTPS_PROXY", "socks5://user:5ec2e7@proxy:1080"),
        ("https_proxy", "http://"),
        ("ALL_PROXY", "::5ec2e7::"),
    ] {
        let (code, stderr) = refusal(
            &["serve"],
            &[
                ("ONBOARDFLOW_TOKEN", "abc"),
                (name, value),
                ("ONBOARDFLOW_LISTEN", "x"),
            ],
        )
        .await;
        assert_eq!(code, Some(64), "{stderr}");
        let said = format!("{name}: must be the URL of an http proxy");
        assert!(stderr.contains(&said), "{stderr}");
        assert!(!stderr.contains("5ec2e7"), "{stderr}");
    }
    // Where no proxy is asked, its variable is of no concern.
    for other in [
        ("NO_PROXY", ".onboardflow.com"),
        ("HTTP_PROXY", "socks5://x"),
    ] {
        let variables = [
            ("ONBOARDFLOW_TOKEN", "abc"),
            other,
            ("ONBOARDFLOW_LISTEN", "x"),
        ];
        let (_, stderr) = refusal(&["serve"], &variables).await;
        assert!(!stderr.contains("PROXY"), "{stderr}");
    }
}

#[tokio::test]
async fn health_is_asked_where_the_variable_says() {
    let sandbox = sandbox().await;
    let everywhere = format!("0.0.0.0:{}", sandbox.address.port());
    let variables = [("ONBOARDFLOW_ADMIN_LISTEN", everywhere.as_str())];
    let status = program(&["healthcheck"], &variables).status().await;
    assert_eq!(status.unwrap().code(), Some(0));
    let variables = [("ONBOARDFLOW_ADMIN_LISTEN", "here")];
    let (code, stderr) = refusal(&["healthcheck"], &variables).await;
    assert_eq!(code, Some(64));
    assert!(
        stderr.contains("ONBOARDFLOW_ADMIN_LISTEN: must be"),
        "{stderr}"
    );
}

#[tokio::test]
async fn sighup_does_not_end_the_program() {
    let sandbox = sandbox().await;
    sandbox.signal("-HUP").await;
    let mut client = sandbox.client().await;
    client.create_customer(create_request()).await.unwrap();
    assert_eq!(sandbox.stop().await.0, Some(0));
}

#[tokio::test]
async fn a_key_in_the_wrong_place_is_not_printed() {
    const KEY: &str = "0123456789abcdef0123456789abcdef01234567";
    let key_flag = format!("--token={KEY}");
    for args in [
        &["serve", "--token-file", KEY][..],
        &["serve", "--auth-scheme", KEY],
        &["serve", "--upstream-url", KEY],
        &["serve", "--listen", KEY],
        &["serve", &key_flag],
        &["serve", KEY],
        &[KEY],
    ] {
        let (code, stderr) = refusal(args, &[]).await;
        assert_eq!(code, Some(64), "{stderr}");
        assert!(!stderr.contains("0123456789"), "{stderr}");
    }
    let bad_key = format!("{KEY} {KEY}");
    let (code, stderr) = refusal(&["serve"], &[("ONBOARDFLOW_TOKEN", &bad_key)]).await;
    assert_eq!(code, Some(64));
    assert!(!stderr.contains("0123456789"), "{stderr}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_with_the_flag_that_moves_it() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--admin-listen", "--rest-listen"] {
        let mut args = vec!["sandbox"];
        for known in ["--listen", "--admin-listen", "--rest-listen"] {
            let is_taken = known == flag;
            args.extend([known, if is_taken { &address } else { "127.0.0.1:0" }]);
        }
        let (code, stderr) = refusal(&args, &[]).await;
        // The configuration is good, so the exit code isn't 64.
        assert_eq!(code, Some(1));
        let said = format!(
            "{flag}: can't listen on {address}: another program uses this port. Stop it, or give \
             {flag} another address"
        );
        assert!(stderr.contains(&said), "{stderr}");
    }
}

async fn help(command: &str) -> String {
    let output = program(&[command, "--help"], &[("ONBOARDFLOW_TOKEN", "5ec2e7")]).output();
    let output = output.await.unwrap();
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn help_holds_no_secret() {
    for command in ["serve", "sandbox", "healthcheck"] {
        assert!(!help(command).await.contains("5ec2e7"));
    }
}

/// Each flag of a help text, with its default where it has one.
fn flags(help: &str) -> BTreeMap<String, Option<String>> {
    let options = help.split("\n      --").skip(1);
    options
        .map(|option| {
            let option = option.split("\n  -h, --help").next().unwrap();
            let mut words = option.split_whitespace();
            let name = words.next().unwrap().to_owned();
            let text = words.skip(1).collect::<Vec<_>>().join(" ");
            assert!(!text.is_empty(), "--{name} is not explained");
            let default = text.split_once("[default: ").map(|(_, rest)| rest);
            (
                name,
                default.map(|rest| rest.trim_end_matches(']').to_owned()),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_readme_has_every_flag_with_its_default() {
    let mut missing = flags(&help("serve").await);
    let rows = include_str!("../../README.md").lines();
    for row in rows.filter(|row| row.starts_with("| `--")) {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [_, names, default, ..] = cells.as_slice() else {
            panic!("{row}");
        };
        // What stands in brackets is the sandbox's.
        let parts = default.split(" (");
        let parts = parts.map(|part| part.split_once(')').map_or(part, |(_, rest)| rest));
        let defaults: String = parts.collect();
        let mut defaults = defaults.split(", ");
        for name in names.split(", ") {
            let name = name.trim_matches(['`', '-']);
            let told = missing
                .remove(name)
                .unwrap_or_else(|| panic!("no flag {name}"));
            let shown = defaults.next().map(|shown| shown.trim_matches('`'));
            // A flag without a default has words there, or one stands for several.
            if told.is_some() || default.contains('`') {
                assert_eq!(shown, told.as_deref(), "--{name}");
            }
        }
    }
    assert!(missing.is_empty(), "not in the README: {missing:?}");
}

/// 128 descriptors, of which half are kept for the admin port, OnboardFlow and files.
#[tokio::test]
async fn a_flood_of_connections_leaves_descriptors_for_all_else_and_is_told_once() {
    let mut command = Command::new("sh");
    let limited = "ulimit -n 128 && exec \"$0\" \"$@\"";
    command
        .args(["-c", limited, env!("CARGO_BIN_EXE_onboardflow-gateway")])
        .args(["sandbox", "--drain-delay=0s"])
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let sandbox = Process::of(command).await;

    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(Peer::greeting(sandbox.address, &[]).await);
    }
    let mut client = sandbox.client().await;
    client.create_customer(create_request()).await.unwrap();
    let (status, metrics) = http("GET", sandbox.admin, "/metrics", "").await;
    assert_eq!(status, 200);
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find(|line| line.starts_with(name));
        line.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    let crowded = "onboardflow_gateway_connections_closed_total{reason=\"crowded\"}";
    assert!(value(crowded) >= 230.0, "{metrics}");
    assert!(value("process_open_fds") < 128.0, "{metrics}");

    let (code, log) = sandbox.stop().await;
    let told = log.matches("the limit of connections is reached").count();
    assert_eq!((code, told), (Some(0), 1));
}
