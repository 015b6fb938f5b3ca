//! Quotations that answer, marks that are earned.

use super::*;
use crate::about::About;
use crate::place::Spots;
use crate::search::Source;
use crate::source::Encoding;
use crate::walk::Stamp;
use crate::words::Term;
use base::Place;

pub(crate) fn hit(question: &str, text: &str, format: Format) -> Hit {
    let terms: Vec<Term> = words::content_words(question)
        .into_iter()
        .map(|word| Term { word: question[word.span].to_owned(), stem: word.stem, passages: 1, idf: 2.0 })
        .collect();
    Hit {
        passage: 1,
        path: "/files/a.md".into(),
        place: Place::Paragraph { first: 1, last: 2 },
        title: "A".into(),
        about: About::default(),
        heading: String::new(),
        text: text.into(),
        score: 1.0,
        lexical: None,
        dense: None,
        alike: Vec::new(),
        why: None,
        highlights: Vec::new(),
        terms: terms.into(),
        source: Source {
            format,
            part: None,
            encoding: Encoding::Utf8,
            stamp: Stamp { bytes: 0, modified_ns: 0 },
            hash: [0; 32],
            runs: Vec::new(),
            spots: Spots::default(),
        },
    }
}

fn quoted(number: u32, passage: &str) -> Quoted {
    let citation = Citation {
        number,
        path: "/files/a.md".into(),
        place: Place::Page { first: 1, last: 1, boxes: Vec::new() },
        title: "A".into(),
        quote: passage.into(),
        quote_hash: String::new(),
    };
    let standing = |range: Range<usize>| {
        let (byte_start, byte_end) = (range.start as u64, range.end as u64);
        Standing { range, place: Place::Lines { first: 1, last: 1, byte_start, byte_end } }
    };
    Quoted {
        citation,
        hit: 0,
        title: "House book".into(),
        heading: "Boiler".into(),
        passage: passage.into(),
        sentences: sentence::ranges(passage).into_iter().map(standing).collect(),
        whole: true,
    }
}

#[test]
fn the_answering_sentence_is_quoted() {
    for (question, text, format, expected) in [
        (
            "How often must the boiler be serviced?",
            "Boiler service\n\nThe boiler was fitted in spring. It must be serviced every 12 months. Call the fitter.",
            Format::Markdown,
            "It must be serviced every 12 months.",
        ),
        (
            "What is the monthly rent?",
            "Terms\n\nDeposit\t2,300\nMonthly rent\t1,150\nKeys\t3",
            Format::Docx,
            "Monthly rent\t1,150",
        ),
        (
            "when is the bin collected",
            "Dear all,\n\nthe paper bin is collected on the second Tuesday\nof each month, before 7 in the morning.\nRegards\nBea",
            Format::Mail,
            "the paper bin is collected on the second Tuesday\nof each month, before 7 in the morning.",
        ),
    ] {
        let hit = hit(question, text, format);
        assert_eq!(&hit.text[best(question, &hit)], expected);
    }
}

#[test]
fn long_sentences_are_quoted_around_what_was_asked() {
    let text =
        format!("{}the boiler needs service every year {}", "some words before ".repeat(60), "and after ".repeat(60));
    let hit = hit("boiler service", &text, Format::Text);
    let quote = &hit.text[best("boiler service", &hit)];
    assert!(quote.len() <= QUOTE_BYTES_MAX && quote.contains("boiler needs service"), "{quote}");
}

#[test]
fn a_mark_is_earned_by_words_numbers_and_names() {
    let passages = [
        quoted(1, "The boiler must be serviced every 12 months by Nordlicht Heating."),
        quoted(2, "The rent is 1,150 a month."),
    ];
    for (sentence, expected) in [
        ("The boiler must be serviced every 12 months.", &[1][..]),
        ("It should be serviced every 12 months by Nordlicht.", &[1]),
        ("The boiler must be serviced every 6 months.", &[]),
        ("The boiler must be serviced every 12 months by Brandt.", &[]),
        ("The rent is 1,150 a month.", &[2]),
        ("Every 12 months.", &[1]),
        ("A month.", &[2]),
        ("In May.", &[]),
        ("I am happy to help!", &[]),
        ("Bananas grow in warm countries.", &[]),
        ("", &[]),
    ] {
        assert_eq!(attach(sentence, &passages), expected, "{sentence}");
    }
}

