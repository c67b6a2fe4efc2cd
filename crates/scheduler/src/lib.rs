//! kube-scheduler: decides which node a pod runs on, and binds it there.
//!
//! - observe: [`cache`], [`objects`] and [`queue`], kept up to date by events
//! - plan: [`plan::schedule_one`] over an immutable [`snapshot::Snapshot`], with the [`plugins`] at upstream's extension
//!   points ([`framework`]) and [`preemption`] where nothing fits
//! - act: [`run`], the one place that writes to the API

mod actions;
pub mod cache;
pub mod event;
pub mod framework;
pub mod groups;
pub mod node;
pub mod nomination;
pub mod objects;
pub mod plan;
pub mod plugins;
pub mod pod;
pub mod preemption;
pub mod queue;
pub mod report;
pub mod resources;
pub mod run;
pub mod snapshot;
pub mod state;
pub mod volumes;

use client::{labels, taints};
