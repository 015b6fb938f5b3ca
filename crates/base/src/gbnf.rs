//! Grammars in GBNF, as llama.cpp reads them, as grammars in llguidance's Lark: the same texts and no others. Pure.
//!
//! Where a grammar doesn't refer to itself it is one expression, and so it is handed on. Where it does, its regular parts
//! become terminals, and what matches grammars takes the longest terminal that fits, which GBNF doesn't. So each pair of
//! terminals that may be waited for at one place is compared: if one of them may end where another goes on, with the
//! same character, the grammar is refused with the rule's place. What is handed on means the same in both languages.

mod read;
mod regular;
mod write;

use crate::fault::{Code, Fault};
use crate::shape::SHAPE_BYTES_MAX;

/// LIMIT: rules of a grammar.
const RULES_MAX: usize = 2000;
/// LIMIT: brackets within each other.
const DEPTH_MAX: usize = 64;
/// LIMIT: repetitions, lists and options of one rule within each other.
const PARTS_DEEP_MAX: usize = 4 * DEPTH_MAX;
/// LIMIT: how deep parts lie in each other, with rules that are referred to.
const CHAIN_MAX: usize = 500;
/// LIMIT: of `{m,n}`, as in llama.cpp.
const REPEATS_MAX: u32 = 2000;

/// Why a grammar can't be used, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub place: Place,
    pub reason: String,
}

/// In a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

impl Refused {
    fn new(place: Place, reason: impl Into<String>) -> Self {
        Self { place, reason: reason.into() }
    }
}

/// Characters from one to another.
type Ranges = Vec<(u32, u32)>;

/// A part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Text(String),
    /// One character out of these ranges, which are ascending and apart.
    Class(Ranges),
    /// The rule of that number.
    Rule(usize),
    All(Vec<Node>),
    Any(Vec<Node>),
    Again {
        node: Box<Node>,
        least: u32,
        most: Option<u32>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    name: String,
    place: Place,
    node: Node,
}

/// Whether a text is GBNF and not Lark: its first rule has GBNF's sign.
pub fn is_gbnf(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    lines.next().is_some_and(|line| line.trim_start_matches(name).trim_start().starts_with("::="))
}

/// The same grammar in Lark.
///
/// # Errors
/// What isn't GBNF, can't be kept to exactly, or is too large, with its place.
pub fn to_lark(text: &str) -> Result<String, Refused> {
    let rules = read::rules(text)?;
    let lark = write::lark(&rules)?;
    if lark.len() > SHAPE_BYTES_MAX {
        let place = Place { line: 1, column: 1 };
        return Err(Refused::new(place, format!("takes more than {SHAPE_BYTES_MAX} bytes in Lark")));
    }
    Ok(lark)
}

impl From<Refused> for Fault {
    fn from(Refused { place: Place { line, column }, reason }: Refused) -> Self {
        let words = format!("the grammar, at line {line}, column {column}, {reason}");
        Self::new(Code::InvalidAsk, words).hint("write that part otherwise; docs/api.md says what is read of GBNF")
    }
}

#[cfg(test)]
mod tests;
