//! The one writer thread: group commit, expiry, and what happens when a commit fails.

use std::{
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    Clock, database,
    disk::{Disk, Trouble},
    fault::{Fault, WAY_OUT, contained, fault},
    shared::Shared,
    sidecar::{Sidecar, Witness},
    transaction::{Batch, Operation, Outcome},
};
use crate::{Error, Result, Revision};

/// Most writes in one transaction.
const BATCH_WRITES: usize = 512;
/// A batch takes no further write once it has this many bytes of values.
const BATCH_BYTES: usize = 4 << 20;
/// Most rows that expire in one transaction.
const BATCH_EXPIRIES: usize = 1024;
/// Longest sleep while rows have a time to live: bounds how late they go after the clock was set forward.
const EXPIRY_WAIT_MAX: Duration = Duration::from_secs(10);
/// After a full disk, how long creates and updates are refused before the disk is tried again. Each try that fails
/// costs a reopening. Deletes are always tried.
const FULL_DISK_WAIT_MS: u64 = 1000;

/// Longest wait for those who have just been answered to come back with their next write. Without it, half of a crowd of
/// writers always waits while the other half is written, and each commit carries half of what it could.
const GATHER_MAX: Duration = Duration::from_micros(500);

pub(super) struct Write {
    pub key: Arc<str>,
    pub operation: Operation,
    pub reply: oneshot::Sender<Result<Revision>>,
    /// The write's share of what may be queued.
    pub _permit: OwnedSemaphorePermit,
}

pub(super) enum Command {
    Write(Write),
    /// Deletes what is due now, then answers.
    Expire(Reply),
    Close(Reply),
}

type Reply = oneshot::Sender<Result<()>>;

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub disk: Arc<dyn Disk>,
    pub trouble: Arc<Trouble>,
    pub sidecar: Option<Sidecar>,
    pub id: u64,
    pub path: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub next_expiry: Option<u64>,
    /// When the disk was last found full (unix ms).
    pub full_since: Option<u64>,
    /// Writes that were sent and are not yet answered.
    pub waiting: Arc<AtomicUsize>,
    pub pace: Pace,
}

/// What the last commit tells about the next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Writes that were under way when it ended.
    crowd: usize,
    took: Duration,
}

