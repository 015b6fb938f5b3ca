//! Choosing the next token.

use super::{Token, sys};
use crate::guide::Allowed;
use std::ptr::NonNull;
use wire::WireSampling;

/// Scratch for one choice, kept so that no step allocates.
#[derive(Debug, Default)]
pub(crate) struct Candidates {
    all: Vec<sys::llama_token_data>,
    scores: Vec<f32>,
}

/// The rules of one job, with their memory (penalties, randomness).
#[derive(Debug)]
pub(crate) struct Sampler {
    /// None: the highest score wins, which needs no llama.cpp and a fraction of its time.
    chain: Option<NonNull<sys::llama_sampler>>,
    /// Without a chain: what is added to the scores first. With one it is a link of its own.
    biases: Vec<(usize, f32)>,
    /// Tokens that are to come less often, or not at all.
    shunned: Vec<Token>,
}

impl Sampler {
    /// Builds the chain: bias, penalties, top-k, typical, top-p, min-p, temperature, then a random
    /// choice by the seed, or the best one at temperature 0.
    ///
    /// # Errors
    /// In words, when llama.cpp can't make a link.
    pub(crate) fn new(sampling: &WireSampling, suppressed: &[Token], vocabulary: usize) -> Result<Self, String> {
        let vocabulary = i32::try_from(vocabulary).map_err(|_| "the vocabulary is too large".to_owned())?;
        let greedy = sampling.temperature <= 0.0;
        let penalties = sampling.penalty_last_n > 0
            && (sampling.repeat_penalty != 1.0
                || sampling.presence_penalty != 0.0
                || sampling.frequency_penalty != 0.0);
        let biases: Vec<sys::llama_logit_bias> = sampling
            .logit_bias
            .iter()
            .filter_map(|&(token, bias)| Some(sys::llama_logit_bias { token: i32::try_from(token).ok()?, bias }))
            .chain(suppressed.iter().map(|&token| sys::llama_logit_bias { token, bias: f32::NEG_INFINITY }))
            .collect();
        let shunned = biases.iter().filter(|bias| bias.bias < 0.0).map(|bias| bias.token).collect();
        if greedy && !penalties {
            let biases = biases.iter().filter_map(|bias| Some((usize::try_from(bias.token).ok()?, bias.bias)));
            return Ok(Self { chain: None, biases: biases.collect(), shunned });
        }
        // SAFETY: makes an empty chain that we own; each link is made from plain values (the list of
        // biases is copied), and the chain takes it over.
        unsafe {
            let mut params = sys::llama_sampler_chain_default_params();
            params.no_perf = true;
            let chain = NonNull::new(sys::llama_sampler_chain_init(params)).ok_or("no sampler can be made")?;
            let sampler = Self { chain: Some(chain), biases: Vec::new(), shunned };
            if !biases.is_empty() {
                let count = i32::try_from(biases.len()).map_err(|_| "too many biases".to_owned())?;
                sampler.add(sys::llama_sampler_init_logit_bias(vocabulary, count, biases.as_ptr()))?;
            }
            if penalties {
                sampler.add(sys::llama_sampler_init_penalties(
                    vocabulary,
                    i32::try_from(sampling.penalty_last_n).unwrap_or(i32::MAX),
                    sampling.repeat_penalty,
                    sampling.frequency_penalty,
                    sampling.presence_penalty,
                ))?;
            }
            if greedy {
                sampler.add(sys::llama_sampler_init_greedy())?;
                return Ok(sampler);
            }
            if sampling.top_k > 0 {
                sampler.add(sys::llama_sampler_init_top_k(i32::try_from(sampling.top_k).unwrap_or(i32::MAX)))?;
            }
            if sampling.typical_p < 1.0 {
                sampler.add(sys::llama_sampler_init_typical(sampling.typical_p, 1))?;
            }
            if sampling.top_p < 1.0 {
                sampler.add(sys::llama_sampler_init_top_p(sampling.top_p, 1))?;
            }
            if sampling.min_p > 0.0 {
                sampler.add(sys::llama_sampler_init_min_p(sampling.min_p, 1))?;
            }
            sampler.add(sys::llama_sampler_init_temp(sampling.temperature))?;
            sampler.add(sys::llama_sampler_init_dist(given(sampling.seed)))?;
            Ok(sampler)
        }
    }

    fn add(&self, link: *mut sys::llama_sampler) -> Result<(), String> {
        let Some(chain) = self.chain else { return Ok(()) };
        if link.is_null() {
            return Err("a sampling parameter isn't one that llama.cpp takes".into());
        }
        // SAFETY: both are alive; the chain owns the link from here on.
        unsafe { sys::llama_sampler_chain_add(chain.as_ptr(), link) };
        Ok(())
    }

    /// Takes note of a token that wasn't chosen here: the prompt's, for the penalties.
    pub(crate) fn accept(&mut self, token: Token) {
        if let Some(chain) = self.chain {
            // SAFETY: the chain is alive; the token is of its vocabulary.
            unsafe { sys::llama_sampler_accept(chain.as_ptr(), token) };
        }
    }

    /// Whether a token is to come only where no other can: its bias is below 0.
    pub(crate) fn shuns(&self, token: Token) -> bool {
        self.shunned.contains(&token)
    }

