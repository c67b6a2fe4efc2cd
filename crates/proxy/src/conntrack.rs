//! UDP flows that conntrack still sends to endpoints that are gone (upstream `pkg/proxy/conntrack/cleanup.go`). TCP needs
//! none of this: a new connection is a new flow.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::{IpAddr, SocketAddr},
};

use async_trait::async_trait;

use crate::{Endpoint, Family, ServicePort, nft::feed};

#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    #[error("cannot run {program}")]
    Run {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("conntrack failed: {message}")]
    Failed { message: String },
}

/// A UDP flow as conntrack has it: the first packet's addresses, and where answers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub reply_source: SocketAddr,
}

/// One way to a UDP port of a Service, and who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpFrontend {
    /// `None`: any address, a NodePort.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub serving: BTreeSet<SocketAddr>,
}

impl UdpFrontend {
    /// Traffic policies and hints do not matter here: a flow that runs to a serving endpoint may go on.
    pub(crate) fn all_of(port: &ServicePort, endpoints: &[Endpoint]) -> Vec<UdpFrontend> {
        let serving = endpoints.iter().filter(|endpoint| endpoint.serving);
        let serving: BTreeSet<_> = serving.map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port)).collect();
        let addresses = port.external_ips.iter().chain(&port.load_balancer_ips).chain([&port.cluster_ip]);
        let by_address = addresses.map(|address| (Some(*address), port.port));
        let all = by_address.chain(port.node_port.map(|node_port| (None, node_port)));
        all.map(|(address, port)| UdpFrontend { address, port, serving: serving.clone() }).collect()
    }
}

/// The flows to a frontend that do not end at one who serves it. A frontend without endpoints keeps its flows, as
/// upstream's does: nobody could serve them better.
pub fn stale_flows<'a>(flows: Vec<Flow>, frontends: impl IntoIterator<Item = &'a UdpFrontend>) -> Vec<Flow> {
    let frontends = frontends.into_iter().filter(|frontend| !frontend.serving.is_empty());
    let known: HashMap<(Option<IpAddr>, u16), &BTreeSet<SocketAddr>> =
        frontends.map(|frontend| ((frontend.address, frontend.port), &frontend.serving)).collect();
    let is_stale = |flow: &Flow| {
        let port = flow.destination.port();
        let serving = known.get(&(Some(flow.destination.ip()), port)).or_else(|| known.get(&(None, port)));
        serving.is_some_and(|serving| !serving.contains(&flow.reply_source))
    };
    flows.into_iter().filter(is_stale).collect()
}

/// The kernel's table of flows.
#[async_trait]
pub trait Conntrack: Send + Sync {
    async fn udp_flows(&self, family: Family) -> Result<Vec<Flow>, ConntrackError>;
    /// Flows that ended meanwhile are no failure.
    async fn delete(&self, flows: &[Flow]) -> Result<(), ConntrackError>;
}

/// The `conntrack` program.
pub struct ConntrackCli {
    program: String,
}

impl ConntrackCli {
    /// `program` is a name to be found in `PATH`, or a path.
    pub fn new(program: &str) -> Self {
        ConntrackCli { program: program.to_owned() }
    }

    async fn run(&self, args: &[&str], input: &str) -> Result<String, ConntrackError> {
        let output = feed(&self.program, args, input).await;
        let (ok, output, message) =
            output.map_err(|source| ConntrackError::Run { program: self.program.clone(), source })?;
        if ok { Ok(output) } else { Err(ConntrackError::Failed { message }) }
    }
}

#[async_trait]
impl Conntrack for ConntrackCli {
    async fn udp_flows(&self, family: Family) -> Result<Vec<Flow>, ConntrackError> {
        let family = match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let listing = self.run(&["-L", "-p", "udp", "-f", family], "").await?;
        Ok(listing.lines().filter_map(parse).collect())
    }

    async fn delete(&self, flows: &[Flow]) -> Result<(), ConntrackError> {
        let command = |flow: &Flow| {
            format!(
                "-D -p udp -s {} -d {} --sport {} --dport {}\n",
                flow.source.ip(),
                flow.destination.ip(),
                flow.source.port(),
                flow.destination.port()
            )
        };
        let script: String = flows.iter().map(command).collect();
        self.run(&["-R", "-"], &script).await.map(drop)
    }
}

/// `udp 17 59 src=A dst=B sport=1 dport=2 [UNREPLIED] src=C dst=A sport=3 dport=1 mark=0 use=1`
fn parse(line: &str) -> Option<Flow> {
    let values =
        |key: &'static str| line.split_whitespace().filter_map(move |word| word.strip_prefix(key)?.strip_prefix('='));
    let (mut sources, mut ports) = (values("src"), values("sport"));
    let mut source = || Some(SocketAddr::new(sources.next()?.parse().ok()?, ports.next()?.parse().ok()?));
    Some(Flow {
        source: source()?,
        reply_source: source()?,
        destination: SocketAddr::new(values("dst").next()?.parse().ok()?, values("dport").next()?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16, reply: &str) -> Flow {
        Flow {
            source: "10.0.0.9:4000".parse().unwrap(),
            destination: SocketAddr::new("10.96.0.10".parse().unwrap(), port),
            reply_source: reply.parse().unwrap(),
        }
    }

    #[test]
    fn lines_of_conntrack_are_read() {
        let line = "udp      17 59 src=10.0.0.9 dst=10.96.0.10 sport=4000 dport=53 [UNREPLIED] src=10.244.0.5 dst=10.0.0.9 \
                    sport=1053 dport=4000 mark=0 use=1";
        assert_eq!(parse(line), Some(flow(53, "10.244.0.5:1053")));
        for wrong in ["", "udp 17 59 src=10.0.0.9", "udp src=x dst=y sport=1 dport=2 src=x dst=y sport=1 dport=2"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn flows_to_who_no_longer_serves_are_stale() {
        let serving = |endpoints: &[&str]| endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        let cluster_ip = "10.96.0.10".parse().ok();
        let frontends = [
            UdpFrontend { address: cluster_ip, port: 53, serving: serving(&["10.244.0.5:1053"]) },
            UdpFrontend { address: None, port: 30053, serving: serving(&["10.244.0.5:1053"]) },
            UdpFrontend { address: cluster_ip, port: 54, serving: serving(&[]) },
        ];
        let good = [flow(53, "10.244.0.5:1053"), flow(54, "10.244.0.6:1"), flow(55, "10.96.0.10:55")];
        let stale = [flow(53, "10.244.0.4:1053"), flow(53, "10.96.0.10:53"), flow(30053, "10.244.0.4:1053")];
        let all = good.iter().chain(&stale).cloned().collect();
        assert_eq!(stale_flows(all, &frontends), stale);
    }
}
