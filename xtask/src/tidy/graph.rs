//! Who depends on whom: the table in `ARCHITECTURE.md` against `cargo metadata`.

use super::Finding;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Heavy or dangerous crates and the only ones of ours that may name them.
const FENCES: &[(&str, &[&str])] = &[
    ("ureq", &["gateway"]),
    ("axum", &["api"]),
    ("hyper", &["api", "cli"]),
    ("hyper-util", &["api", "cli"]),
    ("http-body-util", &["api", "cli"]),
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("rusqlite", &["map"]),
    ("tantivy", &["map"]),
    ("pdf-extract", &["map"]),
    ("lopdf", &["map"]),
    ("html5gum", &["map"]),
    ("mail-parser", &["map"]),
    ("pulldown-cmark", &["map"]),
    ("quick-xml", &["map"]),
    ("zip", &["map", "store"]),
    ("postcard", &["wire", "map"]),
    ("jsonschema", &["tasks"]),
    ("landlock", &["jail"]),
    ("seccompiler", &["jail"]),
    ("command-fds", &["jail"]),
    ("minijinja", &["engine"]),
    ("minijinja-contrib", &["engine"]),
    ("tracing-subscriber", &["runtime"]),
    ("llama-cpp-2", &["worker"]),
    ("llama-cpp-sys-2", &["worker"]),
    ("llguidance", &["worker"]),
    // Another way out of the machine, or another native build: for nobody.
    ("reqwest", &[]),
    ("curl", &[]),
    ("isahc", &[]),
    ("minreq", &[]),
    ("attohttpc", &[]),
    ("native-tls", &[]),
    ("openssl", &[]),
];

/// Packages that would bring C++ or cmake into the default build.
const NATIVE: [&str; 6] = ["llama-cpp-2", "llama-cpp-sys-2", "cmake", "cxx", "cxx-build", "link-cplusplus"];

/// The scripted worker and tiny models: a development dependency of anybody, of nobody else.
const TESTKIT: &str = "testkit";

pub(super) fn check(metadata: &Value, architecture: &str, findings: &mut Vec<Finding>) {
    match declared(architecture) {
        Some(table) => edges(metadata, &table, findings),
        None => findings.push(Finding::new(
            "dependency table",
            "ARCHITECTURE.md",
            "has no table whose head starts with `| crate | may depend on (ours) |`",
        )),
    }
    fences(metadata, findings);
    native(metadata, findings);
}

/// The table's rows: crate to those that it may depend on.
fn declared(architecture: &str) -> Option<BTreeMap<String, BTreeSet<String>>> {
    let mut lines = architecture.lines().map(cells);
    lines.find(|cells| cells.len() >= 2 && cells[0] == "crate" && cells[1].starts_with("may depend on"))?;
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in lines.skip(1).take_while(|cells| cells.len() >= 2) {
        let named = match row[1].as_str() {
            "all of the above" => table.keys().cloned().collect(),
            list => list.split(',').map(|name| name.trim().to_string()).filter(|name| is_crate_name(name)).collect(),
        };
        table.insert(row[0].clone(), named);
    }
    Some(table)
}

fn is_crate_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
}

fn cells(line: &str) -> Vec<String> {
    super::guard::cells(line).into_iter().map(|cell| cell.replace('`', "")).collect()
}

fn edges(metadata: &Value, table: &BTreeMap<String, BTreeSet<String>>, findings: &mut Vec<Finding>) {
    let members = members(metadata);
    for (name, package) in &members {
        if name == "xtask" {
            for (other, kind) in ours(package, &members) {
                let message = format!("`xtask` depends on `{other}` ({kind}), but chores depend on no product crate");
                findings.push(Finding::new("dependency table", "xtask/Cargo.toml", message));
            }
            continue;
        }
        let place = format!("crates/{name}/Cargo.toml");
        let Some(allowed) = table.get(name) else {
            let message = format!("`{name}` has no row in the dependency table of ARCHITECTURE.md");
            findings.push(Finding::new("dependency table", place, message));
            continue;
        };
        for (other, kind) in ours(package, &members) {
            let testing = kind == "dev" && other == TESTKIT;
            if !testing && !allowed.contains(&other) && other != *name {
                let message =
                    format!("`{name}` depends on `{other}` ({kind}), which the dependency table doesn't allow");
                findings.push(Finding::new("dependency table", place.clone(), message));
            }
        }
    }
    for name in table.keys().filter(|name| !members.contains_key(*name)) {
        let message = format!("the dependency table has a row for `{name}`, but there is no such crate");
        findings.push(Finding::new("dependency table", "ARCHITECTURE.md", message));
    }
}

