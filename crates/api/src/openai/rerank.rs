//! `POST /v1/rerank`, in the shape that Jina, Cohere and llama.cpp's server have for it.

use super::embed::{LeftOut, about_input, left_out};
use crate::body;
use crate::field::{Fields, invalid, wrong};
use crate::reply::{Refusal, json};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, Response};
use runtime::Runtime;
use serde::Serialize;
use serde_json::{Map, Value};

/// Documents of one request.
const DOCUMENTS_MAX: usize = 2048;

#[derive(Debug, PartialEq)]
struct RankCall {
    model: String,
    query: String,
    documents: Vec<String>,
    top_n: usize,
    return_documents: bool,
    truncate: bool,
}

#[derive(Debug, Serialize)]
struct Ranking {
    object: &'static str,
    model: String,
    results: Vec<Row>,
    usage: Usage,
    freehold: Extra,
}

#[derive(Debug, Serialize)]
struct Row {
    /// Place in the request.
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document>,
}

#[derive(Debug, Serialize)]
struct Document {
    text: String,
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

#[derive(Debug, Serialize)]
struct Extra {
    truncated: Vec<LeftOut>,
}

pub(crate) async fn rank(State(runtime): State<Runtime>, request: Request<Body>) -> Result<Response<Body>, Refusal> {
    let RankCall { model, query, documents, top_n, return_documents, truncate } = parse(&body::object(request).await?)?;
    let kept = if return_documents { documents.clone() } else { Vec::new() };
    let ranked = runtime.rank(&model, query, documents, truncate).await;
    let (model, ranked) = ranked.map_err(|fault| about_input(fault, "documents"))?;
    let tokens = ranked.tokens.iter().map(|count| u64::from(*count)).sum();
    let mut results: Vec<Row> = ranked
        .scores
        .iter()
        .enumerate()
        .map(|(index, score)| Row { index, relevance_score: *score, document: None })
        .collect();
    // Equals stay in the order of the request.
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    results.truncate(top_n);
    for row in &mut results {
        row.document = kept.get(row.index).map(|text| Document { text: text.clone() });
    }
    Ok(json(&Ranking {
        object: "list",
        model,
        results,
        usage: Usage { prompt_tokens: tokens, total_tokens: tokens },
        freehold: Extra { truncated: left_out(&ranked.tokens, &ranked.left_out) },
    }))
}

fn parse(object: &Map<String, Value>) -> Result<RankCall, Refusal> {
    let fields = Fields::top(object);
    let query = fields.text("query")?.ok_or_else(|| invalid("query", "is missing", "send a string"))?;
    if query.is_empty() {
        return Err(invalid("query", "is empty", "send what the documents should answer"));
    }
    let items = fields.list("documents")?;
    let items = items.ok_or_else(|| invalid("documents", "is missing", "send an array of strings"))?;
    if items.is_empty() || items.len() > DOCUMENTS_MAX {
        let hint = format!("send from 1 to {DOCUMENTS_MAX} documents");
        return Err(invalid("documents", &format!("holds {} documents", items.len()), &hint));
    }
    let documents: Vec<String> = items
        .iter()
        .enumerate()
        .map(|(n, item)| document(item, format!("documents[{n}]")))
        .collect::<Result<_, _>>()?;
    let top_n = match fields.count("top_n")? {
        None => documents.len(),
        Some(0) => return Err(invalid("top_n", "is 0", "ask for at least one result")),
        Some(count) => usize::try_from(count).unwrap_or(usize::MAX),
    };
    Ok(RankCall {
        model: fields.text("model")?.unwrap_or("").to_string(),
        query: query.to_string(),
        documents,
        top_n,
        return_documents: fields.flag("return_documents")?.unwrap_or(false),
        truncate: fields.flag("truncate")?.unwrap_or(false),
    })
}

/// A string, or an object with `text`, as some clients send it.
fn document(item: &Value, place: String) -> Result<String, Refusal> {
    let text = match item {
        Value::String(text) => text.as_str(),
        Value::Object(_) => {
            let fields = Fields::within(item, place.clone())?;
            fields.text("text")?.ok_or_else(|| invalid(&fields.place("text"), "is missing", "send a string"))?
        }
        other => return Err(wrong(&place, "a string", other)),
    };
    if text.is_empty() {
        return Err(invalid(&place, "is empty", "leave empty documents out"));
    }
    Ok(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(value: &Value) -> Result<RankCall, Refusal> {
        parse(value.as_object().expect("object"))
    }

    #[test]
    fn documents_are_strings_or_objects_with_a_text() {
        let call = parsed(&json!({"query": "q", "documents": ["a", {"text": "b"}], "model": "m", "truncate": true}));
        let expected = RankCall {
            model: "m".into(),
            query: "q".into(),
            documents: vec!["a".into(), "b".into()],
            top_n: 2,
            return_documents: false,
            truncate: true,
        };
        assert_eq!(call.expect("accepted"), expected);
        let call = parsed(&json!({"query": "q", "documents": ["a", "b"], "top_n": 1, "return_documents": true}));
        assert!(call.is_ok_and(|call| call.top_n == 1 && call.return_documents));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, param) in [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": "", "documents": ["a"]}), "query"),
            (json!({"query": "q"}), "documents"),
            (json!({"query": "q", "documents": []}), "documents"),
            (json!({"query": "q", "documents": vec!["x"; DOCUMENTS_MAX + 1]}), "documents"),
            (json!({"query": "q", "documents": ["a", ""]}), "documents[1]"),
            (json!({"query": "q", "documents": ["a", 5]}), "documents[1]"),
            (json!({"query": "q", "documents": [{"body": "a"}]}), "documents[0].text"),
            (json!({"query": "q", "documents": ["a"], "top_n": 0}), "top_n"),
        ] {
            assert_eq!(parsed(&body).expect_err(param).param.as_deref(), Some(param), "{body}");
        }
    }
}
