//! How private data is. Joined upward, never down.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What may become of what a map holds. The order goes from the most private to the most open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Label {
    /// For its owner's eyes.
    #[default]
    Private,
    /// For those whom its owner chooses.
    Shareable,
    /// For everybody.
    Public,
}

impl Label {
    pub const ALL: [Label; 3] = [Label::Private, Label::Shareable, Label::Public];

    /// The label of what is made from both: the more private of the two.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        self.min(other)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Label::Private => "private",
            Label::Shareable => "shareable",
            Label::Public => "public",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|label| label.as_str() == text)
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_from_private_data_is_private() {
        assert_eq!(Label::Public.join(Label::Private), Label::Private);
        assert_eq!(Label::Public.join(Label::Shareable), Label::Shareable);
        assert_eq!(Label::default(), Label::Private);
        for label in Label::ALL {
            assert_eq!(Label::parse(label.as_str()), Some(label));
        }
    }
}
