//! The syntax of names, keys and labels (apimachinery `pkg/util/validation`, `pkg/api/validate/content`). A check answers
//! with what is wrong, in upstream's words: nothing for a good value.

use crate::status::FieldError;

const LABEL_1123: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_1123: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// The length of a DNS label, of a label's value and of the name part of its key.
pub const LABEL_MAX: usize = 63;
/// The length of a DNS subdomain and of a ConfigMap's keys.
pub const SUBDOMAIN_MAX: usize = 253;
/// The bytes of all annotations of an object, keys and values.
pub const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What is wrong with a value; empty if nothing.
pub type Problems = Vec<String>;

fn regex_problem(problem: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    match examples.as_slice() {
        [] => format!("{problem} (regex used for validation is '{regex}')"),
        _ => format!("{problem} (e.g. {}regex used for validation is '{regex}')", examples.join(" or ")),
    }
}

fn too_long(value: &str, max: usize, unit: &str) -> Option<String> {
    (value.len() > max).then(|| format!("must be no more than {max} {unit}"))
}

/// Not empty, of `inner` bytes, with `edge` bytes at both ends.
fn has_shape(value: &str, edge: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => edge(*first) && edge(*last) && bytes.iter().all(|byte| inner(*byte)),
        _ => false,
    }
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label_shaped(value: &str) -> bool {
    has_shape(value, is_lower_alphanumeric, |byte| is_lower_alphanumeric(byte) || byte == b'-')
}

fn is_subdomain_shaped(value: &str) -> bool {
    value.split('.').all(is_label_shaped)
}

fn is_key_shaped(value: &str) -> bool {
    has_shape(value, |byte| byte.is_ascii_alphanumeric(), |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `IsDNS1123Label`: names of namespaces and containers.
pub fn dns1123_label(value: &str) -> Problems {
    let shape = (!is_label_shaped(value)).then(|| {
        if is_subdomain_shaped(value) {
            return "must not contain dots".into();
        }
        let text = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
        regex_problem(text, LABEL_1123, &["my-name", "123-abc"])
    });
    too_long(value, LABEL_MAX, "characters").into_iter().chain(shape).collect()
}

/// `IsDNS1123Subdomain`: names of most objects.
pub fn dns1123_subdomain(value: &str) -> Problems {
    subdomain(value, "characters")
}

fn subdomain(value: &str, unit: &str) -> Problems {
    let shape = (!is_subdomain_shaped(value)).then(|| {
        let text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        regex_problem(text, SUBDOMAIN_1123, &["example.com"])
    });
    too_long(value, SUBDOMAIN_MAX, unit).into_iter().chain(shape).collect()
}

/// `IsDNS1123SubdomainWithUnderscore`: search domains of a pod's DNS configuration.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Problems {
    let is_part = |part: &str| {
        let rest = part.strip_prefix('_').unwrap_or(part);
        has_shape(rest, is_lower_alphanumeric, |byte| is_lower_alphanumeric(byte) || byte == b'-' || byte == b'_')
    };
    let shape = (!value.split('.').all(is_part)).then(|| {
        let text = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let regex = r"_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
        regex_problem(text, regex, &["example.com"])
    });
    too_long(value, SUBDOMAIN_MAX, "characters").into_iter().chain(shape).collect()
}

/// `IsDNS1035Label`: names of services.
pub fn dns1035_label(value: &str) -> Problems {
    let good = is_label_shaped(value) && value.starts_with(|first: char| first.is_ascii_lowercase());
    let shape = (!good).then(|| {
        let text = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        regex_problem(text, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"])
    });
    too_long(value, LABEL_MAX, "characters").into_iter().chain(shape).collect()
}

/// `IsWildcardDNS1123Subdomain`: hosts of an Ingress.
pub fn wildcard_dns1123_subdomain(value: &str) -> Problems {
    let shape = (!value.strip_prefix("*.").is_some_and(is_subdomain_shaped)).then(|| {
        let text = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        regex_problem(text, &format!(r"\*\.{SUBDOMAIN_1123}"), &["*.example.com"])
    });
    too_long(value, SUBDOMAIN_MAX, "characters").into_iter().chain(shape).collect()
}

/// `IsQualifiedName`: keys of labels and annotations, names of finalizers, resources and conditions.
pub fn qualified_name(value: &str) -> Problems {
    let text = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut problems = Problems::new();
    let name = match value.split('/').collect::<Vec<_>>().as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".into());
            } else {
                problems.extend(subdomain(prefix, "bytes").into_iter().map(|problem| format!("prefix part {problem}")));
            }
            *name
        }
        _ => {
            let text = regex_problem(text, KEY, &examples);
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {text} {tail}")];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".into());
    } else if let Some(problem) = too_long(name, LABEL_MAX, "bytes") {
        problems.push(format!("name part {problem}"));
    }
    if !is_key_shaped(name) {
        problems.push(format!("name part {}", regex_problem(text, KEY, &examples)));
    }
    problems
}

/// `IsValidLabelValue`.
pub fn label_value(value: &str) -> Problems {
    let shape = (!value.is_empty() && !is_key_shaped(value)).then(|| {
        let text = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
        regex_problem(text, &format!("({KEY})?"), &["MyValue", "my_value", "12345"])
    });
    too_long(value, LABEL_MAX, "bytes").into_iter().chain(shape).collect()
}

