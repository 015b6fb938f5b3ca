//! `freehold-worker selftest FILE`: is this backend's arithmetic right here, and how fast is it?
//!
//! Runs confined like a worker. Code for other processors or by a faulty compiler may end the
//! process with a signal: that is an answer too, and the parent takes the next backend.

use crate::ffi::{
    Attention, AttentionInputs, Backend, Device, MatrixType, ProductBench, ProductWeights, halves, install_log,
};
use crate::{load, reference};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use wire::{Product, SelfTest};

const RUNS: u32 = 7;

/// Of the matrices that are multiplied.
#[derive(Debug, Clone, Copy)]
struct Size {
    rows: usize,
    depth: usize,
    columns: usize,
}

/// Over in milliseconds.
const SMALL: Size = Size { rows: 512, depth: 2048, columns: 64 };
/// As a layer of a large model that reads a prompt: what beginning and ending take is nothing beside it.
const LARGE: Size = Size { rows: 2048, depth: 4096, columns: 256 };

/// Tokens whose attention is tried: an answer's next one, one with a draft behind it, many answers', and a prompt's.
const TOKENS: [usize; 4] = [1, 8, 64, PROMPT_TOKENS];
/// Of one text, whose cells lie anywhere; the others look at what lies before them.
const PROMPT_TOKENS: usize = 24;
/// Has no divisor in common with the number of cells.
const STRIDE: usize = 377;

/// Activations are rounded to 8 bits on the way; what comes out is within about one per cent.
const ERROR_MAX_PACKED: f64 = 0.02;
/// Some kernels add up attention's values as halves: 1 % at this size.
const ERROR_MAX_ATTENTION: f64 = 0.03;
/// Without packing only the order of sums and bfloat16 in some kernels make a difference.
const ERROR_MAX_PLAIN: f64 = 0.005;

/// Prints the devices of a backend, with what is free on them now, as a test without products.
pub(crate) fn list(file: &Path) -> ExitCode {
    install_log();
    answer(file, describe(file), |_| true)
}

/// Prints one line of JSON and ends with 0 when every product is right, 1 when one is wrong,
/// 2 when there is nothing to test.
pub(crate) fn run(file: &Path) -> ExitCode {
    judge(file, SMALL, &MatrixType::ALL, &TOKENS)
}

/// The same with large matrices and one kind of weights, for who asks how fast it can be; takes seconds.
pub(crate) fn run_large(file: &Path) -> ExitCode {
    judge(file, LARGE, &[MatrixType::Q4K], &[])
}

fn judge(file: &Path, size: Size, kinds: &[MatrixType], tokens: &[usize]) -> ExitCode {
    install_log();
    answer(file, test(file, size, kinds, tokens), |report| {
        report.products.iter().all(|product| product.correct) && !report.products.is_empty()
    })
}

#[expect(clippy::print_stderr, reason = "the parent shows this to the person")]
fn answer(file: &Path, report: Result<SelfTest, String>, is_good: impl Fn(&SelfTest) -> bool) -> ExitCode {
    match report {
        Ok(report) => {
            let written = serde_json::to_string(&report).map_err(std::io::Error::from).and_then(|line| {
                let mut out = std::io::stdout().lock();
                writeln!(out, "{line}")
            });
            if let Err(error) = written {
                eprintln!("the result can't be written: {error}");
                return ExitCode::from(2);
            }
            ExitCode::from(u8::from(!is_good(&report)))
        }
        Err(reason) => {
            eprintln!("{}: {reason}", file.display());
            ExitCode::from(2)
        }
    }
}

/// Loads the backend, shuts the process in, and says what the backend says of itself.
fn open(file: &Path) -> Result<(Backend, Vec<Device>), String> {
    let backend = Backend::load(file)?;
    let devices = backend.devices();
    let gpu = devices.iter().any(|device| device.is_gpu());
    load::confine(&load::first_rules(gpu, &[]), false).map_err(|fault| format!("{fault:?}"))?;
    Ok((backend, devices))
}

fn describe(file: &Path) -> Result<SelfTest, String> {
    let (backend, devices) = open(file)?;
    Ok(report(file, backend, &devices, Vec::new()))
}

