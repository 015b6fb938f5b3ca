//! Which build of ggml's CPU backend fits a machine: ggml's own table of variants, and what this
//! processor can do.

use std::fmt;

/// One build of the CPU backend: a name and the features that are switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    pub name: &'static str,
    /// In ggml's own words (`AVX512_VNNI` …); the processor must have every one.
    pub features: Vec<&'static str>,
}

/// Every x86 feature that ggml has an option for. All are always set, on or off: llama.cpp's build
/// script notices a change only of variables that it has seen.
pub const X86_OPTIONS: [&str; 15] = [
    "SSE42",
    "AVX",
    "F16C",
    "FMA",
    "AVX2",
    "BMI2",
    "AVX_VNNI",
    "AVX512",
    "AVX512_VBMI",
    "AVX512_VNNI",
    "AVX512_BF16",
    "AMX_TILE",
    "AMX_INT8",
    "AMX_BF16",
    "NATIVE",
];

const AVX2: &[&str] = &["SSE42", "AVX", "F16C", "FMA", "AVX2", "BMI2"];

/// The x86 table, weakest first. The last one whose features are all there is the best one.
const X86: &[(&str, &[&str], &[&str])] = &[
    ("sse42", &["SSE42"], &[]),
    ("sandybridge", &["SSE42", "AVX"], &[]),
    ("ivybridge", &["SSE42", "AVX", "F16C"], &[]),
    ("piledriver", &["SSE42", "AVX", "F16C", "FMA"], &[]),
    ("haswell", AVX2, &[]),
    ("alderlake", AVX2, &["AVX_VNNI"]),
    ("skylakex", AVX2, &["AVX512"]),
    ("cannonlake", AVX2, &["AVX512", "AVX512_VBMI"]),
    ("cascadelake", AVX2, &["AVX512", "AVX512_VNNI"]),
    ("cooperlake", AVX2, &["AVX512", "AVX512_VNNI", "AVX512_BF16"]),
    ("icelake", AVX2, &["AVX512", "AVX512_VBMI", "AVX512_VNNI"]),
    ("zen4", AVX2, &["AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"]),
    ("sapphirerapids", AVX2, &["AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16", "AMX_TILE", "AMX_INT8"]),
];

/// Linux on 64-bit Arm, weakest first.
const ARM: &[(&str, &[&str])] = &[
    ("armv8.0_1", &[]),
    ("armv8.2_1", &["DOTPROD"]),
    ("armv8.2_2", &["DOTPROD", "FP16"]),
    ("armv8.2_3", &["DOTPROD", "FP16", "SVE"]),
    ("armv8.6_1", &["DOTPROD", "FP16", "SVE", "I8MM"]),
    ("armv8.6_2", &["DOTPROD", "FP16", "SVE", "I8MM", "SVE2"]),
];

/// Apple's own processors, weakest first.
const APPLE: &[(&str, &[&str])] = &[("apple_m1", &["DOTPROD"]), ("apple_m2_m3", &["DOTPROD", "I8MM"])];

/// All variants for this kind of processor, weakest first.
pub fn all() -> Vec<Variant> {
    let plain = |table: &[(&'static str, &'static [&'static str])]| {
        table.iter().map(|(name, features)| Variant { name, features: features.to_vec() }).collect()
    };
    if cfg!(target_arch = "x86_64") {
        X86.iter().map(|(name, base, more)| Variant { name, features: [*base, *more].concat() }).collect()
    } else if cfg!(all(target_arch = "aarch64", target_os = "macos")) {
        plain(APPLE)
    } else if cfg!(target_arch = "aarch64") {
        plain(ARM)
    } else {
        Vec::new()
    }
}

/// The strongest variant that a processor with `have` can run; none when the table knows nothing
/// of it, and the baseline has to do.
pub fn best(have: &[&str]) -> Option<Variant> {
    all().into_iter().rev().find(|variant| variant.features.iter().all(|feature| have.contains(feature)))
}

impl Variant {
    /// cmake definitions that select exactly this variant.
    pub fn defines(&self) -> Vec<(String, String)> {
        if cfg!(target_arch = "x86_64") {
            return x86_defines(&self.features);
        }
        vec![("GGML_NATIVE".into(), "OFF".into()), ("GGML_CPU_ARM_ARCH".into(), self.arm_arch())]
    }

    /// What the compiler is told, for the probe that checks it.
    pub fn compiler_flags(&self) -> Vec<String> {
        if !cfg!(target_arch = "x86_64") {
            return vec![format!("-march={}", self.arm_arch())];
        }
        let mut flags = Vec::new();
        for feature in &self.features {
            let more: &[&str] = match *feature {
                "SSE42" => &["-msse4.2"],
                "AVX" => &["-mavx"],
                "F16C" => &["-mf16c"],
                "FMA" => &["-mfma"],
                "AVX2" => &["-mavx2"],
                "BMI2" => &["-mbmi2"],
                "AVX_VNNI" => &["-mavxvnni"],
                "AVX512" => &["-mavx512f", "-mavx512cd", "-mavx512vl", "-mavx512dq", "-mavx512bw"],
                "AVX512_VBMI" => &["-mavx512vbmi"],
                "AVX512_VNNI" => &["-mavx512vnni"],
                "AVX512_BF16" => &["-mavx512bf16"],
                "AMX_TILE" => &["-mamx-tile"],
                "AMX_INT8" => &["-mamx-int8"],
                _ => &[],
            };
            flags.extend(more.iter().map(ToString::to_string));
        }
        flags
    }

    fn arm_arch(&self) -> String {
        let has = |feature: &str| self.features.contains(&feature);
        let mut arch = String::from(if has("I8MM") {
            "armv8.6-a"
        } else if has("DOTPROD") {
            "armv8.2-a"
        } else {
            "armv8-a"
        });
        for (feature, tag) in
            [("DOTPROD", "+dotprod"), ("FP16", "+fp16"), ("SVE", "+sve"), ("I8MM", "+i8mm"), ("SVE2", "+sve2")]
        {
            if has(feature) {
                arch.push_str(tag);
            }
        }
        arch
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.features.join(" "))
    }
}

/// The machine-independent backend: every 64-bit x86 processor since 2008 runs it.
pub fn baseline_defines() -> Vec<(String, String)> {
    if cfg!(target_arch = "x86_64") { x86_defines(&["SSE42"]) } else { Vec::new() }
}

fn x86_defines(on: &[&str]) -> Vec<(String, String)> {
    let state = |option: &str| if on.contains(&option) { "ON" } else { "OFF" };
    X86_OPTIONS.iter().map(|option| (format!("GGML_{option}"), state(option).to_owned())).collect()
}

/// What this processor and its system can do, in ggml's words.
pub fn detect() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    return detect_x86();
    #[cfg(target_arch = "aarch64")]
    return detect_arm();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    Vec::new()
}

