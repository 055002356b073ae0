//! For tests: how often a secret stands in this process's memory, by reading all of it, and how deep its stack is used.
#![expect(clippy::unwrap_used, reason = "a test that can't read memory fails")]

use std::fs::{File, read_to_string};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, PoisonError};

use memchr::memmem;
use zeroize::{Zeroize, Zeroizing};

use super::random;

/// What is read at once.
const WINDOW_BYTES: usize = 1 << 20;

/// One search at a time: what a search reads holds the secrets that another one looks for.
static SEARCHING: Mutex<()> = Mutex::new(());

/// A secret to look for, kept with every bit flipped so that looking for it does not find itself.
pub(crate) struct Needle(Vec<u8>);

impl Needle {
    pub(crate) fn of(secret: &[u8]) -> Self {
        Self(secret.iter().map(|byte| !byte).collect())
    }

    /// A secret of the letters `a` to `p`, so that it can be a text, too.
    pub(crate) fn drawn(bytes: usize) -> Self {
        let mut needle = vec![0; bytes];
        random::fill(&mut needle).unwrap();
        for byte in &mut needle {
            *byte = !(b'a' + (*byte & 15));
        }
        Self(needle)
    }

    /// The secret, in memory that is wiped.
    pub(crate) fn reveal(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.0.iter().map(|byte| !byte).collect())
    }

    /// How often the secret, or its first 16 bytes if it is longer, stands in this process's writable memory.
    pub(crate) fn count(&self) -> usize {
        let _one = SEARCHING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut secret = self.reveal();
        secret[16.min(self.0.len())..].zeroize();
        secret.truncate(16);
        let mut window = Zeroizing::new(vec![0; WINDOW_BYTES]);
        let own = [&secret[..], &window[..]]
            .map(|own| own.as_ptr_range())
            .map(|own| own.start as u64..own.end as u64);
        let memory = File::open("/proc/self/mem").unwrap();
        let mut count = 0;
        for line in read_to_string("/proc/self/maps").unwrap().lines() {
            let (range, rest) = line.split_once(' ').unwrap();
            if !rest.starts_with("rw") {
                continue;
            }
            let (start, end) = range.split_once('-').unwrap();
            let [mut at, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            while at + secret.len() as u64 <= end {
                let size = usize::try_from(end - at).unwrap().min(WINDOW_BYTES);
                if memory.read_exact_at(&mut window[..size], at).is_err() {
                    break;
                }
                count += memmem::find_iter(&window[..size], &secret[..])
                    .filter(|&offset| !own.iter().any(|own| own.contains(&(at + offset as u64))))
                    .count();
                // The next window begins before the end of this one: a secret may lie across it.
                at += (size - secret.len() + 1) as u64;
            }
        }
        count
    }
}

/// The bytes of stack below its caller's frame that `work` writes to.
pub(crate) fn stack_taken<T>(work: impl FnOnce() -> T) -> usize {
    const LOOKED_AT: usize = 256 * 1024;
    const PAINT: u8 = 0xa5;

    #[inline(never)]
    fn paint() {
        black_box(&mut [PAINT; LOOKED_AT]);
    }

    #[inline(never)]
    fn out_of_line<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    let memory = File::open("/proc/self/mem").unwrap();
    let mut stack = vec![0; LOOKED_AT];
    let here = 0_u8;
    let end = (&raw const here).addr() - LOOKED_AT;
    paint();
    black_box(out_of_line(work));
    memory.read_exact_at(&mut stack, end as u64).unwrap();
    stack.iter().position(|&byte| byte != PAINT).map_or(0, |untouched| LOOKED_AT - untouched)
}
