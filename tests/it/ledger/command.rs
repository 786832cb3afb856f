//! `onboardflow-gateway ledger`: the program, at the ledger of a gateway that serves.

use std::time::{Duration, SystemTime};

use tonic::Code;

use super::{Manner, assert_told, create, is_replayed, refusal, replica, upstream};
use crate::support::{Gateway, Store, fresh_id, program};

/// How the program ended, and what it said.
#[derive(Debug, PartialEq)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Said {
    fn done(out: &str) -> Self {
        Self {
            code: Some(0),
            out: format!("{out}\n"),
            err: String::new(),
        }
    }

    fn refused(err: &str) -> Self {
        Self {
            code: Some(1),
            out: String::new(),
            err: format!("onboardflow-gateway: {err}\n"),
        }
    }
}

/// `onboardflow-gateway ledger`, with these arguments and variables.
async fn say(args: &[&str], variables: &[(&str, &str)]) -> Said {
    let args = [&["ledger"], args].concat();
    let output = program(&args, variables).output().await.unwrap();
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

async fn ledger(store: &Store, args: &[&str]) -> Said {
    say(args, &[("ONBOARDFLOW_LEDGER", &store.url)]).await
}

/// The lines of a list, each as its columns. A method has two words.
async fn list(store: &Store, flags: &[&str]) -> Vec<Vec<String>> {
    let said = ledger(store, &[&["list"], flags].concat()).await;
    assert_eq!((said.code, &*said.err), (Some(0), ""));
    let mut lines = said
        .out
        .lines()
        .map(|line| line.split_whitespace().map(str::to_owned).collect());
    let head: Vec<String> = lines.next().unwrap();
    assert_eq!(
        head.join(" "),
        "ID REQUEST_ID STATE FIRST ATTEMPT SITE METHOD"
    );
    lines.collect()
}

#[expect(clippy::disallowed_methods, reason = "a list bears the time of day")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Sends creates with these ids, whose replies are lost.
async fn lose(gateway: &Gateway, ids: &[String]) {
    for id in ids {
        let status = refusal(gateway.create(create(id)).await);
        assert_told(
            &status,
            Code::Unknown,
            "UPSTREAM_CONNECTION_LOST",
            "unknown",
        );
    }
}

const NO_SUCH_WRITE: &str = "no write of unknown fate has this id; see ledger list";

#[tokio::test]
async fn a_create_whose_reply_was_lost_is_listed_with_what_leads_to_it() {
    for store in Store::all_empty().await {
        let upstream = upstream([Manner::HangUp]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let [lost, applied] = [fresh_id(), fresh_id()];
        // What is listed has no fractions of a second, and the store's clock is this machine's.
        let before = now() - Duration::from_secs(1);
        lose(&gateway, std::slice::from_ref(&lost)).await;
        gateway.create(create(&applied)).await.unwrap();

        let all = list(&store, &[]).await;
        let unknown = list(&store, &["--unknown"]).await;
        assert_eq!(unknown, all[..1]);
        for (line, id, state) in [(&all[0], &lost, "unknown"), (&all[1], &applied, "applied")] {
            let [row, begins, fate, began, site, verb, path] = &line[..] else {
                panic!("{line:?}");
            };
            assert!(row.len() == 16 && row.bytes().all(|digit| digit.is_ascii_hexdigit()));
            assert_eq!(*begins, format!("{}…", &id[..8]));
            assert_eq!(fate, state);
            let began = humantime::parse_rfc3339(began).unwrap();
            assert!(before <= began && began <= now(), "{line:?}");
            // Eight digits of `printf %s f37F2PPh | sha1sum`.
            assert_eq!(site, "site-b30ef3aa");
            assert_eq!((&**verb, &**path), ("POST", "/api/v1/customer/"));
        }
        assert_eq!(all.len(), 2);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_write_that_a_person_settles_is_answered_or_executed() {
    for store in Store::all_empty().await {
        let upstream = upstream([Manner::HangUp, Manner::HangUp]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let ids = [fresh_id(), fresh_id()];
        lose(&gateway, &ids).await;
        let unknown = list(&store, &["--unknown"]).await;
        let [applied, not_applied] = [&unknown[0][0], &unknown[1][0]];

        // By the caller's id, and by the row's.
        let settled = ledger(&store, &["settle", &ids[0], "--applied"]).await;
        let then = format!("{applied} is settled as applied: a repeat gets ALREADY_EXISTS");
        assert_eq!(settled, Said::done(&then));
        let settled = ledger(&store, &["settle", not_applied, "--not-applied"]).await;
        let then = format!("{not_applied} is settled as not applied: a repeat is executed");
        assert_eq!(settled, Said::done(&then));
        assert!(list(&store, &["--unknown"]).await.is_empty());
        let all = list(&store, &[]).await;
        assert_eq!((all.len(), &*all[0][2]), (1, "settled"));
        let again = ledger(&store, &["settle", applied, "--not-applied"]).await;
        assert_eq!(again, Said::refused(NO_SUCH_WRITE));

        let status = refusal(gateway.create(create(&ids[0])).await);
        assert_told(&status, Code::AlreadyExists, "WRITE_SETTLED", "applied");
        assert_eq!(upstream.received().len(), 2);
        let executed = gateway.create(create(&ids[1])).await.unwrap();
        assert!(!is_replayed(&executed));
        assert_eq!(upstream.received().len(), 3);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_id_that_names_no_write_or_several_settles_none() {
    for store in Store::all_empty().await {
        let upstream = upstream([Manner::HangUp, Manner::HangUp]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let id = fresh_id();
        let (begins, _) = id.split_at(8);
        let ids = [id.clone(), format!("{begins}{}", &fresh_id()[8..])];
        lose(&gateway, &ids).await;

        let several = "this id names several writes; take the ID of ledger list";
        let third = format!("{begins}{}", &fresh_id()[8..]);
        for (named, why) in [
            (begins, several),
            (&*third, NO_SUCH_WRITE),
            (&id[..7], NO_SUCH_WRITE),
            (&id[..9], NO_SUCH_WRITE),
            (&*fresh_id(), NO_SUCH_WRITE),
            ("0123456789abcdef", NO_SUCH_WRITE),
        ] {
            for fate in ["--applied", "--not-applied"] {
                let said = ledger(&store, &["settle", named, fate]).await;
                assert_eq!(said, Said::refused(why), "{named}");
            }
        }
        let unknown = list(&store, &["--unknown"]).await;
        assert_eq!(unknown.len(), 2);
        for fates in [&[][..], &["--applied", "--not-applied"]] {
            let args = [&["settle", &unknown[0][0]], fates].concat();
            assert_eq!(ledger(&store, &args).await.code, Some(64));
        }
        assert_eq!(list(&store, &["--unknown"]).await, unknown);

        // Whoever has a whole id means its write, and no other one that begins alike.
        let settled = ledger(&store, &["settle", &id, "--applied"]).await;
        assert_eq!(settled.code, Some(0), "{settled:?}");
        let status = refusal(gateway.create(create(&id)).await);
        assert_told(&status, Code::AlreadyExists, "WRITE_SETTLED", "applied");
        assert_eq!(list(&store, &["--unknown"]).await.len(), 1);
        // Now the beginning is enough.
        let settled = ledger(&store, &["settle", begins, "--applied"]).await;
        assert_eq!(settled.code, Some(0), "{settled:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn prune_forgets_what_is_past_its_retention_and_nothing_else() {
    for store in Store::all_empty().await {
        let upstream = upstream([Manner::HangUp]).await;
        let gateway = replica(&store, &upstream.url()).await;
        let [lost, applied] = [fresh_id(), fresh_id()];
        lose(&gateway, std::slice::from_ref(&lost)).await;
        gateway.create(create(&applied)).await.unwrap();

        assert_eq!(ledger(&store, &["prune"]).await, Said::done("0 forgotten"));
        assert_eq!(list(&store, &[]).await.len(), 2);
        let prune = ["prune", "--ledger-retention=1ms"];
        assert_eq!(ledger(&store, &prune).await, Said::done("2 forgotten"));
        assert!(list(&store, &[]).await.is_empty());
        for id in [&lost, &applied] {
            assert!(!is_replayed(&gateway.create(create(id)).await.unwrap()));
        }
        assert_eq!(upstream.received().len(), 4);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_be_used_is_told_with_the_reason() {
    const FORMS: &str = "must be sqlite:FILE or postgres://USER@HOST/DATABASE";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    std::fs::write(&file, "redis://127.0.0.1/\n").unwrap();
    let file_flag = format!("--ledger-file={}", file.display());
    for (flags, variables, problem) in [
        (
            &[][..],
            &[][..],
            "--ledger: is required, or --ledger-file".to_owned(),
        ),
        (
            &["--ledger=redis://127.0.0.1/"],
            &[],
            format!("--ledger: {FORMS}"),
        ),
        (&[&*file_flag], &[], format!("--ledger-file: {FORMS}")),
        (
            &[],
            &[("ONBOARDFLOW_LEDGER", "postgres:")],
            format!("ONBOARDFLOW_LEDGER: {FORMS}"),
        ),
    ] {
        let said = say(&[&["list"], flags].concat(), variables).await;
        assert_eq!(said.code, Some(64), "{said:?}");
        assert!(said.err.contains(&problem), "{said:?}");
    }
    let missing = format!("sqlite:{}/missing/ledger.db", directory.path().display());
    for unreachable in [&missing, "postgres://gateway@127.0.0.1:1/ledger"] {
        for command in [&["list"][..], &["settle", "a", "--applied"], &["prune"]] {
            let said = ledger(&Store::at(unreachable), command).await;
            assert_eq!((said.code, &*said.out), (Some(1), ""));
            let why = "onboardflow-gateway: the ledger can't be reached: ";
            assert!(said.err.starts_with(why), "{said:?}");
        }
    }
}
