//! Bounds inbound frames before anything buffers them.
//!
//! The WebSocket codec compares a frame's length with its maximum only when the whole frame has arrived, and collects
//! it in memory until then: a client could announce a terabyte and keep sending. This stream reads the frame headers
//! as they pass (RFC 6455, section 5.2) and fails at the first that announces too much.

use actix_web::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// First byte, length, its longest extension and the mask.
const HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// A body of frames, up to the first one that is too long.
pub struct BoundedFrames<S> {
    inner: S,
    meter: Meter,
    overflown: Rc<Cell<bool>>,
}

impl<S> BoundedFrames<S> {
    /// The stream, and a flag that is raised at a frame of more than `max` bytes.
    pub fn new(inner: S, max: usize) -> (Self, Rc<Cell<bool>>) {
        let overflown = Rc::new(Cell::new(false));
        (Self { inner, meter: Meter::new(max), overflown: Rc::clone(&overflown) }, overflown)
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for BoundedFrames<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let chunk = ready!(Pin::new(&mut self.inner).poll_next(context));
            match chunk {
                // What follows is read and thrown away: a client that is stuck in writing would not read why we close.
                Some(Ok(_)) if self.overflown.get() => {}
                Some(Ok(chunk)) if !self.meter.admits(&chunk) => {
                    self.overflown.set(true);
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
                other => return Poll::Ready(other),
            }
        }
    }
}

/// Where in its frame the stream stands.
struct Meter {
    max: u64,
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    payload_left: u64,
}

impl Meter {
    fn new(max: usize) -> Self {
        Self { max: max as u64, header: [0; HEADER_BYTES_MAX], header_len: 0, payload_left: 0 }
    }

    /// Follows the stream; `false` at a frame that is too long.
    fn admits(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[self.header_len] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            if let Some(length) = self.length() {
                if length > self.max {
                    return false;
                }
                self.header_len = 0;
                self.payload_left = length;
            }
        }
        true
    }

    /// The payload's length, once the header is complete.
    fn length(&self) -> Option<u64> {
        let [_, second, rest @ ..] = &self.header;
        if self.header_len < 2 {
            return None;
        }
        let mask_bytes = if second & 0x80 == 0 { 0 } else { 4 };
        let (length_bytes, length) = match second & 0x7f {
            126 => (2, u64::from(u16::from_be_bytes([rest[0], rest[1]]))),
            127 => (8, u64::from_be_bytes([rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], rest[6], rest[7]])),
            short => (0, u64::from(short)),
        };
        (self.header_len == 2 + length_bytes + mask_bytes).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, stream};

    /// A masked text frame as clients send it.
    fn frame(payload: usize) -> Vec<u8> {
        let mut bytes = vec![0x81];
        match payload {
            0..126 => bytes.push(0x80 | payload as u8),
            126..65_536 => {
                bytes.push(0x80 | 126);
                bytes.extend((payload as u16).to_be_bytes());
            }
            _ => {
                bytes.push(0x80 | 127);
                bytes.extend((payload as u64).to_be_bytes());
            }
        }
        bytes.extend([1, 2, 3, 4]);
        bytes.resize(bytes.len() + payload, 0xff);
        bytes
    }

    #[test]
    fn frames_up_to_the_bound_pass_however_they_are_cut() {
        let sizes = [0, 1, 125, 126, 127, 1_000, 65_535, 65_536];
        let stream: Vec<u8> = sizes.into_iter().flat_map(frame).collect();
        for cut in [1, 2, 3, 7, 64, 4_096, stream.len()] {
            let mut meter = Meter::new(65_536);
            assert!(stream.chunks(cut).all(|chunk| meter.admits(chunk)), "{cut}");
            assert_eq!((meter.header_len, meter.payload_left), (0, 0));
        }
    }

    #[test]
    fn a_longer_frame_is_seen_at_its_header() {
        for length in [65_537_u64, 1 << 40, u64::MAX] {
            let mut meter = Meter::new(65_536);
            assert!(meter.admits(&frame(10)));
            assert!(meter.admits(&[0x82, 0x80 | 127]));
            assert!(meter.admits(&length.to_be_bytes()));
            assert!(!meter.admits(&[0, 0, 0, 0]), "{length}");
        }
    }

    #[actix_web::test]
    async fn nothing_passes_after_it() {
        let chunks = [frame(10), frame(70_000), frame(10)].map(|bytes| Ok(Bytes::from(bytes)));
        let (bounded, overflown) = BoundedFrames::new(stream::iter(chunks), 65_536);
        let passed: Vec<_> = bounded.collect().await;
        assert!(matches!(passed[..], [Ok(_), Err(PayloadError::Overflow)]));
        assert!(overflown.get());
    }
}
