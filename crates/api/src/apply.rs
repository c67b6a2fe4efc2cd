//! Server-side apply: who owns which fields of an object, and what an applied configuration makes of it. Pure: trees, the
//! model and the present time in, trees and conflicts out. Follows sigs.k8s.io/structured-merge-diff v6 and apimachinery
//! `pkg/util/managedfields`, over [`Model`](crate::Model) instead of an OpenAPI document.
//!
//! From the ground up: a [`Set`] of paths ([`PathElement`]) with its text form FieldsV1; the typed walks over a tree and
//! its schema (compare, merge, to a field set, remove and extract items, validate); [`Managed`], the entries of
//! `metadata.managedFields`; and [`FieldManager`], which does what an update or an apply does to them.

mod compare;
mod conflict;
mod fields;
mod go_json;
mod items;
mod last_applied;
mod managed;
mod manager;
mod merge;
mod path;
mod reconcile;
mod scale;
mod schema;
mod set;
mod updater;
mod validate;
mod versions;

pub use compare::{Comparison, compare};
pub use conflict::{ApplyError, Conflict};
pub use fields::FieldsError;
pub use items::{extract_items, remove_items, to_field_set};
pub use managed::{Entry, Managed, ManagedError, Operation, equal_but_for_times};
pub use manager::FieldManager;
pub use merge::merge;
pub use path::{Path, PathElement, Scalar};
pub use reconcile::reconcile;
pub use scale::ScaleHandler;
pub use set::Set;
pub use validate::{Duplicates, TypedError, validate};
