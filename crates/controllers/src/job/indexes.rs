//! Completion indexes and their text: `1,3-5,7` (upstream job/indexed_job_utils.go).

use std::{collections::BTreeSet, fmt};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(pub BTreeSet<i32>);

impl Indexes {
    /// Indexes below `completions`; parts that are no numbers are left out.
    pub fn parse(text: &str, completions: i32) -> Self {
        let mut all = BTreeSet::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<i32>(), last.parse::<i32>()) {
                all.extend(first.max(0)..=last.min(completions - 1));
            }
        }
        Indexes(all)
    }

    pub fn total(&self) -> i32 {
        self.0.len() as i32
    }

    pub fn has(&self, index: i32) -> bool {
        self.0.contains(&index)
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            match last - first {
                0 => write!(f, "{separator}{first}")?,
                1 => write!(f, "{separator}{first},{last}")?,
                _ => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_upstreams() {
        for (text, expect) in
            [("", ""), ("1", "1"), ("1,2", "1,2"), ("1-3,5,6", "1-3,5,6"), ("0,1,2,4", "0-2,4"), ("7-9", "7")]
        {
            assert_eq!(Indexes::parse(text, 8).to_string(), expect, "{text}");
        }
    }
}
