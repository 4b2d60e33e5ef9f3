//! Bounds inbound frames before anything buffers them.
//!
//! The WebSocket codec compares a frame's length with its maximum only when the whole frame has arrived, and collects
//! it in memory until then: a client could announce a terabyte and keep sending. This module reads the frame headers as
//! they pass (RFC 6455, section 5.2) and stops at the first that announces too much.

/// First byte, length, its longest extension and the mask.
const HEADER_BYTES_MAX: usize = 2 + 8 + 4;

/// The stream's position in its current frame.
pub(in crate::http) struct Meter {
    max: u64,
    payload_left: u64,
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    overflown: bool,
}

impl Meter {
    /// Starts at the beginning of a frame. No frame may have more than `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max: max as u64, payload_left: 0, header: [0; HEADER_BYTES_MAX], header_len: 0, overflown: false }
    }

    /// Whether a frame was too long. Nothing is admitted any more.
    pub fn is_overflown(&self) -> bool {
        self.overflown
    }

    /// Follows the stream; `false` from a frame that is too long on.
    pub fn admits(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.overflown {
            if self.payload_left > 0 {
                let skipped = usize::try_from(self.payload_left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload_left -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.header[usize::from(self.header_len)] = bytes[0];
            self.header_len += 1;
            bytes = &bytes[1..];
            if let Some(length) = self.length() {
                self.overflown = length > self.max;
                self.header_len = 0;
                self.payload_left = length;
            }
        }
        !self.overflown
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
        (usize::from(self.header_len) == 2 + length_bytes + mask_bytes).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn nothing_passes_after_it() {
        let mut meter = Meter::new(65_536);
        assert!(meter.admits(&frame(10)) && !meter.is_overflown());
        assert!(!meter.admits(&frame(70_000)));
        assert!(meter.is_overflown() && !meter.admits(&frame(10)));
    }
}