#[test]
fn marks_come_at_sentence_ends_however_the_text_is_split() {
    let passages = [
        quoted(1, "The boiler must be serviced every 12 months."),
        quoted(2, "The rent is 1,150 a month for the flat."),
    ];
    let answer =
        "The boiler must be serviced approx. every 12 months [2]. The rent is 1,150 a month.\n\nAsk me more! [a]";
    let expected =
        "The boiler must be serviced approx. every 12 months. [1] The rent is 1,150 a month. [2]\n\nAsk me more! [a]";
    for size in 1..=answer.len() {
        let mut marker = Marker::new(&passages);
        let mut shown = String::new();
        let chars: Vec<char> = answer.chars().collect();
        for piece in chars.chunks(size) {
            shown.push_str(&marker.push(&piece.iter().collect::<String>()));
        }
        let (rest, cited) = marker.finish();
        shown.push_str(&rest);
        assert_eq!(shown.replace(" .", "."), expected, "pieces of {size}");
        assert_eq!(cited.numbers().collect::<Vec<_>>(), [1, 2]);
    }
}

#[test]
fn brackets_that_are_no_marks_stay() {
    let passages = [quoted(1, "The first argument is read."), quoted(2, "The list is open.")];
    for (answer, shown) in [
        ("Read argv[1] and a[0][2].", "Read argv[1] and a[0][2]."),
        ("- [ ] task and [x] done", "- [ ] task and [x] done"),
        ("[], [,] and [ 3 ] stay.", "[], [,] and [ 3 ] stay."),
        ("In [2019] and [3] so.", "In [2019] and [3] so."),
        ("So it is. [1] And so. [1, 2] Yes [2][1]", "So it is. And so. Yes"),
        ("[1] So it is.", "So it is."),
        ("So it is.[1]", "So it is."),
    ] {
        for size in 1..=answer.len() {
            let mut marker = Marker::new(&passages);
            let pieces: Vec<String> =
                answer.as_bytes().chunks(size).map(|piece| String::from_utf8_lossy(piece).into()).collect();
            let mut out: String = pieces.iter().map(|piece| marker.push(piece)).collect();
            out.push_str(&marker.finish().0);
            assert_eq!(out.split_whitespace().collect::<Vec<_>>().join(" "), shown, "pieces of {size}");
        }
    }
}

/// What is quoted for an answer to a passage whose citation names another of its sentences.
fn quoted_for(answer: &str, quoted: &Quoted) -> String {
    let mut marker = Marker::new(std::slice::from_ref(quoted));
    marker.push(answer);
    let (_, supported) = marker.finish();
    let citation = supported.citation(quoted);
    assert_eq!(citation.quote_hash, quote_hash(&citation.quote));
    if let Place::Lines { byte_start, byte_end, .. } = citation.place {
        assert_eq!(quoted.passage[byte_start as usize..byte_end as usize], citation.quote);
    }
    citation.quote
}

#[test]
fn the_quotation_holds_what_the_marks_rest_on() {
    let passage = "The cellar is dry. The boiler was serviced on 3 March. Anna Weber did the work. \
                   The pressure was 1.4 bar. Bring a lamp.";
    let mut one = quoted(1, passage);
    one.citation.quote = "The pressure was 1.4 bar.".into();
    one.citation.quote_hash = quote_hash(&one.citation.quote);
    for (answer, expected) in [
        ("The boiler was serviced on 3 March.", "The boiler was serviced on 3 March."),
        (
            "The boiler was serviced on 3 March by Anna Weber.",
            "The boiler was serviced on 3 March. Anna Weber did the work.",
        ),
        (
            "Anna Weber did the work. The cellar is dry.",
            "The cellar is dry. The boiler was serviced on 3 March. Anna Weber did the work.",
        ),
        // Held already, or supported by nothing: as it was.
        ("The pressure was 1.4 bar.", "The pressure was 1.4 bar."),
        ("Bananas grow in warm countries.", "The pressure was 1.4 bar."),
    ] {
        assert_eq!(quoted_for(answer, &one), expected, "{answer}");
    }
    // Sentences between which something is missing are never joined.
    one.whole = false;
    let answer = "Anna Weber did the work. The cellar is dry.";
    assert_eq!(quoted_for(answer, &one), "Anna Weber did the work.");
    // Nor are those that lie too far apart for one quotation.
    let mut far =
        quoted(1, &format!("The cellar is dry. {}Anna Weber did the work.", "Some more of it follows. ".repeat(40)));
    (far.citation.quote, far.citation.quote_hash) = ("Some more of it follows.".into(), String::new());
    assert_eq!(quoted_for(answer, &far), "Anna Weber did the work.");
}
