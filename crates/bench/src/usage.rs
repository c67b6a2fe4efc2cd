//! Processor time and memory of processes on this machine, from /proc.

use std::time::Duration;

/// /proc counts processor time in these, whatever the kernel's own tick is (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In user space and in the kernel, since the processes started.
    pub cpu: Duration,
    pub resident_bytes: u64,
}

/// Of these processes together; `None` where there are none, or one of them has ended.
pub fn of(pids: &[u32]) -> Option<Usage> {
    let mut sum = None;
    for pid in pids {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
        let one = parse(&read("stat")?, &read("status")?)?;
        let all = sum.get_or_insert(Usage::default());
        all.cpu += one.cpu;
        all.resident_bytes += one.resident_bytes;
    }
    sum
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The name in parentheses may hold anything, parentheses too.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<u32>().ok();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = kib.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(Usage { cpu: TICK * (ticks(11)? + ticks(12)?), resident_bytes: kib << 10 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_read_whatever_the_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 900 0 0 0 150 25 7 8 20 0 5 0 100 1000 200 3";
        let usage = parse(stat, "Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    2048 kB\nThreads: 1\n");
        assert_eq!(usage, Some(Usage { cpu: Duration::from_millis(1750), resident_bytes: 2 << 20 }));
        assert_eq!(parse("42 (a", ""), None);
    }

    #[test]
    fn of_several_processes_it_is_the_sum() {
        let own = std::process::id();
        let (one, two) = (of(&[own]).expect("runs"), of(&[own, own]).expect("runs"));
        assert!(one.resident_bytes > 1 << 20 && two.resident_bytes > one.resident_bytes * 3 / 2);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[own, u32::MAX]), None);
    }
}
