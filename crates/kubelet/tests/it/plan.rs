//! Plans over a table of situations (as a snapshot), and what must hold of every plan: a simulated node carries plans out
//! and stirs things up between them.

use std::fmt::Write;

use client::{apimachinery::pkg::apis::meta::v1::Time, kinds::core::v1::Pod};
use jiff::{SignedDuration, Timestamp};
use kubelet::plan::{
    BackOff, ContainerRecord, Exit, PodObserved, PodPlan, Probed, Role, SandboxRecord, State, Step, Verdict, plan_pod,
    spec,
};
use proptest::prelude::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds)
}

fn pod(spec: &str) -> Pod {
    let spec: serde_json::Value = serde_json::from_str(spec).expect("json");
    let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u"}, "spec": spec});
    serde_json::from_value(pod).expect("a pod")
}

fn deleted(mut pod: Pod, grace: i64) -> Pod {
    pod.metadata.deletion_timestamp = Some(Time(at(0)));
    pod.metadata.deletion_grace_period_seconds = Some(grace);
    pod
}

fn sandbox(id: &str, attempt: u32, ready: bool) -> SandboxRecord {
    SandboxRecord { id: id.into(), attempt, ready, stopped: !ready, ips: vec!["10.0.0.1".into()], created_at: at(0) }
}

fn exited(code: i32) -> State {
    State::Exited(Exit { started_at: at(0), finished_at: at(0), code, reason: String::new(), message: String::new() })
}

const RUNNING: State = State::Running { started_at: Timestamp::UNIX_EPOCH };

fn container(pod: &Pod, name: &str, attempt: u32, sandbox: &str, state: State) -> ContainerRecord {
    ContainerRecord {
        id: format!("{name}-{attempt}"),
        name: name.into(),
        attempt,
        sandbox: sandbox.into(),
        state,
        hash: spec::find(pod, name).map(|(_, container)| spec::hash(&container)).unwrap_or_default(),
        image: String::new(),
        image_ref: String::new(),
        log_path: String::new(),
        created_at: at(i64::from(attempt)),
    }
}

/// A pod in sandbox `s` with its volumes in place and these containers: name, attempt, state.
fn running(pod: &Pod, containers: Vec<(&str, u32, State)>) -> PodObserved {
    let records = containers.into_iter().map(|(name, attempt, state)| container(pod, name, attempt, "s", state));
    PodObserved {
        sandboxes: vec![sandbox("s", 0, true)],
        containers: records.collect(),
        volumes_ready: true,
        ..PodObserved::default()
    }
}

const ONE: &str = r#"{"containers": [{"name": "a", "image": "x"}]}"#;
const TWO_NEVER: &str = r#"{"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]}"#;
const INIT: &str = r#"{"initContainers": [{"name": "i1"}, {"name": "i2"}], "containers": [{"name": "a"}]}"#;
const SIDECAR: &str = r#"{"restartPolicy": "Never",
    "initContainers": [{"name": "s1", "restartPolicy": "Always", "startupProbe": {}}, {"name": "i", "image": "x"}, {"name": "s2", "restartPolicy": "Always"}],
    "containers": [{"name": "a", "image": "x"}]}"#;
const PROBED: &str = r#"{"containers": [{"name": "a", "livenessProbe": {"terminationGracePeriodSeconds": 5}}]}"#;

