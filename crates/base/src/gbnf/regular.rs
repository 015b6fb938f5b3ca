//! Regular parts of a grammar as automata, to tell whether one may end where another goes on.

use super::{Node, Ranges, Rule};
use std::collections::{BTreeSet, HashMap, HashSet};

/// LIMIT: states of all automata together, before and behind their making; beyond it nothing is compared.
const STATES_MAX: usize = 8_000;
/// LIMIT: steps of pairs of states that are looked at.
const STEPS_MAX: usize = 2_000_000;
/// LIMIT: looks at single states, letters and signs.
const WORK_MAX: usize = 3_000_000;

/// There is more to compare than is compared.
#[derive(Debug)]
pub(super) struct TooLarge;

/// What is known of rules that lead to none that refers to itself, directly or through others.
#[derive(Debug)]
pub(super) struct Regular {
    /// Of each rule whether it is one of them.
    pub(super) is: Vec<bool>,
    /// Of those, which may be nothing at all.
    pub(super) empty: Vec<bool>,
    /// How deep the deepest of them lies in itself, with the rules that it refers to.
    pub(super) depth: usize,
}

impl Regular {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut refers: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); rules.len()];
        for (rule, refers) in rules.iter().zip(&mut refers) {
            each_rule(&rule.node, &mut |number| _ = refers.insert(number));
        }
        // Rules of which all that they refer to is known, again and again: what is left runs in circles.
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
        let mut open: Vec<usize> = refers.iter().map(BTreeSet::len).collect();
        refers.iter().enumerate().for_each(|(n, refers)| refers.iter().for_each(|to| users[*to].push(n)));
        let mut next: Vec<usize> = (0..rules.len()).filter(|n| open[*n] == 0).collect();
        let (mut is, mut empty, mut depth) = (vec![false; rules.len()], vec![false; rules.len()], vec![0; rules.len()]);
        while let Some(n) = next.pop() {
            is[n] = true;
            empty[n] = may_be_empty(&rules[n].node, &empty);
            depth[n] = deep(&rules[n].node) + refers[n].iter().map(|to| depth[*to]).max().unwrap_or(0);
            for user in &users[n] {
                open[*user] -= 1;
                if open[*user] == 0 {
                    next.push(*user);
                }
            }
        }
        Self { is, empty, depth: depth.into_iter().max().unwrap_or(0) }
    }

    /// Whether a part refers to no rule but such.
    pub(super) fn has(&self, node: &Node) -> bool {
        let mut all = true;
        each_rule(node, &mut |number| all &= self.is[number]);
        all
    }
}

fn may_be_empty(node: &Node, empty: &[bool]) -> bool {
    match node {
        Node::Text(text) => text.is_empty(),
        Node::Class(_) => false,
        Node::Rule(number) => empty[*number],
        Node::All(nodes) => nodes.iter().all(|node| may_be_empty(node, empty)),
        Node::Any(nodes) => nodes.iter().any(|node| may_be_empty(node, empty)),
        Node::Again { node, least, .. } => *least == 0 || may_be_empty(node, empty),
    }
}

pub(super) fn deep(node: &Node) -> usize {
    match node {
        Node::Text(_) | Node::Class(_) | Node::Rule(_) => 1,
        Node::All(nodes) | Node::Any(nodes) => 1 + nodes.iter().map(deep).max().unwrap_or(0),
        Node::Again { node, .. } => 1 + deep(node),
    }
}

pub(super) fn each_rule(node: &Node, found: &mut impl FnMut(usize)) {
    match node {
        Node::Rule(number) => found(*number),
        Node::Text(_) | Node::Class(_) => {}
        Node::All(nodes) | Node::Any(nodes) => nodes.iter().for_each(|node| each_rule(node, found)),
        Node::Again { node, .. } => each_rule(node, found),
    }
}

/// What may be done for one grammar, in looks at single things: some tenths of a second.
#[derive(Debug)]
pub(super) struct Work(usize);

impl Default for Work {
    fn default() -> Self {
        Self(WORK_MAX)
    }
}

impl Work {
    /// # Errors
    /// When that is more than is left.
    pub(super) fn spend(&mut self, looks: usize) -> Result<(), TooLarge> {
        self.0 = self.0.checked_sub(looks).ok_or(TooLarge)?;
        Ok(())
    }
}

/// An automaton over ranges of characters.
#[derive(Debug, Default)]
struct Loose {
    empty: Vec<Vec<usize>>,
    steps: Vec<Option<(Ranges, usize)>>,
    work: Work,
}

impl Loose {
    fn state(&mut self) -> Result<usize, TooLarge> {
        if self.empty.len() >= STATES_MAX {
            return Err(TooLarge);
        }
        self.empty.push(Vec::new());
        self.steps.push(None);
        Ok(self.empty.len() - 1)
    }

    /// Adds `node` behind `from`; the answer is where it ends.
    fn add(&mut self, rules: &[Rule], node: &Node, from: usize) -> Result<usize, TooLarge> {
        // What makes no state can still be referred to without end.
        self.work.spend(1)?;
        match node {
            Node::Text(text) => {
                text.chars().try_fold(from, |from, c| self.step(vec![(u32::from(c), u32::from(c))], from))
            }
            Node::Class(ranges) => {
                self.work.spend(ranges.len())?;
                self.step(ranges.clone(), from)
            }
            Node::Rule(number) => self.add(rules, &rules[*number].node, from),
            Node::All(nodes) => nodes.iter().try_fold(from, |from, node| self.add(rules, node, from)),
            Node::Any(nodes) => {
                let end = self.state()?;
                for node in nodes {
                    let begin = self.state()?;
                    self.empty[from].push(begin);
                    let last = self.add(rules, node, begin)?;
                    self.empty[last].push(end);
                }
                Ok(end)
            }
            Node::Again { node, least, most } => {
                let mut at = from;
                for _ in 0..*least {
                    at = self.add(rules, node, at)?;
                }
                let end = self.state()?;
                self.empty[at].push(end);
                match most {
                    None => {
                        let begin = self.state()?;
                        self.empty[at].push(begin);
                        let last = self.add(rules, node, begin)?;
                        self.empty[last].extend([begin, end]);
                    }
                    Some(most) => {
                        for _ in *least..*most {
                            at = self.add(rules, node, at)?;
                            self.empty[at].push(end);
                        }
                    }
                }
                Ok(end)
            }
        }
    }

