//! Vectors: all of them, in order, of length one.

use crate::bench::Bench;
use base::Code;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use testkit::{Gate, Script, Step, until};

/// Runs a future with the bound of `until`.
pub(crate) fn wait<F: Future>(what: &str, future: F) -> F::Output {
    let mut future = pin!(future);
    until(what, || match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}

#[test]
fn many_texts_come_back_in_order_from_bounded_frames() {
    let bench = Bench::new();
    let model = bench.embedder("embedder", &Script::default().logged(&bench.log()));
    let texts: Vec<String> = (0..150).map(|i| format!("text number {i} about {}", i * 7)).collect();
    let embedded = bench.engine.embed_blocking(model, texts.clone()).expect("vectors");
    let expected: Vec<Vec<f32>> = texts.iter().map(|text| testkit::scripted::embedding(text)).collect();
    assert_eq!(embedded.vectors.len(), texts.len());
    for (vector, expected) in embedded.vectors.iter().zip(&expected) {
        let length: f32 = vector.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-5, "length {length}");
        assert!(vector.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6));
    }
    assert_eq!(embedded.tokens, vec![5; 150]);
    let frames = bench.frames();
    let sizes = frames.iter().filter_map(|line| line.split("texts=").nth(1)?.parse::<usize>().ok());
    assert_eq!(sizes.clone().sum::<usize>(), 150);
    assert!(sizes.clone().all(|size| size <= 32) && sizes.count() >= 5, "{frames:?}");
}

#[test]
fn a_question_goes_before_an_index_in_the_making() {
    let bench = Bench::new();
    let gate = Gate::new(bench.home.path(), "g");
    let script = Script::default().on("bulk", vec![Step::Wait(gate.path())]).logged(&bench.log());
    let model = bench.embedder("embedder", &script);
    let embed = |texts: Vec<String>| {
        let (engine, model) = (bench.engine.clone(), model.clone());
        std::thread::spawn(move || engine.embed_blocking(model, texts))
    };
    let waiting = |queued| until("asks", || bench.engine.loaded().into_iter().find(|loaded| loaded.queued == queued));
    // Each keeps two lists under way.
    let bulk = [embed(vec!["bulk".into(); 100]), embed(vec!["bulk".into(); 100])];
    assert_eq!(waiting(2).running, 2);
    let question = embed(vec!["a question".into()]);
    waiting(3);
    gate.release(8);
    question.join().expect("it ends").expect("a vector");
    for bulk in bulk {
        assert_eq!(bulk.join().expect("it ends").expect("vectors").vectors.len(), 100);
    }
    let lists: Vec<String> = bench.frames().into_iter().filter(|line| line.starts_with("embed")).collect();
    assert!(lists[2].ends_with("texts=1"), "{lists:?}");
}

#[test]
fn no_text_makes_no_vector_and_loads_nothing() {
    let bench = Bench::new();
    let model = bench.embedder("embedder", &Script::default());
    let embedded = wait("nothing", bench.engine.embed(model, Vec::new())).expect("nothing is well");
    assert!(embedded.vectors.is_empty() && bench.engine.loaded().is_empty());
}

#[test]
fn a_frame_that_fails_fails_the_call_and_the_next_call_works() {
    let bench = Bench::new();
    let script = Script::default().on("poison", vec![Step::Die(11)]).on("long", vec![Step::Overflow(900, 512)]);
    let model = bench.embedder("embedder", &script);
    let fault = bench.engine.embed_blocking(model.clone(), vec!["poison".into()]).expect_err("it dies");
    assert_eq!(fault.code, Code::WorkerDied);
    let fault = bench.engine.embed_blocking(model.clone(), vec!["long".into()]).expect_err("too long");
    assert!(fault.code == Code::ContextOverflow && fault.message.contains("900"), "{fault:?}");
    assert_eq!(bench.engine.embed_blocking(model, vec!["fine".into()]).expect("a vector").vectors.len(), 1);
}

#[test]
fn each_kind_of_model_does_its_own_work_only() {
    let bench = Bench::new();
    let embedder = bench.embedder("embedder", &Script::default());
    let said = bench.say(&embedder, "hello");
    assert_eq!(said.fault().code, Code::ModelUnfit);
    let chat = bench.chat("chat", &Script::default());
    let fault = bench.engine.embed_blocking(chat, vec!["x".into()]).expect_err("a chat model");
    assert!(fault.code == Code::ModelUnfit && fault.message.contains("`chat`"), "{fault:?}");
    assert!(bench.engine.loaded().is_empty(), "nothing was loaded for that");
}
