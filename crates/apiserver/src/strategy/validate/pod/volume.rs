//! Volumes of pods, and the sources that persistent volumes share with them (`pkg/apis/core/validation`:
//! validateVolumeSource, ValidatePersistentVolumeSpec).

use std::collections::{BTreeSet, HashMap, HashSet};

use api::names;

use super::{Context, container, projected};
use crate::strategy::validate::{at::At, claim, common};

/// The volumes of a pod that are as they should be, and whether each is a claim.
#[derive(Default)]
pub(super) struct Volumes<'v> {
    known: HashMap<&'v str, bool>,
}

impl Volumes<'_> {
    pub fn has(&self, name: &str) -> bool {
        self.is_claim(name).is_some()
    }

    /// Whether the volume of that name, if there is one, is a claim.
    pub fn is_claim(&self, name: &str) -> Option<bool> {
        self.known.get(name).copied()
    }
}

/// One kind of volume: its member, where its errors stand, where it is refused beside another, what it has to have, and
/// what else is checked.
struct Source {
    name: &'static str,
    place: &'static str,
    refused: &'static str,
    need: &'static [&'static str],
    more: fn(&At),
}

const fn source(name: &'static str, need: &'static [&'static str], more: fn(&At)) -> Source {
    Source { name, place: name, refused: name, need, more }
}

/// In upstream's order, which decides on the one that is not refused where there are several; and with the places that
/// its errors have, some of which are no fields.
const SOURCES: [Source; 30] = [
    source("emptyDir", &[], empty_dir),
    source("hostPath", &["path"], host_path),
    source("gitRepo", &["repository"], |at| common::local_path(&at.get("directory"))),
    Source { place: "persistentDisk", ..source("gcePersistentDisk", &["pdName"], partition) },
    source("awsElasticBlockStore", &["volumeID"], partition),
    source("secret", &["secretName"], key_paths),
    source("nfs", &["server", "path"], nfs),
    source("iscsi", &["targetPortal", "iqn"], |at| iscsi(at, " starting with iqn, eui, or naa", nothing)),
    source("glusterfs", &["endpoints", "path"], nothing),
    source("flocker", &[], flocker),
    source("persistentVolumeClaim", &["claimName"], nothing),
    source("rbd", &["monitors", "image"], nothing),
    source("cinder", &["volumeID"], secret_name),
    Source { refused: "cephFS", ..source("cephfs", &["monitors"], nothing) },
    source("quobyte", &[], quobyte),
    Source { refused: "downwarAPI", ..source("downwardAPI", &[], downward) },
    source("fc", &[], fibre_channel),
    source("flexVolume", &["driver"], flex),
    source("configMap", &["name"], key_paths),
    source("azureFile", &["secretName", "shareName"], nothing),
    source("vsphereVolume", &["volumePath"], nothing),
    source("photonPersistentDisk", &["pdID"], nothing),
    source("portworxVolume", &["volumeID"], nothing),
    source("azureDisk", &["diskName", "diskURI"], azure_disk),
    source("storageos", &[], |at| storage_os(at, secret_name)),
    source("projected", &[], projected::check),
    source("scaleIO", &["gateway", "system", "volumeName"], nothing),
    source("csi", &[], csi),
    source("ephemeral", &["volumeClaimTemplate"], ephemeral),
    source("image", &[], |at| {
        at.get("pullPolicy").need_one_of(&["Always", "IfNotPresent", "Never"]);
    }),
];

/// The sources of persistent volumes, in upstream's order.
const PERSISTENT: [Source; 22] = [
    source("hostPath", &["path"], host_path),
    Source { place: "persistentDisk", ..source("gcePersistentDisk", &["pdName"], partition) },
    source("awsElasticBlockStore", &["volumeID"], partition),
    source("glusterfs", &["endpoints", "path"], |at| endpoints_namespace(&at.get("endpointsNamespace"))),
    source("flocker", &[], flocker),
    source("nfs", &["server", "path"], nfs),
    source("rbd", &["monitors", "image"], nothing),
    source("quobyte", &[], quobyte),
    Source { refused: "cephFS", ..source("cephfs", &["monitors"], nothing) },
    source("iscsi", &["targetPortal", "iqn"], |at| iscsi(at, "", secret_name)),
    source("cinder", &["volumeID"], secret_reference),
    source("fc", &[], fibre_channel),
    source("flexVolume", &["driver"], flex),
    source("azureFile", &["secretName", "shareName"], |at| {
        if at.get("secretNamespace").is_set() {
            at.get("secretNamespace").need();
        }
    }),
    source("vsphereVolume", &["volumePath"], nothing),
    source("photonPersistentDisk", &["pdID"], nothing),
    source("portworxVolume", &["volumeID"], nothing),
    source("azureDisk", &["diskName", "diskURI"], azure_disk),
    source("scaleIO", &["gateway", "system", "volumeName"], nothing),
    source("local", &["path"], |at| common::no_backsteps(&at.get("path"))),
    source("storageos", &[], |at| storage_os(at, secret_reference)),
    source("csi", &[], persistent_csi),
];

fn nothing(_: &At) {}

fn check(at: &At, source: &Source) {
    for name in source.need {
        at.get(name).need();
    }
    (source.more)(at);
}

/// The names of the members that hold a persistent volume's source.
pub(in crate::strategy::validate) fn persistent_names() -> impl Iterator<Item = &'static str> {
    PERSISTENT.iter().map(|source| source.name)
}

