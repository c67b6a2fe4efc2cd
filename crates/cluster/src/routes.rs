//! Ways to the pods of other nodes: each node's part of the cluster's range is reached through that node's address. It
//! needs no encapsulation where nodes share a network, as the hosts of one layout do.

use std::{collections::BTreeMap, net::IpAddr};

use crate::{
    containerd::network::{NetworkError, run},
    layout::Cidr,
};

/// Marks our routes in the kernel's table, which has more of them (`/etc/iproute2/rt_protos` leaves this number free).
const PROTOCOL: &str = "96";

/// Where the pods of each node are.
pub type Routes = BTreeMap<Cidr, IpAddr>;

/// What changes the routes that are into those that are wanted, as lines for `ip -batch`.
pub fn plan(wanted: &Routes, present: &Routes) -> String {
    let gone = present.keys().filter(|range| !wanted.contains_key(range));
    let gone = gone.map(|range| format!("route del {range} proto {PROTOCOL}\n"));
    let new = wanted.iter().filter(|(range, via)| present.get(range) != Some(via));
    let new = new.map(|(range, via)| format!("route replace {range} via {via} proto {PROTOCOL}\n"));
    gone.chain(new).collect()
}

/// What `ip -json route` tells.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    /// Routes that we have made.
    ours: Routes,
    /// Networks that the node is on.
    connected: Vec<Cidr>,
}

fn parse(json: &str) -> Table {
    let list: Vec<serde_json::Value> = serde_json::from_str(json).unwrap_or_default();
    let mut table = Table::default();
    for route in &list {
        let Some(range) = route["dst"].as_str() else { continue };
        // A single address is shown without a prefix.
        let range = if range.contains('/') { range.to_owned() } else { format!("{range}/32") };
        let Ok(range) = range.parse() else { continue };
        match route["gateway"].as_str().map(str::parse) {
            None => table.connected.push(range),
            Some(Ok(via)) if route["protocol"] == PROTOCOL => drop(table.ours.insert(range, via)),
            Some(_) => {}
        }
    }
    table
}

/// Puts the wanted routes in place and takes those away that are ours, lead into the cluster's `range` and are not wanted.
/// A node on another network has no route of its own: its pods are where the default route leads. Returns whether any
/// changed.
pub async fn apply(range: Cidr, wanted: &Routes) -> Result<bool, NetworkError> {
    let Table { ours, connected } = parse(&run("ip", &["-json", "-4", "route", "show"], "").await?);
    // Another cluster on this machine has routes of its own.
    let present: Routes = ours.into_iter().filter(|(part, _)| range.contains(part.address())).collect();
    let is_near = |via: IpAddr| connected.iter().any(|network| network.contains(via));
    let wanted: Routes = wanted.iter().map(|(part, via)| (*part, *via)).filter(|(_, via)| is_near(*via)).collect();
    let plan = plan(&wanted, &present);
    if plan.is_empty() {
        return Ok(false);
    }
    // One that cannot be made must not keep the others away.
    run("ip", &["-4", "-force", "-batch", "-"], &plan).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(list: &[(&str, &str)]) -> Routes {
        let route = |(range, via): &(&str, &str)| (range.parse().expect("a range"), via.parse().expect("an address"));
        list.iter().map(route).collect()
    }

    #[test]
    fn what_is_missing_is_added_what_moved_is_replaced_what_went_is_removed() {
        let present = r#"[{"dst":"default","gateway":"10.89.0.1","dev":"eth0","flags":[]},
            {"dst":"10.89.0.0/24","dev":"eth0","protocol":"kernel","scope":"link"},
            {"dst":"10.244.9.9","gateway":"10.89.0.109","protocol":"static"},
            {"dst":"10.244.1.0/24","gateway":"10.89.0.101","dev":"eth0","protocol":"96"},
            {"dst":"10.244.2.0/24","gateway":"10.89.0.102","protocol":"96"},
            {"dst":"10.244.3.0/24","gateway":"10.89.0.103","protocol":"96"}]"#;
        let Table { ours: present, connected } = parse(present);
        assert_eq!((present.len(), connected), (3, vec![Cidr::v4([10, 89, 0, 0], 24)]));
        let wanted = routes(&[
            ("10.244.1.0/24", "10.89.0.101"),
            ("10.244.2.0/24", "10.89.0.112"),
            ("10.244.4.0/24", "10.89.0.104"),
        ]);
        let plan = plan(&wanted, &present);
        assert_eq!(
            plan,
            "route del 10.244.3.0/24 proto 96\nroute replace 10.244.2.0/24 via 10.89.0.112 proto 96\n\
             route replace 10.244.4.0/24 via 10.89.0.104 proto 96\n"
        );
        assert_eq!(super::plan(&wanted, &wanted), "");
        assert_eq!(parse("[]"), Table::default());
        assert_eq!(parse(""), Table::default());
    }
}
