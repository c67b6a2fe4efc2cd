//! Services (`pkg/registry/core/service/strategy.go`). Addresses and node ports come from `alloc`.

use api::{Resource, Value, names, status::FieldError};

use super::{NameRule, Strategy};

pub struct Services;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

impl Strategy for Services {
    fn fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status", "loadBalancer"], Value::object());
    }

    /// What the client leaves out of an update and what was allocated stays (patchAllocatedValues).
    fn prepare_update(&self, object: &mut Value, old: &Value) {
        let needs_address = |object: &Value| object.str_at(&["spec", "type"]) != "ExternalName";
        if needs_address(object) && needs_address(old) {
            for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if object.at(&["spec", name]).is_none()
                    && let Some(value) = old.at(&["spec", name])
                {
                    object.set(&["spec", name], value.clone());
                }
            }
        }
        keep_node_ports(object, old);
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label1035
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let Some(spec) = object.get("spec") else { return vec![FieldError::required("spec", "")] };
        let mut errors = Vec::new();
        let kind = spec.str_at(&["type"]);
        if !TYPES.contains(&kind) {
            errors.push(FieldError::not_supported("spec.type", kind, &TYPES));
        }
        let ports = spec.get("ports").and_then(Value::as_array).unwrap_or_default();
        let headless = spec.str_at(&["clusterIP"]) == "None";
        if ports.is_empty() && !headless && kind != "ExternalName" {
            errors.push(FieldError::required("spec.ports", ""));
        }
        if kind == "ExternalName" && spec.str_at(&["externalName"]).is_empty() {
            errors.push(FieldError::required("spec.externalName", ""));
        }
        validate_ports(ports, &mut errors);
        let affinities = ["ClientIP", "None"];
        let affinity = spec.str_at(&["sessionAffinity"]);
        if !affinities.contains(&affinity) {
            errors.push(FieldError::not_supported("spec.sessionAffinity", affinity, &affinities));
        }
        let selector: Vec<(&str, &str)> = spec
            .get("selector")
            .and_then(Value::as_object)
            .map(|map| map.iter().map(|(key, value)| (key, value.as_str().unwrap_or_default())).collect())
            .unwrap_or_default();
        errors.extend(names::labels(selector, "spec.selector"));
        errors
    }

    fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let external = |object: &Value| object.str_at(&["spec", "type"]) == "ExternalName";
        let (new, before) = (object.str_at(&["spec", "clusterIP"]), old.str_at(&["spec", "clusterIP"]));
        if !external(object) && !external(old) && !before.is_empty() && new != before {
            return vec![FieldError::invalid("spec.clusterIPs[0]", new, "may not change once set")];
        }
        Vec::new()
    }
}

fn validate_ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        let name = port.str_at(&["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("{field}.name"), ""));
        } else if !name.is_empty() {
            errors.extend(
                names::dns1123_label(name)
                    .into_iter()
                    .map(|problem| FieldError::invalid(format!("{field}.name"), name, problem)),
            );
            if seen.contains(&name) {
                errors.push(FieldError::duplicate(format!("{field}.name"), name));
            }
        }
        seen.push(name);
        let number = port.get("port").and_then(Value::as_i64).unwrap_or(0);
        errors.extend(
            names::port_number(number)
                .into_iter()
                .map(|problem| FieldError::invalid(format!("{field}.port"), number, problem)),
        );
        let protocols = ["SCTP", "TCP", "UDP"];
        let protocol = port.str_at(&["protocol"]);
        if !protocols.contains(&protocol) {
            errors.push(FieldError::not_supported(format!("{field}.protocol"), protocol, &protocols));
        }
    }
}

/// Node ports that the client leaves out stay with their port.
fn keep_node_ports(object: &mut Value, old: &Value) {
    let has_node_ports = matches!(object.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer");
    let before = old.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default().to_vec();
    let Some(ports) = object.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut) else { return };
    for port in ports {
        if !has_node_ports {
            continue;
        }
        let same = before
            .iter()
            .find(|other| other.get("port") == port.get("port") && other.get("protocol") == port.get("protocol"));
        if port.get("nodePort").is_none()
            && let Some(number) = same.and_then(|same| same.get("nodePort"))
        {
            port.set(&["nodePort"], number.clone());
        }
    }
}
