//! How the keys of a store's callers and the keys in etcd map to each other.

use bytes::Bytes;

use crate::{Error, Result};

/// The prefix under which upstream's API server keeps its objects (its flag `--etcd-prefix`), and callers' keys begin with.
pub const DEFAULT_PREFIX: &str = "/registry";

/// Puts `theirs` in the place of `ours` at the beginning of a key. Where both are the same, keys stay as they are.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    ours: String,
    theirs: String,
}

/// From the first key (included) to the last (excluded), as etcd takes a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub from: Bytes,
    pub end: Bytes,
}

impl Range {
    /// Every key there is.
    pub fn everything() -> Range {
        Range { from: Bytes::from_static(b"\0"), end: Bytes::from_static(b"\0") }
    }
}

impl Keys {
    pub fn new(ours: &str, theirs: &str) -> Keys {
        // As upstream does: a prefix begins with a slash, and a slash stands between it and what follows.
        let theirs = match theirs.trim_matches('/') {
            "" => String::new(),
            prefix => format!("/{prefix}"),
        };
        Keys { ours: ours.to_owned(), theirs }
    }

    /// The key in etcd.
    pub fn theirs_of(&self, key: &str) -> Result<Bytes> {
        match key.strip_prefix(&self.ours) {
            Some(rest) => Ok(Bytes::from(format!("{}{rest}", self.theirs))),
            None => Err(Error::Misconfigured {
                message: format!(
                    "key {key} does not begin with {}, which stands for {} in etcd",
                    self.ours, self.theirs
                ),
            }),
        }
    }

    /// The caller's key; `None` for what is not under the prefix, or is no text: nothing that an API server wrote.
    pub fn ours_of(&self, key: &[u8]) -> Option<String> {
        let rest = key.strip_prefix(self.theirs.as_bytes()).filter(|rest| rest.starts_with(b"/"))?;
        Some(format!("{}{}", self.ours, std::str::from_utf8(rest).ok()?))
    }

    /// All keys that begin with `prefix`, behind `after` where that is given.
    pub fn range(&self, prefix: &str, after: Option<&str>) -> Result<Range> {
        // A prefix that is shorter than what all keys begin with selects them all.
        let all = format!("{}/", self.ours);
        let prefix = if all.starts_with(prefix) { &*all } else { prefix };
        let first = self.theirs_of(prefix)?;
        let end = end_of(&first);
        let from = match after {
            Some(after) if after >= prefix => {
                let mut next = Vec::from(self.theirs_of(after)?);
                next.push(0);
                Bytes::from(next)
            }
            _ => first,
        };
        Ok(Range { from, end })
    }
}

/// The first key behind all that begin with `prefix`. Never empty: a prefix begins with a slash.
fn end_of(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_map_both_ways() {
        for (ours, theirs, key, in_etcd) in [
            ("/registry", "/registry", "/registry/pods/a/b", "/registry/pods/a/b"),
            ("/registry", "other/", "/registry/pods/a/b", "/other/pods/a/b"),
            ("/registry", "/a/b", "/registry/pods", "/a/b/pods"),
            ("", "/registry", "/a", "/registry/a"),
            ("/registry", "/", "/registry/pods/a/b", "/pods/a/b"),
        ] {
            let keys = Keys::new(ours, theirs);
            assert_eq!(keys.theirs_of(key).unwrap(), in_etcd);
            assert_eq!(keys.ours_of(in_etcd.as_bytes()).as_deref(), Some(key));
        }
        let keys = Keys::new("/registry", "/registry");
        assert!(matches!(keys.theirs_of("/elsewhere"), Err(Error::Misconfigured { .. })));
        assert_eq!(keys.ours_of(b"compact_rev_key"), None);
        assert_eq!(keys.ours_of(b"/registry/\xff"), None);
        assert_eq!(keys.ours_of(b"/registry2/a"), None);
    }

    #[test]
    fn ranges_cover_a_prefix_and_continue_behind_a_key() {
        let keys = Keys::new("/registry", "/x");
        for (prefix, after, from, end) in [
            ("/registry/pods/", None, "/x/pods/", "/x/pods0"),
            ("/registry/pods/", Some("/registry/pods/a"), "/x/pods/a\0", "/x/pods0"),
            ("/registry/pods/", Some("/registry/a"), "/x/pods/", "/x/pods0"),
            ("", None, "/x/", "/x0"),
            ("/registry", None, "/x/", "/x0"),
        ] {
            let wanted = Range { from: Bytes::from_static(from.as_bytes()), end: Bytes::from_static(end.as_bytes()) };
            assert_eq!(keys.range(prefix, after).unwrap(), wanted, "{prefix} {after:?}");
        }
        assert!(keys.range("/elsewhere/", None).is_err());
        assert_eq!(end_of(b"a\xff\xff"), Bytes::from_static(b"b"));
    }
}
