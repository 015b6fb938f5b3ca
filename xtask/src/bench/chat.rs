//! A client of the OpenAI dialect, for us and for llama.cpp's server alike: what it asks, and what
//! it sees and when.

use super::http::{self, Line, Next};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::sync::Barrier;
use std::time::Instant;

/// End of text, begin and end of turn of the starter model, whose vocabulary all models here share.
/// They are barred where an answer must have exactly the length that was asked for.
const END_TOKENS: [u32; 3] = [0, 1, 2];

/// Whom a client talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Ours,
    Peer,
}

impl Side {
    /// Who begins changes from round to round.
    pub(super) fn order(round: u32) -> [Side; 2] {
        if round.is_multiple_of(2) { [Side::Peer, Side::Ours] } else { [Side::Ours, Side::Peer] }
    }
}

/// One request for text.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Empty: the only chat model of a benchmark's home.
    pub(super) model: String,
    pub(super) system: Option<String>,
    pub(super) prompt: String,
    pub(super) tokens_max: u32,
    /// The answer mustn't end before `tokens_max`.
    pub(super) whole_length: bool,
    /// Which program asks, where that matters.
    pub(super) app: Option<String>,
    /// Go away after so many pieces of text.
    pub(super) leave_after: Option<u32>,
    /// The peer may use what it has kept of prompts; ours always does.
    pub(super) may_be_kept: bool,
    /// Ours may guess tokens of the answer ahead, where the daemon does.
    pub(super) drafts: bool,
}

impl Call {
    /// A prompt whose answer has exactly so many tokens.
    pub(super) fn exact(prompt: String, tokens: u32) -> Self {
        Self {
            model: String::new(),
            system: None,
            prompt,
            tokens_max: tokens,
            whole_length: true,
            app: None,
            leave_after: None,
            may_be_kept: false,
            drafts: true,
        }
    }

    /// A prompt that shares not even the template's head with another: its number stands in the system message.
    pub(super) fn apart(words: usize, number: u32) -> Self {
        Self { system: Some(text(0, number)), ..Self::exact(" the".repeat(words), 1) }
    }

    pub(super) fn of(mut self, app: &str) -> Self {
        self.app = Some(app.into());
        self
    }
}

/// What a client saw of one answer.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) sent: Instant,
    /// When the first and the last text came.
    pub(super) first: Instant,
    pub(super) last: Instant,
    pub(super) text: String,
    /// Why it ended; `None` when the client went away before.
    pub(super) finish: Option<String>,
    pub(super) prompt_tokens: u32,
    pub(super) completion_tokens: u32,
    pub(super) cached_tokens: u32,
    /// Of these, from the pool, from memory and from disk; ours only.
    pub(super) tiers: [u32; 3],
    /// How long the model's load took, 0 where it was loaded; ours only.
    pub(super) load_s: f64,
    /// Tokens that were drafted and were right, and those that were wrong.
    pub(super) drafted: (u32, u32),
    /// The worker's own figures, tokens per second; ours only.
    pub(super) worker_prompt: f64,
    pub(super) worker_generate: f64,
}

impl Answer {
    #[cfg(test)]
    pub(super) fn empty(at: Instant) -> Self {
        Self {
            sent: at,
            first: at,
            last: at,
            text: String::new(),
            finish: None,
            prompt_tokens: 0,
            completion_tokens: 0,
            cached_tokens: 0,
            tiers: [0; 3],
            load_s: 0.0,
            drafted: (0, 0),
            worker_prompt: f64::NAN,
            worker_generate: f64::NAN,
        }
    }

    /// Seconds from the request to the first text.
    pub(super) fn first_s(&self) -> f64 {
        (self.first - self.sent).as_secs_f64()
    }

    /// Seconds from the first text to the last.
    pub(super) fn rest_s(&self) -> f64 {
        (self.last - self.first).as_secs_f64()
    }

    pub(super) fn whole_s(&self) -> f64 {
        (self.last - self.sent).as_secs_f64()
    }
}

/// A typed failure as the other side told it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: u16,
    /// `context_overflow` and the like; empty where there is none.
    pub(super) code: String,
    pub(super) message: String,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Answered(Answer),
    Refused(Refused),
}

