//! Checks of the repository itself.

mod directions;
mod tidy;
