//! Certificates as openssl sees them, and when they are made anew.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use cluster::layout::Layout;
use cluster::pki::{
    CsrPolicy, Identity, KubeconfigTarget, Pki, PkiError, Reason, RenewError, Roles, San, SignError, Signer, State,
    Usage, write_kubeconfigs,
};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn identity(node_ip: [u8; 4]) -> Identity {
    Identity {
        roles: Roles::ALL_IN_ONE,
        node_name: "node-1".into(),
        node_ips: vec![IpAddr::from(node_ip)],
        kubernetes_service_ip: IpAddr::from([10, 96, 0, 1]),
        cluster_domain: "cluster.local".into(),
        apiserver_sans: vec![San::Dns("api.test".into())],
    }
}

fn openssl(args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(args).output().expect("openssl runs");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

fn text(path: &Path) -> String {
    openssl(&["x509", "-in", &path.to_string_lossy(), "-noout", "-text", "-nameopt", "RFC2253"]).1
}

#[test]
fn openssl_verifies_every_certificate_for_its_purpose() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(folder.path().join("pki"));
    pki.ensure(&identity([192, 0, 2, 7]), SystemTime::now()).expect("made");
    let cases = [
        ("apiserver", "ca", "sslserver", "Subject: CN=kube-apiserver"),
        ("apiserver-kubelet-client", "ca", "sslclient", "Subject: CN=kube-apiserver-kubelet-client,O=system:masters"),
        ("admin", "ca", "sslclient", "Subject: CN=kubernetes-admin,O=system:masters"),
        ("controller-manager", "ca", "sslclient", "Subject: CN=system:kube-controller-manager"),
        ("scheduler", "ca", "sslclient", "Subject: CN=system:kube-scheduler"),
        ("kube-proxy", "ca", "sslclient", "Subject: CN=system:kube-proxy"),
        ("kubelet-client", "ca", "sslclient", "Subject: CN=system:node:node-1,O=system:nodes"),
        ("kubelet", "ca", "sslserver", "Subject: CN=system:node:node-1,O=system:nodes"),
        ("components", "ca", "sslserver", "DNS:localhost"),
        ("front-proxy-client", "front-proxy-ca", "sslclient", "Subject: CN=front-proxy-client"),
    ];
    for (name, ca, purpose, wanted) in cases {
        let (cert, ca) = (pki.cert(name), pki.cert(ca));
        let (ok, said) = openssl(&[
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            &ca.to_string_lossy(),
            &cert.to_string_lossy(),
        ]);
        assert!(ok, "{name}: {said}");
        let wrong = if purpose == "sslclient" { "sslserver" } else { "sslclient" };
        let (ok, _) =
            openssl(&["verify", "-purpose", wrong, "-CAfile", &ca.to_string_lossy(), &cert.to_string_lossy()]);
        assert!(!ok, "{name} must not serve as {wrong}");
        assert!(text(&cert).contains(wanted), "{name}: {wanted} is not in {}", text(&cert));
        assert_eq!(fs::metadata(pki.key(name)).expect("a key").permissions().mode() & 0o777, 0o600, "{name}");
    }
    let sans = text(&pki.cert("apiserver"));
    for name in [
        "DNS:kubernetes,",
        "DNS:kubernetes.default,",
        "DNS:kubernetes.default.svc,",
        "DNS:kubernetes.default.svc.cluster.local",
        "DNS:localhost",
        "DNS:node-1",
        "DNS:api.test",
        "IP Address:127.0.0.1",
        "IP Address:10.96.0.1",
        "IP Address:192.0.2.7",
    ] {
        assert!(sans.contains(name), "{name} is not in {sans}");
    }
}

#[test]
fn service_account_keys_belong_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(folder.path());
    pki.ensure(&identity([192, 0, 2, 7]), SystemTime::now()).expect("made");
    let (ok, public) = openssl(&["pkey", "-in", &pki.service_account_key().to_string_lossy(), "-pubout"]);
    assert!(ok, "{public}");
    let kept = fs::read_to_string(pki.service_account_public()).expect("a key");
    let body = |pem: &str| pem.lines().filter(|l| !l.starts_with('-')).collect::<String>();
    assert_eq!(body(&public), body(&kept));
}

