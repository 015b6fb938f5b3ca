//! Which turns of a conversation to leave out so that the rest fits the window. Pure.
//!
//! Whole turns go, the oldest first, and as few as will do. System text and the last turn of the user
//! always stay. How many tokens a prompt takes is known only to the model's template and vocabulary, so
//! [`Search`] asks for real counts, of as few candidates as it can.

use base::{Compaction, Message, Role};

/// An answer should find this part of the window free, or as much as it may take if that is less.
const ANSWER_SHARE: u32 = 4;
/// Role, marks and line breaks that a template puts around each message, about.
const MESSAGE_BYTES: u64 = 24;

/// Where each turn begins. A turn is what the user said, with all that was answered to it.
fn turns(messages: &[Message]) -> Vec<usize> {
    let mut starts = Vec::new();
    let mut before = None;
    for (place, message) in messages.iter().enumerate().filter(|(_, message)| message.role != Role::System) {
        let begins = message.role == Role::User && before != Some(Role::User);
        if begins || starts.is_empty() {
            starts.push(place);
        }
        before = Some(message.role);
    }
    starts
}

/// The messages without the first `count` turns. System text stays wherever it stands.
pub fn without(messages: &[Message], count: usize) -> Vec<Message> {
    let starts = turns(messages);
    let from = starts.get(count).or(starts.last()).copied().unwrap_or(0);
    let kept = |(place, message): &(usize, &Message)| *place >= from || message.role == Role::System;
    messages.iter().enumerate().filter(kept).map(|(_, message)| message.clone()).collect()
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Count the tokens of the prompt without so many turns, and tell [`Search::learn`].
    Count(usize),
    /// That many turns are the fewest, and this is what is left out with them.
    Take(usize, Compaction),
    /// What must stay takes so many tokens, which is too much.
    Never { requested: u32 },
}

/// The search for the smallest number of turns that must go.
#[derive(Debug)]
pub struct Search {
    /// Bytes that are left without the first 0, 1, 2 … turns: what guesses are made from.
    sizes: Vec<u64>,
    /// Messages that go with the first 0, 1, 2 … turns.
    messages: Vec<u32>,
    available: u32,
    /// Tokens that the prompt and the room for an answer may not exceed together.
    room: u32,
    /// Tokens of the whole prompt.
    whole: u32,
    /// So many turns are too few, and what the prompt takes without them.
    low: (usize, u32),
    /// So many are enough.
    high: Option<(usize, u32)>,
    counts: u32,
}

impl Search {
    /// The prompt of all `messages` takes `tokens`, more than `available`. `answer_tokens`: the longest answer
    /// that is wanted, where that is known.
    pub fn new(messages: &[Message], tokens: u32, available: u32, answer_tokens: Option<u32>) -> Self {
        let starts = turns(messages);
        let (mut sizes, mut gone) = (Vec::new(), Vec::new());
        let size = |message: &Message| message.bytes() as u64 + MESSAGE_BYTES;
        let mut left: u64 = messages.iter().map(size).sum();
        let mut count = 0;
        let mut from = starts.first().copied().unwrap_or(0);
        for start in starts.iter().copied().chain(starts.is_empty().then_some(0)) {
            for message in messages[from..start].iter().filter(|message| message.role != Role::System) {
                left -= size(message);
                count += 1;
            }
            sizes.push(left);
            gone.push(count);
            from = start;
        }
        let most = (available / ANSWER_SHARE).max(1);
        let room = answer_tokens.map_or(most, |tokens| tokens.clamp(1, most));
        Self { sizes, messages: gone, available, room, whole: tokens, low: (0, tokens), high: None, counts: 0 }
    }

    /// Most turns that may go.
    fn last(&self) -> usize {
        self.sizes.len() - 1
    }

    pub fn step(&self) -> Step {
        match self.high {
            Some((turns, tokens)) if turns == self.low.0 + 1 => self.take(turns, tokens),
            None if self.low.0 == self.last() => match self.low {
                // Too little room for a good answer, but room for some.
                (turns, tokens) if turns > 0 && tokens < self.available => self.take(turns, tokens),
                (_, tokens) => Step::Never { requested: tokens.saturating_add(1) },
            },
            _ => Step::Count(self.guess()),
        }
    }

    /// The prompt without `turns` turns takes `tokens`.
    pub fn learn(&mut self, turns: usize, tokens: u32) {
        self.counts += 1;
        if tokens.saturating_add(self.room) <= self.available {
            self.high = Some((turns, tokens));
        } else {
            self.low = (turns, tokens);
        }
    }

    fn take(&self, turns: usize, tokens: u32) -> Step {
        let messages = self.messages[turns];
        let turns_out = u32::try_from(turns).unwrap_or(u32::MAX);
        Step::Take(turns, Compaction { turns: turns_out, messages, tokens: self.whole.saturating_sub(tokens) })
    }

    /// Between what is too few and what is enough: by the bytes, and every third time by halves, as bytes may
    /// mislead. So the counts are bounded by three times the logarithm of the number of turns.
    fn guess(&self) -> usize {
        let (low, tokens) = self.low;
        let beyond = self.high.map_or(self.last() + 1, |(turns, _)| turns);
        if self.counts % 3 == 2 {
            return low + (beyond - low) / 2;
        }
        let goal = u64::from(self.available.saturating_sub(self.room));
        // Tokens per byte, from the pair of counts around the place that is looked for.
        let (to_size, to_tokens) = self.high.map_or((0, 0), |(turns, tokens)| (self.sizes[turns], u64::from(tokens)));
        let (bytes, span) = (self.sizes[low] - to_size, u64::from(tokens).saturating_sub(to_tokens));
        let fits = |turns: usize| {
            let left = u128::from(self.sizes[turns] - to_size) * u128::from(span) / u128::from(bytes.max(1));
            left + u128::from(to_tokens) <= u128::from(goal)
        };
        (low + 1..beyond).find(|turns| fits(*turns)).unwrap_or(beyond - 1)
    }
}

#[cfg(test)]
mod tests;
