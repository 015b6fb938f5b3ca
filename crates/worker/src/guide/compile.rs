//! From a shape as it was asked for to a parser of this model's tokens, within bounds of size and time.

use super::calls::{Calls, Loose};
use super::{Guide, Vocabulary, forced, lark};
use crate::ffi::Model;
use batch::schema::{self, Refusal, Suspect};
use batch::sift::{self, Fault, Work};
use llguidance::api::{GrammarInit, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::InferenceCapabilities;
use llguidance::{Logger, Matcher, ParserFactory, TokenParser};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use wire::{WireCalls, WireFault, WireReasoning, WireSchema, WireShape};

/// LIMIT: brackets that may be open at the same time in an expression or a grammar: parsers of both recurse.
const NESTING_MAX: usize = 100;
/// LIMIT: work to find the schemas at fault, in llguidance's units and bytes: what three whole grammars may take to begin
/// with, and for each try among many a sixtieth of that.
const SEARCH: Work = Work { all: 3_000_000, one: 50_000 };
/// LIMIT: characters of a reason.
const REASON_CHARS_MAX: usize = 300;
/// LIMIT: schemas that are given all the work that a whole grammar may take, where they seem too large among many.
const WHOLE_TRIES: usize = 2;
/// What may stand between the signs of JSON, and no more of it: small models would go on with white space for
/// ever. Enough for a new line and sixteen levels of indentation.
const JSON_SPACE: &str = r"[\x20\x0A\x0D\x09]{1,65}";

/// LIMIT: grammars of calls that are kept: programs send the same tools with each turn.
const KEPT_MAX: usize = 4;

fn written_bytes(shape: &WireShape) -> usize {
    match shape {
        WireShape::Free | WireShape::Json | WireShape::Calls(_) => 0,
        WireShape::JsonSchema(text) | WireShape::Regex(text) | WireShape::Grammar(text) => text.len(),
        WireShape::Choice(options) => options.iter().map(String::len).sum(),
    }
}

/// Compiles shapes for one model.
pub(crate) struct Compiler {
    model: Arc<Model>,
    /// Made with the first shape.
    made: Option<(ParserFactory, Arc<Vocabulary>)>,
    /// The one that was used last comes last.
    kept: VecDeque<Kept>,
}

/// Calls of some tools.
struct Kept {
    calls: WireCalls,
    matcher: Option<Matcher>,
    loose: Vec<Loose>,
}

impl std::fmt::Debug for Compiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiler").field("ready", &self.made.is_some()).finish_non_exhaustive()
    }
}

impl Compiler {
    pub(crate) fn new(model: Arc<Model>) -> Self {
        Self { model, made: None, kept: VecDeque::new() }
    }

    /// The guide of one answer.
    ///
    /// # Errors
    /// [`WireFault::ShapeUnsupported`] with the place of what can't be kept to.
    pub(crate) fn guide(&mut self, shape: &WireShape, reasoning: Option<&WireReasoning>) -> Result<Guide, WireFault> {
        if let Some(free) = Guide::of_free(shape) {
            return Ok(free);
        }
        if let WireShape::Calls(calls) = shape {
            let quiet = reasoning.is_some_and(|reasoning| reasoning.open.is_empty());
            return self.calls(calls, quiet);
        }
        let model = Arc::clone(&self.model);
        let (factory, vocabulary) = self.made()?;
        let parser =
            compile(factory, shape).map_err(|Refusal { path, reason }| WireFault::ShapeUnsupported { path, reason })?;
        // Where tokens are counted, text must not be taken as said before its tokens are.
        let counts = matches!(shape, WireShape::Grammar(text) if text.contains("max_tokens"));
        let forces = !counts && written_bytes(shape) <= forced::BYTES_MAX;
        Guide::new(parser, reasoning, &model, vocabulary, forces)
    }

    fn calls(&mut self, calls: &WireCalls, quiet: bool) -> Result<Guide, WireFault> {
        let place = self.kept.iter().position(|kept| kept.calls == *calls);
        let (factory, vocabulary) = self.made()?;
        let compiled = match place {
            Some(_) => None,
            None => Some(compile_calls(factory, calls, &vocabulary)),
        };
        let kept = match (compiled, place.and_then(|place| self.kept.remove(place))) {
            (Some((parser, loose)), _) => {
                let matcher = parser.map(|parser| Matcher::new(Ok(parser)));
                Kept { calls: calls.clone(), matcher, loose }
            }
            (None, Some(kept)) => kept,
            (None, None) => return Err(WireFault::ShapeFailed("the grammar isn't there".into())),
        };
        let own = kept.matcher.as_ref().map(Matcher::deep_clone);
        let guide = Guide::of_calls(Calls::new(calls, own, kept.loose.clone(), quiet, vocabulary));
        self.kept.push_back(kept);
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
        Ok(guide)
    }

