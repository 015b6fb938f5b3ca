//! One call, or a list of them, behind its mark.

use super::braces;
use super::json::{Event, Scan, is_whole, quoted, unquoted};
use super::style::{Body, Tags};
use super::{Piece, Tools, python};

/// What was made of the text so far.
#[derive(Debug)]
pub(super) struct Step {
    /// Bytes that the pieces account for.
    pub(super) taken: usize,
    pub(super) pieces: Vec<Piece>,
    pub(super) then: Then,
}

#[derive(Debug)]
pub(super) enum Then {
    /// More text is needed.
    Wait,
    GoOn,
    Done,
    /// It is no call. `mark`: bytes of the mark that still stands before it.
    Bad {
        why: String,
        mark: usize,
    },
}

#[derive(Debug)]
pub(super) struct Call {
    stage: Stage,
    /// Objects stand in an array.
    listed: bool,
    /// Arguments stand in an envelope.
    enveloped: bool,
}

#[derive(Debug)]
enum Stage {
    /// Up to the name. Nothing is taken until that is known, so that all of it can still be text.
    Head {
        body: Body,
        mark: usize,
    },
    Arguments {
        scan: Scan,
        written: String,
    },
    /// In an envelope, behind the arguments.
    Tail(Scan),
    /// In an array, behind an envelope.
    Between,
    /// Between the tags of arguments.
    Tags {
        tags: &'static Tags,
        tool: String,
        any: bool,
    },
    /// Between the arguments in braces.
    Braces {
        quote: &'static str,
        tool: String,
        any: bool,
    },
}

/// LIMIT: what stands between a mark and the brackets of the arguments.
pub(super) const HEADER_BYTES_MAX: usize = 512;

impl Call {
    /// `mark`: bytes of the mark that opened it and still stands before it.
    pub(super) fn new(body: Body, mark: usize) -> Self {
        Self { stage: Stage::Head { body, mark }, listed: false, enveloped: false }
    }

    /// Of which only the arguments are still to come.
    pub(super) fn arguments() -> Self {
        let stage = Stage::Arguments { scan: Scan::new(), written: String::new() };
        Self { stage, listed: false, enveloped: false }
    }

    pub(super) fn step(&mut self, rest: &str, last: bool, tools: &Tools) -> Step {
        match &mut self.stage {
            Stage::Head { body, mark } => {
                let (body, mark) = (*body, *mark);
                match self.head(rest, body, mark, last, tools) {
                    Ok(step) => step,
                    Err(why) => Step { taken: 0, pieces: Vec::new(), then: Then::Bad { why, mark } },
                }
            }
            Stage::Arguments { scan, written } => {
                let (taken, pieces, end) = arguments(rest, scan, written);
                match end {
                    End::Whole if self.enveloped => {
                        self.stage = Stage::Tail(Scan::in_object());
                        Step { taken, pieces, then: Then::GoOn }
                    }
                    End::Whole => Step { taken, pieces, then: Then::Done },
                    End::Open if last => bad(taken, pieces, "the answer ended within the arguments of a call"),
                    End::Open => Step { taken, pieces, then: Then::Wait },
                    End::Broken => bad(taken, pieces, "the arguments of a call are no JSON"),
                }
            }
            Stage::Tail(scan) => {
                let (taken, closed) = tail(rest, scan);
                let pieces = syntax(&rest[..taken]);
                match closed {
                    Some(true) if self.listed => {
                        self.stage = Stage::Between;
                        Step { taken, pieces, then: Then::GoOn }
                    }
                    Some(true) => Step { taken, pieces, then: Then::Done },
                    Some(false) => bad(taken, pieces, "the object around the arguments of a call is no JSON"),
                    None if last => bad(taken, pieces, "the answer ended before the object of a call did"),
                    None => Step { taken, pieces, then: Then::Wait },
                }
            }
            Stage::Between => self.between(rest, last),
            Stage::Braces { quote, tool, any } => match braces::argument(rest, quote, tool, any, tools) {
                Step { taken, pieces, then: Then::Wait } if last => {
                    bad(taken, pieces, "the answer ended within the arguments of a call")
                }
                step => step,
            },
            Stage::Tags { tags, tool, any } => {
                let step = argument(rest, tags, tool, any, tools);
                match step {
                    Step { taken, pieces, then: Then::Wait } if last => {
                        bad(taken, pieces, "the answer ended within the arguments of a call")
                    }
                    step => step,
                }
            }
        }
    }