/// `ValidatePersistentVolumeSpec`'s part on sources: exactly one of them.
pub(in crate::strategy::validate) fn persistent_source(spec: &At) {
    one_source(spec, &PERSISTENT, |_| {});
}

/// Exactly one source, and for the one that counts what else is looked at.
fn one_source(at: &At, sources: &'static [Source], more: impl Fn(&Source)) {
    let mut found = false;
    for source in sources.iter().filter(|source| at.get(source.name).is_set()) {
        if found {
            at.get(source.refused).forbidden("may not specify more than 1 volume type");
        } else {
            check(&at.get(source.place).holding(&at.get(source.name)), source);
            more(source);
        }
        found = true;
    }
    if !found {
        at.required("must specify a volume type");
    }
}

/// `ValidateVolumes`. A StatefulSet's claim templates make volumes before all others, in the place of those of their names.
pub(super) fn volumes<'v>(list: &At<'v, '_>, context: &Context<'v>) -> Volumes<'v> {
    let mut volumes = Volumes::default();
    let templates = context.claim_templates;
    let mut from_templates: BTreeSet<&str> = BTreeSet::new();
    for template in templates.iter().flat_map(At::items) {
        let metadata = template.get("metadata");
        let name = metadata.get("name");
        if from_templates.insert(name.text()) {
            let volume = list.index(from_templates.len() - 1);
            let before = volume.errors();
            volume.get("persistentVolumeClaim").get("claimName").holding(&name).need();
            volume.get("name").holding(&name).need_named(names::dns1123_label);
            if volume.errors() == before {
                volumes.known.insert(name.text(), true);
            }
        }
    }
    let is_ephemeral = |volume: &At| volume.get("ephemeral").is_set();
    let ephemeral: HashSet<&str> = list.items().filter(is_ephemeral).map(|it| it.get("name").text()).collect();
    let own = list.items().filter(|volume| !from_templates.contains(volume.get("name").text()));
    for (place, own) in own.enumerate() {
        let volume = list.index(from_templates.len() + place).holding(&own);
        let name = volume.get("name");
        let before = volume.errors();
        one_source(&volume, &SOURCES, |source| of_pod(&volume, source, context));
        let iscsi = volume.get("iscsi");
        if iscsi.get("initiatorName").is_set() && name.text().len() + 1 + iscsi.get("targetPortal").text().len() > 64 {
            name.invalid(ISCSI_TOO_LONG);
        }
        name.need_named(names::dns1123_label);
        if volumes.has(name.text()) {
            name.duplicate();
        }
        if volume.errors() == before {
            let is_claim = volume.get("persistentVolumeClaim").is_set() || volume.get("ephemeral").is_set();
            volumes.known.insert(name.text(), is_claim);
        }
        let claim = volume.get("persistentVolumeClaim");
        let made = claim.get("claimName").text().strip_prefix(context.name).and_then(|rest| rest.strip_prefix('-'));
        if claim.is_set() && !context.name.is_empty() && made.is_some_and(|made| ephemeral.contains(made)) {
            claim.get("claimName").invalid("must not reference a PVC that gets created for an ephemeral volume");
        }
    }
    volumes
}

/// What depends on the volume's name and on whose it is.
fn of_pod(volume: &At, source: &Source, context: &Context) {
    let name = volume.get("name").text();
    match source.name {
        "ephemeral" if !context.name.is_empty() && !name.is_empty() => {
            let claim = format!("{}-{name}", context.name);
            for problem in names::dns1123_subdomain(&claim) {
                volume.get("name").invalid(format!("PVC name {claim:?}: {problem}"));
            }
        }
        "image" if context.is_pod => _ = volume.get("image").get("reference").need(),
        _ => {}
    }
}

