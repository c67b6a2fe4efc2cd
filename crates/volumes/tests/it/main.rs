//! Volumes on the real kernel (as root: tmpfs and bind mounts below temporary directories) and as recorded plans.

mod atomic;
mod content;
mod errors;
mod plans;
mod resources;
mod sub_path;
mod support;
mod tear_down;
