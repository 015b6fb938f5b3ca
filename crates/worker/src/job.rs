//! One generation: its tokens, where it stands, and its text.

use crate::ffi::{Sampler, Token};
use crate::guide::Guide;
use crate::link::micros;
use crate::park::Saved;
use batch::likelihood::Options;
use batch::repeat::Watch;
use batch::stop::{Passed, Stops};
use batch::{draft::Drafts, prefix::Owner, utf8::Assembler};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use wire::{JobId, Reuse, Spent, WireFinish};

/// How often the reading of a long prompt is reported.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// A job from its acceptance to its end.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    /// Prompt, then what was generated.
    pub(crate) tokens: Vec<Token>,
    pub(crate) prompt_tokens: u32,
    /// How many of `tokens` are in the cache.
    pub(crate) past: u32,
    /// What was in the cache when it stepped back.
    pub(crate) saved: Option<Saved>,
    /// Most tokens to generate; at least one.
    pub(crate) tokens_max: u32,
    pub(crate) sampler: Sampler,
    pub(crate) deadline: Option<Instant>,
    /// Places of adapters and how much of each; jobs with others never share a step with it.
    pub(crate) adapters: Vec<(u32, f32)>,
    /// Keeps the answer to its shape.
    pub(crate) guide: Guide,
    /// Of a job that scores and generates nothing.
    pub(crate) options: Option<Options>,
    /// Looks out for repetition, where that ends the answer.
    watch: Option<Watch>,
    /// Whether its tokens may be guessed ahead.
    pub(crate) may_draft: bool,
    /// Whose its sequence is when it is kept; `None`: it isn't.
    pub(crate) owner: Option<Owner>,
    /// What of its prompt was there already.
    pub(crate) reuse: Reuse,
    /// Where its prompt is to be kept on the way, ascending.
    pub(crate) checkpoints: VecDeque<u32>,
    assembler: Assembler,
    stops: Stops,
    received: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    reported: Option<Instant>,
    /// Since when it waits to go on.
    paused: Option<Instant>,
    /// Time that it has waited so: before its first token, and after it.
    pauses: [Duration; 2],
    /// Text that is to go with the next frame.
    unsent: String,
    sent: Option<Instant>,
    pub(crate) drafts: Drafts,
    /// Tokens that were drafted for it, and those of them that it took.
    pub(crate) drafted: u32,
    pub(crate) accepted: u32,
}

/// A frame of text wakes threads of the daemon, and each takes a processor from the computation for a
/// moment: 3 % of the speed of a small model on two cores. So text of tokens that follow each other
/// quickly goes out together, later than without by no more than this, which nobody sees.
const TEXT_EVERY: Duration = Duration::from_millis(33);

/// What a new token brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) text: String,
    pub(crate) finish: Option<WireFinish>,
}

impl Job {
    pub(crate) fn new(
        begin: &wire::Begin,
        tokens: Vec<Token>,
        tokens_max: u32,
        sampler: Sampler,
        guide: Guide,
        received: Instant,
    ) -> Self {
        Self {
            id: begin.job,
            prompt_tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            tokens,
            past: 0,
            saved: None,
            tokens_max,
            sampler,
            deadline: (begin.deadline_ms > 0).then(|| received + Duration::from_millis(begin.deadline_ms)),
            adapters: begin.adapters.clone(),
            guide,
            options: None,
            watch: begin.stop_loops.then(Watch::default),
            may_draft: begin.drafts,
            owner: Owner::new(begin.scope, &begin.adapters),
            reuse: Reuse::default(),
            checkpoints: VecDeque::new(),
            assembler: Assembler::default(),
            stops: Stops::new(&begin.stop),
            received,
            started: None,
            first_token: None,
            last_token: None,
            reported: None,
            paused: None,
            pauses: [Duration::ZERO; 2],
            unsent: String::new(),
            sent: None,
            drafts: Drafts::default(),
            drafted: 0,
            accepted: 0,
        }
    }

