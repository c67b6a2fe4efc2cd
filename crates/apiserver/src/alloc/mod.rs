//! ClusterIPs, from the ranges of all ServiceCIDRs, and node ports. Each is reserved by creating a key in the store, so that
//! two API servers can never give the same one away: an IPAddress object for an address (as upstream does since 1.33), a key
//! of its own for a node port.

mod ranges;
pub(crate) mod repair;

use std::{net::Ipv4Addr, sync::Arc};

use api::{
    Resource, Status, Value,
    status::{FieldError, Reason},
};
use bytes::Bytes;
use jiff::Timestamp;

use crate::{
    Server,
    cache::{Object, stored_tree},
    rest::{Change, store_status},
};

/// Reservations made for a write that then failed have to be given back.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    keys: Vec<String>,
}

/// Reservations that a write to an object makes, and those that it makes superfluous.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    taken: Reserved,
    given_up: Reserved,
}

/// What has become of the write that reservations were made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Written,
    Failed,
    /// It may be committed yet: both stays reserved, and what nobody holds in the end [`repair`] frees.
    Unknown,
}

impl Fate {
    pub(crate) fn of(failure: &Status) -> Fate {
        if failure.reason == Reason::Timeout { Fate::Unknown } else { Fate::Failed }
    }
}

/// Where reservations are kept.
const ADDRESSES: &str = "/registry/ipaddresses/";
const PORTS: &str = "/registry/ranges/argosy-nodeports/";

/// The Service that leads to the API servers.
const KUBERNETES: &str = "default/kubernetes";

impl Server {
    /// What must be reserved before a new object is stored.
    pub(crate) async fn before_create(
        self: &Arc<Self>,
        resource: &Resource,
        namespace: &str,
        name: &str,
        object: &mut Value,
        dry_run: bool,
    ) -> Result<Reserved, Status> {
        if !is_service(resource) {
            return Ok(Reserved::default());
        }
        self.allocate(namespace, name, dry_run, None, object).await
    }

    /// What a changed object needs, and no longer needs; [`Server::settle`] ends it.
    pub(crate) async fn before_update(
        self: &Arc<Self>,
        change: &Change<'_>,
        before: &Value,
        object: &mut Value,
    ) -> Result<Exchange, Status> {
        if !is_service(change.resource) || !change.subresource.is_empty() {
            return Ok(Exchange::default());
        }
        let taken = self.allocate(change.namespace, change.name, change.dry_run, Some(before), object).await?;
        let kept = holdings(object);
        let given_up = holdings(before).into_iter().filter(|key| !kept.contains(key) && !change.dry_run).collect();
        Ok(Exchange { taken, given_up: Reserved { keys: given_up } })
    }

    /// Once the write has been made (or not), what the object gave up is free, and not before: until then it holds it.
    pub(crate) async fn settle(&self, exchange: Exchange, fate: Fate) {
        match fate {
            Fate::Written => self.release(exchange.given_up).await,
            Fate::Failed => self.release(exchange.taken).await,
            Fate::Unknown => {}
        }
    }

    /// Gives back what a deleted object held.
    pub(crate) async fn after_delete(self: &Arc<Self>, change: &Change<'_>, gone: &Arc<Object>) {
        if is_service(change.resource) {
            self.release(Reserved { keys: holdings(&gone.tree()) }).await;
        }
    }

    pub(crate) async fn release(&self, reserved: Reserved) {
        for key in reserved.keys {
            let entry = match self.store.get(&key).await {
                Ok(Some(entry)) => entry,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(%error, key, "a reservation could not be given back");
                    continue;
                }
            };
            if let Err(error) = self.store.delete(&key, entry.modified).await {
                tracing::warn!(%error, key, "a reservation could not be given back");
            }
        }
    }

    /// Gives the Service all that it needs, or reserves nothing.
    async fn allocate(
        &self,
        namespace: &str,
        name: &str,
        dry_run: bool,
        before: Option<&Value>,
        object: &mut Value,
    ) -> Result<Reserved, Status> {
        let owner = format!("{namespace}/{name}");
        let mut allocation = Allocation { server: self, owner, name, before, dry_run, reserved: Reserved::default() };
        let done = allocation.fill(object).await;
        match done {
            Ok(()) => Ok(allocation.reserved),
            Err(status) => {
                self.release(allocation.reserved).await;
                Err(status)
            }
        }
    }
}

