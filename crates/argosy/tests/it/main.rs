//! End to end on the real thing: the binary, containerd, kubectl and the kernel. Needs root and what `make setup` installs.

mod beside;
mod clients;
mod contest;
mod control_plane;
mod ending;
mod faults;
mod flags;
mod harness;
mod hostile;
mod joining;
mod kill;
mod layout;
mod layouts;
mod lifecycle;
mod machine;
mod masters;
mod moving;
mod record;
mod tour;
