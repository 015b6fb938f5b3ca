//! Looks out for the marks that open a call in an answer's text, in pieces of any size.
//!
//! It knows as much of thoughts as it must: what stands in one is no call. Nothing is decided about the text itself;
//! whoever reads the answer takes it apart by the same marks.

/// Where and by what a call begins.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    /// What opens a call.
    pub openings: Vec<String>,
    /// What opens and closes stretches that hold no calls.
    pub quiet_open: Vec<String>,
    pub quiet_close: Vec<String>,
    /// Such a stretch may begin anywhere. Else only at a fresh place: at the beginning of the answer, behind a call,
    /// and behind another stretch.
    pub quiet_anywhere: bool,
    /// What may stand, beside white space, at a fresh place and leaves it fresh.
    pub passed: Vec<String>,
}

/// A mark that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its place among the openings.
    pub opening: usize,
    /// What the piece holds behind it.
    pub rest: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    Text,
    Quiet,
}

/// Watches one answer.
#[derive(Debug, Clone)]
pub struct Lookout {
    marks: Marks,
    state: State,
    /// The last bytes, in which a mark may have begun.
    tail: Vec<u8>,
    longest: usize,
}

impl Lookout {
    /// `quiet`: the answer begins within a stretch that holds no calls. Empty marks are none.
    pub fn new(mut marks: Marks, quiet: bool) -> Self {
        for list in [&mut marks.quiet_open, &mut marks.quiet_close, &mut marks.passed] {
            list.retain(|mark| !mark.is_empty());
        }
        let all = marks.openings.iter().chain(&marks.quiet_open).chain(&marks.quiet_close).chain(&marks.passed);
        let longest = all.map(String::len).max().unwrap_or(0);
        let state = if quiet { State::Quiet } else { State::Fresh };
        Self { marks, state, tail: Vec::new(), longest }
    }

    /// What stands before the answer, as far as a mark may begin in it.
    #[must_use]
    pub fn behind(self, begun: &str) -> Self {
        Self { tail: begun.as_bytes().to_vec(), ..self }
    }

    /// Takes the next piece; the answer is the first mark that it completes. What comes behind the mark is not looked
    /// at: the call goes on with it, or [`Lookout::pass`] is told.
    pub fn push(&mut self, piece: &[u8]) -> Option<Found> {
        self.tail.extend_from_slice(piece);
        loop {
            match self.state {
                State::Fresh => {
                    if !self.at_fresh() {
                        return None;
                    }
                }
                State::Quiet => match first_of(&self.tail, &self.marks.quiet_close) {
                    Some((at, mark)) => {
                        let end = at + self.marks.quiet_close[mark].len();
                        self.tail.drain(..end);
                        self.state = State::Fresh;
                    }
                    None => {
                        self.forget();
                        return None;
                    }
                },
                State::Text => {
                    let opening = first_of(&self.tail, &self.marks.openings);
                    let open = if self.marks.quiet_anywhere { self.marks.quiet_open.as_slice() } else { &[] };
                    match (opening, first_of(&self.tail, open)) {
                        (found, Some((at, mark))) if found.is_none_or(|(before, _)| at < before) => {
                            let end = at + self.marks.quiet_open[mark].len();
                            self.tail.drain(..end);
                            self.state = State::Quiet;
                        }
                        (Some((at, opening)), _) => {
                            let rest = self.tail.split_off(at + self.marks.openings[opening].len());
                            self.tail.clear();
                            return Some(Found { opening, rest });
                        }
                        (None, _) => {
                            self.forget();
                            return None;
                        }
                    }
                }
            }
        }
    }

    /// A call has ended: what follows stands at a fresh place, or still in the stretch that holds the call.
    pub fn resume(&mut self) {
        self.state = if self.marks.quiet_anywhere { State::Quiet } else { State::Fresh };
        self.tail.clear();
    }

    /// What a mark was found before is no call, but text.
    pub fn pass(&mut self) {
        self.state = State::Text;
        self.tail.clear();
    }

    /// Whether more of the text has become clear.
    fn at_fresh(&mut self) -> bool {
        let blank = self.tail.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.tail.drain(..blank);
        if let Some(mark) = self.marks.quiet_open.iter().find(|mark| self.tail.starts_with(mark.as_bytes())) {
            self.tail.drain(..mark.len());
            self.state = State::Quiet;
            return true;
        }
        if let Some(mark) = self.marks.passed.iter().find(|mark| self.tail.starts_with(mark.as_bytes())) {
            self.tail.drain(..mark.len());
            return true;
        }
        // What is the beginning of an opening as well waits all the same: that can't be complete before.
        let mut marks = self.marks.quiet_open.iter().chain(&self.marks.passed);
        if marks.any(|mark| mark.as_bytes().starts_with(&self.tail)) {
            return false;
        }
        self.state = State::Text;
        !self.tail.is_empty()
    }

