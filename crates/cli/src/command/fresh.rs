//! How fresh maps are, in words.

use crate::ending::Ending;
use crate::screen::{Screen, clean};
use crate::words::plural;
use runtime::view::{Following, Freshness};

/// What there is to say of one map; empty only when it isn't followed and nothing is pending.
pub(super) fn parts(fresh: &Freshness) -> Vec<String> {
    let mut parts = Vec::new();
    match fresh.following {
        Following::ByHand => {}
        Following::Watched => parts.push("watched".to_string()),
        Following::Walked => parts.push("walked through from time to time".to_string()),
        Following::Paused => parts.push("paused".to_string()),
    }
    if fresh.files_pending > 0 {
        parts.push(format!("{} not read yet", plural(fresh.files_pending, "change")));
    }
    if fresh.vectors_pending > 0 {
        parts.push(format!(
            "{} found by words alone until the vectors are made",
            plural(fresh.vectors_pending, "passage")
        ));
    }
    if let Some(trouble) = &fresh.trouble {
        parts.push(clean(trouble).into_owned());
    }
    parts
}

/// A line for each map that isn't wholly up to date, or isn't kept so.
pub(super) fn say(all: &[Freshness], screen: &Screen) -> Result<(), Ending> {
    for fresh in all {
        if let Some(line) = line(fresh) {
            screen.talk(&screen.err.dim(&line))?;
        }
    }
    Ok(())
}

fn line(fresh: &Freshness) -> Option<String> {
    let followed = matches!(fresh.following, Following::Watched | Following::Walked);
    if followed && fresh.is_complete() {
        return None;
    }
    let mut parts = parts(fresh);
    if !followed {
        let last = fresh.checked_at.as_deref().map_or_else(|| "never".to_string(), |at| format!("last on {at}"));
        parts.push(format!("compared with its files {last}"));
    }
    Some(format!("{}: {}", clean(&fresh.map), parts.join(" · ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_up_to_date_is_said() {
        let mut fresh = Freshness { map: "house".into(), following: Following::Watched, ..Freshness::default() };
        assert_eq!(line(&fresh), None);
        (fresh.files_pending, fresh.vectors_pending) = (1, 12);
        let said =
            "house: watched · 1 change not read yet · 12 passages found by words alone until the vectors are made";
        assert_eq!(line(&fresh).as_deref(), Some(said));
        let paused = Freshness {
            map: "house".into(),
            following: Following::Paused,
            checked_at: Some("2026-11-21T09:00:00Z".into()),
            ..Freshness::default()
        };
        let said = "house: paused · compared with its files last on 2026-11-21T09:00:00Z";
        assert_eq!(line(&paused).as_deref(), Some(said));
    }
}