/// What one write to a Service reserves.
struct Allocation<'a> {
    server: &'a Server,
    /// `NAMESPACE/NAME`
    owner: String,
    name: &'a str,
    /// The Service before the write; what it holds stays its own.
    before: Option<&'a Value>,
    /// Looks only whether something is free.
    dry_run: bool,
    reserved: Reserved,
}

impl Allocation<'_> {
    async fn fill(&mut self, object: &mut Value) -> Result<(), Status> {
        if object.str_at(&["spec", "type"]) == "ExternalName" {
            object.take(&["spec", "internalTrafficPolicy"]);
        } else {
            self.allocate_address(object).await?;
        }
        if has_node_ports(object) {
            self.allocate_ports(object).await?;
        }
        Ok(())
    }

    async fn allocate_address(&mut self, object: &mut Value) -> Result<(), Status> {
        let name = self.name;
        let invalid = |value: &str, detail: &str| {
            Status::invalid("", "Service", name, vec![FieldError::invalid("spec.clusterIPs", [value], detail)])
        };
        let mut wanted = object.str_at(&["spec", "clusterIP"]).to_owned();
        if wanted.is_empty() {
            wanted = object
                .at(&["spec", "clusterIPs"])
                .and_then(Value::as_array)
                .and_then(|all| all.first()?.as_str())
                .unwrap_or_default()
                .to_owned();
        }
        let held = self.before.map(|before| before.str_at(&["spec", "clusterIP"])).unwrap_or_default();
        let address = match wanted.as_str() {
            "None" => "None".to_owned(),
            "" => self.first_free_address().await?,
            text if text == held => text.to_owned(),
            text => {
                let address: Ipv4Addr = text
                    .parse()
                    .map_err(|_| invalid(text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))?;
                let mut ranges = ranges::ready(self.server);
                if !ranges.iter().any(|range| range.contains(address)) {
                    // One may just have been made.
                    self.server.cache.wait_until_current().await?;
                    ranges = ranges::ready(self.server);
                }
                if !ranges.iter().any(|range| range.contains(address)) {
                    let all: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                    let detail = format!(
                        "failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. The range of valid IPs is {}",
                        all.join(",")
                    );
                    return Err(invalid(text, &detail));
                }
                if !self.reserve_own(text).await? {
                    return Err(invalid(
                        text,
                        &format!("failed to allocate IP {text}: provided IP is already allocated"),
                    ));
                }
                text.to_owned()
            }
        };
        object.set(&["spec", "clusterIP"], address.as_str());
        object.set(&["spec", "clusterIPs"], vec![Value::from(address.as_str())]);
        Ok(())
    }

    async fn first_free_address(&mut self) -> Result<String, Status> {
        for range in ranges::ready(self.server) {
            for address in ranges::candidates(range) {
                let text = address.to_string();
                let object = address_object(&text, &self.owner, self.server.clock.now());
                if self.reserve(&address_key(&text), object).await? {
                    return Ok(text);
                }
            }
        }
        Err(Status::internal("failed to allocate a serviceIP: range is full"))
    }

    async fn allocate_ports(&mut self, object: &mut Value) -> Result<(), Status> {
        let name = self.name;
        let held = self.before.map(node_ports).unwrap_or_default();
        let range = self.server.config.service_node_port_range.clone();
        if object.str_at(&["spec", "type"]) == "LoadBalancer"
            && object.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) == Some(false)
        {
            return Ok(());
        }
        let count = object.at(&["spec", "ports"]).and_then(Value::as_array).map_or(0, <[Value]>::len);
        for index in 0..count {
            let Some(port) =
                object.at_mut(&["spec", "ports"]).and_then(Value::as_array_mut).and_then(|ports| ports.get_mut(index))
            else {
                continue;
            };
            let protocol = port.str_at(&["protocol"]).to_owned();
            let wanted = port.get("nodePort").and_then(Value::as_i64).filter(|port| *port != 0);
            let field = format!("spec.ports[{index}].nodePort");
            let invalid = |port: i64, detail: &str| {
                Status::invalid("", "Service", name, vec![FieldError::invalid(field.clone(), port, detail)])
            };
            let number = match wanted {
                Some(number) if held.contains(&(number, protocol.clone())) => number,
                Some(number) => {
                    if !u16::try_from(number).is_ok_and(|port| range.contains(&port)) {
                        return Err(invalid(
                            number,
                            &format!(
                                "provided port is not in the valid range. The range of valid ports is {}-{}",
                                range.start(),
                                range.end()
                            ),
                        ));
                    }
                    if !self.reserve(&port_key(number, &protocol), self.owner.clone()).await? {
                        return Err(invalid(number, "provided port is already allocated"));
                    }
                    number
                }
                None => self.first_free_port(&protocol).await?,
            };
            port.set(&["nodePort"], number);
        }
        Ok(())
    }

    async fn first_free_port(&mut self, protocol: &str) -> Result<i64, Status> {
        let range = &self.server.config.service_node_port_range;
        let size = u32::from(range.end() - range.start()) + 1;
        let start = rand::random_range(0..size);
        for offset in 0..size {
            let number = i64::from(u32::from(*range.start()) + (start + offset) % size);
            if self.reserve(&port_key(number, protocol), self.owner.clone()).await? {
                return Ok(number);
            }
        }
        Err(Status::internal("failed to allocate a nodePort: range is full"))
    }

    /// The address that somebody chose. That of the API servers' own Service is reserved once for all of them, whoever of
    /// them came first or was killed before the Service was there: nobody gives that reservation back.
    async fn reserve_own(&mut self, address: &str) -> Result<bool, Status> {
        let (key, value) = (address_key(address), address_object(address, &self.owner, self.server.clock.now()));
        let is_shared = self.owner == KUBERNETES;
        let is_free = self.reserve(&key, value).await?;
        if is_shared {
            self.reserved.keys.retain(|reserved| *reserved != key);
        }
        if is_free || !is_shared {
            return Ok(is_free);
        }
        let holder = self.server.store.get(&key).await.map_err(store_status)?;
        Ok(holder.and_then(|entry| stored_tree(&entry.value).ok()).is_some_and(|object| {
            let parent = |field: &'static str| object.str_at(&["spec", "parentRef", field]).to_owned();
            parent("resource") == "services" && format!("{}/{}", parent("namespace"), parent("name")) == KUBERNETES
        }))
    }

    /// Whether `key` was free and is now ours.
    async fn reserve(&mut self, key: &str, value: String) -> Result<bool, Status> {
        if self.dry_run {
            return self.server.store.get(key).await.map(|entry| entry.is_none()).map_err(store_status);
        }
        match self.server.store.create(key, Bytes::from(value), None).await {
            Ok(_) => {
                self.reserved.keys.push(key.to_owned());
                Ok(true)
            }
            Err(store::Error::Exists { .. }) => Ok(false),
            Err(error) => Err(store_status(error)),
        }
    }
}