    fn made(&mut self) -> Result<(&ParserFactory, Arc<Vocabulary>), WireFault> {
        if self.made.is_none() {
            let vocabulary = Vocabulary::of(&self.model).map_err(WireFault::Unfit)?;
            let factory = factory(&vocabulary).map_err(|error| WireFault::ShapeFailed(first_line(&error)))?;
            self.made = Some((factory, Arc::new(vocabulary)));
        }
        match &self.made {
            Some((factory, vocabulary)) => Ok((factory, Arc::clone(vocabulary))),
            None => Err(WireFault::ShapeFailed("the vocabulary isn't there".into())),
        }
    }
}

/// Tokens are chosen one by one, and nothing is taken back; what is forced the guide asks for itself.
const CAPABILITIES: InferenceCapabilities =
    InferenceCapabilities { ff_tokens: false, conditional_ff_tokens: false, backtrack: false, fork: false };

fn factory(vocabulary: &Vocabulary) -> Result<ParserFactory, String> {
    let mut factory = ParserFactory::new(vocabulary.env(), CAPABILITIES, &SlicedBiasComputer::general_slices())
        .map_err(|error| error.to_string())?;
    factory.quiet();
    Ok(factory)
}

/// LIMIT: of the lexer's work from one mask to the next.
pub(super) const STEP_WORK_MAX: u64 = 200_000;

/// LIMIT: of work and memory, as llguidance counts them: compiling within about a second, a mask within some
/// ten milliseconds, and tens of megabytes.
fn limits() -> ParserLimits {
    ParserLimits {
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: STEP_WORK_MAX,
        step_max_items: 50_000,
        max_items_in_row: 2_000,
        max_lexer_states: 25_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        // What it says may go to the person who asked, and isn't to hold what was generated.
        verbose_errors: false,
    }
}

fn compile(factory: &ParserFactory, shape: &WireShape) -> Result<TokenParser, Refusal> {
    match shape {
        WireShape::Free | WireShape::Calls(_) => Err(refusal("", "a free answer has no shape")),
        WireShape::Json => parser(factory, with_space(json!({ "type": "object" })), "#"),
        WireShape::JsonSchema(text) => {
            let schema: Value =
                serde_json::from_str(text).map_err(|error| refusal("#", &format!("isn't JSON: {error}")))?;
            let prepared = schema::prepare(&schema)?;
            parser(factory, with_space(prepared.schema.clone()), "#").map_err(|refused| {
                let parts = prepared.schema.get("$defs");
                blame(factory, &prepared.suspects, parts).unwrap_or(refused)
            })
        }
        WireShape::Regex(text) => {
            check_nesting(text, "regex")?;
            parser(factory, TopLevelGrammar::from_regex(unanchored(text)), "regex")
        }
        WireShape::Choice(choices) => {
            let choices: Vec<String> = choices.iter().map(|choice| literal(choice)).collect();
            parser(factory, TopLevelGrammar::from_regex(&choices.join("|")), "choice")
        }
        WireShape::Grammar(text) => {
            check_nesting(text, "grammar")?;
            parser(factory, TopLevelGrammar::from_lark(with_strict_schemas(text)?), "grammar")
        }
    }
}

