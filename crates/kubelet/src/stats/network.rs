//! Interface counters of a network namespace, from `/proc/PID/net/dev`.

use super::summary::InterfaceStats;

/// All interfaces but loopback, in the kernel's order. Pure.
pub(super) fn parse(text: &str) -> Vec<InterfaceStats> {
    text.lines().filter_map(line).filter(|interface| interface.name != "lo").collect()
}

/// `name: rx_bytes packets errs drop fifo frame compressed multicast tx_bytes packets errs ...`.
fn line(line: &str) -> Option<InterfaceStats> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters.split_whitespace().map_while(|number| number.parse().ok()).collect();
    match counters.as_slice() {
        [rx_bytes, _, rx_errors, _, _, _, _, _, tx_bytes, _, tx_errors, ..] => Some(InterfaceStats {
            name: name.trim().to_owned(),
            rx_bytes: *rx_bytes,
            rx_errors: *rx_errors,
            tx_bytes: *tx_bytes,
            tx_errors: *tx_errors,
        }),
        _ => None,
    }
}

/// The interface of the default route, by `/proc/PID/net/route`. Pure.
pub(super) fn default_interface(routes: &str) -> Option<&str> {
    routes.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_default_route() {
        let dev = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 9000001      20    3    0    0     0          0         0    70001      15    4    0    0     0       0          0
";
        let eth0 =
            InterfaceStats { name: "eth0".into(), rx_bytes: 9_000_001, rx_errors: 3, tx_bytes: 70_001, tx_errors: 4 };
        assert_eq!(parse(dev), [eth0]);
        let routes = "Iface\tDestination\tGateway\neth1\t0000FEA9\t0\neth0\t00000000\t0102A8C0\n";
        assert_eq!(default_interface(routes), Some("eth0"));
        assert_eq!(default_interface("Iface\tDestination\n"), None);
    }
}
