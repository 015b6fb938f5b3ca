use super::regular::Regular;
use super::write::{Plain, Sign};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

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

/// Each of these would take years, gigabytes or more stack than there is.
#[test]
fn what_was_written_to_be_too_much_is_refused() {
    let doubled: String = (1..60).map(|n| format!("r{n} ::= r{} r{}\n", n - 1, n - 1)).collect();
    for bottom in ["\"\"", "\"a\"{0}"] {
        let text = format!("root ::= \"(\" root \")\" | r59\nr0 ::= {bottom}\n{doubled}");
        assert!(refused(&text).2.contains("too large"), "{bottom}");
    }
    for (signs, begin) in [("*", "root ::= "), ("?", "root ::= \"(\" root | ")] {
        let text = format!("{begin}\"a\"{}", signs.repeat(250_000));
        assert!(refused(&text).2.contains("deep in each other"), "{signs}");
    }
    let apart: String = (0..9000_u32).filter_map(|n| char::from_u32(0x4E00 + 2 * n)).collect();
    for class in [format!("[{apart}]{{2000}}"), format!("[{apart}]* [{apart}]{{1000}}")] {
        assert!(refused(&format!("root ::= \"(\" root \")\" | {class}")).2.contains("too large"));
    }
    let many: String = (0..2000).map(|n| format!("\"{n}\"? ")).collect();
    assert!(refused(&format!("root ::= \"(\" root \")\" {many}")).2.contains("too large"));
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

/// LIMIT: characters of the texts by which two readings of a grammar are compared.
const LENGTH_MAX: usize = 5;

type Texts = BTreeSet<String>;

/// What a part can be, up to that length, where rules can be `known`.
fn texts(node: &Node, known: &[Texts]) -> Texts {
    let joined = |left: &Texts, right: &Texts| -> Texts {
        let pairs = left.iter().flat_map(|a| right.iter().map(move |b| format!("{a}{b}")));
        pairs.filter(|text| text.len() <= LENGTH_MAX).collect()
    };
    match node {
        Node::Text(text) => Texts::from([text.clone()]),
        Node::Class(ranges) => "ab"
            .chars()
            .filter(|c| ranges.iter().any(|(a, b)| (*a..=*b).contains(&u32::from(*c))))
            .map(String::from)
            .collect(),
        Node::Rule(number) => known[*number].clone(),
        Node::All(nodes) => {
            nodes.iter().fold(Texts::from([String::new()]), |all, node| joined(&all, &texts(node, known)))
        }
        Node::Any(nodes) => nodes.iter().flat_map(|node| texts(node, known)).collect(),
        Node::Again { node, least, most } => {
            let one = texts(node, known);
            let mut all = Texts::new();
            let mut now = Texts::from([String::new()]);
            // Beyond that nothing new comes.
            let most = most.map_or(*least as usize + LENGTH_MAX + 1, |most| most as usize);
            for count in 0..=most {
                if count >= *least as usize {
                    all.extend(now.iter().cloned());
                }
                now = joined(&now, &one);
            }
            all
        }
    }
}

/// Lists of terminals that a grammar allows, up to that length; each of them stands for some text that isn't empty.
fn lists(plain: &Plain, empty: &[bool]) -> BTreeSet<Vec<usize>> {
    let mut known: Vec<BTreeSet<Vec<usize>>> = vec![BTreeSet::new(); plain.rules.len()];
    loop {
        let mut next = known.clone();
        for (number, option) in plain.rules.iter().enumerate().flat_map(|(n, all)| all.iter().map(move |one| (n, one)))
        {
            let mut all = BTreeSet::from([Vec::new()]);
            for sign in option {
                let mut own = match sign {
                    Sign::Rule(number) => known[*number].clone(),
                    Sign::Terminal(number) => BTreeSet::from([vec![*number]]),
                };
                if let Sign::Terminal(number) = sign
                    && empty[*number]
                {
                    own.insert(Vec::new());
                }
                let pairs = all.iter().flat_map(|a| own.iter().map(move |b| [a.clone(), b.clone()].concat()));
                all = pairs.filter(|list| list.len() <= LENGTH_MAX).collect();
            }
            next[number].extend(all);
        }
        if next == known {
            return known.swap_remove(0);
        }
        known = next;
    }
}

/// Whether a reader that takes the longest terminal takes the text behind these terminals: it goes on as long as any
/// that is waited for may go on, and never back.
fn takes_longest(text: &str, before: &[usize], lists: &BTreeSet<Vec<usize>>, words: &[Texts]) -> bool {
    if text.is_empty() {
        return lists.contains(before);
    }
    let waited: BTreeSet<usize> = lists
        .iter()
        .filter(|list| list.starts_with(before))
        .filter_map(|list| list.get(before.len()).copied())
        .collect();
    let goes_on = |length: usize| {
        waited.iter().any(|t| words[*t].iter().any(|word| word.len() >= length && word.starts_with(&text[..length])))
    };
    let length = (1..=text.len()).take_while(|length| goes_on(*length)).last().unwrap_or(0);
    let ended = waited.iter().filter(|terminal| length > 0 && words[**terminal].contains(&text[..length]));
    ended.copied().any(|terminal| takes_longest(&text[length..], &[before, &[terminal]].concat(), lists, words))
}

fn node(depth: u32) -> BoxedStrategy<Node> {
    let leaf = prop_oneof![
        3 => prop::sample::select(vec!["a", "b", "ab", "ba", ""]).prop_map(|text| Node::Text(text.into())),
        2 => prop::sample::select(vec![vec![(97, 97)], vec![(97, 98)]]).prop_map(Node::Class),
        2 => (0..2_usize).prop_map(Node::Rule),
    ];
    if depth == 0 {
        return leaf.boxed();
    }
    let again = (node(depth - 1), 0..2_u32, prop::option::of(0..2_u32));
    prop_oneof![
        3 => leaf,
        3 => prop::collection::vec(node(depth - 1), 1..4).prop_map(Node::All),
        2 => prop::collection::vec(node(depth - 1), 1..4).prop_map(Node::Any),
        1 => again.prop_map(|(node, least, more)| Node::Again { node: Box::new(node), least, most: more.map(|more| least + more) }),
    ]
    .boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn what_is_not_refused_is_read_alike_by_characters_and_by_the_longest_terminal(one in node(2), two in node(2)) {
        let place = Place { line: 1, column: 1 };
        let rules: Vec<Rule> =
            [one, two].into_iter().enumerate().map(|(n, node)| Rule { name: format!("r{n}"), place, node }).collect();
        let regular = Regular::of(&rules);
        if regular.is[0] || write::lark(&rules).is_err() {
            return Ok(());
        }
        let mut known = vec![Texts::new(); rules.len()];
        loop {
            let next: Vec<Texts> = rules.iter().map(|rule| texts(&rule.node, &known)).collect();
            if next == known {
                break;
            }
            known = next;
        }
        let plain = Plain::of(&rules, &regular);
        let words: Vec<Texts> = plain.terminals.iter().map(|node| texts(node, &known)).collect();
        let empty: Vec<bool> = words.iter().map(|words| words.contains("")).collect();
        let lists = lists(&plain, &empty);
        for length in 0..=LENGTH_MAX {
            for bits in 0..1_usize << length {
                let text: String = (0..length).map(|n| if bits >> n & 1 == 0 { 'a' } else { 'b' }).collect();
                let longest = takes_longest(&text, &[], &lists, &words);
                prop_assert_eq!(longest, known[0].contains(&text), "{:?} of {:?}", text, rules);
            }
        }
    }
}
