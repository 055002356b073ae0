//! A stream's lines, each handed out from one wiped buffer.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// The size that the buffer begins with: some hundred lines with a token each.
const FIRST_BYTES: usize = 64 * 1024;

/// The lines of a reader, numbered from 1. What was read is wiped when this is dropped, or overwritten before.
pub(super) struct Lines<R> {
    reader: R,
    max_bytes: usize,
    buffer: Zeroizing<Vec<u8>>,
    /// What was read and not handed out is `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Lines handed out.
    number: u64,
    /// Bytes of them.
    consumed: u64,
}

/// A line, its newline taken off.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'b> {
    Bytes(&'b [u8]),
    /// It has more bytes than a line may have; they are dropped.
    TooLong,
}

impl<R: Read> Lines<R> {
    /// The lines of `reader`, of at most `max_bytes` each.
    pub(super) fn new(reader: R, max_bytes: usize) -> Self {
        let buffer = Zeroizing::new(vec![0; FIRST_BYTES.min(max_bytes + 1)]);
        Self { reader, max_bytes, buffer, start: 0, end: 0, number: 0, consumed: 0 }
    }

    /// How many bytes the lines had that were handed out.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The next line, with its number; `None` after the last.
    ///
    /// # Errors
    ///
    /// The reader's.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        let mut searched = self.start;
        let mut is_too_long = false;
        loop {
            let newline = self.buffer[searched..self.end].iter().position(|&byte| byte == b'\n');
            if let Some(at) = newline {
                let from = self.start;
                self.start = searched + at + 1;
                return Ok(Some(self.hand_out(from, searched + at, is_too_long)));
            }
            if self.end - self.start > self.max_bytes {
                is_too_long = true;
            }
            if is_too_long {
                self.consumed += (self.end - self.start) as u64;
                (self.start, self.end) = (0, 0);
            }
            self.make_room();
            searched = self.end;
            let read = loop {
                match self.reader.read(&mut self.buffer[self.end..]) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    read => break read?,
                }
            };
            if read == 0 {
                if self.start == self.end && !is_too_long {
                    return Ok(None);
                }
                let (from, to) = (self.start, self.end);
                self.start = self.end;
                return Ok(Some(self.hand_out(from, to, is_too_long)));
            }
            self.end += read;
        }
    }

    fn hand_out(&mut self, from: usize, to: usize, is_too_long: bool) -> (u64, Line<'_>) {
        self.number += 1;
        self.consumed += (self.start - from) as u64;
        let is_too_long = is_too_long || to - from > self.max_bytes;
        let line = if is_too_long { Line::TooLong } else { Line::Bytes(&self.buffer[from..to]) };
        (self.number, line)
    }

    /// Makes room behind what was read: at the front, else in a larger buffer.
    fn make_room(&mut self) {
        if self.end < self.buffer.len() {
            return;
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            return;
        }
        // A vector that grows by itself leaves its old memory as it was; one byte more tells that a line is too long.
        let bytes = (2 * self.buffer.len()).min(self.max_bytes + 1);
        let mut larger = Zeroizing::new(vec![0; bytes]);
        larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
        self.buffer = larger;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Gives its pieces one by one.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(mut piece) = self.0.pop_front() else { return Ok(0) };
            let bytes = piece.len().min(buffer.len());
            buffer[..bytes].copy_from_slice(&piece[..bytes]);
            let rest = piece.split_off(bytes);
            if !rest.is_empty() {
                self.0.push_front(rest);
            }
            Ok(bytes)
        }
    }

    #[test]
    fn the_buffer_grows_to_the_longest_line_and_no_further() {
        let text = [vec![b'x'; 200_000], b"\n".to_vec(), vec![b'y'; 1_000_000], b"\nz".to_vec()].concat();
        let mut lines = Lines::new(text.as_slice(), 200_000);
        assert_eq!(lines.next().unwrap(), Some((1, Line::Bytes(&text[..200_000]))));
        assert_eq!(lines.next().unwrap(), Some((2, Line::TooLong)));
        assert_eq!(lines.next().unwrap(), Some((3, Line::Bytes(b"z"))));
        assert_eq!(lines.next().unwrap(), None);
        assert_eq!((lines.buffer.len(), lines.consumed()), (200_001, text.len() as u64));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_text_however_it_comes(
            pieces in proptest::collection::vec("[a\n]{1,9}", 0..20),
            max_bytes in 1_usize..12,
        ) {
            let text = pieces.concat();
            let pieces = pieces.iter().map(|piece| piece.clone().into_bytes()).collect();
            let mut lines = Lines::new(Pieces(pieces), max_bytes);
            for (number, expected) in (1..).zip(text.lines()) {
                let expected = match expected.len() > max_bytes {
                    true => Line::TooLong,
                    false => Line::Bytes(expected.as_bytes()),
                };
                prop_assert_eq!(lines.next().unwrap(), Some((number, expected)));
            }
            prop_assert_eq!(lines.next().unwrap(), None);
            prop_assert_eq!(lines.consumed(), text.len() as u64);
        }
    }
}
