//! A container's environment (upstream `kubelet_pods.go: makeEnvironmentVariables`, `pkg/kubelet/envvars`).

use std::{collections::BTreeMap, sync::Arc};

use client::kinds::core::v1::{Container, EnvFromSource, EnvVarSource, Pod, Service};
use volumes::{
    ObjectSource,
    downward::{self, PodFacts},
};

use super::{ConfigError, NodeFacts, expand::expand};

/// Variables in the order they were set; later ones of a name win where they are looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Env {
    order: Vec<String>,
    values: BTreeMap<String, String>,
}

impl Env {
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let name = name.into();
        if self.values.insert(name.clone(), value.into()).is_none() {
            self.order.push(name);
        }
    }

    pub fn get(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().filter_map(|name| Some((name.as_str(), self.values.get(name)?.as_str())))
    }
}

/// Everything outside the spec that an environment is made of.
pub struct EnvSources<'a> {
    pub node: &'a NodeFacts,
    pub facts: &'a PodFacts,
    pub objects: &'a dyn ObjectSource,
    /// All services this node knows.
    pub services: &'a [Arc<Service>],
}

pub async fn make(pod: &Pod, container: &Container, sources: &EnvSources<'_>) -> Result<Env, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let links = pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
    let service_env = service_variables(namespace, links, sources.services);
    let mut env = Env::default();
    for source in container.env_from.iter().flatten() {
        add_all(&mut env, namespace, source, sources).await?;
    }
    for variable in container.env.iter().flatten() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(value), _) if !value.is_empty() => {
                let lookup = |name: &str| env.get(name).or_else(|| service_env.get(name).cloned());
                Some(expand(value, lookup))
            }
            (_, Some(from)) => referenced(pod, container, from, sources).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            env.set(&variable.name, value);
        }
    }
    for (name, value) in service_env {
        if env.get(&name).is_none() {
            env.set(name, value);
        }
    }
    Ok(env)
}

async fn add_all(
    env: &mut Env,
    namespace: &str,
    from: &EnvFromSource,
    sources: &EnvSources<'_>,
) -> Result<(), ConfigError> {
    let prefix = from.prefix.as_deref().unwrap_or_default();
    let mut pairs: Vec<(String, String)> = Vec::new();
    if let Some(map) = &from.config_map_ref {
        match sources.objects.get_config_map(namespace, &map.name).await {
            Ok(object) => pairs.extend(object.data.clone().unwrap_or_default()),
            Err(error) if error.is_not_found() && map.optional == Some(true) => {}
            Err(error) => return Err(error.into()),
        }
    } else if let Some(secret) = &from.secret_ref {
        match sources.objects.get_secret(namespace, &secret.name).await {
            Ok(object) => {
                let data = object.data.clone().unwrap_or_default();
                pairs
                    .extend(data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())));
            }
            Err(error) if error.is_not_found() && secret.optional == Some(true) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (key, value) in pairs {
        let name = format!("{prefix}{key}");
        if is_variable_name(&name) {
            env.set(name, value);
        }
    }
    Ok(())
}

/// Printable ASCII without `=` (upstream's relaxed rule); other keys of a source are skipped.
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

/// `None`: an optional reference to nothing; the variable is not set.
async fn referenced(
    pod: &Pod,
    container: &Container,
    from: &EnvVarSource,
    sources: &EnvSources<'_>,
) -> Result<Option<String>, ConfigError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(field) = &from.field_ref {
        return Ok(Some(downward::env_field(pod, &field.field_path, sources.facts)?));
    }
    if let Some(resource) = &from.resource_field_ref {
        let allocatable = &sources.node.allocatable;
        let text = match resource.container_name.as_deref().unwrap_or_default() {
            "" => downward::resource_field(container, resource, allocatable)?,
            _ => downward::resource_field_of_pod(pod, resource, allocatable)?,
        };
        return Ok(Some(text));
    }
    if let Some(key) = &from.config_map_key_ref {
        let value = match sources.objects.get_config_map(namespace, &key.name).await {
            Ok(map) => map.data.as_ref().and_then(|data| data.get(&key.key)).cloned(),
            Err(error) if error.is_not_found() && key.optional == Some(true) => None,
            Err(error) => return Err(error.into()),
        };
        return needed(value, key.optional, ("ConfigMap", namespace, &key.name, &key.key));
    }
    if let Some(key) = &from.secret_key_ref {
        let value = match sources.objects.get_secret(namespace, &key.name).await {
            Ok(secret) => secret.data.as_ref().and_then(|data| data.get(&key.key)).cloned(),
            Err(error) if error.is_not_found() && key.optional == Some(true) => None,
            Err(error) => return Err(error.into()),
        };
        let text = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        return needed(text, key.optional, ("Secret", namespace, &key.name, &key.key));
    }
    Ok(Some(String::new()))
}

fn needed(
    value: Option<String>,
    optional: Option<bool>,
    (kind, namespace, name, key): (&'static str, &str, &str, &str),
) -> Result<Option<String>, ConfigError> {
    match value {
        None if optional != Some(true) => {
            Err(ConfigError::NoKey { kind, namespace: namespace.into(), name: name.into(), key: key.into() })
        }
        value => Ok(value),
    }
}

/// Docker-style variables of the services a pod sees: its namespace's where links are on, and always `kubernetes`.
fn service_variables(namespace: &str, links: bool, services: &[Arc<Service>]) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    // The pod's own namespace comes last, so that its `kubernetes` wins over the cluster's.
    let master = services.iter().filter(|service| {
        service.metadata.namespace.as_deref() == Some("default")
            && service.metadata.name.as_deref() == Some("kubernetes")
    });
    let own = services.iter().filter(|service| links && service.metadata.namespace.as_deref() == Some(namespace));
    for service in master.chain(own) {
        add_service(&mut env, service);
    }
    env
}

fn add_service(env: &mut BTreeMap<String, String>, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let Some(first) = spec.ports.iter().flatten().next() else { return };
    let name = service.metadata.name.as_deref().unwrap_or_default().replace('-', "_").to_uppercase();
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    env.insert(format!("{name}_SERVICE_HOST"), ip.to_owned());
    env.insert(format!("{name}_SERVICE_PORT"), first.port.to_string());
    for port in spec.ports.iter().flatten() {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let port_name = port_name.replace('-', "_").to_uppercase();
            env.insert(format!("{name}_SERVICE_PORT_{port_name}"), port.port.to_string());
        }
    }
    for (at, port) in spec.ports.iter().flatten().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let (lower, number) = (protocol.to_lowercase(), port.port);
        let url = format!("{lower}://{host}:{number}");
        if at == 0 {
            env.insert(format!("{name}_PORT"), url.clone());
        }
        let prefix = format!("{name}_PORT_{number}_{}", protocol.to_uppercase());
        env.insert(prefix.clone(), url);
        env.insert(format!("{prefix}_PROTO"), lower);
        env.insert(format!("{prefix}_PORT"), number.to_string());
        env.insert(format!("{prefix}_ADDR"), ip.to_owned());
    }
}
