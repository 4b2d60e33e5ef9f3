//! The records of one entry, laid out as a frame holds them: each a `u32` length and its bytes.

/// A buffer of records, built by the producer so that the writer only copies.
#[derive(Default, Clone, Debug)]
pub struct Records {
    bytes: Vec<u8>,
    count: u32,
}

impl Records {
    /// Appends one record; `write` adds its bytes to the end of the buffer.
    pub fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start - 4).expect("records are far below 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        self.count += 1;
    }

    /// How many records.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.count
    }

    /// Whether there is none: the entry is a barrier.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes as a frame holds them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Splits the first record off; `None` where the bytes are no record.
#[must_use]
pub fn split_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
