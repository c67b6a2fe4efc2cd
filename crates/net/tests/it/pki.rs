//! Certificate authorities for one test each.

use std::time::{Duration, SystemTime};

use net::tls::{Identity, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    pub fn bundle(&self) -> Pem {
        Pem::inline(&self.pem)
    }

    /// For the host `localhost` and its addresses.
    pub fn server(&self) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    pub fn client(&self, name: &str, organizations: &[&str]) -> (String, String) {
        self.sign(client(name, organizations))
    }

    /// A client certificate whose time is over.
    pub fn expired(&self, name: &str) -> (String, String) {
        let mut params = client(name, &[]);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        self.sign(params)
    }

    /// A client certificate whose time is over soon.
    pub fn short_lived(&self, name: &str, lifetime: Duration) -> (String, String) {
        let mut params = client(name, &[]);
        params.not_after = (SystemTime::now() + lifetime).into();
        self.sign(params)
    }

    /// Certificate and key as PEM.
    fn sign(&self, params: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn client(name: &str, organizations: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    // rcgen keeps one entry per type: the second organization has the same type under another name.
    for (kind, organization) in
        [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])].iter().zip(organizations)
    {
        params.distinguished_name.push(kind.clone(), *organization);
    }
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

pub fn identity((certificate, key): (String, String)) -> Identity {
    Identity { certificate: Pem::inline(certificate), key: Pem::inline(key) }
}
