//! The records of one Service, and of one Namespace (specification of DNS-based service discovery, 1.1.0).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use client::{
    Kind,
    kinds::{
        core::v1::{Namespace, Service},
        discovery::v1::{Endpoint, EndpointSlice},
    },
};

/// What a name has. Names are in lower case and without a dot at their end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Data {
    Address(IpAddr),
    Alias(Arc<str>),
    Service { port: u16, target: Arc<str> },
    Pointer(Arc<str>),
    Text(Arc<str>),
}

/// Names with their data; a name without data exists all the same.
pub type Records = BTreeMap<String, Vec<Data>>;

/// The name for the reverse lookup of an address.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<String> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

/// `domain` is the cluster's, in lower case.
pub fn of_namespace(namespace: &Namespace, domain: &str) -> Records {
    ["svc", "pod"].into_iter().map(|kind| (format!("{}.{kind}.{domain}", namespace.name()), Vec::new())).collect()
}

/// `slices` are those of the Service.
pub fn of_service(service: &Service, slices: &[Arc<EndpointSlice>], domain: &str) -> Records {
    let mut records = Records::new();
    let Some(spec) = &service.spec else { return records };
    let base: Arc<str> = format!("{}.{}.svc.{domain}", service.name(), service.namespace()).to_lowercase().into();
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref().unwrap_or_default().trim_end_matches('.').to_lowercase();
        if !target.is_empty() {
            records.insert(base.to_string(), vec![Data::Alias(target.into())]);
        }
        return records;
    }
    let cluster_ips: Vec<IpAddr> = match &spec.cluster_ips {
        Some(all) => all.iter().filter_map(|address| address.parse().ok()).collect(),
        None => spec.cluster_ip.iter().filter_map(|address| address.parse().ok()).collect(),
    };
    for address in &cluster_ips {
        add(&mut records, &base, Data::Address(*address));
        add(&mut records, &reverse_name(*address), Data::Pointer(base.clone()));
    }
    let is_headless = spec.cluster_ip.as_deref() == Some("None");
    if is_headless {
        // A headless Service without endpoints has no addresses, and exists.
        records.entry(base.to_string()).or_default();
    } else {
        for port in spec.ports.iter().flatten() {
            let Ok(number) = u16::try_from(port.port) else { continue };
            add_port(&mut records, &base, port.name.as_deref(), port.protocol.as_deref(), number, &base);
        }
    }
    let not_ready_too = spec.publish_not_ready_addresses == Some(true);
    for slice in slices.iter().filter(|slice| slice.address_type != "FQDN") {
        let ready = |endpoint: &&Endpoint| not_ready_too || is_ready(endpoint);
        for endpoint in slice.endpoints.iter().flatten().filter(ready) {
            add_endpoint(&mut records, &base, slice, endpoint, is_headless);
        }
    }
    for data in records.values_mut() {
        data.sort();
        data.dedup();
    }
    records
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// An endpoint has a name of its own: its hostname or its address with dashes.
fn add_endpoint(records: &mut Records, base: &Arc<str>, slice: &EndpointSlice, endpoint: &Endpoint, is_headless: bool) {
    let hostname = endpoint.hostname.as_deref().filter(|hostname| !hostname.is_empty());
    for address in endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok()) {
        let label = match hostname {
            Some(hostname) => hostname.to_lowercase(),
            None => address.to_string().replace(['.', ':'], "-"),
        };
        let name: Arc<str> = format!("{label}.{base}").into();
        add(records, &name, Data::Address(address));
        if !is_headless {
            continue;
        }
        add(records, base, Data::Address(address));
        if hostname.is_some() {
            add(records, &reverse_name(address), Data::Pointer(name.clone()));
        }
        for port in slice.ports.iter().flatten() {
            let Some(number) = port.port.and_then(|port| u16::try_from(port).ok()) else { continue };
            add_port(records, base, port.name.as_deref(), port.protocol.as_deref(), number, &name);
        }
    }
}

/// SRV at the Service's name, and where the port has a name also at `_PORT._PROTOCOL.NAME`.
fn add_port(
    records: &mut Records,
    base: &Arc<str>,
    port: Option<&str>,
    protocol: Option<&str>,
    number: u16,
    target: &Arc<str>,
) {
    let data = Data::Service { port: number, target: target.clone() };
    add(records, base, data.clone());
    if let Some(port) = port.filter(|port| !port.is_empty()) {
        let protocol = protocol.unwrap_or("TCP");
        add(records, &format!("_{port}._{protocol}.{base}").to_lowercase(), data);
    }
}

fn add(records: &mut Records, name: &str, data: Data) {
    match records.get_mut(name) {
        Some(all) => all.push(data),
        None => drop(records.insert(name.to_owned(), vec![data])),
    }
}
