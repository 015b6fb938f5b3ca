//! The table of all routes, and who may reach each.
//!
//! The guard reads this table before anything else happens: a path that isn't in it doesn't
//! exist, and one that is marked [`Reach::Owner`] exists only on the Unix socket. The tests of
//! `cli` walk the whole table against the real program.

use axum::http::Method;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Any program on this machine, over 127.0.0.1 too: it can use a model and see the models' names.
    Machine,
    /// The person's own programs, over the Unix socket alone: it reads files, manages or stops.
    Owner,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    pub method: Method,
    /// A trailing `{*id}` stands for any rest.
    pub path: &'static str,
    pub reach: Reach,
}

const fn machine(method: Method, path: &'static str) -> Route {
    Route { method, path, reach: Reach::Machine }
}

const fn owner(method: Method, path: &'static str) -> Route {
    Route { method, path, reach: Reach::Owner }
}

pub const TABLE: &[Route] = &[
    machine(Method::GET, "/health"),
    machine(Method::GET, "/v1/models"),
    machine(Method::GET, "/v1/models/{*id}"),
    machine(Method::POST, "/v1/chat/completions"),
    machine(Method::POST, "/v1/embeddings"),
    machine(Method::POST, "/v1/rerank"),
    owner(Method::GET, "/freehold/v1/hello"),
    owner(Method::GET, "/freehold/v1/status"),
    owner(Method::GET, "/freehold/v1/models"),
    owner(Method::GET, "/freehold/v1/maps"),
    owner(Method::GET, "/freehold/v1/doctor"),
    owner(Method::POST, "/freehold/v1/stop"),
    owner(Method::POST, "/freehold/v1/models/add"),
    owner(Method::POST, "/freehold/v1/models/remove"),
    owner(Method::POST, "/freehold/v1/models/default"),
    owner(Method::POST, "/freehold/v1/models/pin"),
    owner(Method::POST, "/freehold/v1/pull"),
    owner(Method::POST, "/freehold/v1/index"),
    owner(Method::POST, "/freehold/v1/maps/add"),
    owner(Method::POST, "/freehold/v1/maps/show"),
    owner(Method::POST, "/freehold/v1/maps/pause"),
    owner(Method::POST, "/freehold/v1/maps/remove"),
    owner(Method::POST, "/freehold/v1/maps/rebuild"),
    owner(Method::POST, "/freehold/v1/maps/verify"),
    owner(Method::POST, "/freehold/v1/forget"),
    owner(Method::POST, "/freehold/v1/prompts/forget"),
    owner(Method::POST, "/freehold/v1/search"),
    owner(Method::POST, "/freehold/v1/ask"),
    owner(Method::POST, "/freehold/v1/chat"),
];

/// Who may reach this path; `None` when there is no such route.
pub fn reach_of(path: &str) -> Option<Reach> {
    TABLE.iter().find(|route| matches(route.path, path)).map(|route| route.reach)
}

/// What a program may reach that is kept to some maps: models, and what shows nothing of other maps.
const FOR_LIMITED: [&str; 6] = [
    "/freehold/v1/hello",
    "/freehold/v1/models",
    "/freehold/v1/maps",
    "/freehold/v1/search",
    "/freehold/v1/ask",
    "/freehold/v1/chat",
];

/// Whether a program that is kept to some maps may reach this path.
pub(crate) fn is_for_limited(path: &str) -> bool {
    reach_of(path) == Some(Reach::Machine) || FOR_LIMITED.contains(&path)
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix("{*id}") {
        Some(prefix) => path.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_management_are_the_owners_alone() {
        for route in TABLE {
            let expected = if route.path.starts_with("/freehold/") { Reach::Owner } else { Reach::Machine };
            assert_eq!(route.reach, expected, "{}", route.path);
        }
    }

    #[test]
    fn a_program_that_is_kept_to_some_maps_manages_nothing() {
        assert!(FOR_LIMITED.iter().all(|path| reach_of(path) == Some(Reach::Owner)));
        for path in ["/freehold/v1/status", "/freehold/v1/forget", "/freehold/v1/maps/show", "/freehold/v1/nowhere"] {
            assert!(!is_for_limited(path), "{path}");
        }
        assert!(is_for_limited("/v1/models/a/b:q4") && is_for_limited("/freehold/v1/search"));
    }

    #[test]
    fn what_is_not_in_the_table_does_not_exist() {
        for path in
            ["/", "//freehold/v1/stop", "/%66reehold/v1/stop", "/freehold/v1/stop/", "/v1/models/", "/V1/models"]
        {
            assert_eq!(reach_of(path), None, "{path}");
        }
        assert_eq!(reach_of("/v1/models/owner/name:q4"), Some(Reach::Machine));
    }
}
