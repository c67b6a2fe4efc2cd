//! A server under measurement: a namespace of its own there, the objects that a case finds, and the end of both.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use client::{Client, Kubeconfig};
use http::Method;
use tokio_util::sync::CancellationToken;

use crate::{
    cases::{Case, Population, Requests, Spoils},
    connection::{Endpoint, READ_ANSWERS},
    error::{Error, Result},
    load::{self, Counters, Extent, Load, Numbers, Operation},
};

/// Connections that make a population.
const MAKERS: usize = 32;
/// How long a namespace's end is waited for.
const NAMESPACE_GONE: Duration = Duration::from_secs(30);
/// How long the controller that ends namespaces has to show that it is there, by a new namespace's service account.
const CONTROLLER_SHOWS: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

pub struct Server {
    pub name: String,
    pub endpoint: Endpoint,
    /// Of its processes, where they are known.
    pub pids: Vec<u32>,
    pub counters: Arc<Counters>,
    client: Client,
    namespace: String,
    population: Option<Population>,
}

impl Server {
    /// Makes the namespace.
    pub async fn open(
        name: String,
        kubeconfig: &Kubeconfig,
        endpoint: Endpoint,
        pids: Vec<u32>,
        namespace: &str,
    ) -> Result<Server> {
        let client = Client::from_kubeconfig(kubeconfig, "argosy-bench");
        let client = client.map_err(|source| Error::Client { server: name.clone(), source })?;
        let namespace = namespace.to_owned();
        let server = Server { name, endpoint, pids, client, namespace, counters: Arc::default(), population: None };
        let body = format!(r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{}"}}}}"#, server.namespace);
        server.ask(Method::POST, "/api/v1/namespaces", body).await?;
        Ok(server)
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<Bytes> {
        let content_type = (!body.is_empty()).then_some("application/json");
        let answer = self.client.raw(method, path, content_type, Bytes::from(body)).await;
        answer.map_err(|source| Error::Client { server: self.name.clone(), source })
    }

    fn path(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}{rest}", self.namespace)
    }

    fn requests(&self) -> Requests {
        Requests { collection: self.path("/configmaps") }
    }

    /// Sees to it that exactly these objects are there, besides what the cluster itself puts into a namespace.
    pub async fn populate(&mut self, wanted: Population, cancel: &CancellationToken) -> Result<()> {
        if self.population == Some(wanted) {
            return Ok(());
        }
        self.clear("kept").await?;
        self.population = None;
        let template = self.requests().create("kept", wanted.size);
        let load = Load {
            endpoint: self.endpoint.clone(),
            operations: vec![Operation { template, numbers: Numbers::Turns(wanted.objects), weight: 1 }],
            connections: MAKERS,
            streams: 1,
            threads: 1,
            rate: None,
            extent: Extent::Requests(wanted.objects),
            counters: self.counters.clone(),
            pids: Vec::new(),
        };
        let made = load::run(load, cancel, |_| ()).await?.tally;
        if made.latencies.len() != wanted.objects {
            let what =
                format!("{} of {} objects could not be made", wanted.objects - made.latencies.len(), wanted.objects);
            return Err(Error::Prepare { server: self.name.clone(), what, failures: made.failures_text() });
        }
        self.population = Some(wanted);
        Ok(())
    }

    /// Removes what a round of the case left behind.
    pub async fn tidy(&mut self, case: &Case) -> Result<()> {
        match case.spoils {
            Spoils::Nothing => {}
            Spoils::New => self.clear("new").await?,
            Spoils::Population => self.population = None,
        }
        Ok(())
    }

    async fn clear(&self, label: &str) -> Result<()> {
        let path = self.requests().delete_collection(label).path;
        self.ask(Method::DELETE, &path, String::new()).await.map(drop)
    }

    /// How many objects of the population there are.
    pub async fn count(&self) -> Result<usize> {
        let path = self.path(&format!("/configmaps?labelSelector={}%3Dkept", crate::cases::LABEL));
        let list = self.list(&path).await?;
        Ok(list["items"].as_array().map_or(0, Vec::len))
    }

    /// Where a watch begins that is to show what comes from now on.
    pub async fn watch_path(&self) -> Result<String> {
        let list = self.list(&self.path("/configmaps?limit=1")).await?;
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        Ok(self.path(&format!("/configmaps?watch=true&timeoutSeconds=3600&resourceVersion={version}")))
    }

    async fn list(&self, path: &str) -> Result<serde_json::Value> {
        let bytes = self.ask(Method::GET, path, String::new()).await?;
        serde_json::from_slice(&bytes).map_err(|error| {
            let source = client::Error::Decode { what: path.to_owned(), message: error.to_string() };
            Error::Client { server: self.name.clone(), source }
        })
    }

    /// What the case's first operation is answered with.
    pub async fn sample(&self, case: &Case) -> Result<(u16, Vec<u8>)> {
        let operation = &case.operations[0];
        let connections = self.endpoint.connect(1, READ_ANSWERS).await?;
        let mut body = Vec::new();
        let mut request = self.endpoint.prepare(&operation.template);
        let number = match operation.numbers {
            Numbers::Fresh => self.counters.fresh.fetch_add(1, Ordering::Relaxed),
            Numbers::Turns(_) => 0,
        };
        let digits = (number, self.counters.value.fetch_add(1, Ordering::Relaxed));
        let Some(mut connection) = connections.into_iter().next() else {
            return Err(Error::Nothing(format!("{} gave no connection", self.name)));
        };
        let answer = connection.exchange(&mut request, digits, &mut |part| body.extend_from_slice(part)).await;
        let answer = answer.map_err(|source| Error::Connect { server: self.name.clone(), source })?;
        Ok((answer.status, body))
    }

    /// Removes everything. Where no controller ends namespaces, as beside an API server alone, this does it.
    pub async fn close(&self) -> Result<()> {
        self.clear("kept").await?;
        self.clear("new").await?;
        let has_controller = self.becomes(&self.path("/serviceaccounts/default"), true, CONTROLLER_SHOWS).await;
        self.ask(Method::DELETE, &self.path(""), String::new()).await?;
        if !has_controller || !self.becomes(&self.path(""), false, NAMESPACE_GONE).await {
            let name = &self.namespace;
            let body = format!(
                r#"{{"apiVersion":"v1","kind":"Namespace","metadata":{{"name":"{name}"}},"spec":{{"finalizers":[]}}}}"#
            );
            return match self.ask(Method::PUT, &self.path("/finalize"), body).await {
                Err(Error::Client { source, .. }) if source.is_not_found() => Ok(()),
                finalized => finalized.map(drop),
            };
        }
        Ok(())
    }

    /// Whether something is there, or is not any more, within a time.
    async fn becomes(&self, path: &str, there: bool, limit: Duration) -> bool {
        let asked = async {
            loop {
                let found = match self.ask(Method::GET, path, String::new()).await {
                    Ok(_) => Some(true),
                    Err(Error::Client { source, .. }) if source.is_not_found() => Some(false),
                    Err(_) => None,
                };
                if found == Some(there) {
                    return;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, asked).await.is_ok()
    }
}
