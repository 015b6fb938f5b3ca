//! `bench contract`: does every answer that has a schema fit it, and what does that cost?
//!
//! Schemas are drawn from seeds, every eighth with a keyword that no mask of tokens can keep. Whatever comes is judged
//! by code of this folder. An answer must fit, or say that it was cut off; a schema that can't be kept must be refused with
//! the place of its keyword. The cost is measured by one long answer, free and with a schema, in turns.

use super::chat::Side;
use super::daemon::{Daemon, Freehold, Profile};
use super::http::{self, Next};
use super::peer;
use super::raw::ours;
use super::report::{Bound, Goal, Report, Table, figure};
use super::server::{Flags, Server};
use super::stat::{estimate, ratio};
use super::{Options, Watch};
use anyhow::{Context, Result, bail};
use judge::fits;
use schema::{Drawn, draw};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::ExitCode;

pub(crate) mod judge;
mod schema;
mod tools;

const SCHEMAS: u64 = 1000;
const SCHEMAS_QUICK: u64 = 60;
/// The peer gets one of so many: nearly all of its answers go on until they are cut off.
const PEERS_SHARE: u64 = 10;
/// Most answers are far shorter; the longest are cut off, which must be said.
const ANSWER_TOKENS: u32 = 300;
/// Tokens of the long answer, whose speed is compared.
const LONG_TOKENS: u32 = 160;
const ROUNDS: usize = 12;
const ROUNDS_QUICK: usize = 3;
const CONTEXT_TOKENS: u32 = 4096;
/// Of the time of a token.
const OVERHEAD_MAX: f64 = 0.05;

/// What came of one schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Fits,
    /// Cut off, and it says so.
    Cut,
    /// Refused with a reason that names the place.
    Refused,
    /// Refused without one.
    Unexplained,
    /// A whole answer that doesn't fit.
    Misfit,
    /// The server failed.
    Failed,
}

impl Came {
    fn words(&self) -> &'static str {
        match self {
            Came::Fits => "fits",
            Came::Cut => "cut off, and says so",
            Came::Refused => "refused with the place",
            Came::Unexplained => "refused without the place",
            Came::Misfit => "DOESN'T FIT",
            Came::Failed => "FAILED (5xx)",
        }
    }
}

/// Pure: a reply, judged.
fn judge(drawn: &Drawn, status: u16, body: &Value) -> Came {
    if status >= 500 {
        return Came::Failed;
    }
    if status != 200 {
        let said = body["error"]["message"].as_str().unwrap_or_default();
        let names = drawn.unkept.is_some_and(|keyword| said.contains(keyword)) || said.contains("#/");
        return if names { Came::Refused } else { Came::Unexplained };
    }
    let choice = &body["choices"][0];
    let text = choice["message"]["content"].as_str().unwrap_or_default();
    match serde_json::from_str::<Value>(text) {
        Ok(value) if fits(&drawn.schema, &value) => Came::Fits,
        _ if choice["finish_reason"] == "length" => Came::Cut,
        _ => Came::Misfit,
    }
}

fn body(side: Side, prompt: &str, tokens: u32, schema: Option<&Value>) -> Value {
    let mut body = json!({
        "model": "", "messages": [{ "role": "user", "content": prompt }], "max_tokens": tokens, "temperature": 0,
        "stream": false,
    });
    if let Some(schema) = schema {
        body["response_format"] =
            json!({ "type": "json_schema", "json_schema": { "name": "answer", "strict": true, "schema": schema } });
    }
    if side == Side::Peer {
        body["samplers"] = json!(["top_k"]);
        body["top_k"] = json!(1);
        body["cache_prompt"] = json!(false);
    }
    body
}

fn ask(address: &str, body: &Value) -> Result<(u16, Value)> {
    let reply = http::call(address, "/v1/chat/completions", &[], Some(body), &mut |_| Next::Read)?;
    Ok((reply.status, serde_json::from_str(&reply.text()).unwrap_or_default()))
}

