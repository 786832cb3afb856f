//! `--allow-caller`: which callers may call, by name.
//!
//! A name is the SAN of a certificate (a URI such as a SPIFFE id, or a DNS name) or the subject of a
//! token. An entry names one caller, or ends in a `*` that stands for exactly one last segment: a
//! path segment of a URI, a part of a `:`-separated subject, or a label of a DNS name. As
//! certificates write a wildcard as the first label, that is taken too.

use super::checked::Checked;

/// The callers that may call. Empty: every caller that is identified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList(Vec<Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    /// This name.
    Exact(String),
    /// Names that go on after this prefix with one segment, in which the separator doesn't occur.
    After(String, char),
    /// Names with one label before this suffix.
    Before(String),
}

impl AllowList {
    /// The list of these entries, or what is wrong with one of them.
    pub fn parse<'a>(entries: impl IntoIterator<Item = &'a str>) -> Checked<Self> {
        let entries: Checked<Vec<_>> = entries.into_iter().map(Entry::parse).collect();
        entries.map(Self)
    }

    /// Whether a caller of this name may call.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|entry| entry.matches(name))
    }
}

impl Entry {
    fn parse(text: &str) -> Checked<Self> {
        const MISPLACED: &str = "`*` may only stand for a whole last segment, such as \
             spiffe://trust.domain/ns/prod/*, or for the first label of a DNS name";
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must be a name of printable ASCII without spaces");
        }
        match text.matches('*').count() {
            0 => return Ok(Self::Exact(normal(text))),
            1 => {}
            _ => return Err(MISPLACED),
        }
        let separator = separator(text);
        if let Some(prefix) = text.strip_suffix('*') {
            let has_segments = prefix.len() > 1
                && prefix.ends_with(separator)
                // `spiffe://*` would be any trust domain, which is no path segment.
                && !prefix.ends_with("://");
            return has_segments
                .then(|| Self::After(normal(prefix), separator))
                .ok_or(MISPLACED);
        }
        match text.strip_prefix('*') {
            Some(suffix) if separator == '.' && suffix.len() > 1 && suffix.starts_with('.') => {
                Ok(Self::Before(normal(suffix)))
            }
            Some(_) | None => Err(MISPLACED),
        }
    }

    fn matches(&self, name: &str) -> bool {
        let name = normal(name);
        let is_segment =
            |text: &str, separator| !text.is_empty() && !text.contains([separator, '*']);
        match self {
            Self::Exact(exact) => *exact == name,
            Self::After(prefix, separator) => name
                .strip_prefix(prefix.as_str())
                .is_some_and(|segment| is_segment(segment, *separator)),
            Self::Before(suffix) => name
                .strip_suffix(suffix.as_str())
                .is_some_and(|label| is_segment(label, '.')),
        }
    }
}

/// What separates the segments of a name: of a URI, a subject or a DNS name.
fn separator(name: &str) -> char {
    if name.contains("://") {
        '/'
    } else if name.contains(':') {
        ':'
    } else {
        '.'
    }
}

/// DNS names are the same in any case; URIs and subjects are not.
fn normal(name: &str) -> String {
    if separator(name) == '.' {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(entry: &str, name: &str) -> bool {
        AllowList::parse([entry]).unwrap().has(name)
    }

    #[test]
    fn an_entry_names_one_caller() {
        for name in [
            "spiffe://td/ns/prod/sa/web",
            "system:serviceaccount:prod:web",
            "web.prod.svc",
        ] {
            assert!(has(name, name));
            assert!(!has(name, &format!("{name}x")));
            assert!(!has(name, &name[1..]));
        }
        assert!(has("Web.prod", "wEB.prod"));
        assert!(!has("spiffe://td/Web", "spiffe://td/web"));
    }

    #[test]
    fn a_star_is_one_segment() {
        for (entry, name, is_in) in [
            ("spiffe://td/ns/prod/*", "spiffe://td/ns/prod/web.v2", true),
            ("spiffe://td/ns/prod/*", "spiffe://td/ns/prod/", false),
            ("spiffe://td/ns/prod/*", "spiffe://td/ns/prod", false),
            ("spiffe://td/ns/prod/*", "spiffe://td/ns/prod/a/b", false),
            ("spiffe://td/ns/prod/*", "spiffe://td/ns/production", false),
            (
                "system:serviceaccount:prod:*",
                "system:serviceaccount:prod:web",
                true,
            ),
            (
                "system:serviceaccount:prod:*",
                "system:serviceaccount:prod:a:b",
                false,
            ),
            ("web.*", "web.prod", true),
            ("web.*", "web.prod.svc", false),
            ("*.prod.svc", "web.prod.svc", true),
            ("*.prod.svc", "a.web.prod.svc", false),
            ("*.prod.svc", ".prod.svc", false),
            ("*.prod.svc", "*.prod.svc", false),
        ] {
            assert_eq!(has(entry, name), is_in, "{entry} {name}");
        }
    }

    #[test]
    fn any_entry_will_do_and_without_a_list_everybody_may() {
        let list = AllowList::parse(["*.svc", "billing"]).unwrap();
        assert!(list.has("web.svc") && list.has("billing"));
        assert!(!list.has("web"));
        assert!(AllowList::default().has("web"));
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for entry in [
            "",
            "*",
            "**",
            "w*",
            "*w",
            "spiffe://*",
            "spiffe://*/ns",
            "spiffe://td/*/sa",
            "a.*.b",
            "*.",
            ".*",
            "*.*",
            "*:web",
            "a b",
        ] {
            assert!(AllowList::parse([entry]).is_err(), "{entry}");
        }
    }
}
