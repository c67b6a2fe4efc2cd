//! The proxy's rules as text, and its transactions against a model of nft.

mod goldens;
mod model;
mod objects;
