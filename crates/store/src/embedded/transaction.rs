//! One redb write transaction: a batch of writes, applied in order, each seeing those before it.

use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadableTable, Table, WriteTransaction};

use super::{
    database::{next_expiry, read_meta},
    fault::{Fault, fault},
    format::{EXPIRIES, META, Meta, ROWS, Row, Tally, expiry_checksum, expiry_key, key_text, split_expiry_key},
    history::Record,
};
use crate::{Change, Entry, Error, Event, Revision};

#[derive(Debug)]
pub(super) enum Operation {
    Create { value: Bytes, ttl_ms: Option<u64> },
    Update { value: Bytes, ttl_ms: Option<u64>, expected: Revision },
    Delete { expected: Revision },
}

impl Operation {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Operation::Create { value, .. } | Operation::Update { value, .. } => value.len(),
            Operation::Delete { .. } => 0,
        }
    }

    pub(super) fn is_delete(&self) -> bool {
        matches!(self, Operation::Delete { .. })
    }
}

/// What one transaction wrote.
pub(super) struct Outcome {
    pub meta: Meta,
    pub records: Vec<Record>,
    /// Unix milliseconds at which the next row expires.
    pub next_expiry: Option<u64>,
}

pub(super) struct Batch<'t> {
    rows: Table<'t, &'static [u8], &'static [u8]>,
    expiries: Table<'t, &'static [u8], ()>,
    head: Table<'t, (), &'static [u8]>,
    meta: Meta,
    now_ms: u64,
    records: Vec<Record>,
    buffer: Vec<u8>,
}

/// The present row of a key, owned.
struct Present {
    entry: Entry,
    expires_ms: u64,
    checksum: u32,
}