/// The grammar of calls, and what it doesn't keep. A schema that can't be kept is left out of it, first alone and then,
/// where that doesn't help, with all others.
fn compile_calls(
    factory: &ParserFactory,
    calls: &WireCalls,
    vocabulary: &Vocabulary,
) -> (Option<TokenParser>, Vec<Loose>) {
    let mut loose = Vec::new();
    let mut schemas: Vec<Option<Value>> = Vec::new();
    for wanted in &calls.schemas {
        let read = serde_json::from_str(&wanted.schema).map_err(|error| refusal("#", &format!("isn't JSON: {error}")));
        let prepared = read.and_then(|schema: Value| schema::prepare(&schema));
        schemas.push(prepared.map_err(|refused| note(&mut loose, wanted, &refused)).ok().map(|made| made.schema));
    }
    let compiled = |schemas: &[Option<Value>]| {
        let stands_in = |(schema, wanted): (&Option<Value>, &WireSchema)| {
            let any = if wanted.whole { json!({ "type": "object" }) } else { json!({}) };
            spaced(schema.clone().unwrap_or(any))
        };
        let all: Vec<Value> = schemas.iter().zip(&calls.schemas).map(stands_in).collect();
        let text = lark::grammar(calls, &all, &|name| vocabulary.special(name));
        parser(factory, TopLevelGrammar::from_lark(text), "tools")
    };
    if let Ok(parser) = compiled(&schemas) {
        return (Some(parser), loose);
    }
    for Fault { place, reason } in at_fault(factory, &schemas) {
        let untried = || refusal("#", "wasn't tried, as too many others can't be compiled");
        note(&mut loose, &calls.schemas[place], &reason.unwrap_or_else(untried));
        schemas[place] = None;
    }
    if let Ok(parser) = compiled(&schemas) {
        return (Some(parser), loose);
    }
    schemas.iter_mut().for_each(|schema| *schema = None);
    match compiled(&schemas) {
        Ok(parser) => {
            loose.push(Loose { tool: None, reason: "the schemas of all tools together are too large".into() });
            (Some(parser), loose)
        }
        Err(Refusal { reason, .. }) => {
            loose.push(Loose { tool: None, reason });
            (None, loose)
        }
    }
}

/// The places of schemas that can't be compiled by themselves.
fn at_fault(factory: &ParserFactory, schemas: &[Option<Value>]) -> Vec<Fault<Refusal>> {
    let there = schemas.iter().enumerate().filter_map(|(place, schema)| Some((place, spaced(schema.clone()?))));
    let there: Vec<(usize, Value)> = there.collect();
    let size = |(_, schema): &(usize, Value)| u64::try_from(schema.to_string().len()).unwrap_or(u64::MAX);
    let sizes: Vec<u64> = there.iter().map(size).collect();
    let mut whole_tries = WHOLE_TRIES;
    let mut found = sift::sift(&sizes, SEARCH, |part, most| {
        let cost = |parser: TokenParser| parser.parser_stats().lexer_cost;
        let [(_, alone)] = &there[part.clone()] else {
            let some = there[part].iter().map(|(_, schema)| schema);
            return parser_within(factory, TopLevelGrammar::from_lark(lark::any_of(some)), "#", most).map(cost);
        };
        let alone = || TopLevelGrammar::from_json_schema(alone.clone());
        parser_within(factory, alone(), "#", most).map(cost).or_else(|refused| {
            // It may only be larger than one of many should be.
            let is_large = refused.reason.contains("fuel") && whole_tries > 0;
            whole_tries -= usize::from(is_large);
            if is_large { parser(factory, alone(), "#").map(cost) } else { Err(refused) }
        })
    });
    found.iter_mut().for_each(|fault| fault.place = there[fault.place].0);
    found
}

/// Notes why a schema isn't kept; one reason for each tool is enough.
fn note(loose: &mut Vec<Loose>, wanted: &WireSchema, Refusal { path, reason }: &Refusal) {
    let behind = path.strip_prefix('#').unwrap_or(path);
    let tool = Some(wanted.tool.clone());
    if !loose.iter().any(|noted| noted.tool == tool) {
        loose.push(Loose { tool, reason: format!("`{}{behind}` of its schema {reason}", wanted.place) });
    }
}

fn with_space(schema: Value) -> TopLevelGrammar {
    TopLevelGrammar::from_json_schema(spaced(schema))
}

fn spaced(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.insert("x-guidance".into(), json!({ "whitespace_pattern": JSON_SPACE }));
    }
    schema
}

fn parser(factory: &ParserFactory, grammar: TopLevelGrammar, path: &str) -> Result<TokenParser, Refusal> {
    parser_within(factory, grammar, path, limits().initial_lexer_fuel)
}

fn parser_within(
    factory: &ParserFactory,
    grammar: TopLevelGrammar,
    path: &str,
    work: u64,
) -> Result<TokenParser, Refusal> {
    let fails = |words: String| refusal(path, &format!("can't be compiled: {words}"));
    let limits = ParserLimits { initial_lexer_fuel: work, ..limits() };
    let init = GrammarInit::Serialized(grammar);
    let made = factory.create_parser_from_init_ext(init, Logger::new(0, 0), CAPABILITIES, limits);
    let mut parser = made.map_err(|error| fails(first_line(&error)))?;
    // A warning says that something is taken otherwise than it was asked for.
    match parser.grammar_warnings().first() {
        Some(warning) => Err(fails(first_line(warning))),
        None => Ok(parser),
    }
}