    /// Takes text to be sent. Gives back what goes out now: all of it, unless the next token, which
    /// comes in about `step`, will still be in time for it.
    pub(crate) fn write(&mut self, text: &str, now: Instant, step: Duration) -> Option<String> {
        self.unsent.push_str(text);
        let waits = self.sent.is_some_and(|sent| now.saturating_duration_since(sent) + step < TEXT_EVERY);
        if waits { None } else { self.flush(now) }
    }

    /// Text that waits.
    pub(crate) fn flush(&mut self, now: Instant) -> Option<String> {
        if self.unsent.is_empty() {
            return None;
        }
        self.sent = Some(now);
        Some(std::mem::take(&mut self.unsent))
    }

    /// Tokens that the model hasn't seen.
    pub(crate) fn pending(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX).saturating_sub(self.past)
    }

    /// Of those, the ones before its state is to be kept.
    pub(crate) fn pending_in_one(&self) -> u32 {
        let checkpoint = self.checkpoints.front().map_or(u32::MAX, |at| at.saturating_sub(self.past));
        self.pending().min(checkpoint)
    }

    /// Whether its state is to be kept now; said once.
    pub(crate) fn takes_checkpoint(&mut self) -> bool {
        let due = self.checkpoints.front() == Some(&self.past);
        self.checkpoints.retain(|at| *at > self.past);
        due
    }

    /// Cells that it takes when all its tokens are in the cache.
    pub(crate) fn cells(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn generated(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX).saturating_sub(self.prompt_tokens)
    }

    /// Whether it waits for its next token only, and not for its prompt to be read.
    pub(crate) fn is_running(&self) -> bool {
        self.generated() > 0 && self.pending() == 1
    }

    /// Whether a step of it was computed.
    pub(crate) fn has_started(&self) -> bool {
        self.started.is_some()
    }

    /// It steps back. Once said, it counts until it goes on.
    pub(crate) fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    /// Whether it had stepped back, and goes on now.
    pub(crate) fn go_on(&mut self, now: Instant) -> bool {
        let Some(since) = self.paused.take() else { return false };
        if self.has_started() {
            let after_first = usize::from(self.first_token.is_some());
            self.pauses[after_first] += now.saturating_duration_since(since);
        }
        true
    }

    /// Notes the first step. The answer, once: how long it had waited.
    pub(crate) fn start(&mut self, now: Instant) -> Option<u64> {
        if self.started.is_some() {
            return None;
        }
        self.started = Some(now);
        self.reported = Some(now);
        Some(micros(now.saturating_duration_since(self.received)))
    }

    /// Whether it is time to report how far the prompt is read.
    pub(crate) fn is_report_due(&mut self, now: Instant) -> bool {
        let due = self.reported.is_none_or(|last| now.saturating_duration_since(last) >= PROGRESS_EVERY);
        if due {
            self.reported = Some(now);
        }
        due
    }

    /// Takes a chosen token that isn't an end, with its bytes.
    pub(crate) fn take(&mut self, token: Token, bytes: &[u8], now: Instant) -> Progress {
        self.note_token(now);
        self.tokens.push(token);
        let text = self.assembler.push(bytes);
        // What ends an answer in words can stand within the arguments of a call.
        let passed = if self.guide.spoke_call() {
            Passed { text: self.stops.finish() + &text, stopped: false }
        } else {
            self.stops.push(&text)
        };
        if passed.stopped {
            return Progress { text: passed.text, finish: Some(WireFinish::StopString) };
        }
        if self.generated() < self.tokens_max {
            return Progress { text: passed.text, finish: None };
        }
        let rest = self.rest();
        let stopped = rest.finish.is_some();
        let text = passed.text + &rest.text;
        Progress { text, finish: Some(if stopped { WireFinish::StopString } else { WireFinish::Length }) }
    }

    /// Whether the token that was just taken shows that the answer repeats itself without end.
    pub(crate) fn is_loop(&mut self, token: Token, bytes: &[u8]) -> bool {
        let has_letters = bytes.iter().any(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii());
        self.watch.as_mut().is_some_and(|watch| watch.push(token, has_letters))
    }

    /// How it really ended: an answer that was cut before it had its shape isn't to look like a whole one.
    pub(crate) fn settle(&mut self, finish: WireFinish) -> WireFinish {
        match finish {
            WireFinish::Length if self.guide.is_incomplete() => WireFinish::StructureIncomplete,
            // The stop string itself is missing from the text.
            WireFinish::StopString if self.guide.has_shape() => WireFinish::StructureIncomplete,
            finish => finish,
        }
    }

    /// Whether its prompt is read, and its options are to be judged.
    pub(crate) fn is_judging(&self) -> bool {
        self.options.is_some() && self.pending() == 0
    }

    /// Cells that it needs beside those that it has, to begin.
    pub(crate) fn needed(&self) -> u32 {
        self.pending().saturating_add(self.option_cells()).saturating_add(1)
    }

    /// Cells that it takes beside those of its tokens.
    pub(crate) fn option_cells(&self) -> u32 {
        self.options.as_ref().map_or(0, |options| u32::try_from(options.cells()).unwrap_or(u32::MAX))
    }

    /// Notes that a token was chosen, one that ends the answer included.
    pub(crate) fn note_token(&mut self, now: Instant) {
        self.first_token.get_or_insert(now);
        self.last_token = Some(now);
    }

    /// What was held back, when the answer ends by itself. Half a character at the end may still
    /// complete a stop string.
    pub(crate) fn rest(&mut self) -> Progress {
        let tail = self.assembler.finish();
        let passed = self.stops.push(&tail);
        if passed.stopped {
            return Progress { text: passed.text, finish: Some(WireFinish::StopString) };
        }
        Progress { text: passed.text + &self.stops.finish(), finish: None }
    }

    /// Tokens of all options together.
    fn judged(&self) -> u32 {
        let counts = self.options.iter().flat_map(Options::likelihoods).map(|(_, tokens)| tokens);
        counts.fold(0, u32::saturating_add)
    }

    pub(crate) fn spent(&self, now: Instant) -> Spent {
        let between = |from: Option<Instant>, to: Option<Instant>| match (from, to) {
            (Some(from), Some(to)) => micros(to.saturating_duration_since(from)),
            _ => 0,
        };
        let [mut reading, writing] = self.pauses;
        if let (Some(since), true, None) = (self.paused, self.has_started(), self.first_token) {
            reading += now.saturating_duration_since(since);
        }
        let (reading, writing) = (micros(reading), micros(writing));
        Spent {
            prompt_tokens: self.prompt_tokens,
            cached_tokens: self.reuse.tokens(),
            completion_tokens: self.generated() + self.judged(),
            queue_us: between(Some(self.received), self.started.or(Some(now))) + reading + writing,
            prefill_us: between(self.started, self.first_token.or(Some(now))).saturating_sub(reading),
            decode_us: between(self.first_token, self.last_token).saturating_sub(writing),
            drafted_tokens: self.drafted,
            accepted_tokens: self.accepted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{Begin, WireSampling};

    fn job(stop: &[&str], tokens_max: u32) -> Job {
        let sampling = WireSampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_penalty: 1.0,
            penalty_last_n: 0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 0,
            logit_bias: Vec::new(),
        };
        let sampler = Sampler::new(&sampling, &[], 10).unwrap();
        let begin = Begin {
            job: 1,
            prompt: Vec::new(),
            add_bos: false,
            sampling,
            stop: stop.iter().map(ToString::to_string).collect(),
            tokens_max,
            deadline_ms: 0,
            adapters: Vec::new(),
            shape: wire::WireShape::Free,
            reasoning: None,
            stop_loops: true,
            drafts: true,
            score: None,
            scope: 0,
            stored: false,
        };
        let guide = Guide::of_free(&begin.shape).unwrap();
        Job::new(&begin, vec![1, 2, 3], tokens_max, sampler, guide, Instant::now())
    }

    #[test]
    fn an_answer_ends_at_its_length_with_all_its_text() {
        let mut job = job(&["xyz"], 2);
        let now = Instant::now();
        assert!(!job.is_running());
        assert_eq!(job.take(5, b"a", now), Progress { text: "a".into(), finish: None });
        job.past = 3;
        assert!(job.is_running());
        // Held back as the beginning of the stop string, sent because the answer ends otherwise.
        assert_eq!(job.take(6, b"xy", now), Progress { text: "xy".into(), finish: Some(WireFinish::Length) });
        assert_eq!(job.generated(), 2);
    }

    #[test]
    fn a_stop_string_over_two_tokens_ends_it() {
        let mut job = job(&["ß!"], 10);
        let now = Instant::now();
        assert_eq!(job.take(5, b"a\xc3", now).text, "a");
        assert_eq!(job.take(6, b"\x9f", now).text, "");
        assert_eq!(job.take(7, b"! no", now), Progress { text: String::new(), finish: Some(WireFinish::StopString) });
    }

    #[test]
    fn a_prompt_stops_where_its_state_is_kept() {
        let mut job = job(&[], 10);
        job.checkpoints = [1, 2].into();
        assert_eq!(job.pending_in_one(), 1);
        assert!(!job.takes_checkpoint());
        job.past = 1;
        assert!(job.takes_checkpoint() && !job.takes_checkpoint());
        // It was read again from the start, and less was found than before.
        job.past = 3;
        assert!(!job.takes_checkpoint() && job.checkpoints.is_empty());
        job.past = 0;
        assert_eq!(job.pending_in_one(), 3);
    }

    #[test]
    fn the_bill_counts_from_receipt() {
        let mut job = job(&[], 10);
        let start = job.received + Duration::from_millis(5);
        assert_eq!(job.start(start), Some(5000));
        assert_eq!(job.start(start), None);
        job.take(5, b"a", start + Duration::from_millis(20));
        job.take(6, b"b", start + Duration::from_millis(24));
        let spent = job.spent(start + Duration::from_secs(1));
        assert_eq!((spent.queue_us, spent.prefill_us, spent.decode_us), (5000, 20_000, 4000));
        assert_eq!((spent.prompt_tokens, spent.completion_tokens), (3, 2));
    }

    #[test]
    fn time_in_which_it_had_stepped_back_counts_as_waiting() {
        let mut job = job(&[], 10);
        let at = |ms: u64| Duration::from_millis(ms);
        let received = job.received;
        job.start(received);
        job.pause(received + at(10));
        assert_eq!(job.spent(received + at(15)).queue_us, 5000);
        job.pause(received + at(12));
        assert!(job.go_on(received + at(30)) && !job.go_on(received + at(31)));
        job.take(5, b"a", received + at(50));
        job.pause(received + at(60));
        job.go_on(received + at(160));
        job.take(6, b"b", received + at(170));
        let spent = job.spent(received + at(999));
        assert_eq!((spent.queue_us, spent.prefill_us, spent.decode_us), (120_000, 30_000, 20_000));
    }

    #[test]
    fn quick_tokens_go_out_together_and_slow_ones_at_once() {
        let mut job = job(&[], 100);
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let quick = Duration::from_millis(10);
        assert_eq!(job.write("a", at(0), quick).as_deref(), Some("a"), "the first is waited for");
        assert_eq!(job.write("b", at(10), quick), None);
        assert_eq!(job.write("c", at(20), quick), None);
        // The next one would come at 40: too late for `b`.
        assert_eq!(job.write("d", at(30), quick).as_deref(), Some("bcd"));
        assert_eq!(job.write("e", at(40), quick), None);
        assert_eq!(job.flush(at(41)).as_deref(), Some("e"));
        assert_eq!(job.flush(at(42)), None);
        let slow = Duration::from_millis(200);
        for step in 1..5 {
            assert_eq!(job.write("f", at(42 + step * 200), slow).as_deref(), Some("f"));
        }
    }
}
