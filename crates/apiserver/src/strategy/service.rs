//! Services (`pkg/registry/core/service/strategy.go`). Addresses and node ports come from `alloc`.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use api::{Resource, Value};

use super::{NameRule, Strategy};

pub struct Services;

impl Strategy for Services {
    fn fields(&self) -> &'static [&'static str] {
        &["spec.clusterIP", "spec.type"]
    }

    fn prepare_create(&self, object: &mut Value) {
        object.set(&["status", "loadBalancer"], Value::object());
        let (list, address) = (["spec", "clusterIPs"], object.str_at(&["spec", "clusterIP"]).to_owned());
        if object.at(&list).is_none() && !address.is_empty() {
            object.set(&list, vec![Value::from(address)]);
        }
        infer_families(object, None);
    }

    /// What the client leaves out of an update and what was allocated stays (patchAllocatedValues).
    fn prepare_update(&self, object: &mut Value, old: &Value) {
        join_addresses(object, old);
        drop_what_the_type_has_not(object, old);
        if !is_external(object) && !is_external(old) {
            for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if object.at(&["spec", name]).is_none()
                    && let Some(value) = old.at(&["spec", name])
                {
                    object.set(&["spec", name], value.clone());
                }
            }
        }
        keep_node_ports(object, old);
        infer_families(object, Some(old));
    }

    fn counts_generations(&self, _resource: &Resource) -> bool {
        false
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label1035
    }
}

fn is_external(service: &Value) -> bool {
    service.str_at(&["spec", "type"]) == "ExternalName"
}

/// Families and their policy where the client leaves them out (`initIPFamilyFields`). Who finds the endpoints of a Service
/// without address and selector may find some of both families.
fn infer_families(object: &mut Value, old: Option<&Value>) {
    const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
    if is_external(object) {
        return;
    }
    // Who wants one family from now on, and says nothing else, gives up the second one.
    for path in [["spec", "clusterIPs"], ["spec", "ipFamilies"]] {
        let is_same = old.is_some_and(|old| old.at(&path) == object.at(&path));
        if is_same
            && object.str_at(&["spec", "ipFamilyPolicy"]) == "SingleStack"
            && let Some(list) = object.at_mut(&path).and_then(Value::as_array_mut)
        {
            list.truncate(1);
        }
    }
    let is_free = object.str_at(&["spec", "clusterIP"]) == "None"
        && object.at(&["spec", "selector"]).and_then(Value::as_object).is_none_or(|selector| selector.is_empty());
    if object.at(&["spec", "ipFamilyPolicy"]).is_none() {
        object.set(&["spec", "ipFamilyPolicy"], if is_free { "RequireDualStack" } else { "SingleStack" });
    }
    let texts = |object: &Value, name: &str| -> Vec<String> {
        let list = object.at(&["spec", name]).and_then(Value::as_array).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut families = texts(object, "ipFamilies");
    for address in texts(object, "clusterIPs").iter().skip(families.len()) {
        let Ok(address) = address.parse::<IpAddr>() else { break };
        let family = FAMILIES[usize::from(address.is_ipv6())];
        if families.iter().any(|other| other == family) {
            break;
        }
        families.push(family.to_owned());
    }
    if families.is_empty() {
        families.push(FAMILIES[0].to_owned());
    }
    if is_free && object.str_at(&["spec", "ipFamilyPolicy"]) != "SingleStack" && families.len() == 1 {
        families.push(FAMILIES[usize::from(families[0] == FAMILIES[0])].to_owned());
    }
    object.set(&["spec", "ipFamilies"], families.into_iter().map(Value::from).collect::<Vec<_>>());
}

/// The address and the list of addresses say the same: who leaves out or changes one of them means the other, too
/// (`normalizeClusterIPs`).
fn join_addresses(object: &mut Value, old: &Value) {
    let address = |service: &Value| service.str_at(&["spec", "clusterIP"]).to_owned();
    let (new, before) = (address(object), address(old));
    let list = ["spec", "clusterIPs"];
    if new == before {
        if object.at(&list).is_none()
            && let Some(all) = old.at(&list)
        {
            object.set(&list, all.clone());
        }
        return;
    }
    if object.at(&list) != old.at(&list) {
        return;
    }
    if new.is_empty() {
        object.take(&list);
    } else {
        object.set(&list, vec![Value::from(new)]);
    }
}

/// What only the old type had goes with it, unless the client changed it (`dropTypeDependentFields`).
fn drop_what_the_type_has_not(object: &mut Value, old: &Value) {
    let kind = |service: &Value| service.str_at(&["spec", "type"]).to_owned();
    let (new, before) = (kind(object), kind(old));
    if new == before {
        return;
    }
    let has_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    let is_balanced = |kind: &str| kind == "LoadBalancer";
    let has_address = |kind: &str| kind != "ExternalName";
    let mut drop = |had: bool, has: bool, names: &[&str]| {
        for name in names.iter().filter(|_| had && !has) {
            if object.at(&["spec", name]) == old.at(&["spec", name]) {
                object.take(&["spec", name]);
            }
        }
    };
    let addresses = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"];
    drop(has_address(&before), has_address(&new), &addresses);
    drop(has_node_ports(&before), has_node_ports(&new), &["externalTrafficPolicy"]);
    let balancing = ["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"];
    drop(is_balanced(&before), is_balanced(&new), &balancing);
    if has_node_ports(&before) && !has_node_ports(&new) {
        let were: HashSet<Option<&Value>> = ports(old).iter().map(|port| port.get("nodePort")).collect();
        for port in object.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut).into_iter().flatten() {
            if were.contains(&port.get("nodePort")) {
                port.take(&["nodePort"]);
            }
        }
    }
}

/// Node ports that the client leaves out stay with their port.
fn keep_node_ports(object: &mut Value, old: &Value) {
    if !matches!(object.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer") {
        return;
    }
    let key = |port: &Value| (port.get("port").cloned(), port.get("protocol").cloned());
    let mut before = HashMap::new();
    for port in ports(old) {
        before.entry(key(port)).or_insert(port.get("nodePort"));
    }
    for port in object.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut).into_iter().flatten() {
        if port.get("nodePort").is_none()
            && let Some(Some(number)) = before.get(&key(port))
        {
            port.set(&["nodePort"], (*number).clone());
        }
    }
}

fn ports(service: &Value) -> &[Value] {
    service.at(&["spec", "ports"]).and_then(Value::as_array).unwrap_or_default()
}
