//! Compiles `pause/pause.rs`, a program without std and libc, to the few kilobytes of static ELF that the pause image holds.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=pause/pause.rs");
    println!("cargo::rerun-if-changed=build.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let out = PathBuf::from(variable("OUT_DIR")).join("pause");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "pause", "--target", &variable("TARGET")]);
    rustc.args(["-C", "panic=abort", "-C", "opt-level=z", "-C", "relocation-model=static", "-C", "strip=symbols"]);
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-Wl,--build-id=none", "-Wl,-z,noseparate-code"] {
        rustc.arg("-C").arg(format!("link-arg={argument}"));
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    rustc.arg("-o").arg(&out).arg("pause/pause.rs");
    let status = rustc.status().unwrap_or_else(|e| panic!("cannot run rustc: {e}"));
    assert!(status.success(), "rustc could not compile pause/pause.rs: {status}");
}
