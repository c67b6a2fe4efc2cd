//! What a certificate says, as far as it decides on its replacement.

use std::{collections::BTreeSet, net::IpAddr};

use jiff::Timestamp;
use x509_parser::{
    extensions::{GeneralName, ParsedExtension},
    pem::Pem,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub common_name: String,
    pub organizations: BTreeSet<String>,
    pub dns_names: BTreeSet<String>,
    pub ip_addresses: BTreeSet<IpAddr>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// The key's bits, as `SubjectPublicKeyInfo.subjectPublicKey` holds them.
    pub public_key: Vec<u8>,
}

impl Facts {
    /// Of the first certificate in PEM text that may hold keys and further certificates too; `None` where there is none.
    pub fn parse(text: &[u8]) -> Option<Facts> {
        let block = Pem::iter_from_buffer(text).filter_map(Result::ok).find(|block| block.label == "CERTIFICATE")?;
        let certificate = block.parse_x509().ok()?;
        let subject = certificate.subject();
        let value =
            |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().ok().map(str::to_owned);
        let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        let mut facts = Facts {
            common_name: subject.iter_common_name().next().and_then(value).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(value).collect(),
            dns_names: BTreeSet::new(),
            ip_addresses: BTreeSet::new(),
            not_before: time(certificate.validity().not_before)?,
            not_after: time(certificate.validity().not_after)?,
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        };
        for extension in certificate.extensions() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                names.general_names.iter().for_each(|name| facts.add(name));
            }
        }
        Some(facts)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => drop(self.dns_names.insert((*name).to_owned())),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                self.ip_addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
            }
            _ => {}
        }
    }
}
