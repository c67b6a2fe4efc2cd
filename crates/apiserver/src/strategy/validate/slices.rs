//! What drivers publish about devices, and taints on devices (`pkg/apis/resource/validation`).

use api::{Value, names, quantity::Quantity};

use super::{
    at::At,
    common,
    devices::{TAINT_EFFECTS, binding_conditions, label, list, own_text, pool_name, qualified, set},
    pod::volume::csi_driver as driver,
    resources::is_native,
};

const DEVICES_MAX: usize = 128;
/// Devices whose taints, counters or lists of attributes make them larger.
const ADVANCED_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;
const CONSUMPTIONS_MAX: usize = 2;
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_VALUES_MAX: usize = 48;
const ATTRIBUTE_BYTES_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const OPTIONS_MAX: usize = 10;
const RULE_CONDITIONS_MAX: usize = 8;
/// A domain, a slash and an identifier.
const KEY_MAX: usize = 63 + 1 + 32;

const ATTRIBUTE_LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];

pub(super) fn slice(at: &At) {
    slice_spec(&at.get("spec"), None);
}

pub(super) fn slice_update(at: &At, old: &At) {
    slice_spec(&at.get("spec"), Some(&old.get("spec")));
}

fn slice_spec(spec: &At, old: Option<&At>) {
    driver(&spec.get("driver"));
    let pool = spec.get("pool");
    pool_name(&pool.get("name"));
    pool.get("resourceSliceCount").positive();
    if pool.get("generation").int().is_some_and(|number| number < 0) {
        pool.get("generation").invalid("must be greater than or equal to zero");
    }
    if let Some(old) = old {
        pool.get("name").immutable(&old.get("pool").get("name"));
        spec.get("driver").immutable(&old.get("driver"));
        spec.get("nodeName").immutable(&old.get("nodeName"));
    }
    slice_nodes(spec);
    let (devices, counters) = (spec.get("devices"), spec.get("sharedCounters"));
    if devices.is_set() && counters.is_set() {
        spec.invalid_value("", "only one of `sharedCounters` or `devices` is allowed");
    }
    let max = if devices.items().any(|device| is_advanced(&device)) { ADVANCED_DEVICES_MAX } else { DEVICES_MAX };
    let per_device = spec.get("perDeviceNodeSelection").is_true();
    let before = old.map(|old| old.get("devices"));
    let before = before.as_ref().map(|list| list.by("name")).unwrap_or_default();
    let check = |item: &At| device(item, before.get(item.get("name").text()), per_device);
    set(&devices, max, check, |device| own_text(&device.get("name")));
    set(&counters, COUNTER_SETS_MAX, counter_set, |counters| own_text(&counters.get("name")));
}

fn is_advanced(device: &At) -> bool {
    !device.get("taints").is_empty()
        || !device.get("consumesCounters").is_empty()
        || device.get("attributes").entries().any(|(_, at)| ATTRIBUTE_LISTS.iter().any(|name| at.get(name).is_set()))
}

/// Which of the ways to say where devices are is taken; the flags among them are true or not there.
fn node_choices<'n>(at: &At, flags: &[&'n str], when_empty: &str) -> Vec<&'n str> {
    let mut chosen = Vec::new();
    let name = at.get("nodeName");
    if name.is_set() {
        if name.is_empty() {
            name.invalid(when_empty);
        } else {
            chosen.push("`nodeName`");
            name.named(names::dns1123_subdomain);
        }
    }
    let selector = at.get("nodeSelector");
    if selector.is_set() {
        chosen.push("`nodeSelector`");
        common::node_selector(&selector);
    }
    for flag in flags {
        let place = at.get(flag.trim_matches('`'));
        if place.is_true() {
            chosen.push(flag);
        } else if place.is_set() {
            place.invalid("must be either unset or set to true");
        }
    }
    chosen
}

fn slice_nodes(spec: &At) {
    const DETAIL: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    let flags = ["`allNodes`", "`perDeviceNodeSelection`"];
    let chosen = node_choices(spec, &flags, "must be either unset or set to a non-empty string");
    let terms = spec.get("nodeSelector");
    let terms = terms.get("nodeSelectorTerms");
    if spec.get("nodeSelector").is_set() && terms.len() != 1 {
        terms.invalid("must have exactly one node selector term");
    }
    match chosen.len() {
        0 => spec.required(DETAIL),
        1 => {}
        _ => {
            spec.invalid_value(format!("{{{}}}", chosen.join(", ")), format!("{DETAIL}, but multiple fields are set"));
        }
    }
}

