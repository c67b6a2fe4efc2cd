//! Security contexts of pods and containers, and what each operating system knows of them (`pkg/apis/core/validation`).

use std::collections::HashSet;

use api::names;

use super::container::LISTS;
use crate::strategy::validate::{at::At, common};

/// `validatePodSpecSecurityContext`.
pub(super) fn pod(spec: &At) {
    let at = spec.get("securityContext");
    for name in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&at.get(name));
    }
    at.get("supplementalGroups").items().for_each(|group| id(&group));
    let shared = spec.get("shareProcessNamespace");
    if shared.is_true() && spec.get("hostPID").is_true() {
        at.get("shareProcessNamespace").invalid_value(true, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    sysctls(&at.get("sysctls"), spec);
    at.get("fsGroupChangePolicy").one_of_if_set(&["Always", "OnRootMismatch"]);
    seccomp(&at.get("seccompProfile"));
    windows_options(&at.get("windowsOptions"));
    app_armor(&at.get("appArmorProfile"));
    at.get("supplementalGroupsPolicy").one_of_if_set(&["Merge", "Strict"]);
    at.get("seLinuxChangePolicy").one_of_if_set(&["Recursive"]);
}

fn id(at: &At) {
    at.in_range(0, i32::MAX.into());
}

fn is_sysctl_name(name: &str) -> bool {
    let is_edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_segment = |text: &str| {
        text.bytes().all(|byte| is_edge(byte) || byte == b'-' || byte == b'_')
            && text.bytes().next().is_some_and(is_edge)
            && text.bytes().last().is_some_and(is_edge)
    };
    name.len() <= names::SUBDOMAIN_MAX && name.split(['.', '/']).all(is_segment)
}

/// The namespace that a kernel parameter belongs to, of those that a pod may have from the host.
fn sysctl_namespace(name: &str) -> &'static str {
    let name = name.replace('/', ".");
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if is(&["net."]) {
        "net"
    } else if is(&["kernel.shm", "kernel.msg", "fs.mqueue."]) || name == "kernel.sem" {
        "ipc"
    } else {
        ""
    }
}

fn sysctls(list: &At, spec: &At) {
    let mut seen: HashSet<&str> = HashSet::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        if !name.need() {
            continue;
        }
        if !is_sysctl_name(name.text()) {
            let segment = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
            name.invalid(format!("must have at most 253 characters and match regex ^({segment}[\\./])*{segment}$"));
        } else if seen.contains(&name.text()) {
            name.duplicate();
        }
        seen.insert(name.text());
        match sysctl_namespace(name.text()) {
            "net" if spec.get("hostNetwork").is_true() => {
                name.invalid("may not be specified when 'hostNetwork' is true");
            }
            "ipc" if spec.get("hostIPC").is_true() => name.invalid("may not be specified when 'hostIPC' is true"),
            _ => {}
        }
    }
}

