//! The server as a whole: informers keep the index, sockets answer from it.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    net::SocketAddr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use client::{
    Client, Delta, Informer, InformerFactory, Kind, ObjectKey,
    kinds::{
        core::v1::{Namespace, Service},
        discovery::v1::EndpointSlice,
    },
};
use http::StatusCode;
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::Notify,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Data, DnsConfig, Index, Owner, Records,
    answer::Zone,
    forward::Forwarder,
    of_namespace, of_service,
    serve::{Server, serve_tcp, serve_udp},
    status::{self, Metrics},
};

/// Version of the specification that the zone follows.
const SPECIFICATION: &str = "1.1.0";
/// Index of EndpointSlices by Service: `NAMESPACE/NAME`.
const BY_SERVICE: &str = "service";
/// What answers for the zone itself, where it is a Service: its address is that of the zone's name server.
const OWN_SERVICE: (&str, &str) = ("kube-system", "kube-dns");

#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    #[error("cannot listen on {address}")]
    Listen {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

pub struct Dns;

impl Dns {
    /// Answers until `cancel`. Fails only when it cannot listen. Before Services are known, the cluster's names get
    /// SERVFAIL and all others their answers.
    pub async fn run(config: DnsConfig, client: Client, cancel: CancellationToken) -> Result<(), DnsError> {
        let server = Arc::new(Server {
            index: ArcSwap::from_pointee(None),
            zone: Zone {
                domain: config.cluster_domain.trim_end_matches('.').to_lowercase(),
                ttl: u32::try_from(config.ttl.as_secs()).unwrap_or(u32::MAX),
            },
            forwarder: Forwarder::new(&config.upstreams, &config.listen, config.upstream_timeout, config.ttl),
            metrics: Metrics::default(),
        });
        listen(&server, &config, &cancel).await?;
        let factory = InformerFactory::new(client);
        let observer = Observer::new(&factory, server);
        factory.start(cancel.clone());
        tokio::select! {
            () = cancel.cancelled() => {}
            () = observer.follow(factory) => {}
        }
        Ok(())
    }
}

async fn listen(server: &Arc<Server>, config: &DnsConfig, cancel: &CancellationToken) -> Result<(), DnsError> {
    for address in config.listen.iter().copied() {
        let failed = |source| DnsError::Listen { address, source };
        let socket = UdpSocket::bind(address).await.map_err(failed)?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        tokio::spawn(serve_udp(server.clone(), socket, cancel.clone()));
        tokio::spawn(serve_tcp(server.clone(), listener, cancel.clone()));
    }
    type Page = Box<dyn Fn(&Server) -> (StatusCode, String) + Send + Sync>;
    let health: Page = Box::new(|_| (StatusCode::OK, "OK".to_owned()));
    let ready: Page = Box::new(|server| match **server.index.load() {
        Some(_) => (StatusCode::OK, "OK".to_owned()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "kubernetes".to_owned()),
    });
    let metrics: Page = Box::new(|server| (StatusCode::OK, server.metrics.text()));
    let pages =
        [(config.health, "/health", health), (config.ready, "/ready", ready), (config.metrics, "/metrics", metrics)];
    for (address, path, page) in pages {
        let Some(address) = address else { continue };
        let failed = |source| DnsError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let server = server.clone();
        tokio::spawn(status::serve(listener, path, move || page(&server), cancel.clone()));
    }
    Ok(())
}

/// Keeps the index.
struct Observer {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    namespaces: Informer<Namespace>,
    dirty: Arc<Mutex<BTreeSet<Owner>>>,
    notify: Arc<Notify>,
    /// What is in the index, by owner.
    records: HashMap<Owner, Records>,
    index: Index,
    server: Arc<Server>,
}

impl Observer {
    fn new(factory: &InformerFactory, server: Arc<Server>) -> Observer {
        let (dirty, notify) = (Arc::<Mutex<BTreeSet<Owner>>>::default(), Arc::<Notify>::default());
        let mark = {
            let (dirty, notify) = (dirty.clone(), notify.clone());
            move |owners: &mut dyn Iterator<Item = Owner>| {
                dirty.lock().extend(owners);
                notify.notify_one();
            }
        };
        let services = factory.informer::<Service>();
        let slices = factory.informer::<EndpointSlice>();
        let namespaces = factory.informer::<Namespace>();
        let changed = mark.clone();
        services.on_event(move |delta| changed(&mut [Owner::Service(delta.object().key())].into_iter()));
        let changed = mark.clone();
        slices.add_index(BY_SERVICE, |slice| {
            ObjectKey::of_service(slice).map(|key| key.to_string()).into_iter().collect()
        });
        slices.on_event(move |delta| {
            let old = match delta {
                Delta::Updated { old, .. } => ObjectKey::of_service(old),
                _ => None,
            };
            changed(&mut ObjectKey::of_service(delta.object()).into_iter().chain(old).map(Owner::Service));
        });
        namespaces.on_event(move |delta| mark(&mut [Owner::Namespace(delta.object().name().to_owned())].into_iter()));
        let (records, index) = (HashMap::new(), Index::default());
        Observer { services, slices, namespaces, dirty, notify, records, index, server }
    }

    async fn follow(mut self, factory: InformerFactory) {
        factory.wait_for_sync().await;
        self.dirty.lock().insert(Owner::Zone);
        loop {
            let dirty = std::mem::take(&mut *self.dirty.lock());
            for owner in dirty {
                self.refresh(owner);
            }
            self.server.index.store(Arc::new(Some(self.index.clone())));
            self.notify.notified().await;
        }
    }

    fn refresh(&mut self, owner: Owner) {
        if owner == Owner::Service(ObjectKey::new(OWN_SERVICE.0, OWN_SERVICE.1)) {
            self.refresh(Owner::Zone);
        }
        let new = self.records(&owner);
        let old = self.records.remove(&owner).unwrap_or_default();
        self.index.replace(&owner, &old, &new);
        if !new.is_empty() {
            self.records.insert(owner, new);
        }
    }

    fn records(&self, owner: &Owner) -> Records {
        let domain = &self.server.zone.domain;
        match owner {
            Owner::Namespace(name) => {
                let namespace = self.namespaces.get("", name);
                namespace.map(|namespace| of_namespace(&namespace, domain)).unwrap_or_default()
            }
            Owner::Service(key) => {
                let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
                let service = self.services.get(&key.namespace, &key.name);
                service.map(|service| of_service(&service, &slices, domain)).unwrap_or_default()
            }
            Owner::Zone => self.zone_records(domain),
        }
    }

    fn zone_records(&self, domain: &str) -> Records {
        let own = self.services.get(OWN_SERVICE.0, OWN_SERVICE.1);
        let addresses = own.as_ref().and_then(|own| own.spec.as_ref()?.cluster_ips.clone()).unwrap_or_default();
        let addresses = addresses.iter().filter_map(|address| address.parse().ok()).map(Data::Address);
        Records::from([
            (format!("dns-version.{domain}"), vec![Data::Text(SPECIFICATION.into())]),
            (format!("ns.dns.{domain}"), addresses.collect()),
            (format!("svc.{domain}"), Vec::new()),
            (format!("pod.{domain}"), Vec::new()),
        ])
    }
}
