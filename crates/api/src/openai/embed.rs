//! `POST /v1/embeddings`.

use crate::body;
use crate::field::{Fields, invalid, wrong};
use crate::reply::{Refusal, json};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use base::{Code, Fault};
use runtime::{EmbedOptions, Pooling, Runtime};
use serde::Serialize;
use serde_json::{Map, Value};

/// Texts of one request; as many as OpenAI's service takes.
const TEXTS_MAX: usize = 2048;

#[derive(Debug, PartialEq)]
struct EmbedCall {
    model: String,
    texts: Vec<String>,
    base64: bool,
    options: EmbedOptions,
}

#[derive(Debug, Serialize)]
struct Embeddings {
    object: &'static str,
    data: Vec<Row>,
    model: String,
    usage: Usage,
    freehold: Extra,
}

#[derive(Debug, Serialize)]
struct Row {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(Debug, Serialize)]
struct Extra {
    /// Inputs whose end was left out; there can be some only where the request allowed it.
    truncated: Vec<LeftOut>,
}

/// An input that was too long.
#[derive(Debug, Serialize)]
pub(crate) struct LeftOut {
    /// Place in the request.
    index: usize,
    /// Tokens that were read.
    tokens: u32,
    /// Tokens at its end that weren't.
    left_out: u32,
}

/// Those inputs of which something was left out.
pub(crate) fn left_out(tokens: &[u32], left_out: &[u32]) -> Vec<LeftOut> {
    let all = tokens.iter().zip(left_out).enumerate();
    let row =
        |(index, (tokens, left_out)): (usize, (&u32, &u32))| LeftOut { index, tokens: *tokens, left_out: *left_out };
    all.map(row).filter(|input| input.left_out > 0).collect()
}

/// A text that is too long is to blame on its own parameter, and there is a way to have it cut.
pub(crate) fn about_input(fault: Fault, param: &str) -> Refusal {
    match fault.code {
        Code::ContextOverflow => Refusal::of(
            fault.hint("send `\"truncate\": true` to have the end left out; the reply says of which"),
            param,
        ),
        _ => fault.into(),
    }
}

pub(crate) async fn embed(State(runtime): State<Runtime>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let EmbedCall { model, texts, base64, options } = parse(&body::object(request).await?)?;
    let embedded = runtime.embed(&model, texts, options).await;
    let (model, embedded) = embedded.map_err(|fault| about_input(fault, "input"))?;
    let tokens = embedded.tokens.iter().map(|count| u64::from(*count)).sum();
    let row = |(index, values): (usize, Vec<f32>)| Row {
        object: "embedding",
        index,
        embedding: if base64 { Vector::Base64(to_base64(&values)) } else { Vector::Numbers(values) },
    };
    let freehold = Extra { truncated: left_out(&embedded.tokens, &embedded.left_out) };
    Ok(json(&Embeddings {
        object: "list",
        data: embedded.vectors.into_iter().enumerate().map(row).collect(),
        model,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
        freehold,
    }))
}

fn parse(object: &Map<String, Value>) -> Result<EmbedCall, Refusal> {
    let fields = Fields::top(object);
    let base64 = match fields.text("encoding_format")? {
        None | Some("float") => false,
        Some("base64") => true,
        Some(other) => return Err(invalid("encoding_format", &format!("is `{other}`"), "use `float` or `base64`")),
    };
    let model = fields.text("model")?.unwrap_or("").to_string();
    let options = EmbedOptions {
        pooling: pooling(&fields)?,
        normalize: fields.flag("normalize")?.unwrap_or(true),
        dimensions: fields.count("dimensions")?,
        truncate: fields.flag("truncate")?.unwrap_or(false),
    };
    Ok(EmbedCall { model, texts: texts(&fields)?, base64, options })
}

fn pooling(fields: &Fields<'_>) -> Result<Option<Pooling>, Refusal> {
    match fields.text("pooling")? {
        None => Ok(None),
        Some("mean") => Ok(Some(Pooling::Mean)),
        Some("cls") => Ok(Some(Pooling::Cls)),
        Some("last") => Ok(Some(Pooling::Last)),
        Some(other) => {
            let hint = "use `mean`, `cls` or `last`, or leave it out: then it is as the model's file says";
            Err(invalid("pooling", &format!("is `{other}`"), hint))
        }
    }
}

