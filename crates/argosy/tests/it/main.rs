//! End to end on the real thing: the binary, containerd, kubectl and the kernel. Needs root and what `make setup` installs.

mod flags;
mod harness;
mod lifecycle;
mod machine;
mod tour;
