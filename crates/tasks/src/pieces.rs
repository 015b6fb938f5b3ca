//! A text worked on piece by piece, with what lies between kept byte for byte.
//!
//! A piece whose answer can't be used stays as it was, and that is said: words of the person are never lost to a bad
//! answer.

use crate::plan::pieces_of;
use crate::prompt::Prompt;
use crate::segment::{Segment, fixed, segments};
use crate::work::{Work, tokens_about, unfinished};
use base::{Fault, Shape};
use std::ops::Range;

/// LIMIT: bytes of one piece, for models whose words name no other: a paragraph or two.
const PIECE_BYTES: usize = 1600;
/// Bytes that stand for a token where a prompt bounds its parts in tokens.
const BYTES_PER_TOKEN: usize = 3;
/// LIMIT: tokens of a piece's answer beyond twice its letters' count.
const ANSWER_TOKENS_SPARE: u32 = 48;
/// LIMIT: reasons that are told of pieces that stay.
const REASONS_TOLD_MAX: usize = 3;

/// Whether an answer can stand for its piece; if not, why.
pub(crate) type Check<'c> = &'c dyn Fn(&str, &str) -> Result<(), String>;

/// What is done with a piece beside asking the model.
#[derive(Clone, Copy)]
pub(crate) struct How<'c> {
    pub(crate) check: Check<'c>,
    /// What rules make of it before the model sees it; it stays where the model's answer can't be used.
    pub(crate) before: &'c dyn Fn(&str) -> String,
    /// What stands for an answer that can't be used, or that changes nothing.
    pub(crate) instead: &'c dyn Fn(&str) -> Option<String>,
}

impl<'c> How<'c> {
    /// The model's answers alone.
    pub(crate) fn checked(check: Check<'c>) -> Self {
        Self { check, before: &|piece| piece.to_owned(), instead: &|_| None }
    }
}

/// A text that was worked on.
#[derive(Debug, Default)]
pub(crate) struct Reworked {
    pub(crate) text: String,
    /// The pieces that came out otherwise: where in the input they stood, and what stands for them.
    pub(crate) changed: Vec<(Range<usize>, String)>,
    /// Pieces that stay as they were because no answer could be used.
    pub(crate) left: u32,
}

/// Works on each piece with this prompt.
pub(crate) fn rework(work: &mut Work<'_>, prompt: &Prompt<'_>, text: &str, how: &How<'_>) -> Result<Reworked, Fault> {
    let most = prompt.tier.part_tokens_max.map_or(PIECE_BYTES, |tokens| tokens as usize * BYTES_PER_TOKEN);
    let pieces = pieces(text, most);
    work.declare(pieces.len(), None);
    let mut done = Reworked::default();
    let mut reasons: Vec<String> = Vec::new();
    let mut at = 0;
    for (number, range) in pieces.iter().enumerate() {
        work.progress(number, pieces.len());
        hand_out(work, &mut done.text, &text[at..range.start]);
        at = range.end;
        let piece = &text[range.clone()];
        let ruled = (how.before)(piece);
        let answer = whole_or_in_bits(work, prompt, &ruled, how.check)?;
        let made = match answer {
            Ok(made) if made != ruled => made,
            other => {
                let instead = (how.instead)(&ruled);
                if let (Err(reason), None) = (other, &instead) {
                    done.left += 1;
                    if !reasons.contains(&reason) && reasons.len() < REASONS_TOLD_MAX {
                        reasons.push(reason);
                    }
                }
                instead.unwrap_or(ruled)
            }
        };
        hand_out(work, &mut done.text, &made);
        if made != piece {
            done.changed.push((range.clone(), made));
        }
    }
    hand_out(work, &mut done.text, &text[at..]);
    work.progress(pieces.len(), pieces.len());
    if done.left > 0 {
        let (left, all) = (done.left, pieces.len());
        work.say(format!("{left} of {all} pieces stay as they were: {}", reasons.join("; ")));
    }
    Ok(done)
}

fn hand_out(work: &mut Work<'_>, whole: &mut String, text: &str) {
    whole.push_str(text);
    work.text(text);
}

/// Where the pieces lie: words, without what is fixed or blank at their ends.
fn pieces(text: &str, most: usize) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for segment in segments(text) {
        let Segment::Work(range) = segment else { continue };
        for piece in pieces_of(&text[range.clone()], most) {
            let piece = range.start + piece.start..range.start + piece.end;
            found.extend(inner(text, piece));
        }
    }
    found
}

/// The range without blanks and fixed things at its ends; `None` when no word is left.
fn inner(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let (mut start, mut end) = (range.start, range.end);
    loop {
        let piece = &text[start..end];
        let (from, to) = (piece.len() - piece.trim_start().len(), piece.trim_end().len());
        if from >= to {
            return None;
        }
        let before = (start, end);
        (start, end) = (start + from, start + to);
        let kept = fixed(&text[start..end]);
        if let Some(first) = kept.first().filter(|first| first.start == 0) {
            start += first.end;
        } else if let Some(last) = kept.last().filter(|last| last.end == end - start) {
            end = start + last.start;
        }
        if before == (start, end) {
            break;
        }
    }
    let mut bare = String::new();
    let mut at = 0;
    let piece = &text[start..end];
    for kept in fixed(piece) {
        bare.push_str(&piece[at..kept.start]);
        at = kept.end;
    }
    bare.push_str(&piece[at..]);
    bare.contains(char::is_alphabetic).then_some(start..end)
}

