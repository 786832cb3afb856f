//! What the documents name is there.

use std::{fs, path::Path};

/// The names of all tests, in `src` and in `tests/it`.
fn tests(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            names.extend(tests_of(&fs::read_to_string(path).unwrap()));
        }
    }
}

/// Functions that follow `#[test]` or `#[tokio::test…]`, whatever other attributes stand between.
fn tests_of(source: &str) -> Vec<String> {
    let mut is_test = false;
    let mut names = Vec::new();
    for line in source.lines().map(str::trim_start) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ")
            && is_test
        {
            names.extend(rest.split_once('(').map(|(name, _)| name.to_owned()));
            is_test = false;
        }
    }
    names
}

/// The claims are the rows of the tables whose last column is `test`.
#[test]
fn each_claim_of_security_md_names_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    tests(&root.join("src"), &mut names);
    tests(&root.join("tests/it"), &mut names);

    let text = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut claims = 0;
    let mut in_table = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|') else {
            in_table = false;
            continue;
        };
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap().trim();
        if last == "test" {
            in_table = true;
        } else if in_table && last != "---" {
            claims += 1;
            let claimed: Vec<&str> = last
                .split(", ")
                .map(|name| name.trim_matches('`'))
                .collect();
            let missing: Vec<_> = claimed
                .iter()
                .filter(|name| !names.iter().any(|test| test == *name))
                .collect();
            assert!(missing.is_empty(), "no such test: {missing:?}, in: {line}");
        }
    }
    assert!(claims > 30, "only {claims} claims were found");
}

/// The rows are those of the table whose columns are `language`, `the line` and `in`.
#[test]
fn each_line_for_a_caller_in_writes_md_stands_in_the_example_that_it_names() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let text = fs::read_to_string(docs.join("writes.md")).unwrap();
    let rows: Vec<[&str; 3]> = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != "| language | the line | in |")
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|row| row.split(" | ").collect::<Vec<_>>().try_into().unwrap())
        .collect();
    assert_eq!(
        rows.iter().map(|row| row[0]).collect::<Vec<_>>(),
        ["Go", "Java", "Node", "Python", "Rust"]
    );
    for [language, line, link] in rows {
        let (_, path) = link.trim_end_matches(')').split_once("](").unwrap();
        let example = fs::read_to_string(docs.join(path)).unwrap();
        let line = line.trim_matches('`');
        assert!(
            example.lines().any(|of_it| of_it.trim() == line),
            "{language}: {path} has no line {line}"
        );
    }
}
