//! Checks of types that recur across groups: selectors, references, addresses, numbers that may be percentages
//! (apimachinery `pkg/apis/meta/v1/validation`, `pkg/util/validation`).

use std::collections::HashSet;

use std::net::IpAddr;

use api::{names, selector::LabelSelector};

use super::at::{At, NameCheck};

/// `ValidateLabels`: errors stand at the map, not at its keys.
pub(super) fn labels(at: &At) {
    for (key, value) in at.entries() {
        at.problems(key, names::qualified_name);
        at.problems(value.text(), names::label_value);
    }
}

/// `ValidateAnnotations`.
pub(super) fn annotations(at: &At) {
    let mut size = 0;
    for (key, value) in at.entries() {
        size += key.len() + value.text().len();
        for problem in names::qualified_name(&key.to_lowercase()) {
            at.invalid_value(key, problem);
        }
    }
    if size > names::ANNOTATIONS_MAX {
        at.too_long(names::ANNOTATIONS_MAX);
    }
}

/// `ValidateLabelSelector`.
pub(super) fn label_selector(at: &At) {
    labels(&at.get("matchLabels"));
    for requirement in at.get("matchExpressions").items() {
        let values = requirement.get("values");
        match requirement.get("operator").text() {
            "In" | "NotIn" => {
                values.need_because("must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            other => requirement.get("operator").invalid_value(other, "not a valid selector operator"),
        }
        requirement.get("key").named(names::qualified_name);
        for value in values.items() {
            value.named(names::label_value);
        }
    }
}

/// Whether a selector that is there selects nothing in particular.
pub(super) fn is_empty_selector(at: &At) -> bool {
    at.get("matchLabels").len() + at.get("matchExpressions").len() == 0
}

/// Whether a LabelSelector (absent selects nothing) meets labels; `None` if it cannot be read.
pub(super) fn selects(selector: &At, labels: &At) -> Option<bool> {
    let selector = LabelSelector::from_value(selector.is_set().then(|| selector.value())).ok()?;
    Some(selector.matches_with(|name| labels.value().get(name).and_then(api::Value::as_str)))
}

/// `ValidateNodeSelectorTerm`; label values of preferences are not checked.
pub(super) fn node_selector_term(term: &At, with_values: bool) {
    for requirement in term.get("matchExpressions").items() {
        let values = requirement.get("values");
        match requirement.get("operator").text() {
            "In" | "NotIn" => {
                values.need_because("must be specified when `operator` is 'In' or 'NotIn'");
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
            }
            "Exists" | "DoesNotExist" => {}
            "Gt" | "Lt" if values.len() != 1 => {
                values.required("must be specified single value when `operator` is 'Lt' or 'Gt'");
            }
            "Gt" | "Lt" => {}
            other => requirement.get("operator").invalid_value(other, "not a valid selector operator"),
        }
        requirement.get("key").named(names::qualified_name);
        for value in values.items().filter(|_| with_values) {
            value.named(names::label_value);
        }
    }
    for requirement in term.get("matchFields").items() {
        let values = requirement.get("values");
        match requirement.get("operator").text() {
            "In" | "NotIn" if values.len() != 1 => {
                values.required("must be only one value when `operator` is 'In' or 'NotIn' for node field selector");
            }
            "In" | "NotIn" => {}
            other => requirement.get("operator").invalid_value(other, "not a valid selector operator"),
        }
        match requirement.get("key").text() {
            "metadata.name" => values.items().for_each(|value| value.named(names::dns1123_subdomain)),
            other => requirement.get("key").invalid_value(other, "not a valid field selector key"),
        }
    }
}

/// `ValidateNodeSelector`.
pub(super) fn node_selector(at: &At) {
    let terms = at.get("nodeSelectorTerms");
    terms.need_because("must have at least one node selector term");
    terms.items().for_each(|term| node_selector_term(&term, true));
}

/// `ValidatePortNumOrName`; absent is port 0.
pub(super) fn port_or_name(at: &At) {
    match at.value().as_str() {
        Some(_) => at.named(names::port_name),
        None => at.port(),
    }
}

/// The number of a percentage.
fn percentage(text: &str) -> Option<i64> {
    if names::percent(text).is_empty() { text.strip_suffix('%')?.parse().ok() } else { None }
}

/// `ValidatePositiveIntOrPercent`.
pub(super) fn int_or_percent(at: &At) {
    match at.value().as_str() {
        Some(_) => at.named(names::percent),
        None => at.non_negative(),
    }
}

/// `IsNotMoreThan100Percent`.
pub(super) fn at_most_all(at: &At) {
    if percentage(at.text()).is_some_and(|value| value > 100) {
        at.invalid("must not be greater than 100%");
    }
}

/// `getIntOrPercentValue`.
pub(super) fn int_or_percent_value(at: &At) -> i64 {
    at.int().or_else(|| percentage(at.text())).unwrap_or(0)
}

/// An address as fields that are older than strict checks take it: octets may have leading zeros, and an IPv4 address may
/// be written as IPv6 (`ParseIPSloppy`).
pub(super) fn sloppy_ip(text: &str) -> Option<IpAddr> {
    match text.parse() {
        Ok(ip) => Some(ip),
        Err(_) => {
            let plain = |octet: &str| {
                let digits = !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| octet.parse().ok()).flatten()
            };
            let octets: Vec<u8> = text.split('.').map(plain).collect::<Option<_>>()?;
            let octets: [u8; 4] = octets.try_into().ok()?;
            Some(octets.into())
        }
    }
}

/// `parseIP`, strict: what a field takes unless the old object has the same value.
pub(super) fn ip(at: &At) {
    let text = at.text();
    match (sloppy_ip(text), text.parse::<IpAddr>()) {
        (None, _) => at.invalid_value(text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
        (Some(_), Err(_)) => at.invalid("must not have leading 0s"),
        (Some(_), Ok(IpAddr::V6(six))) if six.to_ipv4_mapped().is_some() => {
            at.invalid("must not be an IPv4-mapped IPv6 address");
        }
        _ => {}
    }
}

/// Address and length of a CIDR block, taken sloppily.
pub(super) fn sloppy_cidr(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address = sloppy_ip(address)?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|length| digits && *length <= most)?;
    Some((address, length))
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(four) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((four.to_bits() & mask).into())
        }
        IpAddr::V6(six) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((six.to_bits() & mask).into())
        }
    }
}