/// The first part that can't be compiled even alone, as far as the work suffices.
fn blame(factory: &ParserFactory, suspects: &[Suspect], parts: Option<&Value>) -> Option<Refusal> {
    let mut left = SEARCH.all;
    for Suspect { path, alone } in suspects {
        let mut alone = alone.clone();
        if let (Some(object), Some(parts)) = (alone.as_object_mut(), parts) {
            object.insert("$defs".into(), parts.clone());
        }
        let refused = match parser(factory, TopLevelGrammar::from_json_schema(alone), path) {
            Ok(made) => {
                left = left.checked_sub(SEARCH.one.max(made.parser_stats().lexer_cost))?;
                continue;
            }
            Err(refused) => refused,
        };
        let reason = if path.ends_with("/oneOf") {
            "has options that don't exclude each other plainly, by `type` or by a required property with `const`: \
             write `anyOf`, or make them do so"
                .into()
        } else {
            refused.reason
        };
        return Some(Refusal { path: path.clone(), reason });
    }
    None
}

/// Schemas inside a grammar are prepared as others are.
fn with_strict_schemas(text: &str) -> Result<String, Refusal> {
    const SCHEMA: &str = "%json";
    if text.contains("allow_invalid_utf8") {
        return Err(refusal("grammar", "allows what isn't UTF-8, which no text is"));
    }
    let (mut strict, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(SCHEMA) {
        strict.push_str(&rest[..at + SCHEMA.len()]);
        rest = &rest[at + SCHEMA.len()..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let Some(Ok(schema)) = values.next() else {
            return Err(refusal("grammar", "has a `%json` without a schema behind it"));
        };
        rest = &rest[values.byte_offset()..];
        strict.push(' ');
        strict.push_str(&spaced(schema::prepare(&schema)?.schema).to_string());
    }
    strict.push_str(rest);
    Ok(strict)
}

/// The whole answer is matched anyway.
fn unanchored(text: &str) -> &str {
    let text = text.strip_prefix('^').unwrap_or(text);
    match text.strip_suffix('$') {
        Some(before) if before.chars().rev().take_while(|c| *c == '\\').count() % 2 == 0 => before,
        _ => text,
    }
}

/// An expression that matches these very characters. Others than these mustn't be escaped: `\<` is no `<`.
fn literal(text: &str) -> String {
    const META: &str = r"\.+*?()|[]{}^$#&-~";
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if META.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn check_nesting(text: &str, path: &str) -> Result<(), Refusal> {
    let mut open: usize = 0;
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => open += 1,
            ')' | ']' | '}' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > NESTING_MAX {
            return Err(refusal(path, &format!("has more than {NESTING_MAX} brackets open at once")));
        }
    }
    Ok(())
}

/// What it says in its first line; behind that come states and traces, which are nobody's business.
pub(super) fn first_line(error: &impl Display) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim().chars().take(REASON_CHARS_MAX).collect()
}

fn refusal(path: &str, reason: &str) -> Refusal {
    Refusal { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_go_and_literals_stay() {
        assert_eq!(unanchored("^a$"), "a");
        assert_eq!(unanchored(r"a\$"), r"a\$");
        assert_eq!(unanchored(r"a\\$"), r"a\\");
        assert_eq!(literal(r"<a.b> (c)/ü\"), r"<a\.b> \(c\)/ü\\");
    }

    #[test]
    fn grammars_may_not_loosen_their_schemas() {
        let strict = with_strict_schemas(
            "start: x %json { \"type\": \"null\", \"x-guidance\": { \"lenient\": true } }\nx: \"b\"",
        );
        let strict = strict.unwrap();
        assert!(strict.starts_with("start: x %json {") && strict.ends_with("}\nx: \"b\""), "{strict}");
        assert!(!strict.contains("lenient") && strict.contains("whitespace_pattern"), "{strict}");
        let refused = with_strict_schemas("start: %json { \"properties\": { \"a\": { \"not\": {} } } }").unwrap_err();
        assert_eq!(refused.path, "#/properties/a/not");
        assert!(with_strict_schemas("start: %json nothing").is_err());
        assert!(with_strict_schemas("%llguidance { \"allow_invalid_utf8\": true }").is_err());
        assert!(check_nesting(&"(".repeat(101), "regex").is_err());
        assert!(check_nesting(&"()".repeat(101), "regex").is_ok());
    }
}