#[test]
fn only_what_no_longer_fits_is_issued_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(folder.path());
    let start = SystemTime::now();
    let first = identity([192, 0, 2, 7]);
    assert_eq!(pki.ensure(&first, start).expect("made").len(), 13);
    assert_eq!(pki.ensure(&first, start + 300 * DAY).expect("kept"), []);

    let moved = identity([192, 0, 2, 8]);
    let names = |list: Vec<(String, Reason)>, why| {
        assert!(list.iter().all(|(_, r)| *r == why), "{list:?}");
        list.into_iter().map(|(n, _)| n).collect::<Vec<_>>()
    };
    let reissued = names(pki.ensure(&moved, start).expect("re-issued"), Reason::Names);
    assert_eq!(reissued, ["apiserver", "components", "kubelet"]);

    fs::remove_file(pki.cert("admin")).expect("removed");
    assert_eq!(names(pki.ensure(&moved, start).expect("made"), Reason::Missing), ["admin"]);
    fs::copy(pki.key("scheduler"), pki.key("admin")).expect("copied");
    assert_eq!(names(pki.ensure(&moved, start).expect("made"), Reason::Unusable), ["admin"]);

    let renewed = names(pki.ensure(&moved, start + 340 * DAY).expect("renewed"), Reason::Expiring);
    assert_eq!(renewed.len(), 10, "all but the authorities and the service account key: {renewed:?}");
}

#[test]
fn a_renewed_authority_keeps_the_trust_in_what_it_signed() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(folder.path());
    let start = SystemTime::now();
    pki.ensure(&identity([192, 0, 2, 7]), start).expect("made");
    let old = folder.path().join("old-admin.crt");
    fs::copy(pki.cert("admin"), &old).expect("copied");
    let old_ca = fs::read(pki.cert("ca")).expect("read");
    pki.ensure(&identity([192, 0, 2, 7]), start + 3630 * DAY).expect("renewed");
    assert_ne!(fs::read(pki.cert("ca")).expect("read"), old_ca);
    // The new certificate begins at the time of renewal: openssl is told to look at signatures alone.
    let (ok, said) =
        openssl(&["verify", "-no_check_time", "-CAfile", &pki.cert("ca").to_string_lossy(), &old.to_string_lossy()]);
    assert!(ok, "{said}");
}

#[test]
fn an_authority_without_its_key_is_not_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(folder.path());
    let who = identity([192, 0, 2, 7]);
    pki.ensure(&who, SystemTime::now()).expect("made");
    fs::rename(pki.key("ca"), folder.path().join("kept.key")).expect("moved");
    let lost = pki.ensure(&who, SystemTime::now());
    assert!(matches!(lost, Err(PkiError::MissingAuthorityKey { .. })), "{lost:?}");
    fs::copy(pki.key("admin"), pki.key("ca")).expect("copied");
    let foreign = pki.ensure(&who, SystemTime::now());
    assert!(matches!(foreign, Err(PkiError::AuthorityMismatch { .. })), "{foreign:?}");
}

#[test]
fn kubeconfigs_are_private_and_name_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = Layout::new(folder.path());
    let pki = Pki::new(layout.pki_dir());
    pki.ensure(&identity([192, 0, 2, 7]), SystemTime::now()).expect("made");
    let target = KubeconfigTarget { cluster: "argosy".into(), server: "https://127.0.0.1:7000".into() };
    write_kubeconfigs(&layout, &pki, &target, None).expect("written");
    for user in ["admin", "controller-manager", "scheduler", "kube-proxy", "kubelet"] {
        let path = layout.kubeconfig(user);
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600, "{user}");
    }
    let seen = Command::new("kubectl")
        .arg("--kubeconfig")
        .arg(layout.kubeconfig("admin"))
        .args(["config", "view", "-o", "jsonpath={.clusters[0].cluster.server} {.current-context}"])
        .output()
        .expect("kubectl runs");
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "https://127.0.0.1:7000 kubernetes-admin@argosy");
}

