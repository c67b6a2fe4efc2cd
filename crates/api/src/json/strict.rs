//! What a strict decoder complains of, in the order in which it comes upon it (sigs.k8s.io/json): the text is gone through
//! once more, which only happens where there is something to complain of.

use std::collections::HashSet;

use super::{JsonError, Parser, unknown_field};
use crate::value::Value;

/// What is known of a document before it is gone through, and what was found.
pub(super) struct Order<'a> {
    unknown: HashSet<&'a str>,
    complaints: Vec<String>,
    said: HashSet<String>,
    /// Within something unknown, which nobody looks into.
    is_within: bool,
}

pub(super) fn complaints(text: &str, paths: &[String]) -> Vec<String> {
    let mut order = Order {
        unknown: paths.iter().map(String::as_str).collect(),
        complaints: Vec::new(),
        said: HashSet::new(),
        is_within: false,
    };
    let mut parser = Parser::new(text);
    parser.order = Some(order);
    // It was read before.
    let _ = parser.value();
    order = match parser.order {
        Some(order) => order,
        None => return Vec::new(),
    };
    // Names with escapes stand otherwise in the text.
    let rest: Vec<String> =
        paths.iter().map(|path| unknown_field(path)).filter(|path| !order.said.contains(path)).collect();
    order.complaints.extend(rest);
    order.complaints
}

impl Order<'_> {
    fn say(&mut self, complaint: String) {
        if self.said.insert(complaint.clone()) {
            self.complaints.push(complaint);
        }
    }
}

impl Parser<'_> {
    /// Reads a member's value once its name has been read, and notes what there is to say of the member.
    pub(super) fn complain(&mut self, again: bool) -> Result<Value, JsonError> {
        let path = self.path();
        let Some(order) = self.order.as_mut().filter(|order| !order.is_within) else { return self.value() };
        if !order.unknown.contains(path.as_str()) {
            if again {
                order.say(format!("duplicate field \"{path}\""));
            }
            return self.value();
        }
        order.say(unknown_field(&path));
        order.is_within = true;
        let value = self.value();
        if let Some(order) = &mut self.order {
            order.is_within = false;
        }
        value
    }
}