    /// Chooses one of the allowed tokens by the scores and takes note of it. None when no score is a number, or it shuns
    /// [`Allowed::one`].
    pub(crate) fn choose(
        &mut self,
        allowed: &Allowed<'_>,
        logits: &[f32],
        candidates: &mut Candidates,
    ) -> Option<Token> {
        if let Some(token) = allowed.one() {
            let score = usize::try_from(token).ok().and_then(|place| logits.get(place));
            if self.shuns(token) || !score.is_some_and(|score| score.is_finite()) {
                return None;
            }
            if self.chain.is_none() {
                return Some(token);
            }
        }
        let Some(chain) = self.chain else {
            let scores = biased(logits, &self.biases, &mut candidates.scores);
            // The likeliest of all is also that of the allowed ones where it is among them.
            let likeliest = highest(scores)?;
            return if allowed.has(likeliest) { Some(likeliest) } else { highest_of(allowed, scores) };
        };
        candidates.all.clear();
        if allowed.is_all() {
            candidates.all.extend((0..).zip(logits).map(|(id, &logit)| sys::llama_token_data { id, logit, p: 0.0 }));
        } else {
            allowed.each(logits.len(), |place| {
                if let (Ok(id), Some(&logit)) = (Token::try_from(place), logits.get(place)) {
                    candidates.all.push(sys::llama_token_data { id, logit, p: 0.0 });
                }
            });
        }
        if candidates.all.is_empty() {
            return None;
        }
        let mut array = sys::llama_token_data_array {
            data: candidates.all.as_mut_ptr(),
            size: candidates.all.len(),
            selected: -1,
            sorted: false,
        };
        // SAFETY: the array describes our vector, which the chain may reorder and shorten but never
        // grows; `selected` is read only within the size that it left.
        unsafe {
            sys::llama_sampler_apply(chain.as_ptr(), &raw mut array);
            let selected = usize::try_from(array.selected).ok().filter(|&i| i < array.size)?;
            let token = (*array.data.add(selected)).id;
            sys::llama_sampler_accept(chain.as_ptr(), token);
            Some(token)
        }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        if let Some(chain) = self.chain {
            // SAFETY: the chain is ours, and frees its links.
            unsafe { sys::llama_sampler_free(chain.as_ptr()) }
        }
    }
}

/// llama.cpp takes its default seed, the highest number, as a wish to draw one; here every seed has been
/// chosen and is to reproduce.
fn given(seed: u32) -> u32 {
    seed.min(u32::MAX - 1)
}

/// The scores after the biases.
fn biased<'a>(logits: &'a [f32], biases: &[(usize, f32)], scores: &'a mut Vec<f32>) -> &'a [f32] {
    if biases.is_empty() {
        return logits;
    }
    scores.clear();
    scores.extend_from_slice(logits);
    for (token, bias) in biases {
        if let Some(score) = scores.get_mut(*token) {
            *score += bias;
        }
    }
    scores
}

/// Index of the highest score among those that are allowed, the first of equals. None when none is a number
/// above minus infinity: what is forbidden otherwise isn't chosen either.
fn highest_of(allowed: &Allowed<'_>, scores: &[f32]) -> Option<Token> {
    let mut best = (f32::NEG_INFINITY, None);
    allowed.each(scores.len(), |place| {
        if scores[place] > best.0 {
            best = (scores[place], Some(place));
        }
    });
    best.1.and_then(|place| Token::try_from(place).ok())
}

/// Index of the highest score, the first of equals.
fn highest(logits: &[f32]) -> Option<Token> {
    // In blocks, so that the compiler uses wide registers for the maximum; then one look for its place.
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (blocks, rest) = logits.as_chunks::<16>();
    for block in blocks {
        for (lane, &logit) in lanes.iter_mut().zip(block) {
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let best = lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max);
    let place = logits.iter().position(|&logit| logit == best)?;
    i32::try_from(place).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_move_scores_and_may_forbid_a_token() {
        let (logits, mut scores) = ([1.0, 5.0, 3.0], Vec::new());
        let mut best = |biases: &[(usize, f32)]| highest(biased(&logits, biases, &mut scores));
        assert_eq!(best(&[]), Some(1));
        assert_eq!(best(&[(1, f32::NEG_INFINITY)]), Some(2));
        assert_eq!(best(&[(1, f32::NEG_INFINITY), (0, 2.5)]), Some(0));
        // A token that isn't in the vocabulary.
        assert_eq!(best(&[(9, 100.0)]), Some(1));
    }

    #[test]
    fn the_highest_score_is_found_wherever_it_stands() {
        for length in [1, 15, 16, 17, 100] {
            for place in [0, length / 2, length - 1] {
                let mut logits = vec![-3.5; length];
                logits[place] = 2.0;
                assert_eq!(highest(&logits), i32::try_from(place).ok());
            }
        }
        assert_eq!(highest(&[1.0, 1.0]), Some(0));
        assert_eq!(highest(&[f32::NAN, 1.0]), Some(1));
        assert_eq!(highest(&[]), None);
        assert_eq!(highest(&[f32::NAN]), None);
    }
}
