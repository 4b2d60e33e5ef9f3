//! The bytes of a drop's file: a header, chunks, and an end. Pure.
//!
//! Each chunk's checksum goes on from the one before, and the first from the header's: a chunk of another file, or at another place, never fits.

use super::{FORMAT_VERSION, Origin, Unusable, uuid_at};
use crate::domain::{DropId, Timestamp};
use crate::engine::DropState;
use crate::engine::checkpoint::{CheckpointDecoder, CheckpointError};
use crate::journal::frame::{u32_at, u64_at};
use std::io::{ErrorKind, Read};

const MAGIC: &[u8; 8] = b"LDCHKDRP";
/// Bytes of the header.
pub const HEADER_BYTES: usize = 72;
const HEADER_CRC_AT: usize = 68;
/// Bytes before a chunk's payload.
pub const CHUNK_HEADER_BYTES: usize = 16;
const CHUNK_CRC_AT: usize = 12;
/// The most that a chunk's payload may have: anything longer is damage, and nothing is allocated for it.
pub const CHUNK_BYTES_MAX: usize = 8 << 20;

/// What a file is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whose journal it stands on.
    pub origin: Origin,
    /// The drop.
    pub drop: DropId,
    /// The journal record at which it is true: replay begins after it.
    pub position: u64,
    /// When it was written.
    pub written_at: Timestamp,
    /// How many orders it has.
    pub orders: u32,
}

impl Header {
    /// The first bytes of the file.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.origin.epoch.to_le_bytes());
        bytes[16..32].copy_from_slice(self.origin.journal.as_bytes());
        bytes[32..48].copy_from_slice(self.drop.0.as_bytes());
        bytes[48..56].copy_from_slice(&self.position.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.written_at.as_millis().to_le_bytes());
        bytes[64..68].copy_from_slice(&self.orders.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..HEADER_CRC_AT]);
        bytes[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`Unusable`].
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, Unusable> {
        if bytes[0..8] != *MAGIC {
            return Err(Unusable::NotACheckpoint);
        }
        if crc32c::crc32c(&bytes[..HEADER_CRC_AT]) != u32_at(bytes, HEADER_CRC_AT) {
            return Err(damaged("the header's checksum does not match"));
        }
        match u32_at(bytes, 8) {
            FORMAT_VERSION => {}
            version => return Err(Unusable::Version(version)),
        }
        Ok(Self {
            origin: Origin { epoch: u32_at(bytes, 12), journal: uuid_at(bytes, 16) },
            drop: DropId(uuid_at(bytes, 32)),
            position: u64_at(bytes, 48),
            written_at: Timestamp::from_millis(u64_at(bytes, 56).cast_signed()),
            orders: u32_at(bytes, 64),
        })
    }
}

/// Makes the bytes of a file, piece by piece.
pub struct Encoder {
    crc: u32,
    rows: u32,
}

impl Encoder {
    /// Begins with the header, which it appends to `out`.
    pub fn begin(header: &Header, out: &mut Vec<u8>) -> Self {
        let bytes = header.encode();
        out.extend_from_slice(&bytes);
        Self { crc: u32_at(&bytes, HEADER_CRC_AT), rows: 0 }
    }

    /// Appends a chunk: first the drop's image, with no rows, and then rows.
    pub fn chunk(&mut self, payload: &[u8], rows: u32, out: &mut Vec<u8>) {
        assert!(payload.len() <= CHUNK_BYTES_MAX, "a chunk of {} bytes", payload.len());
        let mut header = [0; CHUNK_HEADER_BYTES];
        let length = u32::try_from(payload.len()).expect("it was compared");
        header[0..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&rows.to_le_bytes());
        header[8..12].copy_from_slice(&self.rows.to_le_bytes());
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &header[..CHUNK_CRC_AT]), payload);
        header[CHUNK_CRC_AT..].copy_from_slice(&self.crc.to_le_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(payload);
        self.rows += rows;
    }

    /// Appends the end: a chunk without a payload.
    pub fn end(mut self, out: &mut Vec<u8>) {
        self.chunk(&[], 0, out);
    }
}

fn damaged(what: impl Into<String>) -> Unusable {
    Unusable::Damaged(what.into())
}

impl From<CheckpointError> for Unusable {
    fn from(error: CheckpointError) -> Self {
        damaged(error.to_string())
    }
}

/// Reads a file to its end.
///
/// # Errors
/// [`Unusable`] for everything that [`Encoder`] has not written as a whole.
pub fn read(input: &mut impl Read) -> Result<(Header, DropState), Unusable> {
    let header = read_header(input)?;
    let state = read_rest(&header, input)?;
    Ok((header, state))
}

/// Reads what says whether the rest is of use.
///
/// # Errors
/// [`Unusable`].
pub fn read_header(input: &mut impl Read) -> Result<Header, Unusable> {
    let mut bytes = [0; HEADER_BYTES];
    fill(input, &mut bytes)?;
    Header::decode(&bytes)
}