    fn head(&mut self, rest: &str, body: Body, mark: usize, last: bool, tools: &Tools) -> Result<Step, String> {
        let text = &rest[mark..];
        let start = text.trim_start();
        if start.is_empty() {
            return if last { Err("the answer ended where a call began".into()) } else { Ok(wait()) };
        }
        match body {
            Body::Tags(tags) if !start.starts_with('{') => self.tagged(rest, mark, tags, last, tools),
            Body::Python if !start.starts_with('{') && !is_array_of_objects(start) => {
                if !last && could_be_array_of_objects(start) {
                    return Ok(wait());
                }
                pythonic(rest, mark, last, tools)
            }
            Body::Braces(quote) if !start.starts_with('{') => {
                let Some((name, taken)) = braces::head(start, last)? else { return Ok(wait()) };
                check(&name, tools)?;
                let taken = rest.len() - start.len() + taken;
                let mut pieces = syntax(&rest[..taken]);
                pieces.push(Piece::Call(name.clone()));
                self.stage = Stage::Braces { quote, tool: name, any: false };
                Ok(Step { taken, pieces, then: Then::GoOn })
            }
            Body::Headed if !start.starts_with(['{', '[']) => self.headed(rest, mark, last, tools),
            Body::Envelope | Body::Headed | Body::Tags(_) | Body::Python | Body::Braces(_) => {
                self.envelope(rest, mark, last, tools)
            }
        }
    }

    /// `{"name": …, "arguments": …}`, where it must be known what is called before anything is told.
    fn envelope(&mut self, rest: &str, mark: usize, last: bool, tools: &Tools) -> Result<Step, String> {
        let blank = rest[mark..].len() - rest[mark..].trim_start().len();
        let mut from = mark + blank;
        let opens = !self.listed && rest[from..].starts_with('[');
        if opens {
            let inside = &rest[from + 1..];
            from += 1 + inside.len() - inside.trim_start().len();
            if rest[from..].is_empty() {
                return if last { Err("the answer ended where a call began".into()) } else { Ok(wait()) };
            }
        }
        if !rest[from..].starts_with('{') {
            return Err("what stands where a call should begin is no object".into());
        }
        let found = look(&rest[from..], tools)?;
        let Some(name) = found.name else {
            return match (found.end, last) {
                (Some(_), _) => Err("the object of a call names no tool".into()),
                (None, true) => Err("the answer ended before a call named its tool".into()),
                (None, false) => Ok(wait()),
            };
        };
        let call = Piece::Call(name);
        let listed = self.listed || opens;
        match (found.arguments, found.end) {
            // They come now, and are told as they come.
            (Some((start, None)), None) if rest[from + start..].starts_with('{') => {
                let scan = Scan::new();
                (self.stage, self.enveloped) = (Stage::Arguments { scan, written: String::new() }, true);
                self.listed = listed;
                let taken = from + start;
                let mut pieces = syntax(&rest[..taken]);
                pieces.push(call);
                Ok(Step { taken, pieces, then: Then::GoOn })
            }
            (Some((start, Some(end))), _) if rest[from + start..].starts_with('{') => {
                let mut pieces = syntax(&rest[..from + start]);
                pieces.push(call);
                let (_, more, _) = arguments(&rest[from + start..from + end], &mut Scan::new(), &mut String::new());
                pieces.extend(more);
                (self.stage, self.enveloped, self.listed) = (Stage::Tail(Scan::in_object()), true, listed);
                Ok(Step { taken: from + end, pieces, then: Then::GoOn })
            }
            // Arguments within a text, or none.
            (arguments, Some(end)) => {
                let raw = match arguments {
                    Some((start, Some(end))) => &rest[from + start..from + end],
                    Some((_, None)) | None => "null",
                };
                let text = made(raw).ok_or_else(|| "the arguments of a call are no object".to_owned())?;
                let mut pieces = syntax(&rest[..from + end]);
                pieces.extend([call, Piece::Made(text)]);
                (self.stage, self.listed) = (Stage::Between, listed);
                let then = if listed { Then::GoOn } else { Then::Done };
                Ok(Step { taken: from + end, pieces, then })
            }
            (_, None) if last => Err("the answer ended within a call".into()),
            (_, None) => Ok(wait()),
        }
    }

