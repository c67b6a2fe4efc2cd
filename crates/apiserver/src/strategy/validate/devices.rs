//! Claims to devices, their templates and classes of devices (`pkg/apis/resource/validation`). Expressions are checked for
//! presence and length, not compiled.

use std::{collections::HashSet, hash::Hash};

use api::{Value, names};

use super::{
    at::At,
    common,
    pod::volume::{csi_driver as driver, csi_driver_name as driver_name},
    resources::is_extended,
};

const REQUESTS_MAX: usize = 32;
const CONSTRAINTS_MAX: usize = 32;
const CONFIG_MAX: usize = 32;
const SELECTORS_MAX: usize = 32;
const FIRST_AVAILABLE_MAX: usize = 8;
const RESERVED_FOR_MAX: usize = 256;
const DEVICE_CONDITIONS_MAX: usize = 8;
const IPS_MAX: usize = 16;
const BINDING_CONDITIONS_MAX: usize = 4;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;
const PARAMETERS_BYTES_MAX: usize = 10 * 1024;
const INTERFACE_BYTES_MAX: usize = 256;
const HARDWARE_ADDRESS_BYTES_MAX: usize = 128;
const IDENTIFIER_MAX: usize = 32;

/// `validateSlice`: what is too long is not looked into.
pub(super) fn list(at: &At, max: usize, check: impl Fn(&At)) -> bool {
    if at.len() > max {
        at.too_many(max);
        return false;
    }
    at.items().for_each(|item| check(&item));
    true
}

/// `validateSet`: a list whose items have different keys.
pub(super) fn set<K: Eq + Hash + serde::Serialize>(at: &At, max: usize, check: impl Fn(&At), key: impl Fn(&At) -> K) {
    if list(at, max, check) {
        distinct(at, key);
    }
}

fn distinct<K: Eq + Hash + serde::Serialize>(at: &At, key: impl Fn(&At) -> K) {
    let mut seen: HashSet<K> = HashSet::new();
    for item in at.items() {
        let key = key(&item);
        if seen.contains(&key) {
            item.duplicate_value(&key);
        } else {
            seen.insert(key);
        }
    }
}

pub(super) fn own_text(at: &At) -> String {
    at.text().to_owned()
}

/// `validatePoolName`.
pub(super) fn pool_name(at: &At) {
    if !at.need() {
        return;
    }
    at.max_bytes(names::SUBDOMAIN_MAX);
    at.text().split('/').for_each(|part| at.problems(part, names::dns1123_subdomain));
}

pub(super) fn label(at: &At) {
    at.named(names::dns1123_label);
}

/// `validateCIdentifier`, of a part of the text here.
fn identifier(at: &At, text: &str) {
    if text.len() > IDENTIFIER_MAX {
        at.too_long(IDENTIFIER_MAX);
    }
    at.problems(text, names::c_identifier);
}

/// `validateQualifiedName`: an identifier, after a domain if there is a slash. More slashes than one go unchecked.
pub(super) fn qualified(at: &At, name: &str) {
    match name.split('/').collect::<Vec<_>>()[..] {
        [plain] => identifier(at, plain),
        [domain, plain] => {
            match domain {
                "" => at.invalid_value("", "the domain must not be empty"),
                domain => driver_name(at, domain),
            }
            match plain {
                "" => at.invalid_value("", "the name must not be empty"),
                plain => identifier(at, plain),
            }
        }
        _ => {}
    }
}

fn fully_qualified(at: &At) {
    qualified(at, at.text());
    if !at.text().contains('/') {
        at.invalid("a fully qualified name must be a domain and a name separated by a slash");
    }
}

