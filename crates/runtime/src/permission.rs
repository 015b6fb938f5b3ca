//! Which maps a program may see, by what `config.toml` says of it. Pure.
//!
//! A label belongs to a whole map, and so does a permission. What a program may not see is left out before any map
//! is opened: no index of it is read, so that nothing of it can show in a score, a count, a word's rarity or the time
//! that a search takes. For a program, a map that it may not see is a map that isn't there.
//!
//! LIMITS: a program is known by the name that it gives itself. This keeps programs that are what they say to what
//! they are for. It doesn't stop one that lies: it runs as the same user and could read the files themselves.

use crate::own_app;
use base::{AppId, Code, Fault, Label};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What one program may see: the maps that are named here, and those whose label is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grant {
    pub maps: BTreeSet<String>,
    pub labels: BTreeSet<Label>,
}

impl Grant {
    fn sees(&self, map: &str, label: Label) -> bool {
        self.maps.contains(map) || self.labels.contains(&label)
    }
}

/// `[apps."NAME"]` of `config.toml`. Whoever isn't in it may see everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions(BTreeMap<String, Grant>);

impl Permissions {
    /// # Errors
    /// [`Code::ConfigInvalid`] for an entry that would fit nobody, or the person's own commands.
    pub fn new(entries: BTreeMap<String, Grant>) -> Result<Self, Fault> {
        for name in entries.keys() {
            if name.trim() != name || name.is_empty() {
                let said = format!("`[apps.\"{name}\"]` in config.toml names no program");
                return Err(Fault::new(Code::ConfigInvalid, said)
                    .hint("write the name that the program sends as `x-freehold-app` or `User-Agent`"));
            }
            if fits(name, &own_app().0) {
                let said =
                    format!("`[apps.\"{name}\"]` in config.toml is the person's own command line, which sees all");
                return Err(Fault::new(Code::ConfigInvalid, said)
                    .hint("take that entry out; keep one search to some maps with `--map` or `--label`"));
            }
        }
        Ok(Self(entries))
    }

    /// What a program may see. Where several entries fit its name, each of them must allow it.
    pub fn of(&self, app: &AppId) -> Sight {
        Sight(self.0.iter().filter(|(name, _)| fits(name, &app.0)).map(|(_, grant)| grant.clone()).collect())
    }
}

/// Whether an entry is about the program that calls itself so: by its whole name, or by what stands before the version,
/// as in `mail-helper/1.2`. Case doesn't matter.
fn fits(entry: &str, name: &str) -> bool {
    let product = name.split('/').next().unwrap_or(name).trim_end();
    entry.eq_ignore_ascii_case(name) || entry.eq_ignore_ascii_case(product)
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, (name, Grant { maps, labels })) in self.0.iter().enumerate() {
            let (maps, labels): (Vec<&str>, Vec<&str>) =
                (maps.iter().map(String::as_str).collect(), labels.iter().map(|label| label.as_str()).collect());
            let between = if at > 0 { "; " } else { "" };
            write!(f, "{between}{name:?} maps [{}] labels [{}]", maps.join(", "), labels.join(", "))?;
        }
        Ok(())
    }
}

/// What a caller may see; nothing else exists for it. The default is everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight(Vec<Grant>);

impl Sight {
    pub fn sees(&self, map: &str, label: Label) -> bool {
        self.0.iter().all(|grant| grant.sees(map, label))
    }

    /// Whether an entry speaks of this caller.
    pub fn is_limited(&self) -> bool {
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(maps: &[&str], labels: &[Label]) -> Grant {
        Grant { maps: maps.iter().map(|map| (*map).to_owned()).collect(), labels: labels.iter().copied().collect() }
    }

    fn permissions(entries: &[(&str, Grant)]) -> Permissions {
        let entries = entries.iter().map(|(name, grant)| ((*name).to_owned(), grant.clone())).collect();
        Permissions::new(entries).expect("good entries")
    }

    #[test]
    fn a_program_with_an_entry_sees_what_it_names_and_nothing_else() {
        let permissions =
            permissions(&[("mail-helper", grant(&["letters"], &[Label::Public])), ("nothing", Grant::default())]);
        let of = |name: &str| permissions.of(&AppId(name.into()));
        for name in ["mail-helper", "Mail-Helper", "mail-helper/1.2", "mail-helper/1.2 (linux)"] {
            let sight = of(name);
            assert!(sight.is_limited() && sight.sees("letters", Label::Private), "{name}");
            assert!(sight.sees("any", Label::Public) && !sight.sees("any", Label::Shareable), "{name}");
            assert!(!sight.sees("letters-2", Label::Private) && !sight.sees("Letters", Label::Private), "{name}");
        }
        let blind = of("nothing");
        assert!(blind.is_limited() && Label::ALL.into_iter().all(|label| !blind.sees("letters", label)));
        for name in ["freehold", "curl/8.5.0", "", "mail", "mail-helper-2", "x/mail-helper"] {
            let sight = of(name);
            assert!(!sight.is_limited() && sight.sees("any", Label::Private), "{name}");
        }
    }

    #[test]
    fn where_two_entries_fit_both_must_allow() {
        let permissions =
            permissions(&[("Helper", grant(&["a", "b"], &[])), ("helper/2", grant(&["b", "c"], &[Label::Public]))]);
        let sight = permissions.of(&AppId("helper/2".into()));
        let seen: Vec<&str> = ["a", "b", "c"].into_iter().filter(|map| sight.sees(map, Label::Private)).collect();
        assert_eq!(seen, ["b"]);
        assert!(!sight.sees("d", Label::Public));
    }

    #[test]
    fn entries_that_can_not_be_meant_are_refused() {
        for name in ["", " ", " mail", "freehold", "Freehold"] {
            let entries = [(name.to_owned(), Grant::default())].into();
            let fault = Permissions::new(entries).expect_err(name);
            assert!(fault.code == Code::ConfigInvalid && !fault.hints.is_empty(), "{fault:?}");
        }
    }

    #[test]
    fn different_permissions_read_differently() {
        let one = permissions(&[("a", grant(&["x"], &[Label::Public]))]);
        assert_eq!(
            (one.to_string(), Permissions::default().to_string()),
            ("\"a\" maps [x] labels [public]".into(), "none".into())
        );
        assert_ne!(one.to_string(), permissions(&[("a", grant(&["x"], &[]))]).to_string());
    }
}