    /// `name[ARGS]{…}`, `functions.name:0<|…|>{…}`, `function<|…|>name` and a fence.
    fn headed(&mut self, rest: &str, mark: usize, last: bool, tools: &Tools) -> Result<Step, String> {
        let text = &rest[mark..];
        let Some(length) = text.find('{') else {
            // One mark may open a section of calls and the next one a call.
            let start = text.trim_start();
            let next = ["<|tool_call_begin|>", "<｜tool▁call▁begin｜>"];
            if next.iter().any(|next| start.starts_with(next)) {
                return Ok(passed(rest, mark));
            }
            if text.len() > HEADER_BYTES_MAX {
                return Err(format!("a call has no arguments within {HEADER_BYTES_MAX} bytes"));
            }
            return if last { Err("the answer ended before the arguments of a call".into()) } else { Ok(wait()) };
        };
        if ["<|tool_call_begin|>", "<｜tool▁call▁begin｜>"].iter().any(|next| text.trim_start().starts_with(next))
        {
            return Ok(passed(rest, mark));
        }
        if length > HEADER_BYTES_MAX {
            return Err(format!("a call has no arguments within {HEADER_BYTES_MAX} bytes"));
        }
        let name = name_in(&text[..length]);
        check(&name, tools)?;
        let taken = mark + length;
        let mut pieces = syntax(&rest[..taken]);
        pieces.push(Piece::Call(name));
        *self = Self::arguments();
        Ok(Step { taken, pieces, then: Then::GoOn })
    }

    fn tagged(
        &mut self,
        rest: &str,
        mark: usize,
        tags: &'static Tags,
        last: bool,
        tools: &Tools,
    ) -> Result<Step, String> {
        let text = &rest[mark..];
        let start = text.trim_start();
        let blank = text.len() - start.len();
        if !tags.call.is_empty() && mark > 0 {
            if start.starts_with(tags.call) {
                return Ok(passed(rest, mark));
            }
            if !last && tags.call.starts_with(start) {
                return Ok(wait());
            }
        }
        let found = match tags.name {
            Some((open, close)) => match start.strip_prefix(open) {
                Some(name) => name.find(close).map(|end| (&name[..end], open.len() + end + close.len())),
                None if open.starts_with(start) && !last => None,
                None => return Err(format!("a call doesn't begin with `{open}`")),
            },
            None => {
                let ends = tags.ends.iter().chain([&tags.key.0, &"\n"]);
                let end = ends.filter_map(|end| start.find(end)).min();
                end.map(|end| (&start[..end], end))
            }
        };
        let found = found.filter(|(_, length)| *length <= HEADER_BYTES_MAX);
        let Some((name, length)) = found else {
            if start.len() > HEADER_BYTES_MAX {
                return Err(format!("a call has no name within {HEADER_BYTES_MAX} bytes"));
            }
            return if last { Err("the answer ended before a call named its tool".into()) } else { Ok(wait()) };
        };
        let name = name.trim().trim_matches('"').to_owned();
        check(&name, tools)?;
        let taken = mark + blank + length;
        let mut pieces = syntax(&rest[..taken]);
        pieces.push(Piece::Call(name.clone()));
        self.stage = Stage::Tags { tags, tool: name, any: false };
        Ok(Step { taken, pieces, then: Then::GoOn })
    }

    /// Behind one object of an array.
    fn between(&mut self, rest: &str, last: bool) -> Step {
        let body = rest.trim_start();
        let blank = rest.len() - body.len();
        let taken = blank + usize::from(!body.is_empty());
        match body.chars().next() {
            Some(']') => Step { taken, pieces: syntax(&rest[..taken]), then: Then::Done },
            Some(',') => {
                self.stage = Stage::Head { body: Body::Envelope, mark: 0 };
                Step { taken, pieces: syntax(&rest[..taken]), then: Then::GoOn }
            }
            None if !last => wait(),
            Some(_) | None => bad(0, Vec::new(), "the list of calls isn't closed"),
        }
    }
}

/// The mark of a section: the mark of its first call follows.
fn passed(rest: &str, mark: usize) -> Step {
    Step { taken: mark, pieces: syntax(&rest[..mark]), then: Then::Done }
}

pub(super) fn wait() -> Step {
    Step { taken: 0, pieces: Vec::new(), then: Then::Wait }
}

pub(super) fn bad(taken: usize, pieces: Vec<Piece>, why: &str) -> Step {
    Step { taken, pieces, then: Then::Bad { why: why.to_owned(), mark: 0 } }
}

pub(super) fn syntax(text: &str) -> Vec<Piece> {
    if text.is_empty() { Vec::new() } else { vec![Piece::Syntax(text.to_owned())] }
}

fn check(name: &str, tools: &Tools) -> Result<(), String> {
    if tools.has(name) { Ok(()) } else { Err(format!("the model called `{name}`, which isn't one of the tools")) }
}

fn is_array_of_objects(start: &str) -> bool {
    start.strip_prefix('[').is_some_and(|inside| inside.trim_start().starts_with('{'))
}

fn could_be_array_of_objects(start: &str) -> bool {
    start.strip_prefix('[').is_some_and(|inside| inside.trim_start().is_empty())
}

