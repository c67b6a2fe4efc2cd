//! A store that is too simple to be wrong, and a run of one sequence of operations against it and an engine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Engine;
use crate::{Change, Entry, Error, Event, ListOptions, Result, Revision, Store};

/// A step of a random run. Numbers stand for few keys and prefixes, so that steps collide often.
#[derive(Clone, Debug)]
pub enum Operation {
    Create {
        key: u8,
        size: u16,
        ttl: Option<u8>,
    },
    /// `stale` picks a wrong expected revision.
    Update {
        key: u8,
        size: u16,
        ttl: Option<u8>,
        stale: bool,
    },
    Delete {
        key: u8,
        stale: bool,
    },
    Get {
        key: u8,
    },
    /// Lists by prefix at `back` revisions before the newest.
    List {
        prefix: u8,
        limit: u8,
        back: u8,
    },
    /// Compares a watch from `back` revisions before the newest with what the model saw.
    Watch {
        prefix: u8,
        back: u8,
    },
    Compact {
        back: u8,
    },
    /// Seconds.
    Advance {
        seconds: u8,
    },
    Reopen,
}

#[derive(Default)]
struct Model {
    revision: u64,
    rows: BTreeMap<String, (Entry, Option<u64>)>,
    events: Vec<Event>,
    states: BTreeMap<u64, Vec<Entry>>,
    now: u64,
    oldest: u64,
}

const PREFIXES: [&str; 4] = ["", "/", "/a", "/a/"];

fn key_name(key: u8) -> String {
    format!("{}{}", ["/a", "/a/", "/ab/", "/b"][usize::from(key % 4)], key / 4 % 3)
}

impl Model {
    fn write(&mut self, key: &str, put: Option<(bytes::Bytes, Option<u8>)>) -> Revision {
        self.revision += 1;
        let revision = Revision(self.revision);
        let change = match put {
            Some((value, ttl)) => {
                let created = self.rows.get(key).map_or(revision, |(entry, _)| entry.created);
                let entry = Entry { key: key.into(), value: value.clone(), created, modified: revision };
                self.rows.insert(key.to_owned(), (entry, ttl.map(|ttl| self.now + u64::from(ttl))));
                Change::Put { value, created }
            }
            None => {
                self.rows.remove(key);
                Change::Delete
            }
        };
        self.events.push(Event { revision, key: key.into(), change });
        self.states.insert(self.revision, self.rows.values().map(|(entry, _)| entry.clone()).collect());
        revision
    }

    fn expire(&mut self) {
        let mut due: Vec<_> = self
            .rows
            .iter()
            .filter_map(|(key, (_, at))| at.filter(|at| *at <= self.now).map(|at| (at, key.clone())))
            .collect();
        due.sort();
        for (_, key) in due {
            self.write(&key, None);
        }
    }

    fn back(&self, back: u8) -> Revision {
        Revision(self.revision.saturating_sub(u64::from(back)).max(1))
    }
}

/// Runs `operations` on a fresh store of `engine`; panics at the first difference.
pub async fn run(engine: &impl Engine, operations: &[Operation]) {
    let mut store = engine.open().await;
    let revision = store.revision().await.unwrap().0;
    let mut model = Model { revision, oldest: revision, ..Model::default() };
    model.states.insert(revision, Vec::new());
    for operation in operations {
        match operation {
            Operation::Advance { seconds } => {
                engine.advance(&store, Duration::from_secs(u64::from(*seconds))).await;
                model.now += u64::from(*seconds);
                model.expire();
            }
            Operation::Reopen => {
                store.close().await.unwrap();
                drop(store);
                store = engine.open().await;
                // An engine may forget history when it closes: ask where it begins.
                model.oldest = match store.watch("", Revision(model.oldest)).await {
                    Err(Error::Compacted { oldest, .. }) => oldest.0,
                    other => other.map(|_| model.oldest).unwrap(),
                };
            }
            Operation::Compact { back } => {
                let at = model.back(*back);
                store.compact(at).await.unwrap();
                model.oldest = model.oldest.max(at.0);
            }
            Operation::List { .. } | Operation::Watch { .. } | Operation::Get { .. } => {
                read(&store, &model, operation).await;
            }
            _ => write(&store, &mut model, operation).await,
        }
        assert_eq!(store.revision().await.unwrap().0, model.revision, "after {operation:?}");
    }
    store.close().await.unwrap();
}

