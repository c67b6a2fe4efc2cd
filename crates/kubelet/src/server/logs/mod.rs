//! Container logs: the runtime's files in CRI format, read, followed and rotated.

pub mod format;
pub mod options;
mod parts;
mod read;
pub mod rotate;
mod watch;

pub use options::{LogOptions, OptionsError};
pub use read::{LogError, LogSource, stream};
