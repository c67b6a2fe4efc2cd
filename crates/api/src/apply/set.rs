//! A set of paths, kept as a tree of sorted nodes (`fieldpath/set.go`). A path can be a member itself, lead to members
//! below it, or both.

use std::cmp::Ordering;

use super::path::{Path, PathElement};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// By ascending element. Each is a member or has children that are: no node stands for nothing.
    pub(super) nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub element: PathElement,
    pub member: bool,
    pub children: Set,
}

impl Node {
    fn stays(&self) -> bool {
        self.member || !self.children.is_empty()
    }

    fn keeps(self) -> Option<Node> {
        self.stays().then_some(self)
    }
}

/// A step while a tree is walked: only what ends up in a set is copied.
#[derive(Clone, Copy)]
pub(super) enum Step<'a> {
    Field(&'a str),
    Element(&'a PathElement),
}

impl Step<'_> {
    fn compare(&self, element: &PathElement) -> Ordering {
        match self {
            Step::Element(mine) => (*mine).cmp(element),
            Step::Field(name) => match element {
                PathElement::Field(other) => (*name).cmp(other),
                _ => Ordering::Less,
            },
        }
    }

    fn to_element(self) -> PathElement {
        match self {
            Step::Field(name) => PathElement::field(name),
            Step::Element(element) => element.clone(),
        }
    }
}