/// `ValidateSecurityContext` of a container.
pub(super) fn container(at: &At, host_users: bool) {
    if !at.is_set() {
        return;
    }
    id(&at.get("runAsUser"));
    id(&at.get("runAsGroup"));
    let mount = at.get("procMount");
    mount.one_of_if_set(&["Default", "Unmasked"]);
    if host_users && mount.text() == "Unmasked" {
        mount.invalid("`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&at.get("seccompProfile"));
    if at.get("allowPrivilegeEscalation").value().as_bool() == Some(false) {
        if at.get("privileged").is_true() {
            at.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if at.get("capabilities").get("add").contains("CAP_SYS_ADMIN") {
            at.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    windows_options(&at.get("windowsOptions"));
    app_armor(&at.get("appArmorProfile"));
}

const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

fn seccomp(at: &At) {
    if !at.is_set() {
        return;
    }
    if at.get("type").need_because("type is required when seccompProfile is set") {
        at.get("type").one_of(&PROFILES);
    }
    let file = at.get("localhostProfile");
    match (at.get("type").text() == "Localhost", file.is_set()) {
        (true, false) => file.required("must be set when seccomp type is Localhost"),
        (true, true) => common::local_path(&file),
        (false, true) => file.invalid_value(at.value(), "can only be set when seccomp type is Localhost"),
        (false, false) => {}
    }
}

/// Bytes of a path, without the final zero.
const PATH_MAX: usize = 4095;

fn app_armor(at: &At) {
    if !at.is_set() {
        return;
    }
    let (kind, profile) = (at.get("type"), at.get("localhostProfile"));
    if kind.need_because("type is required when appArmorProfile is set") {
        kind.one_of(&PROFILES);
    }
    match kind.text() {
        "Localhost" => {
            if profile.text().trim() != profile.text() {
                profile.invalid("must not be padded with whitespace");
            } else {
                profile.need_because("must be set when AppArmor type is Localhost");
            }
            profile.max_bytes(PATH_MAX);
        }
        "RuntimeDefault" | "Unconfined" if profile.is_set() => {
            profile.invalid("can only be set when AppArmor type is Localhost");
        }
        _ => {}
    }
}

/// `validateWindowsSecurityContextOptions`.
fn windows_options(at: &At) {
    let (name, spec, user) = (at.get("gmsaCredentialSpecName"), at.get("gmsaCredentialSpec"), at.get("runAsUserName"));
    if name.is_set() {
        name.named(names::dns1123_subdomain);
    }
    if spec.is_set() {
        match spec.text().len() {
            0 => spec.invalid("gmsaCredentialSpec cannot be an empty string"),
            size if size > 64 * 1024 => spec.invalid("gmsaCredentialSpec size must be under 64 KiB"),
            _ => {}
        }
    }
    if user.is_set() {
        windows_user(&user);
    }
}

fn windows_user(at: &At) {
    let text = at.text();
    let parts: Vec<&str> = text.split('\\').collect();
    let user = match parts.as_slice() {
        [""] => return at.invalid("runAsUserName cannot be an empty string"),
        _ if text.chars().any(|c| c.is_ascii_control()) => {
            return at.invalid("runAsUserName cannot contain control characters");
        }
        [user] => *user,
        [domain, user] => {
            if domain.len() >= 256 {
                at.invalid("runAsUserName's Domain length must be under 256 characters");
            }
            let net_bios = (1..=15).contains(&domain.chars().count())
                && !domain.starts_with('.')
                && !domain.contains(['/', ':', '*', '?', '"', '<', '>', '|']);
            if !net_bios && !names::dns1123_subdomain(&domain.to_lowercase()).is_empty() {
                at.invalid("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
            }
            user
        }
        _ => return at.invalid("runAsUserName cannot contain more than one backslash"),
    };
    if user.is_empty() {
        at.invalid("runAsUserName's User cannot be empty");
    } else if user.len() > 104 {
        at.invalid("runAsUserName's User length must not be longer than 104 characters");
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        at.invalid("runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        at.invalid(r#"runAsUserName's User cannot contain the following characters: "/\:;|=,+*?<>@[]"#);
    }
}

/// `validateWindowsHostProcessPod`: all containers are, or none.
pub(super) fn windows_host_process(spec: &At) {
    let flag = |at: &At| at.get("windowsOptions").get("hostProcess").value().as_bool();
    let pod = flag(&spec.get("securityContext"));
    let (mut all, mut on_host) = (0, 0);
    for list in LISTS {
        for container in spec.get(list).items() {
            let context = container.get("securityContext");
            let own = flag(&context);
            if let (Some(pod), Some(own)) = (pod, own)
                && pod != own
            {
                let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
                context.get("windowsOptions").get("hostProcess").invalid(detail);
            }
            all += 1;
            on_host += usize::from(own.or(pod) == Some(true));
        }
    }
    if on_host > 0 {
        if on_host != all {
            let detail =
                "If pod contains any hostProcess containers then all containers must be HostProcess containers";
            spec.invalid_value("", detail);
        }
        if !spec.get("hostNetwork").is_true() {
            let detail = "hostNetwork must be true if pod contains any hostProcess containers";
            spec.get("hostNetwork").invalid_value(false, detail);
        }
    }
}

/// `validateHostUsers`: a user namespace does not go with other namespaces of the host.
pub(super) fn host_users(spec: &At) {
    if spec.get("hostUsers").value().as_bool() != Some(false) {
        return;
    }
    for (name, place) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(name).is_true() {
            spec.get(place).forbidden("when `hostUsers` is false");
        }
    }
    for list in LISTS {
        for container in spec.get(list).items().filter(|container| !container.get("volumeDevices").is_empty()) {
            container.get("volumeDevices").forbidden("when `hostUsers` is false");
        }
    }
}

/// `validateOS`, `validateLinux` and `validateWindows`.
pub(super) fn os(spec: &At) {
    let at = spec.get("os");
    if !at.is_set() {
        return;
    }
    let context = spec.get("securityContext");
    let containers = |forbidden: &[&str], detail: &str| {
        for list in LISTS {
            for container in spec.get(list).items() {
                let context = container.get("securityContext");
                forbidden.iter().for_each(|name| context.get(name).forbid(detail));
            }
        }
    };
    match at.get("name").text() {
        "" => at.get("name").required(""),
        "linux" => {
            let detail = "windows options cannot be set for a linux pod";
            context.get("windowsOptions").forbid(detail);
            containers(&["windowsOptions"], detail);
        }
        "windows" => {
            let detail = "cannot be set for a windows pod";
            for name in ["hostUsers", "shareProcessNamespace"] {
                spec.get(name).forbid(detail);
            }
            for name in ["hostPID", "hostIPC"].into_iter().filter(|name| spec.get(name).is_true()) {
                spec.get(name).forbidden(detail);
            }
            POD_ON_LINUX.iter().for_each(|name| context.get(name).forbid(detail));
            containers(&CONTAINER_ON_LINUX, detail);
        }
        other => at.not_supported_value(other, &["linux", "windows"]),
    }
}

const POD_ON_LINUX: [&str; 11] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
];

const CONTAINER_ON_LINUX: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];
