//! What the embedded engine writes: rows, the expiry index and one record about the whole, each with a checksum of its own.
//!
//! redb checks its pages; these checksums are independent of it. [`Meta`] counts and sums the rows' checksums, so that a
//! row that vanished, or came back in an older state, is noticed when the store is opened.

use redb::TableDefinition;

use super::fault::{Fault, WAY_OUT};

/// Key bytes to an encoded [`Row`].
pub(super) const ROWS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("rows");
/// [`expiry_key`] to nothing: the rows that have a time to live, soonest first.
pub(super) const EXPIRIES: TableDefinition<&[u8], ()> = TableDefinition::new("expiries");
/// One encoded [`Meta`].
pub(super) const META: TableDefinition<(), &[u8]> = TableDefinition::new("meta");

pub(super) const FORMAT_VERSION: u64 = 1;

/// The revision of an empty store, as in etcd.
pub(super) const EMPTY_REVISION: u64 = 1;

const ROW_HEADER_BYTES: usize = 28;
const META_BYTES: usize = 7 * 8 + 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub created: u64,
    pub modified: u64,
    /// Unix milliseconds; 0 is never.
    pub expires_ms: u64,
    pub value: &'a [u8],
}

impl<'a> Row<'a> {
    /// Writes the row to `buffer` (emptied first) and answers its checksum.
    pub(super) fn encode(&self, key: &[u8], buffer: &mut Vec<u8>) -> u32 {
        buffer.clear();
        buffer.extend_from_slice(&self.created.to_le_bytes());
        buffer.extend_from_slice(&self.modified.to_le_bytes());
        buffer.extend_from_slice(&self.expires_ms.to_le_bytes());
        let checksum = row_checksum(key, buffer, self.value);
        buffer.extend_from_slice(&checksum.to_le_bytes());
        buffer.extend_from_slice(self.value);
        checksum
    }

    /// The row and its checksum, or what is wrong with it.
    pub(super) fn decode(key: &[u8], bytes: &'a [u8]) -> Result<(Self, u32), Fault> {
        let Some((header, value)) = bytes.split_at_checked(ROW_HEADER_BYTES) else {
            return Err(damaged_row(key, "is too short"));
        };
        let stored = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
        if row_checksum(key, &header[..24], value) != stored {
            return Err(damaged_row(key, "does not match its checksum"));
        }
        let row =
            Self { created: u64_at(header, 0), modified: u64_at(header, 8), expires_ms: u64_at(header, 16), value };
        Ok((row, stored))
    }
}

fn row_checksum(key: &[u8], header: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(header);
    hasher.update(value);
    hasher.finalize()
}

fn damaged_row(key: &[u8], what: &str) -> Fault {
    Fault::Damaged(format!("the row of key {} {what}; {WAY_OUT}", String::from_utf8_lossy(key)))
}

/// The key as text. Keys enter as text, so anything else is damage.
pub(super) fn key_text(key: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(key).map_err(|_| damaged_row(key, "is not under a valid key"))
}

pub(super) fn expiry_key(expires_ms: u64, key: &[u8]) -> Vec<u8> {
    let mut index = Vec::with_capacity(8 + key.len());
    index.extend_from_slice(&expires_ms.to_be_bytes());
    index.extend_from_slice(key);
    index
}

/// The time and the key of an entry of the expiry index.
pub(super) fn split_expiry_key(index: &[u8]) -> Option<(u64, &[u8])> {
    let (time, key) = index.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*time), key))
}

pub(super) fn expiry_checksum(index: &[u8]) -> u32 {
    crc32fast::hash(index)
}

/// About the store as a whole, written in the same transaction as the rows it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// Tells this store from any other; a snapshot gets one of its own.
    pub id: u64,
    pub revision: u64,
    pub rows: Tally,
    pub expiries: Tally,
}

/// How many checksums, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub count: u64,
    pub sum: u64,
}

impl Tally {
    pub(super) fn add(&mut self, checksum: u32) {
        self.count = self.count.wrapping_add(1);
        self.sum = self.sum.wrapping_add(u64::from(checksum));
    }

    pub(super) fn remove(&mut self, checksum: u32) {
        self.count = self.count.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(u64::from(checksum));
    }
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(META_BYTES);
        let Meta { id, revision, rows, expiries } = *self;
        for field in [FORMAT_VERSION, id, revision, rows.count, rows.sum, expiries.count, expiries.sum] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let version = bytes.first_chunk::<8>().map(|version| u64::from_le_bytes(*version));
        match version {
            Some(FORMAT_VERSION) => {}
            Some(other) if bytes.len() != META_BYTES || checksum_holds(bytes) => {
                return Err(Fault::Damaged(format!(
                    "its format version is {other}, and this program reads version {FORMAT_VERSION}; use the program that wrote it"
                )));
            }
            _ => {
                return Err(Fault::Damaged(format!("its head record is unreadable; {WAY_OUT}")));
            }
        }
        if bytes.len() != META_BYTES || !checksum_holds(bytes) {
            return Err(Fault::Damaged(format!("its head record does not match its checksum; {WAY_OUT}")));
        }
        Ok(Self {
            id: u64_at(bytes, 8),
            revision: u64_at(bytes, 16),
            rows: Tally { count: u64_at(bytes, 24), sum: u64_at(bytes, 32) },
            expiries: Tally { count: u64_at(bytes, 40), sum: u64_at(bytes, 48) },
        })
    }
}

fn checksum_holds(meta: &[u8]) -> bool {
    meta.split_last_chunk::<4>().is_some_and(|(head, checksum)| crc32fast::hash(head) == u32::from_le_bytes(*checksum))
}

/// `bytes` must hold at least `at + 8` bytes.
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip_and_every_flipped_bit_is_noticed() {
        let row = Row { created: 2, modified: 7, expires_ms: 1234, value: b"value" };
        let mut bytes = Vec::new();
        let checksum = row.encode(b"/a", &mut bytes);
        assert_eq!(Row::decode(b"/a", &bytes).ok(), Some((row, checksum)));
        assert!(Row::decode(b"/b", &bytes).is_err(), "a row under another key");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Row::decode(b"/a", &flipped).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Row::decode(b"/a", &bytes[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn meta_round_trips_and_every_flipped_bit_is_noticed() {
        let meta = Meta { id: 9, revision: 5, rows: Tally { count: 1, sum: 77 }, expiries: Tally::default() };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes).ok(), Some(meta));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Meta::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
