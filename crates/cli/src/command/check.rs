//! `freehold models check`

use crate::bar::{Bar, Unit};
use crate::ending::Outcome;
use crate::link::{Lines, Link};
use crate::screen::{Screen, clean};
use crate::words::{count, rate};
use api::native::NameRequest;
use runtime::view::{CheckEvent, Health, Share, TemplateHealth};

/// So many loops, or objects that didn't come, are worth a word in colour.
const WORRYING: f64 = 0.2;

pub(super) async fn run(name: String, json: bool, screen: &Screen, link: &Link) -> Outcome {
    let mut lines = link.stream("models/check", &NameRequest { name }).await?;
    let mut bar = Bar::new(screen);
    loop {
        match lines.next().await?.ok_or_else(Lines::cut_short)? {
            CheckEvent::Progress { done, total } => {
                bar.set("asking the model", u64::from(done), Some(u64::from(total)), Unit::Things);
            }
            CheckEvent::Done { health } => {
                bar.clear();
                if json {
                    screen.json(&health)?;
                } else {
                    screen.data(&text(&health, screen))?;
                    screen.talk(
                        &screen.err.dim("compare with another quantization of the same model: the same questions"),
                    )?;
                }
                return Ok(());
            }
            CheckEvent::Failed { fault } => {
                bar.clear();
                return Err(fault.into());
            }
        }
    }
}

fn text(health: &Health, screen: &Screen) -> String {
    let paint = screen.out;
    let judged = |share: Share, bad: f64, words: String| {
        if share.of > 0 && bad / f64::from(share.of) > WORRYING { paint.yellow(&words) } else { words }
    };
    let Health { loops, json, shaped, .. } = *health;
    let missing = f64::from(shaped.of.saturating_sub(shaped.count));
    let rows = [
        ("template", template(&health.template)),
        ("loops", judged(loops, f64::from(loops.count), format!("{} of {} long answers", loops.count, loops.of))),
        (
            "JSON",
            judged(
                shaped,
                missing,
                format!(
                    "{} of {} when asked in words, {} of {} with a schema",
                    json.count, json.of, shaped.count, shaped.of
                ),
            ),
        ),
        (
            "perplexity",
            format!(
                "{:.2} over {} tokens of a fixed text",
                health.perplexity,
                count(u64::from(health.perplexity_tokens))
            ),
        ),
        (
            "speed",
            format!(
                "{} tokens/s read, {} tokens/s written",
                rate(health.prefill_tokens_per_sec),
                rate(health.decode_tokens_per_sec)
            ),
        ),
        ("memory", format!("{} counted, {} resident", health.held_bytes, health.resident_bytes)),
    ];
    let head = format!("{}  {}", paint.bold(&clean(&health.model)), clean(&health.quantization));
    let lines = rows.iter().map(|(name, words)| format!("  {name:<10}  {words}"));
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

fn template(template: &TemplateHealth) -> String {
    let TemplateHealth { present, system, turns, problem } = template;
    let mut words = if *present { "in the file".to_owned() } else { "not in the file".to_owned() };
    words += match (system, turns) {
        (true, true) => "; system text and earlier turns reach the model",
        (true, false) => "; earlier turns don't reach the model",
        (false, true) => "; system text doesn't reach the model",
        (false, false) => "; neither system text nor earlier turns reach the model",
    };
    if let Some(problem) = problem {
        words += &format!(" ({})", clean(problem));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Bytes;

    #[test]
    fn a_model_s_health_is_told_in_lines() {
        let health = Health {
            model: "small:q2_k".into(),
            quantization: "Q2_K".into(),
            template: TemplateHealth { present: true, system: false, turns: true, problem: Some("no system".into()) },
            loops: Share { count: 3, of: 8 },
            json: Share { count: 1, of: 10 },
            shaped: Share { count: 10, of: 10 },
            perplexity: 31.4159,
            perplexity_tokens: 1390,
            prefill_tokens_per_sec: 812.4,
            decode_tokens_per_sec: 9.54,
            held_bytes: Bytes(210 << 20),
            resident_bytes: Bytes(99 << 20),
        };
        let expected = "\
small:q2_k  Q2_K
  template    in the file; system text doesn't reach the model (no system)
  loops       3 of 8 long answers
  JSON        1 of 10 when asked in words, 10 of 10 with a schema
  perplexity  31.42 over 1,390 tokens of a fixed text
  speed       812 tokens/s read, 9.5 tokens/s written
  memory      210 MiB counted, 99 MiB resident";
        assert_eq!(text(&health, &Screen::plain()), expected);
    }
}