fn texts(fields: &Fields<'_>) -> Result<Vec<String>, Refusal> {
    let texts = match fields.get("input") {
        None => return Err(invalid("input", "is missing", "send a string or an array of strings")),
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(n, item)| match item {
                Value::String(text) => Ok(text.clone()),
                Value::Number(_) | Value::Array(_) => Err(invalid(
                    &format!("input[{n}]"),
                    "is a token id or a list of them, and every model has its own",
                    "send the text instead",
                )),
                other => Err(wrong(&format!("input[{n}]"), "a string", other)),
            })
            .collect::<Result<_, _>>()?,
        Some(other) => return Err(wrong("input", "a string or an array of strings", other)),
    };
    if texts.is_empty() || texts.len() > TEXTS_MAX {
        let hint = format!("send from 1 to {TEXTS_MAX} texts");
        return Err(invalid("input", &format!("holds {} texts", texts.len()), &hint));
    }
    match texts.iter().position(String::is_empty) {
        Some(n) => Err(invalid(&format!("input[{n}]"), "is empty", "leave empty texts out")),
        None => Ok(texts),
    }
}

/// The bytes of the numbers (little-endian, 32 bit) in base 64, as OpenAI's clients ask for them.
fn to_base64(values: &[f32]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for piece in bytes.chunks(3) {
        let word = piece.iter().enumerate().fold(0_u32, |word, (n, byte)| word | u32::from(*byte) << (16 - 8 * n));
        for n in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * n)) as usize & 63];
            text.push(if n <= piece.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(value: &Value) -> Result<EmbedCall, Refusal> {
        parse(value.as_object().expect("object"))
    }

    #[test]
    fn texts_come_alone_or_in_a_list() {
        for (input, texts) in [(json!("a"), vec!["a"]), (json!(["a", "b"]), vec!["a", "b"])] {
            assert_eq!(parsed(&json!({"input": input})).expect("accepted").texts, texts);
        }
        let call =
            parsed(&json!({"input": "a", "model": "m", "encoding_format": "base64", "dimensions": 3, "user": "x"}));
        let options = EmbedOptions { dimensions: Some(3), ..EmbedOptions::default() };
        let expected = EmbedCall { model: "m".into(), texts: vec!["a".into()], base64: true, options };
        assert_eq!(call.expect("accepted"), expected);
        let call = parsed(&json!({"input": "a", "pooling": "cls", "normalize": false, "truncate": true}));
        let options = EmbedOptions { pooling: Some(Pooling::Cls), normalize: false, dimensions: None, truncate: true };
        assert_eq!(call.expect("accepted").options, options);
    }

    #[test]
    fn what_is_no_text_is_named() {
        let many = vec!["x"; TEXTS_MAX + 1];
        for (body, param) in [
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": many}), "input"),
            (json!({"input": [1, 2, 3]}), "input[0]"),
            (json!({"input": [[1, 2], [3]]}), "input[0]"),
            (json!({"input": ["a", ""]}), "input[1]"),
            (json!({"input": ["a", null]}), "input[1]"),
            (json!({"input": 5}), "input"),
            (json!({"input": "a", "encoding_format": "int8"}), "encoding_format"),
            (json!({"input": "a", "dimensions": -1}), "dimensions"),
            (json!({"input": "a", "pooling": "max"}), "pooling"),
            (json!({"input": "a", "normalize": 2}), "normalize"),
        ] {
            assert_eq!(parsed(&body).expect_err(param).param.as_deref(), Some(param));
        }
    }

    #[test]
    fn base64_is_the_standard_one() {
        // Bytes 00 00 80 3f; 00 00 80 3f 00 00 00 c0; and three numbers without padding.
        assert_eq!(to_base64(&[1.0]), "AACAPw==");
        assert_eq!(to_base64(&[1.0, -2.0]), "AACAPwAAAMA=");
        assert_eq!(to_base64(&[1.0, -2.0, 0.0]), "AACAPwAAAMAAAAAA");
        assert_eq!(to_base64(&[]), "");
    }
}
