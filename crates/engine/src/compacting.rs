//! An answer whose prompt didn't fit: counts what is left without the oldest turns, and asks again.
//!
//! What goes is decided in [`compact`]. This is the rim around it: it stands between an ask's queue and its
//! reader, and never waits itself.

use crate::answer::{Item, Reader, only_delta};
use crate::compact::{self, Search, Step};
use crate::handle::{Door, Order};
use crate::supervise::Job;
use crate::template::Setting;
use base::answer::Progress;
use base::{Code, Compaction, Delta, Fault, Message, Shortage};
use std::sync::Arc;
use std::time::Instant;

/// LIMIT: asks for one answer. A second search is due only when the window has shrunk since the first.
const ASKS_MAX: u32 = 3;

#[derive(Debug)]
pub(crate) struct Compacting {
    door: Arc<Door>,
    /// The ask as it came, for all that follow it.
    order: Order,
    submitted: Instant,
    asks: u32,
    /// What the prompt takes when nothing is left out, once that is known.
    whole_tokens: Option<u32>,
    stage: Stage,
    left_out: Option<Compaction>,
    /// Turns that went with that.
    gone: usize,
}

#[derive(Debug)]
enum Stage {
    /// The answer is read.
    Reading,
    /// Tokens of the prompt without so many turns are counted.
    Counting { search: Search, turns: usize, available: u32 },
}

/// What becomes of an item.
#[derive(Debug)]
pub(crate) enum Turn {
    Pass(Result<Delta, Fault>),
    /// What was left out is said before this delta.
    Declare(Compaction, Delta),
    /// The answer goes on in another queue.
    Read(Reader),
    Skip,
}

impl Compacting {
    pub(crate) fn new(door: Arc<Door>, order: Order) -> Self {
        Self {
            door,
            order,
            submitted: Instant::now(),
            asks: 1,
            whole_tokens: None,
            stage: Stage::Reading,
            left_out: None,
            gone: 0,
        }
    }

    /// The ask without what was left out of it.
    pub(crate) fn order(&self) -> Order {
        Order { job: self.shortened(self.gone), ..self.order.clone() }
    }

    /// The same answer goes on with another ask.
    pub(crate) fn begin(&mut self, order: Order) {
        (self.order, self.asks, self.whole_tokens, self.gone) = (order, 1, None, 0);
    }

    pub(crate) fn take(&mut self, item: Result<Item, Fault>) -> Turn {
        match std::mem::replace(&mut self.stage, Stage::Reading) {
            Stage::Reading => self.read(item),
            Stage::Counting { mut search, turns, available } => match item {
                Ok(Item::Counted(tokens)) => {
                    search.learn(turns, tokens);
                    self.go_on(search, available)
                }
                // Where a count stands in its queue is no news.
                Ok(
                    Item::Delta(_)
                    | Item::Vectors(_)
                    | Item::Scored(_)
                    | Item::Probed(_)
                    | Item::Opened { .. }
                    | Item::Loose { .. },
                ) => {
                    self.stage = Stage::Counting { search, turns, available };
                    Turn::Skip
                }
                Err(fault) => Turn::Pass(Err(fault)),
            },
        }
    }

    fn read(&mut self, item: Result<Item, Fault>) -> Turn {
        match item.and_then(only_delta) {
            Ok(delta @ Delta::Progress(Progress::Queued | Progress::Loading { .. })) => Turn::Pass(Ok(delta)),
            Ok(delta) => match self.left_out.take() {
                Some(left_out) => Turn::Declare(left_out, delta),
                None => Turn::Pass(Ok(delta)),
            },
            Err(fault) if fault.code == Code::ContextOverflow && self.asks < ASKS_MAX => match fault.shortage {
                Some(shortage) if self.has_turns() => self.search(shortage),
                Some(_) | None => Turn::Pass(Err(fault)),
            },
            Err(fault) => Turn::Pass(Err(fault)),
        }
    }

    fn search(&mut self, Shortage { requested, available }: Shortage) -> Turn {
        // The first to be too long is the whole prompt, with one token for an answer.
        let whole = *self.whole_tokens.get_or_insert(requested.saturating_sub(1));
        let (messages, tokens_max) = self.wanted();
        let search = Search::new(messages, whole, available, (tokens_max > 0).then_some(tokens_max));
        self.go_on(search, available)
    }

    fn go_on(&mut self, search: Search, available: u32) -> Turn {
        let (messages, _) = self.wanted();
        match search.step() {
            Step::Count(turns) => {
                let job = Job::Count { messages: compact::without(messages, turns), setting: self.setting() };
                self.stage = Stage::Counting { search, turns, available };
                self.ask(job)
            }
            Step::Take(turns, compaction) => {
                let job = self.shortened(turns);
                self.asks += 1;
                (self.left_out, self.gone) = (Some(compaction), turns);
                self.ask(job)
            }
            Step::Never { requested } => {
                let name = &self.order.model.name.0;
                let words = format!(
                    "system text and the last turn alone take {requested} tokens; `{name}` has a window of {available} \
                     here"
                );
                let fault = Fault::new(Code::ContextOverflow, words).shortage(requested, available);
                Turn::Pass(Err(fault
                    .hint("send less text: those two are never left out, and nothing was answered")
                    .hint("FREEHOLD_CONTEXT sets a larger window, where the model and the memory allow it")))
            }
        }
    }

    /// Whether anything may be left out at all.
    fn has_turns(&self) -> bool {
        let (messages, _) = self.wanted();
        compact::without(messages, 1).len() < messages.len()
    }

    fn wanted(&self) -> (&[Message], u32) {
        match &self.order.job {
            Job::Generate { messages, tokens_max, .. } => (messages, *tokens_max),
            // Only generations come here.
            Job::Score { .. } | Job::Embed { .. } | Job::Rank { .. } | Job::Count { .. } | Job::Probe { .. } => {
                (&[], 0)
            }
        }
    }

    fn setting(&self) -> Box<Setting> {
        match &self.order.job {
            Job::Generate { setting, .. } => setting.clone(),
            Job::Score { .. } | Job::Embed { .. } | Job::Rank { .. } | Job::Count { .. } | Job::Probe { .. } => {
                Box::default()
            }
        }
    }

    fn shortened(&self, turns: usize) -> Job {
        let mut job = self.order.job.clone();
        if let Job::Generate { messages, .. } = &mut job {
            *messages = compact::without(messages, turns);
        }
        job
    }

    fn ask(&self, job: Job) -> Turn {
        let spent = u64::try_from(self.submitted.elapsed().as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = self.order.deadline_ms.map(|most| most.saturating_sub(spent).max(1));
        let Order { model, app, priority, .. } = &self.order;
        let order = Order { model: model.clone(), app: app.clone(), priority: *priority, deadline_ms, job };
        Turn::Read(self.door.submit(order, None))
    }
}
