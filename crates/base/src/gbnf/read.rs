//! From text to rules.

use super::{DEPTH_MAX, Node, PARTS_DEEP_MAX, Place, REPEATS_MAX, RULES_MAX, Refused, Rule, regular};
use std::collections::HashMap;

pub(super) fn rules(text: &str) -> Result<Vec<Rule>, Refused> {
    let mut reader =
        Reader { rest: text, place: Place { line: 1, column: 1 }, names: HashMap::new(), rules: Vec::new() };
    reader.space(true);
    while !reader.rest.is_empty() {
        reader.rule()?;
    }
    reader.finish()
}

/// A rule that was named, and where; and what it is, once that was read.
struct Known {
    name: String,
    named: Place,
    made: Option<(Place, Node)>,
}

struct Reader<'a> {
    rest: &'a str,
    place: Place,
    names: HashMap<String, usize>,
    rules: Vec<Known>,
}

impl Reader<'_> {
    fn refused<T>(&self, reason: impl Into<String>) -> Result<T, Refused> {
        Err(Refused::new(self.place, reason))
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.place = match c {
            '\n' => Place { line: self.place.line + 1, column: 1 },
            _ => Place { column: self.place.column + 1, ..self.place },
        };
        Some(c)
    }

    /// Goes on by so many characters, which take a byte each.
    fn advance(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// `sign`: of characters that take a byte each.
    fn skip(&mut self, sign: &str) -> bool {
        let is_there = self.rest.starts_with(sign);
        if is_there {
            self.advance(sign.len());
        }
        is_there
    }

    /// White space and comments; line breaks too where `lines` allows them.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.advance(1),
                '\r' | '\n' if lines => self.advance(1),
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n' && c != '\r') {
                        self.next();
                    }
                }
                _ => return,
            }
        }
    }

    fn name(&mut self) -> Result<(String, Place), Refused> {
        let place = self.place;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let name = self.rest[..end].to_owned();
        if name.is_empty() {
            return self.refused("has no rule's name here: letters, digits and `-`");
        }
        self.advance(end);
        Ok((name, place))
    }

    /// The number of the rule of this name, which may be read later.
    fn number(&mut self, name: String, place: Place) -> Result<usize, Refused> {
        if let Some(number) = self.names.get(&name) {
            return Ok(*number);
        }
        if self.rules.len() >= RULES_MAX {
            return Err(Refused::new(place, format!("has more than {RULES_MAX} rules")));
        }
        let number = self.rules.len();
        self.names.insert(name.clone(), number);
        self.rules.push(Known { name, named: place, made: None });
        Ok(number)
    }

    fn rule(&mut self) -> Result<(), Refused> {
        let (name, place) = self.name()?;
        self.space(false);
        if !self.skip("::=") {
            return self.refused("has no `::=` behind a rule's name");
        }
        self.space(true);
        let node = self.alternatives(0)?;
        match self.peek() {
            None | Some('\n' | '\r') => {}
            Some(c) => return self.refused(format!("has a `{c}` that belongs to nothing")),
        }
        self.space(true);
        let words = format!("has a second rule `{name}`");
        let number = self.number(name, place)?;
        if self.rules[number].made.is_some() {
            return Err(Refused::new(place, words));
        }
        self.rules[number].made = Some((place, node));
        Ok(())
    }

    fn alternatives(&mut self, depth: usize) -> Result<Node, Refused> {
        let mut options = vec![self.sequence(depth)?];
        while self.skip("|") {
            self.space(true);
            options.push(self.sequence(depth)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Any(options) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, Refused> {
        let mut items = Vec::new();
        while let Some(c) = self.peek() {
            let item = match c {
                '"' => self.literal()?,
                '[' => self.class()?,
                '.' => {
                    self.next();
                    Node::Class(everything())
                }
                '(' => self.group(depth)?,
                '*' | '+' | '?' | '{' => {
                    let Some(node) = items.pop() else {
                        return self.refused(format!("has a `{c}` behind nothing"));
                    };
                    if regular::deep(&node) > PARTS_DEEP_MAX {
                        return self
                            .refused(format!("has parts that lie more than {PARTS_DEEP_MAX} deep in each other"));
                    }
                    self.repeated(node)?
                }
                '<' | '!' => return self.refused("names a token, which isn't read here: write its text"),
                c if c.is_ascii_alphanumeric() || c == '-' => {
                    let (name, place) = self.name()?;
                    Node::Rule(self.number(name, place)?)
                }
                _ => break,
            };
            items.push(item);
            self.space(depth > 0);
        }
        Ok(if items.len() == 1 { items.remove(0) } else { Node::All(items) })
    }

    fn group(&mut self, depth: usize) -> Result<Node, Refused> {
        if depth >= DEPTH_MAX {
            return self.refused(format!("has more than {DEPTH_MAX} brackets open at once"));
        }
        self.next();
        self.space(true);
        let node = self.alternatives(depth + 1)?;
        if !self.skip(")") {
            return self.refused("lacks a `)`");
        }
        // A group of one is a group all the same: what repeats it repeats all of it.
        Ok(node)
    }

    fn repeated(&mut self, node: Node) -> Result<Node, Refused> {
        let (least, most) = match self.next() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            _ => {
                self.space(true);
                let least = self.count()?;
                self.space(true);
                let most = if self.skip(",") {
                    self.space(true);
                    if self.peek() == Some('}') { None } else { Some(self.count()?) }
                } else {
                    Some(least)
                };
                self.space(true);
                if !self.skip("}") {
                    return self.refused("lacks a `}`");
                }
                if most.is_some_and(|most| most < least) {
                    return self.refused("has a repetition with more at least than at most");
                }
                (least, most)
            }
        };
        Ok(Node::Again { node: Box::new(node), least, most })
    }

    fn count(&mut self) -> Result<u32, Refused> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        match self.rest[..end].parse::<u32>() {
            Ok(count) if count <= REPEATS_MAX => {
                self.advance(end);
                Ok(count)
            }
            Ok(_) => self.refused(format!("repeats something more than {REPEATS_MAX} times")),
            Err(_) => self.refused("has no count within its braces"),
        }
    }

    fn literal(&mut self) -> Result<Node, Refused> {
        let mut text = String::new();
        self.next();
        while !self.skip("\"") {
            text.push(self.character("\"")?);
        }
        Ok(Node::Text(text))
    }

    fn class(&mut self) -> Result<Node, Refused> {
        let place = self.place;
        self.next();
        let negated = self.skip("^");
        let mut ranges = Vec::new();
        while !self.skip("]") {
            let from = self.character("]")?;
            let mut to = from;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                to = self.character("]")?;
            }
            if to < from {
                return Err(Refused::new(place, format!("has a range from `{from}` down to `{to}`")));
            }
            ranges.push((u32::from(from), u32::from(to)));
        }
        let ranges = if negated { without(&joined(ranges)) } else { joined(ranges) };
        if ranges.is_empty() {
            return Err(Refused::new(place, "has a class that no character is of"));
        }
        Ok(Node::Class(ranges))
    }

    /// One character, written out or escaped, within what `close` ends.
    fn character(&mut self, close: &str) -> Result<char, Refused> {
        let place = self.place;
        let c = match self.next() {
            Some('\\') => match self.next() {
                Some('x') => self.code(2, place)?,
                Some('u') => self.code(4, place)?,
                Some('U') => self.code(8, place)?,
                Some('t') => '\t',
                Some('r') => '\r',
                Some('n') => '\n',
                Some(c @ ('\\' | '"' | '[' | ']' | '-')) => c,
                Some(c) => return Err(Refused::new(place, format!("has an escape `\\{c}` that GBNF doesn't know"))),
                None => return Err(Refused::new(place, "ends within an escape")),
            },
            Some(c) => c,
            None => return Err(Refused::new(place, format!("lacks a `{close}`"))),
        };
        Ok(c)
    }

    fn code(&mut self, digits: usize, place: Place) -> Result<char, Refused> {
        let code = self.rest.get(..digits).filter(|code| code.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        let Some(c) = code else {
            return Err(Refused::new(
                place,
                format!("has an escape without {digits} hexadecimal digits of a character"),
            ));
        };
        self.advance(digits);
        Ok(c)
    }

    fn finish(self) -> Result<Vec<Rule>, Refused> {
        let root = self.names.get("root").copied();
        let Some(root) = root.filter(|root| self.rules[*root].made.is_some()) else {
            return Err(Refused::new(Place { line: 1, column: 1 }, "has no rule `root`"));
        };
        let whole = |Known { name, named, made }: Known| match made {
            Some((place, node)) => Ok(Rule { name, place, node }),
            None => Err(Refused::new(named, format!("names a rule `{name}` that isn't there"))),
        };
        let mut rules = self.rules.into_iter().map(whole).collect::<Result<Vec<Rule>, Refused>>()?;
        // The first is where it begins.
        if root != 0 {
            rules.iter_mut().for_each(|rule| swap(&mut rule.node, root));
            rules.swap(0, root);
        }
        Ok(rules)
    }
}

