//! Servers in turns: each case's rounds go from one server to the next and start over, so that what else happens on the
//! machine meets all of them.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

use crate::{
    bare::{self, BareServer},
    cases::{Case, Spoils, size_text},
    connection::{Endpoint, Protocol},
    error::{Error, Result},
    fanout::{self, Fanout},
    load::{self, Counters, Extent, Load, Outcome},
    options::{Options, Plan},
    progress::Progress,
    report::{Report, Rows, Settings},
    server::Server,
};

/// As the report calls the limits of the machine.
const BARE_SERVER: &str = "bare TLS";
const BARE_LOG: &str = "bare log";
/// What a process needs besides its connections.
const OTHER_FILES: u64 = 100;

/// Measures everything and removes what it has made for it, also when it is cancelled.
pub async fn run(plan: Plan, cancel: &CancellationToken) -> Result<Report> {
    let cases = plan.options.ranges().cases("");
    if plan.targets.is_empty() || cases.is_empty() {
        return Err(Error::Nothing("no server or no operation is given".into()));
    }
    allow_open_files(&cases)?;
    let mut run = Run { servers: Vec::new(), cases: Vec::new(), rows: Rows::default(), cancel: cancel.clone(), plan };
    let measured = run.all(&cases).await;
    let mut closed = Ok(());
    for server in &run.servers {
        closed = closed.and(server.close().await);
    }
    let interrupted = if cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) };
    interrupted.and(measured).and(closed)?;
    Ok(Report { settings: settings(&run.plan.options), results: run.rows.finish() })
}

fn settings(options: &Options) -> Settings {
    Settings {
        protocol: options.protocol,
        connections: options.connections.into(),
        streams: options.streams(),
        threads: options.threads.into(),
        rate: options.rate,
        rounds: options.rounds.into(),
        warm_up_s: options.warm_up,
        duration_s: options.duration,
    }
}

/// Each connection is an open file; the limit for one process is low by default, and may be raised.
fn allow_open_files(cases: &[Case]) -> Result<()> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let watchers = cases.iter().filter_map(|case| case.watchers).max().unwrap_or_default() as u64;
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| Error::io("open files")(error.into()))?;
    match limit.maximum {
        Some(files) if files < watchers + OTHER_FILES => {
            Err(Error::Nothing(format!("{watchers} watchers need more than the {files} open files that are allowed")))
        }
        _ => Ok(()),
    }
}

struct Run {
    plan: Plan,
    servers: Vec<Server>,
    /// The cases as they are on each server, in its namespace.
    cases: Vec<Vec<Case>>,
    rows: Rows,
    cancel: CancellationToken,
}

impl Run {
    async fn all(&mut self, cases: &[Case]) -> Result<()> {
        self.open().await?;
        let rounds = usize::from(self.plan.options.rounds);
        let bare = if self.plan.options.limits.is_some() { 1 } else { 0 };
        let servers = |case: &Case| self.servers.len() + if case.answers_alike { bare } else { 0 };
        let logs = bare * 2 * self.plan.options.sizes.len();
        let mut progress = Progress::new(rounds * (cases.iter().map(servers).sum::<usize>() + logs));
        let outcome = async {
            for (place, case) in cases.iter().enumerate() {
                self.case(place, case, rounds, &mut progress).await?;
            }
            if let Some(folder) = self.plan.options.limits.clone() {
                self.logs(folder, rounds, &mut progress).await?;
            }
            Ok(())
        };
        let outcome = outcome.await;
        progress.end();
        outcome
    }

    async fn open(&mut self) -> Result<()> {
        let Plan { targets, options, namespace, .. } = &self.plan;
        for (place, target) in targets.iter().enumerate() {
            // The same server may be there twice, to see how much figures differ by chance.
            let namespace = if place == 0 { namespace.clone() } else { format!("{namespace}-{place}") };
            let endpoint = Endpoint::new(&target.kubeconfig, options.protocol, &options.accept)?;
            let name = target.name.clone();
            let opened = Server::open(name, &target.kubeconfig, endpoint, target.pids.clone(), &namespace);
            self.servers.push(opened.await?);
            self.cases.push(options.ranges().cases(&namespace));
        }
        Ok(())
    }

