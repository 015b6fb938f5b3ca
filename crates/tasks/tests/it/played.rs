//! A model that answers by a function of its prompt, and remembers what it was asked.

use base::{Fault, Finish, Likelihood, Message};
use freehold_tasks::{Call, Complete, Completion, Done, Step, Task};
use serde_json::Value;
use std::cell::RefCell;

type Answers = Box<dyn Fn(&Call) -> Result<Completion, Fault>>;

pub(crate) struct Played {
    pub(crate) answers: Answers,
    pub(crate) window: u32,
    pub(crate) parameters: u64,
    pub(crate) calls: RefCell<Vec<Call>>,
    pub(crate) scored: RefCell<Vec<Vec<Message>>>,
    pub(crate) counts: RefCell<u32>,
    /// How likely an option is behind a prompt.
    pub(crate) likely: fn(&str, &str) -> f64,
}

impl Played {
    pub(crate) fn new(answers: impl Fn(&Call) -> Result<Completion, Fault> + 'static) -> Self {
        Self {
            answers: Box::new(answers),
            window: 4096,
            parameters: 8_000_000_000,
            calls: RefCell::default(),
            scored: RefCell::default(),
            counts: RefCell::default(),
            likely: |_, _| -1.0,
        }
    }

    /// Answers with a function of the text between the borders.
    pub(crate) fn of_text(answer: impl Fn(&str) -> String + 'static) -> Self {
        Self::new(move |call| Ok(said(&answer(&text_of(call)))))
    }

    pub(crate) fn run(&self, name: &str, options: Value) -> Result<Done, Fault> {
        self.run_with(name, options, &mut |_| {})
    }

    pub(crate) fn run_with(&self, name: &str, options: Value, each: &mut dyn FnMut(Step)) -> Result<Done, Fault> {
        let Value::Object(options) = options else { panic!("options are an object") };
        Task::parse(name, options)?.run(self, each)
    }
}

pub(crate) fn said(text: &str) -> Completion {
    Completion { text: text.to_owned(), finish: Finish::EndOfTurn }
}

/// The input in a call: what stands between the borders of the last turn.
pub(crate) fn text_of(call: &Call) -> String {
    between(&call.messages.last().expect("a turn").content)
}

pub(crate) fn between(turn: &str) -> String {
    let border = ["text-4", "text-3", "text-2", "text"]
        .into_iter()
        .find(|border| turn.contains(&format!("<{border}>\n")) && turn.contains(&format!("\n</{border}>")))
        .expect("a border");
    let (_, rest) = turn.split_once(&format!("<{border}>\n")).expect("it opens");
    rest.rsplit_once(&format!("\n</{border}>")).expect("it closes").0.to_owned()
}

fn words(messages: &[Message]) -> u32 {
    let count: usize = messages.iter().map(|message| message.content.split_whitespace().count()).sum();
    u32::try_from(count).expect("few")
}

impl Complete for Played {
    fn complete(&self, call: &Call, each: &mut dyn FnMut(&str)) -> Result<Completion, Fault> {
        self.calls.borrow_mut().push(call.clone());
        let done = (self.answers)(call)?;
        each(&done.text);
        Ok(done)
    }

    fn score(&self, messages: &[Message], options: &[String]) -> Result<Vec<Likelihood>, Fault> {
        self.scored.borrow_mut().push(messages.to_vec());
        let turn = &messages.last().expect("a turn").content;
        // Behind words that hold no text, the text itself is judged.
        let text = if turn.contains("\n</text") { between(turn) } else { turn.clone() };
        Ok(options.iter().map(|option| Likelihood { log: (self.likely)(&text, option), tokens: 1 }).collect())
    }

    fn count(&self, messages: &[Message]) -> Result<u32, Fault> {
        *self.counts.borrow_mut() += 1;
        Ok(words(messages))
    }

    fn window(&self) -> Result<u32, Fault> {
        Ok(self.window)
    }

    fn parameters(&self) -> Result<u64, Fault> {
        Ok(self.parameters)
    }
}