async fn write(store: &Arc<dyn Store>, model: &mut Model, operation: &Operation) {
    let (key, size, ttl) = match operation {
        Operation::Create { key, size, ttl } | Operation::Update { key, size, ttl, .. } => {
            (key_name(*key), *size, *ttl)
        }
        Operation::Delete { key, .. } => (key_name(*key), 0, None),
        other => unreachable!("{other:?} does not write"),
    };
    let bytes = bytes::Bytes::from(vec![size as u8; usize::from(size)]);
    let duration = ttl.map(|ttl| Duration::from_secs(u64::from(ttl)));
    let present = model.rows.get(&key).map(|(entry, _)| entry.clone());
    let modified = present.as_ref().map_or(Revision(model.revision), |entry| entry.modified);
    let (result, fits) = match operation {
        Operation::Create { .. } => (store.create(&key, bytes.clone(), duration).await, present.is_none()),
        Operation::Update { stale, .. } => {
            let expected = Revision(modified.0 - u64::from(*stale));
            (store.update(&key, bytes.clone(), expected, duration).await, present.is_some() && !stale)
        }
        Operation::Delete { stale, .. } => {
            let expected = Revision(modified.0 - u64::from(*stale));
            (store.delete(&key, expected).await, present.is_some() && !stale)
        }
        other => unreachable!("{other:?} does not write"),
    };
    match result {
        Ok(revision) => {
            assert!(fits, "{operation:?} must not succeed");
            let put = (!matches!(operation, Operation::Delete { .. })).then_some((bytes, ttl));
            assert_eq!(model.write(&key, put), revision, "{operation:?}");
        }
        Err(Error::Exists { .. }) => {
            assert!(present.is_some() && matches!(operation, Operation::Create { .. }))
        }
        Err(Error::Conflict { current, .. }) => {
            assert!(!fits, "{operation:?} must succeed");
            assert_eq!(current.map(|entry| *entry), present, "{operation:?}");
        }
        Err(error) => panic!("{operation:?}: {error}"),
    }
}

async fn read(store: &Arc<dyn Store>, model: &Model, operation: &Operation) {
    match operation {
        Operation::Get { key } => {
            let key = key_name(*key);
            assert_eq!(store.get(&key).await.unwrap(), model.rows.get(&key).map(|(entry, _)| entry.clone()));
        }
        Operation::List { prefix, limit, back } => {
            let (prefix, at) = (PREFIXES[usize::from(prefix % 4)], model.back(*back));
            match list_all(store, prefix, at, usize::from(*limit)).await {
                Err(Error::Compacted { .. }) => assert!(at.0 < model.oldest, "{operation:?}"),
                listed => {
                    assert!(at.0 >= model.oldest, "{operation:?}");
                    let state = model.states[&at.0].iter().filter(|entry| entry.key.starts_with(prefix));
                    assert_eq!(listed.unwrap(), state.cloned().collect::<Vec<_>>(), "{operation:?}");
                }
            }
        }
        Operation::Watch { prefix, back } => {
            let (prefix, after) = (PREFIXES[usize::from(prefix % 4)], model.back(*back));
            match store.watch(prefix, after).await {
                Err(Error::Compacted { .. }) => assert!(after.0 < model.oldest, "{operation:?}"),
                watch => {
                    let events = super::events_to(&mut watch.unwrap(), Revision(model.revision)).await;
                    let wanted = model.events.iter().filter(|e| e.revision > after && e.key.starts_with(prefix));
                    assert_eq!(events, wanted.cloned().collect::<Vec<_>>(), "{operation:?}");
                }
            }
        }
        other => unreachable!("{other:?} does not read"),
    }
}

async fn list_all(store: &Arc<dyn Store>, prefix: &str, at: Revision, limit: usize) -> Result<Vec<Entry>> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map(|entry| entry.key.to_string());
        let options = ListOptions { prefix: prefix.to_owned(), after, limit, at: Some(at) };
        let page = store.list(options).await?;
        assert_eq!(page.revision, at);
        let complete = page.remaining == 0;
        all.extend(page.entries);
        if complete {
            return Ok(all);
        }
    }
}
