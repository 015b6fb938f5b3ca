//! What schemas come to together over the references between them: how deep they lie in each other, and which
//! patterns of keys meet in one object.
//!
//! What compiles a schema recurses along its references, and compares all patterns of one object with each other.

use super::{CHAIN_MAX, PATTERNS_MAX, Refusal, refusal};
use std::collections::{BTreeMap, BTreeSet};

/// A schema that is compiled as one: the whole one, or one that is referred to.
#[derive(Debug, Default)]
pub(super) struct Unit {
    /// Of the schemas in it.
    pub(super) depth: usize,
    /// What it refers to, with the depth at which the deepest reference stands.
    pub(super) refs: BTreeMap<String, usize>,
}

/// What is said about one and the same value.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// References to schemas that are applied to this very value.
    pub(super) refs: BTreeSet<String>,
    /// Of keys, where the value is an object.
    pub(super) patterns: BTreeSet<String>,
}

/// Refuses references that lead deeper than [`CHAIN_MAX`].
///
/// Units that refer to each other in a circle count as deep as all of them together: each is compiled once, in
/// whatever order.
pub(super) fn check_depth(units: &BTreeMap<String, Unit>) -> Result<(), Refusal> {
    let mut below: BTreeMap<&str, usize> = BTreeMap::new();
    let graph = units.iter().map(|(pointer, unit)| (pointer.as_str(), unit.refs.keys().map(String::as_str).collect()));
    for circle in circles(&graph.collect()) {
        let (mut through, mut behind) = (0, 0);
        for unit in circle.iter().map(|pointer| &units[*pointer]) {
            let (inside, outside): (Vec<_>, Vec<_>) =
                unit.refs.iter().partition(|(to, _)| circle.contains(to.as_str()));
            if circle.len() > 1 {
                through += inside.iter().map(|(_, depth)| **depth + 1).max().unwrap_or(0);
            }
            let deepest = outside.iter().map(|(to, depth)| **depth + 1 + below.get(to.as_str()).unwrap_or(&0)).max();
            behind = behind.max(deepest.unwrap_or(0)).max(unit.depth);
        }
        if through + behind > CHAIN_MAX {
            let what = format!("lies more than {CHAIN_MAX} schemas deep, with those that it refers to");
            return Err(refusal(circle.first().unwrap_or(&"#"), &what));
        }
        below.extend(circle.into_iter().map(|pointer| (pointer, through + behind)));
    }
    // The whole schema is compiled a second time where something refers to it.
    let whole = units.get("#").map_or(0, |unit| {
        let refs = unit.refs.iter().map(|(to, depth)| depth + 1 + below.get(to.as_str()).unwrap_or(&0));
        refs.max().unwrap_or(0)
    });
    if whole > CHAIN_MAX {
        return Err(refusal("#", &format!("lies more than {CHAIN_MAX} schemas deep over its references")));
    }
    Ok(())
}

/// A schema that leads back to itself by references about one and the same value.
pub(super) fn itself(direct: &BTreeMap<String, Scope>) -> Option<&str> {
    let graph =
        direct.iter().map(|(pointer, scope)| (pointer.as_str(), scope.refs.iter().map(String::as_str).collect()));
    let circles = circles(&graph.collect());
    let mut alone = circles.iter().filter(|circle| circle.len() == 1).filter_map(BTreeSet::first);
    let several = circles.iter().find(|circle| circle.len() > 1).and_then(BTreeSet::first);
    several.or_else(|| alone.find(|pointer| direct[**pointer].refs.contains(**pointer))).copied()
}

type Graph<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// What a graph holds, those together that refer to each other in a circle, and each behind all that it refers to:
/// Tarjan's algorithm, with a stack of its own.
fn circles<'a>(graph: &Graph<'a>) -> Vec<BTreeSet<&'a str>> {
    let mut circles = Vec::new();
    // The order in which each was reached, and the earliest that is still open and can be reached from it.
    let mut reached: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let (mut open, mut closed): (Vec<&str>, BTreeSet<&str>) = (Vec::new(), BTreeSet::new());
    for start in graph.keys() {
        let mut path = Vec::new();
        let mut next = (!reached.contains_key(start)).then_some(*start);
        loop {
            if let Some(new) = next.take() {
                reached.insert(new, (reached.len(), reached.len()));
                open.push(new);
                path.push((new, graph[new].iter().filter(|to| graph.contains_key(*to))));
            }
            let Some((pointer, refs)) = path.last_mut() else { break };
            let pointer = *pointer;
            if let Some(to) = refs.next() {
                match reached.get(to) {
                    None => next = Some(*to),
                    Some((order, _)) if !closed.contains(to) => {
                        let order = *order;
                        lower(&mut reached, pointer, order);
                    }
                    Some(_) => {}
                }
                continue;
            }
            path.pop();
            let (order, earliest) = reached[pointer];
            if let Some((before, _)) = path.last() {
                lower(&mut reached, before, earliest);
            }
            if order == earliest {
                let from = open.iter().rposition(|other| *other == pointer).unwrap_or(0);
                let circle: BTreeSet<&str> = open.drain(from..).collect();
                closed.extend(&circle);
                circles.push(circle);
            }
        }
    }
    circles
}

fn lower(reached: &mut BTreeMap<&str, (usize, usize)>, pointer: &str, order: usize) {
    if let Some((_, earliest)) = reached.get_mut(pointer) {
        *earliest = order.min(*earliest);
    }
}

/// Refuses objects in which more patterns meet than [`PATTERNS_MAX`]. Alternatives count together: they meet where
/// two lists of them stand in `allOf`.
///
/// `direct` may hold no circle, and no chain longer than [`CHAIN_MAX`].
pub(super) fn check_patterns(direct: &BTreeMap<String, Scope>, scopes: &[(String, Scope)]) -> Result<(), Refusal> {
    let mut known = BTreeMap::new();
    for (path, scope) in direct.iter().chain(scopes.iter().map(|(path, scope)| (path, scope))) {
        if patterns(path, scope, direct, &mut known)?.len() > PATTERNS_MAX {
            return Err(too_many(path));
        }
    }
    Ok(())
}

fn patterns<'a>(
    path: &str,
    scope: &'a Scope,
    direct: &'a BTreeMap<String, Scope>,
    known: &mut BTreeMap<&'a str, BTreeSet<&'a str>>,
) -> Result<BTreeSet<&'a str>, Refusal> {
    let mut all: BTreeSet<&str> = scope.patterns.iter().map(String::as_str).collect();
    for (pointer, target) in scope.refs.iter().filter_map(|pointer| direct.get_key_value(pointer)) {
        if !known.contains_key(pointer.as_str()) {
            let found = patterns(pointer, target, direct, known)?;
            known.insert(pointer, found);
        }
        all.extend(&known[pointer.as_str()]);
        // No more are kept than are needed to know.
        if all.len() > PATTERNS_MAX {
            return Err(too_many(path));
        }
    }
    Ok(all)
}

fn too_many(path: &str) -> Refusal {
    refusal(path, &format!("puts more than {PATTERNS_MAX} `patternProperties` together about one object"))
}
