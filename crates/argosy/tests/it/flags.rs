//! What the binary says to wrong arguments: always which, never a panic.

use std::{os::unix::process::CommandExt, process::Command};

fn said(name: &str, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_argosy"));
    let output = command.arg0(name).args(arguments).output().expect("the binary runs");
    (output.status.success(), crate::harness::text(&output))
}

#[test]
fn wrong_arguments_are_named() {
    let cases: [(&str, &[&str], &str); 17] = [
        (
            "kubelet",
            &["--topology-manager-policy=x"],
            "flag --topology-manager-policy of upstream's kubelet is not supported by Argosy",
        ),
        ("argosy", &["kube-proxy", "--ipvs-scheduler=rr"], "flag --ipvs-scheduler of upstream's kube-proxy is not"),
        ("kube-scheduler", &["--sail"], "kube-scheduler has no flag --sail"),
        ("kube-scheduler", &[], "--kubeconfig is needed"),
        ("kube-scheduler", &["--kubeconfig=/nowhere"], "/nowhere"),
        ("kube-proxy", &["--proxy-mode=iptables"], "nftables alone"),
        ("kube-apiserver", &["--etcd-servers=http://127.0.0.1:2379"], "--tls-cert-file"),
        ("kubelet", &["--max-pods=many"], "many"),
        ("argosy", &["status", "--data-dir=/nowhere/argosy"], "no cluster in /nowhere/argosy"),
        ("argosy", &["image", "list", "--data-dir=/nowhere/argosy"], "is the cluster up?"),
        ("argosy", &["hello", "--get=ftp://a/"], "is no http:// URL"),
        ("argosy", &["up", "--cluster-cidr=10.0.0.1/8"], "10.0.0.1/8"),
        ("argosy", &["up", "--topology=single", "--node-name=x"], "cannot be used with '--node-name <NAME>'"),
        (
            "argosy",
            &["up", "--topology=single", "--cluster-cidr=10.1.0.0/16"],
            "cannot be used with '--cluster-cidr <CIDR>'",
        ),
        ("argosy", &["up", "--workers=3", "--data-dir=/nowhere/argosy"], "which --topology names"),
        ("argosy", &["bench", "api", "--kubeconfig=/nowhere"], "/nowhere"),
        ("argosy", &["bench", "api", "post"], "post"),
    ];
    for (name, arguments, wanted) in cases {
        let (success, text) = said(name, arguments);
        assert!(!success && text.contains(wanted) && !text.contains("panicked"), "{name} {arguments:?}: {text}");
    }
}

#[test]
fn an_api_server_says_what_it_cannot_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("x");
    std::fs::write(&file, "x").expect("written");
    let files =
        ["tls-cert-file", "tls-private-key-file", "service-account-signing-key-file", "service-account-key-file"]
            .map(|flag| format!("--{flag}={}", file.display()));
    let mut arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    arguments.push("--etcd-certfile=x");
    let (success, text) = said("kube-apiserver", &arguments);
    assert!(!success && text.contains("--etcd-keyfile"), "{text}");
    *arguments.last_mut().expect("a flag") = "--runtime-config=api/beta=true,apps/v7=true";
    let (success, text) = said("kube-apiserver", &arguments);
    assert!(!success && text.contains("group version apps/v7 that has not been registered"), "{text}");
    *arguments.last_mut().expect("a flag") = "--authorization-mode=AlwaysAllow";
    let (success, text) = said("kube-apiserver", &arguments);
    assert!(!success && text.contains("Node,RBAC and with nothing else"), "{text}");
}

#[test]
fn versions_and_help_are_printed() {
    assert!(said("argosy", &["version"]).1.contains("Kubernetes v1.36.0"));
    let (success, help) = said("kube-apiserver", &["--help"]);
    assert!(success && help.contains("--service-cluster-ip-range"), "{help}");
}