impl Outcome {
    /// # Errors
    /// When it is a refusal.
    pub(super) fn answer(self) -> Result<Answer> {
        match self {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::Refused(refused) => bail!("answered {} {}: {}", refused.status, refused.code, refused.message),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) side: Side,
    pub(super) address: String,
}

impl Client {
    /// Asks and reads to the end, or to where the call leaves.
    ///
    /// # Errors
    /// When the other side can't be reached or breaks off.
    pub(super) fn ask(&self, call: &Call) -> Result<Outcome> {
        self.watch(call, &mut || {})
    }

    /// As [`Self::ask`]; `seen` is called with every piece of text.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub(super) fn watch(&self, call: &Call, seen: &mut dyn FnMut()) -> Result<Outcome> {
        let mut pieces = 0;
        let mut each = |line: &Line| {
            if has_text(&line.text) {
                pieces += 1;
                seen();
            }
            if call.leave_after.is_some_and(|most| pieces > most) { Next::Leave } else { Next::Read }
        };
        let agent = call.app.as_deref().unwrap_or("freehold-bench");
        let headers = [("user-agent", agent), ("x-freehold-app", agent)];
        let body = body(self.side, call);
        let reply = http::call(&self.address, "/v1/chat/completions", &headers, Some(&body), &mut each)?;
        outcome(&reply, call.leave_after.is_some())
    }

    /// As [`Self::ask`], when only an answer of exactly the length asked for will do.
    ///
    /// # Errors
    /// When anything else comes.
    pub(super) fn exact(&self, call: &Call) -> Result<Answer> {
        let answer = self.ask(call)?.answer()?;
        if answer.completion_tokens != call.tokens_max {
            bail!("{} tokens came instead of {}", answer.completion_tokens, call.tokens_max);
        }
        Ok(answer)
    }

    /// Asks all at once, each on a connection of its own.
    ///
    /// # Errors
    /// When one of them can't be answered in its exact length.
    pub(super) fn together(&self, calls: &[Call]) -> Result<Vec<Answer>> {
        let start = Barrier::new(calls.len());
        let ask = |call| {
            start.wait();
            self.exact(call)
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = calls.iter().map(|call| scope.spawn(|| ask(call))).collect();
            threads.into_iter().map(|thread| thread.join().expect("an asking thread doesn't panic")).collect()
        })
    }

    /// The greedy answer, and by how much at least each of its tokens was likelier than the next best,
    /// in natural logarithms. Only the peer tells that.
    ///
    /// # Errors
    /// When it doesn't.
    pub(super) fn margin(&self, call: &Call) -> Result<(String, f64)> {
        let mut body = body(self.side, call);
        for (name, value) in [("stream", json!(false)), ("logprobs", json!(true)), ("top_logprobs", json!(2))] {
            body[name] = value;
        }
        if let Some(fields) = body.as_object_mut() {
            fields.remove("stream_options");
        }
        let reply = http::post(&self.address, "/v1/chat/completions", &body)?;
        margin(&serde_json::from_str(&reply.text()).context("a whole reply is JSON")?)
    }

    /// How many filler words make a prompt of [`Call::apart`] of exactly `tokens`.
    ///
    /// # Errors
    /// When no number of words does.
    pub(super) fn fit(&self, tokens: u32) -> Result<usize> {
        let mut words = (tokens as usize).checked_sub(40).context("the template alone is longer than the prompt")?;
        for _ in 0..8 {
            let got = self.ask(&Call::apart(words, 0))?.answer()?.prompt_tokens;
            if got == tokens {
                return Ok(words);
            }
            words = (words + tokens as usize)
                .checked_sub(got as usize)
                .context("the template alone is longer than the prompt")?;
        }
        bail!("can't make a prompt of exactly {tokens} tokens")
    }
}

/// A prompt that no other shares more than its template with: its number stands first. Prompts of as
/// many words have as many tokens.
pub(super) fn text(words: usize, number: u32) -> String {
    let digits: Vec<String> = format!("{number:06}").chars().map(String::from).collect();
    format!("{}{}", digits.join(" "), " the".repeat(words))
}

