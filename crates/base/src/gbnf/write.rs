//! From rules to Lark.

use super::regular::{Automata, Regular, TooLarge, Work};
use super::{CHAIN_MAX, Node, Refused, Rule};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write;

/// A part of a rule that refers to itself: plain productions, in which everything regular is a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sign {
    Terminal(usize),
    Rule(usize),
}

/// LIMIT: signs that repetitions of what isn't regular come to.
const SIGNS_MAX: usize = 5_000;
/// LIMIT: rounds until it is known what may follow what.
const ROUNDS_MAX: usize = 500;

#[derive(Debug, Default)]
pub(super) struct Plain {
    /// For each rule its options.
    pub(super) rules: Vec<Vec<Vec<Sign>>>,
    pub(super) terminals: Vec<Node>,
    /// The rule of the grammar in which a terminal stands first.
    places: Vec<usize>,
    numbers: HashMap<String, usize>,
    /// Of all repetitions.
    signs: usize,
}

pub(super) fn lark(rules: &[Rule]) -> Result<String, Refused> {
    let regular = Regular::of(rules);
    if regular.depth > CHAIN_MAX {
        let words = format!("begins a grammar whose rules lie more than {CHAIN_MAX} brackets and rules deep");
        return Err(Refused::new(rules[0].place, words));
    }
    let mut terms = Terms { rules, lines: String::new(), groups: 0, named: BTreeMap::new() };
    if regular.is[0] {
        let all = terms.of(&rules[0].node);
        // A terminal is never empty.
        let empty = if regular.empty[0] { " | \"\"" } else { "" };
        return Ok(format!("start: ALL{empty}\nALL: ( {all} ) & /(?s:.+)/\n{}", terms.lines));
    }
    let plain = Plain::of(rules, &regular);
    let too_large = |_: TooLarge| Refused::new(rules[0].place, "begins a grammar that is too large to be read exactly");
    if plain.signs > SIGNS_MAX {
        return Err(too_large(TooLarge));
    }
    let mut automata = Automata::of(rules, &plain.terminals).map_err(too_large)?;
    let follow = plain.check(rules, &automata)?;
    let (mut compared, mut work) = (BTreeSet::new(), Work::default());
    for (terminal, other) in follow.together.iter().flat_map(pairs) {
        work.spend(1).map_err(too_large)?;
        if !compared.insert((terminal, other)) {
            continue;
        }
        if automata.may_mistake(terminal, other, &follow.behind[terminal]).map_err(too_large)? {
            let Rule { name, place, .. } = &rules[plain.places[terminal]];
            let words = format!(
                "has a part of rule `{name}` whose end can't be told at once: the same character may go on with it and begin \
                 what follows"
            );
            return Err(Refused::new(*place, words));
        }
    }
    Ok(plain.write(&automata, terms))
}

fn pairs(waited: &BTreeSet<usize>) -> impl Iterator<Item = (usize, usize)> {
    waited.iter().flat_map(move |one| waited.iter().map(move |other| (*one, *other)))
}

/// What may follow what.
struct Follow {
    /// For each terminal those that may stand behind it.
    behind: Vec<BTreeSet<usize>>,
    /// Terminals that are waited for at one place.
    together: BTreeSet<BTreeSet<usize>>,
}

impl Plain {
    pub(super) fn of(rules: &[Rule], regular: &Regular) -> Self {
        let mut plain = Self { rules: vec![Vec::new(); rules.len()], ..Self::default() };
        for (number, rule) in rules.iter().enumerate().filter(|(number, _)| !regular.is[*number]) {
            let options = plain.options(regular, number, &rule.node);
            plain.rules[number] = options;
        }
        plain
    }

    fn options(&mut self, regular: &Regular, place: usize, node: &Node) -> Vec<Vec<Sign>> {
        match node {
            Node::Any(nodes) if !regular.has(node) => {
                nodes.iter().flat_map(|node| self.options(regular, place, node)).collect()
            }
            node => vec![self.signs(regular, place, node)],
        }
    }

    fn signs(&mut self, regular: &Regular, place: usize, node: &Node) -> Vec<Sign> {
        if regular.has(node) {
            return match node {
                // Each by itself: what stands side by side may stand elsewhere as well.
                Node::All(nodes) => nodes.iter().flat_map(|node| self.signs(regular, place, node)).collect(),
                node => vec![self.terminal(place, node)],
            };
        }
        match node {
            Node::Rule(number) => vec![Sign::Rule(*number)],
            Node::All(nodes) => nodes.iter().flat_map(|node| self.signs(regular, place, node)).collect(),
            Node::Again { node, least, most } => {
                let one = self.signs(regular, place, node);
                self.repeated(&one, *least, *most)
            }
            Node::Any(_) => {
                let options = self.options(regular, place, node);
                vec![self.rule(options)]
            }
            Node::Text(_) | Node::Class(_) => vec![self.terminal(place, node)],
        }
    }

