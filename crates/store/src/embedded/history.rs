//! The recent writes, in memory: what watches read from, and what undoes the newest state to show an older one.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::{Change, Entry, Error, Event, Result, Revision};

/// Bounds of what is retained; the older of both wins.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimits {
    pub events: usize,
    /// Keys and values, the new and the replaced one.
    pub bytes: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { events: 100_000, bytes: 16 << 20 }
    }
}

/// One committed write and the entry it replaced.
#[derive(Debug)]
pub(super) struct Record {
    pub event: Event,
    pub previous: Option<Entry>,
}

#[derive(Debug)]
pub(super) struct History {
    limits: HistoryLimits,
    /// Everything after this revision is here, without holes: `records[i]` has revision `start + 1 + i`.
    start: u64,
    /// The newest revision that [`Self::compact`] was asked to forget.
    compacted: u64,
    records: VecDeque<(Record, usize)>,
    bytes: usize,
}

/// Bytes a record takes beside keys and values.
const RECORD_OVERHEAD: usize = size_of::<(Record, usize)>();

impl History {
    pub(super) fn new(limits: HistoryLimits, revision: u64) -> Self {
        Self { limits, start: revision, compacted: 0, records: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn newest(&self) -> u64 {
        self.start + self.records.len() as u64
    }

    pub(super) fn push(&mut self, mut record: Record) {
        debug_assert_eq!(record.event.revision.0, self.newest() + 1);
        let shared = self.share_previous(&mut record);
        let previous = record.previous.as_ref().filter(|_| !shared).map_or(0, |entry| entry.value.len());
        let value = match &record.event.change {
            Change::Put { value, .. } => value.len(),
            Change::Delete => 0,
        };
        let bytes = RECORD_OVERHEAD + record.event.key.len() + value + previous;
        self.bytes += bytes;
        self.records.push_back((record, bytes));
        while self.bytes > self.limits.bytes || self.records.len() > self.limits.events {
            self.drop_oldest();
        }
    }

    /// Most writes replace a value that is itself still here: keep one copy of its bytes.
    fn share_previous(&self, record: &mut Record) -> bool {
        let Some(previous) = &mut record.previous else {
            return false;
        };
        match self.value_at(previous.modified) {
            Some(value) if *value == previous.value => {
                previous.value = value.clone();
                true
            }
            _ => false,
        }
    }

    fn value_at(&self, revision: Revision) -> Option<&Bytes> {
        let index = revision.0.checked_sub(self.start + 1)?;
        match &self.records.get(usize::try_from(index).ok()?)?.0.event.change {
            Change::Put { value, .. } => Some(value),
            Change::Delete => None,
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, bytes)) = self.records.pop_front() {
            self.bytes -= bytes;
            self.start += 1;
        }
    }

    pub(super) fn compact(&mut self, revision: u64) {
        self.compacted = self.compacted.max(revision);
        while self.start < revision && !self.records.is_empty() {
            self.drop_oldest();
        }
    }

    /// Forgets everything, for a state that was read from disk anew.
    pub(super) fn reset(&mut self, revision: u64) {
        *self = Self { compacted: self.compacted, ..Self::new(self.limits, revision) };
    }

    /// Whether everything after `revision` is known.
    pub(super) fn check(&self, revision: Revision) -> Result<()> {
        if revision.0 < self.start {
            return Err(Error::Compacted { requested: revision, oldest: Revision(self.start) });
        }
        if revision.0 > self.newest() {
            return Err(Error::Future { requested: revision, newest: Revision(self.newest()) });
        }
        Ok(())
    }

    /// Goes through at most `limit` writes after `after`: those under `prefix`, and the last revision looked at.
    pub(super) fn events(&self, prefix: &str, after: u64, limit: usize) -> Result<(Vec<Event>, u64)> {
        let Some(skip) = after.checked_sub(self.start) else {
            let requested = Revision(after);
            return Err(if after < self.compacted {
                Error::Compacted { requested, oldest: Revision(self.start) }
            } else {
                Error::Lagged
            });
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.records.len());
        let end = (skip + limit).min(self.records.len());
        let events = self
            .records
            .range(skip..end)
            .map(|(record, _)| &record.event)
            .filter(|event| event.key.starts_with(prefix))
            .cloned()
            .collect();
        Ok((events, after + (end - skip) as u64))
    }

    /// What to lay over the state at `newest` to see the state at `at`: keys under `prefix` that were written since, and
    /// what they held then.
    pub(super) fn undo(&self, prefix: &str, at: Revision, newest: u64) -> Result<BTreeMap<String, Option<Entry>>> {
        self.check(at)?;
        let index =
            |revision: u64| usize::try_from(revision - self.start).unwrap_or(usize::MAX).min(self.records.len());
        let mut undone = BTreeMap::new();
        // Newest first, so that the oldest write after `at` has the last word.
        for (record, _) in self.records.range(index(at.0)..index(newest.max(at.0))).rev() {
            if record.event.key.starts_with(prefix) {
                undone.insert(record.event.key.to_string(), record.previous.clone());
            }
        }
        Ok(undone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(revision: u64, key: &str, previous: Option<(u64, &'static [u8])>) -> Record {
        let value = Bytes::from(vec![b'x'; 100]);
        Record {
            event: Event {
                revision: Revision(revision),
                key: key.into(),
                change: Change::Put { value, created: Revision(revision) },
            },
            previous: previous.map(|(modified, value)| Entry {
                key: key.into(),
                value: Bytes::from_static(value),
                created: Revision(1),
                modified: Revision(modified),
            }),
        }
    }

    #[test]
    fn both_bounds_hold_and_what_is_left_has_no_holes() {
        for limits in [
            HistoryLimits { events: 3, bytes: usize::MAX },
            HistoryLimits { events: usize::MAX, bytes: 3 * (RECORD_OVERHEAD + 102) },
        ] {
            let mut history = History::new(limits, 10);
            for revision in 11..=20 {
                history.push(put(revision, "/a", None));
            }
            assert_eq!(history.start, 17, "{limits:?}");
            assert_eq!(history.newest(), 20);
            let (events, to) = history.events("/a", 18, 100).unwrap();
            assert_eq!(events.iter().map(|event| event.revision.0).collect::<Vec<_>>(), [19, 20]);
            assert_eq!(to, 20);
            assert!(matches!(history.events("/a", 16, 100), Err(Error::Lagged)));
            assert!(matches!(history.check(Revision(16)), Err(Error::Compacted { .. })));
            assert!(matches!(history.check(Revision(21)), Err(Error::Future { .. })));
        }
    }

    #[test]
    fn undo_gives_the_oldest_replaced_state() {
        let mut history = History::new(HistoryLimits::default(), 10);
        history.push(put(11, "/a", Some((5, b"old"))));
        history.push(put(12, "/b", None));
        history.push(put(13, "/a", Some((11, b"newer"))));
        let undone = history.undo("/", Revision(10), 13).unwrap();
        assert_eq!(undone["/a"].as_ref().map(|entry| &entry.value[..]), Some(&b"old"[..]));
        assert_eq!(undone["/b"], None);
        let undone = history.undo("/a", Revision(11), 12).unwrap();
        assert!(undone.is_empty(), "a write after the state that was read must not be undone: {undone:?}");
    }
}
