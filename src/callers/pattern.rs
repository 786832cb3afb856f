//! The names that an entry is for.
//!
//! A pattern knows which kind of name it is for: by its prefix (`dns:`, `uri:`, `sub:`), or, without one, by
//! its form. It names one caller, or has one `*`, which stands for the first label of a DNS name, for the last
//! path segment of a URI, or for the last part of a subject that colons divide.

use super::{
    Name, NameKind,
    NameKind::{Dns, Subject, Uri},
};

/// The names of one caller, or of those that differ in one label or segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The kinds of names that it is for.
    kinds: &'static [NameKind],
    text: Text,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Text {
    /// This name.
    Exact(String),
    /// Names that go on after this prefix with one segment, in which the separator doesn't occur.
    After(String, char),
    /// Names with one label before this suffix.
    Before(String),
}

const PREFIXES: [(&str, &[NameKind]); 3] =
    [("dns:", &[Dns]), ("uri:", &[Uri]), ("sub:", &[Subject])];

impl Pattern {
    /// The pattern of a value of `--allow-caller`.
    pub fn of_flag(text: &str) -> Result<Self, &'static str> {
        Self::prefixed(text).unwrap_or_else(|| Self::of(text, kinds_by_form(text)))
    }

    /// The pattern of a name in the file, where a subject has to say that it is one.
    pub fn of_entry(text: &str) -> Result<Self, &'static str> {
        let by_form = || match text {
            _ if text.contains("://") => Self::of(text, &[Uri]),
            _ if text.contains(':') => Err(
                "must begin with sub: where it is a token's subject, and with uri: where it is a URI",
            ),
            _ => Self::of(text, &[Dns]),
        };
        Self::prefixed(text).unwrap_or_else(by_form)
    }

    fn prefixed(text: &str) -> Option<Result<Self, &'static str>> {
        PREFIXES
            .iter()
            .find_map(|(prefix, kinds)| Some(Self::of(text.strip_prefix(prefix)?, kinds)))
    }

    fn of(text: &str, kinds: &'static [NameKind]) -> Result<Self, &'static str> {
        if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
            return Err("must be a name of printable ASCII without spaces");
        }
        let text = Text::parse(text, kinds)?;
        Ok(Self { kinds, text })
    }

    /// Whether a name is one of these.
    pub fn matches(&self, name: &Name) -> bool {
        self.kinds.contains(&name.kind) && self.text.matches(name)
    }

    /// The one name that it is for, unless a `*` makes it a pattern of many, or the kind is open.
    pub fn exact(&self) -> Option<Name> {
        match (self.kinds, &self.text) {
            (&[kind], Text::Exact(text)) => Some(Name {
                kind,
                text: text.clone(),
            }),
            _ => None,
        }
    }
}

/// The kinds of names that a pattern without a prefix is for. A URI may also be a token's subject: that of
/// a SPIFFE JWT is. A name without a `*` is for whatever vouches for exactly this name.
fn kinds_by_form(text: &str) -> &'static [NameKind] {
    match text {
        _ if !text.contains('*') => &[Dns, Uri, Subject],
        _ if text.contains("://") => &[Uri, Subject],
        _ if text.contains(':') => &[Subject],
        _ => &[Dns],
    }
}

impl Text {
    fn parse(text: &str, kinds: &[NameKind]) -> Result<Self, &'static str> {
        const MISPLACED: &str = "`*` may only stand for the first label of a DNS name, as in *.prod.svc, or for \
             a whole last segment, as in spiffe://trust.domain/ns/prod/*";
        if !text.contains('*') {
            // The same in any case; URIs and subjects are not.
            let is_domain = *kinds == [Dns];
            return Ok(Self::Exact(if is_domain {
                text.to_ascii_lowercase()
            } else {
                text.to_owned()
            }));
        }
        let parsed = if kinds.contains(&NameKind::Dns) {
            text.strip_prefix('*')
                .filter(|suffix| is_domain(suffix))
                .map(|suffix| Self::Before(suffix.to_ascii_lowercase()))
        } else {
            text.strip_suffix('*').and_then(Self::after)
        };
        parsed.ok_or(MISPLACED)
    }

    /// What a `*` after this prefix means.
    fn after(prefix: &str) -> Option<Self> {
        let separator = match prefix.split_once("://") {
            // The segment is the path's: neither the trust domain nor a part of a query.
            Some((_, rest)) if rest.find('/')? > 0 && !rest.contains(['?', '#']) => '/',
            None if prefix.len() > 1 => ':',
            Some(_) | None => return None,
        };
        let is_whole = prefix.ends_with(separator) && !prefix.contains('*');
        is_whole.then(|| Self::After(prefix.to_owned(), separator))
    }

    fn matches(&self, name: &Name) -> bool {
        let text = match name.kind {
            NameKind::Dns => &name.text.to_ascii_lowercase(),
            NameKind::Uri | NameKind::Subject => &name.text,
        };
        match self {
            Self::Exact(exact) if name.kind == NameKind::Dns => exact.eq_ignore_ascii_case(text),
            Self::Exact(exact) => exact == text,
            Self::After(prefix, separator) => {
                text.strip_prefix(prefix.as_str()).is_some_and(|rest| {
                    !rest.is_empty() && !rest.contains([*separator, '*', '?', '#'])
                })
            }
            Self::Before(suffix) => text
                .strip_suffix(suffix.as_str())
                .is_some_and(|label| !label.is_empty() && !label.contains(['.', '*'])),
        }
    }
}