impl<'t> Batch<'t> {
    pub(super) fn begin(transaction: &'t WriteTransaction, now_ms: u64) -> Result<Self, Fault> {
        let head = transaction.open_table(META).map_err(fault)?;
        let meta = read_meta(&head)?;
        Ok(Self {
            rows: transaction.open_table(ROWS).map_err(fault)?,
            expiries: transaction.open_table(EXPIRIES).map_err(fault)?,
            head,
            meta,
            now_ms,
            records: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// The outer error fails the batch, the inner one this write alone.
    pub(super) fn apply(&mut self, key: &Arc<str>, operation: &Operation) -> Result<Result<Revision, Error>, Fault> {
        let present = match self.present(key)? {
            Ok(present) => present,
            Err(damage) => return Ok(Err(damage.into())),
        };
        let expected = match operation {
            Operation::Create { .. } => None,
            Operation::Update { expected, .. } | Operation::Delete { expected } => Some(*expected),
        };
        match (&present, expected) {
            (Some(_), None) => {
                return Ok(Err(Error::Exists { key: key.to_string() }));
            }
            (present, Some(expected)) if present.as_ref().map(|p| p.entry.modified) != Some(expected) => {
                let current = present.as_ref().map(|present| Box::new(present.entry.clone()));
                return Ok(Err(Error::Conflict { key: key.to_string(), current }));
            }
            _ => {}
        }
        let revision = Revision(self.meta.revision + 1);
        self.retire(key.as_bytes(), present.as_ref())?;
        let change = match operation {
            Operation::Delete { .. } => {
                self.remove(key.as_bytes())?;
                Change::Delete
            }
            Operation::Create { value, ttl_ms } | Operation::Update { value, ttl_ms, .. } => {
                let created = present.as_ref().map_or(revision, |present| present.entry.created);
                self.put(
                    key,
                    Row { created: created.0, modified: revision.0, expires_ms: self.expiry(*ttl_ms), value },
                )?;
                Change::Put { value: value.clone(), created }
            }
        };
        self.record(Event { revision, key: Arc::clone(key), change }, present);
        Ok(Ok(revision))
    }

    /// Deletes at most `limit` rows whose time is up.
    pub(super) fn expire(&mut self, limit: usize) -> Result<(), Fault> {
        for _ in 0..limit {
            let index = match self.expiries.first().map_err(fault)? {
                Some((index, _)) => index.value().to_vec(),
                None => break,
            };
            let Some((expires_ms, key)) = split_expiry_key(&index) else {
                return Err(Fault::Damaged("an entry of its expiry index is too short".to_owned()));
            };
            if expires_ms > self.now_ms {
                break;
            }
            let key: Arc<str> = key_text(key)?.into();
            // A damaged row must be seen by a person, not reaped: the fault stops the reaper and the write path.
            let Some(present) = self.present(&key)?? else {
                return Err(Fault::Damaged(format!("its expiry index names {key}, which is not there")));
            };
            self.retire(key.as_bytes(), Some(&present))?;
            self.remove(key.as_bytes())?;
            let event = Event { revision: Revision(self.meta.revision + 1), key, change: Change::Delete };
            self.record(event, Some(present));
        }
        Ok(())
    }

    /// Writes the head record and lets go of the tables, so that the transaction can be committed.
    pub(super) fn finish(mut self) -> Result<Outcome, Fault> {
        if !self.records.is_empty() {
            self.head.insert((), self.meta.encode().as_slice()).map_err(fault)?;
        }
        let next_expiry = next_expiry(&self.expiries)?;
        Ok(Outcome { meta: self.meta, records: self.records, next_expiry })
    }

    fn expiry(&self, ttl_ms: Option<u64>) -> u64 {
        // 0 on disk is never.
        ttl_ms.map_or(0, |ttl_ms| self.now_ms.saturating_add(ttl_ms).max(1))
    }

    fn present(&self, key: &Arc<str>) -> Result<Result<Option<Present>, Fault>, Fault> {
        let Some(bytes) = self.rows.get(key.as_bytes()).map_err(fault)? else {
            return Ok(Ok(None));
        };
        let (row, checksum) = match Row::decode(key.as_bytes(), bytes.value()) {
            Ok(decoded) => decoded,
            Err(damage) => return Ok(Err(damage)),
        };
        let entry = Entry {
            key: Arc::clone(key),
            value: Bytes::copy_from_slice(row.value),
            created: Revision(row.created),
            modified: Revision(row.modified),
        };
        Ok(Ok(Some(Present { entry, expires_ms: row.expires_ms, checksum })))
    }

    fn put(&mut self, key: &Arc<str>, row: Row<'_>) -> Result<(), Fault> {
        let key = key.as_bytes();
        let checksum = row.encode(key, &mut self.buffer);
        self.rows.insert(key, self.buffer.as_slice()).map_err(fault)?;
        self.meta.rows.add(checksum);
        if row.expires_ms != 0 {
            let index = expiry_key(row.expires_ms, key);
            self.meta.expiries.add(expiry_checksum(&index));
            self.expiries.insert(index.as_slice(), ()).map_err(fault)?;
        }
        Ok(())
    }

    /// Takes what was there out of the counts and the expiry index, before its place is taken.
    fn retire(&mut self, key: &[u8], present: Option<&Present>) -> Result<(), Fault> {
        let Some(present) = present else {
            return Ok(());
        };
        self.meta.rows.remove(present.checksum);
        if present.expires_ms != 0 {
            let index = expiry_key(present.expires_ms, key);
            self.meta.expiries.remove(expiry_checksum(&index));
            self.expiries.remove(index.as_slice()).map_err(fault)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        self.rows.remove(key).map_err(fault)?;
        Ok(())
    }

    fn record(&mut self, event: Event, present: Option<Present>) {
        self.meta.revision = event.revision.0;
        self.records.push(Record { event, previous: present.map(|present| present.entry) });
    }
}

/// Rows and index of a copy, counted as they are written.
pub(super) fn copy_row(
    rows: &mut Table<'_, &'static [u8], &'static [u8]>,
    expiries: &mut Table<'_, &'static [u8], ()>,
    (row_tally, expiry_tally): (&mut Tally, &mut Tally),
    (key, bytes): (&[u8], &[u8]),
) -> Result<u64, Fault> {
    let (row, checksum) = Row::decode(key, bytes)?;
    rows.insert(key, bytes).map_err(fault)?;
    row_tally.add(checksum);
    if row.expires_ms != 0 {
        let index = expiry_key(row.expires_ms, key);
        expiry_tally.add(expiry_checksum(&index));
        expiries.insert(index.as_slice(), ()).map_err(fault)?;
    }
    Ok((key.len() + row.value.len()) as u64)
}
