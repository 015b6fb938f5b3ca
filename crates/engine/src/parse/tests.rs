use super::*;
use base::{Modality, ModelFacts};
use proptest::prelude::*;

/// A model of this family, whose template has these words.
pub(super) fn style(words: &str) -> Style {
    let facts = ModelFacts {
        arch: "llama".into(),
        title: String::new(),
        license: String::new(),
        quantization: "F16".into(),
        modality: Modality::Chat,
        parameters: 1,
        layers: 1,
        embedding_length: 1,
        context_max: 1,
        kv_bytes_per_token: 1,
        forward_length: 0,
        cache: None,
        weights_bytes: 1,
        layer_runs: Vec::new(),
        output_bytes: 0,
        lookup_bytes: 0,
        vocab_tokens: 1,
        chat_template: Some(format!("{{{{ tools }}}} {words}")),
        tool_template: None,
        bos: None,
        eos: None,
        add_bos: false,
        special_tokens: Vec::new(),
    };
    Style::of(&facts)
}

pub(in crate::parse) const HERMES: &str = "<tool_call> </think>";
pub(in crate::parse) const CODER: &str = "<tool_call> <function=x> <parameter=y>";
const GLM: &str = "<tool_call> <arg_key> <arg_value> </think>";
const LLAMA: &str = "<|start_header_id|> <|python_tag|>";
const MISTRAL: &str = "[TOOL_CALLS] [/THINK]";
const DEEPSEEK: &str = "<｜tool▁calls▁begin｜> </think>";
const KIMI: &str = "<|tool_call_argument_begin|> </think>";
pub(in crate::parse) const GPT: &str = "<|channel|> <|message|>";
pub(in crate::parse) const LFM: &str = "<|tool_list_start|>";
const GRANITE: &str = "<|tool_call|> </think>";
const PHI: &str = "<|tool|>";
const COMMAND: &str = "<|START_ACTION|> <|END_THINKING|>";
const GEMMA: &str = "<start_of_turn>";
pub(super) const GEMMA_4: &str = "<|tool_call> <tool_call|> <|channel> <channel|>";
const FUNCTION_GEMMA: &str = "<start_of_turn> <start_function_call>";
const MINIMAX: &str = "<minimax:tool_call> <invoke name= </think>";
const FUNCTIONARY: &str = "<|start_header_id|> >>>all";
const FUNCTIONARY_31: &str = "<|start_header_id|> <function=x></function>";
pub(in crate::parse) const FAMILIES: [&str; 18] = [
    HERMES,
    CODER,
    GLM,
    LLAMA,
    MISTRAL,
    DEEPSEEK,
    KIMI,
    GPT,
    LFM,
    GRANITE,
    PHI,
    COMMAND,
    GEMMA,
    GEMMA_4,
    FUNCTION_GEMMA,
    MINIMAX,
    FUNCTIONARY,
    FUNCTIONARY_31,
];