/// Whether the block at `outer` holds all of `inner` and more.
pub(super) fn is_strict_subset(inner: (IpAddr, u8), outer: (IpAddr, u8)) -> bool {
    inner.0.is_ipv4() == outer.0.is_ipv4() && inner.1 > outer.1 && masked(inner.0, outer.1) == masked(outer.0, outer.1)
}

/// `parseCIDR`, strict.
pub(super) fn cidr(at: &At) {
    cidr_text(at, at.text());
}

pub(super) fn cidr_text(at: &At, text: &str) {
    let Some((address, length)) = sloppy_cidr(text) else {
        at.invalid_value(text, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)");
        return;
    };
    let (written, digits) = text.split_once('/').unwrap_or((text, ""));
    if written.parse::<IpAddr>().is_err() || (digits.len() > 1 && digits.starts_with('0')) {
        at.invalid_value(text, "must not have leading 0s in IP or prefix length");
    } else if matches!(address, IpAddr::V6(six) if six.to_ipv4_mapped().is_some()) {
        at.invalid_value(text, "must not have an IPv4-mapped IPv6 address");
    } else if masked(address, length) != address {
        at.invalid_value(text, "must not have bits set beyond the prefix length");
    }
}

/// An address that is checked unless it stood among `old` ones.
pub(super) fn ip_unless_old(at: &At, old: &At, member: &str) {
    let text =
        |item: &At<'_, '_>| if member.is_empty() { item.text().to_owned() } else { item.get(member).text().to_owned() };
    if !old.items().any(|item| text(&item) == at.text()) {
        ip(at);
    }
}

