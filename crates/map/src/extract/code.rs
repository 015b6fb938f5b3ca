//! Source code by its syntax tree: functions, methods, types and what holds them, each with the comments above it.
//!
//! A tree only says where to cut. Blocks are the stretches between cuts, so nothing is lost whatever the tree says.
//! Grammars are C, and run where all parsing runs: in the confined child.

use super::text::code_blocks;
use crate::document::{Block, BlockKind};
use tree_sitter::{Language, Node, Parser};

/// A class, module or the like above this many bytes is cut into its members.
const WHOLE_BYTES_MAX: usize = 1000;
/// LIMIT: levels of members within members.
const LEVEL_MAX: u8 = 6;
/// A tree of which more than one byte in so many is an error isn't trusted.
const ERROR_SHARE: usize = 5;

fn language(name: &str) -> Option<Language> {
    let extension = name.rsplit(['/', '\\']).next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match extension.as_str() {
        "rs" => tree_sitter_rust::LANGUAGE.into(),
        "py" | "pyi" => tree_sitter_python::LANGUAGE.into(),
        "js" | "mjs" | "cjs" | "jsx" => tree_sitter_javascript::LANGUAGE.into(),
        "ts" | "mts" | "cts" => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        "tsx" => tree_sitter_typescript::LANGUAGE_TSX.into(),
        "go" => tree_sitter_go::LANGUAGE.into(),
        "java" => tree_sitter_java::LANGUAGE.into(),
        "c" | "h" => tree_sitter_c::LANGUAGE.into(),
        "cc" | "cpp" | "cxx" | "hpp" | "hh" => tree_sitter_cpp::LANGUAGE.into(),
        "sh" | "bash" => tree_sitter_bash::LANGUAGE.into(),
        _ => return None,
    })
}

/// Blocks and the names of their labels. Languages without a grammar, and files that don't parse, are cut by how their
/// lines begin.
pub(super) fn blocks(text: &str, name: &str) -> (Vec<Block>, Vec<String>) {
    cuts(text, name).map_or_else(|| (code_blocks(text), Vec::new()), |cuts| between(text, &cuts))
}

/// Where something begins. Without a name: plain code goes on at this level.
struct Cut {
    at: usize,
    level: u8,
    name: String,
}

fn cuts(text: &str, name: &str) -> Option<Vec<Cut>> {
    let mut parser = Parser::new();
    parser.set_language(&language(name)?).ok()?;
    let tree = parser.parse(text, None)?;
    let root = tree.root_node();
    let mut cursor = root.walk();
    let wrong: usize =
        root.children(&mut cursor).filter(Node::is_error).map(|node| node.end_byte() - node.start_byte()).sum();
    if root.is_error() || wrong * ERROR_SHARE > text.len() {
        return None;
    }
    let mut found = Vec::new();
    members(text, root, 1, &mut found);
    Some(found)
}

fn is_holder(kind: &str) -> bool {
    matches!(
        kind,
        "impl_item"
            | "trait_item"
            | "mod_item"
            | "class_definition"
            | "class_declaration"
            | "abstract_class_declaration"
            | "interface_declaration"
            | "enum_declaration"
            | "record_declaration"
            | "internal_module"
            | "module"
            | "namespace_definition"
            | "class_specifier"
            | "struct_specifier"
            | "linkage_specification"
    )
}

fn is_definition(kind: &str) -> bool {
    is_holder(kind)
        || matches!(
            kind,
            "function_item"
                | "struct_item"
                | "enum_item"
                | "union_item"
                | "macro_definition"
                | "function_definition"
                | "function_declaration"
                | "generator_function_declaration"
                | "method_definition"
                | "method_declaration"
                | "constructor_declaration"
                | "compact_constructor_declaration"
                | "type_declaration"
                | "type_alias_declaration"
                | "enum_specifier"
                | "type_definition"
        )
}

/// What stands above a definition and belongs to it.
fn introduces(kind: &str) -> bool {
    kind.contains("comment") || matches!(kind, "attribute_item" | "decorator" | "marker_annotation")
}

/// The definition within what wraps it: an export, decorators, a template, a constant that is a function.
fn unwrapped(node: Node<'_>) -> Option<Node<'_>> {
    if is_definition(node.kind()) {
        return Some(node);
    }
    let mut cursor = node.walk();
    match node.kind() {
        "export_statement"
        | "decorated_definition"
        | "template_declaration"
        | "declaration"
        | "expression_statement" => node.named_children(&mut cursor).find_map(|child| {
            let named = is_definition(child.kind()) && child.child_by_field_name("body").is_some();
            named.then_some(child).or_else(|| (child.kind() == "lexical_declaration").then(|| unwrapped(child))?)
        }),
        "lexical_declaration" | "variable_declaration" => {
            let is_function = |child: &Node<'_>| {
                let value = child.child_by_field_name("value").map(|value| value.kind());
                matches!(value, Some("arrow_function" | "function_expression" | "class"))
            };
            node.named_children(&mut cursor).any(|child| is_function(&child)).then_some(node)
        }
        _ => None,
    }
}

fn members(text: &str, holder: Node<'_>, level: u8, found: &mut Vec<Cut>) {
    let mut cursor = holder.walk();
    let (mut intro, mut after) = (None, false);
    for child in holder.named_children(&mut cursor) {
        let begins = line_start(text, child.start_byte());
        // A comment at the end of a line belongs to that line.
        let own_line = begins == 0 || text[..begins].ends_with('\n');
        if introduces(child.kind()) {
            if own_line {
                intro.get_or_insert(begins);
            }
            continue;
        }
        let at = intro.take().unwrap_or(begins);
        if let Some(definition) = unwrapped(child) {
            found.push(Cut { at, level, name: signature(text, definition) });
            let large = child.end_byte() - child.start_byte() > WHOLE_BYTES_MAX;
            if let Some(body) = definition.child_by_field_name("body")
                && large
                && level < LEVEL_MAX
                && is_holder(definition.kind())
            {
                members(text, body, level + 1, found);
            }
            after = true;
        } else if std::mem::take(&mut after) {
            found.push(Cut { at, level, name: String::new() });
        }
    }
}