/// A request made by openssl, as users make them.
fn request(folder: &Path, subject: &str, names: Option<&str>) -> String {
    let key = folder.join("csr.key");
    let mut args = vec!["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout"];
    let key = key.to_string_lossy().into_owned();
    args.push(&key);
    let extension = names.map(|n| format!("subjectAltName={n}"));
    if let Some(extension) = &extension {
        args.extend(["-addext", extension]);
    }
    let output = Command::new("openssl").args(&args).output().expect("openssl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("PEM")
}

#[test]
fn requests_are_signed_by_the_rules_of_their_signer() {
    let folder = tempfile::tempdir().expect("a folder");
    let pki = Pki::new(folder.path());
    let now = SystemTime::now();
    pki.ensure(&identity([192, 0, 2, 7]), now).expect("made");
    let signer = Signer::load(&pki.cert("ca"), &pki.key("ca")).expect("loaded");
    let node = "/O=system:nodes/CN=system:node:n";
    let cases = [
        ("/O=dev/CN=jane", None, CsrPolicy::Client, None),
        ("/O=dev/CN=jane", Some("DNS:a"), CsrPolicy::Client, Some("UnwantedNames")),
        ("/O=dev/O=ops/CN=jane", None, CsrPolicy::Client, Some("RepeatedAttribute")),
        (node, None, CsrPolicy::KubeletClient, None),
        (node, Some("IP:192.0.2.1"), CsrPolicy::KubeletClient, Some("UnwantedNames")),
        ("/O=system:nodes/CN=system:node:", None, CsrPolicy::KubeletClient, Some("CommonName")),
        ("/O=system:masters/CN=system:node:n", None, CsrPolicy::KubeletClient, Some("Organization")),
        (node, Some("DNS:n,IP:192.0.2.1"), CsrPolicy::KubeletServing, None),
        (node, None, CsrPolicy::KubeletServing, Some("WantedNames")),
        (node, Some("DNS:n,URI:spiffe://x"), CsrPolicy::KubeletServing, Some("WantedNames")),
    ];
    for (subject, names, policy, refusal) in cases {
        let csr = request(folder.path(), subject, names);
        let usage = if policy == CsrPolicy::KubeletServing { Usage::Serving } else { Usage::Client };
        let signed = signer.sign(&csr, policy, &[usage], DAY, now);
        match (signed, refusal) {
            (Ok(pem), None) => {
                let path = folder.path().join("signed.crt");
                fs::write(&path, pem).expect("written");
                let purpose = if usage == Usage::Serving { "sslserver" } else { "sslclient" };
                let ca = pki.cert("ca");
                let (ok, said) = openssl(&[
                    "verify",
                    "-purpose",
                    purpose,
                    "-CAfile",
                    &ca.to_string_lossy(),
                    &path.to_string_lossy(),
                ]);
                assert!(ok, "{subject} {policy:?}: {said}");
                assert!(text(&path).contains("CA:FALSE"), "{subject}");
            }
            (Err(error), Some(wanted)) => {
                assert_eq!(format!("{error:?}"), wanted, "{subject} {policy:?}")
            }
            (outcome, _) => panic!("{subject} {policy:?}: {outcome:?}, wanted {refusal:?}"),
        }
    }
    for malformed in
        ["", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", signer.certificate_pem()]
    {
        let outcome = signer.sign(malformed, CsrPolicy::Any, &[Usage::Client], DAY, now);
        assert!(matches!(outcome, Err(SignError::Malformed)), "{outcome:?}");
    }
}

#[test]
fn a_renewed_certificate_is_for_the_same_and_reaches_the_kubeconfigs() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = Layout::new(folder.path());
    let pki = Pki::new(layout.pki_dir());
    let then = SystemTime::now() - 345 * DAY;
    pki.ensure(&identity([192, 0, 2, 7]), then).expect("made");
    let target = KubeconfigTarget { cluster: "c".into(), server: "https://192.0.2.7:6443".into() };
    write_kubeconfigs(&layout, &pki, &target, None).expect("written");
    let state = |name: &str| {
        let all = pki.survey(SystemTime::now()).expect("a survey");
        all.into_iter().find(|survey| survey.name == name).expect("there").state
    };
    assert_eq!((state("ca"), state("admin"), state("apiserver")), (State::Good, State::Expiring, State::Expiring));
    let names = |text: String| {
        text.lines().filter(|line| line.contains("DNS:") || line.contains("Subject:")).collect::<String>()
    };
    let (old, old_names) = (fs::read(layout.kubeconfig("admin")).expect("there"), names(text(&pki.cert("apiserver"))));

    for name in ["admin", "apiserver"] {
        pki.renew(name, layout.root(), SystemTime::now()).expect("renewed");
        assert_eq!(state(name), State::Good, "{name}");
        let verified =
            openssl(&["verify", "-CAfile", &pki.cert("ca").to_string_lossy(), &pki.cert(name).to_string_lossy()]);
        assert!(verified.0, "{}", verified.1);
    }
    assert_eq!(names(text(&pki.cert("apiserver"))), old_names);
    assert_ne!(fs::read(layout.kubeconfig("admin")).expect("there"), old);
    let rewritten = fs::read(layout.kubeconfig("admin")).expect("there");
    write_kubeconfigs(&layout, &pki, &target, None).expect("written");
    assert_eq!(fs::read(layout.kubeconfig("admin")).expect("there"), rewritten, "as a start would write it");

    let refused = |name: &str| pki.renew(name, layout.root(), SystemTime::now()).expect_err(name);
    assert!(matches!(refused("ca"), RenewError::Authority { .. }));
    assert!(matches!(refused("../x"), RenewError::Unknown { .. }));
    fs::remove_file(pki.key("ca")).expect("removed");
    assert!(matches!(refused("admin"), RenewError::Foreign { .. }));
    fs::write(pki.cert("admin"), "nothing").expect("written");
    assert_eq!(state("admin"), State::Unreadable);
}
