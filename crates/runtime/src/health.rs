//! How well a model does on this machine: what a person should know before trusting it, above all what a small
//! quantization costs. Everything is asked of the model itself, as any program would.

use crate::stream::EventSender;
use crate::view::{CheckEvent, Health, Share, TemplateHealth};
use crate::{Inner, own_app};
use base::{Ask, Bytes, Code, Delta, Fault, Finish, Limits, Message, Priority, Role, Sampling, Score, Shape, Usage};
use engine::{Answer, ModelSource};
use serde_json::{Value, json};

/// LIMIT: tokens of one long answer: a loop shows itself in half of that.
const LONG_TOKENS_MAX: u32 = 512;
/// LIMIT: tokens of an object with two fields.
const JSON_TOKENS_MAX: u32 = 120;
/// LIMIT: tokens over which the speed of writing is taken.
const SPEED_TOKENS_MAX: u32 = 64;
/// Answers under way at once.
const TOGETHER: usize = 4;

/// Written for this purpose and nowhere else to be found: no model knows it by heart.
const TEXT: &str = include_str!("health/text.txt");
/// What a model that is prone to loops loops on.
const LONG: [&str; 8] = [
    "Write a very long list of animals.",
    "Tell me a story about a lighthouse keeper.",
    "Explain in detail how a bicycle works.",
    "List all steps to clean a house from top to bottom.",
    "Describe the sea for as long as you can.",
    "Write a song with many verses about the moon.",
    "What can one do with an old newspaper? Give many ideas.",
    "Explain the history of bread, century by century.",
];
const PEOPLE: [(&str, u32); 10] = [
    ("Ann", 31),
    ("Boris", 8),
    ("Chidi", 47),
    ("Dolores", 72),
    ("Emre", 25),
    ("Frida", 19),
    ("Goran", 54),
    ("Hana", 3),
    ("Ivo", 66),
    ("June", 40),
];

/// The work behind `models check`; its last event is `Done` or `Failed`.
pub(crate) fn check(inner: &Inner, name: &str, events: &EventSender<CheckEvent>) {
    let checked = inner.chat_model(name).and_then(|source| Check { inner, source, events, done: 0 }.run());
    events.send(match checked {
        Ok(Some(health)) => CheckEvent::Done { health },
        // Nobody reads any more.
        Ok(None) => return,
        Err(fault) => CheckEvent::Failed { fault },
    });
}

struct Check<'a> {
    inner: &'a Inner,
    source: ModelSource,
    events: &'a EventSender<CheckEvent>,
    /// Answers that are there.
    done: u32,
}

/// A whole answer.
struct Said {
    text: String,
    finish: Finish,
    usage: Usage,
}

/// `Ok(None)` everywhere: the reader has gone.
type Made<T> = Result<Option<T>, Fault>;

