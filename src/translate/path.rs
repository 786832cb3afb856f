//! Where a value stands in a message or a document, as in `custom_properties.tags[2]`. Built without
//! an allocation on the way down, as it is seldom asked for.

use std::fmt::{self, Write as _};

/// Bytes that a path may have where it is kept or told. The keys in it are of a peer's making, and so
/// is how often it is asked for.
const MAX_LENGTH: usize = 256;
const ELLIPSIS: &str = "...";

/// A place, by the steps that lead to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Path<'a> {
    /// The document itself.
    Root,
    /// A field of what stands at another place.
    Field(&'a Path<'a>, &'a str),
    /// An element of a list that stands at another place.
    Index(&'a Path<'a>, usize),
}

impl Path<'_> {
    /// The path as text, clipped while it is written.
    pub(super) fn clipped(&self) -> String {
        let mut clipped = Clipped(String::new());
        if write!(clipped, "{self}").is_err() {
            clipped.0.push_str(ELLIPSIS);
        }
        clipped.0
    }
}

/// A text that takes no more than [`MAX_LENGTH`], the ellipsis included.
struct Clipped(String);

impl fmt::Write for Clipped {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = MAX_LENGTH - ELLIPSIS.len() - self.0.len();
        let end = text.floor_char_boundary(room);
        self.0.push_str(&text[..end]);
        if end < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_in_a_field_mask() {
        let properties = Path::Field(&Path::Root, "custom_properties");
        let tags = Path::Field(&properties, "tags");
        assert_eq!(
            Path::Index(&tags, 2).to_string(),
            "custom_properties.tags[2]"
        );
        assert_eq!(Path::Root.to_string(), "");
    }

    #[test]
    fn a_long_path_is_clipped_between_characters() {
        let key = "\u{e9}".repeat(1000);
        let long = Path::Field(&Path::Root, &key);
        let clipped = Path::Index(&long, 2).clipped();
        assert!(clipped.len() <= MAX_LENGTH, "{}", clipped.len());
        assert!(clipped.ends_with("\u{e9}..."), "{clipped}");
        assert_eq!(Path::Field(&Path::Root, "a").clipped(), "a");
    }
}
