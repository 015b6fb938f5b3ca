//! An answer as its reader gets it: what the model says is taken apart, and where one job isn't enough the answer
//! goes on in another one.
//!
//! There are two reasons to go on. A thought with a budget is a job of its own, which ends with the thought or the
//! budget; behind it the answer goes on with the thought in its prompt. And a call that must be made is a job whose
//! text can be nothing else. As the prompts begin alike, what was worked through is not worked through again.

use crate::answer::Reader;
use crate::forced::{Forced, forced};
use crate::handle::{Door, Order};
use crate::parse::{Grammar, Parser, Piece, Style, Unkept};
use crate::supervise::Job;
use crate::template::{Lead, Setting};
use base::answer::Progress;
use base::{Ask, CallPiece, Code, Delta, Fault, Finish, ModelFacts, Thinking, Toolbox, Usage};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;
use wire::{WireReasoning, WireShape};

/// LIMIT: jobs of one answer: a thought, the answer, and a second try of a call that was forced.
const JOBS_MAX: u32 = 3;
/// Of a thought before a call that must be made, where the caller wants one and names no budget.
const THOUGHT_TOKENS: u32 = 1024;
/// Mistral's templates take ids of this length only; all others take any.
const ID_CHARS: usize = 9;

/// What is known of an ask's conversation beside its messages.
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    style: Style,
    toolbox: Toolbox,
    thinking: Thinking,
    forced: Option<Forced>,
    /// Of calls that the model may make, where the answer is free otherwise.
    grammar: Option<Grammar>,
    stop: Vec<String>,
    /// 0: what the window leaves.
    tokens_max: u32,
}

impl Talk {
    pub(crate) fn of(facts: &ModelFacts, ask: &Ask) -> Self {
        let style = Style::of(facts);
        let is_free = ask.shape.is_free() && !ask.toolbox.is_forced();
        Self {
            style,
            forced: forced(&style, &ask.toolbox),
            grammar: is_free.then(|| Grammar::of(&style, &ask.toolbox)),
            toolbox: ask.toolbox.clone(),
            thinking: ask.thinking.clone(),
            stop: ask.stop.clone(),
            tokens_max: ask.limits.tokens_max.unwrap_or(0),
        }
    }

    /// The shape of an answer that is free but for its calls, and what encloses a thought.
    fn calls(&self) -> Option<(WireShape, Option<WireReasoning>)> {
        let calls = self.grammar.as_ref()?.calls.clone()?;
        let thought = self.style.think.map(|(open, close)| WireReasoning { open: open.into(), close: close.into() });
        Some((WireShape::Calls(Box::new(calls)), thought))
    }

    /// Tokens after which a thought is ended, where it has a job of its own.
    fn budget(&self) -> Option<u32> {
        self.style.think?;
        let wants = self.thinking.enabled != Some(false);
        match self.thinking.budget_tokens {
            Some(budget) => (wants && budget > 0).then_some(budget),
            None => (self.forced.is_some() && self.thinking.enabled == Some(true)).then_some(THOUGHT_TOKENS),
        }
    }

    /// Whether the template should have the model think. A call that must be made is made without a thought unless
    /// one is asked for, and a budget of nothing is none.
    fn thinks(&self) -> Option<bool> {
        match self.thinking.enabled {
            None if self.thinking.budget_tokens == Some(0) => Some(false),
            None if self.forced.is_some() && self.budget().is_none() => self.style.think.map(|_| false),
            wanted => wanted,
        }
    }
}