/// `validateUID`.
fn uid(at: &At) {
    let text = at.text();
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bare = match text.len() {
        45 if text.get(..9).is_some_and(|prefix| prefix.eq_ignore_ascii_case("urn:uuid:")) => Ok(&text[9..]),
        45 => Err(format!("invalid urn prefix: {:?}", text.get(..9).unwrap_or_default())),
        38 => {
            let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            inner.ok_or_else(|| "invalid bracketed UUID format".to_owned())
        }
        32 | 36 => Ok(text),
        other => Err(format!("invalid UUID length: {other}")),
    };
    let formed = bare.and_then(|bare| {
        let good = if bare.len() == 36 { names::is_uuid(&bare.to_ascii_lowercase()) } else { is_hex(bare) };
        if good { Ok(()) } else { Err("invalid UUID format".to_owned()) }
    });
    match formed {
        Err(problem) => at.invalid(format!("error validating uid: {problem}")),
        Ok(()) if !names::is_uuid(text) => at.invalid("uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"),
        Ok(()) => {}
    }
}

/// `validateRawExtension`: an object, of limited size where it is new.
fn raw_object(at: &At, is_stored: bool) {
    let value = at.value();
    if value.is_null() {
        at.required("");
    } else if !is_stored && value.to_json().len() > PARAMETERS_BYTES_MAX {
        at.too_long(PARAMETERS_BYTES_MAX);
    } else if value.as_object().is_none() {
        at.invalid_value("<value omitted>", "must be a valid JSON object");
    }
}

/// The names of requests, and of the alternatives of each.
type RequestNames<'v> = Vec<(&'v str, Vec<&'v str>)>;

fn request_names<'v>(devices: &At<'v, '_>) -> RequestNames<'v> {
    let name = |at: &At<'v, '_>| at.get("name").text();
    let requests = devices.get("requests");
    requests
        .items()
        .map(|request| (name(&request), request.get("firstAvailable").items().map(|at| name(&at)).collect()))
        .collect()
}

/// `validateRequestNameRef`.
fn request_reference(at: &At, known: &RequestNames) {
    const DETAIL: &str =
        "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
    let parts: Vec<&str> = at.text().split('/').collect();
    if parts.len() > 2 {
        return at.invalid(DETAIL);
    }
    parts.iter().for_each(|part| at.problems(part, names::dns1123_label));
    // Of requests with one name the last one counts.
    let request = known.iter().rev().find(|(name, _)| *name == parts[0]);
    if !request.is_some_and(|(_, alternatives)| parts.get(1).is_none_or(|part| alternatives.contains(part))) {
        at.invalid(DETAIL);
    }
}

fn request_references(at: &At, known: &RequestNames) {
    set(at, REQUESTS_MAX, |name| request_reference(name, known), own_text);
}

/// `validateSelectorSlice`.
fn selectors(at: &At) {
    list(at, SELECTORS_MAX, |selector| {
        let cel = selector.get("cel");
        if !cel.is_set() {
            return cel.required("");
        }
        cel.get("expression").max_bytes(EXPRESSION_BYTES_MAX);
    });
}

/// `validateDeviceToleration`.
fn toleration(at: &At) {
    at.get("key").named_if_set(names::qualified_name);
    let (operator, value) = (at.get("operator"), at.get("value"));
    match operator.text() {
        "Exists" if !value.is_empty() => value.invalid("must be empty for operator `Exists`"),
        "Exists" => {}
        "Equal" => value.named(names::label_value),
        "" => operator.required(""),
        _ => operator.not_supported(&["Equal", "Exists"]),
    }
    if !at.get("effect").is_empty() {
        at.get("effect").one_of(&TAINT_EFFECTS);
    }
}

pub(super) const TAINT_EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

/// What an exact request and an alternative have in common.
fn request_of_class(at: &At) {
    at.get("deviceClassName").need_named(names::dns1123_subdomain);
    selectors(&at.get("selectors"));
    let (mode, count) = (at.get("allocationMode"), at.get("count"));
    let number = count.int().unwrap_or(0);
    match mode.text() {
        "All" if number != 0 => count.invalid("must not be specified when allocationMode is 'All'"),
        "All" => {}
        "ExactCount" => count.positive(),
        _ => mode.not_supported(&["All", "ExactCount"]),
    }
    at.get("tolerations").items().for_each(|item| toleration(&item));
}

