//! Texts in a form in which a value and a quotation of it are the same: frameworks change the case,
//! the white space and the escapes of what they quote.

use std::ops::Range;

/// Stands at both ends of each word, so that a search for whole words is a plain search.
const EDGE: char = '\u{1}';

/// A text in its normal form.
pub(super) struct Normal {
    pub(super) text: String,
    /// Where in the text as it was each byte of it comes from.
    origins: Vec<Range<usize>>,
}

impl Normal {
    /// What a place of the normal form was made of.
    pub(super) fn origin(&self, range: Range<usize>) -> Range<usize> {
        let origins = &self.origins[range];
        let start = origins.first().map_or(0, |origin| origin.start);
        let end = origins.last().map_or(start, |origin| origin.end);
        start..end
    }

    /// The text, to be found within a word too.
    pub(super) fn without_edges(&self) -> &str {
        self.text.trim_matches(EDGE)
    }

    fn push(&mut self, c: char, origin: &Range<usize>) {
        self.text.push(c);
        let bytes = std::iter::repeat_n(origin.clone(), c.len_utf8());
        self.origins.extend(bytes);
    }
}

/// The text in one case, its white space and control characters as single blanks, its escapes read.
pub(super) fn normalised(text: &str) -> Normal {
    normal(text, unescaped)
}

/// The same, with its escapes as they are.
pub(super) fn folded(text: &str) -> Normal {
    normal(text, |_| None)
}

fn normal(text: &str, unescape: fn(&str) -> Option<(char, usize)>) -> Normal {
    let mut normal = Normal {
        text: String::with_capacity(text.len() + 16),
        origins: Vec::with_capacity(text.len() + 16),
    };
    let text = text.trim_end_matches(is_blank);
    let (mut at, mut in_word, mut blank) = (0, false, true);
    while let Some(first) = text[at..].chars().next() {
        let (c, length) = unescape(&text[at..]).unwrap_or((first, first.len_utf8()));
        let origin = at..at + length;
        at = origin.end;
        if is_blank(c) && blank {
            continue;
        }
        blank = is_blank(c);
        if c.is_alphanumeric() != in_word {
            in_word = !in_word;
            normal.push(EDGE, &(origin.start..origin.start));
        }
        if blank {
            normal.push(' ', &origin);
            continue;
        }
        // The capital letter first: a few letters have two small ones.
        for c in c.to_uppercase().flat_map(char::to_lowercase) {
            normal.push(c, &origin);
        }
    }
    if in_word {
        normal.push(EDGE, &(at..at));
    }
    normal
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// The character that an escape at the beginning of a text stands for, and the length of the escape.
fn unescaped(text: &str) -> Option<(char, usize)> {
    if let Some(rest) = text.strip_prefix('&') {
        let (entity, _) = rest.split_at_checked(rest.find(';')?)?;
        return Some((entity_named(entity)?, entity.len() + 2));
    }
    let rest = text.strip_prefix('\\')?;
    let hex = |digits: usize| {
        let code = u32::from_str_radix(rest.get(1..=digits)?, 16).ok()?;
        Some((char::from_u32(code)?, digits + 2))
    };
    match rest.chars().next()? {
        'u' => hex(4),
        'x' => hex(2),
        'n' => Some(('\n', 2)),
        'r' => Some(('\r', 2)),
        't' => Some(('\t', 2)),
        c @ ('"' | '\'' | '\\' | '/') => Some((c, 2)),
        _ => None,
    }
}

fn entity_named(entity: &str) -> Option<char> {
    match entity {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = entity.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)
        }
    }
}
