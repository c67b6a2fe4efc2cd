//! Reduces discovery and OpenAPI documents to facts: entries (an operation, a type, a property, a resource) with words that
//! say what is published of them. Words of two documents about the same thing are merged: what both say stands plain, what
//! one alone says is marked with its name.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// By entry.
pub type Digest = BTreeMap<String, BTreeSet<String>>;

/// One digest of two that tell of the same things.
pub fn merge(first: (&str, Digest), second: (&str, Digest)) -> Digest {
    let ((first_name, mut first), (second_name, second)) = (first, second);
    let marked = |name: &str, words: &BTreeSet<String>, others: Option<&BTreeSet<String>>| -> BTreeSet<String> {
        let mark = |word: &String| match others {
            Some(others) if others.contains(word) => word.clone(),
            _ => format!("{name}:{word}"),
        };
        words.iter().map(mark).collect()
    };
    let mut merged: Digest =
        second.iter().map(|(entry, words)| (entry.clone(), marked(second_name, words, first.get(entry)))).collect();
    for (entry, words) in &mut first {
        merged.entry(entry.clone()).or_default().extend(marked(first_name, words, second.get(entry)));
    }
    merged
}

/// Reads the text form: an entry a line, those whose line is indented below the one above them; `$NAME` stands for the words
/// that the line `$NAME WORD...` gave.
pub fn read(text: &str) -> Digest {
    let mut digest = Digest::new();
    let mut forms: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut parent = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.trim_start().split(' ');
        let name = words.next().unwrap_or_default();
        let words: BTreeSet<String> = words
            .flat_map(|word| match forms.get(word) {
                Some(form) => form.iter().cloned().collect(),
                None => vec![word.to_owned()],
            })
            .collect();
        if line.starts_with(' ') {
            digest.insert(format!("{parent} {name}"), words);
        } else if name.starts_with('$') {
            forms.insert(name, words);
        } else {
            parent = name;
            digest.insert(name.to_owned(), words);
        }
    }
    digest
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A value without spaces.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(' ', "_"),
        other => other.to_string().replace(' ', "_"),
    }
}

fn joined<'v>(values: impl Iterator<Item = &'v Value>) -> String {
    values.map(word).collect::<Vec<_>>().join(",")
}

