//! Memory for keys that are held for long: never written to swap or to a core dump, where the system allows it.
//!
//! The one file that may use `unsafe`.
#![expect(unsafe_code, reason = "memory that the allocator doesn't give, and calls of the system on it")]

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

/// The size of a slot, in bytes: the largest value that is held here is a key schedule of AES-256 in the form of a processor
/// without instructions for it, of 960 bytes.
const SLOT_BYTES: usize = 1024;

/// Slots that are asked of the system at once: with 16 KiB, a few vaults fit into the 64 KiB that some systems let a
/// process lock.
const SLOTS_AT_ONCE: usize = 16;

/// Room for one value.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Slot([MaybeUninit<u8>; SLOT_BYTES]);

/// The slots without a value. They are never given back: the system would lock the next ones anew.
static FREE: Mutex<Vec<&'static mut Slot>> = Mutex::new(Vec::new());

/// A value in memory of its own, as in a box, that is wiped when dropped, and that the system is asked to lock and to leave
/// out of core dumps.
///
/// It is asked once for many values, and what it refuses, as beyond `ulimit -l`, is done without.
///
/// A process that forks without running another program has a copy of the value in both. It is not made to be zeros in the
/// new one (`MADV_WIPEONFORK`): that would seal under a schedule of zeros, and not know it.
pub(crate) struct Locked<T>(NonNull<T>);

// SAFETY: it owns its value, as a box does.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: as a box, it gives no more than `&T` to who has `&Self`.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    /// Moves `value` there; what it leaves behind on the stack is the caller's to wipe.
    pub(crate) fn new(value: T) -> Self {
        const { assert!(size_of::<T>() <= SLOT_BYTES && align_of::<T>() <= align_of::<Slot>()) };
        let place = NonNull::from(free_slot()).cast();
        // SAFETY: a slot has the size and alignment, as asserted, nobody else has this one, and it holds no value.
        unsafe { place.write(value) };
        Self(place)
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the value is there from `new` to `drop`, and `&self` keeps others from changing it.
        unsafe { self.0.as_ref() }
    }
}

impl<T> DerefMut for Locked<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the value is there from `new` to `drop`, and `&mut self` keeps others from looking at it.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the value is there, and nobody can name it after this.
        unsafe { self.0.drop_in_place() };
        // SAFETY: it is the slot that `new` took, which holds no value any more, and that nobody else has.
        let slot: &'static mut Slot = unsafe { self.0.cast().as_mut() };
        slot.0[..size_of::<T>()].zeroize();
        free_slots().push(slot);
    }
}

fn free_slots() -> MutexGuard<'static, Vec<&'static mut Slot>> {
    // Whoever panicked has taken a slot or put one there, each at once.
    FREE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn free_slot() -> &'static mut Slot {
    let mut free = free_slots();
    loop {
        match free.pop() {
            Some(slot) => return slot,
            None => free.extend(mapped().unwrap_or_else(allocated)),
        }
    }
}

/// Slots that the system has locked, if it would, and leaves out of core dumps; `None` if there is no memory for them.
#[cfg(unix)]
fn mapped() -> Option<&'static mut [Slot; SLOTS_AT_ONCE]> {
    use rustix::mm::{MapFlags, ProtFlags, mlock, mmap_anonymous};

    let bytes = size_of::<[Slot; SLOTS_AT_ONCE]>();
    let (rights, private) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: at an address that the system chooses, a new mapping changes none that is there.
    let memory = unsafe { mmap_anonymous(std::ptr::null_mut(), bytes, rights, private) }.ok()?;
    // SAFETY: it is all mapped, and being locked changes no byte.
    let _ = unsafe { mlock(memory, bytes) };
    #[cfg(target_os = "linux")]
    // SAFETY: it is all mapped, from the beginning of a page, and this advice changes no byte.
    let _ = unsafe { rustix::mm::madvise(memory, bytes, rustix::mm::Advice::LinuxDontDump) };
    // SAFETY: memory of this size that can be read and written, begins with a page, is never unmapped and that nobody else
    // has; any bytes are slots.
    unsafe { memory.cast::<[Slot; SLOTS_AT_ONCE]>().as_mut() }
}

#[cfg(not(unix))]
fn mapped() -> Option<&'static mut [Slot; SLOTS_AT_ONCE]> {
    None
}

/// Slots in ordinary memory, where the system has no other.
fn allocated() -> &'static mut [Slot; SLOTS_AT_ONCE] {
    Box::leak(Box::new([Slot([MaybeUninit::uninit(); SLOT_BYTES]); SLOTS_AT_ONCE]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn values_do_not_meet_and_each_is_dropped_once() {
        struct Counted<'a>([u8; 100], &'a AtomicUsize);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }

        let dropped = AtomicUsize::new(0);
        let values: Vec<_> =
            (0..3 * SLOTS_AT_ONCE as u8).map(|n| Locked::new(Counted([n; 100], &dropped))).collect();
        for (value, n) in values.iter().zip(0..) {
            assert_eq!(value.deref().0, [n; 100]);
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 0);
        drop(values);
        assert_eq!(dropped.load(Ordering::Relaxed), 3 * SLOTS_AT_ONCE);
    }

    #[test]
    fn it_can_be_shared_and_sent() {
        let shared = Arc::new(Locked::new([7_u8; 32]));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.iter().map(|&byte| u32::from(byte)).sum::<u32>())
            })
            .collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() == 7 * 32));
    }

    #[test]
    fn slots_in_ordinary_memory_are_as_large() {
        let slots = allocated();
        assert_eq!(slots.len(), SLOTS_AT_ONCE);
        assert!(slots.as_ptr().addr().is_multiple_of(align_of::<Slot>()));
    }
}