/// Whether there is one address of each family at most.
pub(super) fn is_dual_stack<'a>(addresses: impl Iterator<Item = &'a str>) -> bool {
    let (mut four, mut six) = (0, 0);
    for address in addresses {
        match sloppy_ip(address.split('/').next().unwrap_or_default()) {
            Some(IpAddr::V4(_)) => four += 1,
            _ => six += 1,
        }
    }
    four <= 1 && six <= 1
}

/// `ValidateEndpointIP`: addresses that no endpoint can have.
pub(super) fn endpoint_ip(at: &At) {
    let Some(ip) = sloppy_ip(at.text()) else {
        at.invalid("must be a valid IP address");
        return;
    };
    if ip.is_unspecified() {
        at.invalid(format!("may not be unspecified ({})", at.text()));
    }
    if ip.is_loopback() {
        at.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    let (unicast, multicast) = match ip {
        IpAddr::V4(four) => (four.is_link_local(), four.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(six) => (six.is_unicast_link_local(), six.octets()[0] == 0xff && six.octets()[1] & 0x0f == 2),
    };
    if unicast {
        at.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        at.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}

/// `IsValidInterfaceAddress`: an address with the length of its network, in the one form that is canonical.
pub(super) fn interface_address(at: &At) {
    let Some((address, length)) = sloppy_cidr(at.text()) else {
        return at.invalid("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)");
    };
    let (address, length) = match address {
        IpAddr::V6(six) => match six.to_ipv4_mapped() {
            Some(four) if length > 32 => (IpAddr::V4(four), length.saturating_sub(96)),
            Some(four) => (IpAddr::V4(four), length),
            None => (address, length),
        },
        IpAddr::V4(_) => (address, length),
    };
    let canonical = format!("{address}/{length}");
    if at.text() != canonical {
        at.invalid(format!("must be in canonical form ({canonical:?})"));
    }
}

/// `ValidateTemplateObjectMeta`: labels and annotations, and nothing else.
pub(super) fn template_metadata(at: &At) {
    annotations(&at.get("annotations"));
    labels(&at.get("labels"));
    for (name, value) in at.entries().filter(|(name, _)| !matches!(*name, "annotations" | "labels")) {
        // As the field is called in Go.
        at.get(if name == "uid" { "uID" } else { name }).holding(&value).forbid("cannot be set");
    }
}

/// Kind and name of an object that is referred to, each obeying `check`, and its group.
pub(super) fn typed_reference(at: &At, check: NameCheck) {
    let group = at.get("apiGroup");
    if group.is_set() {
        group.named(names::dns1123_subdomain);
    }
    at.get("kind").need_named(check);
    at.get("name").need_named(check);
}

/// `path.IsAbs` is refused, and so are steps to the parent (`validateLocalDescendingPath`).
pub(super) fn local_path(at: &At) {
    if at.text().starts_with('/') {
        at.invalid("must be a relative path");
    }
    no_backsteps(at);
}

/// `ValidateLocalNonReservedPath`.
pub(super) fn unreserved_path(at: &At) {
    local_path(at);
    if at.text().starts_with("..") && !at.text().starts_with("../") {
        at.invalid("must not start with '..'");
    }
}

/// `validatePathNoBacksteps`.
pub(super) fn no_backsteps(at: &At) {
    if at.text().split('/').any(|step| step == "..") {
        at.invalid("must not contain '..'");
    }
}

/// `IsFullyQualifiedName`: a domain of three labels or more.
pub(super) fn fully_qualified_name(at: &At) {
    if !at.need() {
        return;
    }
    let problems = names::dns1123_subdomain(at.text());
    if !problems.is_empty() {
        at.invalid(problems.join(","));
    } else if at.text().split('.').count() < 3 {
        at.invalid("should be a domain with at least three segments separated by dots");
    }
}

/// `IsFullyQualifiedDomainName`.
pub(super) fn fully_qualified_domain(at: &At) {
    if !at.need() {
        return;
    }
    let name = at.text().strip_suffix('.').unwrap_or(at.text());
    let problems = names::dns1123_subdomain(name);
    if !problems.is_empty() {
        at.invalid_value(name, problems.join(","));
    } else if !name.contains('.') {
        at.invalid_value(name, "should be a domain with at least two segments separated by dots");
    } else if let Some(label) = name.split('.').find(|label| !names::dns1123_label(label).is_empty()) {
        at.invalid_value(label, names::dns1123_label(label).join(","));
    }
}

/// `IsDomainPrefixedPath`.
pub(super) fn domain_prefixed_path(at: &At) {
    if !at.need() {
        return;
    }
    match at.text().split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            at.problems(host, names::dns1123_subdomain);
            let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
            if !path.bytes().all(is_good) {
                let regex = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
                at.invalid_value(path, format!("Invalid path (regex used for validation is '{regex}')"));
            }
        }
        _ => at.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// `ValidateSignerName`: a domain of two labels or more, a slash and a path.
pub(super) fn signer_name(at: &At) {
    if !at.need() {
        return;
    }
    let segments: Vec<&str> = at.text().split('/').collect();
    let [domain, path] = segments.as_slice() else {
        at.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'");
        return;
    };
    if domain.len() > names::SUBDOMAIN_MAX {
        at.too_long(names::SUBDOMAIN_MAX);
    }
    let first_bad = |text: &str, check: NameCheck| {
        text.split('.').find_map(|label| Some((label.to_owned(), check(label))).filter(|(_, bad)| !bad.is_empty()))
    };
    for (label, problem) in
        first_bad(domain, names::dns1123_label).iter().flat_map(|(label, bad)| bad.iter().map(move |bad| (label, bad)))
    {
        at.invalid_value(domain, format!("validating label {label:?}: {problem}"));
    }
    if !domain.contains('.') {
        at.invalid_value(domain, "should be a domain with at least two segments separated by dots");
    }
    for (label, problem) in first_bad(path, names::dns1123_subdomain)
        .iter()
        .flat_map(|(label, bad)| bad.iter().map(move |bad| (label, bad)))
    {
        at.invalid_value(path, format!("validating label {label:?}: {problem}"));
    }
}

const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 * 1024;

/// `metav1validation.ValidateConditions`.
pub(super) fn conditions(at: &At) {
    let mut seen: HashSet<&str> = HashSet::new();
    for condition in at.items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            kind.duplicate_value(kind.text());
        }
        kind.named(names::qualified_name);
        condition.get("status").one_of(&["False", "True", "Unknown"]);
        let generation = condition.get("observedGeneration");
        if generation.int().is_some_and(|number| number < 0) {
            generation.invalid("must be greater than or equal to zero");
        }
        condition.get("lastTransitionTime").need();
        condition_reason(&condition.get("reason"));
        condition.get("message").max_bytes(MESSAGE_MAX);
    }
}

fn condition_reason(at: &At) {
    if !at.need() {
        return;
    }
    let (text, word) = (at.text(), |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_good = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().last().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || b",:".contains(&byte));
    if !is_good {
        at.invalid("a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')");
    }
    at.max_bytes(REASON_MAX);
}

/// What counts replicas in a status: none is negative, and `parts` are at most `status.replicas`.
pub(super) fn replica_counts(status: &At, parts: &[&str], others: &[&str], ready: &str) {
    let count = |name: &str| status.get(name).int().unwrap_or(0);
    for name in ["replicas"].iter().chain(parts).chain(others) {
        status.get(name).non_negative();
    }
    for name in parts.iter().filter(|name| count(name) > count("replicas")) {
        status.get(name).invalid_value(count(name), "cannot be greater than status.replicas");
    }
    if count("availableReplicas") > count("readyReplicas") {
        let available = count("availableReplicas");
        status.get("availableReplicas").invalid_value(available, format!("cannot be greater than {ready}"));
    }
}

/// `IsDecremented`: a counter only grows, and does not vanish.
pub(super) fn not_decremented(at: &At, old: &At) {
    if old.int().is_some_and(|old| at.int().is_none_or(|new| new < old)) {
        at.invalid_value(at.int().unwrap_or(0), "cannot be decremented");
    }
}