const ISCSI_TOO_LONG: &str = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";

pub(super) fn file_mode(at: &At) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        at.invalid("must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn empty_dir(at: &At) {
    let limit = at.get("sizeLimit");
    if limit.quantity().is_some_and(|limit| limit.is_negative()) {
        limit.forbidden("SizeLimit field must be a valid resource quantity");
    }
}

fn host_path(at: &At) {
    common::no_backsteps(&at.get("path"));
    at.get("type").one_of_if_set(&[
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ]);
}

fn partition(at: &At) {
    let partition = at.get("partition");
    if partition.int().is_some_and(|number| !(0..=255).contains(&number)) {
        partition.invalid("must be between 1 and 255, inclusive");
    }
}

fn nfs(at: &At) {
    let path = at.get("path");
    if !path.text().starts_with('/') {
        path.invalid_value(path.text(), "must be an absolute path");
    }
}

/// Whether a name of an initiator is one of the three forms.
fn is_iscsi_name(name: &str) -> bool {
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match (name.get(..3), name.get(4..)) {
        (Some("eui"), Some(rest)) => rest.len() == 16 && plain(rest),
        (Some("naa"), Some(rest)) => rest.len() == 32 && plain(rest),
        (Some("iqn"), Some(rest)) => {
            let digits = |range: std::ops::Range<usize>| {
                rest.get(range).is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            };
            let domain = rest.get(8..).and_then(|rest| rest.split_once(':'));
            digits(0..4)
                && digits(5..7)
                && rest.get(4..5) == Some("-")
                && domain.is_some_and(|(domain, unit)| {
                    !domain.is_empty() && !unit.is_empty() && !unit.contains([',', ';', '*', '&', '$', '|', ' '])
                })
        }
        _ => false,
    }
}

/// `forms` says in the message which there are, which upstream does for pods alone.
fn iscsi(at: &At, forms: &str, secret: fn(&At)) {
    let check = |place: &At| {
        let name = place.text();
        if !["iqn", "eui", "naa"].iter().any(|prefix| name.starts_with(prefix)) {
            place.invalid(format!("must be valid format{forms}"));
        } else if !is_iscsi_name(name) {
            place.invalid("must be valid format");
        }
    };
    let name = at.get("iqn");
    if !name.is_empty() {
        check(&name);
    }
    at.get("lun").in_range(0, 255);
    let authenticates = at.get("chapAuthDiscovery").is_true() || at.get("chapAuthSession").is_true();
    if authenticates && !at.get("secretRef").is_set() {
        at.get("secretRef").required("");
    }
    secret(at);
    let initiator = at.get("initiatorName");
    if initiator.is_set() {
        check(&at.get("initiatorname").holding(&initiator));
    }
}

const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";

/// Go's `net.SplitHostPort`.
fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host = match host.strip_prefix('[') {
        Some(inner) => match inner.strip_suffix(']') {
            Some(inner) => inner,
            None => return false,
        },
        None if host.contains(':') => return false,
        None => host,
    };
    !host.contains(['[', ']']) && !port.contains(['[', ']'])
}

fn quobyte(at: &At) {
    let (registry, tenant) = (at.get("registry"), at.get("tenant"));
    if registry.need_because(REGISTRY) {
        if tenant.text().len() > 64 {
            tenant.required("must be a UUID and may not exceed a length of 64 characters");
        } else {
            let wrong = registry.text().split(',').filter(|pair| !is_host_and_port(pair));
            wrong.for_each(|_| registry.invalid(REGISTRY));
        }
    }
    at.get("volume").need();
}

fn storage_os(at: &At, secret: fn(&At)) {
    at.get("volumeName").need_named(names::dns1123_label);
    at.get("volumeNamespace").named_if_set(names::dns1123_label);
    secret(at);
}

fn endpoints_namespace(at: &At) {
    match at.is_set() {
        true if at.is_empty() => at.invalid("if the endpointnamespace is set, it must be a valid namespace name"),
        true => at.named(names::dns1123_label),
        false => {}
    }
}

fn flocker(at: &At) {
    let (name, uuid) = (at.get("datasetName"), at.get("datasetUUID"));
    match (name.is_empty(), uuid.is_empty()) {
        (true, true) => at.required("one of datasetName and datasetUUID is required"),
        (false, false) => {
            at.invalid_value("resource", "datasetName and datasetUUID can not be specified simultaneously")
        }
        _ => {}
    }
    if name.text().contains('/') {
        name.invalid("must not contain '/'");
    }
}

