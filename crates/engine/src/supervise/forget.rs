//! Having workers let go of what they keep of prompts, and hearing from each that it has.

use super::{Owner, life::Order};
use crate::admit::{ModelKey, WorkerKey};
use crate::locked;
use base::AppId;
use std::collections::BTreeSet;
use std::sync::mpsc::SyncSender;

/// What is to be forgotten.
#[derive(Debug)]
pub(crate) struct Request {
    /// `None`: of every app.
    pub(crate) app: Option<AppId>,
    /// `None`: of every model.
    pub(crate) model: Option<String>,
    /// Told once, when no worker holds any of it any more.
    pub(crate) done: SyncSender<LetGo>,
}

/// What workers held of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LetGo {
    pub(crate) states: u64,
    pub(crate) bytes: u64,
}

/// One request under way.
#[derive(Debug)]
pub(super) struct Forgetting {
    waiting: BTreeSet<WorkerKey>,
    sum: LetGo,
    done: SyncSender<LetGo>,
}

impl Owner {
    pub(super) fn forget(&mut self, request: Request) {
        let Request { app, model, done } = request;
        let scope = app.map_or(0, |app| locked(&self.scopes).for_forgetting(&app));
        let models = &self.models;
        let is_model = |key: ModelKey| {
            let source = models.get(key.0 as usize);
            source.is_some_and(|source| model.as_ref().is_none_or(|model| *model == source.name.0))
        };
        // Asks that wait, or will be begun again, keep nothing either.
        for pending in self.asks.values_mut().filter(|pending| is_model(pending.model)) {
            if scope == 0 || pending.scope == scope {
                (pending.scope, pending.stored) = (0, false);
            }
        }
        let is_meant = |key: &WorkerKey| {
            let worker = self.workers.get(key).filter(|worker| worker.ready.is_some());
            worker.is_some_and(|worker| is_model(worker.model))
        };
        let waiting: BTreeSet<WorkerKey> = self.workers.keys().copied().filter(is_meant).collect();
        waiting.iter().for_each(|key| self.order(*key, Order::Forget(scope)));
        self.forgetting.push(Forgetting { waiting, sum: LetGo::default(), done });
        self.end_forgetting();
    }

    /// A worker has let go of so much, or is gone.
    pub(super) fn heard_forgotten(&mut self, key: WorkerKey, states: u32, bytes: u64) {
        // Requests are answered in the order in which they were sent.
        if let Some(first) = self.forgetting.iter_mut().find(|one| one.waiting.contains(&key)) {
            first.waiting.remove(&key);
            first.sum.states += u64::from(states);
            first.sum.bytes = first.sum.bytes.saturating_add(bytes);
        }
        self.end_forgetting();
    }

    /// Of a worker that is gone nothing more is heard.
    pub(super) fn forget_gone(&mut self, key: WorkerKey) {
        for one in &mut self.forgetting {
            one.waiting.remove(&key);
        }
        self.end_forgetting();
    }

    fn end_forgetting(&mut self) {
        for one in self.forgetting.extract_if(.., |one| one.waiting.is_empty()) {
            // Who asked may have given up.
            let _ = one.done.try_send(one.sum);
        }
    }
}
