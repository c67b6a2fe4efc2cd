//! Keeping a pod running: sandbox, init containers in order, sidecars, regular and ephemeral containers.

use client::kinds::core::v1::Container;

use super::{
    ContainerRecord, Ending, KillCause, Planner, Role, State, Step, Waiting, backoff, resize,
    spec::{self, is_sidecar},
};

impl Planner<'_> {
    pub(super) fn run(&mut self) {
        self.sweep();
        if !self.observed.volumes_ready && !self.observed.doing.volumes {
            let failure = self.observed.volume_failure.clone();
            if !self.held_back(failure.as_ref()) {
                self.push(Step::SetUpVolumes);
            }
        }
        if self.observed.doing.sandbox {
            return;
        }
        if !self.sandbox_is_usable() {
            return self.replace_sandbox();
        }
        for container in spec::ephemeral_containers(self.pod) {
            // An ephemeral container runs once: it is never restarted.
            if self.observed.latest(&container.name).is_none() {
                self.start(&container.name, Role::Ephemeral);
            }
        }
        self.resize();
        match self.init() {
            Init::Done => self.regular(),
            Init::Pending => {}
            Init::Failed => self.complete(),
        }
    }

    fn sandbox_is_usable(&self) -> bool {
        let Some(sandbox) = self.observed.sandbox() else { return false };
        let stopping = self.observed.doing.stopping.contains(&sandbox.id);
        sandbox.ready && !stopping && (spec::host_network(self.pod) || !sandbox.ips.is_empty())
    }

    /// No sandbox, or a dead one: everything in it goes first, then a new one is made if anything is left to run.
    fn replace_sandbox(&mut self) {
        let grace = spec::grace_seconds(self.pod);
        let running: Vec<_> = self.observed.running().cloned().collect();
        for record in &running {
            self.kill(record, grace, KillCause::SandboxChanged);
        }
        if !self.anything_left_to_run() {
            return self.complete();
        }
        if !running.is_empty() || self.observed.doing.starting {
            return;
        }
        if self.stop_sandboxes() {
            return;
        }
        let failure = self.observed.sandbox_failure.clone();
        if !self.held_back(failure.as_ref()) {
            let attempt = self.observed.sandbox().map_or(0, |sandbox| sandbox.attempt + 1);
            self.push(Step::CreateSandbox { attempt });
        }
    }

    /// Stops sandboxes that have not been; true while any is left.
    pub(super) fn stop_sandboxes(&mut self) -> bool {
        let mut any = false;
        for sandbox in self.observed.sandboxes.iter().filter(|sandbox| !sandbox.stopped) {
            any = true;
            if !self.observed.doing.stopping.contains(&sandbox.id) {
                self.plan.steps.push(Step::StopSandbox { id: sandbox.id.clone() });
            }
        }
        any
    }

    /// Whether a new sandbox would have any use.
    fn anything_left_to_run(&self) -> bool {
        let regular = spec::regular_containers(self.pod);
        let init_failed = spec::init_containers(self.pod).iter().any(|container| {
            let exit = self.observed.latest(&container.name).and_then(ContainerRecord::exit);
            !is_sidecar(container)
                && exit.is_some_and(|exit| exit.code != 0 && !spec::restarts_after(self.pod, container, exit, true))
        });
        let ran = regular.iter().any(|container| self.observed.latest(&container.name).is_some());
        if init_failed && !ran {
            return false;
        }
        regular.iter().any(|container| {
            // A container that died with its sandbox counts as ended, not as lost.
            let record = self.observed.latest(&container.name).filter(|record| !record.is_running());
            spec::should_start(self.pod, container, record)
        })
    }

    fn init(&mut self) -> Init {
        let containers = spec::init_containers(self.pod);
        // Once a regular container exists here, initialization is over, even if the records of init containers are gone.
        let over = spec::regular_containers(self.pod).iter().any(|c| self.observed.current(&c.name).is_some());
        let last = containers.iter().rposition(|container| self.observed.current(&container.name).is_some());
        let kept_up = if over { containers.len() } else { last.unwrap_or(0) };
        for container in containers[..kept_up].iter().filter(|container| is_sidecar(container)) {
            self.keep_sidecar(container);
        }
        if over || containers.is_empty() {
            return Init::Done;
        }
        let next = match last {
            None => 0,
            Some(at) => match self.current_init(&containers[at]) {
                Init::Done => at + 1,
                other => return other,
            },
        };
        match containers.get(next) {
            None => Init::Done,
            Some(container) => {
                let role = if is_sidecar(container) { Role::Sidecar } else { Role::Init };
                self.start(&container.name, role);
                Init::Pending
            }
        }
    }

    /// The init container that was started last decides whether the next one may start.
    fn current_init(&mut self, container: &Container) -> Init {
        let Some(record) = self.observed.current(&container.name) else { return Init::Pending };
        if is_sidecar(container) {
            self.keep_sidecar(container);
            let started = self.observed.is_started(record, container.startup_probe.is_some());
            return if started { Init::Done } else { Init::Pending };
        }
        match &record.state {
            State::Running { .. } => Init::Pending,
            State::Created | State::Unknown => {
                self.start(&container.name, Role::Init);
                Init::Pending
            }
            State::Exited(exit) if exit.code == 0 => Init::Done,
            State::Exited(exit) if spec::restarts_after(self.pod, container, exit, true) => {
                self.start(&container.name, Role::Init);
                Init::Pending
            }
            State::Exited(_) => Init::Failed,
        }
    }

    fn keep_sidecar(&mut self, container: &Container) {
        match self.observed.current(&container.name) {
            Some(record) if record.is_running() => {
                self.kill_if_unfit(container, record);
            }
            _ => self.start(&container.name, Role::Sidecar),
        }
    }

    fn regular(&mut self) {
        let mut kept = 0;
        for container in spec::regular_containers(self.pod) {
            match self.observed.latest(&container.name) {
                Some(record) if record.is_running() => {
                    let killed = self.kill_if_unfit(container, record);
                    let again = spec::restart_policy(self.pod) != "Never" || container.restart_policy.is_some();
                    // One that is killed and comes back keeps the pod alive just as a running one does.
                    kept += usize::from(!killed || again);
                }
                record if spec::should_start(self.pod, container, record) => {
                    kept += 1;
                    self.start(&container.name, Role::Regular);
                }
                _ => {}
            }
        }
        if kept == 0 && self.observed.running().all(|record| !self.is_regular(&record.name)) {
            self.complete();
        }
    }

    fn is_regular(&self, name: &str) -> bool {
        spec::regular_containers(self.pod).iter().any(|container| container.name == name)
    }

    /// Kills a running container whose spec changed or whose probes failed.
    fn kill_if_unfit(&mut self, container: &Container, record: &ContainerRecord) -> bool {
        let probed = self.observed.probed(&record.id);
        let (cause, probe) = if !record.hash.is_empty() && record.hash != spec::hash(container) {
            (KillCause::SpecChanged, None)
        } else if probed.liveness == Some(false) {
            (KillCause::LivenessProbe, container.liveness_probe.as_ref())
        } else if probed.startup == Some(false) {
            (KillCause::StartupProbe, container.startup_probe.as_ref())
        } else if resize::action(container, record, self.observed) == resize::Action::Restart {
            (KillCause::Resized, None)
        } else {
            return false;
        };
        let own = probe.and_then(|probe| probe.termination_grace_period_seconds);
        self.kill(record, own.unwrap_or_else(|| spec::grace_seconds(self.pod)), cause);
        true
    }

    /// Starts a container unless the lane is busy or it has to wait.
    fn start(&mut self, name: &str, role: Role) {
        let failure = self.observed.failures.get(name).cloned();
        if self.held_back(failure.as_ref()) {
            return;
        }
        let latest = self.observed.latest(name);
        let mut back_off = None;
        if let Some(exit) = latest.and_then(ContainerRecord::exit) {
            let known = self.observed.back_off.get(name);
            if let Some(until) = backoff::until(known, exit.finished_at, self.now) {
                let delay = known.map(|known| backoff::print(known.delay)).unwrap_or_default();
                let pod = spec::describe(self.pod);
                let message = format!("back-off {delay} restarting failed container={name} pod={pod}");
                let waiting = Waiting { reason: "CrashLoopBackOff".into(), message };
                self.plan.waiting.insert(name.to_owned(), waiting);
                return self.wake(until);
            }
            back_off = Some(backoff::next(known, exit.finished_at, self.now));
        }
        if self.observed.doing.starting || !self.observed.volumes_ready {
            return;
        }
        let attempt = latest.map_or(0, |record| record.attempt + 1);
        self.push(Step::Start { container: name.to_owned(), role, attempt, back_off });
    }

    /// Nothing more will run: what is left (sidecars, ephemeral containers, the sandbox) goes.
    fn complete(&mut self) {
        self.plan.steps.retain(|step| !matches!(step, Step::Start { .. } | Step::SetUpVolumes));
        let ending = Ending::completed(self.pod);
        self.end(&ending);
    }

    /// Forgets instances before the last two of each container, and old sandboxes with nothing left in them.
    fn sweep(&mut self) {
        for record in &self.observed.containers {
            let latest = self.observed.latest(&record.name).map(|latest| &latest.id);
            let previous = self.observed.previous(&record.name).map(|previous| &previous.id);
            let wanted = latest == Some(&record.id) || previous == Some(&record.id);
            if !wanted && !record.is_running() && !self.observed.doing.removing.contains(&record.id) {
                let (id, container) = (record.id.clone(), record.name.clone());
                self.plan.steps.push(Step::RemoveContainer { id, container });
            }
        }
        for sandbox in self.observed.sandboxes.iter().skip(1) {
            let empty = self.observed.containers.iter().all(|record| record.sandbox != sandbox.id);
            let doing = &self.observed.doing;
            if !sandbox.stopped && !doing.stopping.contains(&sandbox.id) {
                self.plan.steps.push(Step::StopSandbox { id: sandbox.id.clone() });
            } else if sandbox.stopped && empty && !doing.removing.contains(&sandbox.id) {
                self.plan.steps.push(Step::RemoveSandbox { id: sandbox.id.clone() });
            }
        }
    }
}

enum Init {
    Done,
    Pending,
    /// An init container failed and must not run again.
    Failed,
}