fn fences(metadata: &Value, findings: &mut Vec<Finding>) {
    for (name, package) in members(metadata) {
        for (dependency, kind) in dependencies(package) {
            let Some((_, owners)) = FENCES.iter().find(|(fenced, _)| *fenced == dependency) else { continue };
            // What only tests use doesn't reach the product.
            if kind != "dev" && !owners.contains(&name.as_str()) {
                let owners = if owners.is_empty() { "nobody".to_string() } else { owners.join(" and ") };
                let message = format!("`{name}` depends on `{dependency}`, which is fenced: only for {owners}");
                findings.push(Finding::new("fences", format!("crates/{name}/Cargo.toml"), message));
            }
        }
    }
}

/// No default member reaches a package that compiles C++ or runs cmake.
fn native(metadata: &Value, findings: &mut Vec<Finding>) {
    let empty = Vec::new();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .unwrap_or(&empty)
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let names: BTreeMap<&str, &str> = packages(metadata)
        .iter()
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let defaults = metadata["workspace_default_members"].as_array().unwrap_or(&empty);
    let mut queue: Vec<(&str, String)> = defaults
        .iter()
        .filter_map(Value::as_str)
        .map(|id| (id, names.get(id).copied().unwrap_or(id).to_string()))
        .collect();
    let mut seen = BTreeSet::new();
    while let Some((id, way)) = queue.pop() {
        if !seen.insert(id) {
            continue;
        }
        if let Some(name) = names.get(id).filter(|name| NATIVE.contains(name)) {
            let message = format!("the default build reaches `{name}`: {way}");
            findings.push(Finding::new("no-cxx", "Cargo.toml", message));
        }
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).unwrap_or(&empty) {
            if let Some(next) = dependency["pkg"].as_str() {
                queue.push((next, format!("{way} > {}", names.get(next).copied().unwrap_or(next))));
            }
        }
    }
}