fn device_nodes(at: &At, per_device: bool) {
    const DETAIL: &str = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec";
    if !per_device {
        if ["nodeName", "nodeSelector", "allNodes"].iter().any(|name| at.get(name).is_set()) {
            at.invalid_value(Value::Null, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec");
        }
        return;
    }
    let chosen = node_choices(at, &["`allNodes`"], "must not be empty");
    match chosen.len() {
        0 => at.required(DETAIL),
        1 => {}
        _ => at.invalid_value(format!("{{{}}}", chosen.join(", ")), DETAIL),
    }
}

/// `validateMap`: what is wrong with a key stands at the map, and long keys are cut where they are part of a path.
fn map(at: &At, key_max: usize, key: impl Fn(&At, &str), check: impl Fn(&At)) {
    for (name, item) in at.entries() {
        key(at, name);
        let short = shortened(name, key_max);
        let place = at.key(&short);
        check(&place.holding(&item));
    }
}

fn shortened(key: &str, max: usize) -> String {
    if key.len() <= max {
        return key.to_owned();
    }
    let rest = max - "...".len();
    let bytes = key.as_bytes();
    let part = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
    format!("{}...{}", part(&bytes[..rest.div_ceil(2)]), part(&bytes[bytes.len() - rest / 2..]))
}

/// `validateCounterSet` and `validateDeviceCounterConsumption`.
fn counters(at: &At, name: &str) {
    at.get(name).need_named(names::dns1123_label);
    let counters = at.get("counters");
    if !counters.need() {
        return;
    }
    if counters.len() > COUNTERS_MAX {
        return counters.too_many(COUNTERS_MAX);
    }
    map(&counters, names::LABEL_MAX, |at, key| at.problems(key, names::dns1123_label), |_| {});
}

fn counter_set(at: &At) {
    counters(at, "name");
}

fn device(at: &At, old: Option<&At>, per_device: bool) {
    label(&at.get("name"));
    let (attributes, capacity, taints) = (at.get("attributes"), at.get("capacity"), at.get("taints"));
    let together = attributes.len() + capacity.len();
    if together > ATTRIBUTES_MAX {
        let detail = format!("the total number of attributes and capacities must not exceed {ATTRIBUTES_MAX}");
        at.invalid_value(together, detail);
    }
    let values: usize = attributes
        .entries()
        .map(|(_, attribute)| ATTRIBUTE_LISTS.iter().map(|name| attribute.get(name).len()).sum::<usize>().max(1))
        .sum();
    if values > ATTRIBUTE_VALUES_MAX {
        at.invalid_value(
            values,
            format!("the total number of attribute values must not exceed {ATTRIBUTE_VALUES_MAX}"),
        );
    }
    map(&attributes, KEY_MAX, qualified, attribute);
    let is_shared = at.get("allowMultipleAllocations").is_true();
    map(&capacity, KEY_MAX, qualified, |item| {
        let policy = item.get("requestPolicy");
        match item.get("value").quantity() {
            _ if !policy.is_set() => {}
            _ if !is_shared => policy.forbidden("allowMultipleAllocations must be true"),
            value => request_policy(&policy, value.unwrap_or(Quantity::ZERO)),
        }
    });
    if !old.is_some_and(|old| old.get("taints").same(&taints)) {
        list(&taints, TAINTS_MAX, |item| taint(item, None));
    }
    let check = |consumption: &At| counters(consumption, "counterSet");
    set(&at.get("consumesCounters"), CONSUMPTIONS_MAX, check, |item| own_text(&item.get("counterSet")));
    device_nodes(at, per_device);
    binding_conditions(at);
    mappings(&at.get("nodeAllocatableResourceMappings"), &capacity);
}

/// `validateNodeAllocatableResourceMappings`.
fn mappings(at: &At, capacity: &At) {
    for (name, mapping) in at.entries() {
        if !is_native(name) {
            mapping.invalid_value(name, "must be a node allocatable resource name");
        }
        let (multiplier, key) = (mapping.get("allocationMultiplier"), mapping.get("capacityKey"));
        if !multiplier.is_set() && !key.is_set() {
            mapping.invalid_value("", "at least one of allocationMultiplier or capacityKey must be set");
        }
        if let Some(quantity) = multiplier.quantity().filter(|quantity| !quantity.is_positive()) {
            multiplier.invalid_value(quantity.to_string(), "must be positive");
        }
        if key.is_set() && key.is_empty() {
            key.invalid("capacityKey must not be an empty string");
        } else if key.is_set() && capacity.value().get(key.text()).is_none() {
            key.not_found();
        }
    }
}

/// `validateDeviceAttribute`: one value, or one list of values.
fn attribute(at: &At) {
    let text = |at: &At| at.max_bytes(ATTRIBUTE_BYTES_MAX);
    text(&at.get("string"));
    if at.get("version").is_set() {
        version(&at.get("version"));
    }
    for name in ATTRIBUTE_LISTS {
        let list = at.get(name);
        if list.is_set() && list.is_empty() {
            list.invalid("must not be empty if specified");
        }
        match name {
            "strings" => list.items().for_each(|item| text(&item)),
            "versions" => list.items().for_each(|item| version(&item)),
            _ => {}
        }
    }
    let kinds = ["bool", "int", "string", "version"].iter().chain(&ATTRIBUTE_LISTS);
    match kinds.filter(|name| at.get(name).is_set()).count() {
        0 => at.invalid_value("", "exactly one value must be specified"),
        1 => {}
        _ => at.invalid("exactly one value must be specified"),
    }
}

fn version(at: &At) {
    if !is_semantic_version(at.text()) {
        at.invalid("must be a string compatible with semver.org spec 2.0.0");
    }
    at.max_bytes(ATTRIBUTE_BYTES_MAX);
}

/// `semverRe`: three numbers, then parts of a prerelease after `-`, then parts of a build after `+`.
fn is_semantic_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, before) = text.split_once('-').map_or((text, None), |(core, before)| (core, Some(before)));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = |part: &str| digits(part) && (part == "0" || !part.starts_with('0'));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    core.split('.').count() == 3
        && core.split('.').all(number)
        && before.is_none_or(|parts| parts.split('.').all(|part| word(part) && (!digits(part) || number(part))))
        && build.is_none_or(|parts| parts.split('.').all(word))
}

