//! The proxy's rules as text, its transactions against a model of nft, and both against the real kernel.

mod goldens;
mod kernel;
mod model;
mod objects;
