//! Security contexts of sandboxes and containers (upstream `kuberuntime/security_context.go`, `pkg/securitycontext`).

use client::kinds::core::v1::{
    AppArmorProfile, Container, Pod, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext,
};
use k8s_cri::v1::{
    Capability, Image, Int64Value, LinuxContainerSecurityContext, LinuxSandboxSecurityContext, NamespaceMode,
    NamespaceOption, SeLinuxOption, SecurityProfile, SupplementalGroupsPolicy, security_profile::ProfileType,
};

use super::{ConfigError, NodeFacts};
use crate::plan::spec;

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Namespaces of the pod; `target` is the container an ephemeral one debugs.
pub fn namespaces(pod: &Pod, target: Option<&str>) -> NamespaceOption {
    let spec = spec::spec(pod);
    let mode = |host: Option<bool>, other: NamespaceMode| {
        if host == Some(true) { NamespaceMode::Node as i32 } else { other as i32 }
    };
    let shared = if spec.share_process_namespace == Some(true) { NamespaceMode::Pod } else { NamespaceMode::Container };
    let mut options = NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        pid: mode(spec.host_pid, shared),
        ..NamespaceOption::default()
    };
    if let Some(target) = target {
        options.pid = NamespaceMode::Target as i32;
        options.target_id = target.to_owned();
    }
    options
}

fn pod_context(pod: &Pod) -> PodSecurityContext {
    pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default()
}

fn value(id: Option<i64>) -> Option<Int64Value> {
    id.map(|value| Int64Value { value })
}

fn selinux(options: Option<&SELinuxOptions>) -> Option<SeLinuxOption> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    options.map(|own| SeLinuxOption {
        user: text(&own.user),
        role: text(&own.role),
        r#type: text(&own.type_),
        level: text(&own.level),
    })
}

fn seccomp(profile: Option<&SeccompProfile>, node: &NodeFacts) -> SecurityProfile {
    let of = |kind: ProfileType, path: String| SecurityProfile { profile_type: kind as i32, localhost_ref: path };
    match profile.map(|profile| (profile.type_.as_str(), profile.localhost_profile.as_deref())) {
        Some(("RuntimeDefault", _)) => of(ProfileType::RuntimeDefault, String::new()),
        Some(("Localhost", Some(file))) => {
            of(ProfileType::Localhost, node.root.join("seccomp").join(file).to_string_lossy().into_owned())
        }
        None if node.seccomp_default => of(ProfileType::RuntimeDefault, String::new()),
        _ => of(ProfileType::Unconfined, String::new()),
    }
}

fn apparmor(profile: Option<&AppArmorProfile>, node: &NodeFacts) -> Option<SecurityProfile> {
    let profile = profile.filter(|_| node.apparmor)?;
    let (kind, name) = match profile.type_.as_str() {
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default()),
        "Unconfined" => (ProfileType::Unconfined, String::new()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    Some(SecurityProfile { profile_type: kind as i32, localhost_ref: name })
}

/// containerd 1.6 reads AppArmor only from this older field.
fn apparmor_name(profile: Option<&SecurityProfile>) -> String {
    match profile {
        Some(profile) if profile.profile_type == ProfileType::Localhost as i32 => {
            format!("localhost/{}", profile.localhost_ref)
        }
        Some(profile) if profile.profile_type == ProfileType::Unconfined as i32 => "unconfined".into(),
        Some(_) => "runtime/default".into(),
        None => String::new(),
    }
}

fn groups_policy(context: &PodSecurityContext) -> i32 {
    match context.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

fn groups(context: &PodSecurityContext) -> Vec<i64> {
    let mut groups = context.supplemental_groups.clone().unwrap_or_default();
    groups.extend(context.fs_group.filter(|group| !groups.contains(group)));
    groups
}

pub fn sandbox(pod: &Pod, node: &NodeFacts) -> LinuxSandboxSecurityContext {
    let context = pod_context(pod);
    let privileged = spec::containers(pod)
        .iter()
        .any(|(_, container)| container.security_context.as_ref().and_then(|own| own.privileged) == Some(true));
    let default = SeccompProfile { type_: "RuntimeDefault".into(), localhost_profile: None };
    LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        selinux_options: selinux(context.se_linux_options.as_ref()),
        run_as_user: value(context.run_as_user),
        run_as_group: value(context.run_as_group.filter(|_| context.run_as_user.is_some())),
        supplemental_groups: groups(&context),
        supplemental_groups_policy: groups_policy(&context),
        privileged,
        // The pause process needs nothing that the default profile forbids.
        seccomp: Some(if privileged {
            SecurityProfile { profile_type: ProfileType::Unconfined as i32, ..SecurityProfile::default() }
        } else {
            seccomp(Some(&default), node)
        }),
        ..LinuxSandboxSecurityContext::default()
    }
}

/// The container's context over the pod's. containerd 1.6 reads AppArmor from the deprecated field. `target`: see [`namespaces`].
#[allow(deprecated)]
pub fn container(
    pod: &Pod,
    container: &Container,
    target: Option<&str>,
    node: &NodeFacts,
) -> LinuxContainerSecurityContext {
    let of_pod = pod_context(pod);
    let own = container.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(of_pod.run_as_user);
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked") || privileged;
    let paths =
        |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() };
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let apparmor = apparmor(own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref()), node);
    LinuxContainerSecurityContext {
        capabilities: own.capabilities.as_ref().map(|own| Capability {
            add_capabilities: own.add.clone().unwrap_or_default(),
            drop_capabilities: own.drop.clone().unwrap_or_default(),
            ..Capability::default()
        }),
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        selinux_options: selinux(own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref())),
        run_as_user: value(user),
        run_as_group: value(own.run_as_group.or(of_pod.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: groups(&of_pod),
        supplemental_groups_policy: groups_policy(&of_pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(MASKED),
        readonly_paths: paths(READ_ONLY),
        seccomp: Some(if privileged {
            SecurityProfile { profile_type: ProfileType::Unconfined as i32, ..SecurityProfile::default() }
        } else {
            seccomp(profile, node)
        }),
        apparmor_profile: apparmor_name(apparmor.as_ref()),
        apparmor,
        ..LinuxContainerSecurityContext::default()
    }
}

/// runAsNonRoot against the user the container will run as (upstream `verifyRunAsNonRoot`).
pub fn verify_non_root(pod: &Pod, container: &Container, image: &Image) -> Result<(), ConfigError> {
    let of_pod = pod_context(pod);
    let own: SecurityContext = container.security_context.clone().unwrap_or_default();
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let (pod_name, name) = (spec::describe(pod), container.name.clone());
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => return Err(ConfigError::RunAsUserIsRoot { pod: pod_name, container: name }),
        Some(_) => return Ok(()),
        None => {}
    }
    match &image.uid {
        Some(uid) if uid.value == 0 => Err(ConfigError::RunsAsRoot { pod: pod_name, container: name }),
        Some(_) => Ok(()),
        None if !image.username.is_empty() => {
            Err(ConfigError::NonNumericUser { user: image.username.clone(), pod: pod_name, container: name })
        }
        // The runtime says nothing of images that name no user: those run as root.
        None => Err(ConfigError::RunsAsRoot { pod: pod_name, container: name }),
    }
}