/// The piece at once; where the answer loses a tag or an address, what stands between those by itself.
fn whole_or_in_bits(
    work: &mut Work<'_>,
    prompt: &Prompt<'_>,
    piece: &str,
    check: Check<'_>,
) -> Result<Result<String, String>, Fault> {
    let kept = fixed(piece);
    let whole = one(work, prompt, piece, check)?;
    let keeps = |made: &str| {
        let own: Vec<&str> = fixed(made).into_iter().map(|range| &made[range]).collect();
        own == kept.iter().map(|range| &piece[range.clone()]).collect::<Vec<_>>()
    };
    match whole {
        Ok(made) if keeps(&made) => return Ok(Ok(made)),
        Ok(_) if kept.is_empty() => return Ok(Err("the answer brought in tags or addresses of its own".into())),
        Err(reason) if kept.is_empty() => return Ok(Err(reason)),
        Ok(_) | Err(_) => {}
    }
    let mut made = String::new();
    let mut at = 0;
    let ends = kept.iter().cloned().chain(std::iter::once(piece.len()..piece.len()));
    for fixed_one in ends {
        let bit = &piece[at..fixed_one.start];
        match inner(bit, 0..bit.len()) {
            None => made.push_str(bit),
            Some(range) => match one(work, prompt, &bit[range.clone()], check)? {
                Ok(words) if fixed(&words).is_empty() => {
                    made.push_str(&bit[..range.start]);
                    made.push_str(&words);
                    made.push_str(&bit[range.end..]);
                }
                Ok(_) => return Ok(Err("the answer brought in tags or addresses of its own".into())),
                Err(reason) => return Ok(Err(reason)),
            },
        }
        made.push_str(&piece[fixed_one.clone()]);
        at = fixed_one.end;
    }
    Ok(Ok(made))
}

/// One call; the outer fault ends the task, the inner reason only this piece.
fn one(
    work: &mut Work<'_>,
    prompt: &Prompt<'_>,
    piece: &str,
    check: Check<'_>,
) -> Result<Result<String, String>, Fault> {
    let tokens_max = tokens_about(piece).saturating_mul(2).saturating_add(ANSWER_TOKENS_SPARE);
    // What stands on one line stays on one: a small model ends there instead of going on about it.
    let shape = if piece.contains('\n') { Shape::free() } else { Shape::regex(r"[^\n]+")? };
    let answer = work.complete(prompt.messages(piece), shape, tokens_max)?;
    if unfinished(answer.finish) {
        return Ok(Err("the answer found no end".into()));
    }
    let made = cleaned(&answer.text, piece);
    if made.is_empty() {
        return Ok(Err("there was no answer".into()));
    }
    Ok(check(piece, &made).map(|()| made))
}

/// The answer without what models put around one: our own borders, quotation marks, a sentence that announces it.
pub(crate) fn cleaned(answer: &str, piece: &str) -> String {
    let mut text = answer.trim();
    if !piece.contains("<text") {
        text = text.strip_prefix("<text>").unwrap_or(text);
        text = text.split("</text>").next().unwrap_or(text).trim();
    }
    if let Some((first, rest)) = text.split_once('\n')
        && first.trim_end().ends_with(':')
        && !piece.lines().next().unwrap_or_default().trim_end().ends_with(':')
        && !rest.trim().is_empty()
    {
        text = rest.trim();
    }
    for (open, close) in [("\"", "\""), ("“", "”"), ("'", "'")] {
        let inner = text.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
        if let Some(inner) = inner.filter(|inner| !piece.starts_with(open) && !inner.contains(open)) {
            text = inner.trim();
        }
    }
    text.to_owned()
}

/// Whether an answer is so much longer or shorter than its piece that it is something else.
pub(crate) fn of_length(piece: &str, made: &str, least: f64, most: f64) -> Result<(), String> {
    let (before, after) = (piece.chars().count() as f64, made.chars().count() as f64);
    // A few letters more say nothing about a short piece.
    if after > before * most + 40.0 {
        return Err(format!("the answer is {:.0} times as long", after / before.max(1.0)));
    }
    if after + 8.0 < before * least {
        return Err("the answer is much shorter".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_models_put_around_an_answer_goes() {
        for (answer, piece, expected) in [
            ("Here is it:\nHello.", "Hallo.", "Hello."),
            ("\"Hello.\"", "Hallo.", "Hello."),
            ("\"Hello.\"", "\"Hallo.\"", "\"Hello.\""),
            ("<text>\nHello.\n</text> Done", "Hallo.", "Hello."),
            ("Note:\nHello.", "Notiz:\nHallo.", "Note:\nHello."),
        ] {
            assert_eq!(cleaned(answer, piece), expected);
        }
    }

    #[test]
    fn pieces_have_words_and_nothing_fixed_at_their_ends() {
        let text = "<p>Hello <b>you</b></p>\n\n`code` 12\n\n**Bold.** Yes!\n";
        let found: Vec<&str> = pieces(text, 100).into_iter().map(|range| &text[range]).collect();
        assert_eq!(found, ["Hello <b>you", "**Bold.** Yes!"]);
    }
}
