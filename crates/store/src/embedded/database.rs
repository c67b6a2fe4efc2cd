//! redb as this engine uses it: opening with every check there is, and reading the whole for verification.

use std::sync::Arc;

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable};

use super::{
    disk::{Backend, Disk, Trouble},
    fault::{Fault, WAY_OUT, contained, fault},
    format::{
        EMPTY_REVISION, EXPIRIES, META, Meta, ROWS, Row, Tally, expiry_checksum, expiry_key, key_text, split_expiry_key,
    },
};
use crate::Revision;

/// redb's page cache and write buffer.
const CACHE_BYTES: usize = 8 << 20;

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub revision: Revision,
    pub rows: u64,
    /// Keys and values.
    pub bytes: u64,
    /// Rows with a time to live.
    pub expiring: u64,
}

/// Opens redb on `disk`. Its own integrity check always runs: it verifies every page and builds the free list anew, so
/// that a damaged free list cannot have live pages overwritten later.
pub(super) fn open(disk: &Arc<dyn Disk>, trouble: &Arc<Trouble>) -> Result<Database, Fault> {
    let backend = Backend { disk: Arc::clone(disk), trouble: Arc::clone(trouble) };
    contained(|| {
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)
            .map_err(fault)
    })
}

/// Writes the tables and the head record of an empty store.
pub(super) fn initialize(database: &Database, id: u64) -> Result<Meta, Fault> {
    let meta = Meta { id, revision: EMPTY_REVISION, ..Meta::default() };
    let mut transaction = database.begin_write().map_err(fault)?;
    transaction.set_two_phase_commit(true);
    transaction.open_table(ROWS).map_err(fault)?;
    transaction.open_table(EXPIRIES).map_err(fault)?;
    transaction.open_table(META).map_err(fault)?.insert((), meta.encode().as_slice()).map_err(fault)?;
    transaction.commit().map_err(fault)?;
    Ok(meta)
}

pub(super) fn meta(transaction: &ReadTransaction) -> Result<Meta, Fault> {
    read_meta(&transaction.open_table(META).map_err(fault)?)
}

pub(super) fn read_meta(table: &impl ReadableTable<(), &'static [u8]>) -> Result<Meta, Fault> {
    match table.get(()).map_err(fault)? {
        Some(bytes) => Meta::decode(bytes.value()),
        None => Err(Fault::Damaged(format!("it has no head record; {WAY_OUT}"))),
    }
}

/// Reads every row and every entry of the expiry index, and compares them with what the head record says.
pub(super) fn verify(database: &Database) -> Result<(Meta, Report), Fault> {
    contained(|| {
        let transaction = database.begin_read().map_err(fault)?;
        let meta = meta(&transaction)?;
        let mut report = Report { revision: Revision(meta.revision), rows: 0, bytes: 0, expiring: 0 };
        let (mut rows, mut due) = (Tally::default(), Tally::default());
        for item in transaction.open_table(ROWS).map_err(fault)?.iter().map_err(fault)? {
            let (key, bytes) = item.map_err(fault)?;
            let key = key.value();
            let (row, checksum) = Row::decode(key, bytes.value())?;
            let name = key_text(key)?;
            if row.modified > meta.revision || row.created > row.modified {
                return Err(Fault::Damaged(format!("key {name} has an impossible revision; {WAY_OUT}")));
            }
            rows.add(checksum);
            report.bytes += (key.len() + row.value.len()) as u64;
            if row.expires_ms != 0 {
                due.add(expiry_checksum(&expiry_key(row.expires_ms, key)));
            }
        }
        let mut indexed = Tally::default();
        for item in transaction.open_table(EXPIRIES).map_err(fault)?.iter().map_err(fault)? {
            indexed.add(expiry_checksum(item.map_err(fault)?.0.value()));
        }
        (report.rows, report.expiring) = (rows.count, due.count);
        if rows != meta.rows || due != meta.expiries || indexed != meta.expiries {
            return Err(Fault::Damaged(format!(
                "it should hold {} rows and holds {}, or some in an older state; {WAY_OUT}",
                meta.rows.count, rows.count
            )));
        }
        Ok((meta, report))
    })
}

/// The time at which the next row expires.
pub(super) fn next_expiry(table: &impl ReadableTable<&'static [u8], ()>) -> Result<Option<u64>, Fault> {
    let first = table.first().map_err(fault)?;
    Ok(first.and_then(|(index, _)| split_expiry_key(index.value()).map(|(at, _)| at)))
}