/// The tool's name in what stands before its arguments.
fn name_in(header: &str) -> String {
    // DeepSeek's older models say `function`, a mark, the name and a fence.
    let header = match header.split_once("<｜tool▁sep｜>") {
        Some((kind, name)) if kind.trim() == "function" => name,
        Some((name, _)) => name,
        None => header,
    };
    let header = header.split("```").next().unwrap_or_default().trim_start();
    let end = header.find(['<', '[', '\n']).unwrap_or(header.len());
    let name = header[..end].trim().trim_end_matches('>');
    // Kimi's names are those of a module, with the number of the call.
    let name = name.strip_prefix("functions.").unwrap_or(name);
    match name.rsplit_once(':') {
        Some((name, number)) if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            name.to_owned()
        }
        _ => name.to_owned(),
    }
}

enum End {
    Whole,
    Open,
    Broken,
}

/// Takes of the arguments what is there.
fn arguments(rest: &str, scan: &mut Scan, written: &mut String) -> (usize, Vec<Piece>, End) {
    let mut pieces = Vec::new();
    let mut told = 0;
    let tell = |pieces: &mut Vec<Piece>, written: &mut String, from: usize, to: usize| {
        if to > from {
            written.push_str(&rest[from..to]);
            pieces.push(Piece::Arguments(rest[from..to].to_owned()));
        }
    };
    for (at, c) in rest.char_indices() {
        let next = at + c.len_utf8();
        match scan.take(c) {
            Ok(Event::Ends | Event::BothEnd) if scan.depth() == 0 => {
                tell(&mut pieces, written, told, next);
                // A text, a number or a list is whole as well, and no arguments.
                let is_object = written.trim_start().starts_with('{') && is_whole(written);
                let end = if is_object { End::Whole } else { End::Broken };
                return (next, pieces, end);
            }
            Ok(Event::Bare) => {
                tell(&mut pieces, written, told, at);
                let escaped = quoted(&c.to_string());
                let escaped = escaped.trim_matches('"').to_owned();
                written.push_str(&escaped);
                pieces.extend([Piece::Syntax(c.to_string()), Piece::Made(escaped)]);
                told = next;
            }
            Ok(_) => {}
            Err(_) => {
                tell(&mut pieces, written, told, at);
                return (at, pieces, End::Broken);
            }
        }
    }
    tell(&mut pieces, written, told, rest.len());
    (rest.len(), pieces, End::Open)
}

/// How far the envelope goes behind the arguments, and whether it has ended well.
fn tail(rest: &str, scan: &mut Scan) -> (usize, Option<bool>) {
    for (at, c) in rest.char_indices() {
        match scan.take(c) {
            Ok(Event::Ends | Event::BothEnd) if scan.depth() == 0 => return (at + c.len_utf8(), Some(true)),
            Ok(_) => {}
            Err(_) => return (at, Some(false)),
        }
    }
    (rest.len(), None)
}

/// What an envelope holds, as far as it is there.
#[derive(Debug, Default)]
struct Found {
    name: Option<String>,
    /// Where they begin, and where they end.
    arguments: Option<(usize, Option<usize>)>,
    end: Option<usize>,
}

/// # Errors
/// Why it is no call, as far as that is known at the first character that says so.
fn look(text: &str, tools: &Tools) -> Result<Found, String> {
    let no_json = || "the object of a call is no JSON".to_owned();
    let mut found = Found::default();
    let mut scan = Scan::new();
    let (mut key, mut start) = (String::new(), 0);
    for (at, c) in text.char_indices() {
        let depth = scan.depth();
        let event = scan.take(c).map_err(|_| no_json())?;
        let next = at + c.len_utf8();
        match event {
            Event::Key if depth == 1 => key = unquoted(&scan.text).ok_or_else(no_json)?,
            Event::Begins if depth == 1 => {
                start = at;
                if is_arguments(&key) {
                    found.arguments = Some((at, None));
                    // They can be told from here on.
                    if found.name.is_some() && c == '{' {
                        return Ok(found);
                    }
                }
            }
            Event::Ends | Event::EndedBefore | Event::BothEnd if scan.depth() <= 1 => {
                let closes = scan.depth() == 0;
                // Where a bracket ends two at once, the outer one ends with it.
                let end = if event == Event::Ends || (event == Event::BothEnd && !closes) { next } else { at };
                if !closes || event == Event::BothEnd {
                    if is_name(&key) && text[start..end].starts_with('"') && found.name.is_none() {
                        let name = unquoted(&scan.text).ok_or_else(no_json)?;
                        check(&name, tools)?;
                        found.name = Some(name);
                    }
                    if let Some((_, open @ None)) = &mut found.arguments
                        && is_arguments(&key)
                    {
                        *open = Some(end);
                        if found.name.is_some() && text[start..].starts_with('{') {
                            return Ok(found);
                        }
                    }
                }
                if closes {
                    found.end = Some(next);
                    return Ok(found);
                }
            }
            _ => {}
        }
        // Arguments that came first, and the name behind them.
        if let (Some(_), Some((start, Some(_)))) = (&found.name, found.arguments)
            && text[start..].starts_with('{')
        {
            return Ok(found);
        }
    }
    Ok(found)
}

