//! Events about objects, written in the background (client-go `tools/record/event.go`).

mod correlate;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{
    Client, Clock, Error, Kind, PatchKind, SystemClock,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    kinds::core::v1::{Event, EventSource, ObjectReference},
};
use correlate::{Correlator, Decision};

/// Events that wait to be written; more are dropped, as nothing may wait for an event.
const QUEUE: usize = 1000;
/// Tries per event while no API server answers, and the time between them.
const TRIES: u32 = 12;
const RETRY_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// What an event about `object` is about.
pub fn reference<K: Kind>(object: &K) -> ObjectReference {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        namespace: text(object.namespace()),
        name: text(object.name()),
        uid: text(object.uid()),
        resource_version: text(object.resource_version()),
        field_path: None,
    }
}

/// Writes one component's events. Cheap to clone: all clones are one recorder.
#[derive(Clone)]
pub struct EventRecorder {
    shared: Arc<Shared>,
}

struct Shared {
    component: String,
    host: String,
    clock: Arc<dyn Clock>,
    queue: mpsc::Sender<Event>,
    /// Taken when the first event comes, so that a recorder may be made outside of a tokio runtime.
    unstarted: Mutex<Option<Writer>>,
}

impl EventRecorder {
    /// `host` is empty for a component that is not of one node.
    pub fn new(client: Client, component: &str, host: &str) -> Self {
        EventRecorder::with_clock(client, component, host, Arc::new(SystemClock))
    }

    pub fn with_clock(client: Client, component: &str, host: &str, clock: Arc<dyn Clock>) -> Self {
        let (queue, events) = mpsc::channel(QUEUE);
        let writer = Writer { client, events, correlator: Correlator::default(), clock: clock.clone() };
        let shared = Shared {
            component: component.to_owned(),
            host: host.to_owned(),
            clock,
            queue,
            unstarted: Mutex::new(Some(writer)),
        };
        EventRecorder { shared: Arc::new(shared) }
    }

    /// Never waits. Equal events become one with a count, too many about one object are dropped.
    pub fn event(&self, regarding: ObjectReference, kind: EventType, reason: &str, message: String) {
        let event = self.make(regarding, kind, reason, message);
        self.start();
        if let Err(error) = self.shared.queue.try_send(event) {
            tracing::warn!(component = self.shared.component, %error, reason, "event dropped");
        }
    }

    fn start(&self) {
        let mut unstarted = self.shared.unstarted.lock();
        if let (Some(_), Ok(runtime)) = (&*unstarted, tokio::runtime::Handle::try_current())
            && let Some(writer) = unstarted.take()
        {
            runtime.spawn(writer.run());
        }
    }

    /// client-go `makeEvent`. An object of the cluster has its events in `default`.
    fn make(&self, regarding: ObjectReference, kind: EventType, reason: &str, message: String) -> Event {
        let now = self.shared.clock.now();
        let name = regarding.name.as_deref().unwrap_or_default();
        let namespace = regarding.namespace.clone().unwrap_or_else(|| "default".to_owned());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:016x}", now.as_nanosecond())),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            reason: Some(reason.to_owned()),
            message: Some(message),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            count: Some(1),
            type_: Some(kind.as_str().to_owned()),
            source: Some(EventSource {
                component: Some(self.shared.component.clone()),
                host: (!self.shared.host.is_empty()).then(|| self.shared.host.clone()),
            }),
            reporting_component: Some(self.shared.component.clone()),
            reporting_instance: Some(self.shared.host.clone()),
            involved_object: regarding,
            ..Event::default()
        }
    }
}

struct Writer {
    client: Client,
    events: mpsc::Receiver<Event>,
    correlator: Correlator,
    clock: Arc<dyn Clock>,
}

impl Writer {
    async fn run(mut self) {
        while let Some(event) = self.events.recv().await {
            let decision = self.correlator.observe(event, self.clock.now());
            for attempt in 1.. {
                match self.write(&decision).await {
                    Err(error @ Error::Transport(_)) if attempt < TRIES => {
                        tracing::debug!(%error, "cannot write event, trying again");
                        tokio::time::sleep(RETRY_AFTER.mul_f64(rand::random_range(0.1..1.0))).await;
                    }
                    // Anything the server answered will be answered again.
                    Err(error) => {
                        tracing::debug!(%error, "event dropped");
                        break;
                    }
                    Ok(()) => break,
                }
            }
        }
    }

    async fn write(&self, decision: &Decision) -> crate::Result<()> {
        let (event, patch) = match decision {
            Decision::Drop => return Ok(()),
            Decision::Create(event) => (event, None),
            Decision::Patch { event, patch } => (event, Some(patch)),
        };
        let api = self.client.namespaced::<Event>(event.namespace());
        if let Some(patch) = patch {
            match api.patch(event.name(), None, PatchKind::Strategic, patch.clone()).await {
                // Events expire; then the count goes on in a new one.
                Err(error) if error.is_not_found() => {}
                result => return result.map(drop),
            }
        }
        api.create(event).await.map(drop)
    }
}
