//! Everything that makes a machine into a cluster: certificates, kubeconfigs, containerd, the built-in images, the paths
//! and settings of a layout, and the processes that run it. Knows no API server and no store.

pub mod containerd;
pub mod files;
pub mod images;
pub mod joining;
pub mod lab;
pub mod layout;
pub mod machine;
pub mod pki;
pub mod progress;
pub mod routes;
pub mod supervise;
pub mod topology;