/// `IsPathSegmentName`: names that are only required to fit into a path (roles, among others).
pub fn path_segment_name(value: &str) -> Problems {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    path_segment_prefix(value)
}

/// `IsPathSegmentPrefix`: the same for a generateName.
pub fn path_segment_prefix(value: &str) -> Problems {
    ["/", "%"].into_iter().filter(|bad| value.contains(bad)).map(|bad| format!("may not contain '{bad}'")).collect()
}

/// `IsValidIP`: an IPv4 or IPv6 address as it is written canonically.
pub fn ip_address(value: &str) -> Problems {
    match value.parse::<std::net::IpAddr>() {
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".into()],
        Ok(address) if address.to_string() != value => vec![format!("must be in canonical form (\"{address}\")")],
        Ok(_) => Vec::new(),
    }
}

/// `IsCIdentifier`.
pub fn c_identifier(value: &str) -> Problems {
    let good = has_shape(value, |_| true, |byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !value.starts_with(|first: char| first.is_ascii_digit());
    let text = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    problem_unless(good, || regex_problem(text, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"]))
}

fn problem_unless(good: bool, problem: impl FnOnce() -> String) -> Problems {
    if good { Problems::new() } else { vec![problem()] }
}

/// `IsInRange`.
pub fn in_range(value: i64, low: i64, high: i64) -> Problems {
    problem_unless((low..=high).contains(&value), || format!("must be between {low} and {high}, inclusive"))
}

/// `IsValidPortNum`.
pub fn port_number(value: i64) -> Problems {
    in_range(value, 1, 65535)
}

/// `IsValidUserID` and `IsValidGroupID`.
pub fn user_or_group_id(value: i64) -> Problems {
    in_range(value, 0, i32::MAX.into())
}

/// `IsValidPortName`: names of container ports, after RFC 6335.
pub fn port_name(value: &str) -> Problems {
    let is_good = |byte: u8| is_lower_alphanumeric(byte) || byte == b'-';
    let mut problems: Problems = too_long(value, 15, "characters").into_iter().collect();
    if value.is_empty() || !value.bytes().all(is_good) {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !value.bytes().any(|byte| byte.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".into());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".into());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".into());
    }
    problems
}

/// `IsValidPercent`.
pub fn percent(value: &str) -> Problems {
    let good = value.strip_suffix('%').is_some_and(|digits| has_shape(digits, |_| true, |byte| byte.is_ascii_digit()));
    let text = "a valid percent string must be a numeric string followed by an ending '%'";
    problem_unless(good, || regex_problem(text, "[0-9]+%", &["1%", "93%"]))
}

/// `IsHTTPHeaderName`.
pub fn http_header_name(value: &str) -> Problems {
    let good = has_shape(value, |_| true, |byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let text = "a valid HTTP header must consist of alphanumeric characters or '-'";
    problem_unless(good, || regex_problem(text, "[-A-Za-z0-9]+", &["X-Header-Name"]))
}

/// `IsEnvVarName`.
pub fn env_var_name(value: &str) -> Problems {
    let good = has_shape(value, |_| true, |byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && !value.starts_with(|first: char| first.is_ascii_digit());
    let text = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
    let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
    let mut problems = problem_unless(good, || regex_problem(text, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples));
    problems.extend(parent_directory(value));
    problems
}

/// `IsRelaxedEnvVarName`: what containers' variables may be called.
pub fn relaxed_env_var_name(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.is_empty() {
        problems.push("environment variable name must be non-empty".into());
    }
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        problems.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='".into(),
        );
    }
    problems
}

/// `IsConfigMapKey`: keys of ConfigMaps and Secrets, which become file names.
pub fn config_map_key(value: &str) -> Problems {
    let good = has_shape(value, |_| true, |byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
    let mut problems: Problems = too_long(value, SUBDOMAIN_MAX, "characters").into_iter().collect();
    if !good {
        problems.push(regex_problem(text, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    problems.extend(parent_directory(value));
    problems
}

fn parent_directory(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ => value.starts_with("..").then(|| "must not start with '..'".into()),
    }
}

/// A generateName as it is checked in place of the name that will come of it: a trailing dash is fine (`maskTrailingDash`).
pub fn masked_prefix(value: &str) -> String {
    match value.strip_suffix('-') {
        // Upstream cuts two bytes off; a multi-byte character there is refused by every check either way.
        Some(rest) if !rest.is_empty() => {
            let cut: String = rest.chars().take(rest.chars().count() - 1).collect();
            cut + "a"
        }
        _ => value.to_owned(),
    }
}

/// Whether this is the text of a UUID, which every UID that the API server makes is.
pub fn is_uuid(value: &str) -> bool {
    value.len() == 36
        && value.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// `ValidateLabels`.
pub fn labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, value) in labels {
        errors.extend(qualified_name(key).into_iter().map(|problem| FieldError::invalid(field, key, problem)));
        errors.extend(label_value(value).into_iter().map(|problem| FieldError::invalid(field, value, problem)));
    }
    errors
}

/// `ValidateAnnotations`: keys are checked without regard to case, values only for their total size.
pub fn annotations<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut size = 0;
    for (key, value) in annotations {
        size += key.len() + value.len();
        let problems = qualified_name(&key.to_lowercase());
        errors.extend(problems.into_iter().map(|problem| FieldError::invalid(field, key, problem)));
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(field, ANNOTATIONS_MAX));
    }
    errors
}