fn body(side: Side, call: &Call) -> Value {
    let mut messages = Vec::new();
    if let Some(system) = &call.system {
        messages.push(json!({ "role": "system", "content": system }));
    }
    messages.push(json!({ "role": "user", "content": call.prompt }));
    let mut body = json!({
        "model": call.model, "messages": messages, "max_tokens": call.tokens_max, "temperature": 0,
        "stream": true, "stream_options": { "include_usage": true },
    });
    if call.whole_length {
        let bias: serde_json::Map<String, Value> =
            END_TOKENS.iter().map(|token| (token.to_string(), json!(-100))).collect();
        body["logit_bias"] = bias.into();
    }
    if side == Side::Peer {
        // What its own documents offer for the least work: no other samplers than the greedy one's.
        body["samplers"] = json!(["top_k"]);
        body["top_k"] = json!(1);
        body["cache_prompt"] = json!(call.may_be_kept);
    } else if !call.drafts {
        body["drafts"] = json!(false);
    }
    body
}

fn margin(reply: &Value) -> Result<(String, f64)> {
    let choice = &reply["choices"][0];
    let tokens = choice["logprobs"]["content"].as_array().context("the reply tells no likelihoods")?;
    let mut least = f64::INFINITY;
    for token in tokens {
        let likely = |rank: usize| token["top_logprobs"][rank]["logprob"].as_f64();
        let (best, next) = likely(0).zip(likely(1)).context("the reply tells no two best tokens")?;
        least = least.min(best - next);
    }
    Ok((choice["message"]["content"].as_str().context("the reply has no text")?.to_string(), least))
}

fn has_text(line: &str) -> bool {
    event(line).is_some_and(|event| content(&event).is_some())
}

fn event(line: &str) -> Option<Value> {
    let data = line.strip_prefix("data:")?.trim();
    if data == "[DONE]" { None } else { serde_json::from_str(data).ok() }
}

fn content(event: &Value) -> Option<&str> {
    event["choices"][0]["delta"]["content"].as_str().filter(|text| !text.is_empty())
}

/// Reads the stream's events: texts with their times, and the usage that the last ones carry.
fn outcome(reply: &http::Reply, may_leave: bool) -> Result<Outcome> {
    if reply.status != 200 {
        let said: Value = serde_json::from_str(&reply.text()).unwrap_or_default();
        return Ok(Outcome::Refused(refused(reply.status, &said["error"], &reply.text())));
    }
    let mut first = None;
    let mut last = reply.sent;
    let mut text = String::new();
    let mut finish = None;
    let (mut usage, mut extra) = (Value::Null, Value::Null);
    for line in &reply.lines {
        let Some(event) = event(&line.text) else { continue };
        if !event["error"].is_null() {
            return Ok(Outcome::Refused(refused(reply.status, &event["error"], "")));
        }
        let ends = event["choices"][0]["finish_reason"].as_str();
        finish = ends.map(str::to_string).or(finish);
        // A lone token may be half of a letter and have no text; the end of the answer shows that it came.
        if content(&event).is_some() || (first.is_none() && ends.is_some()) {
            first.get_or_insert(line.at);
            last = line.at;
        }
        text.push_str(content(&event).unwrap_or_default());
        for (name, kept) in [("usage", &mut usage), ("freehold", &mut extra)] {
            if event[name].is_object() {
                *kept = event[name].clone();
            }
        }
    }
    let count = |value: &Value| value.as_u64().and_then(|count| u32::try_from(count).ok());
    let drafted = |name: &str| count(&usage["completion_tokens_details"][name]).unwrap_or(0);
    let needed = |name: &str| match count(&usage[name]) {
        Some(tokens) => Ok(tokens),
        None if may_leave => Ok(0),
        None => bail!("the reply tells no usage"),
    };
    Ok(Outcome::Answered(Answer {
        sent: reply.sent,
        first: first.or(may_leave.then_some(last)).context("the answer has no end")?,
        last,
        text,
        finish,
        prompt_tokens: needed("prompt_tokens")?,
        completion_tokens: needed("completion_tokens")?,
        cached_tokens: count(&usage["prompt_tokens_details"]["cached_tokens"]).unwrap_or(0),
        tiers: ["live_tokens", "memory_tokens", "disk_tokens"].map(|tier| count(&extra["cache"][tier]).unwrap_or(0)),
        load_s: extra["load_ms"].as_f64().unwrap_or(0.0) / 1e3,
        drafted: (drafted("accepted_prediction_tokens"), drafted("rejected_prediction_tokens")),
        worker_prompt: extra["prefill_tokens_per_sec"].as_f64().unwrap_or(f64::NAN),
        worker_generate: extra["decode_tokens_per_sec"].as_f64().unwrap_or(f64::NAN),
    }))
}

