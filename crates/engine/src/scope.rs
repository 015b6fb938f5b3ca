//! Whose kept sequences an ask may go on from: its own app's and nobody else's. Pure.

use base::AppId;
use base::answer::{Differs, Reuse};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// LIMIT: apps that are known at a time. Names come from callers.
const APPS_MAX: usize = 1024;

/// Numbers for apps, as workers know them.
///
/// INVARIANT: a number means one app for ever. One that is forgotten gets another number, and what was kept under the
/// old one is found by nobody any more.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    known: HashMap<AppId, u64>,
    last: u64,
    /// Numbers of apps were given up, and workers may still keep something under them.
    dropped: bool,
}

/// What the threads of workers look up as well.
pub(crate) type SharedScopes = Arc<Mutex<Scopes>>;

impl Scopes {
    /// Never 0, which means that nothing is kept.
    pub(crate) fn of(&mut self, app: &AppId) -> u64 {
        if let Some(scope) = self.known.get(app) {
            return *scope;
        }
        if self.known.len() >= APPS_MAX {
            self.known.clear();
            self.dropped = true;
        }
        self.last += 1;
        self.known.insert(app.clone(), self.last);
        self.last
    }

    /// What a worker is told to forget for an app: its number, or 0 for all when it may have had another one.
    pub(crate) fn for_forgetting(&mut self, app: &AppId) -> u64 {
        if self.dropped && !self.known.contains_key(app) { 0 } else { self.of(app) }
    }

    /// The app of a number that is still known.
    pub(crate) fn app(&self, scope: u64) -> Option<String> {
        self.known.iter().find(|(_, known)| **known == scope).map(|(app, _)| app.0.clone())
    }
}

/// As the answer says it.
pub(crate) fn reuse(of_worker: &wire::Reuse) -> Reuse {
    let wire::Reuse { live, ram, disk, differs } = of_worker;
    let differs = differs.clone().map(|wire::Differs { at, kept, asked }| Differs { at, kept, asked });
    Reuse { live_tokens: *live, memory_tokens: *ram, disk_tokens: *disk, differs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_app_had_under_a_number_that_was_given_up_goes_with_all() {
        let mut scopes = Scopes::default();
        let app = |name: usize| AppId(format!("app {name}"));
        let first = scopes.of(&app(0));
        assert_eq!(scopes.for_forgetting(&app(0)), first);
        assert_ne!(scopes.for_forgetting(&app(1)), 0, "it never had another one");
        (0..=APPS_MAX).for_each(|name| assert_ne!(scopes.of(&app(name + 2)), first));
        assert_eq!(scopes.for_forgetting(&app(0)), 0);
    }

    #[test]
    fn an_app_keeps_its_number_and_shares_it_with_nobody() {
        let mut scopes = Scopes::default();
        let app = |name: usize| AppId(format!("app {name}"));
        let first: Vec<u64> = (0..APPS_MAX).map(|name| scopes.of(&app(name))).collect();
        assert!(first.iter().all(|scope| *scope != 0));
        assert_eq!((0..APPS_MAX).map(|name| scopes.of(&app(name))).collect::<Vec<_>>(), first);
        assert_eq!(scopes.app(first[7]), Some(app(7).0));
        // One more than are known: all others get new numbers, and none of the old ones comes back.
        let more: Vec<u64> = (APPS_MAX..3 * APPS_MAX).map(|name| scopes.of(&app(name))).collect();
        assert!(more.iter().all(|scope| !first.contains(scope)));
        assert!(!first.contains(&scopes.of(&app(0))));
        assert_eq!(scopes.app(first[7]), None, "nobody's any more");
        let distinct: std::collections::HashSet<u64> = first.iter().chain(&more).copied().collect();
        assert_eq!(distinct.len(), 3 * APPS_MAX);
    }
}