fn packages(metadata: &Value) -> &[Value] {
    metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Our crates, by the name of their folder.
fn members(metadata: &Value) -> BTreeMap<String, &Value> {
    let ids: BTreeSet<&str> =
        metadata["workspace_members"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    packages(metadata)
        .iter()
        .filter(|package| package["id"].as_str().is_some_and(|id| ids.contains(id)))
        .filter_map(|package| Some((folder(package["manifest_path"].as_str()?)?, package)))
        .collect()
}

fn folder(manifest: &str) -> Option<String> {
    manifest.replace('\\', "/").rsplit('/').nth(1).map(str::to_string)
}

/// Name and kind (`normal`, `dev`, `build`) of each direct dependency.
fn dependencies(package: &Value) -> Vec<(String, String)> {
    let all = package["dependencies"].as_array().into_iter().flatten();
    all.filter_map(|dependency| {
        let kind = dependency["kind"].as_str().unwrap_or("normal");
        Some((dependency["name"].as_str()?.to_string(), kind.to_string()))
    })
    .collect()
}

/// Those of them that are ours, by the name of their folder.
fn ours(package: &Value, members: &BTreeMap<String, &Value>) -> Vec<(String, String)> {
    let by_package: BTreeMap<&str, &String> =
        members.iter().filter_map(|(folder, package)| Some((package["name"].as_str()?, folder))).collect();
    dependencies(package)
        .into_iter()
        .filter_map(|(name, kind)| by_package.get(name.as_str()).map(|folder| ((*folder).clone(), kind)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TABLE: &str = "text\n\n| crate | may depend on (ours) | heavy |\n|---|---|---|\n| base | – | serde |\n\
                         | `map` | base | tantivy |\n| worker | – | C++ |\n| testkit | base | – |\n| runtime | all of the above | – |\n\nmore\n";

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({
            "id": format!("id {name}"), "name": format!("freehold-{name}"),
            "manifest_path": format!("/x/crates/{name}/Cargo.toml"), "dependencies": dependencies,
        })
    }

    fn findings(packages: &[Value], nodes: &Value) -> Vec<String> {
        let members: Vec<&Value> = packages.iter().map(|package| &package["id"]).collect();
        let defaults: Vec<&Value> = packages.iter().take(1).map(|package| &package["id"]).collect();
        let metadata = json!({
            "packages": packages, "workspace_members": members, "workspace_default_members": defaults,
            "resolve": { "nodes": nodes },
        });
        let mut findings = Vec::new();
        check(&metadata, TABLE, &mut findings);
        findings.into_iter().map(|finding| format!("{}: {}", finding.rule, finding.message)).collect()
    }

    fn all_but(bad: Value) -> Vec<Value> {
        let name = folder(bad["manifest_path"].as_str().expect("path")).expect("folder");
        let mut packages = vec![
            package("base", &[]),
            package("map", &[("freehold-base", None), ("tantivy", None), ("freehold-testkit", Some("dev"))]),
            package("worker", &[("llama-cpp-2", None)]),
            package("testkit", &[("freehold-base", None)]),
            package("runtime", &[("freehold-map", None)]),
        ];
        packages.retain(|package| folder(package["manifest_path"].as_str().expect("path")) != Some(name.clone()));
        packages.push(bad);
        packages
    }

    #[test]
    fn a_table_that_is_kept_has_no_finding() {
        assert_eq!(findings(&all_but(package("base", &[("serde", None)])), &json!([])), Vec::<String>::new());
    }

    #[test]
    fn edges_that_the_table_lacks_are_found() {
        for (bad, expected) in [
            (package("base", &[("freehold-map", None)]), "`base` depends on `map` (normal)"),
            (package("base", &[("freehold-map", Some("dev"))]), "`base` depends on `map` (dev)"),
            (package("map", &[("freehold-testkit", None)]), "`map` depends on `testkit` (normal)"),
            (package("extra", &[]), "`extra` has no row"),
        ] {
            let got = findings(&all_but(bad), &json!([]));
            assert!(got.len() == 1 && got[0].contains(expected), "{got:?}");
        }
        let gone: Vec<Value> = all_but(package("base", &[])).into_iter().filter(|p| p["id"] != "id worker").collect();
        assert!(findings(&gone, &json!([]))[0].contains("no such crate"));
    }

    #[test]
    fn fences_hold_but_for_tests() {
        let got = findings(&all_but(package("base", &[("ureq", None)])), &json!([]));
        assert!(got.len() == 1 && got[0].contains("only for gateway"), "{got:?}");
        let got = findings(&all_but(package("base", &[("reqwest", Some("build"))])), &json!([]));
        assert!(got.len() == 1 && got[0].contains("only for nobody"), "{got:?}");
        assert!(findings(&all_but(package("base", &[("hyper", Some("dev"))])), &json!([])).is_empty());
    }

    #[test]
    fn native_code_in_the_default_build_is_found_with_its_way() {
        let mut packages = all_but(package("base", &[]));
        packages.rotate_left(4);
        packages
            .push(json!({ "id": "id tls", "name": "tls", "manifest_path": "/y/tls/Cargo.toml", "dependencies": [] }));
        packages.push(
            json!({ "id": "id cmake", "name": "cmake", "manifest_path": "/y/cmake/Cargo.toml", "dependencies": [] }),
        );
        let defaults = packages[0]["id"].clone();
        let metadata = json!({
            "packages": packages, "workspace_default_members": [defaults], "workspace_members": [],
            "resolve": { "nodes": [
                { "id": defaults, "deps": [{ "pkg": "id tls" }] },
                { "id": "id tls", "deps": [{ "pkg": "id cmake" }] },
            ] },
        });
        let mut findings = Vec::new();
        native(&metadata, &mut findings);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].message.ends_with("> tls > cmake"), "{}", findings[0].message);
    }

    #[test]
    fn a_missing_table_is_found() {
        let mut findings = Vec::new();
        check(&json!({}), "nothing here", &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
