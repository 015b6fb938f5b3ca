//! What one worker wants of the states on disk, answered on the thread that speaks to it.

use super::life::Order;
use crate::admit::WorkerKey;
use crate::locked;
use crate::scope::SharedScopes;
use crate::stored::{Owner, Stored};
use std::fs::File;
use std::sync::Arc;
use wire::{Chain, Directive};

/// A worker at the disk.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) key: WorkerKey,
    pub(super) stored: Arc<Stored>,
    pub(super) scopes: SharedScopes,
    /// What its model is, and how it was asked to keep contexts.
    pub(super) model: String,
    pub(super) name: String,
    /// What its adapters are, by their places.
    pub(super) adapters: Vec<String>,
}

impl Disk {
    /// What the worker is told, and the file that goes with it.
    pub(super) fn take(&self, order: Order) -> Option<(Directive, Option<File>)> {
        match order {
            Order::Seek { job, prompt, least } => {
                let owner = self.owner(&prompt);
                let file = owner.and_then(|owner| self.stored.find((self.key, job), &owner, &prompt, least));
                Some((Directive::Found { job }, file))
            }
            Order::Offer { state, chain, bytes, cost_us } => {
                let owner = self.owner(&chain);
                let key = (self.key, state);
                let file = owner.and_then(|owner| self.stored.offer(key, owner, &chain, bytes, cost_us));
                Some((Directive::Store { state }, file))
            }
            Order::Tried { job, verdict, bytes, took_us } => {
                self.stored.tried((self.key, job), verdict, bytes, took_us);
                None
            }
            _ => None,
        }
    }

    /// `None`: the app isn't known any more, or the worker names an adapter that it hasn't got.
    fn owner(&self, chain: &Chain) -> Option<Owner> {
        let app = locked(&self.scopes).app(chain.scope)?;
        let adapter =
            |(place, scale): &(u32, u32)| Some((self.adapters.get(usize::try_from(*place).ok()?)?.clone(), *scale));
        let adapters: Option<Vec<_>> = chain.adapters.iter().map(adapter).collect();
        Some(Owner { model: self.model.clone(), name: self.name.clone(), adapters: adapters?, app })
    }
}
