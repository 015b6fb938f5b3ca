//! Messages become a prompt through the model's own Jinja chat template. Pure: time is an argument.
//!
//! The template comes out of a file that somebody else wrote, so it sees nothing but the conversation: no
//! includes, no host, bounded steps and bounded output. What comes out is a list of pieces; special
//! tokens are recognised inside a piece only, and [`guard`] cuts so that no text of a caller can form one.
//!
//! A template that can't take the conversation as it stands gets it in the other forms that it may mean: arguments
//! of calls as text, one call in each message, the system's text within the first message. The first that it takes
//! is used, and its first refusal is what is said when it takes none.

mod clock;
mod guard;
mod json;
mod patch;
mod plain;
mod python;
mod values;
mod volatile;

pub use clock::Moment;

use crate::parse::Style;
use base::{Code, Fault, Message, Modality, ModelFacts, Tool};
use guard::Guard;
use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::{Deserialize, Serialize};
use std::io;
use values::Form;

/// LIMIT: templates in the wild hold a few kilobytes; tool-calling ones up to some tens.
const TEMPLATE_BYTES_MAX: usize = 1 << 20;
/// LIMIT: a prompt above this can't be sent to a worker in one frame anyway.
const PROMPT_BYTES_MAX: usize = 32 << 20;
/// LIMIT: steps of the template's interpreter. A thousand messages through a long template take a
/// tenth of this.
const FUEL: u64 = 20_000_000;

/// What models without a template but with its two tokens were nearly always trained on.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n\
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// What a template is told beside the messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub tools: Vec<Tool>,
    /// Whether the model should think first; `None`: as the template does by itself.
    pub thinking: Option<bool>,
    /// JSON text of an object: further variables; empty: none.
    pub kwargs: String,
    /// What stands already of the answer.
    pub lead: Vec<Lead>,
}

impl Setting {
    /// Of an answer that begins at once, without a thought.
    pub(crate) fn at_once(facts: &ModelFacts) -> Self {
        let think = Style::of(facts).think;
        let lead = think.map(|(_, close)| Lead::EndThought(format!("{close}\n\n")));
        Self { thinking: think.map(|_| false), lead: lead.into_iter().collect(), ..Self::default() }
    }

    /// Every text in it, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let tool = |tool: &Tool| tool.name.len() + tool.description.len() + tool.parameters.len();
        let lead = |lead: &Lead| match lead {
            Lead::Marks(text) | Lead::EndThought(text) | Lead::Said(text) => text.len(),
        };
        self.tools.iter().map(tool).chain(self.lead.iter().map(lead)).sum::<usize>() + self.kwargs.len()
    }
}

/// A piece of an answer's beginning that isn't left to the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lead {
    /// Marks of the model's own language.
    Marks(String),
    /// The same, where the template has opened a thought.
    EndThought(String),
    /// Text, in which no special token is formed.
    Said(String),
}

/// A prompt, cut so that special tokens stand whole within a piece or not at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    pub pieces: Vec<String>,
    /// The answer begins within a thought.
    pub in_thought: bool,
}

/// Renders `messages` as the model wants them, ending where the assistant's turn begins.
///
/// The pieces' concatenation is what the template says; no special token that stands whole inside a
/// piece was formed with the help of a caller's text.
///
/// # Errors
/// [`Code::TemplateFailed`] with the template's own words; [`Code::ModelUnfit`] when the model has no
/// template and its vocabulary doesn't suggest one; [`Code::InvalidAsk`] for variables that are no JSON object.
pub fn render(facts: &ModelFacts, messages: &[Message], setting: &Setting, now: Moment) -> Result<Prompt, Fault> {
    let source = template_of(facts, !setting.tools.is_empty())?;
    let template = Template::new(&source, facts, now);
    let guard = Guard::new(&facts.special_tokens);
    let kwargs = match setting.kwargs.as_str() {
        "" => Value::from(()),
        text => values::json(text).filter(|kwargs| kwargs.kind() == ValueKind::Map).ok_or_else(|| {
            let fault = Fault::new(Code::InvalidAsk, "`chat_template_kwargs` is no JSON object");
            fault.hint("send an object such as `{\"enable_thinking\": false}`")
        })?,
    };
    let messages = volatile::steadied(messages);
    let (messages, tools) = plain::in_words(&source, &messages, &setting.tools);
    let mut first = None;
    for form in forms(Form::of(&source), &messages) {
        let arranged = values::arranged(&messages, form);
        let given = Given {
            messages: values::messages(&arranged, form),
            tools: values::tools(tools),
            kwargs: kwargs.clone(),
            thinking: setting.thinking,
        };
        match guarded(&template, &guard, &given) {
            Ok(pieces) => return Ok(begun(pieces, facts, &guard, &setting.lead)),
            Err(fault) if fault.code == Code::TemplateFailed => _ = first.get_or_insert(fault),
            Err(fault) => return Err(fault),
        }
    }
    Err(first.unwrap_or_else(|| Fault::new(Code::TemplateFailed, "the model's chat template took no form of the text")))
}