impl Set {
    pub fn new() -> Set {
        Set::default()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many paths are members.
    pub fn len(&self) -> usize {
        self.nodes.iter().map(|node| usize::from(node.member) + node.children.len()).sum()
    }

    pub fn insert(&mut self, path: &Path) {
        let steps: Vec<Step<'_>> = path.0.iter().map(Step::Element).collect();
        self.insert_steps(&steps);
    }

    /// A set of these nodes, in any order, whose elements may stand more than once.
    pub(super) fn of_nodes(mut nodes: Vec<Node>) -> Set {
        if !nodes.is_sorted_by(|one, next| one.element < next.element) {
            nodes.sort_by(|one, other| one.element.cmp(&other.element));
            nodes.dedup_by(|again, first| {
                let is_same = again.element == first.element;
                if is_same {
                    first.member |= again.member;
                    first.children.add(&again.children);
                }
                is_same
            });
        }
        Set { nodes }
    }

    /// The empty path is the whole object, which nobody owns.
    pub(super) fn insert_steps(&mut self, steps: &[Step<'_>]) {
        let Some((first, rest)) = steps.split_first() else { return };
        let at = self.place(*first);
        let node = &mut self.nodes[at];
        if rest.is_empty() {
            node.member = true;
        } else {
            node.children.insert_steps(rest);
        }
    }

    /// The node of a step, made where it is missing.
    fn place(&mut self, step: Step<'_>) -> usize {
        self.search(step).unwrap_or_else(|at| {
            self.nodes.insert(at, Node { element: step.to_element(), member: false, children: Set::new() });
            at
        })
    }

    /// Puts what lies below a path under it, and the path itself in where `member` says so.
    pub(super) fn graft(&mut self, steps: &[Step<'_>], member: bool, children: Set) {
        let Some((first, rest)) = steps.split_first() else { return };
        if !member && children.is_empty() {
            return;
        }
        let at = self.place(*first);
        let node = &mut self.nodes[at];
        if rest.is_empty() {
            node.member |= member;
            node.children = if node.children.is_empty() { children } else { node.children.union(&children) };
        } else {
            node.children.graft(rest, member, children);
        }
    }

    fn search(&self, step: Step<'_>) -> Result<usize, usize> {
        // Most insertions come in ascending order.
        match self.nodes.last().map(|last| step.compare(&last.element)) {
            None | Some(Ordering::Greater) => Err(self.nodes.len()),
            Some(Ordering::Equal) => Ok(self.nodes.len() - 1),
            Some(Ordering::Less) => self.nodes.binary_search_by(|node| step.compare(&node.element).reverse()),
        }
    }

    pub(super) fn node(&self, step: Step<'_>) -> Option<&Node> {
        self.search(step).ok().map(|at| &self.nodes[at])
    }

    pub fn has(&self, path: &Path) -> bool {
        let Some((last, parents)) = path.0.split_last() else { return false };
        let mut here = self;
        for element in parents {
            match here.node(Step::Element(element)) {
                Some(node) => here = &node.children,
                None => return false,
            }
        }
        here.node(Step::Element(last)).is_some_and(|node| node.member)
    }

    pub fn union(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| match (mine, theirs) {
            (Some(mine), Some(theirs)) => Some(Node {
                element: mine.element.clone(),
                member: mine.member || theirs.member,
                children: mine.children.union(&theirs.children),
            }),
            (Some(one), None) | (None, Some(one)) => Some(one.clone()),
            (None, None) => None,
        })
    }

    pub fn intersection(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| match (mine, theirs) {
            (Some(mine), Some(theirs)) => Node {
                element: mine.element.clone(),
                member: mine.member && theirs.member,
                children: mine.children.intersection(&theirs.children),
            }
            .keeps(),
            _ => None,
        })
    }

    /// Members of this set that are not members of the other; what stands below a member of the other stays.
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| match (mine, theirs) {
            (Some(mine), Some(theirs)) => Node {
                element: mine.element.clone(),
                member: mine.member && !theirs.member,
                children: mine.children.difference(&theirs.children),
            }
            .keeps(),
            (mine, _) => mine.cloned(),
        })
    }

    /// [`Set::difference`] in place: cheap where the other is small.
    pub(super) fn subtract(&mut self, other: &Set) {
        let mut goes = false;
        for theirs in &other.nodes {
            let Ok(at) = self.search(Step::Element(&theirs.element)) else { continue };
            let mine = &mut self.nodes[at];
            mine.member &= !theirs.member;
            mine.children.subtract(&theirs.children);
            goes |= !mine.stays();
        }
        if goes {
            self.nodes.retain(Node::stays);
        }
    }

    /// [`Set::union`] in place: cheap where the other is small.
    pub(super) fn add(&mut self, other: &Set) {
        /// Above it, making room for each node costs more than a new set.
        const SMALL: usize = 16;
        if other.nodes.len() > SMALL {
            *self = self.union(other);
            return;
        }
        for theirs in &other.nodes {
            let at = self.place(Step::Element(&theirs.element));
            let mine = &mut self.nodes[at];
            mine.member |= theirs.member;
            mine.children.add(&theirs.children);
        }
    }

    /// The same, but what stands below a member of the other goes with it.
    pub fn recursive_difference(&self, other: &Set) -> Set {
        self.combine(other, |mine, theirs| match (mine, theirs) {
            (Some(_), Some(theirs)) if theirs.member => None,
            (Some(mine), Some(theirs)) => Node {
                element: mine.element.clone(),
                member: mine.member,
                children: mine.children.recursive_difference(&theirs.children),
            }
            .keeps(),
            (mine, _) => mine.cloned(),
        })
    }

    /// The members that have no members below them.
    pub fn leaves(&self) -> Set {
        let leaf = |node: &Node| Node {
            element: node.element.clone(),
            member: node.member && node.children.is_empty(),
            children: node.children.leaves(),
        };
        Set { nodes: self.nodes.iter().map(leaf).collect() }
    }

    /// All members, those of one level before those below it, as upstream visits them.
    pub fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, out: &mut Vec<Path>) {
        for node in self.nodes.iter().filter(|node| node.member) {
            let mut path = prefix.clone();
            path.push(node.element.clone());
            out.push(Path(path));
        }
        for node in self.nodes.iter().filter(|node| !node.children.is_empty()) {
            prefix.push(node.element.clone());
            node.children.collect(prefix, out);
            prefix.pop();
        }
    }

    /// Walks both in ascending order and keeps what `choose` gives for each element.
    fn combine(&self, other: &Set, choose: impl Fn(Option<&Node>, Option<&Node>) -> Option<Node>) -> Set {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        let (mut mine, mut theirs) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        loop {
            let order = match (mine.peek(), theirs.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(mine), Some(theirs)) => mine.element.cmp(&theirs.element),
            };
            let chosen = match order {
                Ordering::Less => choose(mine.next(), None),
                Ordering::Greater => choose(None, theirs.next()),
                Ordering::Equal => choose(mine.next(), theirs.next()),
            };
            nodes.extend(chosen);
        }
        Set { nodes }
    }
}

impl FromIterator<Path> for Set {
    fn from_iter<I: IntoIterator<Item = Path>>(paths: I) -> Set {
        let mut set = Set::new();
        paths.into_iter().for_each(|path| set.insert(&path));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_is_the_same() {
        let set = |paths: &[&[&str]]| paths.iter().map(|path| Path::of(path)).collect::<Set>();
        let sets = [
            set(&[]),
            set(&[&["a"], &["a", "x"], &["b"]]),
            set(&[&["a", "x"], &["a", "y"], &["c"]]),
            set(&[&["a"], &["b", "z", "q"]]),
            set(&[&["b", "z"], &["a", "x"], &["d"]]),
        ];
        for (one, other) in sets.iter().flat_map(|one| sets.iter().map(move |other| (one, other))) {
            let mut less = one.clone();
            less.subtract(other);
            assert_eq!(less, one.difference(other));
            let mut more = one.clone();
            more.add(other);
            assert_eq!(more, one.union(other));
        }
    }
}
