//! How likely some answers are: a job of one sequence, which generates nothing.

use crate::answer::{Item, wait_for};
use crate::handle::{Engine, ModelSource, Order, chats, result};
use crate::supervise::Job;
use base::{Fault, Likelihood, Score, Scores};
use wire::{WireLikelihood, WireScore};

impl Engine {
    /// Judges each option as the answer to the messages. Dropping what is returned ends the work.
    ///
    /// # Errors
    /// [`base::Code::ModelUnfit`] for a model that doesn't chat; [`base::Code::ContextOverflow`] when the prompt and
    /// the longest option don't fit; else what the worker says, or its end.
    pub async fn score(&self, model: ModelSource, score: Score) -> Result<Scores, Fault> {
        let Score { app, model: _, messages, options, whole, limits, priority, adapters: _ } = score;
        let unfit = chats(&model).err();
        let adapters = model.adapters.iter().map(|adapter| (adapter.name.clone(), adapter.scale)).collect();
        let job = Job::Score { messages, wanted: WireScore { options, whole }, adapters };
        let order = Order { model, app, priority, deadline_ms: limits.deadline_ms, job };
        let mut reader = self.send(order, unfit);
        result(&mut reader, |item| match item {
            Item::Scored(scores) => Some(scores),
            Item::Delta(_)
            | Item::Vectors(_)
            | Item::Counted(_)
            | Item::Probed(_)
            | Item::Opened { .. }
            | Item::Loose { .. } => None,
        })
        .await
    }

    /// As [`Engine::score`], on a thread that may block.
    ///
    /// # Errors
    /// As [`Engine::score`].
    pub fn score_blocking(&self, model: ModelSource, score: Score) -> Result<Scores, Fault> {
        wait_for(self.score(model, score))
    }
}

pub(crate) fn from_wire(likelihoods: Vec<WireLikelihood>) -> Vec<Likelihood> {
    likelihoods.into_iter().map(|WireLikelihood { log, tokens }| Likelihood { log, tokens }).collect()
}
