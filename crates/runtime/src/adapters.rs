//! Which adapters a request wants, by name.

use crate::Inner;
use base::{AdapterChoice, Code, Fault, Modality};
use engine::{AdapterSource, ModelSource};

/// LIMIT: adapters of one answer.
pub const ADAPTERS_MAX: usize = 4;
/// Beyond this nothing but noise comes out.
const SCALE_MAX: f32 = 10.0;

/// `base+adapter+adapter` in its parts.
fn split(name: &str) -> (&str, Vec<&str>) {
    let mut parts = name.split('+').map(str::trim);
    (parts.next().unwrap_or_default(), parts.collect())
}

/// The adapters of a request, those in the model's name first.
fn wanted(named: &[&str], listed: &[AdapterChoice]) -> Result<Vec<AdapterChoice>, Fault> {
    let named = named.iter().map(|name| AdapterChoice { name: (*name).to_owned(), scale: 1.0 });
    let all: Vec<AdapterChoice> = named.chain(listed.iter().cloned()).collect();
    if all.len() > ADAPTERS_MAX {
        return Err(Fault::new(Code::InvalidAsk, format!("`adapters` holds {}", all.len()))
            .hint(format!("use at most {ADAPTERS_MAX} for one answer")));
    }
    match all.iter().find(|choice| !choice.scale.is_finite() || choice.scale.abs() > SCALE_MAX) {
        Some(AdapterChoice { name, scale }) => {
            Err(Fault::new(Code::InvalidAsk, format!("`adapters` gives `{name}` the scale {scale}"))
                .hint(format!("use a value from -{SCALE_MAX} to {SCALE_MAX}; 1 is as it was trained")))
        }
        None => Ok(all),
    }
}

impl Inner {
    /// The chat model of an ask with the adapters that it wants, in an order of their own, so that two asks for the
    /// same share their steps.
    pub(crate) fn chat_source(&self, model: &str, adapters: &[AdapterChoice]) -> Result<ModelSource, Fault> {
        let is_whole = !model.contains('+') || self.store.find(model).is_ok();
        let (base, named) = if is_whole { (model, Vec::new()) } else { split(model) };
        let mut source = self.chat_model(base)?;
        for choice in wanted(&named, adapters)? {
            let adapter = self.adapter_for(&choice, &source)?;
            if source.adapters.iter().any(|other| other.name == adapter.name) {
                return Err(Fault::new(Code::InvalidAsk, format!("`adapters` names `{}` twice", adapter.name.0))
                    .hint("name each adapter once, with its scale"));
            }
            source.adapters.push(adapter);
        }
        // None of it is the model without it.
        source.adapters.retain(|adapter| adapter.scale != 0.0);
        source.adapters.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(source)
    }

    fn adapter_for(&self, choice: &AdapterChoice, model: &ModelSource) -> Result<AdapterSource, Fault> {
        let entry = self.store.find(&choice.name)?;
        let (name, base) = (&entry.name.0, &model.name.0);
        if entry.facts.modality != Modality::Adapter {
            let words = format!("`{name}` is {} and no adapter", super::kind(entry.facts.modality));
            return Err(Fault::new(Code::ModelUnfit, words).hint("`freehold models` shows what each file is for"));
        }
        if entry.facts.arch != model.facts.arch {
            let (its, own) = (&entry.facts.arch, &model.facts.arch);
            return Err(Fault::new(
                Code::ModelUnfit,
                format!("`{name}` is an adapter for models of the architecture `{its}`; `{base}` is a `{own}`"),
            )
            .hint("use it with the model that it was trained on"));
        }
        if let Some(problem) = entry.problem() {
            return Err(Fault::new(Code::ModelInvalid, format!("`{name}` can't be used: {problem}"))
                .hint("add it again: `freehold models add FILE`"));
        }
        let [path] = entry.parts.as_slice() else {
            return Err(Fault::new(Code::ModelUnfit, format!("`{name}` is split into {} files", entry.parts.len()))
                .hint("use a file that holds all of the adapter"));
        };
        let (path, bytes) = (path.clone(), entry.bytes.0);
        Ok(AdapterSource { name: entry.name, path, bytes, scale: choice.scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_adapters() {
        assert_eq!(split("smollm2"), ("smollm2", vec![]));
        assert_eq!(split("smollm2:q4_1+pirate + calm"), ("smollm2:q4_1", vec!["pirate", "calm"]));
        assert_eq!(split("+pirate"), ("", vec!["pirate"]), "with the default model");
    }

    #[test]
    fn adapters_are_few_and_scaled_within_reason() {
        let choice = |scale| AdapterChoice { name: "a".into(), scale };
        assert_eq!(wanted(&["b"], &[choice(0.5)]).expect("fine").len(), 2);
        for scale in [f32::NAN, f32::INFINITY, 11.0, -11.0] {
            let fault = wanted(&[], &[choice(scale)]).expect_err("refused");
            assert!(fault.message.starts_with("`adapters`") && fault.message.contains("`a`"), "{fault:?}");
        }
        let fault = wanted(&["b", "c"], &vec![choice(1.0); 3]).expect_err("too many");
        assert!(fault.message.contains('5'), "{fault:?}");
    }
}
