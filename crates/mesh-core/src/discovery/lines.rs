//! Lines of a stream, each of a bounded length.

use bytes::{Bytes, BytesMut};

/// The longest line: an endpoint set of some 100,000. A longer one is no plan of ours.
const MAX_LINE_BYTES: usize = 64 << 20;

/// Cuts chunks into lines.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: BytesMut,
    /// Bytes of the buffer that were looked at and hold no end of line.
    searched: usize,
    longest: usize,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            longest: MAX_LINE_BYTES,
        }
    }

    /// Takes the next chunk in.
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line without its end; empty ones are passed over.
    pub(super) fn next_line(&mut self) -> Result<Option<Bytes>, LineTooLong> {
        loop {
            let rest = &self.buffer[self.searched..];
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                if self.searched > self.longest {
                    return Err(LineTooLong {
                        longest: self.longest,
                    });
                }
                return Ok(None);
            };
            let mut line = self.buffer.split_to(self.searched + end + 1);
            self.searched = 0;
            line.truncate(line.len() - 1);
            if !line.is_empty() {
                return Ok(Some(line.freeze()));
            }
        }
    }
}

/// A line that is longer than any plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("discovery sent a line of more than {longest} bytes, which no plan has")]
pub(super) struct LineTooLong {
    longest: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut lines = Lines::new();
        let mut seen = Vec::new();
        for byte in b"one\n\ntwo\nthr" {
            lines.push(&[*byte]);
            while let Some(line) = lines.next_line().unwrap() {
                seen.push(line);
            }
        }
        assert_eq!(seen, ["one", "two"]);
        lines.push(b"ee\nfour\n");
        assert_eq!(lines.next_line().unwrap().unwrap(), "three");
        assert_eq!(lines.next_line().unwrap().unwrap(), "four");
        assert_eq!(lines.next_line(), Ok(None));
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let mut lines = Lines {
            longest: 8,
            ..Lines::new()
        };
        lines.push(b"12345678");
        assert_eq!(lines.next_line(), Ok(None));
        lines.push(b"9");
        assert_eq!(lines.next_line(), Err(LineTooLong { longest: 8 }));
    }
}
