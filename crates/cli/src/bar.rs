//! How far a long piece of work has come, on stderr: a bar on a terminal, a line now and then
//! elsewhere. It appears only when the work takes a while, and leaves nothing behind.

use crate::screen::{Screen, clean};
use crate::words::{count, cut, span};
use base::Bytes;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Quick work shows no bar at all: a flash on the screen tells nobody anything.
const QUIET_MS: u64 = 300;
/// Without a terminal, a line at most this often.
const LINE_EVERY_MS: u64 = 5_000;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    Bytes,
    Things,
    Percent,
    /// Nothing but seconds: the work doesn't say how far it is.
    Seconds,
}

#[derive(Debug)]
pub(crate) struct Bar {
    screen: Screen,
    begun: Instant,
    label: String,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    /// A terminal; the bar is made when the work has taken long enough.
    Drawn(Option<(ProgressBar, Unit)>),
    /// Lines; when the last one was said.
    Lines(Instant),
}

impl Bar {
    pub(crate) fn new(screen: &Screen) -> Self {
        let now = Instant::now();
        let shown = if screen.err_terminal { Shown::Drawn(None) } else { Shown::Lines(now) };
        Self { screen: *screen, begun: now, label: String::new(), shown }
    }

    /// Says how far `label` has come; another label begins another bar.
    pub(crate) fn set(&mut self, label: &str, done: u64, total: Option<u64>, unit: Unit) {
        let now = Instant::now();
        if self.label != label {
            self.clear();
            self.label = label.to_string();
            self.begun = now;
        }
        match &mut self.shown {
            Shown::Drawn(drawn) => {
                if drawn.is_none() && now.duration_since(self.begun) >= Duration::from_millis(QUIET_MS) {
                    *drawn = Some((draw(&self.screen, label, total, unit), unit));
                }
                if let Some((bar, _)) = drawn {
                    if let Some(total) = total {
                        bar.set_length(total);
                    }
                    bar.set_position(done);
                }
            }
            Shown::Lines(last) => {
                if now.duration_since(*last) >= Duration::from_millis(LINE_EVERY_MS) {
                    *last = now;
                    // Progress that can't be said is no reason to stop the work.
                    let _ = self.screen.talk(&line(label, done, total, unit, now.duration_since(self.begun)));
                }
            }
        }
    }

    /// Says a sentence without tearing the bar.
    pub(crate) fn say(&mut self, text: &str) {
        match &self.shown {
            Shown::Drawn(Some((bar, _))) => bar.suspend(|| {
                let _ = self.screen.talk(text);
            }),
            Shown::Drawn(None) | Shown::Lines(_) => {
                let _ = self.screen.talk(text);
            }
        }
    }

    /// Takes the bar off the screen.
    pub(crate) fn clear(&mut self) {
        if let Shown::Drawn(drawn) = &mut self.shown
            && let Some((bar, _)) = drawn.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(label: &str, done: u64, total: Option<u64>, unit: Unit, since: Duration) -> String {
    let label = clean(label);
    match (unit, total) {
        (Unit::Percent, _) => format!("{label}: {done} %"),
        (Unit::Seconds, _) => format!("{label}: {done} s"),
        (Unit::Bytes, Some(total)) => format!("{label}: {} of {}", Bytes(done), Bytes(total)),
        (Unit::Bytes, None) => format!("{label}: {}", Bytes(done)),
        (Unit::Things, Some(total)) => {
            format!("{label}: {} of {}{}", count(done), count(total), left(done, total, since))
        }
        (Unit::Things, None) => format!("{label}: {}", count(done)),
    }
}

/// How long the rest will take at the pace so far; nothing where that can't be told.
fn left(done: u64, total: u64, since: Duration) -> String {
    if done == 0 || total <= done {
        return String::new();
    }
    let micros = since.as_micros() * u128::from(total - done) / u128::from(done);
    format!(" · {} left", span(u64::try_from(micros).unwrap_or(u64::MAX)))
}

fn draw(screen: &Screen, label: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(12));
    let numbers = match (unit, total) {
        (Unit::Bytes, Some(_)) => "{iec} · {speed} · {eta} left",
        (Unit::Bytes, None) => "{iec} · {speed}",
        (Unit::Things, Some(_)) => "{of} · {eta} left",
        (Unit::Things, None) => "{of}",
        (Unit::Percent, _) => "{percent} %",
        (Unit::Seconds, _) => "{pos} s",
    };
    let label_width = screen.width.saturating_sub(58).clamp(12, 40);
    let meter = if total.is_some() { "{meter} " } else { "{spinner} " };
    let template = format!("{{msg:{label_width}}} {meter}{numbers}");
    // The template is ours, so a mistake in it shows in the first test that draws.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let dim = screen.err;
    bar.set_style(
        style
            .with_key("meter", move |state: &ProgressState, out: &mut dyn Write| {
                let _ = out.write_str(&meter_of(f64::from(state.fraction()), 16, |rest| dim.dim(rest)));
            })
            .with_key("iec", |state: &ProgressState, out: &mut dyn Write| {
                let _ = match state.len() {
                    Some(total) => write!(out, "{} of {}", Bytes(state.pos()), Bytes(total)),
                    None => write!(out, "{}", Bytes(state.pos())),
                };
            })
            .with_key("speed", |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{}/s", Bytes(state.per_sec() as u64));
            })
            .with_key("of", |state: &ProgressState, out: &mut dyn Write| {
                let _ = match state.len() {
                    Some(total) => write!(out, "{} of {}", count(state.pos()), count(total)),
                    None => write!(out, "{}", count(state.pos())),
                };
            }),
    );
    bar.set_message(cut(&clean(label), label_width));
    bar
}

/// `━━━━━━╸─────────────`: what is done, and what is left in the given paint.
fn meter_of(fraction: f64, cells: usize, paint: impl Fn(&str) -> String) -> String {
    let halves = (fraction.clamp(0.0, 1.0) * (cells * 2) as f64).round() as usize;
    let (full, half) = (halves / 2, halves % 2);
    format!("{}{}{}", "━".repeat(full), "╸".repeat(half), paint(&"─".repeat(cells - full - half)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_keeps_its_length() {
        for (fraction, meter) in [(0.0, "────"), (0.125, "╸───"), (0.5, "━━──"), (1.0, "━━━━"), (7.0, "━━━━")]
        {
            assert_eq!(meter_of(fraction, 4, str::to_string), meter, "{fraction}");
        }
    }

    #[test]
    fn lines_say_how_far_it_is() {
        let line = |label, done, total, unit| line(label, done, total, unit, Duration::from_secs(10));
        assert_eq!(line("model", 3 << 20, Some(94 << 20), Unit::Bytes), "model: 3.0 MiB of 94 MiB");
        assert_eq!(line("reading", 1200, None, Unit::Things), "reading: 1,200");
        assert_eq!(line("reading", 100, Some(1300), Unit::Things), "reading: 100 of 1,300 · 2 min 0 s left");
        assert_eq!(line("reading", 1300, Some(1300), Unit::Things), "reading: 1,300 of 1,300");
        assert_eq!(line("loading", 40, Some(100), Unit::Percent), "loading: 40 %");
    }
}