fn all_schemas(side: Side, address: &str, count: u64) -> Result<BTreeMap<(bool, Came), u32>> {
    let mut tally = BTreeMap::new();
    for seed in 0..count {
        let drawn = draw(seed);
        let wanted = body(side, "Give an example as JSON.", ANSWER_TOKENS, Some(&drawn.schema));
        let (status, reply) = ask(address, &wanted)?;
        let came = judge(&drawn, status, &reply);
        if side == Side::Ours && matches!(came, Came::Misfit | Came::Failed | Came::Unexplained) {
            eprintln!("schema {seed}: {}: {} → {reply}", came.words(), drawn.schema);
        }
        *tally.entry((drawn.unkept.is_some(), came)).or_insert(0) += 1;
    }
    Ok(tally)
}

/// Tokens per second of writing, as each side tells it.
fn speed(side: Side, address: &str, schema: Option<&Value>) -> Result<f64> {
    let prompt = "Write a very long list of common English words.";
    let (status, reply) = ask(address, &body(side, prompt, LONG_TOKENS, schema))?;
    if status != 200 {
        bail!("the long answer failed with {status}: {reply}");
    }
    let tokens = reply["usage"]["completion_tokens"].as_u64().unwrap_or(0);
    if tokens < u64::from(LONG_TOKENS) / 2 {
        bail!("the long answer has only {tokens} tokens");
    }
    let told = match side {
        Side::Ours => &reply["freehold"]["decode_tokens_per_sec"],
        Side::Peer => &reply["timings"]["predicted_per_second"],
    };
    told.as_f64().context("the reply doesn't tell its speed")
}

/// Free and shaped, in turns.
fn speeds(side: Side, address: &str, rounds: usize) -> Result<[Vec<f64>; 2]> {
    let list =
        json!({ "type": "array", "items": { "type": "string", "minLength": 1, "maxLength": 12 }, "minItems": 500 });
    let (mut free, mut shaped) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        free.push(speed(side, address, None)?);
        shaped.push(speed(side, address, Some(&list))?);
    }
    Ok([free, shaped])
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("answers with a schema, beside llama.cpp's server");
    let freehold = Freehold::build(Profile::Release)?;
    let starter = freehold.starter()?;
    let mut watch = Watch::start(options.patience())?;
    let (count, rounds) = if options.quick { (SCHEMAS_QUICK, ROUNDS_QUICK) } else { (SCHEMAS, ROUNDS) };
    let settings = [("FREEHOLD_CONTEXT", CONTEXT_TOKENS.to_string())];
    let daemon = Daemon::start_with(&freehold, &[&starter.chat], &settings)?;
    // Loads the model.
    ask(&daemon.address, &body(Side::Ours, "Hello.", 1, None))?;
    let loaded = daemon.loaded(&starter.chat)?;
    let peer = peer::ensure(&loaded.words("devices"))?;
    let flags = Flags { threads: loaded.number("threads")?, slots: 1, context_tokens: CONTEXT_TOKENS };
    watch.gap();
    let mut tallies = BTreeMap::new();
    let our_speeds = speeds(Side::Ours, &daemon.address, rounds)?;
    tallies.insert(Side::Ours, all_schemas(Side::Ours, &daemon.address, count)?);
    drop(daemon);
    let server = Server::start(&peer, &starter.chat, flags)?;
    let their_speeds = speeds(Side::Peer, &server.address, rounds)?;
    tallies.insert(Side::Peer, all_schemas(Side::Peer, &server.address, count.div_ceil(PEERS_SHARE))?);
    drop(server);
    report.quiet = Some(watch.seen());
    tools::run(&freehold, &starter, options.quick, &mut report)?;

    report.setting("model", starter.chat.display().to_string());
    report.setting("ours", ours(&freehold)?);
    report.setting("peer", format!("{}, llama-server {}", peer.words(), flags.words().join(" ")));
    report.setting(
        "schemas",
        format!(
            "{count}, drawn from the seeds 0 to {}; every eighth can't be kept; the peer gets the first {}",
            count - 1,
            count.div_ceil(PEERS_SHARE)
        ),
    );
    report.setting(
        "speed",
        format!("{rounds} pairs of answers of up to {LONG_TOKENS} tokens, free and with a schema, in turns"),
    );
    report.tables.push(table(&tallies));
    let of = |side: Side, bad: &[Came]| {
        let counts = tallies[&side].iter().filter(|((_, came), _)| bad.contains(came));
        f64::from(counts.map(|(_, count)| *count).sum::<u32>())
    };
    for (name, bad) in [
        ("answers that look whole and don't fit", &[Came::Misfit][..]),
        ("failures of the server (5xx)", &[Came::Failed]),
        ("refusals without the place", &[Came::Unexplained]),
    ] {
        let mut goal = Goal::plain(name, of(Side::Ours, bad), "answers", Bound::Below(1.0));
        goal.peer = Some(of(Side::Peer, bad));
        report.goals.push(goal);
    }
    // What can be kept is kept and not refused.
    let refused_in_vain = tallies[&Side::Ours].get(&(false, Came::Refused)).copied().unwrap_or(0);
    report.goals.push(Goal::plain(
        "schemas refused though they can be kept",
        f64::from(refused_in_vain),
        "schemas",
        Bound::Below(1.0),
    ));
    report.goals.push(overhead(&our_speeds, &their_speeds));
    Ok(report.finish(options.json))
}

