//! Durations as people read them: two or three significant figures (apimachinery `pkg/util/duration/duration.go`).

use jiff::Timestamp;

/// The time from `start` to `end`.
pub fn between(start: Timestamp, end: Timestamp) -> String {
    human(end.duration_since(start).as_secs())
}

/// `seconds` as upstream's `HumanDuration` writes them: `5s`, `3m20s`, `47h`, `7d3h`, `2y10d`.
pub fn human(seconds: i64) -> String {
    // Clocks may differ by a second.
    match seconds {
        ..-1 => return "<invalid>".to_owned(),
        -1 => return "0s".to_owned(),
        0..120 => return format!("{seconds}s"),
        _ => {}
    }
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = hours / 24;
    match (minutes, hours, days) {
        (..10, _, _) => two(minutes, "m", seconds % 60, "s"),
        (..180, _, _) => format!("{minutes}m"),
        (_, ..8, _) => two(hours, "h", minutes % 60, "m"),
        (_, ..48, _) => format!("{hours}h"),
        (_, _, ..8) => two(days, "d", hours % 24, "h"),
        (_, _, ..730) => format!("{days}d"),
        (_, _, ..2920) => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// Two units, the smaller one only where it is not zero.
fn two(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{large}{large_unit}") } else { format!("{large}{large_unit}{small}{small_unit}") }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn durations_read_as_upstreams() {
        const M: i64 = 60;
        const H: i64 = 60 * M;
        const D: i64 = 24 * H;
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (2 * M + 5, "2m5s"),
            (10 * M + 5, "10m"),
            (179 * M + 59, "179m"),
            (3 * H, "3h"),
            (3 * H + M, "3h1m"),
            (8 * H + 59 * M, "8h"),
            (47 * H, "47h"),
            (2 * D, "2d"),
            (7 * D + 23 * H, "7d23h"),
            (8 * D + 23 * H, "8d"),
            (729 * D, "729d"),
            (730 * D, "2y"),
            (731 * D, "2y1d"),
            (8 * 365 * D + 3 * D, "8y"),
        ];
        for (seconds, expect) in cases {
            assert_eq!(human(seconds), expect, "{seconds}");
        }
    }
}
