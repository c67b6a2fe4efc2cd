//! `argosy token` and what `argosy agent` says to an invitation that is wrong: what to do, and nothing left behind.

use std::process::{Command, Output};

use crate::{control_plane::ControlPlane, harness::text};

fn argosy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_argosy")).args(arguments).output().expect("the binary runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_invitation_is_refused_before_anything_is_written() {
    let mut plane = ControlPlane::new(9);
    plane.start().await;
    let data = plane.folder.path().to_string_lossy().into_owned();
    let made = argosy(&["token", "create", "abcdef.0123456789abcdef", "--print-join-command", "--data-dir", &data]);
    assert!(made.status.success(), "{}", text(&made));
    let command = String::from_utf8(made.stdout).expect("text");
    let words: Vec<&str> = command.split_whitespace().collect();
    let [_, "agent", "--server", server, "--token", "abcdef.0123456789abcdef", "--ca-cert-hash", hash] = words[..]
    else {
        panic!("{command}")
    };
    let listed = text(&argosy(&["token", "list", "--data-dir", &data]));
    assert!(listed.contains("abcdef.0123456789abcdef") && listed.starts_with("TOKEN"), "{listed}");

    let (token, unknown) = ("abcdef.0123456789abcdef", "zzzzzz.0123456789abcdef");
    let foreign = format!("sha256:{}", "0".repeat(64));
    let scheduler = format!("https://127.0.0.1:{}", plane.port + 2);
    let nobody = format!("https://127.0.0.1:{}", plane.port + 9);
    let cases: [(&str, &str, &[&str], &str); 6] = [
        (server, token, &["--ca-cert-hash", &foreign], "authority is not the one that was asked for"),
        (server, unknown, &["--ca-cert-hash", hash], "does not accept the token zzzzzz"),
        (server, token, &[], "--ca-cert-hash is needed"),
        (server, unknown, &["--unsafe-skip-ca-verification"], "bears no signature of the token zzzzzz"),
        (&nobody, token, &["--ca-cert-hash", hash], "no answer from"),
        (&scheduler, token, &["--ca-cert-hash", hash], "no Kubernetes API server"),
    ];
    let node = plane.folder.path().join("node");
    let folder = node.to_string_lossy().into_owned();
    for (server, token, trust, wanted) in cases {
        let joined = ["agent", "--data-dir", &folder, "--server", server, "--token", token];
        let refused = argosy(&[&joined[..], trust].concat());
        assert!(!refused.status.success() && text(&refused).contains(wanted), "{wanted}: {}", text(&refused));
        assert!(!node.exists(), "{wanted}: something is left");
    }
    for (data, more, wanted) in [
        (&data, "--ttl=3h", "two hours at most"),
        (&data, "--ttl=1h", "argosy store copy to-etcd"),
        (&folder, "--ttl=1h", "holds no layout"),
    ] {
        let refused = argosy(&["token", "create", "--role=master", more, "--data-dir", data]);
        assert!(!refused.status.success() && text(&refused).contains(wanted), "{wanted}: {}", text(&refused));
    }
    let deleted = argosy(&["token", "delete", "abcdef", "--data-dir", &data]);
    assert!(text(&deleted).contains("bootstrap token \"abcdef\" deleted"), "{}", text(&deleted));
}
