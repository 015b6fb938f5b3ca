use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

/// Words, numbers of up to three digits, runs of one kind of white space, and single signs, as vocabularies of
/// models cut them, roughly.
fn pieces(text: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_alphabetic() => 0,
        c if c.is_ascii_digit() => 1,
        ' ' => 2,
        '\n' => 3,
        _ => 4,
    };
    let mut pieces = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let piece = &text[start..at];
        let Some(first) = piece.chars().next() else { continue };
        let joins =
            match kind(first) {
                4 => false,
                1 => kind(c) == 1 && piece.len() < 3,
                // A space goes with the word behind it.
                2 if piece == " " => matches!(kind(c), 0 | 2),
                own => kind(c) == own,
            } || piece.starts_with(' ') && piece.len() > 1 && kind(c) == 0 && kind(piece.chars().last().unwrap()) == 0;
        if !joins {
            pieces.push(piece);
            start = at;
        }
    }
    pieces.push(&text[start..]);
    pieces
}

/// How many tokens passed before it was taken for a loop.
fn stopped(text: &str) -> Option<usize> {
    let mut watch = Watch::default();
    let mut ids: HashMap<&str, i32> = HashMap::new();
    pieces(text).into_iter().enumerate().find_map(|(place, piece)| {
        let next = i32::try_from(ids.len()).unwrap();
        let id = *ids.entry(piece).or_insert(next);
        watch.push(id, piece.chars().any(char::is_alphabetic)).then_some(place + 1)
    })
}

fn lines(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(|n| line(n) + "\n").collect()
}

#[test]
fn what_never_ends_is_stopped_soon() {
    let paragraph = "The committee met on Tuesday and agreed that the report should be published. It was then \
                     asked whether the annex belongs to it, and the chair said that it does. ";
    for (name, block) in [
        ("a word", " the"),
        ("a sentence", "I am sorry, I can't help with that. "),
        ("a line of a list", "- Make sure that the device is plugged in.\n"),
        ("a paragraph", paragraph),
        ("a line of code", "    result = process(result, options)\n"),
        ("two lines", "User: What is it?\nAssistant: It is what it is.\n"),
        ("another script", "これは何ですか。"),
        ("JSON", "{\"name\": \"item\", \"value\": 0},\n"),
    ] {
        let unit = pieces(&block.repeat(2)).len() / 2;
        let start = "Let me think about this for a moment. ";
        let stopped = stopped(&format!("{start}{}", block.repeat(900))).expect(name);
        assert!(stopped <= 40 + 270.max(8 * unit), "{name}: after {stopped} tokens of blocks of {unit}");
    }
    // Signs may go on longer, but not for ever.
    for block in ["0, ", "-", "=-=-", "| | |\n", "0 0 0 0 0 0 0 0\n"] {
        let stopped = stopped(&block.repeat(4000)).expect(block);
        assert!((1000..1500).contains(&stopped), "{block:?}: after {stopped} tokens");
    }
}

#[test]
fn code_tables_and_lists_are_let_pass() {
    let board = lines(20, |_| "    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0],".into());
    let matrix =
        lines(16, |row| (0..16).map(|column| if row == column { "1.0, " } else { "0.0, " }).collect::<String>());
    let drawing = format!("+{0}+\n{1}+{0}+\n", "-".repeat(60), lines(12, |_| format!("|{}|", " ".repeat(60))));
    let chorus =
        "Row, row, row your boat, gently down the stream,\nmerrily, merrily, merrily, life is but a dream.\n\n";
    let corpus = [
        ("a numbered list", lines(300, |n| format!("{}. Item {}", n + 1, n + 1))),
        ("steps that are alike", lines(120, |n| format!("Step {n}: turn the screw by {} degrees.", n * 3))),
        ("a table", lines(150, |n| format!("| {n} | Name {n} | yes | 0 | 0 | - |"))),
        ("a table of the same values", lines(60, |n| format!("| {n:02}:00 | closed | closed | closed |"))),
        ("rules of a table", format!("|{}\n", "---|".repeat(40))),
        ("a board of zeros", format!("let board = [\n{board}];")),
        ("a unit matrix", matrix),
        ("a drawing", drawing),
        ("CSV", lines(400, |n| format!("2024-01-{:02},shop {},{},{}", n % 28 + 1, n % 7, n * 17 % 90, n * 31 % 97))),
        ("an enumeration", lines(200, |n| format!("    Variant{n} = {n},"))),
        ("a match", lines(150, |n| format!("        {n} => handle_{n}(context),"))),
        ("assertions", lines(150, |n| format!("    assert_eq!(f({n}), {});", n * n))),
        ("HTML", lines(100, |n| format!("  <li class=\"item\"><a href=\"/page/{n}\">Page {n}</a></li>"))),
        ("a song", format!("{}and the next verse", chorus.repeat(4))),
        ("laughter", "ha".repeat(3) + &" ha".repeat(150)),
        ("blank lines", "\n".repeat(200)),
        ("a dump", lines(200, |n| format!("{:08x}  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00", n * 16))),
        ("closing brackets", format!("{}{}", "[".repeat(300), "]".repeat(300))),
        ("a list of the same", lines(30, |_| "- [ ] todo".into())),
        ("counting", lines(900, |n| n.to_string())),
        ("indents", lines(80, |n| format!("{}\"key{n}\": {{", " ".repeat(n * 2)))),
    ];
    for (name, text) in corpus {
        assert_eq!(stopped(&text), None, "{name}");
    }
}

proptest! {
    // Each case compares hundreds of tokens with hundreds of periods.
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_run_of_every_period_is_the_plain_count(tokens in prop::collection::vec(0_i32..3, 0..700)) {
        let mut watch = Watch::default();
        for token in &tokens {
            watch.push(*token, true);
        }
        for period in 1..=tokens.len().saturating_sub(1).min(PERIOD_TOKENS_MAX) {
            let same = |place: &usize| *place >= period && tokens[*place] == tokens[*place - period];
            let plain = (0..tokens.len()).rev().take_while(same).count();
            prop_assert_eq!(watch.runs[period - 1] as usize, plain, "period {}", period);
        }
    }

    #[test]
    fn random_text_is_no_loop_and_its_repetition_is(
        block in prop::collection::vec(0_i32..5000, 1..400),
        lead in prop::collection::vec(0_i32..5000, 0..3000),
    ) {
        let mut watch = Watch::default();
        prop_assert!(!lead.iter().any(|token| watch.push(*token, true)));
        let most = 240.max(5 * block.len()) + block.len();
        let at = (0..2 * most).find(|n| watch.push(block[n % block.len()], true));
        prop_assert!(at.is_some_and(|at| at < most), "{at:?} of {most}");
    }
}
