//! Memory that is wiped: buffers on the heap, and what the primitives leave on the stack; and how buffers are filled.

use secrecy::SecretSlice;
use zeroize::zeroize_stack;

/// The bytes of stack that are overwritten: more than anything takes that is done with a key, in a release build with or
/// without link-time optimization, on an x86-64 with wide AES instructions. Builds without optimization go deeper.
pub(crate) const WIPED_STACK_BYTES: usize = if cfg!(debug_assertions) { 32 * 1024 } else { 5 * 1024 + 512 };

/// What `work` gives, with the stack that it used overwritten by zeros.
///
/// Key schedules and derived keys are wiped where they lie when they are dropped, but moves and spilled registers
/// leave copies of them behind. Frames that were inlined into the caller's own are not reached, so the work stands in a
/// function that is never inlined. This costs about 30 ns.
pub(crate) fn with_wiped_stack<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn out_of_line<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    let result = out_of_line(work);
    zeroize_stack::<WIPED_STACK_BYTES>();
    result
}

/// `bytes` zeros, in memory that never moves and is wiped when dropped, at once and not byte by byte.
#[expect(
    clippy::slow_vector_initialization,
    reason = "glibc answers `calloc`, which `vec!` asks, without its fast lists"
)]
pub(crate) fn wiped_zeros(bytes: usize) -> SecretSlice<u8> {
    let mut zeros = Vec::with_capacity(bytes);
    zeros.resize(bytes, 0);
    zeros.into()
}

/// Writes `bytes` to the beginning of `buffer`, and gives the rest of it.
#[inline(always)]
pub(crate) fn write<'b>(buffer: &'b mut [u8], bytes: &[u8]) -> &'b mut [u8] {
    let (to, rest) = buffer.split_at_mut(bytes.len());
    to.copy_from_slice(bytes);
    rest
}
