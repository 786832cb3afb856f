//! Files of every kind, and what is wrong in them.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use flate2::{Compression, write::GzEncoder};
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{HEADER, MAP, attempts, csv, ended, gateway, import, said};

/// Runs it with this on standard input.
async fn fed(mut command: Command, input: &[u8]) -> (Option<i32>, String) {
    let mut running = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = running.stdin.take().unwrap();
    // It may end before it has read all.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    said(running.wait_with_output().await.unwrap())
}

/// Eleven lines, on which six rows are wrong and three are right.
fn with_wrong_rows() -> Vec<u8> {
    let row = |id: &str| format!("f37F2PPh,2023-01-02T03:04:05Z,{id},user,a@example.com,true\n");
    let mut file = HEADER.as_bytes().to_vec();
    let first_name = file.len() - 1;
    file.splice(first_name..first_name, *b",customer.first_name");
    let named = |id: &str, name: &str| row(id).replace("true\n", &format!("true,{name}\n"));
    file.extend(named("first", "\"Ada, \"\"Countess\"\"\nof Lovelace\"").as_bytes()); // lines 2 and 3
    file.extend(named("quote", "\"never closed").as_bytes());
    file.extend(named("second", "Joe").as_bytes());
    file.extend(named("many", "Joe,more").as_bytes());
    file.extend(
        named("rules", "")
            .replace("a@example.com", "")
            .replace("2023", "year")
            .as_bytes(),
    );
    file.extend(
        [
            named("latin", "Jos")
                .as_bytes()
                .strip_suffix(b"\n")
                .unwrap(),
            b"\xe9\n",
        ]
        .concat(),
    );
    file.extend(named("long", &"x".repeat(10 << 20)).as_bytes());
    file.extend(named("bool", "Joe").replace("true", "maybe").as_bytes());
    file.extend(named("third", "Joe").as_bytes());
    file
}

const TOLD: [&str; 6] = [
    ":4: has a quote that is never closed",
    ":6: has 8 cells, and the header has 7",
    ":7: ",
    ":8: is not UTF-8",
    ":9: is longer than 1 MiB",
    ":10: customer.has_payment_method must be true or false",
];

#[tokio::test]
async fn rows_that_are_wrong_are_named_by_line_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    fs::write(&file, with_wrong_rows()).unwrap();
    for flags in [&[MAP][..], &[MAP, "--dry-run"]] {
        let (code, said) = ended(import(&gateway, &file, flags)).await;
        assert_eq!(code, Some(64), "{said}");
        for place in TOLD {
            assert!(
                said.contains(&format!("customers.csv{place}")),
                "{place}: {said}"
            );
        }
        assert!(
            said.contains("6 of 9 rows are wrong; nothing was sent"),
            "{said}"
        );
    }
    assert_eq!(attempts(&gateway), 0);
}

#[tokio::test]
async fn of_standard_input_the_wrong_rows_are_named_and_the_others_are_sent() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let errors = folder.path().join("errors.csv");
    let flag = format!("--errors={}", errors.display());
    let command = import(&gateway, Path::new("-"), &[MAP, "--format=csv", &flag]);
    let (code, said) = fed(command, &with_wrong_rows()).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("sent 3, replayed 0, invalid 6,"), "{said}");
    for place in TOLD {
        assert!(said.contains(&format!("-{place}")), "{place}: {said}");
    }
    assert_eq!(attempts(&gateway), 3);
    // Below the header stands each row as it was. Mended, they go in.
    let kept = fs::read(&errors).unwrap();
    let mended = String::from_utf8_lossy(&kept)
        .replace("\"never", "never")
        .replace("Joe,more", "Joe")
        .replace("year-01", "2023-01")
        .replace("rules,user,,", "rules,user,a@example.com,")
        .replace("Jos\u{fffd}", "José")
        .replace("maybe", "true");
    fs::write(&errors, mended).unwrap();
    let (code, said) = ended(import(&gateway, &errors, &[MAP])).await;
    assert_eq!((code, attempts(&gateway)), (Some(0), 8), "{said}");
    assert!(said.starts_with("sent 5, replayed 0, invalid 0,"), "{said}");
}

#[tokio::test]
async fn a_header_that_cannot_be_used_is_named_and_nothing_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let file = folder.path().join("customers.csv");
    for (header, problem) in [
        (
            "customer.id,site_key,customer.id",
            "the header has the column \"customer.id\" twice",
        ),
        (
            "mail,customer.email",
            "the header has the column \"customer.email\" twice",
        ),
        (
            "customer.id,customer.size",
            "\"customer.size\" names no field of CreateCustomerRequest",
        ),
        ("customer", "\"customer\" names no field"),
        (
            "event_date.seconds",
            "\"event_date.seconds\" names no field",
        ),
        (
            "custom_properties.a.b",
            "\"custom_properties.a.b\" names no field",
        ),
        ("site_key,\"customer.id", "has a quote that is never closed"),
    ] {
        fs::write(&file, format!("{header}\na,b,c\n")).unwrap();
        let (code, said) = ended(import(&gateway, &file, &[MAP])).await;
        assert_eq!(code, Some(64), "{said}");
        assert!(
            said.contains("customers.csv: line 1: ") && said.contains(problem),
            "{said}"
        );
    }
    let (code, said) = ended(import(&gateway, &folder.path().join("none.csv"), &[])).await;
    assert!(
        code == Some(64) && said.contains("none.csv: can't be read: "),
        "{said}"
    );
    assert_eq!(attempts(&gateway), 0);
}

#[tokio::test]
async fn a_file_is_the_same_plain_in_gzip_in_zstd_and_by_standard_input() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let plain = csv(5);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(plain.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(plain.as_bytes(), 1).unwrap();
    for (name, content, counts) in [
        ("a.csv", plain.as_bytes(), "sent 5, replayed 0, "),
        ("a.csv.gz", &gzip, "sent 0, replayed 5, "),
        ("a.csv.zst", &zstd, "sent 0, replayed 5, "),
    ] {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        let (code, said) = ended(import(&gateway, &file, &[MAP])).await;
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(said.starts_with(counts), "{name}: {said}");
    }
    for (name, content) in [("-", &gzip[..]), ("/dev/stdin", plain.as_bytes())] {
        let command = import(&gateway, Path::new(name), &[MAP, "--format=csv"]);
        let (code, said) = fed(command, content).await;
        assert_eq!(code, Some(0), "{name}: {said}");
        assert!(said.starts_with("sent 0, replayed 5, "), "{name}: {said}");
    }
    let file = folder.path().join("cut.csv.gz");
    fs::write(&file, &gzip[..gzip.len() / 2]).unwrap();
    let (code, said) = ended(import(&gateway, &file, &[MAP])).await;
    assert!(
        code == Some(64) && said.contains("cut.csv.gz: can't be read: "),
        "{said}"
    );
    assert_eq!(attempts(&gateway), 5);
}

#[tokio::test]
async fn a_file_that_is_read_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = gateway(Some(&folder)).await;
    let file = folder.path().join("errors.csv");
    fs::write(&file, csv(2)).unwrap();
    for name in ["errors", "report"] {
        let flag = format!("--{name}={}", file.display());
        let (code, said) = ended(import(&gateway, &file, &[MAP, &flag])).await;
        assert_eq!(code, Some(64), "{said}");
        assert!(
            said.contains("can't be the file of --errors or --report too"),
            "{said}"
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), csv(2));
}
