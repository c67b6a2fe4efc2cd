//! End to end on the real thing: the binary, containerd, kubectl and the kernel. Needs root and what `make setup` installs.

mod clients;
mod control_plane;
mod flags;
mod harness;
mod hostile;
mod joining;
mod kill;
mod lifecycle;
mod machine;
mod tour;
