//! Listeners, clients and upgrades against each other, over real sockets with real certificates.

mod footprint;
mod keeping;
mod pki;
mod serving;
mod setup;
mod upgrading;
mod verifying;
