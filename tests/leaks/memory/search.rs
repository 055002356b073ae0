//! What stands in another process's memory, by reading all of it that can be written: heap, stacks and the rest.

use std::fmt;
use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt;

use aho_corasick::AhoCorasick;

/// What is read at once.
const WINDOW_BYTES: usize = 1 << 16;

/// What is looked for, at least: fewer bytes are found by chance.
pub(crate) const PART_BYTES: usize = 16;

/// Bytes to look for.
pub(crate) struct Secret {
    pub(crate) name: String,
    bytes: Vec<u8>,
}

/// A place in memory where a secret stands.
pub(crate) struct Place {
    pub(crate) secret: String,
    address: u64,
    /// `[heap]`, `[stack]`, a file, or nothing for a mapping without a name, as other threads' stacks are.
    mapping: String,
    /// What the system does with the memory, as `VmFlags` has it.
    flags: Vec<String>,
}

impl Place {
    /// Whether it is never written to swap.
    pub(crate) fn is_locked(&self) -> bool {
        self.flags.iter().any(|flag| flag == "lo")
    }

    /// Whether it is left out of core dumps.
    pub(crate) fn is_not_dumped(&self) -> bool {
        self.flags.iter().any(|flag| flag == "dd")
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:x} {}, {}", self.secret, self.address, self.mapping, self.flags.join(" "))
    }
}

impl Secret {
    pub(crate) fn new(name: impl Into<String>, bytes: &[u8]) -> Self {
        assert!(bytes.len() >= PART_BYTES, "so short a secret is found by chance");
        Self { name: name.into(), bytes: bytes.to_vec() }
    }

    /// Each half of a key, for half of one is bad enough.
    pub(crate) fn halves(name: &str, key: &[u8; 32]) -> [Self; 2] {
        let (first, second) = key.split_at(PART_BYTES);
        [Self::new(format!("{name}, first half"), first), Self::new(format!("{name}, second half"), second)]
    }
}

/// All places where any of the secrets stands in the memory of the process `pid`, which should stand still.
pub(crate) fn places(pid: u32, secrets: &[Secret]) -> Vec<Place> {
    let finder = AhoCorasick::new(secrets.iter().map(|secret| &secret.bytes)).unwrap();
    let longest = secrets.iter().map(|secret| secret.bytes.len()).max().unwrap_or(1);
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let untouched = vec![0; WINDOW_BYTES];
    let mut window = vec![0; WINDOW_BYTES];
    let mut places = Vec::new();
    for mapping in mappings(pid) {
        let mut at = mapping.start;
        while at < mapping.end {
            let size = usize::try_from(mapping.end - at).unwrap().min(WINDOW_BYTES);
            let window = &mut window[..size];
            if memory.read_exact_at(window, at).is_err() {
                // A file's mapping beyond its end.
                break;
            }
            // Where the next window begins: before this one's end, since a secret may lie across it.
            let step = if size == WINDOW_BYTES { size - longest + 1 } else { size };
            if *window != untouched[..size] {
                let found = finder.find_overlapping_iter(&*window).filter(|found| found.start() < step);
                places.extend(found.map(|found| Place {
                    secret: secrets[found.pattern()].name.clone(),
                    address: at + found.start() as u64,
                    mapping: mapping.name.clone(),
                    flags: mapping.flags.clone(),
                }));
            }
            at += step as u64;
        }
    }
    places
}

struct Mapping {
    start: u64,
    end: u64,
    name: String,
    /// As `VmFlags` has them.
    flags: Vec<String>,
}

/// The mappings that can be read and written.
fn mappings(pid: u32) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in read_to_string(format!("/proc/{pid}/smaps")).unwrap().lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            // Rights, offset, device, inode; then the name, which may have blanks.
            let name = words.skip(4).collect::<Vec<_>>().join(" ");
            mappings.push(Mapping { start, end, name, flags: Vec::new() });
        } else if first == "VmFlags:" {
            mappings.last_mut().unwrap().flags = words.map(str::to_owned).collect();
        }
    }
    mappings
        .retain(|mapping| ["rd", "wr"].iter().all(|flag| mapping.flags.iter().any(|other| other == flag)));
    mappings
}
