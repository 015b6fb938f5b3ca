//! One row per field: what it becomes, or how it is refused.

use super::*;
use base::{Thinking, ToolCall, ToolChoice};
use serde_json::json;

fn call(extra: Value) -> Result<ChatCall, Refusal> {
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}]});
    let object = body.as_object_mut().expect("object");
    object.extend(extra.as_object().expect("object").clone());
    ChatCall::try_from(ChatBody { headers: HeaderMap::new(), object: object.clone() })
}

fn sampled(extra: Value) -> Sampling {
    call(extra).expect("accepted").ask.sampling
}

#[test]
fn what_is_left_out_or_null_takes_the_default() {
    assert_eq!(sampled(json!({})), Sampling::default());
    let nulls = json!({
        "temperature": null, "top_p": null, "seed": null, "stop": null, "max_tokens": null, "n": null, "stream": null,
        "stream_options": null, "logit_bias": null, "tools": null, "tool_choice": null, "response_format": null,
        "logprobs": null, "top_logprobs": null, "modalities": null, "user": null,
    });
    let call = call(nulls).expect("accepted");
    assert_eq!(call.ask.sampling, Sampling::default());
    assert!(!call.stream && !call.include_usage && call.ask.stop.is_empty());
}

#[test]
fn every_sampling_parameter_arrives() {
    let sampling = sampled(json!({
        "temperature": 0, "top_k": 7, "top_p": 0.5, "min_p": 0.1, "typical_p": 0.9, "repeat_penalty": 1.2,
        "repeat_last_n": 32, "presence_penalty": -1, "frequency_penalty": 1.5, "seed": 42, "logit_bias": {"9": -100, "10": 5.5},
    }));
    let expected = Sampling {
        temperature: 0.0,
        top_k: 7,
        top_p: 0.5,
        min_p: 0.1,
        typical_p: 0.9,
        repeat_penalty: 1.2,
        penalty_last_n: 32,
        presence_penalty: -1.0,
        frequency_penalty: 1.5,
        seed: Some(42),
        logit_bias: sampling.logit_bias.clone(),
    };
    assert_eq!(sampling, expected);
    let mut bias = sampling.logit_bias;
    bias.sort_by_key(|(token, _)| *token);
    assert_eq!(bias, vec![(9, -100.0), (10, 5.5)]);
}

#[test]
fn drafts_can_be_refused() {
    let drafts = |extra| call(extra).map(|call| call.ask.drafts);
    assert!(drafts(json!({})).expect("valid") && drafts(json!({"drafts": true})).expect("valid"));
    assert!(!drafts(json!({"drafts": false})).expect("valid"));
    assert!(drafts(json!({"drafts": "no"})).is_err());
}

#[test]
fn the_spellings_of_other_clients_are_understood() {
    assert_eq!(sampled(json!({"top_k": -1})).top_k, 0);
    assert_eq!(sampled(json!({"top_k": 40.0})).top_k, 40);
    assert_eq!(sampled(json!({"repetition_penalty": 1.1})).repeat_penalty, 1.1);
    assert_eq!(sampled(json!({"seed": -1})).seed, None);
    assert_eq!(sampled(json!({"seed": 4_294_967_295_u32})).seed, Some(u32::MAX));
    assert!(sampled(json!({"seed": i64::MAX})).seed.is_some());
    for (extra, tokens_max) in [
        (json!({"max_tokens": 5}), Some(5)),
        (json!({"max_tokens": 5, "max_completion_tokens": 6}), Some(6)),
        (json!({"max_tokens": -1}), None),
    ] {
        assert_eq!(call(extra.clone()).expect("accepted").ask.limits.tokens_max, tokens_max, "{extra}");
    }
    for (stop, strings) in [(json!("a"), vec!["a"]), (json!(["a", "b"]), vec!["a", "b"]), (json!([]), vec![])] {
        assert_eq!(call(json!({"stop": stop})).expect("accepted").ask.stop, strings);
    }
    let call = call(json!({"stream": true, "stream_options": {"include_usage": true, "include_obfuscation": true}}));
    let call = call.expect("accepted");
    assert!(call.stream && call.include_usage);
}

fn tool_call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

fn result(id: &str, name: &str, content: &str) -> Message {
    Message { call_id: id.into(), name: name.into(), ..Message::new(Role::Tool, content) }
}

