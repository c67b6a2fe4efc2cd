//! The content of our table as data: sets and maps, their elements, chains. Persistent maps, so that a copy costs nothing
//! and two states that share most of their content are compared by what they do not share.

use std::{fmt, net::IpAddr, sync::Arc};

use imbl::OrdMap;

use crate::Protocol;

pub type Name = Arc<str>;

/// The sets and maps that every table has. Sets that exist for one endpoint are in [`Ruleset::sets`] alone: the kernel
/// fills them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Container {
    ClusterIps,
    FirewallIps,
    HairpinConnections,
    NoEndpointNodePorts,
    NoEndpointServices,
    ServiceIps,
    ServiceNodePorts,
}

impl Container {
    pub const ALL: [Container; 7] = [
        Container::ClusterIps,
        Container::FirewallIps,
        Container::HairpinConnections,
        Container::NoEndpointNodePorts,
        Container::NoEndpointServices,
        Container::ServiceIps,
        Container::ServiceNodePorts,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Container::ClusterIps => "cluster-ips",
            Container::FirewallIps => "firewall-ips",
            Container::HairpinConnections => "hairpin-connections",
            Container::NoEndpointNodePorts => "no-endpoint-nodeports",
            Container::NoEndpointServices => "no-endpoint-services",
            Container::ServiceIps => "service-ips",
            Container::ServiceNodePorts => "service-nodeports",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    Address(IpAddr),
    Destination(IpAddr, Protocol, u16),
    NodePort(Protocol, u16),
    /// From an endpoint to itself.
    Hairpin(IpAddr, Protocol, u16),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Address(address) => write!(f, "{address}"),
            Key::Destination(address, protocol, port) => write!(f, "{address} . {protocol} . {port}"),
            Key::NodePort(protocol, port) => write!(f, "{protocol} . {port}"),
            Key::Hairpin(address, protocol, port) => write!(f, "{address} . {address} . {protocol} . {port}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Goto(Name),
    Drop,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Goto(chain) => write!(f, "goto {chain}"),
            Verdict::Drop => f.write_str("drop"),
        }
    }
}

/// A set or map without its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    pub is_map: bool,
    /// `type ipv4_addr;` and what else nft wants between the braces.
    pub body: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it: `type nat hook output priority -100; policy accept;`. `None`: nowhere, it is jumped to.
    pub hook: Option<&'static str>,
    pub rules: Vec<String>,
}

/// Everything in the table. Displayed as nft would list it, in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    pub sets: OrdMap<Name, Arc<SetSpec>>,
    /// A set's element has no verdict.
    pub elements: OrdMap<(Container, Key), Option<Verdict>>,
    pub chains: OrdMap<Name, Arc<Chain>>,
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, spec) in &self.sets {
            writeln!(f, "{} {name} {{ {} }}", if spec.is_map { "map" } else { "set" }, spec.body)?;
        }
        for ((container, key), verdict) in &self.elements {
            write!(f, "element {} {{ {key}", container.name())?;
            if let Some(verdict) = verdict {
                write!(f, " : {verdict}")?;
            }
            writeln!(f, " }}")?;
        }
        for (name, chain) in &self.chains {
            writeln!(f, "chain {name} {{")?;
            if let Some(hook) = chain.hook {
                writeln!(f, "  {hook}")?;
            }
            for rule in &chain.rules {
                writeln!(f, "  {rule}")?;
            }
            writeln!(f, "}}")?;
        }
        Ok(())
    }
}
