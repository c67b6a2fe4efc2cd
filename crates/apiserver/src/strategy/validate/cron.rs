//! Whether a text is a cron schedule, in the words of the parser that upstream uses (robfig/cron).

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Whether a text is a schedule, and the words of the parser that upstream uses if it is not.
pub(super) fn check(text: &str) -> Result<(), String> {
    let spec = match text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        Some(rest) => rest.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => text,
    };
    if let Some(word) = spec.strip_prefix('@') {
        return match word {
            "yearly" | "annually" | "monthly" | "weekly" | "daily" | "midnight" | "hourly" => Ok(()),
            // Go's durations: digits and units.
            _ if word.strip_prefix("every ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) => {
                Ok(())
            }
            _ => Err(format!("unrecognized descriptor: {spec}")),
        };
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    if fields.len() != 5 {
        let found: Vec<&str> = fields.clone();
        return Err(format!("expected exactly 5 fields, found {}: [{}]", found.len(), found.join(" ")));
    }
    let bounds: [(i64, i64, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, &MONTHS), (0, 6, &DAYS)];
    for (field, (low, high, words)) in fields.iter().zip(bounds) {
        field.split(',').try_for_each(|part| cron_part(part, low, high, words))?;
    }
    Ok(())
}

fn cron_part(text: &str, low: i64, high: i64, words: &[&str]) -> Result<(), String> {
    let number = |part: &str| -> Result<i64, String> {
        let word = words.iter().position(|word| word.eq_ignore_ascii_case(part)).map(|at| at as i64 + low);
        let parsed = word.or_else(|| part.parse().ok());
        match parsed {
            None => Err(format!("failed to parse int from {part}: strconv.Atoi: parsing {part:?}: invalid syntax")),
            Some(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {part}")),
            Some(number) => Ok(number),
        }
    };
    let (range, step) = match text.split('/').collect::<Vec<_>>().as_slice() {
        [range] => (*range, None),
        [range, step] => (*range, Some(number(step)?)),
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (start, end) = match range.split('-').collect::<Vec<_>>().as_slice() {
        ["*" | "?"] => (low, high),
        [one] => (number(one)?, if step.is_some() { high } else { number(one)? }),
        [start, end] => (number(start)?, number(end)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    if start < low {
        return Err(format!("beginning of range ({start}) below minimum ({low}): {text}"));
    }
    if end > high {
        return Err(format!("end of range ({end}) above maximum ({high}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == Some(0) {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}
