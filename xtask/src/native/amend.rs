//! What is changed in ggml's sources before a CPU backend is built from them (docs/decisions/0002-native-build.md): its
//! attention looks at masked cells one by one, and several sequences in one cache mask each other's; it reads keys again for each
//! head that shares them; its products of Q4_1 weights unpack each row again for every column; and it looks GELU up number by number.
//!
//! Each change stands beside a line that must be there exactly once, so that another version of ggml can't be built with half of it.

use super::{Workspace, backend, tools};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Within llama.cpp's tree.
const ATTENTION: &str = "ggml/src/ggml-cpu/ops.cpp";
const PRODUCTS: &str = "ggml/src/ggml-cpu/llamafile/sgemm.cpp";
const PLAN: &str = "ggml/src/ggml-cpu/ggml-cpu.c";
const NUMBERS: &str = "ggml/src/ggml-cpu/vec.h";
const FILES: [&str; 4] = [ATTENTION, PRODUCTS, PLAN, NUMBERS];

/// A line of a file, and what comes before or after it.
struct Change {
    file: &'static str,
    line: &'static str,
    before: &'static str,
    after: &'static str,
}

const CHANGES: [Change; 10] = [
    Change {
        file: ATTENTION,
        line: "static void ggml_compute_forward_flash_attn_ext_f16_one_chunk(\n        const ggml_compute_params * params,\n",
        before: include_str!("amend/helpers.inc"),
        after: "",
    },
    Change {
        file: ATTENTION,
        line: "        for (int64_t ic = ic_start; ic < ic_end; ++ic) {\n",
        before: "",
        after: include_str!("amend/row.inc"),
    },
    Change {
        file: ATTENTION,
        line: "            // skip the tile entirely if all the masks are -inf\n",
        before: include_str!("amend/tile.inc"),
        after: "",
    },
    Change {
        file: ATTENTION,
        line: "static void ggml_compute_forward_flash_attn_ext_f16(\n        const ggml_compute_params * params,\n",
        before: include_str!("amend/attention.inc"),
        after: "",
    },
    Change {
        file: ATTENTION,
        line: "    const bool use_ref = params->use_ref;\n",
        before: include_str!("amend/attention_call.inc"),
        after: "",
    },
    Change {
        file: PLAN,
        line: "                        cur += MAX(prefill, decode);\n",
        before: "",
        after: include_str!("amend/attention_plan.inc"),
    },
    Change {
        file: PRODUCTS,
        line: "bool llamafile_sgemm(const struct ggml_compute_params * params, int64_t m, int64_t n, int64_t k,\n",
        before: include_str!("amend/products.inc"),
        after: "",
    },
    Change {
        file: PRODUCTS,
        line: "    assert(params->ith < params->nth);\n",
        before: "",
        after: include_str!("amend/products_call.inc"),
    },
    Change {
        file: NUMBERS,
        line: "#ifdef GGML_GELU_FP16\ninline static void ggml_vec_gelu_f32(const int n, float * y, const float * x) {\n    uint16_t t;\n",
        before: include_str!("amend/gelu.inc"),
        after: include_str!("amend/gelu_call.inc"),
    },
    Change {
        file: NUMBERS,
        line: "inline static void ggml_vec_geglu_f32(const int n, float * y, const float * x, const float * g) {\n    uint16_t t;\n",
        before: "",
        after: include_str!("amend/geglu_call.inc"),
    },
];

/// A name for the changes: a backend that was built with others is built anew.
pub fn key() -> String {
    let parts: Vec<&str> = CHANGES.iter().flat_map(|change| [change.line, change.before, change.after]).collect();
    tools::hash(&parts)
}

/// llama.cpp's tree with the changes, copied into this folder once.
///
/// # Errors
/// When it can't be copied, or its sources aren't those that the changes were made for.
pub fn tree(workspace: &Workspace, scratch: &Path) -> Result<PathBuf> {
    let tree = scratch.join(format!("llama-{}", tools::hash(&[&workspace.llama_version, &key()])));
    if tree.is_dir() {
        return Ok(tree);
    }
    // Named at last, so that half a copy is none.
    let part = tree.with_extension("part");
    if part.exists() {
        std::fs::remove_dir_all(&part).with_context(|| format!("can't remove {}", part.display()))?;
    }
    copy(&workspace.llama, &part)?;
    for name in FILES {
        let file = part.join(name);
        let source = std::fs::read_to_string(&file).with_context(|| format!("can't read {}", file.display()))?;
        std::fs::write(&file, amended(name, &source)?).with_context(|| format!("can't write {}", file.display()))?;
    }
    std::fs::rename(&part, &tree).with_context(|| format!("can't name {}", tree.display()))?;
    backend::remove_older(scratch, "llama", &tree);
    Ok(tree)
}

fn amended(name: &str, source: &str) -> Result<String> {
    let mut text = source.to_owned();
    for Change { line, before, after, .. } in CHANGES.iter().filter(|change| change.file == name) {
        match text.matches(line).count() {
            1 => text = text.replace(line, &format!("{before}{line}{after}")),
            count => bail!(
                "{name} holds the line `{}` {count} times; the change to it was made for another version",
                line.trim()
            ),
        }
    }
    Ok(text)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("can't create {}", to.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("can't list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| format!("can't copy {}", target.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_must_be_there_once() {
        for name in FILES {
            let changes = || CHANGES.iter().filter(|change| change.file == name);
            let source: String = changes().map(|change| format!("{}…\n", change.line)).collect();
            let text = amended(name, &source).expect("made for it");
            assert!(changes().all(|change| text.contains(change.before) && text.contains(change.after)));
            assert!(changes().all(|change| text.contains(change.line.trim_end())), "what was there stays");
            assert!(amended(name, &source.repeat(2)).is_err() && amended(name, "int main;").is_err());
        }
    }
}
