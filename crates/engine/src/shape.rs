//! An ask's shape in the words of the worker.

use base::{Form, Onset, Reasoning, Shape};
use wire::{WireReasoning, WireShape};

pub(crate) fn to_wire(shape: &Shape) -> WireShape {
    match shape.form().clone() {
        Form::Free => WireShape::Free,
        Form::Json => WireShape::Json,
        Form::JsonSchema(schema) => WireShape::JsonSchema(schema),
        Form::Regex(expression) => WireShape::Regex(expression),
        Form::Choice(choices) => WireShape::Choice(choices),
        Form::Grammar(lark) => WireShape::Grammar(lark),
    }
}

pub(crate) fn reasoning(onset: &Onset) -> Option<WireReasoning> {
    match onset {
        Onset::Start => None,
        Onset::Reasoned(Reasoning { open, close }) => Some(WireReasoning { open: open.clone(), close: close.clone() }),
    }
}
