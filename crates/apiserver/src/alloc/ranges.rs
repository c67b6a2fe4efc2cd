//! Where ClusterIPs come from: the ranges of the ServiceCIDRs that are ready (upstream
//! `pkg/registry/core/service/ipallocator/cidrallocator.go`).

use std::net::Ipv4Addr;

use api::Value;

use crate::{Server, config::ServiceRange};

/// How many addresses of a range are tried at random before it is walked through from its start.
const RANDOM_TRIES: u64 = 3840;
/// How far it is then walked through, and how large a range is walked through at once.
const WALK: u64 = 256;

/// How many addresses of a range are left for those who choose one, at most.
const CHOSEN_MAX: u64 = 256;

/// The ranges to give addresses from: the server's own first, which stands in where there is no ServiceCIDR yet.
pub(super) fn ready(server: &Server) -> Vec<ServiceRange> {
    let own = server.config.service_cluster_ip_range;
    let shelf = server.cache.shelf_at("servicecidrs");
    let snapshot = shelf.map(|shelf| shelf.snapshot()).filter(|snapshot| !snapshot.objects.is_empty());
    let Some(snapshot) = snapshot else { return vec![own] };
    let mut ranges: Vec<ServiceRange> = Vec::new();
    for (_, object) in &snapshot.objects {
        for range in of(&object.tree()) {
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
    }
    ranges.sort_by_key(|range| *range != own);
    ranges
}

/// The IPv4 ranges of a ServiceCIDR; none of one that is going, or that somebody calls not ready.
fn of(object: &Value) -> Vec<ServiceRange> {
    let list = |path: &[&str]| object.at(path).and_then(Value::as_array).unwrap_or_default();
    let is_no = |condition: &Value| condition.str_at(&["type"]) == "Ready" && condition.str_at(&["status"]) != "True";
    if object.at(&["metadata", "deletionTimestamp"]).is_some() || list(&["status", "conditions"]).iter().any(is_no) {
        return Vec::new();
    }
    list(&["spec", "cidrs"]).iter().filter_map(|text| ServiceRange::of_any_size(text.as_str()?)).collect()
}

/// Addresses of a range to try: at random from its upper part, as the lower is left for those who choose one (`ipallocator`,
/// dynamic offset), then one after the other. Neither the network's own address nor the last one.
pub(super) fn candidates(range: ServiceRange) -> impl Iterator<Item = Ipv4Addr> {
    let usable = range.size().saturating_sub(2);
    let low = (usable / 16).clamp(16.min(usable / 2), CHOSEN_MAX);
    let random = if usable > WALK { RANDOM_TRIES } else { 0 };
    let at_random = (0..random).map(move |_| low + rand::random_range(0..usable - low));
    let start = if usable > WALK { 0 } else { low };
    let upward = (start..usable).chain(0..start).take(WALK as usize);
    at_random.chain(upward).map(move |index| range.address_at(index as u32 + 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_are_those_of_ready_objects() {
        let cases = [
            (r#"{"spec":{"cidrs":["10.0.0.0/28","2001:db8::/112"]}}"#, "10.0.0.0/28"),
            (
                r#"{"spec":{"cidrs":["10.0.0.0/32"]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#,
                "10.0.0.0/32",
            ),
            (r#"{"spec":{"cidrs":["10.0.0.0/28"]},"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#, ""),
            (r#"{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"cidrs":["10.0.0.0/28"]}}"#, ""),
            (r#"{"spec":{}}"#, ""),
        ];
        for (object, wanted) in cases {
            let ranges = of(&api::json::parse(object.as_bytes()).expect("JSON"));
            assert_eq!(ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(","), wanted, "{object}");
        }
    }

    #[test]
    fn every_address_of_a_small_range_is_tried_and_none_outside() {
        for (range, count) in
            [("10.0.0.0/30", 2), ("10.0.0.0/28", 14), ("10.0.0.0/24", 254), ("10.0.0.0/31", 0), ("10.0.0.7/32", 0)]
        {
            let range = ServiceRange::of_any_size(range).expect("a range");
            let all: Vec<Ipv4Addr> = candidates(range).collect();
            let different: BTreeSet<&Ipv4Addr> = all.iter().collect();
            assert_eq!((all.len(), different.len()), (count, count), "{range}");
            assert!(all.iter().all(|address| range.contains(*address) && *address != range.network()), "{range}");
        }
        let range = ServiceRange::of_any_size("10.0.0.0/8").expect("a range");
        assert!(candidates(range).all(|address| range.contains(address)));
    }
}