    /// Keeps no more than a mark can have begun in.
    fn forget(&mut self) {
        let more = self.tail.len().saturating_sub(self.longest.saturating_sub(1));
        self.tail.drain(..more);
    }
}

/// Where the first of these marks begins, and which it is; at one place the longest.
fn first_of(text: &[u8], marks: &[String]) -> Option<(usize, usize)> {
    let place = |mark: &String| text.windows(mark.len().max(1)).position(|window| window == mark.as_bytes());
    let found = marks.iter().enumerate().filter_map(|(n, mark)| place(mark).map(|at| (at, n)));
    found.min_by_key(|(at, n)| (*at, std::cmp::Reverse(marks[*n].len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marks(anywhere: bool) -> Marks {
        let list = |marks: &[&str]| marks.iter().map(|mark| (*mark).to_owned()).collect();
        Marks {
            openings: list(&["<call>", "<calls>", "[C]"]),
            quiet_open: list(&["<think>"]),
            quiet_close: list(&["</think>"]),
            quiet_anywhere: anywhere,
            passed: list(&["</call>"]),
        }
    }

    /// Where marks were found, with the text behind the last of them; each call is over at once.
    fn walk(lookout: &mut Lookout, pieces: &[&[u8]]) -> Vec<usize> {
        let mut found = Vec::new();
        for piece in pieces {
            let mut rest = piece.to_vec();
            while let Some(next) = lookout.push(&rest) {
                found.push(next.opening);
                lookout.resume();
                rest = next.rest;
            }
        }
        found
    }

    #[test]
    fn marks_are_found_where_they_open_a_call() {
        for (text, quiet, found) in [
            ("no call", false, vec![]),
            ("look: <call>", false, vec![0]),
            ("<calls><call>", false, vec![1, 0]),
            ("<think>a <call> b</think><call>", false, vec![0]),
            ("  <think><call></think>\n<think>[C]</think>x", false, vec![]),
            ("a <think><call>", false, vec![0]),
            ("still thinking <call> </think> [C]", true, vec![2]),
            ("<call></call>\n<think><call></think>", false, vec![0]),
            ("</call> <call>", false, vec![0]),
            ("<cal<call>", false, vec![0]),
            ("<call", false, vec![]),
        ] {
            let whole = walk(&mut Lookout::new(marks(false), quiet), &[text.as_bytes()]);
            assert_eq!(whole, found, "{text}");
        }
    }

    #[test]
    fn bodies_of_messages_hold_none() {
        let bodies = |text: &str| walk(&mut Lookout::new(marks(true), false), &[text.as_bytes()]);
        assert_eq!(bodies("head <think>[C]</think> head [C]"), [2]);
        assert_eq!(bodies("[C] is behind its own mark in a body [C]"), [2]);
        assert_eq!(bodies("<call>x</think>[C]"), [0, 2]);
    }

    #[test]
    fn a_mark_may_have_begun_before_the_answer() {
        let mut lookout = Lookout::new(marks(false), false).behind("<ca");
        assert_eq!(walk(&mut lookout, &[b"ll>", b"<call>"]), [0, 0]);
    }

    #[test]
    fn what_follows_a_mark_is_given_back() {
        let mut lookout = Lookout::new(marks(false), false);
        assert_eq!(lookout.push(b"ok <ca"), None);
        assert_eq!(lookout.push(b"ll>{\""), Some(Found { opening: 0, rest: b"{\"".to_vec() }));
        lookout.pass();
        // Text, and no place for a thought.
        assert_eq!(walk(&mut lookout, &[b"<think>", b"[C]"]), [2]);
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            parts in prop::collection::vec(
                prop::sample::select(vec!["<call>", "<calls>", "[C]", "<think>", "</think>", "</call>", " ", "x", "<", "c"]),
                0..16,
            ),
            anywhere in any::<bool>(),
            quiet in any::<bool>(),
            size in 1..5_usize,
        ) {
            let text = parts.concat();
            let whole = walk(&mut Lookout::new(marks(anywhere), quiet), &[text.as_bytes()]);
            let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
            prop_assert_eq!(walk(&mut Lookout::new(marks(anywhere), quiet), &pieces), whole);
        }

        #[test]
        fn no_more_is_kept_than_a_mark_is_long(text in "[ -~]{0,200}", anywhere in any::<bool>()) {
            let mut lookout = Lookout::new(marks(anywhere), false);
            for piece in text.as_bytes().chunks(3) {
                if lookout.push(piece).is_some() {
                    lookout.resume();
                }
                prop_assert!(lookout.tail.len() <= 8);
            }
        }
    }
}
