//! Label selectors and field selectors: their texts, LabelSelector objects, and matching.

mod field;
mod label;
mod parse;

pub use field::{FieldSelector, FieldSelectorError, FieldTerm};
pub use label::{LabelSelector, Operator, Requirement, SelectorError};
