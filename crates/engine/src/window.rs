//! What a caller may know of the memory without asking the owner thread: how large a window could be now,
//! and what the models share.

use crate::admit::ModelKey;
use crate::handle::{Engine, ModelSource, Row};
use crate::residency::{self, Holding};
use crate::{locked, machine, plan};
use base::{Bytes, Modality};

/// How many tokens one ask could use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// By the memory that there is now; what it takes of others who can give it is counted in.
    pub now: u32,
    /// What the model was trained for.
    pub trained: u32,
}

/// The memory that models share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryShare {
    /// For all of them together; `None` where the system doesn't say.
    pub budget: Option<Bytes>,
    /// What they are counted with.
    pub held: Bytes,
}

/// No model that is loaded has this key.
const NOT_LOADED: ModelKey = ModelKey(u32::MAX);

impl Engine {
    /// The window of a model, whether it is loaded or not.
    pub fn window(&self, model: &ModelSource) -> Window {
        let rows = locked(&self.shared.door.loaded).clone();
        let row = rows.iter().find(|row| row.loaded.name == model.name.0);
        let planned = || plan::plan(&model.facts, self.shared.wish);
        let (key, plan) = row.map_or_else(|| (NOT_LOADED, planned()), |row| (row.holding.key, row.plan));
        let trained = model.facts.context_max;
        if model.facts.modality == Modality::Embed {
            return Window { now: plan.limit_tokens.min(plan.batch_tokens), trained };
        }
        let holdings: Vec<Holding<ModelKey>> = rows.iter().map(|row| row.holding).collect();
        Window { now: residency::largest(self.budget(&rows), &holdings, key, &plan), trained }
    }

    /// What the models that are loaded share, as it is now.
    pub fn memory_share(&self) -> MemoryShare {
        let rows = locked(&self.shared.door.loaded).clone();
        let held = rows.iter().map(|row| row.holding.bytes).sum();
        MemoryShare { budget: self.budget(&rows).map(Bytes), held: Bytes(held) }
    }

    pub(crate) fn budget(&self, rows: &[Row]) -> Option<u64> {
        let held = rows.iter().filter_map(|row| machine::anonymous(row.loaded.pid)).sum();
        plan::budget(machine::memory(), held, self.shared.memory_max)
    }
}