/// `validateRequestPolicy`: how much of a capacity may be asked for.
fn request_policy(policy: &At, capacity: Quantity) {
    let (values, range, default) = (policy.get("validValues"), policy.get("validRange"), policy.get("default"));
    match (!values.is_empty(), range.is_set()) {
        (true, true) => policy.forbidden(
            "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time",
        ),
        (true, false) => match default.quantity() {
            None => default.required("required when validValues is defined"),
            Some(default) => valid_values(&values, default, capacity),
        },
        (false, true) => match default.quantity() {
            None => default.required("required when validRange is defined"),
            Some(default) => valid_range(&range, default, capacity),
        },
        (false, false) => {}
    }
}

fn valid_values(values: &At, default: Quantity, capacity: Quantity) {
    let all: Vec<Option<Quantity>> = values.items().map(|value| value.quantity()).collect();
    for (index, pair) in all.windows(2).enumerate() {
        if let [Some(first), Some(second)] = pair
            && first > second
        {
            values.index(index + 1).invalid_value(second.to_string(), "values must be sorted in ascending order");
        }
    }
    let check = |option: &At| {
        if let Some(quantity) = option.quantity().filter(|quantity| *quantity > capacity) {
            option.invalid_value(quantity.to_string(), format!("option is larger than capacity value: {capacity}"));
        }
    };
    let key = |option: &At| option.quantity().map_or(0, Quantity::value).to_string();
    set(values, OPTIONS_MAX, check, key);
    // More options than there may be are not looked into, so the default is not found among them.
    if values.len() > OPTIONS_MAX || !all.contains(&Some(default)) {
        values.invalid_value(default.to_string(), "default value is not valid according to the requestPolicy");
    }
}

fn valid_range(range: &At, default: Quantity, capacity: Quantity) {
    let [min_at, max_at, step_at] = ["min", "max", "step"].map(|name| range.get(name));
    let Some(min) = min_at.quantity() else {
        return min_at.required("required when validRange is defined");
    };
    let refuse = |at: &At, value: Quantity, detail: String| at.invalid_value(value.to_string(), detail);
    if min > capacity {
        refuse(&min_at, min, format!("min is larger than capacity value: {capacity}"));
    }
    if default < min {
        refuse(&min_at, default, format!("default is less than min: {min}"));
    }
    let max = max_at.quantity();
    if let Some(max) = max {
        if min > max {
            refuse(&max_at, min, format!("min is larger than max: {max}"));
        }
        if max > capacity {
            refuse(&max_at, max, format!("max is larger than capacity value: {capacity}"));
        }
        if default > max {
            refuse(&max_at, default, format!("default is more than max: {max}"));
        }
    }
    let Some(step) = step_at.quantity() else { return };
    let added = min + step;
    if added > capacity {
        refuse(&step_at, step, format!("one step {added} is larger than capacity value: {capacity}"));
    }
    for value in [Some(default), max].into_iter().flatten() {
        let distance = value.value().wrapping_sub(min.value());
        if distance.checked_rem(step.value()).is_some_and(|rest| rest != 0) {
            refuse(&step_at, value, format!("value is not a multiple of a given step ({step}) from ({min})"));
        }
    }
}

/// `validateDeviceTaint`: an effect that stays is not looked at again.
fn taint(at: &At, old: Option<&At>) {
    at.get("key").named(names::qualified_name);
    at.get("value").named_if_set(names::label_value);
    let effect = at.get("effect");
    if !old.is_some_and(|old| old.get("effect").same(&effect)) {
        effect.need_one_of(&TAINT_EFFECTS);
    }
}

pub(super) fn taint_rule(at: &At) {
    taint_rule_spec(&at.get("spec"), None);
}

pub(super) fn taint_rule_update(at: &At, old: &At) {
    taint_rule_spec(&at.get("spec"), Some(&old.get("spec").get("taint")));
}

fn taint_rule_spec(spec: &At, old_taint: Option<&At>) {
    let selector = spec.get("deviceSelector");
    for (name, check) in [("driver", driver as fn(&At)), ("pool", pool_name), ("device", label)] {
        if selector.get(name).is_set() {
            check(&selector.get(name));
        }
    }
    taint(&spec.get("taint"), old_taint);
}

pub(super) fn taint_rule_status(at: &At, _old: &At) {
    let status = at.get("status");
    let conditions = status.get("conditions");
    common::conditions(&conditions);
    if conditions.len() > RULE_CONDITIONS_MAX {
        conditions.too_many(RULE_CONDITIONS_MAX);
    }
}