#[test]
fn tools_and_choices_of_every_form_are_read() {
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = json!([
        {"type": "function", "function": {
            "name": "f", "description": "does f", "strict": true,
            "parameters": {"type": "object", "properties": {"z": {}, "a": {}}},
        }},
        function("g"),
    ]);
    let read = |choice: Value| {
        let asked = call(json!({"tools": tools, "tool_choice": choice, "parallel_tool_calls": false}));
        asked.expect("accepted").ask.toolbox
    };
    let toolbox = read(json!("auto"));
    assert_eq!((toolbox.tools[0].name.as_str(), toolbox.tools[0].description.as_str()), ("f", "does f"));
    let parameters = r#"{"type":"object","properties":{"z":{},"a":{}}}"#;
    assert_eq!(toolbox.tools[0].parameters, parameters, "in their order");
    assert!(!toolbox.parallel);
    for (choice, expected, allowed) in [
        (json!("none"), ToolChoice::None, vec![]),
        (json!(null), ToolChoice::Auto, vec![]),
        (json!("required"), ToolChoice::Required, vec![]),
        (json!("any"), ToolChoice::Required, vec![]),
        (function("g"), ToolChoice::Named("g".into()), vec![]),
        (json!({"type": "function", "name": "g"}), ToolChoice::Named("g".into()), vec![]),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("g")]}}),
            ToolChoice::Required,
            vec!["g".to_owned()],
        ),
        (json!({"type": "allowed_tools", "tools": [{"name": "f"}]}), ToolChoice::Auto, vec!["f".to_owned()]),
    ] {
        let toolbox = read(choice.clone());
        assert_eq!((toolbox.choice, toolbox.allowed), (expected, allowed), "{choice}");
    }
}

#[test]
fn how_to_think_is_read_by_the_names_that_others_use() {
    let read = |extra: Value| call(extra).expect("accepted").ask.thinking;
    for (extra, enabled, budget, kwargs) in [
        (json!({}), None, None, ""),
        (json!({"enable_thinking": false}), Some(false), None, ""),
        (
            json!({"chat_template_kwargs": {"enable_thinking": true, "x": [1]}}),
            Some(true),
            None,
            r#"{"enable_thinking":true,"x":[1]}"#,
        ),
        (json!({"reasoning_effort": "none"}), Some(false), None, ""),
        (json!({"reasoning_effort": "high"}), Some(true), None, r#"{"reasoning_effort":"high"}"#),
        (json!({"reasoning_effort": "minimal"}), Some(false), None, r#"{"reasoning_effort":"low"}"#),
        (json!({"thinking_budget_tokens": 64}), None, Some(64), ""),
    ] {
        let thinking = read(extra.clone());
        let expected = Thinking { enabled, budget_tokens: budget, template_kwargs: kwargs.into() };
        assert_eq!(thinking, expected, "{extra}");
    }
}

#[test]
fn messages_of_every_role_and_form_are_read() {
    let body = json!({"messages": [
        {"role": "developer", "content": "be brief", "name": "x"},
        {"role": "system", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "kind"}]},
        {"role": "assistant", "content": null, "refusal": null, "reasoning_content": "hm", "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "add", "arguments": "{\"a\": 1}"}},
            {"id": "2", "type": "function", "function": {"name": "now", "arguments": {}}},
        ]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "noon"}]},
        {"role": "assistant", "content": "", "function_call": {"name": "old", "arguments": ""}},
        {"role": "function", "name": "old", "content": "done"},
        {"role": "user", "content": ""},
    ]});
    let object = body.as_object().expect("object").clone();
    let call = ChatCall::try_from(ChatBody { headers: HeaderMap::new(), object }).expect("accepted");
    let expected = [
        Message::new(Role::System, "be brief"),
        Message::new(Role::System, "be kind"),
        Message {
            reasoning: "hm".into(),
            calls: vec![tool_call("1", "add", "{\"a\": 1}"), tool_call("2", "now", "{}")],
            ..Message::new(Role::Assistant, "")
        },
        result("1", "add", "42"),
        result("2", "now", "noon"),
        Message { calls: vec![tool_call("function_call_5", "old", "{}")], ..Message::new(Role::Assistant, "") },
        result("function_call_5", "old", "done"),
        Message::new(Role::User, ""),
    ];
    assert_eq!(call.ask.messages, expected);
}

#[test]
fn what_asks_for_nothing_passes() {
    for extra in [
        json!({"tools": [], "tool_choice": "auto", "parallel_tool_calls": true}),
        json!({"functions": [], "function_call": "auto"}),
        json!({"response_format": {"type": "text"}}),
        json!({"logprobs": false, "top_logprobs": 0, "n": 1, "modalities": ["text"]}),
        json!({"user": "me", "store": true, "metadata": {}, "reasoning_effort": "low", "service_tier": "auto", "unheard_of": [1]}),
        json!({"grammar": "", "json_schema": {}}),
    ] {
        assert!(call(extra.clone()).is_ok(), "{extra}");
    }
}

