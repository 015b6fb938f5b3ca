//! Tools and thoughts: what a client gets over HTTP when a model calls, thinks, or does either badly.

use crate::home::{Home, until_line};
use crate::http::{events, post};
use serde_json::{Value, json};
use testkit::{Script, Step, TestModel, WireFinish};

const CHAT: &str = "/v1/chat/completions";

/// A template that shows tools and thoughts in the manner of Qwen's.
const TEMPLATE: &str = "{%- if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}\
    <|im_end|>\n{% endif %}\
    {%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}\
    {%- for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n\
    {%- endfor %}<|im_start|>assistant\n\
    {%- if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}";

fn text(words: &str) -> Step {
    Step::Text(words.into())
}

fn tools() -> Value {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    json!([
        {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": parameters}},
        {"type": "function", "function": {"name": "now"}},
    ])
}

fn asked(words: &str, extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": words}], "tools": tools()});
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    body
}

fn started(script: &Script) -> (Home, u16) {
    let home = Home::new();
    home.model(&TestModel::templated(&home.folder("models"), "small", script, TEMPLATE));
    let port = home.port();
    (home, port)
}

fn choice(port: u16, body: &Value) -> Value {
    let reply = post(port, CHAT, body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut choice = reply.json()["choices"][0].clone();
    choice["notices"] = reply.json()["freehold"]["notices"].clone();
    choice
}

/// The same answer, put together from its stream.
fn streamed(port: u16, body: &Value) -> Value {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let reply = post(port, CHAT, &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let (mut content, mut reasoning, mut calls, mut finish) = (String::new(), String::new(), Vec::new(), Value::Null);
    for event in events(&reply.text()) {
        let delta = &event["choices"][0]["delta"];
        content.push_str(delta["content"].as_str().unwrap_or_default());
        reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        assert_eq!(delta["reasoning"], delta["reasoning_content"]);
        for piece in delta["tool_calls"].as_array().into_iter().flatten() {
            let index = piece["index"].as_u64().expect("an index on every piece");
            let arguments = piece["function"]["arguments"].as_str().expect("arguments on every piece");
            if let Some(id) = piece["id"].as_str() {
                assert_eq!((index as usize, &piece["type"]), (calls.len(), &json!("function")));
                calls.push((id.to_owned(), piece["function"]["name"].clone(), arguments.to_owned()));
            } else {
                assert!(piece.get("type").is_none() && piece["function"].get("name").is_none(), "{piece}");
                calls[index as usize].2.push_str(arguments);
            }
        }
        if !event["choices"][0]["finish_reason"].is_null() {
            finish = event["choices"][0]["finish_reason"].clone();
        }
    }
    json!({"content": content, "reasoning": reasoning, "calls": calls, "finish_reason": finish})
}

/// Both ways of asking say the same; what they say is returned.
#[track_caller]
fn both(port: u16, body: &Value) -> Value {
    let whole = choice(port, body);
    let stream = streamed(port, body);
    let message = &whole["message"];
    assert_eq!(message["content"].as_str().unwrap_or_default(), stream["content"]);
    assert_eq!(message["reasoning_content"].as_str().unwrap_or_default(), stream["reasoning"]);
    let parts = |call: &Value| json!([call["function"]["name"], call["function"]["arguments"]]);
    let calls: Vec<Value> = message["tool_calls"].as_array().into_iter().flatten().map(parts).collect();
    let pieces = stream["calls"].as_array().expect("calls").iter();
    assert_eq!(calls, pieces.map(|call| json!([call[1], call[2]])).collect::<Vec<_>>());
    assert_eq!(whole["finish_reason"], stream["finish_reason"]);
    whole
}

#[test]
fn calls_come_in_pieces_and_as_a_whole_alike() {
    let script = Script::default().on(
        "weather?",
        vec![
            text("Let me look.\n\n<tool_call>\n{\"name\": \"wea"),
            text("ther\", \"arguments\": {\"city\": \"Pa"),
            text("ris\"}}\n</tool_"),
            text("call>\n<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>"),
        ],
    );
    let (_home, port) = started(&script);
    let said = both(port, &asked("weather?", json!({})));
    assert_eq!((&said["message"]["content"], &said["finish_reason"]), (&json!("Let me look."), &json!("tool_calls")));
    let calls = said["message"]["tool_calls"].as_array().expect("calls");
    let expected = [("weather", "{\"city\": \"Paris\"}"), ("now", "{}")];
    for (call, (name, arguments)) in calls.iter().zip(expected) {
        assert_eq!(call["function"], json!({"name": name, "arguments": arguments}));
        assert_eq!((call["id"].as_str().map(str::len), &call["type"]), (Some(9), &json!("function")));
    }
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    // Only one, and only where it is allowed at all.
    let one = both(port, &asked("weather?", json!({"parallel_tool_calls": false})));
    assert_eq!(one["message"]["tool_calls"].as_array().map(Vec::len), Some(1));
    let none = both(port, &asked("weather?", json!({"tool_choice": "none"})));
    assert!(none["message"].get("tool_calls").is_none() && none["finish_reason"] == "stop", "{none}");
    assert!(none["message"]["content"].as_str().is_some_and(|text| text.contains("<tool_call>")), "{none}");
}

#[test]
fn a_result_goes_back_to_the_model_and_one_without_a_call_is_refused() {
    let script = Script::default().on("17 degrees", vec![text("It is 17.")]);
    let (_home, port) = started(&script);
    let call =
        json!({"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Paris\"}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "17 degrees"});
    let messages = |id: &str| {
        json!({"tools": tools(), "messages": [
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": null, "tool_calls": [call]},
            result(id),
        ]})
    };
    assert_eq!(both(port, &messages("c1"))["message"]["content"], "It is 17.");
    let reply = post(port, CHAT, &messages("c2"));
    assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!("messages[2].tool_call_id")));
}

#[test]
fn a_call_that_cannot_be_read_is_text_and_a_notice() {
    for (said, why) in [
        ("<tool_call>\nweather in Paris\n</tool_call>", "no object"),
        ("<tool_call>{\"name\": \"fly\", \"arguments\": {}}</tool_call>", "`fly`"),
        ("<tool_call>{\"name\": \"weather\", \"arg", "ended"),
    ] {
        let (_home, port) = started(&Script::default().on("weather?", vec![text(said)]));
        let answer = both(port, &asked("weather?", json!({})));
        assert_eq!((&answer["message"]["content"], &answer["finish_reason"]), (&json!(said), &json!("stop")));
        let notice = answer["notices"][0].as_str().expect("a notice");
        assert!(notice.starts_with("tool_parse_error: ") && notice.contains(why), "{notice}");
    }
}

#[test]
fn a_schema_that_is_not_kept_is_said_with_the_call() {
    let call = |name: &str| format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{}}}}</tool_call>");
    let loose = |script: Script, when: &str, name: &str| {
        let why = "`#/not` of its schema is not kept".to_owned();
        script.on(when, vec![Step::Loose("weather".into(), why), text(&call(name)), text(&call(name))])
    };
    let home = Home::new();
    let log = home.path("frames");
    let script = loose(loose(Script::default(), "weather?", "weather"), "time?", "now").logged(&log);
    home.model(&TestModel::templated(&home.folder("models"), "small", &script, TEMPLATE));
    let port = home.port();
    let said = both(port, &asked("weather?", json!({})));
    let notices: Vec<&str> = said["notices"].as_array().expect("notices").iter().filter_map(Value::as_str).collect();
    until_line(&log, " calls=weather,now behind=</think>");
    assert_eq!(notices.len(), 1, "once, for both calls: {notices:?}");
    let words = "tool_schema_loose: the arguments of `weather` are not kept to their schema: `#/not`";
    assert!(notices[0].starts_with(words), "{notices:?}");
    let said = both(port, &asked("time?", json!({})));
    assert!(said["notices"].as_array().is_none_or(Vec::is_empty), "the other tool is not concerned: {said}");
}

