//! Follows the frames of an HTTP/2 connection, to know when a head is unfinished.
//!
//! Pings and window updates arrive on an idle connection too, so bytes alone do
//! not tell a slow head from a resting client.

use super::rewind::PREFACE;

const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// Where in the stream of frames a connection stands.
#[derive(Debug)]
pub(super) struct Frames {
    /// Bytes left of the preface or of a payload.
    skip: usize,
    /// The frame header as far as it has come.
    header: [u8; FRAME_HEADER],
    filled: usize,
    /// Whether what `skip` counts is part of a head.
    in_head: bool,
    /// Whether the head goes on after it.
    goes_on: bool,
    finished: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self {
            skip: PREFACE.len(),
            header: [0; FRAME_HEADER],
            filled: 0,
            in_head: true,
            goes_on: false,
            finished: 0,
        }
    }
}

impl Frames {
    /// Follows bytes that have arrived.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
            } else {
                let wanted = (FRAME_HEADER - self.filled).min(bytes.len());
                let (head, rest) = bytes.split_at(wanted);
                self.header[self.filled..self.filled + wanted].copy_from_slice(head);
                self.filled += wanted;
                bytes = rest;
                if self.filled == FRAME_HEADER {
                    self.enter();
                }
            }
            if self.skip == 0 && self.filled == 0 {
                self.leave();
            }
        }
    }

    fn enter(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.filled = 0;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let head = matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION);
        self.in_head = head;
        self.goes_on = head && flags & END_HEADERS == 0;
    }

    fn leave(&mut self) {
        self.in_head = self.goes_on;
        // Frames of an open head are no progress, or a trickle of them would never be slow.
        if !self.goes_on {
            self.finished = self.finished.wrapping_add(1);
        }
    }

    /// How many frames and heads have ended, shifted left; odd within a head or a frame's own header.
    pub(super) fn head(&self) -> u64 {
        let unfinished = self.in_head || self.goes_on || self.filled > 0;
        self.finished << 1 | u64::from(unfinished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u8::try_from(payload).expect("small");
        let mut bytes = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        bytes.resize(FRAME_HEADER + payload, 0);
        bytes
    }

    fn after(parts: &[&[u8]]) -> bool {
        let mut frames = Frames::default();
        for part in parts {
            // Byte by byte and at once must agree.
            part.iter().for_each(|byte| frames.read(&[*byte]));
        }
        let mut whole = Frames::default();
        whole.read(&parts.concat());
        assert_eq!(frames.head(), whole.head());
        whole.head() & 1 == 1
    }

    #[test]
    fn a_head_is_unfinished_until_its_last_byte() {
        const PING: u8 = 6;
        const DATA: u8 = 0;
        let headers = frame(HEADERS, END_HEADERS, 10);
        assert!(after(&[]), "the preface is awaited");
        assert!(after(&[&PREFACE[..23]]));
        assert!(!after(&[PREFACE]));
        assert!(!after(&[PREFACE, &frame(PING, 0, 8)]));
        assert!(after(&[PREFACE, &headers[..5]]));
        assert!(after(&[PREFACE, &headers[..18]]));
        assert!(!after(&[PREFACE, &headers]));
        let open = frame(HEADERS, 0, 10);
        assert!(after(&[PREFACE, &open]));
        assert!(after(&[PREFACE, &open, &frame(CONTINUATION, 0, 3)]));
        assert!(!after(&[
            PREFACE,
            &open,
            &frame(CONTINUATION, END_HEADERS, 3)
        ]));
        assert!(
            !after(&[PREFACE, &frame(DATA, 0, 10)[..12]]),
            "a body is no head"
        );
    }
}