fn tools() -> Vec<Tool> {
    let tool = |name: &str, parameters: &str| Tool {
        name: name.into(),
        description: String::new(),
        parameters: parameters.into(),
    };
    vec![
        tool("weather", r#"{"type":"object","properties":{"city":{"type":"string"},"days":{"type":"integer"}}}"#),
        tool("now", ""),
    ]
}

/// Joined pieces: thoughts, text, calls, errors.
#[derive(Debug, Default, PartialEq, Eq)]
struct Fold {
    thought: String,
    text: String,
    calls: Vec<(String, String)>,
    errors: Vec<String>,
}

fn fold(pieces: &[Piece]) -> Fold {
    let mut fold = Fold::default();
    for piece in pieces {
        match piece {
            Piece::Text(text) => fold.text.push_str(text),
            Piece::Thought(text) => fold.thought.push_str(text),
            Piece::Call(name) => fold.calls.push((name.clone(), String::new())),
            Piece::Arguments(text) | Piece::Made(text) => {
                fold.calls.last_mut().expect("arguments belong to a call").1.push_str(text);
            }
            Piece::Syntax(_) => {}
            Piece::Error(why) => fold.errors.push(why.clone()),
        }
    }
    fold
}

fn raw(pieces: &[Piece]) -> String {
    let text = |piece: &Piece| match piece {
        Piece::Text(text) | Piece::Thought(text) | Piece::Arguments(text) | Piece::Syntax(text) => text.clone(),
        Piece::Call(_) | Piece::Made(_) | Piece::Error(_) => String::new(),
    };
    pieces.iter().map(text).collect()
}

fn parser(words: &str, in_thought: bool) -> Parser {
    let tools = tools();
    Parser::new(style(words), &tools.iter().collect::<Vec<_>>(), in_thought)
}

fn whole(mut parser: Parser, text: &str) -> Vec<Piece> {
    let mut pieces = parser.push(text);
    pieces.extend(parser.finish());
    pieces
}

fn in_chars(mut parser: Parser, text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = text.chars().flat_map(|c| parser.push(c.encode_utf8(&mut [0; 4]))).collect();
    pieces.extend(parser.finish());
    pieces
}

#[track_caller]
fn check(words: &str, text: &str, thought: &str, said: &str, calls: &[(&str, &str)]) {
    let pieces = whole(parser(words, false), text);
    let calls = calls.iter().map(|(name, arguments)| ((*name).to_owned(), (*arguments).to_owned())).collect();
    let expected = Fold { thought: thought.into(), text: said.into(), calls, errors: Vec::new() };
    assert_eq!(fold(&pieces), expected, "{text}");
    assert_eq!(raw(&pieces), text, "nothing is lost");
    assert_eq!(fold(&in_chars(parser(words, false), text)), expected, "character by character: {text}");
}

const PARIS: (&str, &str) = ("weather", r#"{"city": "Paris"}"#);

#[test]
fn every_family_s_calls_are_read() {
    let call = r#"{"name": "weather", "arguments": {"city": "Paris"}}"#;
    let one = format!("<tool_call>\n{call}\n</tool_call>");
    check(HERMES, &one, "", "", &[PARIS]);
    check(HERMES, &format!("{one}\n{one}"), "", "", &[PARIS, PARIS]);
    check(HERMES, &format!("Let me look.\n\n{one}"), "", "Let me look.", &[PARIS]);
    check(HERMES, &format!("<think>\nhm\n</think>\n\n{one}"), "hm", "", &[PARIS]);
    check(HERMES, r#"<tool_call>{"arguments": {"city": "Paris"}, "name": "weather"}</tool_call>"#, "", "", &[PARIS]);
    check(HERMES, r#"<tool_call>{"name": "now"}</tool_call>"#, "", "", &[("now", "{}")]);
    check(HERMES, r#"<tool_call>{"name": "now", "arguments": null}</tool_call>"#, "", "", &[("now", "{}")]);
    let text = r#"<tool_call>{"name": "weather", "arguments": "{\"city\": \"Paris\"}"}</tool_call>"#;
    check(HERMES, text, "", "", &[PARIS]);
    let tags = "<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n\
                </parameter>\n</function>\n</tool_call>";
    check(CODER, tags, "", "", &[("weather", r#"{"city": "Paris", "days": 3}"#)]);
    check(CODER, "<tool_call>\n<function=now>\n</function>\n</tool_call>", "", "", &[("now", "{}")]);
    let tags = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>42</arg_value>\n<arg_key>days</arg_key>\n\
                <arg_value>3</arg_value>\n</tool_call>";
    check(GLM, tags, "", "", &[("weather", r#"{"city": "42", "days": 3}"#)]);
    check(GLM, "<tool_call>now</tool_call>", "", "", &[("now", "{}")]);
    let bare = r#"{"name": "weather", "parameters": {"city": "Paris"}}"#;
    check(LLAMA, bare, "", "", &[PARIS]);
    check(LLAMA, &format!("<|python_tag|>{bare}"), "", "", &[PARIS]);
    check(LLAMA, &format!("{bare}; {bare}"), "", "", &[PARIS, PARIS]);
    check(MISTRAL, &format!("[TOOL_CALLS][{call}, {call}]"), "", "", &[PARIS, PARIS]);
    let with_id = r#"[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}]"#;
    check(MISTRAL, with_id, "", "", &[PARIS]);
    let new = r#"[TOOL_CALLS]weather[ARGS]{"city": "Paris"}"#;
    check(MISTRAL, &format!("{new}{new}"), "", "", &[PARIS, PARIS]);
    check(MISTRAL, r#"[TOOL_CALLS]weather[CALL_ID]x[ARGS]{"city": "Paris"}"#, "", "", &[PARIS]);
    check(MISTRAL, "[THINK]hm[/THINK]yes", "hm", "yes", &[]);
    let old = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": \"Paris\"}\n\
               ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(DEEPSEEK, old, "", "", &[PARIS]);
    let new = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"city\": \"Paris\"}<｜tool▁call▁end｜>\
               <｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>";
    check(DEEPSEEK, new, "", "", &[PARIS, ("now", "{}")]);
    let kimi = "sure<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0<|tool_call_argument_begin|>\
                {\"city\": \"Paris\"}<|tool_call_end|><|tool_calls_section_end|>";
    check(KIMI, kimi, "", "sure", &[PARIS]);
    let harmony = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.weather \
                   <|constrain|>json<|message|>{\"city\": \"Paris\"}<|call|>";
    check(GPT, harmony, "hm", "", &[PARIS]);
    let recipient = " to=functions.weather<|channel|>commentary json<|message|>{\"city\": \"Paris\"}";
    check(GPT, recipient, "", "", &[PARIS]);
    check(
        GPT,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>yes",
        "hm",
        "yes",
        &[],
    );
    check(GPT, "plain words", "", "plain words", &[]);
    let two = r#"<|tool_call_start|>[weather(city="Paris"), now()]<|tool_call_end|>Checking."#;
    check(LFM, two, "", "Checking.", &[PARIS, ("now", "{}")]);
    check(GRANITE, &format!("<|tool_call|>[{call}]"), "", "", &[PARIS]);
    check(PHI, &format!("<|tool_call|>[{call}]<|/tool_call|>"), "", "", &[PARIS]);
    check(PHI, &format!("functools[{call}]"), "", "", &[PARIS]);
    let action = "<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n{\"tool_call_id\": \"0\", \"tool_name\": \
                  \"weather\", \"parameters\": {\"city\": \"Paris\"}}\n]<|END_ACTION|>";
    check(COMMAND, action, "hm", "", &[PARIS]);
    let response = "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|>yes<|END_RESPONSE|>";
    check(COMMAND, response, "hm", "yes", &[]);
    check(GEMMA, "```tool_code\nweather(city=\"Paris\")\n```", "", "", &[PARIS]);
}

#[test]
fn calls_in_braces_are_read() {
    let one = "<|tool_call>call:weather{city:<|\"|>Paris<|\"|>}<tool_call|>";
    check(GEMMA_4, one, "", "", &[PARIS]);
    let both = (PARIS.0, r#"{"city": "Paris", "days": 3}"#);
    let two = "<|tool_call>call:weather{city:<|\"|>Paris<|\"|>,days:3}<tool_call|><|tool_call>call:now{}<tool_call|>";
    check(GEMMA_4, two, "", "", &[both, ("now", "{}")]);
    check(GEMMA_4, &format!("<|channel>thought\nhm\n<channel|>Let me look.\n{one}"), "hm", "Let me look.", &[PARIS]);
    check(GEMMA_4, "<|channel>thought\n<channel|>yes", "", "yes", &[]);
    check(GEMMA_4, &format!("{one}<|tool_response>"), "", "", &[PARIS]);
    let deep =
        "<|tool_call>call:now{a:[<|\"|>x, {y}<|\"|>,-1.5,true],b:{c:null,<|\"|>d e<|\"|>:[]},f: word}<tool_call|>";
    check(
        GEMMA_4,
        deep,
        "",
        "",
        &[("now", r#"{"a": ["x, {y}", -1.5, true], "b": {"c": null, "d e": []}, "f": "word"}"#)],
    );
    // Texts that stand there bare, or as JSON.
    check(
        GEMMA_4,
        "<|tool_call>call:weather{city:42,days:None}<tool_call|>",
        "",
        "",
        &[(PARIS.0, r#"{"city": "42", "days": null}"#)],
    );
    check(GEMMA_4, "<|tool_call>call:weather{\"city\": \"Paris\"}<tool_call|>", "", "", &[PARIS]);
    let one = "<start_function_call>call:weather{city:<escape>Paris<escape>}<end_function_call>";
    check(FUNCTION_GEMMA, one, "", "", &[PARIS]);
    check(FUNCTION_GEMMA, &format!("{one}{one}<start_function_response>"), "", "", &[PARIS, PARIS]);
}

#[test]
fn sections_of_tags_are_read() {
    let invoke = "<invoke name=\"weather\">\n<parameter name=\"city\">Paris</parameter>\n</invoke>";
    let now = "<invoke name=\"now\">\n</invoke>";
    let section = |calls: &str| format!("<minimax:tool_call>\n{calls}\n</minimax:tool_call>");
    check(MINIMAX, &section(invoke), "", "", &[PARIS]);
    check(MINIMAX, &section(&format!("{invoke}\n{now}")), "", "", &[PARIS, ("now", "{}")]);
    check(MINIMAX, &format!("<think>\nhm\n</think>\n\nsure\n{}", section(now)), "hm", "sure", &[("now", "{}")]);
    let days = "<invoke name=\"weather\">\n<parameter name=\"city\">7</parameter>\n<parameter name=\"days\">3</parameter></invoke>";
    check(MINIMAX, &section(days), "", "", &[("weather", r#"{"city": "7", "days": 3}"#)]);
}

#[test]
fn recipients_are_told_apart() {
    check(FUNCTIONARY, "all\nHello >>> there", "", "Hello >>> there", &[]);
    check(FUNCTIONARY, "weather\n{\"city\": \"Paris\"}", "", "", &[PARIS]);
    check(
        FUNCTIONARY,
        ">>>all\nLook:\n>>>weather\n{\"city\": \"Paris\"}>>>now\n{}",
        "",
        "Look:",
        &[PARIS, ("now", "{}")],
    );
    check(FUNCTIONARY, "weather\n{\"city\": \"Paris\"}\n>>>all\nThat was it.", "", "That was it.", &[PARIS]);
    check(FUNCTIONARY, "allow me\nplease", "", "allow me\nplease", &[]);
    check(FUNCTIONARY, "plain words", "", "plain words", &[]);
    let function = "<function=weather>{\"city\": \"Paris\"}</function>";
    check(FUNCTIONARY_31, &format!("{function}<function=now>{{}}</function>"), "", "", &[PARIS, ("now", "{}")]);
    check(FUNCTIONARY_31, &format!("Look: {function}"), "", "Look:", &[PARIS]);
}

#[test]
fn what_is_no_call_stays_text_and_says_why() {
    for (words, text, why) in [
        (HERMES, "<tool_call>\nnonsense\n</tool_call>", Some("no object")),
        (HERMES, r#"<tool_call>{"name": "fly", "arguments": {}}</tool_call>"#, Some("`fly`")),
        (HERMES, r#"<tool_call>{"name": "weather", "argum"#, Some("ended")),
        (HERMES, r#"<tool_call>{"city": "Paris"}</tool_call>"#, Some("names no tool")),
        (HERMES, "<tool_call>", Some("ended where a call began")),
        (HERMES, r#"<tool_call>{"name": "weather", "arguments": 7}</tool_call>"#, Some("no object")),
        (CODER, "<tool_call>\nfly to Paris\n</tool_call>", Some("doesn't begin with")),
        (LLAMA, r#"{"city": "Paris"}"#, None),
        (LLAMA, r#"{"name": "Eve", "parameters": {}}"#, None),
        (LLAMA, "{x} is a set", None),
        (MISTRAL, "[TOOL_CALLS]weather, please", Some("before the arguments")),
        (LFM, "<|tool_call_start|>[weather(Paris)]<|tool_call_end|>", Some("function's")),
        (GPT, "<|channel|>final<|message|>a < b", None),
        (GEMMA_4, "<|tool_call>weather{}<tool_call|>", Some("call:")),
        (GEMMA_4, "<|tool_call>call:fly{}<tool_call|>", Some("`fly`")),
        (MINIMAX, "<minimax:tool_call>\nnonsense", Some("doesn't begin")),
        (FUNCTIONARY, "fly\n{}", None),
        (FUNCTIONARY_31, "<function=fly>{}</function>", Some("`fly`")),
    ] {
        let pieces = whole(parser(words, false), text);
        let fold = fold(&pieces);
        assert!(fold.calls.is_empty(), "{text}: {fold:?}");
        assert_eq!(raw(&pieces), text);
        match why {
            Some(why) => {
                assert!(fold.errors.iter().any(|error| error.contains(why)), "{text}: {fold:?}");
                assert!(text.starts_with(&fold.text[..fold.text.len().min(11)]), "{text}: {fold:?}");
            }
            None => assert_eq!(fold.errors, Vec::<String>::new(), "{text}"),
        }
    }
}

#[test]
fn arguments_that_break_off_are_told_of() {
    let text = r#"<tool_call>{"name": "weather", "arguments": {"city": oops}}</tool_call>"#;
    let fold = fold(&whole(parser(HERMES, false), text));
    assert_eq!(fold.calls, [("weather".to_owned(), r#"{"city": "#.to_owned())]);
    assert_eq!(fold.errors.len(), 1);
    assert!(fold.text.starts_with("oops"), "{fold:?}");
}

#[test]
fn a_line_break_within_a_text_is_escaped() {
    let text = "<tool_call>{\"name\": \"weather\", \"arguments\": {\"city\": \"New\nYork\"}}</tool_call>";
    check(HERMES, text, "", "", &[("weather", "{\"city\": \"New\\nYork\"}")]);
}

#[test]
fn arguments_stream_as_they_come() {
    let mut parser = parser(HERMES, false);
    assert!(fold(&parser.push(r#"<tool_call>{"name": "wea"#)).calls.is_empty());
    let begun = fold(&parser.push(r#"ther", "arguments": {"ci"#));
    assert_eq!(begun.calls, [("weather".to_owned(), r#"{"ci"#.to_owned())]);
    assert_eq!(parser.push("ty"), [Piece::Arguments("ty".into())]);
}

#[test]
fn a_thought_that_the_prompt_has_opened_goes_on() {
    let pieces = whole(parser(HERMES, true), "\nhm hm\n</think>\n\nyes");
    let expected = Fold { thought: "hm hm".into(), text: "yes".into(), ..Fold::default() };
    assert_eq!(fold(&pieces), expected);
    let again = whole(parser(HERMES, true), "<think>\nhm</think>yes");
    assert_eq!(fold(&again), Fold { thought: "hm".into(), text: "yes".into(), ..Fold::default() });
    let endless = whole(parser(HERMES, true), "hm hm");
    assert_eq!(fold(&endless).thought, "hm hm");
}

#[test]
fn a_thought_is_one_only_where_an_answer_begins() {
    check(HERMES, "The mark <think> opens it.", "", "The mark <think> opens it.", &[]);
}

#[test]
fn without_tools_a_call_is_text() {
    let text = r#"Write <tool_call>{"name": "weather"}</tool_call> there."#;
    let pieces = whole(Parser::new(style(HERMES), &[], false), text);
    assert_eq!(fold(&pieces), Fold { text: text.into(), ..Fold::default() });
}

#[test]
fn a_forced_answer_is_a_call_or_says_why_not() {
    let tools = tools();
    let tools: Vec<&Tool> = tools.iter().collect();
    for words in FAMILIES {
        let named = Parser::forced(style(words), &tools, false, Some("weather"));
        let named = fold(&whole(named, r#"{"city": "Paris"}"#));
        assert_eq!(named.calls, [("weather".to_owned(), r#"{"city": "Paris"}"#.to_owned())], "{words}");
        assert_eq!((named.text.as_str(), named.errors.len()), ("", 0));
        let any = Parser::forced(style(words), &tools, false, None);
        let any = fold(&whole(any, r#"{"name": "now", "arguments": {}}"#));
        assert_eq!(any.calls, [("now".to_owned(), "{}".to_owned())], "{words}");
        let wrong = Parser::forced(style(words), &tools, false, None);
        let wrong = fold(&whole(wrong, "no"));
        assert_eq!((wrong.text.as_str(), wrong.errors.len()), ("no", 1), "{words}");
    }
}

/// What models of all families may say, whole and in parts.
fn said() -> impl Strategy<Value = String> {
    let marks = [
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "\n",
        " ",
        "{",
        "}",
        "[",
        "]",
        "{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}",
        "{\"name\": \"now\", \"parameters\": ",
        "\"name\": \"weather\"",
        "<function=weather>",
        "<parameter=city>",
        "</parameter>",
        "</function>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
        "weather",
        "[TOOL_CALLS]",
        "[ARGS]",
        "[THINK]",
        "[/THINK]",
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "functions.weather:0",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|channel|>",
        "analysis",
        "final",
        "commentary to=functions.weather ",
        "<|message|>",
        "<|end|>",
        "<|start|>",
        "assistant",
        "<|call|>",
        "<|tool_call_start|>",
        "<|tool_call|>",
        "[weather(city=\"Paris\")]",
        "<|python_tag|>",
        "<|START_ACTION|>",
        "<|END_ACTION|>",
        "<|START_RESPONSE|>",
        "<|END_RESPONSE|>",
        "<|START_THINKING|>",
        "<|END_THINKING|>",
        "```tool_code",
        "```",
        "<|tool_call>",
        "<tool_call|>",
        "<start_function_call>",
        "<end_function_call>",
        "<|\"|>",
        "<escape>",
        "call:weather{",
        "city:",
        "<minimax:tool_call>",
        "</minimax:tool_call>",
        "<invoke name=\"weather\">",
        "</invoke>",
        "<parameter name=\"city\">",
        ">>>",
        "all\n",
        "weather\n",
        "</function>",
        "<|channel>thought",
        "<channel|>",
        ",",
        ";",
    ];
    let part = prop_oneof![
        6 => prop::sample::select(marks.to_vec()).prop_map(str::to_owned),
        1 => (prop::sample::select(marks.to_vec()), 0..8_usize).prop_map(|(mark, count)| mark.chars().take(count).collect()),
        2 => "[a-zé \"\\\\:.1]{0,6}",
    ];
    prop::collection::vec(part, 0..14).prop_map(|parts| parts.concat())
}

/// Whole answers of the families, to be damaged.
const ANSWERS: &[(&str, &str)] = &[
    (
        HERMES,
        "<think>\nhm\n</think>\n\nLook:\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"P\"}}\n</tool_call>",
    ),
    (
        HERMES,
        r#"<tool_call>{"arguments": {"a": [1, {}]}, "id": 7, "name": "now"}</tool_call><tool_call>{"name": "now"}"#,
    ),
    (
        CODER,
        "<tool_call>\n<function=weather>\n<parameter=city>\nP\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>\nx",
    ),
    (
        GLM,
        "a<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>4</arg_value>\n</tool_call>\n<tool_call>now</tool_call>",
    ),
    (LLAMA, r#"{"name": "weather", "parameters": {"city": "P"}}; {"name": "now", "parameters": {}}"#),
    (LLAMA, r#"<|python_tag|>{"type": "function", "name": "now", "parameters": null} done"#),
    (MISTRAL, r#"x [TOOL_CALLS] [{"name": "weather", "arguments": {"city": "P"}, "id": "a"}, {"name": "now"}]"#),
    (MISTRAL, r#"[THINK]hm[/THINK][TOOL_CALLS]weather[CALL_ID]x[ARGS]{"city": "P"}[TOOL_CALLS]now[ARGS]{}"#),
    (
        DEEPSEEK,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    (
        KIMI,
        "a<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{\"a\": \"b\"}<|tool_call_end|><|tool_calls_section_end|>",
    ),
    (
        GPT,
        "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.now <|constrain|>json<|message|>{\"a\": 1}<|call|>",
    ),
    (
        GPT,
        " to=functions.weather<|channel|>commentary json<|message|>{}<|call|><|start|>assistant<|channel|>final<|message|>x<|return|>",
    ),
    (LFM, r#"<|tool_call_start|>[weather(city="P", days=[1, 'a']), now()]<|tool_call_end|>b"#),
    (GRANITE, r#"<|tool_call|>[{"name": "weather", "arguments": {"city": "P"}}]"#),
    (PHI, r#"functools[{"name": "now", "arguments": {}}]"#),
    (
        COMMAND,
        "<|START_THINKING|>hm<|END_THINKING|><|START_ACTION|>[\n{\"tool_call_id\": \"0\", \"tool_name\": \"now\", \"parameters\": {}}\n]<|END_ACTION|>",
    ),
    (COMMAND, "<|START_THINKING|>hm<|END_THINKING|><|START_RESPONSE|> yes <|END_RESPONSE|>"),
    (GEMMA, "```tool_code\nweather(city=\"P\")\n``` and ```json\n[{\"name\": \"now\"}]\n```"),
    (
        GEMMA_4,
        "<|channel>thought\nhm<channel|>x<|tool_call>call:weather{city:<|\"|>P<|\"|>,days:[1,{a:true}]}<tool_call|><|tool_call>call:now{}<tool_call|>",
    ),
    (FUNCTION_GEMMA, "<start_function_call>call:weather{city:<escape>P<escape>,days:3}<end_function_call>"),
    (
        MINIMAX,
        "a\n<minimax:tool_call>\n<invoke name=\"weather\">\n<parameter name=\"city\">P</parameter>\n</invoke>\n<invoke name=\"now\"></invoke>\n</minimax:tool_call>",
    ),
    (FUNCTIONARY, "all\nx >>> y\n>>>weather\n{\"city\": \"P\"}\n>>>now\n{}>>>all\nz"),
    (FUNCTIONARY_31, "a <function=weather>{\"city\": \"P\"}</function> b <function=now>{}</function>"),
];

/// A family and what a model of it may say.
fn spoken() -> impl Strategy<Value = (&'static str, String)> {
    let damaged = (prop::sample::select(ANSWERS), 0..120_usize, 0..120_usize, 0..4_u8, "[ {}\"<>a\\n,]").prop_map(
        |((words, answer), from, to, how, extra)| {
            let chars: Vec<char> = answer.chars().collect();
            let (from, to) = (from.min(chars.len()), to.min(chars.len()));
            let text = |chars: &[char]| chars.iter().collect::<String>();
            let said = match how {
                0 => answer.to_owned(),
                1 => text(&chars[..from]),
                2 => text(&chars[..from]) + &extra + &text(&chars[from..]),
                _ => text(&chars[..from.min(to)]) + &text(&chars[from.max(to)..]),
            };
            (words, said)
        },
    );
    prop_oneof![(prop::sample::select(FAMILIES.to_vec()), said()), damaged]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn nothing_is_lost_and_cuts_make_no_difference(
        (words, text) in spoken(),
        in_thought in any::<bool>(),
        forced in 0..3_u8,
        cuts in prop::collection::vec(0..6_usize, 0..64),
    ) {
        let in_thought = in_thought && style(words).think.is_some();
        let tools = tools();
        let parser = || {
            let tools: Vec<&Tool> = tools.iter().collect();
            match forced {
                0 => Parser::forced(style(words), &tools, in_thought, None),
                1 => Parser::forced(style(words), &tools, false, Some("weather")),
                _ => Parser::new(style(words), &tools, in_thought),
            }
        };
        let pieces = whole(parser(), &text);
        prop_assert_eq!(raw(&pieces), text.clone());
        let mut cut = parser();
        let mut parts = Vec::new();
        let mut rest = text.chars();
        for size in cuts {
            let part: String = rest.by_ref().take(size).collect();
            parts.extend(cut.push(&part));
        }
        parts.extend(cut.push(rest.as_str()));
        parts.extend(cut.finish());
        prop_assert_eq!(raw(&parts), text.clone());
        prop_assert_eq!(fold(&parts), fold(&pieces));
        let singly = in_chars(parser(), &text);
        prop_assert_eq!(fold(&singly), fold(&pieces));
    }

    #[test]
    fn every_call_s_arguments_are_an_object_or_an_error_is_told((words, text) in spoken()) {
        let fold = fold(&whole(parser(words, false), &text));
        let whole = |text: &String| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
        let broken = fold.calls.iter().filter(|(_, arguments)| !whole(arguments)).count();
        prop_assert!(broken <= fold.errors.len(), "{:?}", fold);
    }
}

#[test]
fn a_text_is_no_arguments() {
    let words = FAMILIES.into_iter().find(|words| words.contains(">>>all")).expect("a family with recipients");
    for (said, arguments) in [("\": \"P\"}", "\": \""), ("[1, 2]", "[1, 2]"), ("\"{}\"", "\"{}\"")] {
        let fold = fold(&whole(parser(words, false), &format!(">>>weather\n{said}\n>>>now\n{{}}>>>all\nz")));
        assert_eq!(fold.calls[0], ("weather".to_owned(), arguments.to_owned()));
        assert_eq!(fold.errors.len(), 1, "{fold:?}");
    }
}
