//! What the gateway makes of the rows is told, and decides what comes next.

use std::fs;

use super::{MAP, attempts, csv, ended, gateway, import};

#[tokio::test]
async fn without_a_ledger_nothing_is_sent_unless_duplicates_are_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(None).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(20)).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[MAP])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("keeps no ledger") && said.contains("--allow-duplicates"),
        "{said}"
    );
    assert_eq!(attempts(&gateway), 0);
    let (code, said) = ended(import(&gateway, &file, &[MAP, "--allow-duplicates"])).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.starts_with("sent 20, replayed 0, invalid 0"), "{said}");
    assert_eq!(attempts(&gateway), 20);
}

#[tokio::test]
async fn rows_that_fail_are_told_by_reason_and_the_others_go_in() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let row = |site: &str| {
        format!(
            "{{\"siteKey\":\"{site}\",\"eventDate\":\"2023-01-02T03:04:05Z\",\"customer\":{{\"id\":\"c\",\"userId\":\"u\",\
             \"email\":\"a@example.com\",\"hasPaymentMethod\":true}}}}\n"
        )
    };
    let text: String = ["f37F2PPh", "sandbox-409", "sandbox-drop", "f37F2PPx"]
        .map(row)
        .concat();
    // More than the gateway takes (--max-request-bytes).
    let large = row("f37F2PPy").replace(
        "a@example.com",
        &format!("{}@example.com", "x".repeat(80_000)),
    );
    let text = text + &large;
    let file = folder.path().join("customers.jsonl");
    fs::write(&file, text).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[])).await;
    assert_eq!(code, Some(1), "{said}");
    for part in [
        "sent 2, ",
        "failed 2 (REQUEST_TOO_LARGE 1) (UPSTREAM_CONFLICT 1)",
        "unknown 1 (",
        "customers.jsonl:2: UPSTREAM_CONFLICT",
        "customers.jsonl:5: REQUEST_TOO_LARGE",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // Again: what is in isn't sent, and what may be in isn't either.
    let (_, said) = ended(import(&gateway, &file, &[])).await;
    assert!(
        said.contains("sent 0, replayed 2, ") && said.contains("WRITE_UNKNOWN 1"),
        "{said}"
    );
}

#[tokio::test]
async fn a_key_that_is_refused_ends_the_import_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, csv(200).replace("f37F2PPh", "sandbox-401")).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[MAP, "--concurrency=2"])).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("UPSTREAM_CREDENTIALS_REJECTED: "), "{said}");
    assert!(attempts(&gateway) <= 2, "{said}");
}