fn refused(status: u16, error: &Value, body: &str) -> Refused {
    // llama.cpp's server writes the status as `code` and its own word as `type`.
    let code = error["code"].as_str().or(error["type"].as_str()).unwrap_or_default();
    let message = error["message"].as_str().map_or_else(|| body.to_string(), str::to_string);
    Refused { status, code: code.into(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn reply(status: u16, lines: &[(u64, &str)]) -> http::Reply {
        let sent = Instant::now();
        let lines = lines.iter().map(|(ms, text)| Line { at: sent + Duration::from_millis(*ms), text: (*text).into() });
        http::Reply { sent, status, lines: lines.collect() }
    }

    #[test]
    fn a_stream_shows_its_times_and_tokens() {
        let reply = reply(
            200,
            &[
                (1, r#"data: {"choices":[{"delta":{"role":"assistant","content":""}}],"usage":null}"#),
                (100, r#"data: {"choices":[{"delta":{"content":"a"}}]}"#),
                (300, r#"data: {"choices":[{"delta":{"content":"b"}}]}"#),
                (300, r#"data: {"choices":[{"delta":{},"finish_reason":"length"}]}"#),
                (301, r#"data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}"#),
                (302, "data: [DONE]"),
            ],
        );
        let answer = outcome(&reply, false).and_then(Outcome::answer).expect("an answer");
        assert!((answer.first_s() - 0.1).abs() < 1e-9 && (answer.rest_s() - 0.2).abs() < 1e-9);
        assert_eq!((answer.prompt_tokens, answer.completion_tokens, answer.cached_tokens), (9, 2, 0));
        assert_eq!((answer.text.as_str(), answer.finish.as_deref()), ("ab", Some("length")));
    }

    #[test]
    fn refusals_have_their_codes_before_and_in_a_stream() {
        let ours = r#"{"error":{"message":"too long","code":"context_overflow"}}"#;
        let theirs = r#"{"error":{"code":400,"message":"too long","type":"exceed_context_size_error"}}"#;
        let late = r#"data: {"error":{"message":"gone","code":"worker_died"}}"#;
        for (status, line, code) in
            [(400, ours, "context_overflow"), (400, theirs, "exceed_context_size_error"), (200, late, "worker_died")]
        {
            let Outcome::Refused(got) = outcome(&reply(status, &[(1, line)]), false).expect("read") else {
                panic!("{line} is no answer")
            };
            assert_eq!((got.status, got.code.as_str()), (status, code));
        }
    }

    #[test]
    fn an_answer_without_an_end_counts_only_for_who_left() {
        let cut = reply(200, &[(5, r#"data: {"choices":[{"delta":{"content":"a"}}]}"#)]);
        assert!(outcome(&cut, false).is_err());
        let left = outcome(&cut, true).and_then(Outcome::answer).expect("left");
        assert_eq!((left.text.as_str(), left.finish), ("a", None));
    }

    #[test]
    fn the_least_margin_counts() {
        let token = |best: f64, next: f64| json!({ "top_logprobs": [{ "logprob": best }, { "logprob": next }] });
        let reply = |tokens: Vec<Value>| json!({ "choices": [{ "message": { "content": "ab" }, "logprobs": { "content": tokens } }] });
        let (text, least) = margin(&reply(vec![token(-0.5, -2.0), token(-0.1, -3.1)])).expect("margins");
        assert!(text == "ab" && (least - 1.5).abs() < 1e-9);
        assert!(margin(&reply(vec![json!({})])).is_err());
        assert!(margin(&json!({})).is_err());
    }

    #[test]
    fn prompts_differ_from_their_first_word_on() {
        assert!(text(3, 7).starts_with("0 0 0 0 0 7 the"));
        assert_eq!(text(3, 7).split(' ').count(), text(3, 123_456).split(' ').count());
    }

    #[test]
    fn both_sides_are_asked_for_the_same() {
        let call = Call::exact("x".into(), 9);
        let (ours, theirs) = (body(Side::Ours, &call), body(Side::Peer, &call));
        for (key, value) in ours.as_object().expect("an object") {
            assert_eq!(Some(value), theirs.get(key), "{key}");
        }
        assert_eq!(theirs["cache_prompt"], false);
    }
}
