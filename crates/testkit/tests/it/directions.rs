//! Which crate may look at which: the architecture's arrows, from `cargo metadata`.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

/// Every crate with the crates of the workspace it may depend on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("store", &[]),
    ("net", &[]),
    ("client", &["api", "net"]),
    ("apiserver", &["api", "net", "store"]),
    ("controllers", &["api", "client"]),
    ("scheduler", &["api", "client"]),
    ("volumes", &["api", "client"]),
    ("kubelet", &["api", "client", "net", "volumes"]),
    ("proxy", &["api", "client", "net"]),
    ("dns", &["api", "client", "net"]),
    ("bench", &["client", "net"]),
    ("cluster", &["api", "net"]),
    ("testkit", &["client", "net"]),
    (
        "argosy",
        &[
            "api",
            "apiserver",
            "bench",
            "client",
            "cluster",
            "controllers",
            "dns",
            "kubelet",
            "net",
            "proxy",
            "scheduler",
            "store",
        ],
    ),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .expect("cargo metadata");
    serde_json::from_slice(&output.stdout).expect("metadata")
}

#[test]
fn crates_look_only_where_the_architecture_lets_them() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let members: BTreeSet<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let listed: BTreeSet<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
    assert_eq!(members, listed, "every crate has its line in the table above");
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        let allowed =
            ALLOWED.iter().find(|(listed, _)| *listed == name).map(|(_, allowed)| *allowed).unwrap_or_default();
        for dependency in
            package["dependencies"].as_array().into_iter().flatten().filter(|dependency| dependency["kind"].is_null())
        {
            let target = dependency["name"].as_str().unwrap_or_default();
            if members.contains(target) && !allowed.contains(&target) {
                wrong.push(format!("{name} -> {target}"));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed: {wrong:?}");
}
