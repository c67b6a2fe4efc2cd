//! Moves everything from one store into another: from the embedded engine to etcd and back.

use std::{collections::VecDeque, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{Entry, Error, ListOptions, Result, Revision, Store};

/// Entries read at once.
const PAGE: usize = 500;
/// Writes under way at once: etcd and the embedded engine sync them together.
const WRITES: usize = 64;

/// What a copy has done, and what it found done already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub created: u64,
    /// Was there with another value.
    pub updated: u64,
    pub unchanged: u64,
}

impl Copied {
    pub fn entries(&self) -> u64 {
        self.created + self.updated + self.unchanged
    }
}

/// Why nothing, or not everything, was copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("reading the source")]
    Source(#[source] Error),
    #[error("writing the target; run the same command again to go on")]
    Target(#[source] Error),
    #[error("the target has {key}, which the source has not: it holds another cluster; name an empty one")]
    Foreign { key: String },
    #[error("{key} is not the same in source and target after the copy: does something else write to one of them?")]
    Differs { key: String },
}

/// Copies all entries under `prefix` as they are at one revision of `from`, and compares both afterwards. What a copy that was
/// broken off has done is kept. `ttl` is the time to live of a key's entry, `None` for ever; keys for which `skip` holds are
/// left out. Nobody else may write to either store.
pub async fn copy(
    from: &dyn Store,
    to: &dyn Store,
    prefix: &str,
    ttl: impl Fn(&str) -> Option<Duration>,
    skip: impl Fn(&str) -> bool,
    mut tell: impl FnMut(&Copied),
) -> Result<Copied, CopyError> {
    // Before anything is written: an entry of somebody else's is not one to write beside.
    compare(from, to, prefix, &skip, |pair| match pair {
        (None, Some(other)) => Err(CopyError::Foreign { key: other.key.to_string() }),
        _ => Ok(()),
    })
    .await?;
    let mut copied = Copied::default();
    let (mut source, mut target) = (Pages::new(from, prefix), Pages::new(to, prefix));
    loop {
        let mut writes = Vec::new();
        while writes.len() < WRITES {
            let Some(wanted) = source.next_but(&skip).await.map_err(CopyError::Source)? else { break };
            let there = target.at(&wanted.key).await.map_err(CopyError::Target)?;
            match there {
                Some(there) if there.value == wanted.value => copied.unchanged += 1,
                there => writes.push((wanted, there)),
            }
        }
        if writes.is_empty() {
            break;
        }
        copied.updated += writes.iter().filter(|(_, there)| there.is_some()).count() as u64;
        copied.created += writes.iter().filter(|(_, there)| there.is_none()).count() as u64;
        let ttl = &ttl;
        let write = |(entry, there): (Entry, Option<Entry>)| async move {
            let (key, ttl) = (&*entry.key, ttl(&entry.key));
            match there {
                Some(there) => to.update(key, entry.value.clone(), there.modified, ttl).await,
                None => to.create(key, entry.value.clone(), ttl).await,
            }
        };
        let written = stream::iter(writes).map(write).buffer_unordered(WRITES);
        written.try_for_each(|_| async { Ok(()) }).await.map_err(CopyError::Target)?;
        tell(&copied);
    }
    compare(from, to, prefix, &skip, |pair| match pair {
        (Some(wanted), Some(found)) if wanted.value == found.value => Ok(()),
        (Some(entry), _) | (None, Some(entry)) => Err(CopyError::Differs { key: entry.key.to_string() }),
        (None, None) => Ok(()),
    })
    .await?;
    Ok(copied)
}

/// Shows the entries of both stores side by side, in the order of keys.
async fn compare(
    from: &dyn Store,
    to: &dyn Store,
    prefix: &str,
    skip: impl Fn(&str) -> bool,
    mut look: impl FnMut((Option<&Entry>, Option<&Entry>)) -> Result<(), CopyError>,
) -> Result<(), CopyError> {
    let (mut source, mut target) = (Pages::new(from, prefix), Pages::new(to, prefix));
    let mut wanted = source.next_but(&skip).await.map_err(CopyError::Source)?;
    let mut found = target.next_but(&skip).await.map_err(CopyError::Target)?;
    while wanted.is_some() || found.is_some() {
        let order = match (&wanted, &found) {
            (Some(wanted), Some(found)) => wanted.key.cmp(&found.key),
            (Some(_), None) => std::cmp::Ordering::Less,
            _ => std::cmp::Ordering::Greater,
        };
        look((wanted.as_ref().filter(|_| order.is_le()), found.as_ref().filter(|_| order.is_ge())))?;
        if order.is_le() {
            wanted = source.next_but(&skip).await.map_err(CopyError::Source)?;
        }
        if order.is_ge() {
            found = target.next_but(&skip).await.map_err(CopyError::Target)?;
        }
    }
    Ok(())
}

/// All entries under a prefix in the order of keys, at one revision.
struct Pages<'a> {
    store: &'a dyn Store,
    options: ListOptions,
    entries: VecDeque<Entry>,
    is_last: bool,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn Store, prefix: &str) -> Pages<'a> {
        let options = ListOptions { prefix: prefix.to_owned(), limit: PAGE, ..ListOptions::default() };
        Pages { store, options, entries: VecDeque::new(), is_last: false }
    }

    async fn fill(&mut self) -> Result<()> {
        if !self.entries.is_empty() || self.is_last {
            return Ok(());
        }
        let page = self.store.list(self.options.clone()).await?;
        self.is_last = page.remaining == 0;
        self.options.after = page.entries.last().map(|entry| entry.key.to_string());
        self.options.at = (page.revision > Revision(0)).then_some(page.revision);
        self.entries = page.entries.into();
        Ok(())
    }

    async fn next_but(&mut self, skip: &impl Fn(&str) -> bool) -> Result<Option<Entry>> {
        loop {
            self.fill().await?;
            match self.entries.pop_front() {
                Some(entry) if skip(&entry.key) => {}
                entry => return Ok(entry),
            }
        }
    }

    /// The entry of a key, where keys are asked for in their order.
    async fn at(&mut self, key: &str) -> Result<Option<Entry>> {
        loop {
            self.fill().await?;
            match self.entries.front().map(|entry| (*entry.key).cmp(key)) {
                Some(std::cmp::Ordering::Less) => drop(self.entries.pop_front()),
                Some(std::cmp::Ordering::Equal) => return Ok(self.entries.pop_front()),
                Some(std::cmp::Ordering::Greater) | None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::{Embedded, EmbeddedOptions};

    fn open(folder: &tempfile::TempDir) -> Embedded {
        Embedded::open(EmbeddedOptions::new(folder.path())).expect("a store")
    }

    async fn filled(folder: &tempfile::TempDir, count: usize) -> Embedded {
        let store = open(folder);
        for number in 0..count {
            store
                .create(&format!("/registry/a/{number:05}"), format!("v{number}").into(), None)
                .await
                .expect("created");
        }
        store.create("/registry/leases/x", "gone".into(), None).await.expect("created");
        store
    }

    async fn run(from: &Embedded, to: &Embedded) -> Result<Copied, CopyError> {
        copy(from, to, "/registry/", |_| None, |key| key.starts_with("/registry/leases/"), |_| ()).await
    }

    #[tokio::test]
    async fn everything_is_copied_and_a_copy_that_was_broken_off_goes_on() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let (from, to) = (filled(&folders[0], 1234).await, open(&folders[1]));
        // As if it had ended in the middle, and one entry had changed since.
        for number in (0..600).step_by(2) {
            let value = if number == 0 { "old".to_owned() } else { format!("v{number}") };
            to.create(&format!("/registry/a/{number:05}"), value.into(), None).await.expect("created");
        }
        let copied = run(&from, &to).await.expect("copied");
        assert_eq!(copied, Copied { created: 934, updated: 1, unchanged: 299 });
        assert_eq!(run(&from, &to).await.expect("again").unchanged, 1234);
        assert!(to.get("/registry/leases/x").await.expect("asked").is_none());
    }

    #[tokio::test]
    async fn another_clusters_data_is_left_alone() {
        let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
        let (from, to) = (filled(&folders[0], 3).await, open(&folders[1]));
        to.create("/registry/z/other", "theirs".into(), None).await.expect("created");
        let error = run(&from, &to).await.expect_err("refused");
        assert!(matches!(&error, CopyError::Foreign { key } if key == "/registry/z/other"), "{error}");
        assert!(to.get("/registry/a/00000").await.expect("asked").is_none(), "nothing was written");
    }
}