/// Time of a token with a schema over that without.
fn overhead(ours: &[Vec<f64>; 2], theirs: &[Vec<f64>; 2]) -> Goal {
    let cost = ratio(&ours[0], &ours[1]);
    let mut goal = Goal::plain(
        "time of a token with a schema over that without",
        cost.mean,
        "x",
        Bound::AtMost(1.0 + OVERHEAD_MAX),
    );
    goal.met = cost.high <= 1.0 + OVERHEAD_MAX;
    goal.interval = Some((cost.low, cost.high));
    goal.peer = Some(ratio(&theirs[0], &theirs[1]).mean);
    goal.unit =
        format!("x ({} free, {} with a schema)", figure(estimate(&ours[0]).mean), figure(estimate(&ours[1]).mean));
    goal
}

fn table(tallies: &BTreeMap<Side, BTreeMap<(bool, Came), u32>>) -> Table {
    let mut table = Table::new("what came", &["", "schemas", "what came", "how often"]);
    for (side, tally) in tallies {
        for ((unkept, came), count) in tally {
            table.rows.push(vec![
                if *side == Side::Ours { "ours" } else { "llama-server" }.into(),
                if *unkept { "that can't be kept" } else { "that can be kept" }.into(),
                came.words().into(),
                count.to_string(),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_judged_by_what_they_hold() {
        let drawn = Drawn { schema: json!({"type": "integer"}), unkept: None };
        let spoiled = Drawn { unkept: Some("uniqueItems"), ..drawn.clone() };
        let said =
            |text: &str, finish: &str| json!({"choices": [{"message": {"content": text}, "finish_reason": finish}]});
        let refused = |text: &str| json!({"error": {"message": text}});
        for (drawn, status, body, came) in [
            (&drawn, 200, said("3", "stop"), Came::Fits),
            (&drawn, 200, said("\"a\"", "stop"), Came::Misfit),
            (&drawn, 200, said("[1,", "length"), Came::Cut),
            (&drawn, 200, said("[1,", "stop"), Came::Misfit),
            (&drawn, 500, refused("oh"), Came::Failed),
            (&drawn, 400, refused("`#/items/oneOf` can't be kept to"), Came::Refused),
            (&spoiled, 400, refused("uniqueItems is not supported"), Came::Refused),
            (&spoiled, 400, refused("bad grammar"), Came::Unexplained),
        ] {
            assert_eq!(judge(drawn, status, &body), came, "{body}");
        }
    }
}
