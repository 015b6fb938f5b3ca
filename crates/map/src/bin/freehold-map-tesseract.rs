//! A stand-in for tesseract, for this crate's tests. It speaks its command line and its table, and does what the picture
//! says behind the word `FAKE:`, up to the end of that line.
//!
//! `words A B`, `unclear A B`, `none`, `page` (says which one it was asked for), `garbage`, `die`, `hang`, `flood`,
//! `escape` (says which ways out are open to it).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // Whoever started this may have stopped listening.
    match serve(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve(args: &[String]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    if args == ["--list-langs"] {
        return output.write_all(b"List of available languages in \"/usr/share/\" (3):\ndeu\neng\nosd\n");
    }
    let mut picture = Vec::new();
    io::stdin().lock().read_to_end(&mut picture)?;
    let picture = String::from_utf8_lossy(&picture);
    let order = picture.split_once("FAKE:").and_then(|(_, rest)| rest.lines().next()).unwrap_or("none");
    let (verb, words) = order.split_once(' ').unwrap_or((order, ""));
    match verb {
        "words" => table(&mut output, words, 96),
        "unclear" => table(&mut output, words, 21),
        "page" => {
            let page = args.iter().find_map(|arg| arg.strip_prefix("tessedit_page_number=")).unwrap_or("0");
            table(&mut output, &format!("This is page {page} in {}", args[3]), 96)
        }
        "garbage" => output.write_all(b"Tesseract Open Source OCR Engine\nfound 12 words\n"),
        "die" => std::process::abort(),
        "hang" => loop {
            std::thread::park();
        },
        "flood" => loop {
            output.write_all(&[b'x'; 1 << 16])?;
        },
        "escape" => table(&mut output, &escape(), 96),
        _ => table(&mut output, "", 96),
    }
}

fn table(output: &mut impl Write, words: &str, confidence: u32) -> io::Result<()> {
    writeln!(output, "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext")?;
    writeln!(output, "1\t1\t0\t0\t0\t0\t0\t0\t800\t600\t-1\t")?;
    for (at, word) in words.split_whitespace().enumerate() {
        writeln!(output, "5\t1\t1\t1\t1\t{}\t{}\t20\t50\t12\t{confidence}\t{word}", at + 1, 10 + 60 * at)?;
    }
    Ok(())
}

fn escape() -> String {
    let outside = std::env::temp_dir().join("written-by-a-recogniser");
    let attempts = [
        ("reading", File::open("/etc/passwd").is_ok()),
        ("writing", File::create(&outside).is_ok()),
        // Nobody listens there, so only a socket that can't be had is refused.
        (
            "calling",
            UnixStream::connect("/nowhere").is_err_and(|error| error.kind() != io::ErrorKind::PermissionDenied),
        ),
        ("starting", jail::Command::new("/bin/true".as_ref()).spawn().is_ok()),
    ];
    attempts.map(|(what, done)| format!("{what} was {}", if done { "possible" } else { "refused" })).join(" and ")
}