fn request(at: &At) {
    label(&at.get("name"));
    let (exactly, alternatives) = (at.get("exactly"), at.get("firstAvailable"));
    match (exactly.is_set(), !alternatives.is_empty()) {
        (false, false) => at.required("exactly one of `exactly` or `firstAvailable` is required"),
        (true, true) => at.invalid_value(
            Value::Null,
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        ),
        (true, false) => request_of_class(&exactly),
        (false, true) => {
            let check = |alternative: &At| {
                label(&alternative.get("name"));
                request_of_class(alternative);
            };
            set(&alternatives, FIRST_AVAILABLE_MAX, check, |alternative| own_text(&alternative.get("name")));
        }
    }
}

fn constraint(at: &At, known: &RequestNames) {
    request_references(&at.get("requests"), known);
    let (same, different) = (at.get("matchAttribute"), at.get("distinctAttribute"));
    if same.is_set() {
        fully_qualified(&same);
    } else if different.is_set() {
        fully_qualified(&different);
    } else {
        at.required(
            "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set",
        );
    }
}

/// `validateDeviceConfiguration`.
fn configuration(at: &At, is_stored: bool) {
    let opaque = at.get("opaque");
    if !opaque.is_set() {
        return opaque.required("");
    }
    driver(&opaque.get("driver"));
    raw_object(&opaque.get("parameters"), is_stored);
}

fn claim_spec(spec: &At) {
    let devices = spec.get("devices");
    let known = request_names(&devices);
    set(&devices.get("requests"), REQUESTS_MAX, request, |request| own_text(&request.get("name")));
    list(&devices.get("constraints"), CONSTRAINTS_MAX, |item| constraint(item, &known));
    list(&devices.get("config"), CONFIG_MAX, |config| {
        request_references(&config.get("requests"), &known);
        configuration(config, false);
    });
}

pub(super) fn claim(at: &At) {
    claim_spec(&at.get("spec"));
}

/// What is claimed stays as it is, and so does what is claimed by a template.
pub(super) fn spec_stays(at: &At, old: &At) {
    at.get("spec").immutable(&old.get("spec"));
}

pub(super) fn claim_template(at: &At) {
    let spec = at.get("spec");
    common::template_metadata(&spec.get("metadata"));
    claim_spec(&spec.get("spec"));
}

/// Configuration that stays as it is may be larger than a new one.
fn class_spec(spec: &At, old: Option<&At>) {
    selectors(&spec.get("selectors"));
    let config = spec.get("config");
    let is_stored = old.is_some_and(|old| old.get("config").same(&config));
    list(&config, CONFIG_MAX, |item| configuration(item, is_stored));
    let resource = spec.get("extendedResourceName");
    if resource.is_set() && !is_extended(resource.text()) {
        resource.invalid("must be a valid extended resource name");
    }
}

pub(super) fn class(at: &At) {
    class_spec(&at.get("spec"), None);
}

pub(super) fn class_update(at: &At, old: &At) {
    class_spec(&at.get("spec"), Some(&old.get("spec")));
}

/// What names a device that is allocated, as upstream prints it.
fn device_id(at: &At) -> Value {
    let mut id = Value::object();
    for (name, member) in [("Driver", "driver"), ("Pool", "pool"), ("Device", "device"), ("ShareID", "shareID")] {
        id.set(&[name], at.get(member).text());
    }
    id
}