    /// All rounds of the case at a place in the list.
    async fn case(&mut self, number: usize, case: &Case, rounds: usize, progress: &mut Progress) -> Result<()> {
        let cancel = self.cancel.clone();
        let mut bare = None;
        for round in 1..=rounds {
            for place in 0..self.servers.len() {
                self.alive()?;
                let name = self.servers[place].name.clone();
                progress.now(format!("{}, {name}, preparing round {round} of {rounds}", case.label));
                self.servers[place].populate(case.population, &cancel).await?;
                progress.now(format!("{}, {name}, round {round} of {rounds}", case.label));
                let there = self.cases[place][number].clone();
                self.on_server(&there, place, progress).await?;
                self.servers[place].tidy(case).await?;
            }
            if !case.answers_alike || self.plan.options.limits.is_none() {
                continue;
            }
            self.alive()?;
            if bare.is_none() {
                let sample = self.servers[0].sample(&self.cases[0][number]).await?;
                self.servers[0].tidy(case).await?;
                bare = Some(BareServer::start(&self.plan.bare_server, &sample).await?);
            }
            if let Some(bare) = &bare {
                progress.now(format!("{}, {BARE_SERVER}, round {round} of {rounds}", case.label));
                let options = &self.plan.options;
                let endpoint = Endpoint::new(&bare.kubeconfig, options.protocol, &options.accept)?;
                let load = self.load(case, endpoint, vec![bare.pid], Default::default());
                match case.watchers {
                    Some(watchers) => {
                        let fanout = Fanout { load, watchers, path: "/?watch=true".to_owned() };
                        self.fan_out(case, BARE_SERVER, fanout, progress).await?;
                    }
                    None => {
                        let outcome = load::run(load, &cancel, |requests| progress.count(requests)).await?;
                        self.add(&case.label, BARE_SERVER, &outcome, progress);
                    }
                }
            }
        }
        Ok(())
    }

    fn alive(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn add(&mut self, operation: &str, server: &str, outcome: &Outcome, progress: &mut Progress) {
        self.rows.add(operation, server, outcome);
        progress.done(outcome.tally.latencies.len() as f64 / outcome.elapsed.as_secs_f64().max(f64::MIN_POSITIVE));
    }

    async fn on_server(&mut self, case: &Case, place: usize, progress: &mut Progress) -> Result<()> {
        let server = &self.servers[place];
        let name = server.name.clone();
        let load = self.load(case, server.endpoint.clone(), server.pids.clone(), server.counters.clone());
        let Some(watchers) = case.watchers else {
            let mut outcome = load::run(load, &self.cancel, |requests| progress.count(requests)).await?;
            if case.spoils == Spoils::Population {
                // A delete that leaves objects has not done its work, whatever it answered.
                let left = server.count().await? as u64;
                let deleted = if case.requests == Some(1) { 0 } else { outcome.tally.failures.values().sum() };
                outcome.tally.fail("objects left", left.saturating_sub(deleted));
            }
            self.add(&case.label, &name, &outcome, progress);
            return Ok(());
        };
        let fanout = Fanout { load, watchers, path: server.watch_path().await? };
        self.fan_out(case, &name, fanout, progress).await
    }

    async fn fan_out(&mut self, case: &Case, name: &str, fanout: Fanout, progress: &mut Progress) -> Result<()> {
        let fanned = fanout::run(fanout, &self.cancel, |requests| progress.count(requests)).await?;
        self.add(&format!("{}: deliveries", case.label), name, &fanned.deliveries, progress);
        self.rows.add(&format!("{}: writes", case.label), name, &fanned.writes);
        Ok(())
    }

    fn load(&self, case: &Case, endpoint: Endpoint, pids: Vec<u32>, counters: std::sync::Arc<Counters>) -> Load {
        let options = &self.plan.options;
        let by_time = Extent::Time { warm_up: options.warm_up(), measured: options.measured() };
        // A fan-out has no end but time.
        let requests = case.requests.or(options.count.filter(|_| case.watchers.is_none()));
        let single = case.connections.is_some() || options.protocol == Protocol::Http1;
        Load {
            endpoint,
            operations: case.operations.clone(),
            connections: case.connections.unwrap_or(options.connections.into()),
            streams: if single { 1 } else { options.streams() },
            threads: options.threads.into(),
            rate: options.schedule().filter(|_| case.requests != Some(1)),
            extent: requests.map_or(by_time, Extent::Requests),
            counters,
            pids,
        }
    }

    async fn logs(&mut self, folder: PathBuf, rounds: usize, progress: &mut Progress) -> Result<()> {
        let options = self.plan.options.clone();
        for size in &options.sizes {
            for writers in [1, usize::from(options.connections)] {
                for round in 1..=rounds {
                    self.alive()?;
                    let operation = format!("sync {}, writers: {writers}", size_text(*size));
                    progress.now(format!("{operation}, {BARE_LOG}, round {round} of {rounds}"));
                    let (folder, size, time) = (folder.clone(), *size, options.measured());
                    let written = tokio::task::spawn_blocking(move || bare::log(&folder, size, writers, time));
                    let outcome = written.await.map_err(|_| Error::Interrupted)??;
                    self.add(&operation, BARE_LOG, &outcome, progress);
                }
            }
        }
        Ok(())
    }
}
