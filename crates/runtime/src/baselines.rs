//! Likelihoods of options behind texts without content, which are the same for every text of a run: remembered for
//! the app that asked, as long as its model is the same file, until prompts are forgotten.

use base::{AppId, Likelihood, Message};
use engine::ModelSource;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// LIMIT: what is remembered; a run over many texts needs two of them.
const BASELINES_MAX: usize = 256;
/// LIMIT: bytes of what one was asked with; more isn't remembered.
const ASKED_BYTES_MAX: usize = 64 << 10;

/// All that likelihoods depend on, and whose they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Key {
    app: AppId,
    model: String,
    parts: Vec<File>,
    adapters: Vec<(String, File, f32)>,
    messages: Vec<Message>,
    options: Vec<String>,
}

/// A file as it looks now: another one of its name is another model.
#[derive(Debug, Clone, PartialEq)]
struct File {
    path: PathBuf,
    bytes: u64,
    changed: Option<SystemTime>,
}

impl File {
    fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self { path: path.to_owned(), bytes: about.len(), changed: about.modified().ok() })
    }
}

impl Key {
    /// `None`: it is too long to be remembered, or the model's file isn't there.
    pub(crate) fn of(app: &AppId, source: &ModelSource, messages: &[Message], options: &[String]) -> Option<Self> {
        let words = messages.iter().map(|message| &message.content).chain(options);
        if words.map(String::len).sum::<usize>() > ASKED_BYTES_MAX {
            return None;
        }
        let parts = source.parts.iter().map(|path| File::of(path)).collect::<Option<_>>()?;
        let adapters = source.adapters.iter();
        let adapters = adapters
            .map(|adapter| Some((adapter.name.0.clone(), File::of(&adapter.path)?, adapter.scale)))
            .collect::<Option<_>>()?;
        let (model, messages, options) = (source.name.0.clone(), messages.to_vec(), options.to_vec());
        Some(Self { app: app.clone(), model, parts, adapters, messages, options })
    }

    fn is_of(&self, app: Option<&AppId>, model: Option<&str>) -> bool {
        let named = |model: &str| self.model == model || self.adapters.iter().any(|(name, ..)| name == model);
        app.is_none_or(|app| self.app == *app) && model.is_none_or(named)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Baselines(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The oldest first.
    entries: VecDeque<(Key, Vec<Likelihood>)>,
    /// How often something was forgotten.
    forgotten: u64,
}

/// When something was asked for and not found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Time(u64);

impl Baselines {
    /// # Errors
    /// When there is none: the time, to put it there with.
    pub(crate) fn get(&self, key: &Key) -> Result<Vec<Likelihood>, Time> {
        let kept = self.kept();
        let found = kept.entries.iter().find(|(own, _)| own == key);
        found.map(|(_, likelihoods)| likelihoods.clone()).ok_or(Time(kept.forgotten))
    }

    /// Remembers what was found, unless something was forgotten since it was asked for: it may be of that.
    pub(crate) fn put(&self, asked: Time, key: Key, likelihoods: Vec<Likelihood>) {
        let mut kept = self.kept();
        if asked != Time(kept.forgotten) {
            return;
        }
        if kept.entries.len() >= BASELINES_MAX {
            kept.entries.pop_front();
        }
        kept.entries.push_back((key, likelihoods));
    }

    /// Forgets those of one app or all, of one model or adapter or all.
    pub(crate) fn forget(&self, app: Option<&AppId>, model: Option<&str>) {
        let mut kept = self.kept();
        kept.forgotten += 1;
        kept.entries.retain(|(key, _)| !key.is_of(app, model));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Role;

    fn key(app: &str, model: &str, path: &Path) -> Key {
        Key {
            app: AppId(app.into()),
            model: model.into(),
            parts: vec![File::of(path).expect("a file")],
            adapters: Vec::new(),
            messages: vec![Message::new(Role::User, "N/A")],
            options: vec!["a".into(), "b".into()],
        }
    }

    fn put(baselines: &Baselines, key: &Key, log: f64) {
        let time = baselines.get(key).expect_err("it isn't there yet");
        baselines.put(time, key.clone(), vec![Likelihood { log, tokens: 1 }]);
    }

    #[test]
    fn an_app_and_a_file_have_their_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, "one").expect("written");
        let baselines = Baselines::default();
        let own = key("one", "model", &path);
        put(&baselines, &own, -1.0);
        assert_eq!(baselines.get(&own).expect("there")[0].log.to_bits(), (-1.0_f64).to_bits());
        assert!(baselines.get(&key("other", "model", &path)).is_err(), "another app's");
        std::fs::write(&path, "another").expect("written");
        assert!(baselines.get(&key("one", "model", &path)).is_err(), "another file's");
    }

    #[test]
    fn what_is_forgotten_is_gone_and_comes_not_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, "one").expect("written");
        let baselines = Baselines::default();
        let adapters = vec![("a".into(), File::of(&path).expect("a file"), 1.0)];
        let adapted = Key { adapters, ..key("one", "n", &path) };
        let keys = [key("one", "m", &path), key("other", "m", &path), adapted];
        let there = || keys.each_ref().map(|key| baselines.get(key).is_ok());
        keys.iter().for_each(|key| put(&baselines, key, -1.0));
        let before = baselines.get(&key("late", "m", &path)).expect_err("none");
        baselines.forget(Some(&AppId("one".into())), Some("m"));
        assert_eq!(there(), [false, true, true]);
        baselines.put(before, key("late", "m", &path), Vec::new());
        assert!(baselines.get(&key("late", "m", &path)).is_err(), "it was asked for before all was forgotten");
        baselines.forget(None, Some("a"));
        assert_eq!(there(), [false, true, false]);
        baselines.forget(None, None);
        assert_eq!(there(), [false; 3]);
    }

    #[test]
    fn few_are_remembered() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, "one").expect("written");
        let baselines = Baselines::default();
        (0..=BASELINES_MAX).for_each(|at| put(&baselines, &key(&at.to_string(), "m", &path), -1.0));
        assert_eq!(baselines.kept().entries.len(), BASELINES_MAX);
        assert!(baselines.get(&key("0", "m", &path)).is_err(), "the oldest goes first");
    }
}