#[test]
fn a_forced_call_begins_in_the_prompt() {
    let script = Script::default()
        .on("<tool_call>\n{\"name\": \"weather\", \"arguments\": ", vec![text("{\"city\": "), text("\"Rome\"}")])
        .on("<think>\n\n</think>\n\n<tool_call>\n", vec![text("{\"name\": \"now\", \"arguments\": {}}")]);
    let (_home, port) = started(&script);
    let named = json!({"tool_choice": {"type": "function", "function": {"name": "weather"}}});
    let call = |answer: &Value| answer["message"]["tool_calls"][0]["function"].clone();
    let answer = both(port, &asked("weather?", named));
    assert_eq!(call(&answer), json!({"name": "weather", "arguments": "{\"city\": \"Rome\"}"}));
    assert_eq!((&answer["message"]["content"], &answer["finish_reason"]), (&Value::Null, &json!("tool_calls")));
    let answer = both(port, &asked("weather?", json!({"tool_choice": "required"})));
    assert_eq!(call(&answer), json!({"name": "now", "arguments": "{}"}));
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {
        "mode": "required", "tools": [{"type": "function", "function": {"name": "weather"}}],
    }});
    let answer = both(port, &asked("weather?", json!({"tool_choice": allowed})));
    assert_eq!(call(&answer)["name"], "weather");
}

#[test]
fn thoughts_stand_apart_from_the_answer() {
    let script = Script::default().on("why?", vec![text("<thi"), text("nk>\nhm, "), text("hm\n</think>\n\nBecause.")]);
    let (_home, port) = started(&script);
    let answer = both(port, &json!({"messages": [{"role": "user", "content": "why?"}]}));
    let message = &answer["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Because."), &json!("hm, hm")));
    assert_eq!(message["reasoning"], message["reasoning_content"]);
}

#[test]
fn a_thought_ends_with_its_budget() {
    let script = Script::default()
        .on("hm hm\n</think>\n\n", vec![text("Because.")])
        .on("why?", vec![text("<think>\nhm hm"), Step::End(WireFinish::Length)]);
    let (_home, port) = started(&script);
    let body = json!({"messages": [{"role": "user", "content": "why?"}], "thinking_budget_tokens": 2});
    let answer = both(port, &body);
    let message = &answer["message"];
    assert_eq!((&message["content"], &message["reasoning_content"]), (&json!("Because."), &json!("hm hm")));
    assert!(answer["notices"][0].as_str().is_some_and(|notice| notice.contains("2 tokens")), "{answer}");
    assert_eq!(answer["finish_reason"], "stop");
}