impl Check<'_> {
    fn run(mut self) -> Made<Health> {
        let Some(template) = self.template()? else { return Ok(None) };
        let long = |text: &&str| ask(vec![user(text)], LONG_TOKENS_MAX, Shape::free());
        let Some(answers) = self.all(LONG.iter().map(long).collect())? else { return Ok(None) };
        let loops = share(&answers, |said| said.finish == Finish::Loop);
        let Some(json) = self.json(false)? else { return Ok(None) };
        let Some(shaped) = self.json(true)? else { return Ok(None) };
        let Some((perplexity, perplexity_tokens)) = self.perplexity()? else { return Ok(None) };
        let question = format!("{TEXT}\nSummarize this text.");
        let Some(speed) = self.one(ask(vec![user(&question)], SPEED_TOKENS_MAX, Shape::free())?)? else {
            return Ok(None);
        };
        let loaded = self.inner.engine.loaded().into_iter().find(|loaded| loaded.name == self.source.name.0);
        let (held, resident) = loaded.map_or((0, 0), |loaded| (loaded.held_bytes, loaded.resident_bytes));
        Ok(Some(Health {
            model: self.source.name.0.clone(),
            quantization: self.source.facts.quantization.clone(),
            template,
            loops,
            json,
            shaped,
            perplexity,
            perplexity_tokens,
            prefill_tokens_per_sec: speed.usage.prefill_tokens_per_sec(),
            decode_tokens_per_sec: speed.usage.decode_tokens_per_sec(),
            held_bytes: Bytes(held),
            resident_bytes: Bytes(resident),
        }))
    }

    /// Whether what stands in a conversation reaches the model.
    fn template(&mut self) -> Made<TemplateHealth> {
        let plain = vec![user("Hello.")];
        let system = vec![Message::new(Role::System, "Answer in one short sentence."), user("Hello.")];
        let turns = vec![user("Hello."), Message::new(Role::Assistant, "Good morning to you."), user("Hello.")];
        // Without this one nothing else can be asked.
        let Some(plain) = self.one(ask(plain, 1, Shape::free())?)? else { return Ok(None) };
        let mut problem = None;
        let mut reaches = |messages| -> Made<bool> {
            match self.one(ask(messages, 1, Shape::free())?) {
                Ok(said) => Ok(said.map(|said| said.usage.prompt_tokens > plain.usage.prompt_tokens)),
                Err(fault) if fault.code == Code::TemplateFailed => {
                    problem.get_or_insert(fault.message);
                    Ok(Some(false))
                }
                Err(fault) => Err(fault),
            }
        };
        let (Some(system), Some(turns)) = (reaches(system)?, reaches(turns)?) else { return Ok(None) };
        let present = self.source.facts.chat_template.is_some();
        Ok(Some(TemplateHealth { present, system, turns, problem }))
    }

    /// How often an object that is asked for comes: in words alone, or by its schema too.
    fn json(&mut self, shaped: bool) -> Made<Share> {
        let schema = json!({
            "type": "object",
            "properties": { "name": { "type": "string", "maxLength": 40 }, "age": { "type": "integer" } },
            "required": ["name", "age"],
            "additionalProperties": false
        });
        let asks = PEOPLE.iter().map(|(name, age)| -> Result<Ask, Fault> {
            let question = format!(
                "Reply only with a JSON object that has the keys \"name\" (a string) and \"age\" (a number), for this \
                 person: {name} is {age} years old."
            );
            let shape = if shaped { Shape::json_schema(schema.to_string())? } else { Shape::free() };
            ask(vec![user(&question)], JSON_TOKENS_MAX, shape)
        });
        let Some(answers) = self.all(asks.collect())? else { return Ok(None) };
        Ok(Some(share(&answers, |said| is_person(&said.text))))
    }

    /// Of the fixed text, and over how many tokens.
    fn perplexity(&mut self) -> Made<(f64, u32)> {
        let messages = vec![user("Write about a morning at a harbour.")];
        let model = self.source.name.0.clone();
        let score = Score { whole: false, ..Score::new(own_app(), model, messages, vec![TEXT.to_owned()])? };
        let scores = self.events.reader.unless_gone(self.inner.engine.score(self.source.clone(), score));
        let Some(scores) = scores else { return Ok(None) };
        self.tell();
        match scores?.options.first() {
            Some(likelihood) if likelihood.tokens > 0 => {
                Ok(Some(((-likelihood.log / f64::from(likelihood.tokens)).exp(), likelihood.tokens)))
            }
            _ => Err(Fault::new(Code::Internal, "a score came without its option")),
        }
    }

    /// Several answers, some of them at once.
    fn all(&mut self, asks: Vec<Result<Ask, Fault>>) -> Made<Vec<Said>> {
        let mut asks = asks.into_iter();
        let mut under_way = std::collections::VecDeque::new();
        let mut made = Vec::new();
        loop {
            while under_way.len() < TOGETHER
                && let Some(ask) = asks.next()
            {
                under_way.push_back(self.inner.engine.submit(self.source.clone(), ask?));
            }
            let Some(answer) = under_way.pop_front() else { return Ok(Some(made)) };
            let Some(said) = self.read(answer)? else { return Ok(None) };
            made.push(said);
        }
    }

    fn one(&mut self, ask: Ask) -> Made<Said> {
        let answer = self.inner.engine.submit(self.source.clone(), ask);
        self.read(answer)
    }

    fn read(&mut self, mut answer: Answer) -> Made<Said> {
        let (mut text, mut usage) = (String::new(), Usage::default());
        while let Some(delta) = self.events.reader.unless_gone(answer.next()) {
            match delta.ok_or_else(|| Fault::new(Code::Internal, "an answer ended without its last word"))?? {
                Delta::Text(piece) => text.push_str(&piece),
                Delta::Usage(spent) => usage = spent,
                Delta::Done(finish) => {
                    self.tell();
                    return Ok(Some(Said { text, finish, usage }));
                }
                Delta::Progress(_)
                | Delta::Citation(_)
                | Delta::Compacted(_)
                | Delta::Notice(_)
                | Delta::Thought(_)
                | Delta::Call(_) => {}
            }
        }
        Ok(None)
    }

    fn tell(&mut self) {
        let total = 3 + LONG.len() + 2 * PEOPLE.len() + 2;
        self.done += 1;
        self.events.offer(CheckEvent::Progress { done: self.done, total: u32::try_from(total).unwrap_or(u32::MAX) });
    }
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

/// The likeliest words each time: the same figures come out again. Others go first.
fn ask(messages: Vec<Message>, tokens_max: u32, shape: Shape) -> Result<Ask, Fault> {
    let sampling = Sampling { temperature: 0.0, seed: Some(0), ..Sampling::default() };
    let limits = Limits { tokens_max: Some(tokens_max), deadline_ms: None };
    let ask = Ask::new(own_app(), String::new(), messages, sampling, Vec::new(), limits)?;
    Ok(Ask { priority: Priority::Batch, shape, ..ask })
}

fn share(answers: &[Said], counts: impl Fn(&Said) -> bool) -> Share {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Share { of: count(answers.len()), count: count(answers.iter().filter(|said| counts(said)).count()) }
}

/// The object that was asked for, bare or in a fence of code, as many models write it.
fn is_person(text: &str) -> bool {
    let text = text.trim();
    let fenced = text.strip_prefix("```json").or_else(|| text.strip_prefix("```"));
    let bare = fenced.and_then(|rest| rest.trim_end().strip_suffix("```")).unwrap_or(text);
    match serde_json::from_str::<Value>(bare.trim()) {
        Ok(value) => value.get("name").is_some_and(Value::is_string) && value.get("age").is_some_and(Value::is_number),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_an_object_with_both_fields() {
        for (text, is) in [
            ("{\"name\": \"Ann\", \"age\": 31}", true),
            ("\n```json\n{\"age\": 31, \"name\": \"Ann\"}\n```\n", true),
            ("```\n{\"age\": 31, \"name\": \"Ann\"}\n```", true),
            ("Here it is: {\"name\": \"Ann\", \"age\": 31}", false),
            ("{\"name\": \"Ann\", \"age\": \"31\"}", false),
            ("{\"name\": \"Ann\"}", false),
            ("[]", false),
            ("", false),
        ] {
            assert_eq!(is_person(text), is, "{text}");
        }
    }
}
