//! Containers of all three kinds (`pkg/apis/core/validation`: validateContainers and what it calls).

use std::collections::HashSet;

use api::names;

use super::{handlers::running, security, volume::Volumes};
use crate::strategy::validate::{
    at::At,
    common,
    resources::{self, Owner},
};

/// What of the pod a container's checks look at.
pub(super) struct Surroundings<'a> {
    pub volumes: &'a Volumes<'a>,
    /// The names of the pod's resource claims, sorted.
    pub claims: &'a [&'a str],
    pub grace_seconds: Option<i64>,
    pub os: &'a str,
    pub host_users: bool,
    pub never_restarts: bool,
}

pub(super) const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// All containers of a pod's spec.
pub(super) fn all(spec: &At, around: &Surroundings) {
    let containers = spec.get("containers");
    containers.need();
    let mut names: HashSet<&str> = HashSet::new();
    for container in containers.items() {
        common_rules(&container, around);
        unique_name(&container, &mut names, true);
        running(&container, around);
        restart_rules(&container, container.get("restartPolicy").is_set());
    }
    host_ports(containers.items());
    let init = spec.get("initContainers");
    for container in init.items() {
        common_rules(&container, around);
        unique_name(&container, &mut names, false);
        init_container(&container, around);
    }
    let others = names.clone();
    for container in spec.get("ephemeralContainers").items() {
        common_rules(&container, around);
        image_is_trimmed(&container);
        unique_name(&container, &mut names, true);
        ephemeral(&container, &others);
    }
}

/// Whether a missing name counts as one depends on the kind of container.
fn unique_name<'v>(container: &At<'v, '_>, names: &mut HashSet<&'v str>, counts_missing: bool) {
    let name = container.get("name");
    if names.contains(name.text()) {
        name.duplicate_value(name.text());
    } else if counts_missing || !name.is_empty() {
        names.insert(name.text());
    }
}

/// `validateContainerOnlyForPod`.
pub(super) fn image_is_trimmed(container: &At) {
    let image = container.get("image");
    if image.text().trim() != image.text() {
        image.invalid("must not have leading or trailing whitespace");
    }
}

/// `validateContainerCommon`.
fn common_rules(container: &At, around: &Surroundings) {
    container.get("name").need_named(names::dns1123_label);
    container.get("image").need();
    container.get("terminationMessagePolicy").need_one_of(&["File", "FallbackToLogsOnError"]);
    ports(&container.get("ports"));
    env(&container.get("env"));
    env_from(&container.get("envFrom"));
    mounts(container, around.volumes);
    devices(container, around.volumes);
    container.get("imagePullPolicy").need_one_of(&["Always", "IfNotPresent", "Never"]);
    resources::requirements(&container.get("resources"), Owner::Container, around.claims);
    resize_policy(&container.get("resizePolicy"), around.never_restarts);
    security::container(&container.get("securityContext"), around.host_users);
}

fn ports(ports: &At) {
    let mut names: HashSet<&str> = HashSet::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_empty() {
            let before = name.errors();
            name.named(names::port_name);
            if names.contains(&name.text()) {
                name.duplicate();
            } else if name.errors() == before {
                names.insert(name.text());
            }
        }
        let number = port.get("containerPort");
        if number.int().unwrap_or(0) == 0 {
            number.required("");
        } else {
            number.port();
        }
        if port.get("hostPort").int().unwrap_or(0) != 0 {
            port.get("hostPort").port();
        }
        port.get("protocol").need_one_of(&["SCTP", "TCP", "UDP"]);
    }
}

/// `checkHostPortConflicts`.
fn host_ports<'v: 'p, 'p>(containers: impl Iterator<Item = At<'v, 'p>>) {
    let mut seen: HashSet<(&str, &str, i64)> = HashSet::new();
    for container in containers {
        for port in container.get("ports").items() {
            let (protocol, ip) = (port.get("protocol").text(), port.get("hostIP").text());
            let number = port.get("hostPort").int().unwrap_or(0);
            if number != 0 && seen.contains(&(protocol, ip, number)) {
                port.get("hostPort").duplicate_value(format!("{protocol}/{ip}/{number}"));
            }
            seen.insert((protocol, ip, number));
        }
    }
}