/// Whether this is a dot and the domain that a `*` stands in.
fn is_domain(suffix: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    suffix
        .strip_prefix('.')
        .is_some_and(|domain| domain.split('.').all(is_label))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(kind: NameKind, text: &str) -> Name {
        let text = text.to_owned();
        Name { kind, text }
    }

    fn has(entry: &str, kind: NameKind, text: &str) -> bool {
        Pattern::of_flag(entry).unwrap().matches(&name(kind, text))
    }

    #[test]
    fn an_entry_names_one_caller() {
        for (kind, text) in [
            (Uri, "spiffe://td/ns/prod/sa/web"),
            (Subject, "system:serviceaccount:prod:web"),
            (Dns, "web.prod.svc"),
        ] {
            assert!(has(text, kind, text));
            assert!(!has(text, kind, &format!("{text}x")));
            assert!(!has(text, kind, &text[1..]));
        }
        assert!(has("Web.prod", Dns, "wEB.prod"));
        assert!(!has("Web.prod", Subject, "wEB.prod"));
        assert!(!has("spiffe://td/Web", Uri, "spiffe://td/web"));
    }

    #[test]
    fn a_star_is_one_segment() {
        for (entry, kind, text, is_in) in [
            (
                "spiffe://td/ns/prod/*",
                Uri,
                "spiffe://td/ns/prod/web.v2",
                true,
            ),
            (
                "spiffe://td/ns/prod/*",
                Subject,
                "spiffe://td/ns/prod/web",
                true,
            ),
            ("spiffe://td/ns/prod/*", Uri, "spiffe://td/ns/prod/", false),
            ("spiffe://td/ns/prod/*", Uri, "spiffe://td/ns/prod", false),
            (
                "spiffe://td/ns/prod/*",
                Uri,
                "spiffe://td/ns/prod/a/b",
                false,
            ),
            (
                "spiffe://td/ns/prod/*",
                Uri,
                "spiffe://td/ns/prod/a?b",
                false,
            ),
            (
                "spiffe://td/ns/prod/*",
                Uri,
                "spiffe://td/ns/production",
                false,
            ),
            (
                "system:serviceaccount:prod:*",
                Subject,
                "system:serviceaccount:prod:web",
                true,
            ),
            (
                "system:serviceaccount:prod:*",
                Subject,
                "system:serviceaccount:prod:a:b",
                false,
            ),
            ("*.prod.svc", Dns, "web.prod.svc", true),
            ("*.Prod.svc", Dns, "web.pROD.svc", true),
            ("*.prod.svc", Dns, "a.web.prod.svc", false),
            ("*.prod.svc", Dns, ".prod.svc", false),
            ("*.prod.svc", Dns, "*.prod.svc", false),
        ] {
            assert_eq!(has(entry, kind, text), is_in, "{entry} {text}");
        }
    }

    #[test]
    fn a_pattern_is_for_its_own_kind_of_name() {
        for (entry, kind, text) in [
            ("*.prod.svc", Uri, "spiffe://evil.prod.svc"),
            (
                "*.prod.svc",
                Subject,
                "system:serviceaccount:evil:x.prod.svc",
            ),
            ("*.prod.svc", Subject, "web.prod.svc"),
            (
                "system:serviceaccount:prod:*",
                Uri,
                "system:serviceaccount:prod:web",
            ),
            ("dns:web.svc", Subject, "web.svc"),
            ("uri:spiffe://td/*", Subject, "spiffe://td/web"),
            ("sub:spiffe://td/*", Uri, "spiffe://td/web"),
            ("sub:web", Dns, "web"),
        ] {
            assert!(!has(entry, kind, text), "{entry} {text}");
        }
        assert!(has("dns:*.svc", Dns, "web.svc"));
        assert!(has("uri:spiffe://td/*", Uri, "spiffe://td/web"));
        assert!(has("uri:urn:web", Uri, "urn:web"));
        assert!(has(
            "sub:system:serviceaccount:prod:*",
            Subject,
            "system:serviceaccount:prod:web"
        ));
    }

    /// In the file, certificates and tokens have nothing in common.
    #[test]
    fn an_entry_without_a_prefix_is_a_san() {
        let has = |entry, kind, text| {
            Pattern::of_entry(entry).is_ok_and(|pattern| pattern.matches(&name(kind, text)))
        };
        assert!(has("web.svc", Dns, "web.svc") && !has("web.svc", Subject, "web.svc"));
        assert!(has("spiffe://td/*", Uri, "spiffe://td/web"));
        assert!(!has("spiffe://td/*", Subject, "spiffe://td/web"));
        assert!(has("sub:web", Subject, "web") && !has("sub:web", Dns, "web"));
        assert!(Pattern::of_entry("system:serviceaccount:prod:web").is_err());
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for entry in [
            "",
            "*",
            "**",
            "w*",
            "*w",
            "web.*",
            "web.prod.*",
            "spiffe://*",
            "spiffe:///*",
            "spiffe://*/ns",
            "spiffe://td/*/sa",
            "spiffe://td/*/*",
            "https://td/a?b=/*",
            "a.*.b",
            "*.",
            "*..svc",
            "*.a/b",
            ".*",
            "*.*",
            "*:web",
            ":*",
            "a b",
            "dns:",
            "dns:web.*",
            "dns:spiffe://td/*",
            "uri:*.svc",
            "sub:*.svc",
            "sub:web.*",
        ] {
            assert!(Pattern::of_flag(entry).is_err(), "{entry}");
        }
    }
}