/// What is known to be wrong with a chat model's template, and what is done about it; the template itself is the subject.
pub fn notes(facts: &ModelFacts) -> Vec<&'static str> {
    match &facts.chat_template {
        _ if facts.modality != Modality::Chat => Vec::new(),
        Some(source) => patch::patched(source).1,
        None if speaks_chatml(facts) => vec!["is missing; ChatML is used, since the model knows its marks"],
        None => vec!["is missing, so there are no conversations: use an instruction-tuned file (`Instruct`, `it`)"],
    }
}

fn speaks_chatml(facts: &ModelFacts) -> bool {
    ["<|im_start|>", "<|im_end|>"].iter().all(|mark| facts.special_tokens.iter().any(|token| token == mark))
}

/// The forms to try, the likeliest first.
fn forms(form: Form, messages: &[Message]) -> Vec<Form> {
    let mut forms = vec![form];
    let calls = |least: usize| messages.iter().any(|message| message.calls.len() >= least);
    if calls(1) {
        forms.push(Form { text_arguments: true, ..form });
    }
    if calls(2) && !form.single_calls {
        forms.push(Form { single_calls: true, ..form });
        forms.push(Form { single_calls: true, text_arguments: true, ..form });
    }
    if messages.len() > 1 && messages[0].role == base::Role::System {
        let more: Vec<Form> = forms.iter().map(|form| Form { no_system: true, ..*form }).collect();
        forms.extend(more);
    }
    forms
}

fn guarded(template: &Template<'_>, guard: &Guard<'_>, given: &Given) -> Result<Vec<String>, Fault> {
    let plain = template.render(given)?;
    let texts = given.texts();
    let Some(tint) = guard.tint_for(&texts, template.source)? else { return Ok(vec![plain]) };
    let tinted_text = template.render(&given.with_texts(&mut |text| tint.apply(text)))?;
    let tinted = tint.undo(&tinted_text);
    if tinted.text == plain {
        return Ok(guard.cut(&tinted));
    }
    // The template looks at the very characters that were tinted (it cuts thoughts out of old turns,
    // say). Breaking up only whole special tokens leaves its logic alone; that is taken when it
    // demonstrably forms none, and the tinted text, which never can, when not.
    let mark = guard::mark_for(&texts, template.source)?;
    let marked = template.render(&given.with_texts(&mut |text| guard.mark(text, &mark)))?;
    let pieces: Vec<String> = marked.split(&mark).filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
    let formed: Vec<&str> = pieces.iter().flat_map(|piece| guard.specials_in(piece)).collect();
    if formed == guard.specials_in(&tinted_text) { Ok(pieces) } else { Ok(guard.cut(&tinted)) }
}

/// Puts what stands already of the answer behind the prompt.
fn begun(mut pieces: Vec<String>, facts: &ModelFacts, guard: &Guard<'_>, lead: &[Lead]) -> Prompt {
    let opens = Style::of(facts).think.is_some_and(|(open, _)| {
        // The mark may have been cut into pieces, as the template's own never is.
        pieces.last().is_some_and(|piece| piece.trim_end().ends_with(open))
    });
    let mut in_thought = opens;
    for part in lead {
        match part {
            Lead::EndThought(_) if !in_thought => {}
            Lead::EndThought(marks) => {
                in_thought = false;
                pieces.push(marks.clone());
            }
            Lead::Marks(marks) => pieces.push(marks.clone()),
            Lead::Said(text) => pieces.extend(guard.broken_up(text)),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    Prompt { pieces, in_thought }
}

fn template_of(facts: &ModelFacts, has_tools: bool) -> Result<String, Fault> {
    let for_tools = facts.tool_template.as_ref().filter(|_| has_tools);
    if let Some(template) = for_tools.or(facts.chat_template.as_ref()) {
        if template.len() > TEMPLATE_BYTES_MAX {
            let size = template.len();
            return Err(Fault::new(
                Code::TemplateFailed,
                format!("the model's chat template holds {size} bytes; at most {TEMPLATE_BYTES_MAX} are read"),
            )
            .hint("use another file of this model; this one looks damaged"));
        }
        return Ok(prepared(template));
    }
    if speaks_chatml(facts) {
        return Ok(CHATML.to_owned());
    }
    Err(Fault::new(Code::ModelUnfit, "the model's file holds no chat template, so it can't hold a conversation")
        .hint("use an instruction-tuned file of this model (often named `Instruct` or `it`)"))
}

fn prepared(template: &str) -> String {
    python::without_mutation(&without_generation_tags(&patch::patched(template).0))
}

/// Renders what a template is given as JSON, whatever it holds: what the templates' proof compares with the reference.
/// Nothing is guarded here.
///
/// # Errors
/// As [`render`].
pub fn render_given(source: &str, given: &str, bos: &str, eos: &str, now: Moment) -> Result<String, Fault> {
    let given: Value = values::json(given).ok_or_else(|| Fault::new(Code::InvalidAsk, "what is given is no JSON"))?;
    let source = prepared(source);
    Template { source: &source, environment: environment(now), bos, eos }.render_seen(given)
}

/// Training marks the assistant's words with `{% generation %}`; for inference it means nothing.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let end = start + length + 2;
        let inside = rest[start + 2..end - 2].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        let replaced = match inside {
            "generation" => rest[start..end].replace("generation", "if true"),
            "endgeneration" => rest[start..end].replace("endgeneration", "endif"),
            _ => rest[start..end].to_owned(),
        };
        out.push_str(&rest[..start]);
        out.push_str(&replaced);
        rest = &rest[end..];
    }
    out + rest
}

