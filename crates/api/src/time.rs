//! `metav1.Time` and `metav1.MicroTime`: RFC 3339 in UTC, to the second and to the microsecond. Reading follows Go's
//! `time.Parse`, with its error texts, because those are what a client sees.

use jiff::{Timestamp, civil, tz::Offset};

const TIME: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_TIME: &str = "2006-01-02T15:04:05.000000Z07:00";

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TimeError {
    #[error("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")]
    Syntax { text: String, layout: &'static str, rest: String, element: &'static str },
    #[error("parsing time {text:?}: {element} out of range")]
    Range { text: String, element: &'static str },
    #[error("parsing time {text:?}: extra text: {rest:?}")]
    Extra { text: String, rest: String },
}

/// Reads a `metav1.Time`. Fractions of a second are read (and lost when it is written).
pub fn parse(text: &str) -> Result<Timestamp, TimeError> {
    Reader { text, rest: text, layout: TIME }.timestamp()
}

/// Reads a `metav1.MicroTime`: exactly six digits of a fraction.
pub fn parse_micro(text: &str) -> Result<Timestamp, TimeError> {
    Reader { text, rest: text, layout: MICRO_TIME }.timestamp()
}

/// Writes a `metav1.Time`.
pub fn format(time: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(time);
    format!("{}Z", to_seconds(at))
}

/// Writes a `metav1.MicroTime`.
pub fn format_micro(time: Timestamp) -> String {
    let at = Offset::UTC.to_datetime(time);
    format!("{}.{:06}Z", to_seconds(at), at.subsec_nanosecond() / 1000)
}

fn to_seconds(at: civil::DateTime) -> String {
    let (year, month, day) = (at.year(), at.month(), at.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", at.hour(), at.minute(), at.second())
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn timestamp(mut self) -> Result<Timestamp, TimeError> {
        let year = self.number("2006", 4..=4)? as i16;
        self.expect("-")?;
        let month = self.number_below("01", "month", 13)? as i8;
        if month == 0 {
            return Err(self.range("month"));
        }
        self.expect("-")?;
        let day = self.number("02", 2..=2)? as i8;
        self.expect("T")?;
        // Go reads an hour of one digit.
        let hour = self.number("15", 1..=2)? as i8;
        if hour > 23 {
            return Err(self.range("hour"));
        }
        self.expect(":")?;
        let minute = self.number_below("04", "minute", 60)? as i8;
        self.expect(":")?;
        let second = self.number_below("05", "second", 60)? as i8;
        let nanosecond = self.fraction()?;
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(TimeError::Extra { text: self.text.into(), rest: self.rest.into() });
        }
        let at = civil::DateTime::new(year, month, day, hour, minute, second, nanosecond);
        at.and_then(|at| offset.to_timestamp(at)).map_err(|_| self.range("day"))
    }

    fn syntax(&self, element: &'static str) -> TimeError {
        TimeError::Syntax { text: self.text.into(), layout: self.layout, rest: self.rest.into(), element }
    }

    fn range(&self, element: &'static str) -> TimeError {
        TimeError::Range { text: self.text.into(), element }
    }

    /// As many digits as the range allows.
    fn number(&mut self, element: &'static str, width: std::ops::RangeInclusive<usize>) -> Result<i32, TimeError> {
        let digits = self.rest.bytes().take(*width.end()).take_while(u8::is_ascii_digit).count();
        if digits < *width.start() {
            return Err(self.syntax(element));
        }
        let (number, rest) = self.rest.split_at(digits);
        let number = number.parse().map_err(|_| self.syntax(element))?;
        self.rest = rest;
        Ok(number)
    }

    fn number_below(&mut self, element: &'static str, name: &'static str, bound: i32) -> Result<i32, TimeError> {
        let number = self.number(element, 2..=2)?;
        if number < bound { Ok(number) } else { Err(self.range(name)) }
    }

    fn expect(&mut self, literal: &'static str) -> Result<(), TimeError> {
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.syntax(literal))?;
        Ok(())
    }

    fn fraction(&mut self) -> Result<i32, TimeError> {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        if self.layout == MICRO_TIME {
            let fraction = self.rest.strip_prefix(['.', ',']).filter(|rest| digits(rest) >= 6);
            let (micros, rest) = fraction.ok_or_else(|| self.syntax(".000000"))?.split_at(6);
            self.rest = rest;
            return Ok(micros.parse().unwrap_or(0) * 1000);
        }
        let Some(fraction) = self.rest.strip_prefix(['.', ',']).filter(|rest| digits(rest) > 0) else { return Ok(0) };
        let (fraction, rest) = fraction.split_at(digits(fraction));
        self.rest = rest;
        Ok(format!("{:0<9.9}", fraction).parse().unwrap_or(0))
    }

    fn offset(&mut self) -> Result<Offset, TimeError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(Offset::UTC);
        }
        let shape = self.rest.as_bytes().get(..6).ok_or_else(|| self.syntax("Z07:00"))?;
        let is_good = shape.iter().enumerate().all(|(at, byte)| match at {
            0 => matches!(byte, b'+' | b'-'),
            3 => *byte == b':',
            _ => byte.is_ascii_digit(),
        });
        if !is_good {
            return Err(self.syntax("Z07:00"));
        }
        let (hours, minutes) = (self.rest[1..3].parse().unwrap_or(0), self.rest[4..6].parse().unwrap_or(0));
        if hours > 24 {
            return Err(self.range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.range("time zone offset minute"));
        }
        let seconds: i32 = hours * 3600 + minutes * 60;
        let signed = if self.rest.starts_with('-') { -seconds } else { seconds };
        self.rest = &self.rest[6..];
        Offset::from_seconds(signed).map_err(|_| self.range("time zone offset hour"))
    }
}
