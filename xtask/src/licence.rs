//! Licences of all dependencies against `deny.toml`, without a tool that takes minutes to build.
//!
//! An expression such as `(MIT OR Apache-2.0) AND Unicode-3.0` holds when the allowed licences
//! satisfy it. Known advisories are looked up by [`advisory`].

pub(crate) mod advisory;

use crate::place;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::ExitCode;

#[derive(Debug, Deserialize)]
struct Rules {
    licenses: Licences,
    advisories: Advisories,
}

#[derive(Debug, Deserialize)]
struct Licences {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Advisories {
    ignore: Vec<Ignored>,
}

#[derive(Debug, Deserialize)]
struct Ignored {
    id: String,
    reason: String,
}

fn rules() -> Result<Rules> {
    let text = std::fs::read_to_string(place::root().join("deny.toml")).context("can't read `deny.toml`")?;
    toml::from_str(&text).context("`deny.toml` isn't as expected")
}

/// Checks licences, then advisories.
///
/// # Errors
/// When something can't be read.
pub(crate) fn run() -> Result<ExitCode> {
    let findings = check()?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    let advisories = advisory::check()?;
    println!("advisories: {advisories}");
    let good = findings.is_empty() && !matches!(advisories, advisory::Outcome::Found { .. });
    println!(
        "licences: {}",
        if findings.is_empty() { "all allowed".to_string() } else { format!("{} not allowed", findings.len()) }
    );
    Ok(ExitCode::from(u8::from(!good)))
}

/// One sentence per package whose licence or source isn't allowed.
///
/// # Errors
/// When `deny.toml` or cargo's metadata can't be read.
pub(crate) fn check() -> Result<Vec<String>> {
    judge(&place::metadata(None)?, &rules()?.licenses.allow)
}

fn judge(metadata: &Value, allowed: &[String]) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    let mut findings = Vec::new();
    for package in packages {
        let name =
            format!("{} {}", package["name"].as_str().unwrap_or("?"), package["version"].as_str().unwrap_or("?"));
        match package["license"].as_str() {
            None => findings.push(format!("{name}: states no licence")),
            Some(text) => match expression(text) {
                Err(why) => findings.push(format!("{name}: can't read its licence `{text}`: {why}")),
                Ok(tree) if !tree.holds(allowed) => {
                    findings.push(format!("{name}: `{text}` isn't on the list in deny.toml"))
                }
                Ok(_) => {}
            },
        }
        if let Some(source) = package["source"].as_str().filter(|source| !source.contains("crates.io-index")) {
            findings.push(format!("{name}: comes from `{source}`, not from the registry"));
        }
    }
    Ok(findings)
}

/// Which packages are locked, by name.
fn locked() -> Result<BTreeMap<String, Vec<semver::Version>>> {
    let text = std::fs::read_to_string(place::root().join("Cargo.lock")).context("can't read `Cargo.lock`")?;
    let lock: toml::Table = text.parse().context("`Cargo.lock` isn't TOML")?;
    let mut found: BTreeMap<String, Vec<semver::Version>> = BTreeMap::new();
    for package in lock.get("package").and_then(toml::Value::as_array).into_iter().flatten() {
        let text = |key: &str| package.get(key).and_then(toml::Value::as_str);
        if let (Some(name), Some(version)) = (text("name"), text("version")) {
            found.entry(name.to_string()).or_default().push(version.parse().context("a version in Cargo.lock")?);
        }
    }
    Ok(found)
}

#[derive(Debug, PartialEq, Eq)]
enum Expression {
    Licence(String),
    Any(Vec<Expression>),
    All(Vec<Expression>),
}

impl Expression {
    fn holds(&self, allowed: &[String]) -> bool {
        match self {
            Expression::Licence(name) => allowed.iter().any(|licence| licence == name),
            Expression::Any(parts) => parts.iter().any(|part| part.holds(allowed)),
            Expression::All(parts) => parts.iter().all(|part| part.holds(allowed)),
        }
    }
}

/// Reads an SPDX expression; the older `MIT/Apache-2.0` means OR. AND binds closer than OR.
fn expression(text: &str) -> Result<Expression, String> {
    let spaced = text.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let tree = any(&words, &mut at)?;
    if at < words.len() { Err(format!("`{}` is too much", words[at])) } else { Ok(tree) }
}

fn any(words: &[&str], at: &mut usize) -> Result<Expression, String> {
    let mut parts = vec![all(words, at)?];
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        parts.push(all(words, at)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
}

fn all(words: &[&str], at: &mut usize) -> Result<Expression, String> {
    let mut parts = vec![one(words, at)?];
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        parts.push(one(words, at)?);
    }
    Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
}

fn one(words: &[&str], at: &mut usize) -> Result<Expression, String> {
    let word = words.get(*at).ok_or("it ends too early")?;
    *at += 1;
    match *word {
        "(" => {
            let inner = any(words, at)?;
            if words.get(*at) != Some(&")") {
                return Err("a `)` is missing".into());
            }
            *at += 1;
            Ok(inner)
        }
        ")" | "OR" | "AND" | "WITH" => Err(format!("`{word}` stands where a licence should")),
        name => {
            let mut name = name.to_string();
            if words.get(*at) == Some(&"WITH") {
                let exception = words.get(*at + 1).ok_or("WITH names no exception")?;
                name = format!("{name} WITH {exception}");
                *at += 2;
            }
            Ok(Expression::Licence(name))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn expressions_hold_as_they_read() {
        let allowed: Vec<String> =
            ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"].iter().map(|name| (*name).to_string()).collect();
        for (text, holds) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("GPL-3.0-only OR MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("MIT/GPL-2.0", true),
            ("GPL-2.0 / MIT", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT OR GPL-2.0 AND GPL-3.0", true),
            ("(MIT OR GPL-2.0) AND GPL-3.0", false),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
        ] {
            assert_eq!(expression(text).expect(text).holds(&allowed), holds, "{text}");
        }
        for bad in ["", "MIT OR", "(MIT", "MIT)", "MIT Apache-2.0", "AND", "MIT WITH"] {
            assert!(expression(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn packages_are_judged_by_licence_and_source() {
        let metadata = json!({ "packages": [
            { "name": "good", "version": "1.0.0", "license": "MIT", "source": "registry+https://github.com/rust-lang/crates.io-index" },
            { "name": "ours", "version": "1.0.0", "license": "MIT", "source": null },
            { "name": "bare", "version": "1.0.0", "license": null, "source": null },
            { "name": "left", "version": "1.0.0", "license": "GPL-3.0-only", "source": null },
            { "name": "git", "version": "1.0.0", "license": "MIT", "source": "git+https://example.org/x" },
        ]});
        let findings = judge(&metadata, &["MIT".to_string()]).expect("judged");
        assert_eq!(findings.len(), 3, "{findings:?}");
    }
}