/// A template with what it may see, apart from the messages.
struct Template<'a> {
    source: &'a str,
    environment: Environment<'a>,
    bos: &'a str,
    eos: &'a str,
}

impl<'a> Template<'a> {
    fn new(source: &'a str, facts: &'a ModelFacts, now: Moment) -> Self {
        let text = |token: &'a Option<base::TokenText>| token.as_ref().map_or("", |token| token.text.as_str());
        Self { source, environment: environment(now), bos: text(&facts.bos), eos: text(&facts.eos) }
    }

    fn render(&self, given: &Given) -> Result<String, Fault> {
        let mut seen = vec![
            ("messages", given.messages.clone()),
            ("tools", given.tools.clone()),
            ("documents", Value::from(())),
            ("add_generation_prompt", Value::from(true)),
        ];
        if let Some(thinking) = given.thinking {
            // The two names that templates have for it.
            seen.extend([("enable_thinking", Value::from(thinking)), ("thinking", Value::from(thinking))]);
        }
        let more = pairs(&given.kwargs);
        let seen = seen.into_iter().map(|(name, value)| (Value::from(name), value)).chain(more);
        self.render_seen(seen.collect())
    }

    fn render_seen(&self, seen: Value) -> Result<String, Fault> {
        let tokens = [("bos_token", self.bos), ("eos_token", self.eos)];
        let tokens = tokens.into_iter().map(|(name, text)| (Value::from(name), Value::from(text)));
        let seen: Value = tokens.chain(pairs(&seen)).collect();
        let mut out = Bounded { bytes: Vec::new(), full: false };
        let rendered = self
            .environment
            .template_from_named_str("chat_template", self.source)
            .and_then(|template| template.render_captured_to(seen, &mut out).map(drop));
        if out.full {
            let words = format!("the prompt grew over {PROMPT_BYTES_MAX} bytes");
            return Err(Fault::new(Code::TemplateFailed, words).hint("send less text, or use another model"));
        }
        rendered.map_err(|error| fault(&error))?;
        // INVARIANT: minijinja writes `str`s; a cut-off one set `full` above.
        Ok(String::from_utf8(out.bytes).expect("a template writes whole strings"))
    }
}

/// What a caller has a part in.
struct Given {
    messages: Value,
    tools: Value,
    kwargs: Value,
    thinking: Option<bool>,
}

impl Given {
    /// All of it in one text, to look for characters in.
    fn texts(&self) -> String {
        // Values that came out of JSON go back into it.
        let json = |value: &Value| serde_json::to_string(value).unwrap_or_default();
        [&self.messages, &self.tools, &self.kwargs].map(json).concat()
    }

    fn with_texts(&self, change: &mut dyn FnMut(&str) -> String) -> Self {
        Self {
            messages: values::with_texts(&self.messages, change),
            tools: values::with_texts(&self.tools, change),
            // Their names are variables of the template.
            kwargs: pairs(&self.kwargs).map(|(name, value)| (name, values::with_texts(&value, change))).collect(),
            thinking: self.thinking,
        }
    }
}

fn pairs(map: &Value) -> impl Iterator<Item = (Value, Value)> + use<> {
    let map = map.clone();
    let keys: Vec<Value> = map.try_iter().into_iter().flatten().collect();
    keys.into_iter().map(move |key| (key.clone(), map.get_item(&key).unwrap_or_default()))
}

/// The dialect that published templates are written in: what Hugging Face's own renderer gives them.
fn environment(now: Moment) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(false);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    python::teach(&mut environment);
    environment.remove_global("debug");
    environment.add_filter("tojson", json::to_json);
    environment.add_function("raise_exception", |words: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, words))
    });
    environment.add_function("strftime_now", move |format: String| clock::format(now, &format));
    environment
}

fn fault(error: &Error) -> Fault {
    let place = error.line().map(|line| format!(" in line {line}")).unwrap_or_default();
    let words = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("the model's chat template took more than {FUEL} steps{place}"),
        (ErrorKind::InvalidOperation, Some(detail)) => format!("the model's chat template refused{place}: {detail}"),
        (kind, Some(detail)) => format!("the model's chat template failed{place}: {kind}: {detail}"),
        (kind, None) => format!("the model's chat template failed{place}: {kind}"),
    };
    Fault::new(Code::TemplateFailed, words)
        .hint("templates often want turns of user and assistant that alternate, the system's text first")
}

/// Takes no more than the limit, whatever the template does.
struct Bounded {
    bytes: Vec<u8>,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > PROMPT_BYTES_MAX {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tool_tests;
