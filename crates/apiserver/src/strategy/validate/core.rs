//! ConfigMaps, Secrets, Namespaces and Endpoints (`pkg/apis/core/validation`).

use api::names;
use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    at::{At, IMMUTABLE},
    common,
};

/// Bytes of data that a ConfigMap or Secret holds at most.
const DATA_MAX: usize = 1 << 20;

const SEALED: &str = "field is immutable when `immutable` is set";

/// The bytes that a text in base64 stands for.
fn decoded_len(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().rev().take_while(|byte| *byte == b'=').count().min(2)
}

pub(super) fn config_map(at: &At) {
    let (data, binary) = (at.get("data"), at.get("binaryData"));
    let mut size = 0;
    for (key, value) in data.entries() {
        value.problems(key, names::config_map_key);
        if !binary.is_empty() && binary.key(key).is_set() {
            value.invalid_value(key, "duplicate of key present in binaryData");
        }
        size += value.text().len();
    }
    for (key, value) in binary.entries() {
        value.problems(key, names::config_map_key);
        size += decoded_len(value.text());
    }
    if size > DATA_MAX {
        at.too_long(DATA_MAX);
    }
}

pub(super) fn config_map_update(at: &At, old: &At) {
    sealed(at, old, &["data", "binaryData"]);
}

/// An object that says it is immutable stays so.
fn sealed(at: &At, old: &At, fields: &[&str]) {
    if !old.get("immutable").is_true() {
        return;
    }
    if !at.get("immutable").is_true() {
        at.get("immutable").forbidden(SEALED);
    }
    for field in fields.iter().filter(|field| !at.get(field).same(&old.get(field))) {
        at.get(field).forbidden(SEALED);
    }
}

pub(super) fn secret(at: &At) {
    let data = at.get("data");
    let mut size = 0;
    for (key, value) in data.entries() {
        value.problems(key, names::config_map_key);
        size += decoded_len(value.text());
    }
    if size > DATA_MAX {
        data.too_long(DATA_MAX);
    }
    let need = |key: &str| {
        if !data.key(key).is_set() {
            data.key(key).required("");
        }
    };
    match at.get("type").text() {
        "kubernetes.io/service-account-token" => {
            let metadata = at.get("metadata");
            metadata.get("annotations").key("kubernetes.io/service-account.name").need();
        }
        "kubernetes.io/dockercfg" => docker_config(&data.key(".dockercfg")),
        "kubernetes.io/dockerconfigjson" => docker_config(&data.key(".dockerconfigjson")),
        "kubernetes.io/basic-auth" if !data.key("username").is_set() && !data.key("password").is_set() => {
            need("username");
            need("password");
        }
        "kubernetes.io/ssh-auth" => {
            data.key("ssh-privatekey").need();
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        _ => {}
    }
}

/// An object in JSON.
fn docker_config(at: &At) {
    if !at.is_set() {
        return at.required("");
    }
    let bytes = STANDARD.decode(at.text()).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<Option<serde_json::Map<String, serde_json::Value>>>(&bytes) {
        let why = if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        at.invalid_value("<secret contents redacted>", why);
    }
}

pub(super) fn secret_update(at: &At, old: &At) {
    let kind = at.get("type");
    if !kind.same(&old.get("type")) {
        kind.invalid_value(kind.text(), IMMUTABLE);
    }
    sealed(at, old, &["data"]);
}

pub(super) fn namespace(at: &At) {
    let spec = at.get("spec");
    let finalizers = spec.get("finalizers");
    for name in finalizers.texts() {
        finalizers.problems(name, names::qualified_name);
        if !name.contains('/') && !matches!(name, "kubernetes" | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            finalizers.invalid_value(name, detail);
        }
    }
}

pub(super) fn namespace_status(at: &At, _old: &At) {
    let status = at.get("status");
    let (phase, place) = (status.get("phase"), status.get("Phase"));
    let place = place.holding(&phase);
    let ends = at.get("metadata").get("deletionTimestamp").is_set();
    match (ends, phase.text()) {
        (false, "Active") | (true, "Terminating") => {}
        (false, text) => place.invalid_value(text, "may only be 'Active' if `deletionTimestamp` is empty"),
        (true, text) => place.invalid_value(text, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
    }
}

pub(super) fn endpoints(at: &At) {
    for subset in at.get("subsets").items() {
        if subset.get("addresses").len() + subset.get("notReadyAddresses").len() == 0 {
            subset.required("must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.get(list).items() {
                let ip = address.get("ip");
                common::ip(&ip);
                address.get("hostname").named_if_set(names::dns1123_label);
                let node = address.get("nodeName");
                if node.is_set() {
                    node.named(names::dns1123_subdomain);
                }
                common::endpoint_ip(&ip);
            }
        }
        let ports = subset.get("ports");
        for port in ports.items() {
            let name = port.get("name");
            if ports.len() > 1 {
                name.need();
            }
            name.named_if_set(names::dns1123_label);
            port.get("port").port();
            port.get("protocol").need_one_of(&["SCTP", "TCP", "UDP"]);
            if port.get("appProtocol").is_set() {
                port.get("appProtocol").named(names::qualified_name);
            }
        }
    }
}