fn is_name(key: &str) -> bool {
    matches!(key, "name" | "tool_name" | "function")
}

fn is_arguments(key: &str) -> bool {
    matches!(key, "arguments" | "parameters" | "args")
}

/// Arguments that don't stand there as an object: none at all, or an object within a text.
fn made(raw: &str) -> Option<String> {
    match serde_json::from_str(raw) {
        Ok(serde_json::Value::Null) => Some("{}".to_owned()),
        Ok(serde_json::Value::String(text)) if text.trim().is_empty() => Some("{}".to_owned()),
        Ok(serde_json::Value::String(text)) if text.trim_start().starts_with('{') && is_whole(&text) => Some(text),
        _ => None,
    }
}

fn pythonic(rest: &str, mark: usize, last: bool, tools: &Tools) -> Result<Step, String> {
    let text = &rest[mark..];
    let ends = ["<|tool_call_end|>", "```", "</tool_call>"];
    let end = match ends.iter().filter_map(|end| text.find(end)).min() {
        Some(end) => end,
        None if last => text.len(),
        None => return Ok(wait()),
    };
    let calls = python::calls(&text[..end]).ok_or_else(|| "a call isn't written as a function's".to_owned())?;
    let mut pieces = syntax(&rest[..mark + end]);
    for (name, arguments) in calls {
        check(&name, tools)?;
        pieces.extend([Piece::Call(name), Piece::Made(arguments)]);
    }
    Ok(Step { taken: mark + end, pieces, then: Then::Done })
}

/// The next argument between its tags, or the end of them.
fn argument(rest: &str, tags: &Tags, tool: &str, any: &mut bool, tools: &Tools) -> Step {
    let body = rest.trim_start();
    let blank = rest.len() - body.len();
    let ends = tags.ends.iter();
    if let Some(end) = ends.clone().find(|end| body.starts_with(**end)) {
        let taken = blank + end.len();
        let mut pieces = syntax(&rest[..taken]);
        pieces.push(Piece::Made(if *any { "}" } else { "{}" }.to_owned()));
        return Step { taken, pieces, then: Then::Done };
    }
    let (key_open, key_close) = tags.key;
    let Some(key) = body.strip_prefix(key_open) else {
        let may = body.is_empty() || key_open.starts_with(body) || ends.clone().any(|end| end.starts_with(body));
        return if may { wait() } else { bad(0, Vec::new(), "something else than arguments stands in a call") };
    };
    let Some(key_end) = key.find(key_close) else { return wait() };
    let behind = &key[key_end + key_close.len()..];
    let (value_open, value_close) = tags.value;
    let start = if value_open.is_empty() { behind } else { behind.trim_start() };
    let Some(value) = start.strip_prefix(value_open) else {
        return if value_open.starts_with(start) {
            wait()
        } else {
            bad(0, Vec::new(), "an argument of a call has no value")
        };
    };
    let Some(value_end) = value.find(value_close) else { return wait() };
    let mut text = &value[..value_end];
    if tags.lines {
        text = text.strip_prefix('\n').unwrap_or(text);
        text = text.strip_suffix('\n').unwrap_or(text);
    }
    let key = key[..key_end].trim();
    let taken = rest.len() - value.len() + value_end + value_close.len();
    let mut pieces = syntax(&rest[..taken]);
    let before = if std::mem::replace(any, true) { ", " } else { "{" };
    let value = if tools.is_text(tool, key) { quoted(text) } else { value_of(text) };
    pieces.push(Piece::Made(format!("{before}{}: {value}", quoted(key))));
    Step { taken, pieces, then: Then::GoOn }
}

/// A value that is no text by its tool's schema: what it stands for, if anything.
fn value_of(text: &str) -> String {
    match text.trim() {
        "True" => "true".to_owned(),
        "False" => "false".to_owned(),
        "None" => "null".to_owned(),
        json if is_whole(json) => json.to_owned(),
        _ => quoted(text),
    }
}