fn starting() -> Vec<(&'static str, Pod, PodObserved)> {
    let (one, init, sidecar) = (pod(ONE), pod(INIT), pod(SIDECAR));
    let mut volumes_missing = running(&one, vec![]);
    volumes_missing.volumes_ready = false;
    let mut no_address = running(&one, vec![]);
    no_address.sandboxes[0].ips.clear();
    let mut lane = running(&one, vec![]);
    lane.doing.starting = true;
    let mut probe_pending = running(&sidecar, vec![("s1", 0, RUNNING)]);
    probe_pending.probes.insert("s1-0".into(), Probed::default());
    let mut probe_good = probe_pending.clone();
    probe_good.probes.insert("s1-0".into(), Probed { startup: Some(true), ..Probed::default() });
    let mut hook = running(&sidecar, vec![("s1", 0, RUNNING), ("i", 0, exited(0)), ("s2", 0, RUNNING)]);
    hook.probes.insert("s1-0".into(), Probed { startup: Some(true), ..Probed::default() });
    let after_hook = hook.clone();
    hook.post_start.insert("s2-0".into());
    vec![
        ("a new pod", one.clone(), PodObserved::default()),
        ("sandbox up, volumes not", one.clone(), volumes_missing),
        ("sandbox without an address", one.clone(), no_address),
        ("ready to start", one.clone(), running(&one, vec![])),
        ("the lane is busy", one, lane),
        ("init containers: none ran", init.clone(), running(&init, vec![])),
        ("init containers: the first runs", init.clone(), running(&init, vec![("i1", 0, RUNNING)])),
        ("init containers: the first is done", init.clone(), running(&init, vec![("i1", 0, exited(0))])),
        ("init containers: the first failed", init.clone(), running(&init, vec![("i1", 0, exited(1))])),
        ("init containers: only the last is known", init.clone(), running(&init, vec![("i2", 0, exited(0))])),
        ("init containers: all forgotten, main runs", init.clone(), running(&init, vec![("a", 0, RUNNING)])),
        ("sidecar: startup probe pending", sidecar.clone(), probe_pending),
        ("sidecar: started, the next may", sidecar.clone(), probe_good),
        ("sidecar: its postStart hook runs", sidecar.clone(), hook),
        ("sidecars are up", sidecar, after_hook),
    ]
}