    fn step(&mut self, ranges: Ranges, from: usize) -> Result<usize, TooLarge> {
        self.work.spend(ranges.len())?;
        let begin = self.state()?;
        let end = self.state()?;
        self.empty[from].push(begin);
        self.steps[begin] = Some((ranges, end));
        Ok(end)
    }

    fn closed(&self, states: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let mut next: Vec<usize> = states.into_iter().collect();
        while let Some(state) = next.pop() {
            if seen.insert(state) {
                next.extend(&self.empty[state]);
            }
        }
        seen.into_iter().collect()
    }
}

/// The same with one state for each text that leads somewhere, from state 0; characters that no class tells apart are
/// one letter.
#[derive(Debug)]
struct Strict {
    steps: Vec<HashMap<usize, usize>>,
    ends: Vec<bool>,
}

/// The automata of some regular parts.
#[derive(Debug)]
pub(super) struct Automata {
    all: Vec<Strict>,
    /// Of the steps that may be looked at.
    left: usize,
}

impl Automata {
    /// # Errors
    /// When there are too many states.
    pub(super) fn of(rules: &[Rule], nodes: &[Node]) -> Result<Self, TooLarge> {
        let mut loose = Loose::default();
        let mut ends = Vec::new();
        for node in nodes {
            let begin = loose.state()?;
            ends.push((begin, loose.add(rules, node, begin)?));
        }
        let mut borders = BTreeSet::new();
        for (ranges, _) in loose.steps.iter().flatten() {
            ranges.iter().for_each(|(from, to)| borders.extend([*from, to + 1]));
        }
        let letters: Vec<u32> = borders.into_iter().collect();
        let mut left = STATES_MAX;
        let mut work = Work::default();
        let all = ends.into_iter().map(|(begin, end)| strict(&loose, (begin, end), &letters, (&mut left, &mut work)));
        Ok(Self { all: all.collect::<Result<_, _>>()?, left: STEPS_MAX })
    }

    /// Letters that a text of this part may begin with.
    fn begins(&self, part: usize) -> impl Iterator<Item = usize> {
        self.all[part].steps[0].keys().copied()
    }

    /// Whether `part` may end, not empty, where `other` goes on with a character that something of `behind` begins with.
    pub(super) fn may_mistake(
        &mut self,
        part: usize,
        other: usize,
        behind: &BTreeSet<usize>,
    ) -> Result<bool, TooLarge> {
        self.left = self.left.checked_sub(behind.len()).ok_or(TooLarge)?;
        let follows: HashSet<usize> = behind.iter().flat_map(|part| self.begins(*part)).collect();
        let (one, two) = (&self.all[part], &self.all[other]);
        let mut seen = HashSet::new();
        let mut next = vec![(0, 0)];
        while let Some((a, b)) = next.pop() {
            for (letter, to_b) in &two.steps[b] {
                self.left = self.left.checked_sub(1).ok_or(TooLarge)?;
                if (a, b) != (0, 0) && one.ends[a] && follows.contains(letter) {
                    return Ok(true);
                }
                if let Some(to_a) = one.steps[a].get(letter)
                    && seen.insert((*to_a, *to_b))
                {
                    next.push((*to_a, *to_b));
                }
            }
        }
        Ok(false)
    }

    pub(super) fn may_be_empty(&self, part: usize) -> bool {
        self.all[part].ends[0]
    }

    /// Nothing but the empty text.
    pub(super) fn is_empty(&self, part: usize) -> bool {
        self.all[part].steps[0].is_empty()
    }
}

fn strict(
    loose: &Loose,
    (begin, end): (usize, usize),
    letters: &[u32],
    (left, work): (&mut usize, &mut Work),
) -> Result<Strict, TooLarge> {
    let first = loose.closed([begin]);
    let mut numbers = HashMap::from([(first.clone(), 0)]);
    let mut sets = vec![first];
    let (mut steps, mut ends) = (Vec::new(), Vec::new());
    while steps.len() < sets.len() {
        *left = left.checked_sub(1).ok_or(TooLarge)?;
        let set = sets[steps.len()].clone();
        ends.push(set.contains(&end));
        let mut targets: HashMap<usize, Vec<usize>> = HashMap::new();
        for (ranges, to) in set.iter().filter_map(|state| loose.steps[*state].as_ref()) {
            for (from, last) in ranges {
                let least = letters.partition_point(|border| border < from);
                let within = letters[least..].iter().take_while(|border| *border <= last).count();
                work.spend(within + 1)?;
                (least..least + within).for_each(|letter| targets.entry(letter).or_default().push(*to));
            }
        }
        let mut own = HashMap::new();
        for (letter, states) in targets {
            let set = loose.closed(states);
            work.spend(set.len())?;
            let next = sets.len();
            let number = *numbers.entry(set.clone()).or_insert(next);
            if number == next {
                sets.push(set);
            }
            own.insert(letter, number);
        }
        steps.push(own);
    }
    Ok(Strict { steps, ends })
}
