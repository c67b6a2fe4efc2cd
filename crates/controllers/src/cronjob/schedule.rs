//! Cron schedules: five fields with names, lists, ranges and steps, or `@daily` and the like (as robfig/cron's standard parser).

use jiff::{
    Timestamp, ToSpan,
    civil::{Date, DateTime, time},
    tz::TimeZone,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// With both day fields restricted, either suffices.
    either_day: bool,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ScheduleError {
    #[error("expected exactly 5 fields, found {0}: {1}")]
    Fields(usize, String),
    #[error("failed to parse {0:?}")]
    Field(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("unknown time zone {0:?}")]
    TimeZone(String),
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// A schedule like "30 February" never comes: days searched before giving up.
const MAX_DAYS: usize = 5 * 366;

impl Schedule {
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let text = text.trim();
        let expanded = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other if other.starts_with('@') => return Err(ScheduleError::Descriptor(other.into())),
            other => other,
        };
        let fields: Vec<&str> = expanded.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(ScheduleError::Fields(fields.len(), text.into()));
        };
        let is_free = |field: &str| field.starts_with('*') || field.starts_with('?');
        let mut weekday_bits = bits(weekdays, 0, 7, &WEEKDAYS, 0)?;
        if weekday_bits & 1 << 7 != 0 {
            weekday_bits |= 1;
        }
        Ok(Schedule {
            minutes: bits(minutes, 0, 59, &[], 0)?,
            hours: bits(hours, 0, 23, &[], 0)?,
            days: bits(days, 1, 31, &[], 0)?,
            months: bits(months, 1, 12, &MONTHS, 1)?,
            weekdays: weekday_bits,
            either_day: !is_free(days) && !is_free(weekdays),
        })
    }

    fn is_on(&self, date: Date) -> bool {
        let has = |bits: u64, at: i8| bits & 1 << at != 0;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    fn times(&self) -> impl DoubleEndedIterator<Item = (i8, i8)> {
        let (hours, minutes) = (self.hours, self.minutes);
        let set = |bits: u64, end: i8| (0..end).filter(move |at| bits & 1 << at != 0);
        set(hours, 24).flat_map(move |hour| set(minutes, 60).map(move |minute| (hour, minute)))
    }

    /// The first time after `after`.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = zone.to_datetime(after).date();
        for _ in 0..MAX_DAYS {
            if self.is_on(date) {
                let found = self.times().filter_map(|at| instant(date, at, zone)).find(|at| *at > after);
                if found.is_some() {
                    return found;
                }
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    /// The last time up to `until`, not before `since`.
    pub fn last(&self, since: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = zone.to_datetime(until).date();
        let first = zone.to_datetime(since).date();
        while date >= first {
            if self.is_on(date) {
                let found = self.times().rev().filter_map(|at| instant(date, at, zone)).find(|at| *at <= until);
                if let Some(found) = found {
                    return (found > since).then_some(found);
                }
            }
            date = date.checked_sub(1.day()).ok()?;
        }
        None
    }
}

fn instant(date: Date, (hour, minute): (i8, i8), zone: &TimeZone) -> Option<Timestamp> {
    zone.to_timestamp(DateTime::from_parts(date, time(hour, minute, 0, 0))).ok()
}

/// `spec.timeZone`; the controller's own zone is UTC.
pub fn zone(name: Option<&str>) -> Result<TimeZone, ScheduleError> {
    match name {
        None | Some("" | "UTC" | "Etc/UTC") => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::TimeZone(name.into())),
    }
}

fn bits(field: &str, min: u8, max: u8, names: &[&str], first_name: u8) -> Result<u64, ScheduleError> {
    let bad = || ScheduleError::Field(field.to_owned());
    let number = |text: &str| -> Result<u8, ScheduleError> {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let value = named.map(|at| at as u8 + first_name).or_else(|| text.parse().ok()).ok_or_else(bad)?;
        if (min..=max).contains(&value) { Ok(value) } else { Err(bad()) }
    };
    let mut bits = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u8>().ok().filter(|step| *step > 0).ok_or_else(bad)?),
            None => (part, 1),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" || range == "?" => (min, if names.len() == 7 { 6 } else { max }),
            Some((first, last)) => (number(first)?, number(last)?),
            None if part.contains('/') => (number(range)?, max),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err(bad());
        }
        (first..=last).step_by(step.into()).for_each(|at| bits |= 1 << at);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_times_on_both_sides() {
        let cases = [
            ("*/15 * * * *", "2026-03-01T10:07:00Z", "2026-03-01T10:15:00Z", "2026-03-01T10:00:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("30 8 * * MON-FRI", "2026-03-07T12:00:00Z", "2026-03-09T08:30:00Z", "2026-03-06T08:30:00Z"),
            ("0 12 1 * sun", "2026-03-02T00:00:00Z", "2026-03-08T12:00:00Z", "2026-03-01T12:00:00Z"),
            ("@hourly", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z", "2026-03-01T10:00:00Z"),
        ];
        for (text, now, next, last) in cases {
            let schedule = Schedule::parse(text).expect(text);
            let now: Timestamp = now.parse().expect(now);
            assert_eq!(schedule.next(now, &TimeZone::UTC).map(|at| at.to_string()).as_deref(), Some(next), "{text}");
            let since = "2020-01-01T00:00:00Z".parse().expect("time");
            assert_eq!(
                schedule.last(since, now, &TimeZone::UTC).map(|at| at.to_string()).as_deref(),
                Some(last),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_schedule() {
        for text in ["", "* * * *", "60 * * * *", "a * * * *", "5-1 * * * *", "*/0 * * * *", "@never"] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
        assert_eq!(
            Schedule::parse("0 0 30 2 *").map(|schedule| schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC)),
            Ok(None)
        );
    }
}