    fn rule(&mut self, options: Vec<Vec<Sign>>) -> Sign {
        self.rules.push(options);
        Sign::Rule(self.rules.len() - 1)
    }

    fn terminal(&mut self, place: usize, node: &Node) -> Sign {
        let key = format!("{node:?}");
        let next = self.terminals.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.terminals.push(node.clone());
            self.places.push(place);
        }
        Sign::Terminal(number)
    }

    fn repeated(&mut self, one: &[Sign], least: u32, most: Option<u32>) -> Vec<Sign> {
        let count = usize::try_from(most.unwrap_or(least)).unwrap_or(usize::MAX);
        self.signs = self.signs.saturating_add(one.len().saturating_mul(count));
        if self.signs > SIGNS_MAX {
            return Vec::new();
        }
        let mut signs: Vec<Sign> = (0..least).flat_map(|_| one.iter().copied()).collect();
        match most {
            None => {
                let again = self.rule(Vec::new());
                if let Sign::Rule(number) = again {
                    let more = [one, &[again]].concat();
                    self.rules[number] = vec![Vec::new(), more];
                }
                signs.push(again);
            }
            Some(most) => {
                let mut rest = None;
                for _ in least..most {
                    let more = one.iter().copied().chain(rest).collect();
                    rest = Some(self.rule(vec![Vec::new(), more]));
                }
                signs.extend(rest);
            }
        }
        signs
    }

    /// Finds what may follow what, and that every rule comes to an end.
    fn check(&self, rules: &[Rule], automata: &Automata) -> Result<Follow, Refused> {
        let count = self.rules.len();
        let is_used = |number: &usize| !self.rules[*number].is_empty();
        let ends = self.until_still(|known, sign| match sign {
            Sign::Terminal(_) => true,
            Sign::Rule(number) => known[number],
        });
        if let Some(endless) = (0..rules.len()).filter(is_used).find(|number| !ends[*number]) {
            let words = format!("has a rule `{}` that comes to no end", rules[endless].name);
            return Err(Refused::new(rules[endless].place, words));
        }
        let empty = self.until_still(|known, sign| match sign {
            Sign::Terminal(number) => automata.may_be_empty(number),
            Sign::Rule(number) => known[number],
        });
        let may_be_empty = |sign: &Sign| match sign {
            Sign::Terminal(number) => automata.may_be_empty(*number),
            Sign::Rule(number) => empty[*number],
        };
        let mut first: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
        let mut after: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); count];
        let mut behind: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); self.terminals.len()];
        let too_large =
            |_: TooLarge| Refused::new(rules[0].place, "begins a grammar that is too large to be read exactly");
        let (mut moved, mut rounds, mut work) = (true, 0, Work::default());
        while std::mem::take(&mut moved) {
            rounds += 1;
            if rounds > ROUNDS_MAX {
                return Err(too_large(TooLarge));
            }
            for (number, option) in
                self.rules.iter().enumerate().flat_map(|(n, all)| all.iter().map(move |one| (n, one)))
            {
                // From its end: what may come next there.
                let mut next = after[number].clone();
                for sign in option.iter().rev() {
                    work.spend(next.len() + 1).map_err(too_large)?;
                    let (follows, own) = match sign {
                        Sign::Terminal(n) => (&mut behind[*n], BTreeSet::from([*n])),
                        Sign::Rule(n) => (&mut after[*n], first[*n].clone()),
                    };
                    let before = follows.len();
                    follows.extend(&next);
                    moved |= follows.len() > before;
                    if !may_be_empty(sign) {
                        next.clear();
                    }
                    next.extend(own);
                }
                let mut begin = BTreeSet::new();
                for sign in option {
                    work.spend(begin.len() + 1).map_err(too_large)?;
                    match sign {
                        Sign::Terminal(n) => _ = begin.insert(*n),
                        Sign::Rule(n) => begin.extend(&first[*n]),
                    }
                    if !may_be_empty(sign) {
                        break;
                    }
                }
                let before = first[number].len();
                first[number].extend(begin);
                moved |= first[number].len() > before;
            }
        }
        let together = behind.iter().chain([&first[0]]).cloned().collect();
        Ok(Follow { behind, together })
    }

    /// Rules of which one option has only signs of which that holds, found out again and again.
    fn until_still(&self, holds: impl Fn(&[bool], Sign) -> bool) -> Vec<bool> {
        let mut known = vec![false; self.rules.len()];
        loop {
            let fits = |known: &[bool], options: &Vec<Vec<Sign>>| {
                options.iter().any(|option| option.iter().all(|sign| holds(known, *sign)))
            };
            let next: Vec<bool> = self.rules.iter().map(|options| fits(&known, options)).collect();
            if next == known {
                return known;
            }
            known = next;
        }
    }

    fn write(&self, automata: &Automata, mut terms: Terms<'_>) -> String {
        let mut out = "start: rule_0\n".to_owned();
        let sign = |sign: &Sign| match sign {
            Sign::Rule(number) => format!("rule_{number}"),
            Sign::Terminal(number) if automata.is_empty(*number) => "\"\"".into(),
            Sign::Terminal(number) if automata.may_be_empty(*number) => format!("T{number}?"),
            Sign::Terminal(number) => format!("T{number}"),
        };
        for (number, options) in self.rules.iter().enumerate().filter(|(_, options)| !options.is_empty()) {
            let option = |option: &Vec<Sign>| match option.as_slice() {
                [] => "\"\"".to_owned(),
                signs => signs.iter().map(sign).collect::<Vec<_>>().join(" "),
            };
            let options: Vec<String> = options.iter().map(option).collect();
            let _ = writeln!(out, "rule_{number}: {}", options.join(" | "));
        }
        for (number, node) in self.terminals.iter().enumerate().filter(|(number, _)| !automata.is_empty(*number)) {
            let text = terms.of(node);
            let text = if automata.may_be_empty(number) { format!("( {text} ) & /(?s:.+)/") } else { text };
            let _ = writeln!(out, "T{number}: {text}");
        }
        out + &terms.lines
    }
}

