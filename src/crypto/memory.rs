//! Wiping what the primitives leave on the stack.

use std::hint::black_box;

/// The bytes of stack that are overwritten: more than sealing, opening and key derivation take together. In a
/// release build on an x86-64 with wide AES instructions a message's key was found 8.4 KiB deep; builds without
/// optimization go deeper.
const WIPED_STACK_BYTES: usize = if cfg!(debug_assertions) { 32 } else { 16 } * 1024;

/// Overwrites the stack below the caller's frame with zeros.
///
/// Key schedules and derived keys are wiped where they lie when they are dropped, but moves and spilled registers
/// leave copies of them behind. Call this last, from a function that is not deeper than the one that handled
/// them; it costs about 100 ns. Frames that were inlined into the caller's own are not reached, so the work
/// itself stands in a function that is never inlined.
#[inline(never)]
pub(crate) fn wipe_stack() {
    let mut frame = [0_u8; WIPED_STACK_BYTES];
    // The compiler must assume that the array is read, so it can't leave the zeros out.
    black_box(&mut frame);
}

/// What `work` gives, with the stack that it used wiped.
pub(crate) fn with_wiped_stack<T>(work: impl FnOnce() -> T) -> T {
    #[inline(never)]
    fn out_of_line<T>(work: impl FnOnce() -> T) -> T {
        work()
    }

    let result = out_of_line(work);
    wipe_stack();
    result
}
