//! Tasks, done by the engine's chat models.

use crate::Inner;
use crate::baselines::Key;
use crate::stream::{EventSender, Reader};
use crate::view::{TaskEvent, TaskReply};
use base::{AppId, Ask, Code, Delta, Fault, Form, Likelihood, Limits, Message, Priority, Sampling, Score, Usage};
use engine::ModelSource;
use std::cell::{OnceCell, RefCell};
use tasks::{Call, Complete, Completion, Step, Task};

/// What a second try weighs words down by that were just said.
const SECOND_PENALTY: f32 = 1.1;
/// The same text and options give the same result, also where a second try was needed.
const SECOND_SEED: u32 = 18;

/// Who asks for a task, and of which model.
#[derive(Debug, Clone)]
pub struct TaskCall {
    pub task: Task,
    pub app: AppId,
    /// Empty: the default chat model.
    pub model: String,
    pub priority: Priority,
}

pub(crate) fn run(inner: &Inner, call: &TaskCall, events: &EventSender<TaskEvent>) {
    let model = Model {
        inner,
        call,
        events,
        reader: &events.reader,
        source: OnceCell::new(),
        spent: RefCell::new(Usage::default()),
    };
    let mut each = |step| match step {
        Step::Plan(plan) => events.send(TaskEvent::Plan(plan)),
        Step::Progress { done, total } => events.offer(TaskEvent::Parts { done, total }),
        Step::Text(text) => events.send(TaskEvent::Text(text)),
    };
    let done = call.task.run(&model, &mut each);
    events.send(match done {
        Ok(done) => {
            let mut usage = model.spent.into_inner();
            if let Some(source) = model.source.get() {
                usage.model.clone_from(&source.name.0);
            }
            TaskEvent::Done(Box::new(TaskReply { task: call.task.name().to_owned(), done, usage }))
        }
        Err(fault) => TaskEvent::Failed(fault),
    });
}

/// A chat model as tasks see it. Found when it is first needed: some tasks need none.
struct Model<'a> {
    inner: &'a Inner,
    call: &'a TaskCall,
    events: &'a EventSender<TaskEvent>,
    reader: &'a Reader,
    source: OnceCell<ModelSource>,
    /// What all calls took together.
    spent: RefCell<Usage>,
}

impl Model<'_> {
    fn source(&self) -> Result<&ModelSource, Fault> {
        if let Some(source) = self.source.get() {
            return Ok(source);
        }
        let source = self.inner.chat_source(&self.call.model, &[])?;
        Ok(self.source.get_or_init(|| source))
    }

    /// Waits for work of the engine; whoever asked going away ends it.
    fn wait<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        let gone = || Err(Fault::new(Code::Cancelled, "nobody waits for this task any more"));
        self.reader.unless_gone(work).unwrap_or_else(gone)
    }

    fn spend(&self, usage: &Usage) {
        let mut spent = self.spent.borrow_mut();
        spent.prompt_tokens = spent.prompt_tokens.saturating_add(usage.prompt_tokens);
        spent.cached_tokens = spent.cached_tokens.saturating_add(usage.cached_tokens);
        spent.completion_tokens = spent.completion_tokens.saturating_add(usage.completion_tokens);
        spent.queue_us += usage.queue_us;
        spent.load_us += usage.load_us;
        spent.prefill_us += usage.prefill_us;
        spent.decode_us += usage.decode_us;
        spent.context_tokens = usage.context_tokens;
    }

    fn sampling(call: &Call) -> Sampling {
        let again = call.temperature > 0.0 && !matches!(call.shape.form(), Form::JsonSchema(_));
        let repeat_penalty = if again { SECOND_PENALTY } else { 1.0 };
        Sampling { temperature: call.temperature, repeat_penalty, seed: Some(SECOND_SEED), ..Sampling::default() }
    }
}

impl Complete for Model<'_> {
    fn complete(&self, call: &Call, each: &mut dyn FnMut(&str)) -> Result<Completion, Fault> {
        let source = self.source()?.clone();
        let limits = Limits { tokens_max: Some(call.tokens_max), deadline_ms: None };
        let app = self.call.app.clone();
        let ask =
            Ask::new(app, source.name.0.clone(), call.messages.clone(), Self::sampling(call), Vec::new(), limits)?;
        let ask = Ask { shape: call.shape.clone(), priority: self.call.priority, ..ask };
        let mut answer = self.inner.engine.submit(source, ask);
        self.wait(async {
            let mut text = String::new();
            while let Some(delta) = answer.next().await {
                match delta? {
                    Delta::Progress(progress) => self.events.offer(TaskEvent::Progress(progress)),
                    Delta::Text(piece) => {
                        each(&piece);
                        text.push_str(&piece);
                    }
                    Delta::Usage(usage) => self.spend(&usage),
                    Delta::Done(finish) => return Ok(Completion { text, finish }),
                    _ => {}
                }
            }
            Err(Fault::new(Code::Internal, "the engine ended an answer without its last word"))
        })
    }

    fn score(&self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault> {
        let source = self.source()?.clone();
        let app = self.call.app.clone();
        let score = Score::new(app, source.name.0.clone(), messages.to_vec(), options.to_vec())?;
        let score = Score { priority: self.call.priority, ..score };
        let scores = self.wait(self.inner.engine.score(source, score))?;
        self.spend(&scores.usage);
        Ok(scores.options)
    }

    fn baseline(&self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault> {
        let Some(key) = Key::of(&self.call.app, self.source()?, messages, options) else {
            return self.score(messages, options);
        };
        let time = match self.inner.baselines.get(&key) {
            Ok(known) => return Ok(known),
            Err(time) => time,
        };
        let found = self.score(messages, options)?;
        self.inner.baselines.put(time, key, found.clone());
        Ok(found)
    }

    fn count(&self, messages: &[Message]) -> Result<u32, Fault> {
        let source = self.source()?.clone();
        let app = self.call.app.clone();
        self.wait(self.inner.engine.count(source, app, messages.to_vec(), self.call.priority))
    }

    fn window(&self) -> Result<u32, Fault> {
        let source = self.source()?;
        let now = || {
            let loaded = self.inner.engine.loaded().into_iter().find(|loaded| loaded.name == source.name.0);
            loaded.map(|loaded| loaded.context_tokens).filter(|tokens| *tokens > 0)
        };
        if let Some(tokens) = now() {
            return Ok(tokens);
        }
        // Only a loaded model knows what memory leaves it; counting loads it.
        self.count(&[Message::new(base::Role::User, "?")])?;
        Ok(now().unwrap_or(source.facts.context_max))
    }

    fn parameters(&self) -> Result<u64, Fault> {
        Ok(self.source()?.facts.parameters)
    }
}
