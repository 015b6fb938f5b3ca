//! Messages become a prompt through the model's own Jinja chat template. Pure: time is an argument.
//!
//! The template comes out of a file that somebody else wrote, so it sees nothing but the messages: no
//! includes, no host, bounded steps and bounded output. What comes out is a list of pieces; special
//! tokens are recognised inside a piece only, and [`guard`] cuts so that no message can form one.

mod clock;
mod guard;
mod json;

pub use clock::Moment;

use base::{Code, Fault, Message, ModelFacts};
use guard::Guard;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::collections::BTreeMap;
use std::io;

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

/// Renders `messages` as the model wants them, ending where the assistant's turn begins.
///
/// The pieces' concatenation is what the template says; no special token that stands whole inside a
/// piece was formed with the help of a message's text.
///
/// # Errors
/// [`Code::TemplateFailed`] with the template's own words; [`Code::ModelUnfit`] when the model has no
/// template and its vocabulary doesn't suggest one.
pub fn render(facts: &ModelFacts, messages: &[Message], now: Moment) -> Result<Vec<String>, Fault> {
    let source = template_of(facts)?;
    let template = Template::new(&source, facts, now);
    let guard = Guard::new(&facts.special_tokens);
    let plain = template.render(messages)?;
    let Some(tint) = guard.tint_for(messages, &source)? else { return Ok(vec![plain]) };
    let tinted_text = template.render(&tint.apply(messages))?;
    let tinted = tint.undo(&tinted_text);
    if tinted.text == plain {
        return Ok(guard.cut(&tinted));
    }
    // The template looks at the very characters that were tinted (it cuts thoughts out of old turns,
    // say). Breaking up only whole special tokens leaves its logic alone; that is taken when it
    // demonstrably forms none, and the tinted text, which never can, when not.
    let mark = guard::mark_for(messages, &source)?;
    let marked = template.render(&guard.mark(messages, &mark))?;
    let pieces: Vec<String> = marked.split(&mark).filter(|piece| !piece.is_empty()).map(str::to_owned).collect();
    let formed: Vec<&str> = pieces.iter().flat_map(|piece| guard.specials_in(piece)).collect();
    if formed == guard.specials_in(&tinted_text) { Ok(pieces) } else { Ok(guard.cut(&tinted)) }
}

fn template_of(facts: &ModelFacts) -> Result<String, Fault> {
    if let Some(template) = &facts.chat_template {
        if template.len() > TEMPLATE_BYTES_MAX {
            let size = template.len();
            return Err(Fault::new(
                Code::TemplateFailed,
                format!("the model's chat template holds {size} bytes; at most {TEMPLATE_BYTES_MAX} are read"),
            )
            .hint("use another file of this model; this one looks damaged"));
        }
        return Ok(without_generation_tags(template));
    }
    let has = |text: &str| facts.special_tokens.iter().any(|token| token == text);
    if has("<|im_start|>") && has("<|im_end|>") {
        return Ok(CHATML.to_owned());
    }
    Err(Fault::new(Code::ModelUnfit, "the model's file holds no chat template, so it can't hold a conversation")
        .hint("use an instruction-tuned file of this model (often named `Instruct` or `it`)"))
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

    fn render(&self, messages: &[Message]) -> Result<String, Fault> {
        let messages: Vec<Value> = messages.iter().map(to_value).collect();
        let seen = context! {
            messages,
            add_generation_prompt => true,
            bos_token => self.bos,
            eos_token => self.eos,
            tools => (),
            documents => (),
        };
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

fn to_value(message: &Message) -> Value {
    let Message { role, content } = message;
    Value::from(BTreeMap::from([("role", Value::from(role.as_str())), ("content", Value::from(content.as_str()))]))
}

/// The dialect that published templates are written in: what Hugging Face's own renderer gives them.
fn environment(now: Moment) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(false);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(unknown_method_callback);
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