impl Writer {
    /// Until told to close, or all senders are gone.
    pub(super) fn run(mut self, commands: Receiver<Command>) {
        loop {
            let first = match self.wait() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => commands.recv_timeout(wait),
            };
            let flow = match first {
                Ok(first) => self.turn(first, &commands),
                Err(RecvTimeoutError::Timeout) => {
                    self.expire();
                    ControlFlow::Continue(())
                }
                Err(RecvTimeoutError::Disconnected) => ControlFlow::Break(None),
            };
            if let ControlFlow::Break(reply) = flow {
                return self.close(reply);
            }
        }
    }

    /// How long to sleep for want of writes; `None` is for ever.
    fn wait(&self) -> Option<Duration> {
        let due = self.next_expiry?;
        if self.shared.check_poison().is_err() {
            return None;
        }
        let now = self.clock.now_unix_ms();
        let full_until = self.full_since.map_or(0, |since| since.saturating_add(FULL_DISK_WAIT_MS));
        let wait = due.max(full_until).saturating_sub(now);
        Some(Duration::from_millis(wait).min(EXPIRY_WAIT_MAX))
    }

    /// Takes what is queued behind `first` as one batch, up to the bounds or the next command that is not a write.
    fn turn(&mut self, first: Command, commands: &Receiver<Command>) -> ControlFlow<Option<Reply>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        let gather_until = Instant::now() + (self.pace.took / 8).min(GATHER_MAX);
        while let Some(command) = next.take() {
            let write = match command {
                Command::Write(write) => write,
                Command::Expire(reply) => {
                    self.commit(std::mem::take(&mut batch));
                    let _ = reply.send(self.expire_all());
                    break;
                }
                Command::Close(reply) => {
                    self.commit(batch);
                    return ControlFlow::Break(Some(reply));
                }
            };
            bytes += write.operation.bytes();
            batch.push(write);
            if batch.len() < BATCH_WRITES && bytes < BATCH_BYTES {
                next = commands.try_recv().ok();
                if next.is_none() && batch.len() < self.pace.crowd {
                    next = commands.recv_timeout(gather_until.saturating_duration_since(Instant::now())).ok();
                }
            }
        }
        self.commit(batch);
        ControlFlow::Continue(())
    }

    /// Makes the batch durable, publishes it and answers every write.
    fn commit(&mut self, batch: Vec<Write>) {
        if batch.is_empty() {
            return;
        }
        let started = Instant::now();
        let mut answers = Vec::with_capacity(batch.len());
        let result = self.admit(&batch).and_then(|()| {
            self.transact(|transaction| {
                for write in &batch {
                    answers.push(transaction.apply(&write.key, &write.operation)?);
                }
                transaction.expire(BATCH_EXPIRIES)
            })
        });
        let crowd = self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
        self.pace = Pace { crowd, took: started.elapsed() };
        match result {
            // A receiver that went away does not want to know; its write stands.
            Ok(()) => {
                for (write, answer) in batch.into_iter().zip(answers) {
                    let _ = write.reply.send(answer);
                }
            }
            Err(fault) => {
                for write in batch {
                    let _ = write.reply.send(Err(fault.clone().into()));
                }
            }
        }
    }

    fn admit(&self, batch: &[Write]) -> Result<(), Fault> {
        self.shared.check_poison()?;
        let Some(since) = self.full_since else {
            return Ok(());
        };
        let elapsed_ms = self.clock.now_unix_ms().saturating_sub(since);
        if elapsed_ms < FULL_DISK_WAIT_MS && !batch.iter().all(|write| write.operation.is_delete()) {
            return Err(self.no_space());
        }
        Ok(())
    }

    fn no_space(&self) -> Fault {
        Fault::NoSpace(format!("the disk that holds {} is full; free some space on it", self.path.display()))
    }

    /// One redb transaction. `Ok` means: what `work` did is durable and published.
    fn transact(&mut self, work: impl FnOnce(&mut Batch<'_>) -> Result<(), Fault>) -> Result<(), Fault> {
        if self.shared.database.read().is_none() {
            self.resume()?;
        }
        let before = self.shared.revision().0;
        let mut outcome = None;
        let result = contained(|| self.try_transact(work, &mut outcome));
        let committed = match result {
            Ok(()) => Ok(()),
            Err(fault) => self.after_failure(fault, before, outcome.as_ref()),
        };
        if committed.is_ok() {
            self.full_since = None;
            if let Some(outcome) = outcome {
                self.publish(outcome);
            }
        }
        committed
    }

    fn try_transact(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<(), Fault>,
        outcome: &mut Option<Outcome>,
    ) -> Result<(), Fault> {
        let database = self.shared.database.read();
        let Some(database) = database.as_ref() else {
            return Err(Fault::Closed);
        };
        let mut transaction = database.begin_write().map_err(fault)?;
        transaction.set_two_phase_commit(true);
        let mut batch = Batch::begin(&transaction, self.clock.now_unix_ms())?;
        work(&mut batch)?;
        let finished = outcome.insert(batch.finish()?);
        if finished.records.is_empty() {
            return transaction.abort().map_err(fault);
        }
        transaction.commit().map_err(fault)
    }

    fn publish(&mut self, outcome: Outcome) {
        self.next_expiry = outcome.next_expiry;
        if outcome.records.is_empty() {
            return;
        }
        self.shared.publish(outcome.records);
        if let Some(sidecar) = &self.sidecar {
            sidecar.testify(Witness { id: self.id, revision: outcome.meta.revision });
        }
    }

    /// Decides whether the engine can go on. `Ok` means that the batch turned out to be committed.
    fn after_failure(&mut self, failure: Fault, before: u64, outcome: Option<&Outcome>) -> Result<(), Fault> {
        if !self.trouble.is_only_no_space() {
            self.shared.poison(failure.clone());
            return Err(failure);
        }
        // redb lets nothing through after any I/O error, but a refused write has done no harm: open it again.
        tracing::warn!(path = %self.path.display(), "the disk is full");
        self.full_since = Some(self.clock.now_unix_ms());
        let found = self.reopen()?;
        match outcome {
            Some(outcome) if outcome.meta.revision == found && found > before => Ok(()),
            _ if found == before => Err(self.no_space()),
            _ => {
                let fault =
                    Fault::Damaged(format!("the store is at revision {found} after a failed write behind {before}"));
                self.shared.poison(fault.clone());
                Err(fault)
            }
        }
    }

    /// Opens what could not be opened again on a full disk. A write whose outcome was unknown may turn out to stand.
    fn resume(&mut self) -> Result<(), Fault> {
        let expected = self.shared.revision().0;
        let found = self.reopen()?;
        if found < expected {
            let fault = Fault::Damaged(format!("the store is at revision {found} and was at {expected}; {WAY_OUT}"));
            self.shared.poison(fault.clone());
            return Err(fault);
        }
        if found > expected {
            self.shared.restart_history(found);
        }
        Ok(())
    }

    /// Opens redb again, and answers the revision found.
    fn reopen(&mut self) -> Result<u64, Fault> {
        let mut place = self.shared.database.write();
        drop(place.take());
        self.trouble.clear();
        let opened = database::open(&self.disk, &self.trouble).and_then(|database| {
            let (meta, _) = database::verify(&database)?;
            Ok((database, meta))
        });
        match opened {
            Ok((database, meta)) => {
                *place = Some(database);
                drop(place);
                let found = meta.revision;
                tracing::info!(found, "the store was opened again");
                Ok(found)
            }
            Err(fault) => {
                drop(place);
                if self.trouble.is_only_no_space() {
                    return Err(Fault::Unavailable("the disk is full, and the store cannot be reopened".to_owned()));
                }
                self.shared.poison(fault.clone());
                Err(fault)
            }
        }
    }

    fn expire(&mut self) {
        let now = self.clock.now_unix_ms();
        if self.shared.check_poison().is_err() || self.next_expiry.is_none_or(|due| due > now) {
            return;
        }
        if let Err(error) = self.transact(|transaction| transaction.expire(BATCH_EXPIRIES)) {
            tracing::warn!(?error, "rows whose time is up cannot be deleted now");
            self.full_since = Some(now);
        }
    }

    fn expire_all(&mut self) -> Result<()> {
        while self.next_expiry.is_some_and(|due| due <= self.clock.now_unix_ms()) {
            self.shared.check_poison()?;
            self.transact(|transaction| transaction.expire(BATCH_EXPIRIES))?;
        }
        Ok(())
    }

    fn close(self, reply: Option<Reply>) {
        let database = self.shared.close();
        let result = contained(|| match database {
            Some(database) => database.close().map_err(fault).map_err(Error::from),
            None => Ok(()),
        });
        let result = match result {
            // Closing writes down the free list to make the next opening cheaper; everything acknowledged is on disk.
            Err(Error::NoSpace { .. }) => Ok(()),
            // A poisoned store has told its writers already.
            Err(Error::Unavailable { .. }) if self.shared.check_poison().is_err() => Ok(()),
            other => other,
        };
        // The locks go before the answer, so that whoever waits for it can open the store at once.
        drop(self);
        if let Some(reply) = reply {
            let _ = reply.send(result);
        }
    }
}