/// `io.k8s.api.core.v1.Pod` as `core.v1.Pod`.
fn short(name: &str) -> &str {
    let known = ["io.k8s.api.", "io.k8s.apimachinery.pkg.apis.", "io.k8s.apimachinery.pkg.", "io.k8s."];
    known.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

fn group_version_kind(value: &Value) -> String {
    let part = |name: &str| value[name].as_str().unwrap_or_default();
    format!("kind={}/{}/{}", part("group"), part("version"), part("kind"))
}

/// Texts are long; what they are is told by a checksum.
fn checksum(text: &str) -> String {
    let mut sum = flate2::Crc::new();
    sum.update(text.as_bytes());
    format!("{:08x}", sum.sum())
}

/// The operations of documents of either version.
pub fn operations(documents: &[Value]) -> Digest {
    let mut digest = Digest::new();
    for document in documents {
        for (path, item) in members(&document["paths"]) {
            digest.entry(path.clone()).or_default();
            for (method, operation) in members(item).filter(|(method, _)| *method != "parameters") {
                let mut words = BTreeSet::new();
                for parameter in items(&item["parameters"]).chain(items(&operation["parameters"])) {
                    words.insert(parameter_word(document, parameter));
                }
                for (name, value) in members(operation) {
                    operation_words(name, value, &mut words);
                }
                digest.insert(format!("{path} {method}"), words);
            }
        }
    }
    digest
}

fn parameter_word(document: &Value, parameter: &Value) -> String {
    let parameter = match parameter["$ref"].as_str() {
        Some(reference) => &document["parameters"][reference.rsplit('/').next().unwrap_or_default()],
        None => parameter,
    };
    let required = if parameter["required"] == true { "!" } else { "" };
    let text = |name: &str| parameter[name].as_str().unwrap_or_default();
    if text("in") == "body" {
        return format!("body{required}={}", shape(&parameter["schema"]));
    }
    // Version 2 has the schema of a parameter beside its name.
    let schema = parameter.get("schema").unwrap_or(parameter);
    let unique = if schema["uniqueItems"] == true { "*" } else { "" };
    format!("{}:{}{required}:{}{unique}", text("in"), text("name"), schema["type"].as_str().unwrap_or_default())
}

/// Any media type is none in particular.
fn media(of: &str, name: &str) -> Option<String> {
    (name != "*/*").then(|| format!("{of}={name}"))
}

fn operation_words(name: &str, value: &Value, words: &mut BTreeSet<String>) {
    match name {
        "parameters" | "description" => {}
        "operationId" => drop(words.insert(format!("id={}", word(value)))),
        "tags" | "schemes" => words.extend(items(value).map(|item| format!("{name}={}", word(item)))),
        "x-kubernetes-action" => drop(words.insert(format!("action={}", word(value)))),
        "x-kubernetes-group-version-kind" => drop(words.insert(group_version_kind(value))),
        "consumes" | "produces" => words.extend(items(value).filter_map(|item| media(name, &word(item)))),
        "requestBody" => {
            words.extend(members(&value["content"]).filter_map(|(name, _)| media("consumes", name)));
            let required = if value["required"] == true { "!" } else { "" };
            words.extend(
                members(&value["content"]).map(|(_, content)| format!("body{required}={}", shape(&content["schema"]))),
            );
        }
        "responses" => {
            let mut codes: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (code, response) in members(value) {
                words.extend(members(&response["content"]).filter_map(|(name, _)| media("produces", name)));
                let schemas = members(&response["content"]).map(|(_, content)| &content["schema"]);
                let schemas: BTreeSet<String> = schemas.chain(response.get("schema")).map(shape).collect();
                codes.entry(schemas.into_iter().collect::<Vec<_>>().join("|")).or_default().push(code);
            }
            words.extend(codes.iter().map(|(schema, codes)| format!("{}={schema}", codes.join(","))));
        }
        _ => drop(words.insert(format!("{name}={}", word(value)))),
    }
}

/// The types of documents of either version. Those that several documents have are to say the same, except that a few name
/// the kinds of their own group version alone.
pub fn definitions(documents: &[Value]) -> Digest {
    let mut digest = Digest::new();
    for document in documents {
        let schemas = document.get("definitions").unwrap_or(&document["components"]["schemas"]);
        for (name, schema) in members(schemas) {
            let words = digest.entry(short(name).to_owned()).or_default();
            words.extend(schema_words(schema));
            let required: BTreeSet<&str> = items(&schema["required"]).filter_map(Value::as_str).collect();
            for (field, property) in members(&schema["properties"]) {
                let words = digest.entry(format!("{} {field}", short(name))).or_default();
                words.insert(shape(property));
                words.extend(schema_words(property));
                if required.contains(field.as_str()) {
                    words.insert("!".into());
                }
            }
        }
    }
    digest
}

/// What a schema says beside its shape.
fn schema_words(schema: &Value) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for (name, value) in members(schema) {
        match name.as_str() {
            "type"
            | "format"
            | "$ref"
            | "allOf"
            | "oneOf"
            | "items"
            | "additionalProperties"
            | "properties"
            | "required" => {}
            "description" => drop(words.insert(format!("t={}", checksum(&word(value))))),
            "x-kubernetes-group-version-kind" => words.extend(items(value).map(group_version_kind)),
            _ => drop(words.insert(format!("{}={}", name.trim_start_matches("x-kubernetes-"), word(value)))),
        }
    }
    words
}

/// `[]core.v1.Container`, `{}string`, `string:date-time`, `either(integer,string)`; with what is said of items in brackets.
fn shape(schema: &Value) -> String {
    let inner = |schema: &Value| {
        let words: Vec<String> = schema_words(schema).into_iter().collect();
        if words.is_empty() { shape(schema) } else { format!("{}({})", shape(schema), words.join(",")) }
    };
    // Version 3 wraps a reference that has something beside it.
    let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    if let Some(reference) = reference {
        return short(reference.rsplit('/').next().unwrap_or_default()).to_owned();
    }
    if let Some(choices) = schema.get("oneOf") {
        return format!("either({})", items(choices).map(shape).collect::<Vec<_>>().join(","));
    }
    let format = schema["format"].as_str().map(|format| format!(":{format}")).unwrap_or_default();
    match schema["type"].as_str().unwrap_or("any") {
        "array" => format!("[]{}", inner(&schema["items"])),
        "object" if schema.get("additionalProperties").is_some() => {
            format!("{{}}{}", inner(&schema["additionalProperties"]))
        }
        other => format!("{other}{format}"),
    }
}

