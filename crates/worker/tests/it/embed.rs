//! Vectors: of unit length, the same in any company, close for texts that say the same.

use crate::harness::{AS_USUAL, Vectors, Worker, begin, embedder, load, model};
use wire::{Directive, EmbedHow, Load, Report, WireFault, WireFinish, WirePooling};

fn ready() -> (Worker, wire::Ready) {
    Worker::with(&Load { embed: true, context_tokens: 0, ..load() }, &embedder())
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[test]
fn texts_that_say_the_same_lie_close() {
    let (mut worker, ready) = ready();
    let texts = [
        "The cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "Invoices must be paid within thirty days.",
    ];
    let Vectors { dimensions, rows: vectors, tokens, left_out } = worker.vectors(1, &texts).unwrap();
    assert_eq!(dimensions, ready.embedding_dimensions);
    assert_eq!((vectors.len(), tokens.len(), left_out), (3, 3, vec![0; 3]));
    for vector in &vectors {
        assert!((dot(vector, vector) - 1.0).abs() < 1e-4, "length {}", dot(vector, vector));
    }
    let (near, far) = (dot(&vectors[0], &vectors[1]), dot(&vectors[0], &vectors[2]));
    assert!(near > far + 0.2, "same meaning {near}, other {far}");
    assert!(tokens.iter().all(|&count| (5..30).contains(&count)), "{tokens:?}");
}

#[test]
fn a_text_has_the_same_vector_in_any_company() {
    let (mut worker, _) = ready();
    let texts: Vec<String> = (0..150)
        .map(|i| format!("Passage number {i} is about {} and nothing else.", "rivers and stones ".repeat(i % 9)))
        .collect();
    let list: Vec<&str> = texts.iter().map(String::as_str).collect();
    let together = worker.vectors(1, &list).unwrap().rows;
    assert_eq!(together.len(), 150);
    for i in [0, 1, 77, 149] {
        let alone = worker.vectors(2, &[&texts[i]]).unwrap().rows;
        let same = dot(&alone[0], &together[i]);
        assert!(same > 0.999, "text {i}: {same}");
    }
}

#[test]
fn a_text_that_is_too_long_names_both_numbers() {
    let (mut worker, ready) = ready();
    let long = "stone ".repeat(4000);
    let Err(WireFault::ContextOverflow { requested, available }) = worker.vectors(1, &["short", &long]) else {
        panic!("a text of 4000 words was taken");
    };
    assert_eq!(available, ready.context_tokens);
    assert!(requested > 4000, "{requested}");
    worker.vectors(2, &["short"]).unwrap();
}

#[test]
fn special_tokens_in_a_text_are_only_letters() {
    let (mut worker, _) = ready();
    let tokens = worker.vectors(1, &["a [SEP] b", "a b"]).unwrap().tokens;
    assert!(tokens[0] > tokens[1] + 1, "{tokens:?}");
    assert_eq!(worker.count(&["a [SE", "P] b"]), tokens[0]);
}

#[test]
fn each_kind_of_work_goes_to_its_kind_of_worker() {
    let (mut vectors, _) = ready();
    let unfit = vectors.generate(begin(1, "Hello", 5));
    assert!(matches!(unfit, Err(WireFault::Unfit(_))), "{unfit:?}");
    let unfit = Worker::ready().vectors(1, &["Hello"]);
    assert!(matches!(unfit, Err(WireFault::Unfit(_))), "{unfit:?}");
    let mut wrong = Worker::start();
    let file = std::fs::File::open(embedder()).unwrap().into();
    let fault = wrong.load(&load(), &[file]);
    assert!(matches!(fault, Err(WireFault::Unfit(_))), "{fault:?}");
}

#[test]
fn a_generating_model_gives_vectors_too() {
    let (mut worker, ready) = Worker::with(&Load { embed: true, context_tokens: 512, ..load() }, &model());
    let vectors = worker.vectors(1, &["one text", "another text"]).unwrap();
    assert_eq!((vectors.dimensions, vectors.rows.len()), (ready.embedding_dimensions, 2));
}

#[test]
fn questions_are_answered_in_the_middle_of_a_long_list() {
    let (mut worker, _) = ready();
    let text = "a sentence of some length about nothing in particular ".repeat(8);
    worker.send(&Directive::Embed { job: 1, texts: vec![text; 2000], how: AS_USUAL });
    worker.send(&Directive::Ping { nonce: 42 });
    worker.send(&Directive::Count { job: 2, prompt: vec!["a word".into()], add_bos: false });
    let mut answered = 0;
    while answered < 2 {
        match worker.receive().unwrap() {
            Report::Pong { nonce: 42 } | Report::Counted { job: 2, .. } => answered += 1,
            other => panic!("{other:?} before the answers"),
        }
    }
    worker.send(&Directive::Cancel { job: 1 });
    worker.find(|report| matches!(report, Report::Done { job: 1, .. }).then_some(()));
}

#[test]
fn a_text_may_be_as_long_as_memory_was_counted_for() {
    let (mut worker, ready) =
        Worker::with(&Load { embed: true, context_tokens: 0, batch_tokens: 128, ..load() }, &embedder());
    assert_eq!(ready.context_tokens, 128);
    let fault = worker.vectors(1, &["stone ".repeat(200).as_str()]);
    assert!(matches!(fault, Err(WireFault::ContextOverflow { available: 128, .. })), "{fault:?}");
    worker.vectors(2, &["short"; 100]).unwrap();
}

#[test]
fn a_long_list_can_be_cancelled() {
    let (mut worker, _) = ready();
    let text = "a sentence of some length about nothing in particular ".repeat(8);
    let texts = vec![text; 2000];
    worker.send(&Directive::Embed { job: 1, texts, how: AS_USUAL });
    worker.send(&Directive::Cancel { job: 1 });
    let finish = worker.find(|report| match report {
        Report::Done { job: 1, finish, .. } => Some(*finish),
        Report::Vectors { job: 1, .. } => panic!("all vectors were made"),
        _ => None,
    });
    assert_eq!(finish, WireFinish::Cancelled);
    worker.vectors(2, &["and it goes on"]).unwrap();
}

#[test]
fn pooling_is_as_the_file_says_or_as_it_is_asked_for() {
    let (mut worker, _) = ready();
    let text = ["The cat sleeps on the sofa."];
    let mut of = |pooling| worker.vectors_as(1, &text, EmbedHow { pooling, ..AS_USUAL }).unwrap().rows.remove(0);
    let own = of(None);
    // The starter embedder takes the mean.
    let mean = of(Some(WirePooling::Mean));
    assert!(dot(&own, &mean) > 0.9999, "{}", dot(&own, &mean));
    let (first, last) = (of(Some(WirePooling::Cls)), of(Some(WirePooling::Last)));
    for (a, b) in [(&own, &first), (&own, &last), (&first, &last)] {
        assert!(dot(a, b) < 0.99, "two ways of pooling give the same: {}", dot(a, b));
    }
    assert_eq!(of(None), own, "what one asks for changes nothing for the next");
}

#[test]
fn vectors_have_the_model_s_own_length_where_that_is_asked_for() {
    let (mut worker, _) = ready();
    let texts = ["a stone", "the river is long and slow"];
    let unit = worker.vectors(1, &texts).unwrap().rows;
    let raw = worker.vectors_as(2, &texts, EmbedHow { normalize: false, ..AS_USUAL }).unwrap().rows;
    for (unit, raw) in unit.iter().zip(&raw) {
        let length = dot(raw, raw).sqrt();
        assert!((length - 1.0).abs() > 0.01, "length {length}");
        assert!((dot(unit, raw) / length - 1.0).abs() < 1e-4, "another direction");
    }
}

#[test]
fn the_end_of_a_long_text_is_left_out_only_where_that_is_asked_for_and_it_is_said() {
    let (mut worker, ready) = ready();
    let window = ready.context_tokens as usize;
    let long = "stone ".repeat(4000);
    let how = EmbedHow { truncate: true, ..AS_USUAL };
    let made = worker.vectors_as(1, &["short", &long], how).unwrap();
    let whole = worker.count(&[&long]);
    assert_eq!(made.tokens[1], ready.context_tokens);
    assert_eq!(made.left_out, [0, whole - ready.context_tokens]);
    // What is left is the beginning, framed like every text.
    let kept = "stone ".repeat(window - 2);
    let kept = worker.vectors(2, &[&kept]).unwrap();
    assert_eq!(kept.tokens[0], ready.context_tokens);
    assert!(dot(&kept.rows[0], &made.rows[1]) > 0.9999, "{}", dot(&kept.rows[0], &made.rows[1]));
}
