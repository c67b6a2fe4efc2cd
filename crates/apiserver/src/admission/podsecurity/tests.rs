//! The checks against small pods, level by level and version by version.

use api::Value;

use super::{
    checks::{details, evaluate},
    pod,
    policy::{Level, LevelVersion, Version},
    warnings_of_namespace,
};

fn parse(text: &str) -> Value {
    api::json::parse(text.as_bytes()).expect("json")
}

fn found(level: Level, version: Version, object: &str) -> String {
    let object = parse(object);
    details(&evaluate(LevelVersion { level, version }, pod(&object).expect("a pod")))
}

const LATEST: Version = Version::Latest;

#[test]
fn the_baseline_forbids_what_gives_the_node() {
    let one = |container: &str| format!(r#"{{"spec":{{"containers":[{{"name":"a"{container}}}]}}}}"#);
    let spec = |spec: &str| format!(r#"{{"spec":{{{spec},"containers":[{{"name":"a"}}]}}}}"#);
    let cases = [
        (one(""), LATEST, ""),
        (
            spec(r#""hostNetwork":true,"hostPID":true,"hostIPC":false"#),
            LATEST,
            "host namespaces (hostNetwork=true, hostPID=true)",
        ),
        (one(r#","securityContext":{"privileged":true}"#), LATEST, r#"privileged (container "a" must not set securityContext.privileged=true)"#),
        (
            one(r#","securityContext":{"capabilities":{"add":["SYS_ADMIN","CHOWN","NET_RAW"]}}"#),
            LATEST,
            r#"non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#,
        ),
        (spec(r#""volumes":[{"name":"v","hostPath":{"path":"/"}}]"#), LATEST, r#"hostPath volumes (volume "v")"#),
        (one(r#","ports":[{"hostPort":80},{"hostPort":443},{}]"#), LATEST, r#"hostPort (container "a" uses hostPorts 443, 80)"#),
        (
            one(r#","livenessProbe":{"httpGet":{"host":"10.0.0.1"}}"#),
            LATEST,
            r#"probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")"#,
        ),
        (one(r#","livenessProbe":{"httpGet":{"host":"10.0.0.1"}}"#), Version::Minor(33), ""),
        (
            one(r#","securityContext":{"procMount":"Unmasked"}"#),
            LATEST,
            r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
        ),
        (r#"{"spec":{"hostUsers":false,"containers":[{"name":"a","securityContext":{"procMount":"Unmasked"}}]}}"#.into(), LATEST, ""),
        (
            spec(r#""securityContext":{"seLinuxOptions":{"type":"x","user":"u"}}"#),
            LATEST,
            r#"seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)"#,
        ),
        (
            spec(r#""securityContext":{"seccompProfile":{"type":"Unconfined"}}"#),
            LATEST,
            r#"seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")"#,
        ),
        (spec(r#""securityContext":{"sysctls":[{"name":"net.ipv4.tcp_rmem"}]}"#), Version::Minor(31), "forbidden sysctls (net.ipv4.tcp_rmem)"),
        (spec(r#""securityContext":{"sysctls":[{"name":"net.ipv4.tcp_rmem"}]}"#), Version::Minor(99), ""),
        (
            r#"{"metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/a":"unconfined"}},"spec":{"containers":[{"name":"a","securityContext":{"appArmorProfile":{"type":"Unconfined"}}}]}}"#.into(),
            LATEST,
            r#"forbidden AppArmor profiles (container "a" and annotation must not set AppArmor profile type to "Unconfined", "container.apparmor.security.beta.kubernetes.io/a="unconfined"")"#,
        ),
        (
            r#"{"metadata":{"annotations":{"seccomp.security.alpha.kubernetes.io/pod":"unconfined"}},"spec":{"containers":[]}}"#.into(),
            Version::Minor(18),
            r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#,
        ),
        (
            spec(r#""securityContext":{"windowsOptions":{"hostProcess":true}}"#),
            LATEST,
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (object, version, wanted) in cases {
        assert_eq!(found(Level::Baseline, version, &object), wanted, "{object}");
        assert_eq!(found(Level::Privileged, version, &object), "", "{object}");
    }
}

const HARD: &str = r#""securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}}"#;

#[test]
fn the_restricted_level_wants_pods_hardened() {
    let hard = |pod: &str, spec: &str| {
        format!(r#"{{"spec":{{"securityContext":{{{pod}}},{spec}"containers":[{{"name":"a",{HARD}}}]}}}}"#)
    };
    let good = r#""runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}"#;
    let bare = r#"{"spec":{"containers":[{"name":"a"},{"name":"b"}]}}"#.to_owned();
    let cases = [
        (hard(good, ""), LATEST, ""),
        (
            bare.clone(),
            LATEST,
            r#"allowPrivilegeEscalation != false (containers "a", "b" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers "a", "b" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers "a", "b" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#,
        ),
        (
            bare,
            Version::Minor(7),
            r#"runAsNonRoot != true (pod or containers "a", "b" must set securityContext.runAsNonRoot=true)"#,
        ),
        (
            hard(good, r#""volumes":[{"name":"v","hostPath":{}},{"name":"w","emptyDir":{}}],"#),
            LATEST,
            r#"restricted volume types (volume "v" uses restricted volume type "hostPath")"#,
        ),
        (
            hard(r#""runAsNonRoot":false,"seccompProfile":{"type":"Localhost"}"#, ""),
            LATEST,
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            hard(r#""runAsUser":0,"runAsNonRoot":true,"seccompProfile":{"type":"Localhost"}"#, ""),
            LATEST,
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (hard(r#""runAsUser":0,"seccompProfile":{"type":"Localhost"}"#, r#""hostUsers":false,"#), LATEST, ""),
        (
            r#"{"spec":{"os":{"name":"windows"},"securityContext":{"runAsNonRoot":true},"containers":[{"name":"a"}]}}"#
                .into(),
            LATEST,
            "",
        ),
    ];
    for (object, version, wanted) in cases {
        assert_eq!(found(Level::Restricted, version, &object), wanted, "{object}");
    }
}

#[test]
fn a_raised_level_tells_of_the_pods_beyond_it() {
    let object = |name: &str, spec: &str| parse(&format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{spec}}}"#));
    let pods = vec![
        object("a", r#"{"hostPID":true,"containers":[]}"#),
        object("b", r#"{"containers":[]}"#),
        object("c", r#"{"hostPID":true,"containers":[]}"#),
        object("d", r#"{"containers":[{"name":"x","ports":[{"hostPort":1}]}]}"#),
    ];
    let policy = LevelVersion { level: Level::Baseline, version: Version::Latest };
    assert_eq!(
        warnings_of_namespace("n", policy, pods),
        [
            r#"existing pods in namespace "n" violate the new PodSecurity enforce level "baseline:latest""#,
            "a (and 1 other pod): host namespaces",
            "d: hostPort",
        ]
    );
}