/// What every document has around its paths and types.
pub fn envelope(documents: &[(String, Value)]) -> Digest {
    let mut digest = Digest::new();
    for (name, document) in documents {
        let Some(object) = document.as_object() else { continue };
        let mut rest: Map<String, Value> = object.clone();
        rest.retain(|name, _| !matches!(name.as_str(), "paths" | "definitions" | "parameters"));
        if let Some(components) = rest.get_mut("components").and_then(Value::as_object_mut) {
            components.remove("schemas");
        }
        let schemas = document.get("definitions").unwrap_or(&document["components"]["schemas"]);
        let names: Vec<&str> = members(schemas).map(|(name, _)| name.as_str()).collect();
        let mut words: BTreeSet<String> = rest.iter().map(|(name, value)| format!("{name}={}", word(value))).collect();
        words.insert(format!("types={}:{}", names.len(), checksum(&names.join(" "))));
        words.insert(format!("paths={}", members(&document["paths"]).count()));
        digest.insert(name.clone(), words);
    }
    digest
}

/// The members that are neither lists nor named in `without`.
fn plain(value: &Value, without: &[&str]) -> BTreeSet<String> {
    let told = members(value).filter(|(name, value)| !value.is_array() && !without.contains(&name.as_str()));
    told.map(|(name, value)| format!("{name}={}", word(value))).collect()
}

/// Discovery of old: documents by path.
pub fn classic(documents: &[(String, Value)]) -> Digest {
    let mut digest = Digest::new();
    for (path, document) in documents {
        let mut words = plain(document, &[]);
        for list in ["versions", "groups"] {
            let names = |item: &Value| item.get("name").or_else(|| item.get("groupVersion")).unwrap_or(item).clone();
            let names: Vec<Value> = items(&document[list]).map(names).collect();
            if !names.is_empty() {
                words.insert(format!("{list}={}", joined(names.iter())));
            }
        }
        digest.insert(path.clone(), words);
        for resource in items(&document["resources"]) {
            let mut words = plain(resource, &["name", "singularName", "namespaced", "kind", "group", "version"]);
            words.insert(group_version_kind(resource));
            words.insert(format!("singular={}", word(&resource["singularName"])));
            words.insert(if resource["namespaced"] == true { "Namespaced" } else { "Cluster" }.into());
            lists(resource, &mut words);
            digest.insert(format!("{path} {}", word(&resource["name"])), words);
        }
    }
    digest
}

fn lists(resource: &Value, words: &mut BTreeSet<String>) {
    for list in ["verbs", "shortNames", "categories"] {
        if resource.get(list).is_some() {
            words.insert(format!("{list}={}", joined(items(&resource[list]))));
        }
    }
}

/// Aggregated discovery, in the same terms.
pub fn aggregated(document: &Value) -> Digest {
    let mut digest = Digest::new();
    let mut order = Vec::new();
    for group in items(&document["items"]) {
        let name = group["metadata"]["name"].as_str().unwrap_or_default();
        order.push(name);
        for version in items(&group["versions"]) {
            let base = if name.is_empty() { "/api".to_owned() } else { format!("/apis/{name}") };
            let path = format!("{base}/{}", word(&version["version"]));
            let mut words = plain(version, &["version"]);
            words.insert(format!("metadata={}", group["metadata"]));
            words.insert(format!("resources={}", joined(items(&version["resources"]).map(|one| &one["resource"]))));
            digest.insert(path.clone(), words);
            for resource in items(&version["resources"]) {
                let mut words = plain(resource, &["resource", "singularResource", "scope", "responseKind"]);
                words.insert(group_version_kind(&resource["responseKind"]));
                words.insert(format!("singular={}", word(&resource["singularResource"])));
                words.insert(word(&resource["scope"]));
                lists(resource, &mut words);
                let plural = word(&resource["resource"]);
                digest.insert(format!("{path} {plural}"), words);
                for sub in items(&resource["subresources"]) {
                    let mut words = plain(sub, &["subresource", "responseKind"]);
                    words.insert(group_version_kind(&sub["responseKind"]));
                    words.insert("singular=".into());
                    words.insert(word(&resource["scope"]));
                    lists(sub, &mut words);
                    digest.insert(format!("{path} {plural}/{}", word(&sub["subresource"])), words);
                }
            }
        }
    }
    digest.insert("/apis".into(), [format!("groups={}", order.join(","))].into());
    digest
}