fn line_start(text: &str, at: usize) -> usize {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |feed| feed + 1);
    if text[start..at].trim().is_empty() { start } else { at }
}

/// The line that names a definition.
fn signature(text: &str, node: Node<'_>) -> String {
    let from = text.floor_char_boundary(node.start_byte());
    let line = text[from..].lines().next().unwrap_or_default();
    line.trim_end_matches(['{', ':', '(', ' ', '\t']).trim().to_owned()
}

fn between(text: &str, cuts: &[Cut]) -> (Vec<Block>, Vec<String>) {
    let (mut blocks, mut names, mut start) = (Vec::new(), Vec::new(), 0);
    let add = |blocks: &mut Vec<Block>, start: usize, end: usize| {
        let piece = &text[start..end];
        // Indentation says something in code, so only whole blank lines are cut off.
        let blank = piece.len() - piece.trim_start().len();
        let from = piece[..blank].rfind('\n').map_or(0, |feed| feed + 1);
        let to = piece.trim_end().len();
        if to > from {
            let (start, end) = ((start + from) as u32, (start + to) as u32);
            blocks.push(Block { start, end, kind: BlockKind::Code, part: 0 });
        }
    };
    for cut in cuts.iter().filter(|cut| cut.at <= text.len()) {
        // A cut that doesn't go forward names something on the same line.
        if cut.at < start {
            continue;
        }
        add(&mut blocks, start, cut.at);
        names.push(cut.name.clone());
        let at = cut.at as u32;
        blocks.push(Block { start: at, end: at, kind: BlockKind::Label(cut.level), part: names.len() as u32 });
        start = cut.at;
    }
    add(&mut blocks, start, text.len());
    (blocks, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str, name: &str) -> Vec<String> {
        let (blocks, names) = blocks(text, name);
        let words = |block: &Block| match block.kind {
            BlockKind::Label(level) => format!("{level} {}", names[block.part as usize - 1]),
            _ => text[block.start as usize..block.end as usize].to_owned(),
        };
        blocks.iter().map(words).collect()
    }

    #[test]
    fn definitions_come_with_their_comments_and_members_under_their_holder() {
        let filler = format!("        // {}\n", "x".repeat(WHOLE_BYTES_MAX));
        let text = format!(
            "use std::fs;\n\n/// Adds.\n#[must_use]\npub fn add() {{\n    1\n\n    + 2\n}}\nconst A: u8 = 1; // one\n\n\
             impl<T> Thing<T> {{\n    /// Goes.\n    fn go(&self) {{\n{filler}    }}\n\n    fn stop() {{}}\n}}\n"
        );
        assert_eq!(
            shape(&text, "src/a.rs"),
            [
                "use std::fs;",
                "1 pub fn add()",
                "/// Adds.\n#[must_use]\npub fn add() {\n    1\n\n    + 2\n}",
                "1 ",
                "const A: u8 = 1; // one",
                "1 impl<T> Thing<T>",
                "impl<T> Thing<T> {",
                "2 fn go(&self)",
                &format!("    /// Goes.\n    fn go(&self) {{\n{filler}    }}"),
                "2 fn stop() {}",
                "    fn stop() {}\n}",
            ]
        );
    }

    #[test]
    fn every_language_names_its_definitions() {
        for (name, text, names) in [
            (
                "a.py",
                "import os\n\n@cached\ndef b(x):\n    return 1\n\nclass C:\n    pass\n",
                &["def b(x)", "class C"][..],
            ),
            (
                "a.js",
                "// Says.\nexport const f = (x) => {\n  return x\n}\nexport default class D {}\n",
                &["const f = (x) =>", "class D {}"],
            ),
            (
                "a.ts",
                "interface I { a: string }\nexport function g(): void {}\n",
                &["interface I { a: string }", "function g(): void {}"],
            ),
            ("a.tsx", "function G() { return <p>x</p> }\n", &["function G() { return <p>x</p> }"]),
            (
                "a.go",
                "package a\n\nfunc (t *T) Run() {\n}\n\ntype T struct {\n}\n",
                &["func (t *T) Run()", "type T struct"],
            ),
            (
                "A.java",
                "package a;\n\n/** Doc. */\npublic class A {\n  int b() { return 1; }\n}\n",
                &["public class A"],
            ),
            ("a.c", "#include <a.h>\n\nint main(void)\n{\n  return 0;\n}\n", &["int main(void)"]),
            ("a.cpp", "namespace n {\nint a() { return 1; }\n}\n", &["namespace n"]),
            ("a.sh", "set -e\nbuild() {\n  make\n}\n", &["build()"]),
        ] {
            let found = blocks(text, name).1;
            let found: Vec<&str> = found.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
            assert_eq!(found, names, "{name}");
        }
    }

    #[test]
    fn what_does_not_parse_is_cut_by_its_lines() {
        let text = "%%% this is ) no } program ((\n\n@@ at all >>> of any kind\n";
        assert_eq!(shape(text, "a.rs").concat().len(), shape(text, "a.unknown").concat().len());
        assert!(blocks("fn a() {}", "a.zig").1.is_empty(), "no grammar for it");
        let deep = "mod a { ".repeat(20_000);
        assert!(!blocks(&deep, "a.rs").0.is_empty());
    }
}
