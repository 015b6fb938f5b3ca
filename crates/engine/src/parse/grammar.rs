//! What a call may be, for an answer that may hold calls: the family's marks, the names of the tools, and arguments by
//! each tool's schema. Pure; the worker makes a grammar of it.
//!
//! All that it allows is read as a call by the parser beside it; a test draws from the one and asks the other.

use super::json::quoted;
use super::style::{Layout, Style, Tags};
use base::shape::SHAPE_BYTES_MAX;
use base::{Tool, Toolbox};
use serde_json::Value;
use wire::{WireCalls, WireOpening, WirePart, WireQuiet, WireSchema};

/// LIMIT: characters of a text whose length a schema bounds; a longer bound isn't kept.
const TEXT_CHARS_MAX: u64 = 2000;
/// LIMIT: arguments of one tool that are kept by name, where they don't stand in JSON.
const ARGUMENTS_MAX: usize = 256;

/// What isn't kept of a tool's schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unkept {
    /// `None`: of any tool's.
    pub(crate) tool: Option<String>,
    pub(crate) reason: String,
}

/// The calls of one ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grammar {
    /// `None`: calls are as the model makes them.
    pub(crate) calls: Option<WireCalls>,
    pub(crate) unkept: Vec<Unkept>,
}

impl Grammar {
    /// Of the tools that may be called; nothing where there are none, or their model's calls have no marks.
    pub(crate) fn of(style: &Style, toolbox: &Toolbox) -> Self {
        let tools: Vec<&Tool> = toolbox.callable().collect();
        let mut unkept = Vec::new();
        if tools.is_empty() || style.kept.is_empty() {
            return Self { calls: None, unkept };
        }
        let mut maker =
            Maker { style, tools, single: !toolbox.parallel, rules: Vec::new(), schemas: Vec::new(), unkept };
        let openings = if style.recipients {
            maker.recipients()
        } else {
            let opening =
                |(mark, layout): &(&str, Layout)| WireOpening { mark: (*mark).to_owned(), then: maker.layout(*layout) };
            style.kept.iter().map(opening).collect()
        };
        let Maker { single, rules, schemas, unkept: noted, .. } = maker;
        unkept = noted;
        if schemas.iter().map(|schema| schema.schema.len()).sum::<usize>() > SHAPE_BYTES_MAX {
            let reason = format!("all schemas together take more than {SHAPE_BYTES_MAX} bytes");
            unkept.push(Unkept { tool: None, reason });
            return Self { calls: None, unkept };
        }
        let passed = style.closers.iter().chain(style.frames).map(|mark| (*mark).to_owned()).collect();
        let begun = if style.recipients { ">>>".to_owned() } else { String::new() };
        Self { calls: Some(WireCalls { openings, begun, quiet: quiet(style), passed, rules, schemas, single }), unkept }
    }
}

/// Where no call stands.
fn quiet(style: &Style) -> Option<WireQuiet> {
    let texts = |marks: &[&str]| marks.iter().map(|mark| (*mark).to_owned()).collect();
    if style.harmony {
        let close = texts(&["<|end|>", "<|return|>", "<|call|>", "<|start|>", "<|channel|>"]);
        return Some(WireQuiet { open: texts(&["<|message|>"]), close, anywhere: true });
    }
    style.think.map(|(open, close)| WireQuiet { open: texts(&[open]), close: texts(&[close]), anywhere: false })
}

fn text(words: impl Into<String>) -> WirePart {
    WirePart::Text(words.into())
}

fn mark(name: &str) -> WirePart {
    WirePart::Mark(name.to_owned())
}

fn maybe(part: WirePart) -> WirePart {
    WirePart::Maybe(Box::new(part))
}

fn again(part: WirePart) -> WirePart {
    WirePart::Again(Box::new(part))
}

const SPACE: WirePart = WirePart::Space;