fn env(list: &At) {
    for variable in list.items() {
        variable.get("name").need_named(names::relaxed_env_var_name);
        let source = variable.get("valueFrom");
        if !source.is_set() {
            continue;
        }
        let field = source.get("fieldRef");
        if field.is_set() {
            object_field(&field, &ENV_FIELDS);
        }
        let resource = source.get("resourceFieldRef");
        if resource.is_set() {
            resource_field(&resource, false);
        }
        for name in ["configMapKeyRef", "secretKeyRef"] {
            let reference = source.get(name);
            if reference.is_set() {
                reference.get("name").named(names::dns1123_subdomain);
                reference.get("key").need_named(names::config_map_key);
            }
        }
        let file = source.get("fileKeyRef");
        if file.is_set() {
            file.get("key").need_named(names::relaxed_env_var_name);
            file.get("volumeName").need_named(names::dns1123_label);
            if file.get("path").need() {
                common::no_backsteps(&file.get("path"));
            }
        }
        let sources = ["fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef"];
        match sources.iter().filter(|name| source.get(name).is_set()).count() {
            0 => source.invalid_value(
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ),
            _ if !variable.get("value").is_empty() => {
                source.invalid_value("", "may not be specified when `value` is not empty");
            }
            1 => {}
            _ => source.invalid_value("", "may not have more than one field specified at a time"),
        }
    }
}

fn env_from(list: &At) {
    for item in list.items() {
        item.get("prefix").named_if_set(names::relaxed_env_var_name);
        let set = ["configMapRef", "secretRef"].iter().filter(|name| {
            let reference = item.get(name);
            if reference.is_set() {
                // Upstream takes these names for prefixes, so a trailing dash is fine.
                let name = reference.get("name");
                if name.need() && !names::dns1123_subdomain(&names::masked_prefix(name.text())).is_empty() {
                    name.named(names::dns1123_subdomain);
                }
            }
            reference.is_set()
        });
        match set.count() {
            0 => list.invalid_value("", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => list.invalid_value("", "may not have more than one field specified at a time"),
        }
    }
}

const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that the downward API knows, of which each use takes some (`ConvertDownwardAPIFieldLabel`).
const DOWNWARD_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "spec.restartPolicy", "spec.schedulerName", "status.phase"];

/// `validateObjectFieldSelector`.
pub(super) fn object_field(at: &At, supported: &[&str]) {
    let (version, path) = (at.get("apiVersion"), at.get("fieldPath"));
    if !version.need() || !path.need() {
        return;
    }
    let text = if path.text() == "spec.host" { "spec.nodeName" } else { path.text() };
    let subscript = text.split_once("['").and_then(|(name, rest)| Some((name, rest.strip_suffix("']")?)));
    let problem = match subscript {
        _ if version.text() != "v1" => Some(format!("unsupported pod version: {}", version.text())),
        Some((name @ ("metadata.annotations" | "metadata.labels"), key)) => {
            let key = if name == "metadata.annotations" { key.to_lowercase() } else { key.to_owned() };
            at.problems(&key, names::qualified_name);
            return;
        }
        Some((name, _)) => Some(format!("field label does not support subscript: {name}")),
        None if DOWNWARD_FIELDS.contains(&text) || ENV_FIELDS.contains(&text) => None,
        None => Some(format!("field label not supported: {text}")),
    };
    if let Some(problem) = problem {
        path.invalid(format!("error converting fieldPath: {problem}"));
    } else if !supported.contains(&text) {
        path.not_supported_value(text, supported);
    }
}

const RESOURCE_FIELDS: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

