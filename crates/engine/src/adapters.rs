//! Adapters of one model: which a worker is to know, and how an ask names them to it.

use crate::handle::AdapterSource;
use crate::supervise::Job;
use base::{Code, Fault, ModelName};
use std::fs::File;

/// LIMIT: adapters of one worker; each takes memory for as long as it lives.
const KNOWN_MAX: usize = 16;

/// What the next worker of a model must know; `None` when the one that there is knows enough.
///
/// It keeps what the last one knew, so that asks of several sets find one worker, unless that gets too much.
pub(crate) fn known_after(
    known: &[AdapterSource],
    wanted: &[AdapterSource],
    model_files: usize,
) -> Option<Vec<AdapterSource>> {
    let is = |a: &AdapterSource, b: &AdapterSource| a.name == b.name && a.path == b.path;
    let new: Vec<&AdapterSource> =
        wanted.iter().filter(|adapter| !known.iter().any(|other| is(adapter, other))).collect();
    if new.is_empty() {
        return None;
    }
    let most = KNOWN_MAX.min(wire::FDS_MAX.saturating_sub(model_files));
    // Of two files under one name the newer counts.
    let kept = known.iter().filter(|adapter| !wanted.iter().any(|other| other.name == adapter.name));
    let all: Vec<AdapterSource> = kept.chain(wanted).cloned().collect();
    Some(if all.len() <= most { all } else { wanted.to_vec() })
}

/// A worker's adapter, ready to be handed over.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) name: ModelName,
    pub(crate) file: File,
}

/// One that can't be opened is left out: it must not cost the asks that don't want it.
pub(crate) fn open(adapters: &[AdapterSource]) -> Vec<Opened> {
    let open = |adapter: &AdapterSource| match File::open(&adapter.path) {
        Ok(file) => Some(Opened { name: adapter.name.clone(), file }),
        Err(error) => {
            tracing::warn!(path = %adapter.path.display(), %error, "an adapter can't be opened");
            None
        }
    };
    adapters.iter().filter_map(open).collect()
}

/// The places of an ask's adapters among those that its worker has.
///
/// # Errors
/// [`Code::FileUnreadable`] for one that the worker was loaded without.
pub(crate) fn places(known: &[ModelName], wanted: &[(ModelName, f32)]) -> Result<Vec<(u32, f32)>, Fault> {
    let place = |(name, scale): &(ModelName, f32)| {
        let place = known.iter().position(|other| other == name).and_then(|place| u32::try_from(place).ok());
        let name = &name.0;
        place.map(|place| (place, *scale)).ok_or_else(|| {
            Fault::new(Code::FileUnreadable, format!("the adapter `{name}` could not be opened when its model was loaded"))
                .hint("see whether its file can be read (`freehold models`), then `freehold stop`: the next command loads anew")
        })
    };
    wanted.iter().map(place).collect()
}

/// The model's name with the adapters that an answer was made with.
pub(crate) fn full_name(model: &str, job: &Job) -> String {
    let (Job::Generate { adapters, .. } | Job::Score { adapters, .. }) = job else { return model.to_owned() };
    let scaled = |(name, scale): &(ModelName, f32)| {
        if (scale - 1.0).abs() < f32::EPSILON { format!("+{}", name.0) } else { format!("+{}*{scale}", name.0) }
    };
    std::iter::once(model.to_owned()).chain(adapters.iter().map(scaled)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str) -> AdapterSource {
        AdapterSource { name: ModelName(name.into()), path: format!("/{name}").into(), bytes: 1, scale: 1.0 }
    }

    fn names(adapters: &[AdapterSource]) -> Vec<&str> {
        adapters.iter().map(|adapter| adapter.name.0.as_str()).collect()
    }

    #[test]
    fn a_worker_that_knows_enough_stays_and_the_next_one_knows_more() {
        assert_eq!(known_after(&[], &[], 1), None);
        let first = known_after(&[], &[adapter("a")], 1).expect("it is new");
        let half = AdapterSource { scale: 0.5, ..adapter("a") };
        assert_eq!(known_after(&first, &[half], 1), None, "the scale is the ask's alone");
        assert_eq!(known_after(&first, &[], 1), None);
        let second = known_after(&first, &[adapter("b")], 1).expect("it is new");
        assert_eq!(names(&second), ["a", "b"]);
        let moved = AdapterSource { path: "/elsewhere".into(), ..adapter("a") };
        let third = known_after(&second, std::slice::from_ref(&moved), 1).expect("another file");
        assert_eq!(third, [adapter("b"), moved]);
    }

    #[test]
    fn what_a_worker_knows_is_bounded() {
        let many: Vec<_> = (0..KNOWN_MAX).map(|n| adapter(&format!("n{n}"))).collect();
        assert_eq!(names(&known_after(&many, &[adapter("x")], 1).expect("new")), ["x"]);
        assert_eq!(names(&known_after(&many[..3], &[adapter("x")], wire::FDS_MAX - 2).expect("new")), ["x"]);
    }

    #[test]
    fn an_ask_names_its_adapters_by_their_places() {
        let known = [ModelName("a".into()), ModelName("b".into())];
        assert_eq!(places(&known, &[(ModelName("b".into()), 0.5)]), Ok(vec![(1, 0.5)]));
        let fault = places(&known, &[(ModelName("c".into()), 1.0)]).expect_err("not there");
        assert!(fault.code == Code::FileUnreadable && fault.message.contains("`c`"), "{fault:?}");
    }
}
