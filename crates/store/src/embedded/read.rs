//! Reads: one key, and lists at the newest or an older revision.

use std::{
    collections::{VecDeque, btree_map},
    iter::Peekable,
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use redb::{Range, ReadTransaction};

use super::{
    fault::{Fault, fault},
    format::{ROWS, Row, key_text},
    shared::Shared,
};
use crate::{Entry, Error, ListOptions, ListPage, Result, Revision};

pub(super) fn get(shared: &Shared, key: &str) -> Result<Option<Entry>> {
    shared.read(|transaction, _| {
        let rows = transaction.open_table(ROWS).map_err(fault)?;
        match rows.get(key.as_bytes()).map_err(fault)? {
            Some(bytes) => Ok(Some(entry(key.as_bytes(), bytes.value())?)),
            None => Ok(None),
        }
    })
}

pub(super) fn list(shared: &Shared, counts: &Counts, options: &ListOptions) -> Result<ListPage> {
    shared.read(|transaction, meta| {
        let at = options.at.unwrap_or(Revision(meta.revision));
        let undone = {
            let history = shared.history.lock();
            if at.0 > meta.revision {
                return Err(Error::Future { requested: at, newest: Revision(meta.revision) });
            }
            // The newest state needs no history, which may have moved on since the transaction began.
            if at.0 == meta.revision { Default::default() } else { history.undo(&options.prefix, at, meta.revision)? }
        };
        let mut state = State::new(transaction, options, undone)?;
        let mut entries = Vec::new();
        while options.limit == 0 || entries.len() < options.limit {
            match state.next_entry()? {
                Some(entry) => entries.push(entry),
                None => {
                    return Ok(ListPage { entries, revision: at, remaining: 0 });
                }
            }
        }
        let known = counts.remaining(options, at).map(|remaining| remaining.saturating_sub(entries.len() as u64));
        let remaining = known.map_or_else(|| state.count(), Ok)?;
        if let Some(last) = entries.last() {
            counts.note(&options.prefix, at, &last.key, remaining);
        }
        Ok(ListPage { entries, revision: at, remaining })
    })
}

fn entry(key: &[u8], bytes: &[u8]) -> Result<Entry, Fault> {
    let (row, _) = Row::decode(key, bytes)?;
    Ok(Entry {
        key: Arc::from(key_text(key)?),
        value: Bytes::copy_from_slice(row.value),
        created: Revision(row.created),
        modified: Revision(row.modified),
    })
}

type Undone = btree_map::IntoIter<String, Option<Entry>>;

/// The rows under a prefix in key order, with what was written since laid back.
struct State<'p> {
    prefix: &'p [u8],
    rows: Range<'static, &'static [u8], &'static [u8]>,
    /// The row read ahead, while an undone one comes before it.
    ahead: Option<Ahead>,
    undone: Peekable<Undone>,
}

type Ahead = (redb::AccessGuard<'static, &'static [u8]>, redb::AccessGuard<'static, &'static [u8]>);

enum Item {
    Stored(Ahead),
    Undone(Entry),
}

impl<'p> State<'p> {
    fn new(
        transaction: &ReadTransaction,
        options: &'p ListOptions,
        undone: std::collections::BTreeMap<String, Option<Entry>>,
    ) -> Result<Self, Fault> {
        let prefix = options.prefix.as_bytes();
        let from = match &options.after {
            Some(after) if after.as_bytes() >= prefix => Bound::Excluded(after.as_bytes()),
            _ => Bound::Included(prefix),
        };
        let table = transaction.open_table(ROWS).map_err(fault)?;
        let rows = table.range::<&[u8]>((from, Bound::Unbounded)).map_err(fault)?;
        let mut undone = undone.into_iter().peekable();
        if let Some(after) = &options.after {
            while undone.next_if(|(key, _)| key <= after).is_some() {}
        }
        Ok(Self { prefix, rows, ahead: None, undone })
    }

    fn next_entry(&mut self) -> Result<Option<Entry>, Fault> {
        match self.next_item()? {
            Some(Item::Stored((key, bytes))) => entry(key.value(), bytes.value()).map(Some),
            Some(Item::Undone(entry)) => Ok(Some(entry)),
            None => Ok(None),
        }
    }

    fn count(&mut self) -> Result<u64, Fault> {
        let mut count = 0;
        while self.next_item()?.is_some() {
            count += 1;
        }
        Ok(count)
    }

    fn next_item(&mut self) -> Result<Option<Item>, Fault> {
        loop {
            let stored = self.next_stored()?;
            // The undone state of a key takes the place of its stored row, if it comes first or has the same key.
            let undone = self
                .undone
                .next_if(|(key, _)| stored.as_ref().is_none_or(|(stored, _)| key.as_bytes() <= stored.value()));
            let Some((key, then)) = undone else {
                return Ok(stored.map(Item::Stored));
            };
            self.ahead = stored.filter(|(stored, _)| stored.value() != key.as_bytes());
            if let Some(entry) = then {
                return Ok(Some(Item::Undone(entry)));
            }
        }
    }

    fn next_stored(&mut self) -> Result<Option<Ahead>, Fault> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        match self.rows.next() {
            Some(row) => Ok(Some(row.map_err(fault)?).filter(|(key, _)| key.value().starts_with(self.prefix))),
            None => Ok(None),
        }
    }
}

/// How many entries are left behind the last pages handed out. A list that is read page by page would otherwise count
/// the whole rest for every page.
#[derive(Default)]
pub(super) struct Counts(Mutex<VecDeque<Count>>);

struct Count {
    prefix: String,
    at: Revision,
    last: Arc<str>,
    remaining: u64,
}

const COUNTS_KEPT: usize = 16;

impl Counts {
    fn remaining(&self, options: &ListOptions, at: Revision) -> Option<u64> {
        let after = options.after.as_deref()?;
        let counts = self.0.lock();
        let count =
            counts.iter().find(|count| count.at == at && count.prefix == options.prefix && *count.last == *after)?;
        Some(count.remaining)
    }

    fn note(&self, prefix: &str, at: Revision, last: &Arc<str>, remaining: u64) {
        if remaining == 0 {
            return;
        }
        let mut counts = self.0.lock();
        counts.truncate(COUNTS_KEPT - 1);
        counts.push_front(Count { prefix: prefix.to_owned(), at, last: Arc::clone(last), remaining });
    }
}
