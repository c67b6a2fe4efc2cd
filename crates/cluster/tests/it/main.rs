//! The cluster crate against the real tools: openssl, containerd, ctr, nft, processes of the machine.

mod node;
mod pki;
mod supervise;
mod topology;