/// Signs of JSON with white space between them.
fn signs(words: &[&str]) -> Vec<WirePart> {
    words.iter().flat_map(|word| [text(*word), SPACE]).collect()
}

struct Maker<'a> {
    style: &'a Style,
    tools: Vec<&'a Tool>,
    single: bool,
    rules: Vec<WirePart>,
    schemas: Vec<WireSchema>,
    unkept: Vec<Unkept>,
}

impl Maker<'_> {
    fn layout(&mut self, layout: Layout) -> WirePart {
        match layout {
            Layout::Object(close) => {
                let envelope = self.envelope("name", self.style.arguments_key(), None);
                WirePart::All(vec![SPACE, envelope, closed(close)])
            }
            Layout::List(close) => {
                let envelope = self.envelope("name", self.style.arguments_key(), None);
                WirePart::All(vec![self.list(envelope), closed(close)])
            }
            Layout::Actions => {
                let envelope = self.envelope("tool_name", "parameters", Some("tool_call_id"));
                WirePart::All(vec![self.list(envelope), closed("<|END_ACTION|>")])
            }
            Layout::Kimi => self.kimi(),
            Layout::KimiSection => {
                let call = self.kimi();
                self.section("<|tool_call_begin|>", call, "<|tool_calls_section_end|>")
            }
            Layout::DeepSeek => self.deepseek(),
            Layout::DeepSeekSection => {
                let call = self.deepseek();
                self.section("<｜tool▁call▁begin｜>", call, "<｜tool▁calls▁end｜>")
            }
            Layout::Mistral => {
                let envelope = self.envelope("name", "arguments", None);
                let list = self.list(envelope);
                let id = maybe(WirePart::All(vec![mark("[CALL_ID]"), WirePart::Word]));
                let named = self.each(|_, name| vec![text(name), id.clone(), mark("[ARGS]"), SPACE]);
                WirePart::Any(vec![list, named])
            }
            Layout::Channel => self.channel(),
            Layout::Tags(tags) => self.tagged(tags),
            Layout::TagSection(tags, close) => {
                let call = self.tagged(tags);
                self.section(tags.call, call, close)
            }
            Layout::Braces(quote, close) => self.braced(quote, close),
            Layout::Function(close) => {
                let call = self.each(|_, name| vec![text(format!("{name}>")), SPACE]);
                WirePart::All(vec![call, closed(close)])
            }
            // The mark is made for each tool.
            Layout::Recipient => WirePart::Any(Vec::new()),
            Layout::Python { listed, close } => {
                let call = self.python();
                let calls = if listed { self.list(call) } else { WirePart::All(vec![SPACE, call]) };
                WirePart::All(vec![calls, closed(close)])
            }
        }
    }

    /// For each tool: these parts and its arguments as JSON.
    fn each(&mut self, mut head: impl FnMut(&mut Self, &str) -> Vec<WirePart>) -> WirePart {
        let tools = self.tools.clone();
        let one = |tool: &&Tool| {
            let mut parts = head(self, &tool.name);
            parts.push(self.arguments(tool));
            WirePart::All(parts)
        };
        WirePart::Any(tools.iter().map(one).collect())
    }

    /// All arguments of a tool as JSON; the same place for each use.
    fn arguments(&mut self, tool: &Tool) -> WirePart {
        let known = self.schemas.iter().position(|schema| schema.whole && schema.tool == tool.name);
        let place = known.unwrap_or_else(|| {
            let schema = tool.schema().to_string();
            self.schemas.push(WireSchema { tool: tool.name.clone(), place: "#".into(), schema, whole: true });
            self.schemas.len() - 1
        });
        WirePart::Json(number(place))
    }

    /// `{"name": "weather", "arguments": {…}}`, the number of the call before it where `id` is its key.
    fn envelope(&mut self, name_key: &str, key: &str, id: Option<&str>) -> WirePart {
        let mut head = signs(&["{"]);
        if let Some(id) = id {
            head.extend(signs(&[&quoted(id), ":"]));
            head.extend([text("\""), WirePart::Digits, text("\""), SPACE]);
            head.extend(signs(&[","]));
        }
        head.extend(signs(&[&quoted(name_key), ":"]));
        let key = quoted(key);
        let named = self.each(|_, name| signs(&[&quoted(name), ",", &key, ":"]));
        head.extend([named, SPACE, text("}")]);
        WirePart::All(head)
    }

    /// `[item, item]`
    fn list(&self, item: WirePart) -> WirePart {
        let mut parts = vec![SPACE, text("["), SPACE, item.clone(), SPACE];
        if !self.single {
            parts.push(maybe(again(WirePart::All(vec![text(","), SPACE, item, SPACE]))));
        }
        parts.push(text("]"));
        WirePart::All(parts)
    }

    /// Calls with a mark before each, up to the mark that ends them all.
    fn section(&self, open: &str, call: WirePart, close: &str) -> WirePart {
        let one = WirePart::All(vec![mark(open), call]);
        if self.single {
            return WirePart::All(vec![SPACE, one]);
        }
        let more = maybe(again(WirePart::All(vec![SPACE, one.clone()])));
        WirePart::All(vec![SPACE, one, more, SPACE, mark(close)])
    }

    fn kimi(&mut self) -> WirePart {
        let head = |_: &mut Self, name: &str| {
            let argument = mark("<|tool_call_argument_begin|>");
            vec![text(format!("functions.{name}:")), WirePart::Digits, argument, SPACE]
        };
        let call = self.each(head);
        WirePart::All(vec![SPACE, call, closed("<|tool_call_end|>")])
    }

    fn deepseek(&mut self) -> WirePart {
        const BETWEEN: &str = "<｜tool▁sep｜>";
        let new = self.each(|_, name| vec![text(name), mark(BETWEEN), SPACE]);
        let fenced =
            |_: &mut Self, name: &str| vec![text("function"), mark(BETWEEN), text(format!("{name}\n```json\n"))];
        let old = WirePart::All(vec![self.each(fenced), text("\n```")]);
        WirePart::All(vec![WirePart::Any(vec![new, old]), mark("<｜tool▁call▁end｜>")])
    }

    /// `weather<|channel|>commentary <|constrain|>json<|message|>{…}`, whose parts but the last are left out by some.
    fn channel(&mut self) -> WirePart {
        let channel = maybe(WirePart::All(vec![mark("<|channel|>"), text("commentary")]));
        let constrain = WirePart::All(vec![mark("<|constrain|>"), text("json")]);
        let spaced = WirePart::All(vec![text(" "), constrain.clone()]);
        let kind = WirePart::Any(vec![text(""), text(" json"), spaced, constrain]);
        self.each(|_, name| vec![text(name), channel.clone(), kind.clone(), mark("<|message|>"), SPACE])
    }

    fn tagged(&mut self, tags: &'static Tags) -> WirePart {
        let tools = self.tools.clone();
        let call = |tool: &&Tool| {
            let mut parts = vec![SPACE];
            match tags.name {
                Some((open, close)) => parts.extend([text(format!("{open}{}{close}", tool.name)), SPACE]),
                None => parts.extend([text(tool.name.as_str()), SPACE]),
            }
            let arguments = Arguments::of(tool, &mut self.unkept);
            for Argument { key, schema, required } in &arguments.named {
                let item = self.tagged_item(tags, tool, text(key.as_str()), Some((key, schema)));
                parts.push(if *required { item } else { maybe(item) });
            }
            if arguments.any {
                let item = self.tagged_item(tags, tool, WirePart::Word, None);
                parts.push(maybe(again(item)));
            }
            for (n, end) in tags.ends.iter().enumerate() {
                if n > 0 {
                    parts.push(SPACE);
                }
                parts.push(mark(end));
            }
            WirePart::All(parts)
        };
        WirePart::Any(tools.iter().map(call).collect())
    }

    fn tagged_item(&mut self, tags: &Tags, tool: &Tool, key: WirePart, named: Option<(&String, &Value)>) -> WirePart {
        let close = tags.value.1;
        let end = if tags.lines { format!("\n{close}") } else { close.to_owned() };
        let mut parts = vec![mark(tags.key.0), key, mark(tags.key.1)];
        if !tags.value.0.is_empty() {
            parts.extend([SPACE, mark(tags.value.0)]);
        }
        let raw = |least, most| WirePart::Until { end: end.clone(), apart: close.to_owned(), least, most };
        let lines = tags.lines.then(|| text("\n"));
        match named {
            Some((key, schema)) if schema["type"] != "string" => {
                parts.extend([SPACE, self.value(tool, key, schema), SPACE, mark(close)]);
            }
            Some((key, schema)) => {
                parts.extend(lines);
                parts.push(self.raw_text(tool, key, schema, close, &end, raw));
            }
            None => {
                parts.extend(lines);
                parts.push(raw(0, None));
            }
        }
        parts.push(SPACE);
        WirePart::All(parts)
    }

    /// A text as it stands, up to its closing mark.
    fn raw_text(
        &mut self,
        tool: &Tool,
        key: &str,
        schema: &Value,
        close: &str,
        end: &str,
        raw: impl Fn(u32, Option<u32>) -> WirePart,
    ) -> WirePart {
        if let Some(words) = words(schema).filter(|words| !words.iter().any(|word| word.contains(close))) {
            let (line, close) = end.split_at(end.len() - close.len());
            let word = |word: &String| WirePart::All(vec![text(word.as_str()), text(line), mark(close)]);
            return WirePart::Any(words.iter().map(word).collect());
        }
        let length = |name: &str| schema[name].as_u64().filter(|length| *length <= TEXT_CHARS_MAX);
        let short = |length: u64| u32::try_from(length).unwrap_or(u32::MAX);
        let kept = |name: &str| match name {
            "type" | "title" | "description" | "default" | "examples" | "example" | "deprecated" => true,
            "minLength" | "maxLength" => length(name).is_some(),
            name => name.starts_with("x-") || name.starts_with('$'),
        };
        let mut names = schema.as_object().into_iter().flat_map(|schema| schema.keys());
        if let Some(name) = names.find(|name| !kept(name)) {
            let reason = format!("`#/properties/{key}/{name}` of its schema isn't kept in a text between tags");
            self.note(tool, reason);
        }
        raw(length("minLength").map_or(0, short), length("maxLength").map(short))
    }

    /// One argument as JSON.
    fn value(&mut self, tool: &Tool, key: &str, schema: &Value) -> WirePart {
        let place = format!("#/properties/{key}");
        let schema = schema.to_string();
        self.schemas.push(WireSchema { tool: tool.name.clone(), place, schema, whole: false });
        WirePart::Json(number(self.schemas.len() - 1))
    }

    /// `weather(city="Paris", days=3)`
    fn python(&mut self) -> WirePart {
        let tools = self.tools.clone();
        let call = |tool: &&Tool| {
            let arguments = Arguments::of(tool, &mut self.unkept);
            let rest = self.python_rest(tool, &arguments);
            WirePart::All(vec![text(format!("{}(", tool.name)), rest])
        };
        WirePart::Any(tools.iter().map(call).collect())
    }

    /// What stands behind the bracket: one rule for each place in the list of arguments, before and behind the first.
    fn python_rest(&mut self, tool: &Tool, arguments: &Arguments) -> WirePart {
        let mut next = [text(")"), text(")")];
        if arguments.any {
            let value = self.value(tool, "*", &Value::Bool(true));
            let item = WirePart::All(vec![WirePart::Word, text("="), value]);
            let comma = WirePart::All(vec![text(","), SPACE, item.clone()]);
            let more = WirePart::All(vec![maybe(again(comma)), text(")")]);
            next = [WirePart::Any(vec![text(")"), WirePart::All(vec![item, more.clone()])]), more];
        }
        for Argument { key, schema, required } in arguments.named.iter().rev() {
            let value = match schema["type"].as_str() {
                Some("boolean") if schema.get("const").is_none() && schema.get("enum").is_none() => {
                    WirePart::Any(["True", "False", "true", "false"].map(text).to_vec())
                }
                _ => self.value(tool, key, schema),
            };
            let behind = next[1].clone();
            next = [false, true].map(|comma| {
                let before = if comma { vec![text(","), SPACE] } else { Vec::new() };
                let item = [before, vec![text(format!("{key}=")), value.clone(), behind.clone()]].concat();
                let item = WirePart::All(item);
                let either = if *required { item } else { WirePart::Any(vec![item, next[usize::from(comma)].clone()]) };
                self.rules.push(either);
                WirePart::Rule(number(self.rules.len() - 1))
            });
        }
        let [first, _] = next;
        first
    }

    /// A line with the tool's name, and its arguments.
    fn recipients(&mut self) -> Vec<WireOpening> {
        let tools = self.tools.clone();
        let opening = |tool: &&Tool| {
            let then = WirePart::All(vec![SPACE, self.arguments(tool)]);
            WireOpening { mark: format!(">>>{}\n", tool.name), then }
        };
        tools.iter().map(opening).collect()
    }

    /// `call:weather{city:<|"|>Paris<|"|>,days:3}`, where arguments come in the order of their names.
    fn braced(&mut self, quote: &str, close: &str) -> WirePart {
        let tools = self.tools.clone();
        let value = self.braced_value(quote);
        let call = |tool: &&Tool| {
            let mut arguments = Arguments::of(tool, &mut self.unkept);
            arguments.named.sort_by_key(|argument| argument.key.to_lowercase());
            let rest = self.braced_rest(tool, &arguments, quote, &value);
            WirePart::All(vec![text(format!("call:{}{{", tool.name)), rest])
        };
        WirePart::All(vec![WirePart::Any(tools.iter().map(call).collect()), mark(close)])
    }

    /// As [`Maker::python_rest`].
    fn braced_rest(&mut self, tool: &Tool, arguments: &Arguments, quote: &str, any: &WirePart) -> WirePart {
        let mut next = [text("}"), text("}")];
        if arguments.any {
            let item = WirePart::All(vec![WirePart::Word, text(":"), any.clone()]);
            let comma = WirePart::All(vec![text(","), item.clone()]);
            let more = WirePart::All(vec![maybe(again(comma)), text("}")]);
            next = [WirePart::Any(vec![text("}"), WirePart::All(vec![item, more.clone()])]), more];
        }
        for Argument { key, schema, required } in arguments.named.iter().rev() {
            let value = match schema["type"].as_str() {
                Some("string") => {
                    let raw = |least, most| WirePart::Until { end: quote.into(), apart: quote.into(), least, most };
                    WirePart::All(vec![mark(quote), self.raw_text(tool, key, schema, quote, quote, raw)])
                }
                Some("integer" | "number" | "boolean" | "null") => self.value(tool, key, schema),
                _ => {
                    self.note(
                        tool,
                        format!("`#/properties/{key}` of its schema isn't kept in this model's kind of calls"),
                    );
                    any.clone()
                }
            };
            let behind = next[1].clone();
            next = [false, true].map(|comma| {
                let before = if comma { "," } else { "" };
                let item = WirePart::All(vec![text(format!("{before}{key}:")), value.clone(), behind.clone()]);
                let either = if *required { item } else { WirePart::Any(vec![item, next[usize::from(comma)].clone()]) };
                self.rules.push(either);
                WirePart::Rule(number(self.rules.len() - 1))
            });
        }
        let [first, _] = next;
        first
    }

    /// Any value in braces.
    fn braced_value(&mut self, quote: &str) -> WirePart {
        let place = self.rules.len();
        let value = WirePart::Rule(number(place));
        let text_of = WirePart::All(vec![
            mark(quote),
            WirePart::Until { end: quote.into(), apart: quote.into(), least: 0, most: None },
        ]);
        let list = |open: &str, item: WirePart, close: &str| {
            let comma = WirePart::All(vec![text(","), item.clone()]);
            let items = WirePart::All(vec![item, maybe(again(comma))]);
            WirePart::All(vec![text(open), maybe(items), text(close)])
        };
        let pair = WirePart::All(vec![WirePart::Word, text(":"), value.clone()]);
        let words = ["true", "false", "null"].map(text).to_vec();
        let schema = r#"{"type":"number"}"#.to_owned();
        let tool = self.tools.first().map(|tool| tool.name.clone()).unwrap_or_default();
        self.schemas.push(WireSchema { tool, place: "#".into(), schema, whole: false });
        let any_number = WirePart::Json(number(self.schemas.len() - 1));
        let plain = [words, vec![text_of, any_number]].concat();
        self.rules.push(WirePart::Any([plain, vec![list("[", value.clone(), "]"), list("{", pair, "}")]].concat()));
        value
    }

    fn note(&mut self, tool: &Tool, reason: String) {
        note(&mut self.unkept, tool, reason);
    }
}

