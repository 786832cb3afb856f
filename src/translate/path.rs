//! Where a value stands in a message or a document, as in `custom_properties.tags[2]`. Built without
//! an allocation on the way down, as it is seldom asked for.

use std::fmt;

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
}