fn restarting() -> Vec<(&'static str, Pod, PodObserved)> {
    let (one, two, sidecar, probed) = (pod(ONE), pod(TWO_NEVER), pod(SIDECAR), pod(PROBED));
    let on_failure = pod(r#"{"restartPolicy": "OnFailure", "containers": [{"name": "a"}, {"name": "b"}]}"#);
    let rules = pod(r#"{"restartPolicy": "Never", "containers": [{"name": "a", "restartPolicy": "Never",
            "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]}"#);
    let mut crashing = running(&one, vec![("a", 3, exited(1)), ("a", 2, exited(1)), ("a", 1, exited(1))]);
    crashing.back_off.insert("a".into(), BackOff { delay: SignedDuration::from_secs(40), updated: at(-1) });
    let mut unhealthy = running(&probed, vec![("a", 0, RUNNING)]);
    unhealthy.probes.insert("a-0".into(), Probed { liveness: Some(false), ..Probed::default() });
    let mut killing = unhealthy.clone();
    killing.doing.killing.insert("a-0".into(), at(1));
    let mut changed = running(&one, vec![("a", 0, RUNNING)]);
    changed.containers[0].hash = "other".into();
    let mut dead = running(&one, vec![("a", 0, RUNNING)]);
    dead.sandboxes[0].ready = false;
    let mut dead_empty = running(&one, vec![("a", 0, exited(255))]);
    dead_empty.sandboxes[0].ready = false;
    dead_empty.sandboxes[0].stopped = true;
    let mut dead_done = running(&two, vec![("a", 0, exited(0)), ("b", 0, exited(1))]);
    dead_done.sandboxes[0].ready = false;
    dead_done.sandboxes[0].stopped = true;
    let mut died = dead_empty.clone();
    died.sandboxes[0].stopped = false;
    let mut old_sandbox = running(&one, vec![("a", 0, RUNNING)]);
    old_sandbox.sandboxes.push(sandbox("old", 0, false));
    vec![
        ("all is well", one.clone(), running(&one, vec![("a", 0, RUNNING)])),
        ("first crash", one.clone(), running(&one, vec![("a", 0, exited(1))])),
        ("crash loop", one.clone(), crashing),
        (
            "OnFailure: one failed, one succeeded",
            on_failure.clone(),
            running(&on_failure, vec![("a", 0, exited(1)), ("b", 0, exited(0))]),
        ),
        ("Never: one is left", two.clone(), running(&two, vec![("a", 0, exited(1)), ("b", 0, RUNNING)])),
        ("Never: all ended", two.clone(), running(&two, vec![("a", 0, exited(0)), ("b", 0, exited(1))])),
        ("restart rule matches", rules.clone(), running(&rules, vec![("a", 0, exited(42))])),
        ("restart rule does not match", rules.clone(), running(&rules, vec![("a", 0, exited(1))])),
        (
            "a sidecar crashed",
            sidecar.clone(),
            running(&sidecar, vec![("s1", 0, exited(1)), ("a", 0, RUNNING), ("s2", 0, RUNNING)]),
        ),
        (
            "main is done, sidecars are not",
            sidecar.clone(),
            running(&sidecar, vec![("s1", 0, RUNNING), ("a", 0, exited(0)), ("s2", 0, RUNNING)]),
        ),
        ("liveness probe failed", probed.clone(), unhealthy),
        ("liveness probe failed, kill under way", probed, killing),
        ("image changed", one.clone(), changed),
        ("the sandbox died under a container", one.clone(), dead),
        ("the sandbox died and holds its network", one.clone(), died),
        ("the sandbox died", one.clone(), dead_empty),
        ("the sandbox died after the end", two, dead_done),
        ("an old sandbox is left", one, old_sandbox),
    ]
}

fn ending() -> Vec<(&'static str, Pod, PodObserved)> {
    let (one, sidecar) = (pod(ONE), pod(SIDECAR));
    let all = vec![("s1", 0, RUNNING), ("a", 0, RUNNING), ("s2", 0, RUNNING)];
    let mut late = running(&sidecar, vec![("s1", 0, RUNNING), ("a", 0, exited(0)), ("s2", 0, exited(0))]);
    late.ending_since = Some(at(-8));
    let mut shorter = running(&one, vec![("a", 0, RUNNING)]);
    shorter.doing.killing.insert("a-0".into(), at(30));
    let mut stopped = running(&one, vec![("a", 0, exited(0))]);
    stopped.volumes_gone = true;
    let mut gone = stopped.clone();
    gone.sandboxes[0].ready = false;
    gone.sandboxes[0].stopped = true;
    let mut pulling = running(&one, vec![]);
    pulling.doing.starting = true;
    let mut deadline = pod(r#"{"activeDeadlineSeconds": 10, "containers": [{"name": "a"}]}"#);
    deadline.status = Some(Default::default());
    let mut overdue = running(&deadline, vec![("a", 0, RUNNING)]);
    overdue.started_at = Some(at(-10));
    let mut evicted = running(&one, vec![("a", 0, RUNNING)]);
    evicted.verdict =
        Some(Verdict { reason: "Evicted".into(), message: String::new(), grace_seconds: Some(0), disruption: true });
    let mut removed = running(&one, vec![("a", 0, RUNNING)]);
    removed.removed = true;
    vec![
        ("deleted while running", deleted(one.clone(), 5), running(&one, vec![("a", 0, RUNNING)])),
        ("deleted again with a shorter grace", deleted(one.clone(), 5), shorter),
        ("deleted while an image is pulled", deleted(one.clone(), 5), pulling),
        ("deleted with sidecars", deleted(sidecar.clone(), 10), running(&sidecar, all)),
        ("deleted, last sidecar, grace used up", deleted(sidecar, 10), late),
        ("deleted, containers ended", deleted(one.clone(), 5), running(&one, vec![("a", 0, exited(0))])),
        ("deleted, volumes gone", deleted(one.clone(), 5), stopped),
        ("deleted, sandbox stopped", deleted(one.clone(), 5), gone),
        ("past its active deadline", deadline, overdue),
        ("evicted", one.clone(), evicted),
        ("object gone", one, removed),
    ]
}

#[test]
fn plans_of_all_situations() {
    let mut text = String::new();
    for (title, table) in [("starting", starting()), ("restarting", restarting()), ("ending", ending())] {
        for (name, pod, observed) in table {
            let _ = write!(text, "== {title}: {name}\n{}", plan_pod(&pod, &observed, at(0)));
        }
    }
    insta::assert_snapshot!(text);
}

/// A node that does what plans say, at once or later, and whose containers end as they like.
struct Simulation {
    pod: Pod,
    observed: PodObserved,
    now: Timestamp,
    serial: u32,
}

#[derive(Clone, Debug)]
enum Stir {
    Carry,
    Exit { which: usize, code: i32 },
    SandboxDies,
    Probe { which: usize, startup: bool, good: bool },
    Wait(i64),
    Delete(i64),
    FailStart,
}

fn stirs() -> impl Strategy<Value = Vec<Stir>> {
    let stir = prop_oneof![
        6 => Just(Stir::Carry),
        3 => (0..4_usize, prop_oneof![Just(0), Just(1)]).prop_map(|(which, code)| Stir::Exit { which, code }),
        1 => Just(Stir::SandboxDies),
        2 => (0..4_usize, any::<bool>(), any::<bool>()).prop_map(|(which, startup, good)| Stir::Probe { which, startup, good }),
        2 => (0..400_i64).prop_map(Stir::Wait),
        1 => (0..40_i64).prop_map(Stir::Delete),
        1 => Just(Stir::FailStart),
    ];
    proptest::collection::vec(stir, 1..60)
}

impl Simulation {
    fn plan(&mut self) -> PodPlan {
        let plan = plan_pod(&self.pod, &self.observed, self.now);
        if plan.ends {
            self.observed.ending_since.get_or_insert(self.now);
        }
        self.check(&plan);
        plan
    }

    /// What must hold of every plan.
    fn check(&self, plan: &PodPlan) {
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        let initialized = spec::init_containers(&self.pod).iter().all(|container| {
            let record = self.observed.current(&container.name);
            record.is_some_and(|record| spec::is_sidecar(container) || record.exit().is_some_and(|exit| exit.code == 0))
        });
        let mut started = Vec::new();
        for step in &plan.steps {
            match step {
                Step::Start { container, role, attempt, .. } => {
                    assert!(!deleted, "a pod that is deleted starts nothing: {step}");
                    assert!(!started.contains(&container), "started twice: {plan}");
                    assert!(self.observed.running().all(|record| record.name != *container), "two instances: {step}");
                    assert!(
                        self.observed.containers.iter().all(|r| r.name != *container || r.attempt < *attempt),
                        "{step}"
                    );
                    let main_ran =
                        spec::regular_containers(&self.pod).iter().any(|c| self.observed.current(&c.name).is_some());
                    assert!(*role != Role::Regular || initialized || main_ran, "before init containers ended: {step}");
                    started.push(container);
                }
                Step::CreateSandbox { .. } => {
                    assert!(!deleted && self.observed.sandboxes.iter().all(|sandbox| !sandbox.ready), "{step}");
                    assert_eq!(self.observed.running().count(), 0, "a sandbox beside running containers");
                }
                Step::SetUpVolumes => assert!(!deleted, "{step}"),
                Step::TearDownVolumes | Step::StopSandbox { .. } | Step::RemoveCgroup | Step::Finish => {
                    assert_eq!(self.observed.running().count(), 0, "{step} under running containers");
                }
                Step::RemoveContainer { id, .. } => {
                    assert!(self.observed.running().all(|record| record.id != *id), "{step} of a running container");
                }
                Step::RemoveSandbox { id } => {
                    let stopped = self.observed.sandboxes.iter().all(|sandbox| sandbox.id != *id || sandbox.stopped);
                    assert!(stopped, "its network is still up: {step}");
                }
                Step::Kill { .. } | Step::Resize { .. } => {}
            }
        }
    }

    fn carry_out(&mut self, plan: &PodPlan) {
        for step in &plan.steps {
            let now = self.now;
            match step.clone() {
                Step::SetUpVolumes => {
                    self.observed.volumes_ready = true;
                    self.observed.volumes_gone = false;
                }
                Step::CreateSandbox { attempt } => {
                    self.observed.sandboxes.insert(0, sandbox(&format!("s{attempt}"), attempt, true));
                }
                Step::Start { container: name, attempt, back_off, .. } => {
                    if let Some(back_off) = back_off {
                        self.observed.back_off.insert(name.clone(), back_off);
                    }
                    let Some(sandbox) = self.observed.sandbox().map(|sandbox| sandbox.id.clone()) else { continue };
                    self.serial += 1;
                    let state = State::Running { started_at: now };
                    let mut record = container(&self.pod, &name, attempt, &sandbox, state);
                    record.id = format!("{name}-{attempt}-{}", self.serial);
                    self.observed.containers.push(record);
                }
                Step::Resize { .. } => {}
                Step::Kill { id, .. } => self.end(&id, 137),
                Step::StopSandbox { id } => {
                    self.observed
                        .sandboxes
                        .iter_mut()
                        .filter(|s| s.id == id)
                        .for_each(|s| (s.ready, s.stopped) = (false, true));
                }
                Step::RemoveContainer { id, .. } => self.observed.containers.retain(|record| record.id != id),
                Step::RemoveSandbox { id } => {
                    self.observed.containers.retain(|record| record.sandbox != id);
                    self.observed.sandboxes.retain(|sandbox| sandbox.id != id);
                }
                Step::TearDownVolumes => {
                    self.observed.volumes_gone = true;
                    self.observed.volumes_ready = false;
                }
                Step::RemoveCgroup => self.observed.cgroup_gone = true,
                Step::Finish => self.observed.finished = true,
            }
        }
    }

    fn end(&mut self, id: &str, code: i32) {
        let now = self.now;
        for record in self.observed.containers.iter_mut().filter(|record| record.id == id && record.is_running()) {
            let exit = Exit { started_at: now, finished_at: now, code, reason: String::new(), message: String::new() };
            record.state = State::Exited(exit);
        }
    }

    fn running(&self, which: usize) -> Option<String> {
        let all: Vec<_> = self.observed.running().collect();
        all.get(which % all.len().max(1)).map(|record| record.id.clone())
    }

    fn stir(&mut self, stir: &Stir) {
        match stir {
            Stir::Carry => {
                let plan = self.plan();
                self.carry_out(&plan);
            }
            Stir::Exit { which, code } => {
                if let Some(id) = self.running(*which) {
                    self.end(&id, *code);
                }
            }
            Stir::SandboxDies => self.observed.sandboxes.iter_mut().for_each(|sandbox| sandbox.ready = false),
            Stir::Probe { which, startup, good } => {
                if let Some(id) = self.running(*which) {
                    let probed = self.observed.probes.entry(id).or_default();
                    *(if *startup { &mut probed.startup } else { &mut probed.liveness }) = Some(*good);
                }
            }
            Stir::Wait(seconds) => self.now += SignedDuration::from_secs(*seconds),
            Stir::Delete(grace) => self.pod = deleted(self.pod.clone(), *grace),
            Stir::FailStart => {
                let plan = self.plan();
                for step in &plan.steps {
                    if let Step::Start { container, .. } = step {
                        let retry_at = self.now + SignedDuration::from_secs(10);
                        let failure = kubelet::plan::Failure {
                            reason: "ErrImagePull",
                            message: String::new(),
                            retry_at,
                            count: 1,
                        };
                        self.observed.failures.insert(container.clone(), failure);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_can_be_run_and_ended(stirs in stirs(), kind in 0..5_usize, policy in 0..3_usize) {
        let specs = [ONE, TWO_NEVER, INIT, SIDECAR, PROBED];
        let mut pod = pod(specs[kind]);
        if let Some(spec) = pod.spec.as_mut() {
            spec.restart_policy = Some(["Always", "OnFailure", "Never"][policy].to_owned());
        }
        let mut simulation = Simulation { pod, observed: PodObserved::default(), now: at(0), serial: 0 };
        for stir in &stirs {
            simulation.stir(stir);
        }
        // Whatever happened: once deleted, the pod is gone after a bounded number of plans.
        simulation.stir(&Stir::Delete(1));
        for _ in 0..12 {
            simulation.stir(&Stir::Carry);
        }
        prop_assert!(simulation.observed.finished, "{:?}", simulation.observed);
        prop_assert!(simulation.observed.sandboxes.is_empty() && simulation.observed.containers.is_empty());
    }
}
