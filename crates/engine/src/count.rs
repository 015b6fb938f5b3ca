//! How many tokens a prompt takes, without working through it.

use crate::answer::Item;
use crate::handle::{Engine, ModelSource, Order, result};
use crate::supervise::Job;
use base::{AppId, Fault, Message, Priority};

impl Engine {
    /// Tokens of the prompt that the model's template makes of these messages. Loads the model when it isn't there.
    ///
    /// # Errors
    /// What the template or the worker says, or its end.
    pub async fn count(
        &self,
        model: ModelSource,
        app: AppId,
        messages: Vec<Message>,
        priority: Priority,
    ) -> Result<u32, Fault> {
        let job = Job::Count { messages, setting: Box::default() };
        let order = Order { model, app, priority, deadline_ms: None, job };
        let mut reader = self.send(order, None);
        result(&mut reader, |item| if let Item::Counted(tokens) = item { Some(tokens) } else { None }).await
    }
}
