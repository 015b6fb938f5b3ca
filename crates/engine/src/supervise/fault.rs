//! What a worker says, in the words of the rest of Freehold.

use base::{Code, Fault, Finish};
use wire::{WireFault, WireFinish, WireProtection};

/// A worker's fault; `name` is the model's.
pub(super) fn from_wire(name: &str, fault: WireFault) -> Fault {
    match fault {
        WireFault::ContextOverflow { requested, available } => Fault::new(
            Code::ContextOverflow,
            format!("the prompt takes {requested} tokens; `{name}` has a window of {available} here"),
        )
        .shortage(requested, available)
        .hint("send less text; nothing was cut off and nothing was answered")
        .hint("the window grows with the memory that is free, up to what the model was trained for or FREEHOLD_CONTEXT says"),
        WireFault::Protocol(words) => {
            Fault::new(Code::Internal, "worker and daemon misunderstood each other").cause(words)
        }
        WireFault::LoadFailed(words) => Fault::new(Code::ModelLoadFailed, format!("`{name}` could not be loaded"))
            .cause(words)
            .hint("the file may be damaged, or newer than this build of llama.cpp: pull it again, or try another"),
        WireFault::BackendFailed(words) => Fault::new(Code::BackendFailed, "the worker could not use its ggml backend")
            .cause(words)
            .hint("`freehold doctor` tests the backends of this machine"),
        WireFault::DecodeFailed(words) => Fault::new(Code::Internal, format!("`{name}` failed while computing"))
            .cause(words)
            .hint("send the ask again; if it fails again, please report it with the output of `freehold doctor`"),
        WireFault::ConfinementFailed(words) => {
            Fault::new(Code::ConfinementFailed, "the worker could not be confined, so it did not load the model")
                .cause(words)
                .hint("`freehold doctor` shows which protection this system offers")
        }
        WireFault::Unfit(words) => Fault::new(Code::ModelUnfit, format!("`{name}` can't do this"))
            .cause(words)
            .hint("`freehold models` shows what each model is for"),
        WireFault::MemoryShort(words) => {
            Fault::new(Code::MemoryShort, format!("`{name}` needs more memory than there is")).cause(words).hint(
                "close other programs, set a smaller window with FREEHOLD_CONTEXT, or take a smaller quantization",
            )
        }
        WireFault::KvCacheUnfit { kv_cache, reason } => {
            let kind = kv_cache.as_str();
            Fault::new(Code::ModelUnfit, format!("`{name}` can't keep its context as `{kind}`"))
                .cause(reason)
                .hint("set `kv_cache = \"f16\"` in config.toml, or FREEHOLD_KV_CACHE=f16: every model can do that")
        }
        WireFault::AdapterUnfit { adapter, reason } => {
            Fault::new(Code::ModelUnfit, format!("the adapter `{adapter}` doesn't suit `{name}`"))
                .cause(reason)
                .hint("an adapter runs with the very model that it was trained on, in any quantization")
        }
        WireFault::ShapeUnsupported { path, reason } => {
            Fault::new(Code::ShapeUnsupported, format!("`{path}` of the shape can't be kept to: it {reason}"))
                .hint("nothing was generated; write that part otherwise, or leave it out")
        }
        WireFault::ShapeFailed(words) => {
            Fault::new(Code::ShapeFailed, format!("`{name}` could not go on within the shape of its answer"))
                .cause(words)
                .hint("the answer was ended rather than go on without it; send the ask again")
        }
        WireFault::Invalid(words) => Fault::new(Code::InvalidAsk, "a parameter doesn't suit this model").cause(words),
    }
}

/// `None`: the deadline passed, which is a fault.
pub(super) fn finish(finish: WireFinish) -> Option<Finish> {
    match finish {
        WireFinish::EndOfTurn => Some(Finish::EndOfTurn),
        WireFinish::StopString => Some(Finish::StopString),
        WireFinish::Length => Some(Finish::Length),
        WireFinish::Cancelled => Some(Finish::Cancelled),
        WireFinish::Deadline => None,
        WireFinish::StructureIncomplete => Some(Finish::StructureIncomplete),
        WireFinish::Loop => Some(Finish::Loop),
    }
}

pub(super) fn protection(said: &WireProtection) -> jail::Protection {
    let WireProtection { landlock_abi, no_new_privileges, seccomp, filter, core_dumps_off, missing } = said.clone();
    jail::Protection { landlock_abi, no_new_privileges, seccomp, filter, core_dumps_off, missing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::KvCache;

    #[test]
    fn a_cache_that_can_t_be_had_names_itself_and_the_way_out() {
        let fault = WireFault::KvCacheUnfit { kv_cache: KvCache::Q4_0, reason: "block size 32".into() };
        let fault = from_wire("m", fault);
        assert_eq!(fault.code, Code::ModelUnfit);
        assert!(fault.message.contains("`m`") && fault.message.contains("`q4_0`"), "{fault}");
        assert!(fault.hints[0].contains("FREEHOLD_KV_CACHE=f16"), "{fault:?}");
    }
}
