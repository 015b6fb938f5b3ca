use super::*;
use proptest::prelude::*;

fn refused(text: &str) -> (usize, usize, String) {
    let Refused { place: Place { line, column }, reason } = to_lark(text).expect_err(text);
    (line, column, reason)
}

#[test]
fn a_grammar_that_does_not_refer_to_itself_is_one_expression() {
    for (gbnf, all) in [
        ("root ::= \"yes\" | \"no\"", r#""yes" | "no""#),
        ("root ::= [a-c^\\]] [^\\n]* .", r"/[\x{5D}-\x{5E}\x{61}-\x{63}]/ G0 /[\x{0}-\x{D7FF}\x{E000}-\x{10FFFF}]/"),
        ("# first\nroot ::= word{2,3} # last\r\n\nword ::= \"a\" |\n  \"b\"", "R1{2,3}"),
        ("word ::= \"\\x41\\u00e9\\U0001F600\\\"\\\\\"\nroot ::= word", "R1"),
        ("root ::= (\"a\"\n \"b\")+ \"c\"?", "G1 G2"),
        ("root ::= \"a\"{0}", "\"\""),
    ] {
        let lark = to_lark(gbnf).expect(gbnf);
        let line = lark.lines().find_map(|line| line.strip_prefix("ALL: ( ")).expect("one terminal");
        assert_eq!(line, format!("{all} ) & /(?s:.+)/"), "{lark}");
    }
    let lark = to_lark("root ::= word*\nword ::= \"\\x41\\u00e9\\U0001F600\\\"\\\\\"").expect("a grammar");
    assert!(lark.contains("start: ALL | \"\"\n") && lark.contains("R1: \"Aé😀\\\"\\\\\"\n"), "{lark}");
}

#[test]
fn a_grammar_that_refers_to_itself_has_its_regular_parts_for_terminals() {
    let json = "root ::= value\nvalue ::= object | array | string | number | \"true\" ws\n\
                object ::= \"{\" ws (string \":\" ws value (\",\" ws string \":\" ws value)*)? \"}\" ws\n\
                array ::= \"[\" ws (value (\",\" ws value)*)? \"]\" ws\n\
                string ::= \"\\\"\" ([^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" [\"\\\\bfnrt])* \"\\\"\" ws\n\
                number ::= \"-\"? [0-9]+ (\".\" [0-9]+)? ws\nws ::= [ \\t\\n]*";
    // The worker's tests have answers keep to this one.
    assert_eq!(to_lark(json).expect("a grammar"), include_str!("json.lark"));
    assert!(to_lark("root ::= \"(\" root \")\" | \"\"").is_ok());
    // Alternatives side by side are one terminal.
    assert!(to_lark("root ::= ([a-z] [a-z] [0-9] | \"ab\" \"!\") root?").is_ok());
    assert!(to_lark("root ::= root \"+\" [0-9]+ | [0-9]+").is_ok());
}

#[test]
fn what_would_be_read_otherwise_is_refused() {
    for text in [
        // The longest would be `ab`, and `a` the right one.
        "root ::= [a-z] [a-z] [0-9] root | \"ab\" \"!\"",
        "root ::= [a-z]+ root \"x\" | \"y\"",
        "root ::= \"a\"* \"ab\" root | \"c\"",
    ] {
        let (line, _, reason) = refused(text);
        assert!(line == 1 && reason.contains("end can't be told"), "{reason}");
    }
}

#[test]
fn what_is_no_gbnf_is_refused_with_its_place() {
    for (text, line, column, words) in [
        ("", 1, 1, "no rule `root`"),
        ("start ::= \"a\"", 1, 1, "no rule `root`"),
        ("root ::= other", 1, 10, "`other`"),
        ("root ::= \"a\"\nroot ::= \"b\"", 2, 1, "second rule"),
        ("root = \"a\"", 1, 6, "`::=`"),
        ("root ::= \"a", 1, 12, "lacks a `\"`"),
        ("root ::= [a", 1, 12, "lacks a `]`"),
        ("root ::= (\"a\"\n", 2, 1, "lacks a `)`"),
        ("root ::= \"a\" )", 1, 14, "belongs to nothing"),
        ("root ::= *", 1, 10, "behind nothing"),
        ("root ::= \"a\"{3,2}", 1, 18, "more at least"),
        ("root ::= \"a\"{5000}", 1, 14, "2000 times"),
        ("root ::= \"a\"{x}", 1, 14, "no count"),
        ("root ::= \"\\q\"", 1, 11, "escape"),
        ("root ::= \"\\x4\"", 1, 11, "2 hexadecimal"),
        ("root ::= \"\\uD800\"", 1, 11, "4 hexadecimal"),
        ("root ::= [z-a]", 1, 10, "down to"),
        ("root ::= []", 1, 10, "no character"),
        ("root ::= <think>", 1, 10, "token"),
        ("root ::= !<[7]>", 1, 10, "token"),
        ("root ::= \"a\" root", 1, 1, "no end"),
        ("\n  root ::= \"a\" ?", 2, 3, ""),
    ] {
        if words.is_empty() {
            assert!(to_lark(text).is_ok(), "{text}");
            continue;
        }
        let (at_line, at_column, reason) = refused(text);
        assert_eq!((at_line, at_column), (line, column), "{text}: {reason}");
        assert!(reason.contains(words), "{text}: {reason}");
    }
    let deep = format!("root ::= {}\"a\"{}", "(".repeat(70), ")".repeat(70));
    assert!(refused(&deep).2.contains("brackets"));
    let many: String = (0..=RULES_MAX).map(|n| format!("r{n} ::= \"a\"\n")).collect();
    assert!(refused(&many).2.contains("rules"));
}

#[test]
fn gbnf_is_told_from_lark() {
    for (text, gbnf) in [
        ("root ::= \"a\"", true),
        ("# c\n\n  my-rule   ::= x", true),
        ("start: \"::=\"", false),
        ("start: x\nx ::= y", false),
        ("", false),
    ] {
        assert_eq!(is_gbnf(text), gbnf, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_place_in_it(text in "[a-z\\[\\]()\"\\\\|*+?{},.:=^#<! 0-9\n-]{0,60}") {
        if let Err(Refused { place, .. }) = to_lark(&text) {
            let lines: Vec<&str> = text.split('\n').collect();
            prop_assert!(place.line >= 1 && place.line <= lines.len());
            prop_assert!(place.column >= 1 && place.column <= lines[place.line - 1].chars().count() + 1);
        }
    }
}
