//! Keeps reservations and Services in step after a server was killed between the two writes (upstream
//! `pkg/registry/core/service/ipallocator/controller/repairip.go` and `portallocator/controller/repair.go`): what a Service
//! holds is reserved again, and what nobody holds is freed once it has been so for a whole round.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use store::{Entry, ListOptions, Revision};
use tokio_util::sync::CancellationToken;

use super::{ADDRESSES, PORTS, address_object, holdings};
use crate::{Server, cache::stored_tree};

/// Upstream's interval. A request takes a minute at most, so what no Service holds for this long is nobody's.
const EVERY: Duration = Duration::from_secs(180);

/// What one round does.
#[derive(Debug, Default, PartialEq, Eq)]
struct Plan {
    /// Key and owner of what is held and not reserved.
    reserve: Vec<(String, String)>,
    /// Key and revision of what nobody held in the last round either.
    free: Vec<(String, Revision)>,
    /// What nobody holds now: freed in the next round if it still is the same.
    suspects: HashMap<String, Revision>,
}

/// `services`: owner and keys that it holds. `reserved`: keys with their revisions.
fn plan(
    services: &[(String, Vec<String>)],
    reserved: &[(String, Revision)],
    before: &HashMap<String, Revision>,
) -> Plan {
    let held: HashSet<&String> = services.iter().flat_map(|(_, keys)| keys).collect();
    let taken: HashSet<&String> = reserved.iter().map(|(key, _)| key).collect();
    let mut plan = Plan::default();
    for (owner, keys) in services {
        let missing = keys.iter().filter(|key| !taken.contains(key));
        plan.reserve.extend(missing.map(|key| (key.clone(), owner.clone())));
    }
    for (key, revision) in reserved.iter().filter(|(key, _)| !held.contains(key)) {
        if before.get(key) == Some(revision) {
            plan.free.push((key.clone(), *revision));
        } else {
            plan.suspects.insert(key.clone(), *revision);
        }
    }
    plan
}

/// Whether an IPAddress is one that this allocator made: others are somebody else's.
fn is_ours(address: &Entry) -> bool {
    let Ok(object) = stored_tree(&address.value) else { return false };
    let label = object.str_at(&["metadata", "labels", "ipaddress.kubernetes.io/managed-by"]);
    label == "ipallocator.k8s.io" && object.str_at(&["spec", "parentRef", "resource"]) == "services"
}

async fn entries(server: &Server, prefix: &str) -> store::Result<Vec<Entry>> {
    Ok(server.store.list(ListOptions { prefix: prefix.into(), ..ListOptions::default() }).await?.entries)
}

async fn round(server: &Server, before: HashMap<String, Revision>) -> store::Result<HashMap<String, Revision>> {
    // Reservations first: one that a Service of the later list has got is not mistaken for a leak.
    let addresses = entries(server, ADDRESSES).await?.into_iter().filter(is_ours);
    let ports = entries(server, PORTS).await?;
    let reserved: Vec<(String, Revision)> =
        addresses.chain(ports).map(|entry| (entry.key.to_string(), entry.modified)).collect();
    let Some(prefix) = server.resources.load().find("", "v1", "services").map(|services| services.storage_prefix())
    else {
        return Ok(HashMap::new());
    };
    let services = entries(server, &prefix).await?;
    let services: Vec<(String, Vec<String>)> = services
        .iter()
        .filter_map(|entry| {
            let service = stored_tree(&entry.value).ok()?;
            let owner =
                format!("{}/{}", service.str_at(&["metadata", "namespace"]), service.str_at(&["metadata", "name"]));
            Some((owner, holdings(&service)))
        })
        .collect();
    let plan = plan(&services, &reserved, &before);
    for (key, owner) in plan.reserve {
        let value = match key.strip_prefix(ADDRESSES) {
            Some(address) => address_object(address, &owner, server.clock.now()),
            None => owner.clone(),
        };
        match server.store.create(&key, Bytes::from(value), None).await {
            Ok(_) => tracing::warn!(key, owner, "reserved again what a Service holds"),
            // Somebody was faster, or it is an IPAddress that is not ours: in both cases nobody else can take it.
            Err(store::Error::Exists { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    for (key, revision) in plan.free {
        match server.store.delete(&key, revision).await {
            Ok(_) => tracing::warn!(key, "freed a reservation that no Service holds"),
            Err(store::Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(plan.suspects)
}

/// Repairs until `cancel`.
pub(crate) async fn run(server: Arc<Server>, cancel: CancellationToken) {
    let mut suspects = HashMap::new();
    loop {
        suspects = round(&server, suspects).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "reservations of addresses and ports could not be checked");
            HashMap::new()
        });
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = cancel.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_is_reserved_and_leaks_are_freed_in_the_second_round() {
        let text = |key: &str| key.to_owned();
        let services = [(text("default/a"), vec![text("ip1"), text("port1")]), (text("default/b"), vec![text("ip2")])];
        let reserved = [(text("ip1"), Revision(3)), (text("ip9"), Revision(5)), (text("port9"), Revision(8))];
        let first = plan(&services, &reserved, &HashMap::new());
        let missing = vec![(text("port1"), text("default/a")), (text("ip2"), text("default/b"))];
        assert_eq!((first.reserve, first.free), (missing, vec![]));
        assert_eq!(first.suspects.len(), 2);

        // One was given away in the meantime: it is another reservation now.
        let reserved = [(text("ip9"), Revision(5)), (text("port9"), Revision(11))];
        let second = plan(&[], &reserved, &first.suspects);
        assert_eq!(second.free, vec![(text("ip9"), Revision(5))]);
        assert_eq!(second.suspects, HashMap::from([(text("port9"), Revision(11))]));
    }
}