pub(super) fn claim_status(at: &At, old: &At) {
    let (status, before) = (at.get("status"), old.get("status"));
    let (consumers, allocation) = (status.get("reservedFor"), status.get("allocation"));
    let consumer = |consumer: &At| ["resource", "name", "uid"].iter().for_each(|name| _ = consumer.get(name).need());
    set(&consumers, RESERVED_FOR_MAX, consumer, |consumer| own_text(&consumer.get("uid")));
    let results = allocation.get("devices");
    let results = results.get("results");
    let allocated: HashSet<Value> = results.items().map(|result| device_id(&result)).collect();
    set(&status.get("devices"), usize::MAX, |device| device_status(device, &allocated), device_id);
    if !consumers.is_empty() && !allocation.is_set() {
        consumers.forbidden("may not be specified when `allocated` is not set");
    }
    let had = before.get("reservedFor");
    let had: HashSet<&Value> = had.items().map(|consumer| consumer.value()).collect();
    let is_new = |consumer: &At| !had.contains(consumer.value());
    let is_deleted = at.get("metadata").get("deletionTimestamp").is_set();
    if allocation.is_set() && is_deleted && consumers.items().any(|consumer| is_new(&consumer)) {
        consumers
            .forbidden("new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set");
    }
    let was = before.get("allocation");
    if allocation.is_set() && was.is_set() {
        allocation.immutable(&was);
    } else if allocation.is_set() {
        allocation_result(&allocation, &request_names(&at.get("spec").get("devices")));
    }
}

fn allocation_result(at: &At, known: &RequestNames) {
    let devices = at.get("devices");
    list(&devices.get("results"), REQUESTS_MAX, |result| {
        request_reference(&result.get("request"), known);
        driver(&result.get("driver"));
        pool_name(&result.get("pool"));
        label(&result.get("device"));
        binding_conditions(result);
        if result.get("shareID").is_set() {
            uid(&result.get("shareID"));
        }
    });
    list(&devices.get("config"), 2 * CONFIG_MAX, |config| {
        config.get("source").need_one_of(&["FromClaim", "FromClass"]);
        request_references(&config.get("requests"), known);
        configuration(config, false);
    });
    let selector = at.get("nodeSelector");
    if selector.is_set() {
        common::node_selector(&selector);
    }
}

/// `validateDeviceStatus`.
fn device_status(at: &At, allocated: &HashSet<Value>) {
    driver(&at.get("driver"));
    pool_name(&at.get("pool"));
    label(&at.get("device"));
    if at.get("shareID").is_set() {
        uid(&at.get("shareID"));
    }
    let id = device_id(at);
    if !allocated.contains(&id) {
        at.invalid_value(id, "must be an allocated device in the claim");
    }
    let conditions = at.get("conditions");
    if conditions.len() > DEVICE_CONDITIONS_MAX {
        conditions.too_many(DEVICE_CONDITIONS_MAX);
    }
    common::conditions(&conditions);
    if at.get("data").is_set() {
        raw_object(&at.get("data"), false);
    }
    let network = at.get("networkData");
    network.get("interfaceName").max_bytes(INTERFACE_BYTES_MAX);
    network.get("hardwareAddress").max_bytes(HARDWARE_ADDRESS_BYTES_MAX);
    set(&network.get("ips"), IPS_MAX, common::interface_address, own_text);
}

/// `validateDeviceBindingParameters`: two lists, both or none, without a name twice.
pub(super) fn binding_conditions(at: &At) {
    let (wanted, failed) = (at.get("bindingConditions"), at.get("bindingFailureConditions"));
    for conditions in [&wanted, &failed] {
        list(conditions, BINDING_CONDITIONS_MAX, |condition| condition.named(names::qualified_name));
    }
    distinct(&wanted, own_text);
    let mut seen: HashSet<&str> = HashSet::new();
    for condition in failed.items() {
        if !seen.insert(condition.text()) {
            condition.duplicate();
        }
        if wanted.contains(condition.text()) {
            condition.invalid("bindingFailureConditions must not overlap with bindingConditions");
        }
    }
    match (wanted.is_empty(), failed.is_empty()) {
        (true, false) => wanted.invalid("bindingConditions are required to use bindingFailureConditions"),
        (false, true) => failed.invalid("bindingFailureConditions are required to use bindingConditions"),
        _ => {}
    }
}