const BYTE_DIVISORS: [&str; 13] = ["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

/// `validateContainerResourceFieldSelector`.
pub(super) fn resource_field(at: &At, in_volume: bool) {
    let resource = at.get("resource");
    let name = resource.text();
    let kind =
        name.split_once('.').map_or("", |(kind, rest)| if matches!(kind, "limits" | "requests") { rest } else { "" });
    if in_volume && at.get("containerName").is_empty() {
        at.get("containerName").required("");
    } else if resource.need() && !RESOURCE_FIELDS.contains(&name) && !kind.starts_with("hugepages-") {
        resource.not_supported(&RESOURCE_FIELDS);
    }
    let Some(divisor) = at.get("divisor").quantity().filter(|divisor| !divisor.is_zero()) else { return };
    let divisor = divisor.to_string();
    let what = match kind {
        "cpu" if !["1m", "1"].contains(&divisor.as_str()) => {
            let detail = "only divisor's values 1m and 1 are supported with the cpu resource";
            return at.get("divisor").invalid_value(name, detail);
        }
        "memory" => "memory",
        "ephemeral-storage" => "local ephemeral storage",
        _ if kind.starts_with("hugepages-") => "hugepages",
        _ => return,
    };
    if !BYTE_DIVISORS.contains(&divisor.as_str()) {
        let all = BYTE_DIVISORS.join(", ");
        at.get("divisor")
            .invalid_value(name, format!("only divisor's values {all} are supported with the {what} resource"));
    }
}

/// `ValidateVolumeMounts`. Errors of some members stand at the list, as upstream's do.
fn mounts(container: &At, volumes: &Volumes) {
    let list = container.get("volumeMounts");
    let devices = container.get("volumeDevices");
    let (device_names, device_paths) = (devices.by("name"), devices.by("devicePath"));
    let mut paths: HashSet<&str> = HashSet::new();
    for mount in list.items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.need();
        if !volumes.has(name.text()) {
            name.not_found();
        }
        path.need();
        if !paths.insert(path.text()) {
            path.invalid_value(path.text(), "must be unique");
        }
        if device_names.contains_key(name.text()) {
            name.invalid("must not already exist in volumeDevices");
        }
        if device_paths.contains_key(path.text()) {
            path.invalid("must not already exist as a path in volumeDevices");
        }
        common::local_path(&list.get("subPath").holding(&mount.get("subPath")));
        let expression = mount.get("subPathExpr");
        if !expression.is_empty() && !mount.get("subPath").is_empty() {
            expression.invalid("subPathExpr and subPath are mutually exclusive");
        }
        common::local_path(&list.get("subPathExpr").holding(&expression));
        propagation(&list, &mount, container.get("securityContext").get("privileged").is_true());
    }
}

fn propagation(list: &At, mount: &At, privileged: bool) {
    let value = mount.get("mountPropagation");
    let place = list.get("mountPropagation");
    place.holding(&value).one_of_if_set(&["Bidirectional", "HostToContainer", "None"]);
    if value.text() == "Bidirectional" && !privileged {
        place.forbidden("Bidirectional mount propagation is available only to privileged containers");
    }
    let recursive = mount.get("recursiveReadOnly");
    let place = list.get("recursiveReadOnly");
    place.holding(&recursive).one_of_if_set(&["Disabled", "Enabled", "IfPossible"]);
    if matches!(recursive.text(), "Enabled" | "IfPossible") {
        if !mount.get("readOnly").is_true() {
            place.forbidden("may only be specified when readOnly is true");
        }
        if !matches!(value.text(), "" | "None") {
            place.forbidden("may only be specified when mountPropagation is None or not specified");
        }
    }
}

