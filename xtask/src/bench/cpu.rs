//! `bench cpu`: is the processor's integer unit really used?
//!
//! Each built CPU backend multiplies matrices in the worker's own self-test, which checks the result.
//! The tuned backend beside the baseline shows what the features are worth; the count of dot-product
//! instructions in the file shows that the compiler put them in.

use super::report::{Bound, Goal, Report, Table, figure};
use super::stat::median;
use super::{Options, Watch};
use crate::native::{self, NativeDir};
use crate::place;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

/// The tuned code must be at least so many times as fast as plain x86-64 or ARMv8 on 8-bit weights.
const GAIN_MIN: f64 = 2.0;
/// Weights whose products run on the integer unit.
const INTEGER_WEIGHTS: [&str; 4] = ["Q8_0", "Q4_1", "Q4_0", "Q4_K"];
/// Dot products of bytes: AVX-VNNI and AVX-512 VNNI, AMX, ARM.
const DOT_INSTRUCTIONS: [&str; 6] = ["vpdpbusd", "vpdpbusds", "tdpbssd", "tdpbusd", "sdot", "smmla"];

const LIMIT_ROUNDS: u32 = 3;

/// Speed by weights and code path, in giga-operations per second.
type Speeds = BTreeMap<(String, String), Vec<f64>>;

struct Tested {
    file: String,
    variant: String,
    features: Vec<String>,
    speeds: Speeds,
    wrong: usize,
}

pub(super) fn run(options: Options) -> Result<ExitCode> {
    let mut report = Report::new("products of integer weights on this processor");
    let native = native::ensure()?;
    let mut watch = Watch::start(options.patience())?;
    let backends: Vec<_> = native.backends.iter().filter(|backend| backend.kind == "cpu").collect();
    if backends.is_empty() {
        bail!("no CPU backend was built");
    }
    let rounds = if options.quick { 1 } else { 9 };
    let mut tested: Vec<Tested> = backends.iter().map(|backend| Tested::new(&backend.file, &backend.variant)).collect();
    // Rounds outside, backends inside: a drift of the machine hits all alike.
    for _ in 0..rounds {
        for one in &mut tested {
            watch.gap();
            one.round(&native, &[])?;
        }
    }
    report.quiet = Some(watch.seen());
    report.setting("rounds", format!("{rounds}, medians"));
    report.tables.push(table(&tested));
    report.tables.push(instructions(&tested, &native)?);
    let wrong = tested.iter().map(|one| one.wrong).sum::<usize>();
    report.goals.push(Goal::plain("wrong products", wrong as f64, "products", Bound::Below(1.0)));
    match (tested.first(), tested.iter().find(|one| one.variant == "baseline")) {
        (Some(best), Some(baseline)) if best.variant != "baseline" => {
            for weights in INTEGER_WEIGHTS {
                if let (Some(fast), Some(plain)) = (best.best(weights), baseline.best(weights)) {
                    let mut goal = Goal::plain(
                        &format!("{weights}, {} over baseline", best.variant),
                        fast / plain,
                        "times",
                        Bound::AtLeast(GAIN_MIN),
                    );
                    goal.peer = Some(1.0);
                    report.goals.push(goal);
                }
            }
        }
        _ => report.notes.push("only the baseline was built for this machine, so there is nothing to compare".into()),
    }
    Ok(report.finish(options.json))
}

/// The best of a few rounds of large products of Q4_K weights: what this processor does with them at most.
///
/// # Errors
/// When no backend was built.
pub(super) fn best_gops(native: &NativeDir) -> Result<f64> {
    let backend = native.backends.iter().find(|backend| backend.kind == "cpu").context("no CPU backend was built")?;
    let mut tested = Tested::new(&backend.file, &backend.variant);
    for _ in 0..LIMIT_ROUNDS {
        tested.round(native, &["large"])?;
    }
    let speeds = tested.speeds.values().flatten().copied();
    speeds.max_by(f64::total_cmp).context("the self-test tries no large product")
}