/// Reads what follows the header.
///
/// # Errors
/// [`Unusable`].
pub fn read_rest(header: &Header, input: &mut impl Read) -> Result<DropState, Unusable> {
    let (mut crc, mut rows) = (u32_at(&header.encode(), HEADER_CRC_AT), 0_u32);
    let mut payload = Vec::new();
    let mut decoder: Option<CheckpointDecoder> = None;
    loop {
        let mut chunk = [0; CHUNK_HEADER_BYTES];
        fill(input, &mut chunk)?;
        let (length, count, first) = (u32_at(&chunk, 0) as usize, u32_at(&chunk, 4), u32_at(&chunk, 8));
        if length > CHUNK_BYTES_MAX {
            return Err(damaged(format!("a chunk of {length} bytes")));
        }
        payload.resize(length, 0);
        fill(input, &mut payload)?;
        crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &chunk[..CHUNK_CRC_AT]), &payload);
        if crc != u32_at(&chunk, CHUNK_CRC_AT) {
            return Err(damaged(format!("the checksum of the chunk from row {rows} on does not match")));
        }
        if first != rows {
            return Err(damaged(format!("row {first} follows row {rows}")));
        }
        match &mut decoder {
            None => decoder = Some(CheckpointDecoder::begin(&payload)?),
            Some(_) if payload.is_empty() => break,
            Some(decoder) => decoder.rows(&payload)?,
        }
        rows = rows.checked_add(count).ok_or_else(|| damaged("too many rows"))?;
    }
    let decoder = decoder.ok_or_else(|| damaged("it has no image"))?;
    if decoder.drop_id() != header.drop || rows != header.orders {
        return Err(damaged("header and contents disagree"));
    }
    match input.read(&mut [0]) {
        Ok(0) => Ok(decoder.finish()?),
        Ok(_) => Err(damaged("bytes follow its end")),
        Err(error) => Err(Unusable::Unreadable(error.to_string())),
    }
}

fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), Unusable> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => damaged("it is cut off"),
        _ => Unusable::Unreadable(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixtures::drop_of;
    use crate::engine::Command;
    use crate::engine::fixtures::reserve_in;
    use uuid::Uuid;

    /// A file of a drop with some orders, in chunks of three rows.
    fn sample() -> (Header, DropState, Vec<u8>) {
        let mut state = DropState::scheduled(drop_of(100));
        state.apply(Timestamp::EPOCH, Command::Start, &mut Vec::new());
        for _ in 0..7 {
            let ask = reserve_in(state.spec());
            state.apply(Timestamp::EPOCH, Command::Reserve(Box::new(ask)), &mut Vec::new());
        }
        let header = Header {
            origin: Origin { journal: Uuid::from_u128(77), epoch: 3 },
            drop: state.spec().id,
            position: 9,
            written_at: Timestamp::from_millis(1_000),
            orders: 7,
        };
        let start = state.begin_copy();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(&header, &mut bytes);
        encoder.chunk(&start.image, 0, &mut bytes);
        while let Some(rows) = state.copy_rows(3) {
            encoder.chunk(&rows.bytes, rows.count, &mut bytes);
        }
        encoder.end(&mut bytes);
        (header, state, bytes)
    }

    fn why(bytes: &[u8]) -> Option<Unusable> {
        read(&mut &*bytes).err()
    }

    #[test]
    fn a_file_comes_back_as_it_was() {
        let (header, state, bytes) = sample();
        let (read_header, back) = read(&mut &bytes[..]).unwrap();
        assert_eq!(read_header, header);
        assert!(back.orders().eq(state.orders()) && back.stock().eq(state.stock()));
        back.assert_invariants();
        let mut fresh = DropState::scheduled(drop_of(1));
        let start = fresh.begin_copy();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::begin(&Header { drop: fresh.spec().id, orders: 0, ..header }, &mut bytes);
        encoder.chunk(&start.image, 0, &mut bytes);
        encoder.end(&mut bytes);
        assert_eq!(read(&mut &bytes[..]).unwrap().1.order_count(), 0);
    }

    #[test]
    fn every_flipped_bit_is_noticed_and_every_cut() {
        let (.., bytes) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(why(&bytes).is_some(), "bit {} of byte {}", bit % 8, bit / 8);
        }
        for length in 0..bytes.len() {
            assert!(why(&bytes[..length]).is_some(), "cut at {length}");
            let mut zeroed = bytes.clone();
            zeroed[length..].fill(0);
            assert!(why(&zeroed).is_some(), "zeroes from {length} on");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(why(&longer), Some(damaged("bytes follow its end")));
    }

    #[test]
    fn a_file_of_a_later_version_says_so() {
        let (header, _, mut bytes) = sample();
        let mut later = header.encode();
        later[8..12].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
        let crc = crc32c::crc32c(&later[..HEADER_CRC_AT]);
        later[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        bytes[..HEADER_BYTES].copy_from_slice(&later);
        assert_eq!(why(&bytes), Some(Unusable::Version(FORMAT_VERSION + 1)));
        assert_eq!(why(&[7; 200]), Some(Unusable::NotACheckpoint));
    }

    #[test]
    fn chunks_of_another_file_do_not_fit() {
        let ((header, state, bytes), (.., other)) = (sample(), sample());
        assert_eq!(state.order_count(), 7);
        let mixed = [&bytes[..HEADER_BYTES], &other[HEADER_BYTES..]].concat();
        assert!(matches!(why(&mixed), Some(Unusable::Damaged(_))));
        // The same drop at another record: its chunks are as long, and belong to another header.
        let moved = [&Header { position: 10, ..header }.encode()[..], &bytes[HEADER_BYTES..]].concat();
        assert!(matches!(why(&moved), Some(Unusable::Damaged(_))));
    }

    #[test]
    fn the_header_has_the_bytes_that_are_documented() {
        let header = Header {
            origin: Origin { journal: Uuid::from_u128(1), epoch: 2 },
            drop: DropId(Uuid::from_u128(3)),
            position: 4,
            written_at: Timestamp::from_millis(5),
            orders: 6,
        };
        let mut expected = b"LDCHKDRP\x01\0\0\0\x02\0\0\0".to_vec();
        for n in [1, 3] {
            expected.extend([0; 15]);
            expected.push(n);
        }
        expected.extend([4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0]);
        let crc = crc32c::crc32c(&expected);
        expected.extend(crc.to_le_bytes());
        assert_eq!(header.encode()[..], expected);
    }
}
