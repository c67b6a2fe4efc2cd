//! What the kubelet does for the node as a whole, again and again: log rotation, image garbage collection. Each is a pure
//! plan elsewhere; here are the loops that observe and carry out.

pub mod images;
pub mod logs;