/// Regular parts, each group and rule of which is a terminal by itself, as brackets may not lie deep.
struct Terms<'a> {
    rules: &'a [Rule],
    lines: String,
    groups: usize,
    named: BTreeMap<usize, String>,
}

impl Terms<'_> {
    fn of(&mut self, node: &Node) -> String {
        match node {
            Node::Text(text) => literal(text),
            Node::Class(ranges) => class(ranges),
            Node::Rule(number) => self.rule(*number),
            Node::All(nodes) if nodes.is_empty() => literal(""),
            Node::All(nodes) => nodes.iter().map(|node| self.item(node)).collect::<Vec<_>>().join(" "),
            Node::Any(nodes) => nodes.iter().map(|node| self.of_option(node)).collect::<Vec<_>>().join(" | "),
            Node::Again { most: Some(0), .. } => literal(""),
            Node::Again { node, least, most } => {
                let item = self.item(node);
                match (least, most) {
                    (0, None) => format!("{item}*"),
                    (1, None) => format!("{item}+"),
                    (0, Some(1)) => format!("{item}?"),
                    (least, None) => format!("{item}{{{least},}}"),
                    (least, Some(most)) => format!("{item}{{{least},{most}}}"),
                }
            }
        }
    }

    fn of_option(&mut self, node: &Node) -> String {
        if matches!(node, Node::Any(_)) { self.item(node) } else { self.of(node) }
    }

    /// As one thing, which a sign behind it repeats as a whole.
    fn item(&mut self, node: &Node) -> String {
        match node {
            Node::Text(_) | Node::Class(_) | Node::Rule(_) => self.of(node),
            Node::All(_) | Node::Any(_) | Node::Again { .. } => {
                let text = self.of(node);
                let number = self.groups;
                self.groups += 1;
                let _ = writeln!(self.lines, "G{number}: {text}");
                format!("G{number}")
            }
        }
    }

    fn rule(&mut self, number: usize) -> String {
        if let Some(name) = self.named.get(&number) {
            return name.clone();
        }
        let name = format!("R{number}");
        self.named.insert(number, name.clone());
        let rules = self.rules;
        let text = self.of(&rules[number].node);
        let _ = writeln!(self.lines, "{name}: {text}");
        name
    }
}

/// As a text of Lark, which is written as in JSON, and where one more character must be escaped. So is what would look
/// like an order to whoever reads the grammar.
fn literal(text: &str) -> String {
    let text = Value::from(text).to_string().replace('\u{7f}', "\\u007f");
    text.replace('%', "\\u0025").replace("allow_invalid", "allow\\u005finvalid")
}

fn class(ranges: &[(u32, u32)]) -> String {
    let code = |code: u32| format!("\\x{{{code:X}}}");
    let range =
        |(from, to): &(u32, u32)| if from == to { code(*from) } else { format!("{}-{}", code(*from), code(*to)) };
    format!("/[{}]/", ranges.iter().map(range).collect::<String>())
}