fn report(file: &Path, backend: Backend, devices: &[Device], products: Vec<Product>) -> SelfTest {
    SelfTest {
        backend: file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        devices: devices.iter().map(|device| device.describe()).collect(),
        features: backend.features(),
        products,
    }
}

fn test(file: &Path, size: Size, kinds: &[MatrixType], tokens: &[usize]) -> Result<SelfTest, String> {
    // Before the confinement, because it may be a question of files.
    let threads = std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
    let (backend, devices) = open(file)?;
    let mut products = Vec::new();
    for device in &devices {
        let bench = ProductBench::new(*device, threads)?;
        for (seed, kind) in (1..).zip(kinds) {
            products.extend(multiply(&bench, size, *kind, seed)?);
        }
        for &tokens in tokens {
            products.extend(attend(&bench, tokens)?);
        }
    }
    Ok(report(file, backend, &devices, products))
}

fn multiply(bench: &ProductBench, size: Size, kind: MatrixType, seed: u64) -> Result<Vec<Product>, String> {
    let Size { rows, depth, columns } = size;
    let weights = ProductWeights::pack(kind, rows, depth, &reference::noise(rows * depth, seed))
        .ok_or_else(|| format!("{} weights can't be packed", kind.name()))?;
    let activations = reference::noise(columns * depth, seed + 1000);
    let expected = reference::product(&weights.plain, &activations, depth);
    let error_max = if kind == MatrixType::F32 { ERROR_MAX_PLAIN } else { ERROR_MAX_PACKED };
    let mut products = Vec::new();
    for path in bench.paths() {
        let Some(computed) = bench.multiply(path, &weights, &activations, RUNS)? else { continue };
        let error = reference::error_relative(&expected, &computed.values);
        #[expect(clippy::cast_precision_loss, reason = "some billions at most")]
        let operations = (2 * rows * depth * columns) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "an error of this size needs no double precision")]
        let error_relative = error as f32;
        products.push(Product {
            weights: kind.name().to_owned(),
            path: path.name(),
            error_relative,
            correct: error <= error_max,
            gops: operations / computed.seconds / 1e9,
        });
    }
    Ok(products)
}

/// Whether a token looks at a cell: a prompt's at all of its text until then, the others at what lies before them and every
/// other one at a third of that, as answers that share a cache do.
fn looks_at(of: Attention, token: usize, cell: usize) -> bool {
    let is_prompt = of.tokens == PROMPT_TOKENS;
    let place = if is_prompt { cell * STRIDE % of.cells } else { cell };
    place + of.tokens <= of.cells + token && (is_prompt || token.is_multiple_of(2) || cell.is_multiple_of(3))
}

fn attend(bench: &ProductBench, tokens: usize) -> Result<Option<Product>, String> {
    // No round number of cells, and more than one range of them.
    let of = Attention { tokens, heads: 6, shared: 2, dim: 64, cells: 1000 };
    let noise = |count: usize, seed| reference::noise(count, seed);
    let inputs = AttentionInputs {
        queries: noise(tokens * of.heads * of.dim, 1).iter().map(|value| 4.0 * value).collect(),
        keys: halves(&noise(of.cells * of.shared * of.dim, 2)).1,
        values: halves(&noise(of.cells * of.shared * of.dim, 3)).1,
        seen: (0..tokens * of.cells).map(|at| looks_at(of, at / of.cells, at % of.cells)).collect(),
    };
    let expected = reference::attention(of, &inputs);
    let Some(computed) = bench.attend(of, &inputs, RUNS)? else { return Ok(None) };
    let error = reference::error_relative(&expected, &computed.values);
    #[expect(clippy::cast_precision_loss, reason = "some millions at most")]
    let operations = (4 * tokens * of.heads * of.dim * of.cells) as f64;
    #[expect(clippy::cast_possible_truncation, reason = "an error of this size needs no double precision")]
    let error_relative = error as f32;
    Ok(Some(Product {
        weights: format!("attention/{tokens}"),
        path: bench.name(),
        error_relative,
        correct: error <= ERROR_MAX_ATTENTION,
        gops: operations / computed.seconds / 1e9,
    }))
}