/// What becomes of an item.
#[derive(Debug)]
pub(crate) enum Heard {
    Said(Vec<Delta>),
    Failed(Fault),
    /// These, and then what the next job says.
    GoOn(Vec<Delta>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// A thought, which another job follows.
    Thought,
    Answer,
    Forced,
}

#[derive(Debug)]
pub(crate) struct Hearing {
    door: Arc<Door>,
    talk: Talk,
    /// As it came.
    order: Order,
    submitted: Instant,
    stage: Stage,
    jobs: u32,
    parser: Option<Parser>,
    in_thought: bool,
    /// What this job has said.
    said: String,
    /// What all jobs before this one cost.
    spent: Option<Usage>,
    usage: Option<Usage>,
    /// What stands of the answer when the next job begins.
    lead: Vec<Lead>,
    calls: u32,
    /// What calls aren't kept to; told with the first call that it concerns.
    unkept: Vec<Unkept>,
    /// What the calls' ids are made from.
    seed: u64,
}

impl Hearing {
    pub(crate) fn new(door: Arc<Door>, talk: Talk, order: Order) -> Self {
        let stage = match (talk.budget(), &talk.forced) {
            (Some(_), _) => Stage::Thought,
            (None, Some(_)) => Stage::Forced,
            (None, None) => Stage::Answer,
        };
        let unkept = talk.grammar.as_ref().map(|grammar| grammar.unkept.clone()).unwrap_or_default();
        Self {
            door,
            talk,
            order,
            submitted: Instant::now(),
            stage,
            jobs: 1,
            parser: None,
            in_thought: false,
            said: String::new(),
            spent: None,
            usage: None,
            lead: Vec::new(),
            calls: 0,
            unkept,
            seed: RandomState::new().hash_one(0_u8),
        }
    }

    pub(crate) fn first_order(&self) -> Order {
        Order { job: self.job(self.order.job.clone()), ..self.order.clone() }
    }