#[test]
fn a_constraint_that_cannot_be_kept_is_refused_by_name() {
    for (extra, param) in [
        (json!({"n": 2}), "n"),
        (json!({"n": 0}), "n"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tool_choice": {"type": "allowed_tools", "tools": []}}), "tool_choice.tools"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "tools[0].function.name"),
        (json!({"functions": [{"name": "f"}]}), "functions"),
        (json!({"function_call": {"name": "f"}}), "function_call"),
        (json!({"reasoning_effort": "huge"}), "reasoning_effort"),
        (json!({"chat_template_kwargs": {"messages": []}}), "chat_template_kwargs.messages"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (json!({"modalities": ["text", "audio"]}), "modalities"),
        (json!({"grammar": "root ::= x"}), "grammar"),
    ] {
        let refusal = call(extra.clone()).expect_err(param);
        assert_eq!(refusal.fault.code, Code::InvalidAsk, "{extra}");
        assert_eq!(refusal.param.as_deref(), Some(param), "{extra}");
        assert!(!refusal.fault.hints.is_empty(), "{extra}");
    }
}

#[test]
fn a_wrong_field_is_named_with_its_place_and_what_it_holds() {
    for (extra, param, words) in [
        (json!({"temperature": "hot"}), "temperature", "is a string"),
        (json!({"temperature": 9}), "temperature", "is 9"),
        (json!({"top_k": 1.5}), "top_k", "is a number"),
        (json!({"top_k": -7}), "top_k", "is -7"),
        (json!({"max_tokens": 0}), "max_tokens", "is 0"),
        (json!({"max_tokens": 99_999_999_999_u64}), "max_tokens", "99999999999"),
        (json!({"stop": 3}), "stop", "is a number"),
        (json!({"stop": ["a", null]}), "stop[1]", "is null"),
        (json!({"stream": "yes"}), "stream", "is a string"),
        (json!({"stream_options": []}), "stream_options", "is an array"),
        (json!({"logit_bias": {"foo": 0}}), "logit_bias", "foo"),
        (json!({"logit_bias": {"1": "x"}}), "logit_bias.1", "is a string"),
        (json!({"model": 5}), "model", "is a number"),
        (json!({"messages": null}), "messages", "is missing"),
        (json!({"messages": []}), "messages", "is empty"),
        (json!({"messages": "hello"}), "messages", "is a string"),
        (json!({"messages": ["hello"]}), "messages[0]", "is a string"),
        (json!({"messages": [{"content": "x"}]}), "messages[0].role", "is missing"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role", "robot"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content", "is missing"),
        (json!({"messages": [{"role": "user", "content": 5}]}), "messages[0].content", "is a number"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}]}),
            "messages[0].content[1].type",
            "image_url",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}),
            "messages[0].content[0].text",
            "is missing",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": null, "tool_calls": [{"id": "1"}]}]}),
            "messages[0].tool_calls[0].function",
            "is missing",
        ),
        (
            json!({"messages": [{"role": "tool", "tool_call_id": "7", "content": "x"}]}),
            "messages[0].tool_call_id",
            "never called",
        ),
    ] {
        let refusal = call(extra.clone()).expect_err(param);
        assert_eq!(refusal.param.as_deref(), Some(param), "{extra}: {}", refusal.fault.message);
        assert!(refusal.fault.message.contains(words), "{extra}: {}", refusal.fault.message);
    }
}

#[test]
fn a_caller_says_that_it_can_wait_and_who_it_is() {
    for (extra, expected) in [
        (json!({}), Priority::Interactive),
        (json!({"priority": "interactive", "service_tier": "flex"}), Priority::Interactive),
        (json!({"priority": "batch"}), Priority::Batch),
        (json!({"priority": 1}), Priority::Batch),
        (json!({"priority": 0}), Priority::Interactive),
        (json!({"priority": -3}), Priority::Interactive),
        (json!({"service_tier": "flex"}), Priority::Batch),
        (json!({"service_tier": "auto"}), Priority::Interactive),
    ] {
        assert_eq!(call(extra.clone()).expect("accepted").ask.priority, expected, "{extra}");
    }
    for extra in [json!({"priority": "urgent"}), json!({"priority": 1.5}), json!({"priority": ["batch"]})] {
        let fault = call(extra.clone()).expect_err("not a priority").fault;
        assert!(fault.message.contains("priority"), "{extra}: {fault}");
    }
    let named = call(json!({"user": "u-7"})).expect("accepted");
    assert_eq!(named.ask.app.0, "u-7");
    assert_eq!(call(json!({"user": 7})).expect("accepted").ask.app.0, "openai-api");
}