/// Exchanges references to rule 0 and rule `other`.
fn swap(node: &mut Node, other: usize) {
    match node {
        Node::Rule(number) if *number == 0 => *number = other,
        Node::Rule(number) if *number == other => *number = 0,
        Node::Rule(_) | Node::Text(_) | Node::Class(_) => {}
        Node::All(nodes) | Node::Any(nodes) => nodes.iter_mut().for_each(|node| swap(node, other)),
        Node::Again { node, .. } => swap(node, other),
    }
}

/// All characters.
fn everything() -> Vec<(u32, u32)> {
    vec![(0, 0xd7ff), (0xe000, 0x0010_ffff)]
}

/// Ascending and apart, without what is no character.
fn joined(mut ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u32, u32)> = Vec::new();
    for (from, to) in ranges {
        match joined.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = (*last).max(to),
            _ => joined.push((from, to)),
        }
    }
    let within = |(from, to): (u32, u32)| {
        let parts = everything().into_iter().map(move |(least, most)| (from.max(least), to.min(most)));
        parts.filter(|(from, to)| from <= to)
    };
    joined.into_iter().flat_map(within).collect()
}

/// Every character that isn't in these ranges.
fn without(ranges: &[(u32, u32)]) -> Vec<(u32, u32)> {
    let mut left = Vec::new();
    let mut next = 0;
    for &(from, to) in ranges {
        if from > next {
            left.push((next, from - 1));
        }
        next = to + 1;
    }
    left.push((next, 0x0010_ffff));
    left.retain(|(from, to)| from <= to);
    joined(left)
}
