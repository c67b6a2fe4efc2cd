//! A question about the cluster's names, answered from the index. No I/O, no clock.

use std::{net::IpAddr, str::FromStr};

use hickory_proto::{
    op::{Query, ResponseCode},
    rr::{
        Name, RData, Record, RecordType,
        rdata::{A, AAAA, CNAME, NS, PTR, SOA, SRV, TXT},
    },
};

use crate::{Data, Index};

/// How many aliases in a row are followed.
const ALIASES_MAX: usize = 8;

/// What the cluster knows of a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Here {
        code: ResponseCode,
        answers: Vec<Record>,
        authorities: Vec<Record>,
        additionals: Vec<Record>,
    },
    /// The name is an alias of one outside the cluster: the rest of the answer is an upstream's.
    Alias {
        answers: Vec<Record>,
        target: Name,
    },
    /// Not a name of the cluster.
    Elsewhere,
}

/// The zone a server answers for.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// In lower case, without a dot at its end.
    pub domain: String,
    pub ttl: u32,
}

/// Answers `query`, with records in the order that `turn` gives them: clients take the first.
///
/// `domain` is in lower case and without a dot at its end; `ttl` in seconds.
pub fn answer(index: &Index, domain: &str, ttl: u32, query: &Query, turn: u16) -> Answer {
    let zone = Zone { domain: domain.to_owned(), ttl };
    Reply { index, zone: &zone, turn: turn.into() }.to(query)
}

/// As the index writes names.
pub(crate) fn key(name: &Name) -> String {
    let mut key = name.to_lowercase().to_ascii();
    if key.ends_with('.') {
        key.pop();
    }
    key
}

pub(crate) struct Reply<'a> {
    pub index: &'a Index,
    pub zone: &'a Zone,
    pub turn: usize,
}

impl Reply<'_> {
    pub fn to(&self, query: &Query) -> Answer {
        let name = key(query.name());
        if name.ends_with(".in-addr.arpa") || name.ends_with(".ip6.arpa") {
            // Most addresses are not the cluster's, and others know their names.
            let found = self.records(query.name(), &name, query.query_type());
            return if found.is_empty() { Answer::Elsewhere } else { self.found(found) };
        }
        if !self.is_ours(&name) {
            return Answer::Elsewhere;
        }
        self.follow(query.name().clone(), name, query.query_type())
    }

    fn is_ours(&self, name: &str) -> bool {
        let rest = name.strip_suffix(self.zone.domain.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    fn follow(&self, mut owner: Name, mut name: String, kind: RecordType) -> Answer {
        let mut answers = Vec::new();
        for _ in 0..ALIASES_MAX {
            let found = self.records(&owner, &name, kind);
            let alias = match found.as_slice() {
                [Record { data: RData::CNAME(CNAME(target)), .. }] if kind != RecordType::CNAME => target.clone(),
                [] if answers.is_empty() => return self.nothing(&name),
                _ => {
                    answers.extend(found);
                    return self.found(answers);
                }
            };
            answers.extend(found);
            name = key(&alias);
            if !self.is_ours(&name) {
                return Answer::Alias { answers, target: alias };
            }
            owner = alias;
        }
        self.found(answers)
    }

    fn found(&self, answers: Vec<Record>) -> Answer {
        let targets = answers.iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(&service.target),
            _ => None,
        });
        let mut additionals: Vec<Record> = Vec::new();
        for target in targets {
            if !additionals.iter().any(|record| record.name == *target) {
                for kind in [RecordType::A, RecordType::AAAA] {
                    additionals.extend(self.records(target, &key(target), kind));
                }
            }
        }
        Answer::Here { code: ResponseCode::NoError, answers, authorities: Vec::new(), additionals }
    }

    /// No record of that type, or no such name at all; the SOA says how long to remember it.
    fn nothing(&self, name: &str) -> Answer {
        let exists = name == self.zone.domain || self.index.exists(name) || self.pod(name).is_some();
        let code = if exists { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let authorities = self.soa().into_iter().collect();
        Answer::Here { code, answers: Vec::new(), authorities, additionals: Vec::new() }
    }

    fn records(&self, owner: &Name, name: &str, kind: RecordType) -> Vec<Record> {
        if name == self.zone.domain && matches!(kind, RecordType::SOA | RecordType::NS | RecordType::ANY) {
            let wanted = |record: &Record| kind == RecordType::ANY || record.record_type() == kind;
            return [self.soa(), self.name_server()].into_iter().flatten().filter(wanted).collect();
        }
        let targets = self.index.get(name).filter(|data| matches!(data, Data::Service { .. })).count();
        let rdata = self.index.get(name).filter_map(|data| rdata(data, targets));
        let pod = self.pod(name).map(address);
        let wanted = |data: &RData| {
            let own = data.record_type();
            own == kind || kind == RecordType::ANY || own == RecordType::CNAME
        };
        let record = |data| Record::from_rdata(owner.clone(), self.zone.ttl, data);
        let mut records: Vec<Record> = rdata.chain(pod).filter(wanted).map(record).collect();
        if !records.is_empty() {
            let turn = self.turn % records.len();
            records.rotate_left(turn);
        }
        records
    }

    /// `10-244-0-5.NAMESPACE.pod.DOMAIN` is that address wherever the namespace exists: kubeadm's `pods insecure`.
    fn pod(&self, name: &str) -> Option<IpAddr> {
        let (label, rest) = name.split_once('.')?;
        let namespace = rest.strip_suffix(self.zone.domain.as_str())?.strip_suffix(".pod.")?;
        if namespace.contains('.') || !self.index.exists(rest) {
            return None;
        }
        let v4 = label.replace('-', ".").parse().ok().map(IpAddr::V4);
        v4.or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
    }

    fn soa(&self) -> Option<Record> {
        let (apex, ttl) = (Name::from_str(&format!("{}.", self.zone.domain)).ok()?, self.zone.ttl);
        let server = apex.prepend_label("dns").and_then(|name| name.prepend_label("ns")).ok()?;
        let master = apex.prepend_label("hostmaster").ok()?;
        let soa = SOA::new(server, master, self.index.serial(), 7200, 1800, 86400, ttl);
        Some(Record::from_rdata(apex, ttl, RData::SOA(soa)))
    }

    fn name_server(&self) -> Option<Record> {
        let apex = Name::from_str(&format!("{}.", self.zone.domain)).ok()?;
        let server = apex.prepend_label("dns").and_then(|name| name.prepend_label("ns")).ok()?;
        Some(Record::from_rdata(apex, self.zone.ttl, RData::NS(NS(server))))
    }
}

fn address(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// `targets`: among how many SRV records the weight is shared. `None` for a name that DNS cannot have, as too long.
fn rdata(data: &Data, targets: usize) -> Option<RData> {
    let name = |name: &str| Name::from_ascii(format!("{name}.")).ok();
    Some(match data {
        Data::Address(of) => address(*of),
        Data::Alias(target) => RData::CNAME(CNAME(name(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(name(target)?)),
        Data::Text(text) => RData::TXT(TXT::new(vec![text.to_string()])),
        Data::Service { port, target } => {
            let weight = u16::try_from(100 / targets.max(1)).unwrap_or(1).max(1);
            RData::SRV(SRV::new(0, weight, *port, name(target)?))
        }
    })
}