/// `ValidateVolumeDevices`.
fn devices(container: &At, volumes: &Volumes) {
    let devices = container.get("volumeDevices");
    if devices.is_empty() {
        return;
    }
    let mounts = container.get("volumeMounts");
    let (mount_names, mount_paths) = (mounts.by("name"), mounts.by("mountPath"));
    let (mut names, mut paths): (HashSet<&str>, HashSet<&str>) = Default::default();
    for device in devices.items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        name.need();
        if !names.insert(name.text()) && !name.is_empty() {
            name.invalid("must be unique");
        }
        match volumes.is_claim(name.text()) {
            Some(true) => {}
            Some(false) => {
                name.invalid("can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode");
            }
            None => name.not_found(),
        }
        path.need();
        if paths.contains(path.text()) {
            path.invalid_value(path.text(), "must be unique");
        }
        if path.text().split('/').any(|step| step == "..") {
            path.invalid("can not contain backsteps ('..')");
        } else {
            paths.insert(path.text());
        }
        if mount_names.contains_key(name.text()) {
            name.invalid("must not already exist in volumeMounts");
        }
        if mount_paths.contains_key(path.text()) {
            path.invalid("must not already exist as a path in volumeMounts");
        }
    }
}

fn resize_policy(list: &At, never_restarts: bool) {
    let mut seen: HashSet<&str> = HashSet::new();
    for policy in list.items() {
        let (name, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(name.text()) {
            policy.duplicate_value(name.text());
        }
        list.holding(&name).need_one_of(&["cpu", "memory"]);
        list.holding(&restart).need_one_of(&["NotRequired", "RestartContainer"]);
        if never_restarts && restart.text() != "NotRequired" {
            list.invalid_value(restart.text(), "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// `validateContainerRestartPolicy`.
fn restart_rules(container: &At, has_policy: bool) {
    let (policy, rules) = (container.get("restartPolicy"), container.get("restartPolicyRules"));
    if has_policy {
        policy.one_of(&["Always", "Never", "OnFailure"]);
    } else if !rules.is_empty() {
        policy.required("must specify restartPolicy when restart rules are used");
    }
    if rules.len() > 20 {
        rules.too_many(20);
    }
    for rule in rules.items() {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"]);
        let codes = rule.get("exitCodes");
        if codes.is_set() {
            codes.get("operator").one_of(&["In", "NotIn"]);
            if codes.get("values").len() > 255 {
                codes.get("values").too_many(255);
            }
        } else {
            codes.required("must be specified");
        }
    }
}

fn init_container(container: &At, around: &Surroundings) {
    let policy = container.get("restartPolicy");
    restart_rules(container, policy.is_set());
    host_ports(std::iter::once(*container));
    if policy.text() == "Always" {
        return running(container, around);
    }
    for name in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        container.get(name).forbid("may not be set for init containers without restartPolicy=Always");
    }
    for policy in container.get("resizePolicy").items() {
        let restart = policy.get("restartPolicy");
        if restart.text() == "RestartContainer" {
            restart.invalid("must not be set to 'RestartContainer' for non-sidecar initContainers");
        }
    }
}

fn ephemeral(container: &At, others: &HashSet<&str>) {
    let target = container.get("targetContainerName");
    if !target.is_empty() && !others.contains(target.text()) {
        target.not_found();
    }
    const NOT_THESE: [&str; 9] = [
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    for name in NOT_THESE.into_iter().filter(|name| match *name {
        "resources" => !container.get(name).is_empty(),
        _ => container.get(name).is_set(),
    }) {
        container.get(name).forbidden("cannot be set for an Ephemeral Container");
    }
    for mount in container.get("volumeMounts").items() {
        for name in ["subPath", "subPathExpr"].into_iter().filter(|name| !mount.get(name).is_empty()) {
            mount.get(name).forbidden("cannot be set for an Ephemeral Container");
        }
    }
}

/// `validateFileKeyRefVolumes`.
pub(super) fn file_key_volumes(spec: &At) {
    let volumes = spec.get("volumes");
    let volumes = volumes.by("name");
    for list in LISTS {
        for container in spec.get(list).items() {
            for variable in container.get("env").items() {
                let source = variable.get("valueFrom");
                let reference = source.get("fileKeyRef");
                if !reference.is_set() {
                    continue;
                }
                let name = reference.get("volumeName");
                match volumes.get(name.text()) {
                    None => name.not_found(),
                    Some(volume) if !volume.get("emptyDir").is_set() => {
                        name.invalid("referenced volume must be of type emptyDir");
                    }
                    Some(_) => {}
                }
            }
        }
    }
}