    /// The ask that the answer goes on with. `shortened`: the one before it, where turns were left out of that.
    pub(crate) fn next_order(&mut self, shortened: Option<Order>) -> Order {
        self.jobs += 1;
        self.said.clear();
        let before = shortened.unwrap_or_else(|| self.order.clone());
        let spent = u64::try_from(self.submitted.elapsed().as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = self.order.deadline_ms.map(|most| most.saturating_sub(spent).max(1));
        Order { job: self.job(before.job), deadline_ms, ..self.order.clone() }
    }

    pub(crate) fn submit(&self, order: Order) -> Reader {
        self.door.submit(order, None)
    }

    fn job(&self, mut job: Job) -> Job {
        let Talk { style, toolbox, thinking, forced, .. } = &self.talk;
        if let Job::Generate { setting, stop, tokens_max, shape, reasoning, .. } = &mut job {
            let mut lead = self.lead.clone();
            *stop = self.talk.stop.clone();
            *tokens_max = self.tokens_left();
            match self.stage {
                Stage::Thought => {
                    stop.extend(style.think.map(|(_, close)| close.to_owned()));
                    let budget = self.talk.budget().unwrap_or(0);
                    *tokens_max = if *tokens_max == 0 { budget } else { budget.min(*tokens_max) };
                    (*shape, *reasoning) = self.talk.calls().unwrap_or((WireShape::Free, None));
                }
                Stage::Answer => {
                    if toolbox.callable().next().is_some() {
                        stop.extend(style.waits.iter().map(|mark| (*mark).to_owned()));
                    }
                    if !toolbox.parallel && toolbox.callable().next().is_some() {
                        stop.extend(style.stop_after_one().map(str::to_owned));
                    }
                    if let Some((calls, thought)) = self.talk.calls() {
                        (*shape, *reasoning) = (calls, thought);
                    }
                    // A thought stands outside the shape, where it wasn't a job of its own.
                    if *shape == WireShape::Free || self.jobs > 1 {
                        *reasoning = None;
                    } else if reasoning.is_none() {
                        let own =
                            |(open, close): (&str, &str)| WireReasoning { open: open.into(), close: close.into() };
                        *reasoning = style.think.map(own);
                    }
                }
                Stage::Forced => {
                    // What ends an answer in words can stand within the arguments of a call.
                    stop.clear();
                    if let Some(forced) = forced {
                        lead.extend(forced.lead.clone());
                        (*shape, *reasoning) = (WireShape::JsonSchema(forced.schema.clone()), None);
                    }
                }
            }
            **setting = Setting {
                tools: toolbox.tools.clone(),
                thinking: self.talk.thinks(),
                kwargs: thinking.template_kwargs.clone(),
                lead,
            };
        }
        job
    }

    /// Tokens that the answer may still have; 0: what the window leaves.
    fn tokens_left(&self) -> u32 {
        let spent = self.spent.as_ref().map_or(0, |usage| usage.completion_tokens);
        if self.talk.tokens_max == 0 { 0 } else { self.talk.tokens_max.saturating_sub(spent).max(1) }
    }

    /// The prompt is made.
    pub(crate) fn open(&mut self, in_thought: bool) {
        self.in_thought = in_thought;
        let Talk { style, toolbox, forced, .. } = &self.talk;
        let tools: Vec<_> = toolbox.callable().collect();
        let parser = match (self.stage, forced) {
            (Stage::Forced, Some(forced)) => Parser::forced(*style, &tools, in_thought, forced.named.as_deref()),
            // It goes on where the job before it ended.
            (Stage::Answer, _) if self.jobs > 1 => return,
            _ => {
                let parser = Parser::new(*style, &tools, in_thought);
                if toolbox.parallel { parser } else { parser.single() }
            }
        };
        self.parser = Some(parser);
    }

    /// Calls of this tool, or of any, aren't kept to their schema. To be said at once where it is a call that has begun,
    /// else with the first that it concerns.
    pub(crate) fn loosen(&mut self, tool: Option<String>, reason: String) -> Option<Delta> {
        if tool.is_none() && self.calls > 0 {
            return Some(Delta::Notice(format!(
                "tool_schema_loose: a call is not kept to its schema any more: {reason}"
            )));
        }
        if !self.unkept.iter().any(|noted| noted.tool == tool) {
            self.unkept.push(Unkept { tool, reason });
        }
        None
    }

    pub(crate) fn take(&mut self, item: Result<Delta, Fault>) -> Heard {
        match item {
            Ok(Delta::Text(text)) => {
                if self.stage == Stage::Thought {
                    self.said.push_str(&text);
                }
                let pieces = match &mut self.parser {
                    Some(parser) => parser.push(&text),
                    None => vec![Piece::Text(text)],
                };
                Heard::Said(self.deltas(pieces))
            }
            Ok(Delta::Usage(usage)) => {
                self.usage = Some(self.sum(usage));
                Heard::Said(Vec::new())
            }
            Ok(Delta::Done(finish)) => self.done(finish),
            // The prompt is read a second time only in the eyes of the engine.
            Ok(Delta::Progress(Progress::Queued | Progress::Prefill { .. })) if self.jobs > 1 => {
                Heard::Said(Vec::new())
            }
            Ok(delta) => Heard::Said(vec![delta]),
            // The constraint failed in the middle of a call: once more, from the call's beginning.
            Err(fault) if fault.code == Code::ShapeFailed && self.may_retry() => {
                self.parser = None;
                Heard::GoOn(Vec::new())
            }
            Err(fault) => Heard::Failed(fault),
        }
    }

    /// Whether nothing of a forced call was handed out yet.
    fn may_retry(&self) -> bool {
        self.stage == Stage::Forced && self.jobs < JOBS_MAX && self.calls == 0
    }

    fn done(&mut self, finish: Finish) -> Heard {
        let thinks = self.parser.as_ref().is_some_and(Parser::is_thinking);
        let more = match finish {
            Finish::Length => true,
            // Of the caller's own stop strings, one within the answer ends that.
            Finish::StopString => thinks || self.talk.forced.is_some(),
            Finish::EndOfTurn => self.talk.forced.is_some(),
            // The budget has cut a call of an answer that began without a thought.
            Finish::StructureIncomplete => self.talk.grammar.is_some(),
            Finish::Cancelled | Finish::ToolCalls | Finish::Loop => false,
        };
        let room = self.talk.tokens_max == 0 || self.spent_tokens() < self.talk.tokens_max;
        if self.stage == Stage::Thought && self.jobs < JOBS_MAX && more && room {
            let cut = matches!(finish, Finish::StructureIncomplete).then(|| {
                let words = "a call that the thoughts' budget has cut in two is not kept to its schema";
                Delta::Notice(format!("tool_schema_loose: {words}"))
            });
            let mut deltas = self.end_thought(finish);
            deltas.extend(cut);
            return Heard::GoOn(deltas);
        }
        let pieces = self.parser.as_mut().map(Parser::finish).unwrap_or_default();
        let mut deltas = self.deltas(pieces);
        let called = self.calls > 0 && matches!(finish, Finish::EndOfTurn | Finish::StopString);
        deltas.extend(self.usage.take().map(Delta::Usage));
        deltas.push(Delta::Done(if called { Finish::ToolCalls } else { finish }));
        Heard::Said(deltas)
    }

    fn spent_tokens(&self) -> u32 {
        self.usage.as_ref().map_or(0, |usage| usage.completion_tokens)
    }

    /// The thought is over, or its budget is: what was said stands in the prompt of what follows.
    fn end_thought(&mut self, finish: Finish) -> Vec<Delta> {
        self.spent = self.usage.take();
        let (open, close) = self.talk.style.think.unwrap_or_default();
        let said = std::mem::take(&mut self.said);
        let begun = said.trim_start();
        let (opened, thought) = match begun.strip_prefix(open) {
            Some(thought) if !self.in_thought => (true, thought),
            _ => (self.in_thought, said.as_str()),
        };
        let mut deltas = Vec::new();
        self.lead = match (opened, said.is_empty()) {
            (true, _) => {
                let mark = if self.in_thought { String::new() } else { open.to_owned() };
                let gap = if thought.ends_with('\n') { "" } else { "\n" };
                if finish == Finish::Length {
                    let budget = self.talk.budget().unwrap_or(0);
                    deltas.push(Delta::Notice(format!("the thought was ended after {budget} tokens, its budget")));
                }
                let ended = format!("{gap}{close}\n\n");
                // What was said and what stands in the prompt is taken apart alike.
                let pieces = self.parser.as_mut().map(|parser| parser.push(&ended)).unwrap_or_default();
                deltas.extend(self.deltas(pieces));
                vec![Lead::Marks(mark), Lead::Said(thought.to_owned()), Lead::Marks(ended)]
            }
            (false, false) => vec![Lead::Said(said.clone())],
            (false, true) => Vec::new(),
        };
        self.stage = Stage::Answer;
        if self.talk.forced.is_some() {
            self.stage = Stage::Forced;
            // The call has a parser of its own.
            let pieces = self.parser.as_mut().map(Parser::finish).unwrap_or_default();
            deltas.extend(self.deltas(pieces));
        }
        deltas
    }

    fn deltas(&mut self, pieces: Vec<Piece>) -> Vec<Delta> {
        let mut deltas: Vec<Delta> = Vec::new();
        for piece in pieces {
            let delta = match piece {
                Piece::Text(text) => Delta::Text(text),
                Piece::Thought(text) => Delta::Thought(text),
                Piece::Call(name) => {
                    let index = self.calls;
                    self.calls += 1;
                    deltas.extend(self.notice_of(&name));
                    let (id, arguments) = (Some(self.id(index)), String::new());
                    Delta::Call(CallPiece { index, id, name: Some(name), arguments })
                }
                Piece::Arguments(arguments) | Piece::Made(arguments) => {
                    if let Some(Delta::Call(call)) = deltas.last_mut()
                        && call.name.is_none()
                    {
                        call.arguments.push_str(&arguments);
                        continue;
                    }
                    let index = self.calls.saturating_sub(1);
                    Delta::Call(CallPiece { index, id: None, name: None, arguments })
                }
                Piece::Syntax(_) => continue,
                Piece::Error(why) => {
                    Delta::Notice(format!("tool_parse_error: {why}; the model's text stands in the answer"))
                }
            };
            deltas.push(delta);
        }
        deltas
    }

    /// What is to be said with a call of this tool; said once.
    fn notice_of(&mut self, name: &str) -> Option<Delta> {
        let concerns = |noted: &Unkept| noted.tool.as_deref().is_none_or(|tool| tool == name);
        let place = self.unkept.iter().position(concerns)?;
        let Unkept { reason, .. } = self.unkept.remove(place);
        let words = format!("the arguments of `{name}` are not kept to their schema: {reason}");
        Some(Delta::Notice(format!("tool_schema_loose: {words}")))
    }

    /// Letters and digits, another one for each call of each answer.
    fn id(&self, index: u32) -> String {
        const CHARS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut rest = self.seed.wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut next = || {
            let c = CHARS[usize::try_from(rest % 62).unwrap_or(0)];
            rest /= 62;
            char::from(c)
        };
        (0..ID_CHARS).map(|_| next()).collect()
    }

    fn sum(&self, usage: Usage) -> Usage {
        let Some(before) = &self.spent else { return usage };
        Usage {
            prompt_tokens: before.prompt_tokens,
            cached_tokens: before.cached_tokens,
            completion_tokens: before.completion_tokens.saturating_add(usage.completion_tokens),
            queue_us: before.queue_us.saturating_add(usage.queue_us),
            load_us: before.load_us.saturating_add(usage.load_us),
            prefill_us: before.prefill_us.saturating_add(usage.prefill_us),
            decode_us: before.decode_us.saturating_add(usage.decode_us),
            ..usage
        }
    }
}