fn secret_name(at: &At) {
    let secret = at.get("secretRef");
    if secret.is_set() {
        secret.get("name").need();
    }
}

fn secret_reference(at: &At) {
    secret_name(at);
    let secret = at.get("secretRef");
    if secret.is_set() {
        secret.get("namespace").need();
    }
}

fn fibre_channel(at: &At) {
    let (names, ids, lun) = (at.get("targetWWNs"), at.get("wwids"), at.get("lun"));
    if names.len() + ids.len() == 0 {
        names.required("must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() && !ids.is_empty() {
        names.invalid("targetWWNs and wwids can not be specified simultaneously");
    }
    if !names.is_empty() {
        if !lun.is_set() {
            lun.required("lun is required if targetWWNs is specified");
        }
        lun.in_range(0, 255);
    }
}

fn flex(at: &At) {
    for (key, option) in at.get("options").entries() {
        let domain = format!(".{}", key.split('/').next().unwrap_or_default().to_lowercase());
        let reserved = domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io");
        if reserved {
            option.invalid_value(key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

fn azure_disk(at: &At) {
    at.get("cachingMode").one_of_if_set(&["None", "ReadOnly", "ReadWrite"]);
    let (kind, uri) = (at.get("kind"), at.get("diskURI"));
    kind.one_of_if_set(&["Dedicated", "Managed", "Shared"]);
    let is_managed = kind.text() == "Managed";
    if is_managed && !uri.text().starts_with("/subscriptions/") {
        uri.not_supported(&[
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ]);
    }
    if kind.is_set() && !is_managed && !uri.text().starts_with("https://") {
        uri.not_supported(&["https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"]);
    }
}

/// `ValidateCSIDriverName`.
pub(in crate::strategy::validate) fn csi_driver(at: &At) {
    if at.need() {
        csi_driver_name(at, at.text());
    }
}

/// The name of a driver that is part of the text here.
pub(in crate::strategy::validate) fn csi_driver_name(at: &At, name: &str) {
    if name.len() > names::LABEL_MAX {
        at.too_long(names::LABEL_MAX);
    }
    for problem in names::dns1123_subdomain(&name.to_lowercase()) {
        at.invalid_value(name, problem);
    }
}

fn csi(at: &At) {
    csi_driver(&at.get("driver"));
    let secret = at.get("nodePublishSecretRef");
    if secret.is_set() && secret.get("name").need() {
        at.get("name").holding(&secret.get("name")).named(names::dns1123_subdomain);
    }
}

fn persistent_csi(at: &At) {
    csi_driver(&at.get("driver"));
    at.get("volumeHandle").need();
    for name in
        ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef"]
    {
        let secret = at.get(name);
        if secret.is_set() {
            secret.get("name").need_named(names::dns1123_subdomain);
            secret.get("namespace").need_named(names::dns1123_label);
        }
    }
}

fn ephemeral(at: &At) {
    let template = at.get("volumeClaimTemplate");
    if template.is_set() {
        common::template_metadata(&template.get("metadata"));
        claim::spec(&template.get("spec"));
    }
}

/// `validateSecretVolumeSource` and `validateConfigMapVolumeSource`.
fn key_paths(at: &At) {
    file_mode(&at.get("defaultMode"));
    at.get("items").items().for_each(|item| key_to_path(&item));
}

pub(super) fn key_to_path(item: &At) {
    item.get("key").need();
    item.get("path").need();
    common::unreserved_path(&item.get("path"));
    file_mode(&item.get("mode"));
}

const VOLUME_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Files of the downward API; their errors stand at the volume, as upstream's do.
fn downward(at: &At) {
    file_mode(&at.get("defaultMode"));
    downward_files(at);
}

pub(super) fn downward_files(at: &At) {
    for item in at.get("items").items() {
        let file = at.holding(&item);
        file.get("path").need();
        common::unreserved_path(&file.get("path"));
        let (field, resource) = (file.get("fieldRef"), file.get("resourceFieldRef"));
        if field.is_set() {
            container::object_field(&field, &VOLUME_FIELDS);
            if resource.is_set() {
                file.invalid_value("resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        } else if resource.is_set() {
            container::resource_field(&resource, true);
        } else {
            file.required("one of fieldRef and resourceFieldRef is required");
        }
        file_mode(&file.get("mode"));
    }
}
