//! Adapters by name: added like models, named with them, refused in words.

use crate::home::Home;
use crate::http::post;
use serde_json::{Value, json};
use testkit::{Script, model, until};

fn home() -> (Home, std::path::PathBuf) {
    let home = Home::new();
    let log = home.path("frames");
    home.chat_model("small", &Script::default().logged(&log));
    for (name, arch) in [("pirate", "llama"), ("calm", "llama"), ("other", "qwen2")] {
        let path = model::adapter(&home.folder("models"), name, arch);
        home.done(&["models", "add", path.to_str().expect("utf-8")]);
    }
    (home, log)
}

fn ask(extra: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": "hello"}]});
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    body
}

fn lines(log: &std::path::Path, start: &str) -> Vec<String> {
    let frames = std::fs::read_to_string(log).expect("frames");
    frames.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect()
}

#[test]
fn an_adapter_is_a_kind_of_its_own() {
    let (home, _) = home();
    let models = home.json(&["models", "--json"]);
    let row = models["models"]
        .as_array()
        .expect("rows")
        .iter()
        .find(|row| row["name"].as_str().is_some_and(|name| name.starts_with("pirate")));
    let row = row.unwrap_or_else(|| panic!("{models}"));
    assert_eq!((&row["kind"], &row["arch"], &row["default"]), (&json!("adapter"), &json!("llama"), &json!(false)));
    let ran = home.run(&["models", "default", "pirate"]);
    assert!(ran.fails(5, "model_unfit").err.contains("MODEL+pirate"), "{ran:?}");
}

#[test]
fn a_model_s_name_and_a_list_name_the_same_adapters() {
    let (home, log) = home();
    let port = home.port();
    assert_eq!(home.done(&["chat", "small", "-m", "hello"]).out, "one two three\n");
    let named = home.done(&["chat", "small+pirate", "-m", "hello"]);
    assert!(named.err.contains("+pirate"), "the answer says what it was made with: {named:?}");
    let listed = post(port, "/v1/chat/completions", &ask(json!({"adapters": [{"name": "pirate"}]})));
    assert_eq!(listed.status, 200, "{}", listed.text());
    assert!(listed.json()["model"].as_str().is_some_and(|model| model.contains("+pirate")), "{}", listed.text());
    let both = json!({"model": "small+pirate", "adapters": [{"name": "calm", "scale": 0.5}]});
    assert_eq!(post(port, "/v1/chat/completions", &ask(both)).status, 200);
    post(port, "/v1/chat/completions", &ask(json!({"adapters": [{"name": "calm", "scale": 0}]})));
    let sets: Vec<String> = lines(&log, "begin")
        .iter()
        .map(|line| {
            line.split(" adapters=").nth(1).map_or("", |rest| rest.split(" prompt").next().unwrap_or("")).to_owned()
        })
        .collect();
    // The last worker knows both; places are its own.
    assert_eq!(sets, ["", "[(0, 1.0)]", "[(0, 1.0)]", "[(0, 0.5), (1, 1.0)]", ""]);
    let loads = lines(&log, "adapters");
    assert_eq!(loads.len(), 2, "one load for each time that something new was asked for: {loads:?}");
    assert!(loads[1].contains("pirate") && loads[1].contains("calm"), "{loads:?}");
    let one = || (home.status()["models"].as_array().map(Vec::len) == Some(1)).then_some(());
    until("the workers before to go", one);
}

#[test]
fn what_cannot_be_is_said_before_anything_is_loaded() {
    let (home, log) = home();
    let port = home.port();
    for (body, status, code, words) in [
        (json!({"model": "small+nobody"}), 404, "model_not_found", "nobody"),
        (json!({"model": "small+other"}), 400, "model_unfit", "qwen2"),
        (json!({"model": "small+small"}), 400, "model_unfit", "no adapter"),
        (json!({"model": "pirate"}), 400, "model_unfit", "an adapter"),
        (json!({"model": "small+pirate", "adapters": [{"name": "pirate"}]}), 400, "invalid_ask", "twice"),
        (json!({"adapters": [{"name": "pirate", "scale": 99}]}), 400, "invalid_ask", "99"),
        (json!({"adapters": [{"scale": 1}]}), 400, "invalid_ask", "adapters[0].name"),
        (json!({"adapters": ["pirate"]}), 400, "invalid_ask", "adapters[0]"),
    ] {
        let reply = post(port, "/v1/chat/completions", &ask(body.clone()));
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}: {}", reply.text());
        assert!(reply.text().contains(words), "{body}: {}", reply.text());
    }
    std::fs::remove_file(home.path("models/calm.gguf")).expect("removed");
    let reply = post(port, "/v1/chat/completions", &ask(json!({"model": "small+calm"})));
    assert_eq!((reply.status, reply.code().as_str()), (422, "model_invalid"), "{}", reply.text());
    assert!(!log.exists(), "no worker was started");
}
