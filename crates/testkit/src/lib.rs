//! What the tests of several crates share, and (in `tests/it`) the checks of the repository itself.

mod api;

pub use api::Api;