/// One reason for each tool is enough.
fn note(unkept: &mut Vec<Unkept>, tool: &Tool, reason: String) {
    let tool = Some(tool.name.clone());
    if !unkept.iter().any(|noted| noted.tool == tool) {
        unkept.push(Unkept { tool, reason });
    }
}

/// An argument that a schema names.
struct Argument {
    key: String,
    schema: Value,
    required: bool,
}

/// The arguments of a tool, where each stands by itself.
struct Arguments {
    named: Vec<Argument>,
    /// Others may come, and none is named.
    any: bool,
}

impl Arguments {
    fn of(tool: &Tool, unkept: &mut Vec<Unkept>) -> Self {
        let schema = tool.schema();
        let known = ["type", "properties", "required", "additionalProperties", "$defs", "definitions", "$schema"];
        let notes = ["title", "description", "default", "examples", "example", "deprecated", "$comment", "$id"];
        let mut keys = schema.as_object().into_iter().flat_map(|schema| schema.keys());
        let is_kept = |key: &str| known.contains(&key) || notes.contains(&key) || key.starts_with("x-");
        if let Some(key) = keys.find(|key| !is_kept(key)) {
            let reason = format!("`#/{key}` of its schema isn't kept where each argument stands by itself");
            note(unkept, tool, reason);
        }
        let required =
            |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|name| name == key));
        let names = schema["properties"].as_object().into_iter().flat_map(|properties| properties.keys());
        let mut names: Vec<&String> = names.collect();
        let too_many = names.len() > ARGUMENTS_MAX;
        if too_many {
            note(unkept, tool, format!("its schema names more than {ARGUMENTS_MAX} arguments"));
            names.clear();
        }
        let argument = |key: &String| Argument {
            key: key.clone(),
            schema: tool.argument_schema(key).unwrap_or(Value::Bool(true)),
            required: required(key),
        };
        let named: Vec<Argument> = names.into_iter().map(argument).collect();
        let any = too_many || named.is_empty() && schema["additionalProperties"] != false;
        Self { named, any }
    }
}

/// The texts that a schema lists, where it lists nothing else.
fn words(schema: &Value) -> Option<Vec<String>> {
    let listed = schema["enum"].as_array().cloned().or_else(|| schema.get("const").map(|word| vec![word.clone()]))?;
    listed
        .iter()
        .map(|word| word.as_str().map(str::to_owned))
        .collect::<Option<Vec<String>>>()
        .filter(|w| !w.is_empty())
}

/// White space and this mark; nothing where there is none.
fn closed(close: &str) -> WirePart {
    if close.is_empty() { text("") } else { WirePart::All(vec![SPACE, mark(close)]) }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