fn is_service(resource: &Resource) -> bool {
    resource.group.is_empty() && &*resource.plural == "services"
}

fn address_key(address: &str) -> String {
    format!("{ADDRESSES}{address}")
}

fn port_key(port: i64, protocol: &str) -> String {
    format!("{PORTS}{protocol}-{port}")
}

/// The IPAddress object that stands for a reserved address.
fn address_object(address: &str, owner: &str, now: Timestamp) -> String {
    let (namespace, name) = owner.split_once('/').unwrap_or(("", owner));
    serde_json::json!({
        "kind": "IPAddress",
        "apiVersion": "networking.k8s.io/v1",
        "metadata": {
            "name": address,
            "uid": crate::strategy::new_uid(),
            "creationTimestamp": api::time::format(now),
            "labels": {"ipaddress.kubernetes.io/ip-family": "IPv4", "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"},
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    })
    .to_string()
}

/// An ExternalName may say some, which mean nothing.
fn has_node_ports(service: &Value) -> bool {
    matches!(service.str_at(&["spec", "type"]), "NodePort" | "LoadBalancer")
}

fn node_ports(service: &Value) -> Vec<(i64, String)> {
    let ports = service
        .at(&["spec", "ports"])
        .filter(|_| has_node_ports(service))
        .and_then(Value::as_array)
        .unwrap_or_default();
    ports
        .iter()
        .filter_map(|port| Some((port.get("nodePort")?.as_i64()?, port.str_at(&["protocol"]).to_owned())))
        .collect()
}

/// The keys of everything that a service has reserved.
fn holdings(service: &Value) -> Vec<String> {
    let mut keys: Vec<String> =
        node_ports(service).into_iter().map(|(port, protocol)| port_key(port, &protocol)).collect();
    let address = service.str_at(&["spec", "clusterIP"]);
    if !address.is_empty() && address != "None" {
        keys.push(address_key(address));
    }
    keys
}