impl Tested {
    fn new(file: &str, variant: &str) -> Self {
        let (file, variant) = (file.to_string(), variant.to_string());
        Self { file, variant, features: Vec::new(), speeds: Speeds::new(), wrong: 0 }
    }

    /// `how`: of which size the products are.
    fn round(&mut self, native: &NativeDir, how: &[&str]) -> Result<()> {
        let file = native.path.join(&self.file);
        let said = place::output(Command::new(&native.worker).arg("selftest").arg(&file).args(how))?;
        let test: Value = serde_json::from_str(&said).context("the worker's self-test printed no JSON")?;
        self.features =
            test["features"].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect();
        for product in test["products"].as_array().context("the self-test tried no product")? {
            let text = |key: &str| product[key].as_str().unwrap_or("?").to_string();
            let gops = product["gops"].as_f64().context("a product without a speed")?;
            self.speeds.entry((text("weights"), text("path"))).or_default().push(gops);
            self.wrong += usize::from(product["correct"] != true);
        }
        Ok(())
    }

    /// The fastest path for these weights: what a model gets.
    fn best(&self, weights: &str) -> Option<f64> {
        let speeds = self.speeds.iter().filter(|((name, _), _)| name == weights).map(|(_, gops)| median(gops));
        speeds.max_by(f64::total_cmp)
    }
}

fn table(tested: &[Tested]) -> Table {
    let mut table =
        Table::new("giga-operations per second (a multiply-add is two)", &["backend", "weights", "path", "GOP/s"]);
    for one in tested {
        for ((weights, path), gops) in &one.speeds {
            table.rows.push(vec![one.variant.clone(), weights.clone(), path.clone(), figure(median(gops))]);
        }
    }
    table
}

/// How often the compiler used a dot product of bytes, where a disassembler is there to ask.
fn instructions(tested: &[Tested], native: &NativeDir) -> Result<Table> {
    let mut table = Table::new("what is in the files", &["backend", "features that it reports", "byte dot products"]);
    let objdump = place::on_path(&["objdump", "llvm-objdump", "llvm-objdump-19"]);
    for one in tested {
        let count = match &objdump {
            Some(program) => count(program, &native.path.join(&one.file))?.to_string(),
            None => "objdump isn't here".into(),
        };
        table.rows.push(vec![one.variant.clone(), one.features.join(" "), count]);
    }
    Ok(table)
}

fn count(objdump: &Path, file: &Path) -> Result<usize> {
    let code = place::output(Command::new(objdump).args(["-d", "--no-show-raw-insn"]).arg(file))?;
    Ok(code.lines().filter(|line| is_dot(line)).count())
}

fn is_dot(line: &str) -> bool {
    let mnemonic = line.split('\t').nth(1).and_then(|code| code.split_whitespace().next()).unwrap_or_default();
    // `{vex}` and the like stand before the name.
    DOT_INSTRUCTIONS.contains(&mnemonic) || DOT_INSTRUCTIONS.iter().any(|name| line.contains(&format!("}} {name} ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_products_are_recognised() {
        assert!(is_dot("   1a2b:\tvpdpbusd (%rax),%zmm1,%zmm2"));
        assert!(is_dot("   1a2b:\t{vex} vpdpbusd %ymm0,%ymm1,%ymm2"));
        assert!(!is_dot("   1a2b:\tvpmaddubsw %ymm0,%ymm1,%ymm2"));
        assert!(!is_dot("ordinary text about vpdpbusd"));
    }

    #[test]
    fn the_fastest_path_counts() {
        let speeds = Speeds::from([
            (("Q8_0".into(), "CPU".into()), vec![1.0, 3.0, 2.0]),
            (("Q8_0".into(), "AMX".into()), vec![9.0]),
            (("F32".into(), "CPU".into()), vec![99.0]),
        ]);
        let one = Tested { file: String::new(), variant: String::new(), features: vec![], speeds, wrong: 0 };
        assert_eq!(one.best("Q8_0"), Some(9.0));
        assert_eq!(one.best("Q4_1"), None);
    }
}