/// This processor by its maker's numbers, for what is tuned for it; the name alone may say as little as "AMD EPYC".
pub fn model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let wanted = ["vendor_id", "cpu family", "model", "stepping"];
    let fields = info.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    let found = fields.filter(|(name, _)| wanted.contains(&name.trim()));
    found.map(|(name, value)| format!("{} {};", name.trim(), value.trim())).collect()
}

#[cfg(target_arch = "x86_64")]
fn detect_x86() -> Vec<&'static str> {
    use std::arch::is_x86_feature_detected as has;
    let avx512 = has!("avx512f") && has!("avx512cd") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw");
    // The tile unit needs the system's consent, which Linux shows by listing it.
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let listed = |flag: &str| {
        flags.lines().find(|line| line.starts_with("flags")).is_some_and(|line| line.split(' ').any(|f| f == flag))
    };
    let table = [
        ("SSE42", has!("sse4.2")),
        ("AVX", has!("avx")),
        ("F16C", has!("f16c")),
        ("FMA", has!("fma")),
        ("AVX2", has!("avx2")),
        ("BMI2", has!("bmi2")),
        ("AVX_VNNI", has!("avxvnni")),
        ("AVX512", avx512),
        ("AVX512_VBMI", has!("avx512vbmi")),
        ("AVX512_VNNI", has!("avx512vnni")),
        ("AVX512_BF16", has!("avx512bf16")),
        ("AMX_TILE", listed("amx_tile")),
        ("AMX_INT8", listed("amx_int8")),
    ];
    table.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(target_arch = "aarch64")]
fn detect_arm() -> Vec<&'static str> {
    use std::arch::is_aarch64_feature_detected as has;
    let table = [
        ("DOTPROD", has!("dotprod")),
        ("FP16", has!("fp16")),
        ("SVE", has!("sve")),
        ("I8MM", has!("i8mm")),
        ("SVE2", has!("sve2")),
    ];
    table.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_strongest_variant_that_fits_is_taken() {
        let cases: &[(&[&str], Option<&str>)] = &[
            (&[], None),
            (&["SSE42"], Some("sse42")),
            (AVX2, Some("haswell")),
            (&[AVX2, &["AVX_VNNI"]].concat(), Some("alderlake")),
            (&[AVX2, &["AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16"]].concat(), Some("zen4")),
            // Tiles without their integer products are of no use.
            (&[AVX2, &["AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16", "AMX_TILE"]].concat(), Some("zen4")),
            (
                &[AVX2, &["AVX512", "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16", "AMX_TILE", "AMX_INT8"]].concat(),
                Some("sapphirerapids"),
            ),
        ];
        for (have, expected) in cases {
            assert_eq!(best(have).map(|v| v.name), *expected, "{have:?}");
        }
    }

    #[test]
    fn every_option_is_named_on_or_off() {
        for variant in all() {
            let defines = variant.defines();
            assert_eq!(defines.len(), X86_OPTIONS.len());
            let on: Vec<_> = defines.iter().filter(|(_, v)| v == "ON").map(|(k, _)| k.replace("GGML_", "")).collect();
            assert_eq!(on.len(), variant.features.len(), "{variant}: {on:?}");
            assert!(variant.features.iter().all(|f| on.iter().any(|o| o == f)), "{variant}: {on:?}");
        }
    }

    #[test]
    fn this_machine_has_what_the_compiler_of_rust_demands() {
        assert!(detect().contains(&"SSE42"));
    }
}
