//! What the machine could do at most: the figure beside a speed says how much there is left to win.

use std::hint::black_box;
use std::time::Instant;

/// For each thread; far above any processor's caches.
const READ_BYTES: usize = 512 * 1024 * 1024;
const ROUNDS: usize = 5;

/// Gigabytes (10⁹ bytes) per second that `threads` threads together read from memory, each its own
/// part; the best of several rounds, since a limit is what is possible. They compare the part's two
/// halves: that is the system's own `memcmp`, which is fast however this program was compiled.
pub(super) fn read_gb_per_s(threads: usize) -> f64 {
    let parts: Vec<Vec<u8>> = (0..threads).map(|_| vec![1; READ_BYTES]).collect();
    let round = |_| {
        let start = Instant::now();
        std::thread::scope(|scope| {
            for part in &parts {
                scope.spawn(|| assert!(halves_are_equal(black_box(part)), "memory keeps what was written"));
            }
        });
        (threads * READ_BYTES) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

fn halves_are_equal(part: &[u8]) -> bool {
    let (front, back) = part.split_at(part.len() / 2);
    front == back
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read() {
        let mut part = vec![1; 4096];
        assert!(halves_are_equal(&part));
        part[4095] = 2;
        assert!(!halves_are_equal(&part));
    }
}
