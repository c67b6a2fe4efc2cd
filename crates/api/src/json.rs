//! JSON text to [`Value`] and back. Unlike a general parser it bounds nesting, keeps integers exact, and reports every
//! duplicate member with its path, because `fieldValidation` must name them.

use crate::value::{Map, Value};

mod strict;

/// Deepest nesting that is read. Every later step may recurse over a tree, so this bounds all of them.
pub const DEPTH_MAX: usize = 512;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JsonError {
    #[error("unexpected end of JSON input")]
    End,
    #[error("invalid character {found} {context}")]
    Unexpected { found: String, context: &'static str, offset: usize },
    #[error("exceeded max depth of {DEPTH_MAX}")]
    TooDeep,
    #[error("invalid UTF-8 at offset {offset}")]
    Utf8 { offset: usize },
    #[error("cannot unmarshal number {text} into a 64-bit value")]
    Number { text: String },
}

/// A parsed document with what strict validation wants to know of its text.
#[derive(Debug)]
pub struct Parsed {
    pub value: Value,
    pub repeats: Repeats,
}

/// Members that a text has more than once; the last one counts.
#[derive(Debug, Default)]
pub enum Repeats {
    #[default]
    None,
    /// Of this JSON, which is gone through once more for what there is to say of them.
    Json(Box<str>),
    /// Of another kind of text: what its parser says of them.
    Said(Vec<String>),
}

impl Repeats {
    /// What strict decoding complains of, in the document's order: members that are `unknown`, which are given by their
    /// paths, and members that stand twice. What is unknown is named once, and nothing within it.
    pub fn complaints(&self, unknown: &[String]) -> Vec<String> {
        let said = match self {
            Repeats::None => &[],
            Repeats::Json(text) => return strict::complaints(text, unknown),
            Repeats::Said(said) => said.as_slice(),
        };
        said.iter().cloned().chain(unknown.iter().map(|path| unknown_field(path))).collect()
    }
}

/// What strict decoding says of a member that the schema does not have, given by its path (`spec.containers[0].color`).
pub fn unknown_field(path: &str) -> String {
    format!("unknown field \"{path}\"")
}

pub fn parse(text: &[u8]) -> Result<Value, JsonError> {
    parse_noting_repeats(text).map(|parsed| parsed.value)
}

pub fn parse_noting_repeats(text: &[u8]) -> Result<Parsed, JsonError> {
    // Checked once here, so that strings can be sliced without checking each.
    let text = std::str::from_utf8(text).map_err(|error| JsonError::Utf8 { offset: error.valid_up_to() })?;
    let mut parser = Parser::new(text);
    let value = parser.value()?;
    parser.space();
    if parser.at < parser.bytes.len() {
        return Err(parser.unexpected("after top-level value"));
    }
    let repeats = if parser.repeats { Repeats::Json(text.into()) } else { Repeats::None };
    Ok(Parsed { value, repeats })
}

enum Step<'a> {
    Member(&'a str),
    Index(usize),
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    path: Vec<Step<'a>>,
    /// Some member stands twice.
    repeats: bool,
    /// Set where all complaints are wanted in their order.
    order: Option<strict::Order<'a>>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
        Parser { text, bytes: text.as_bytes(), at: 0, depth: 0, path: Vec::new(), repeats: false, order: None }
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn unexpected(&self, context: &'static str) -> JsonError {
        match self.text[self.floor()..].chars().next() {
            None => JsonError::End,
            Some(found) => JsonError::Unexpected { found: format!("{found:?}"), context, offset: self.at },
        }
    }

    /// The start of the character that `at` stands in.
    fn floor(&self) -> usize {
        (0..=self.at.min(self.text.len())).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0)
    }

    fn value(&mut self) -> Result<Value, JsonError> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'"') => Ok(Value::String(self.string()?.into())),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(&mut self, inner: fn(&mut Self) -> Result<Value, JsonError>) -> Result<Value, JsonError> {
        if self.depth == DEPTH_MAX {
            return Err(JsonError::TooDeep);
        }
        self.depth += 1;
        self.at += 1;
        let value = inner(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn word(&mut self, word: &'static str, value: Value) -> Result<Value, JsonError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        // Stand on the first byte that differs, for the message.
        let same = self.bytes[self.at..].iter().zip(word.as_bytes()).take_while(|(a, b)| a == b).count();
        self.at += same;
        Err(self.unexpected("in literal true, false or null"))
    }

    fn object(&mut self) -> Result<Value, JsonError> {
        let mut map = Map::new();
        // Mostly members come sorted, and then it is enough to look at the last one.
        let mut sorted = true;
        self.space();
        if self.bytes.get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(Value::Object(map));
        }
        loop {
            self.space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let start = self.at;
            let name = self.string()?;
            // A path needs the name for as long as the text lives; names with escapes are rare enough to be shown raw.
            let raw = &self.text[start + 1..self.at - 1];
            self.space();
            if self.bytes.get(self.at) != Some(&b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.path.push(Step::Member(raw));
            sorted = sorted && map.last_key().is_none_or(|last| *last < *name);
            let again = !sorted && map.contains_key(&name);
            self.repeats |= again;
            let value = match self.order {
                None => self.value()?,
                Some(_) => self.complain(again)?,
            };
            if again {
                map.insert(name, value);
            } else {
                map.push_unchecked(name.into(), value);
            }
            self.path.pop();
            self.space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(Value::Object(map));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    fn array(&mut self) -> Result<Value, JsonError> {
        let mut items = Vec::new();
        self.space();
        if self.bytes.get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(Value::Array(items));
        }
        loop {
            self.path.push(Step::Index(items.len()));
            items.push(self.value()?);
            self.path.pop();
            self.space();
            match self.bytes.get(self.at) {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(items));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.at += 1;
        let start = self.at;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    let text = self.text[start..self.at].to_owned();
                    self.at += 1;
                    return Ok(text);
                }
                b'\\' => return self.escaped(start),
                0..0x20 => return Err(self.unexpected("in string literal")),
                _ => self.at += 1,
            }
        }
        Err(JsonError::End)
    }

    /// The rest of a string from its first escape on.
    fn escaped(&mut self, start: usize) -> Result<String, JsonError> {
        let mut text = self.text[start..self.at].to_owned();
        loop {
            let plain = self.at;
            while !matches!(self.bytes.get(self.at), None | Some(b'"' | b'\\' | 0..0x20)) {
                self.at += 1;
            }
            text.push_str(&self.text[plain..self.at]);
            match self.bytes.get(self.at) {
                None => return Err(JsonError::End),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.unexpected("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, JsonError> {
        let Some(byte) = self.bytes.get(self.at) else { return Err(JsonError::End) };
        let plain = match byte {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                let first = self.hex4()?;
                return self.surrogates(first);
            }
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// A lone surrogate becomes U+FFFD, as in Go.
    fn surrogates(&mut self, first: u32) -> Result<char, JsonError> {
        if (0xD800..0xDC00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            let back = self.at;
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = back;
        }
        Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.at).and_then(|byte| (*byte as char).to_digit(16));
            match digit {
                Some(digit) => code = code * 16 + digit,
                None => return Err(self.unexpected("in \\u hexadecimal character escape")),
            }
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        let mut whole = true;
        if self.bytes[self.at] == b'-' {
            self.at += 1;
        }
        match self.bytes.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.unexpected("in numeric literal")),
        }
        if self.bytes.get(self.at) == Some(&b'.') {
            whole = false;
            self.at += 1;
            if !matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
                return Err(self.unexpected("after decimal point in numeric literal"));
            }
            self.digits();
        }
        if matches!(self.bytes.get(self.at), Some(b'e' | b'E')) {
            whole = false;
            self.at += 1;
            if matches!(self.bytes.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if !matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
                return Err(self.unexpected("in exponent of numeric literal"));
            }
            self.digits();
        }
        let text = &self.text[start..self.at];
        if whole && let Ok(number) = text.parse() {
            return Ok(Value::Int(number));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(JsonError::Number { text: text.into() }),
        }
    }

    fn digits(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn path(&self) -> String {
        let mut text = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => text.push_str(&format!("[{index}]")),
                Step::Member(name) => {
                    if !text.is_empty() {
                        text.push('.');
                    }
                    text.push_str(name);
                }
            }
        }
        text
    }
}

/// Appends `value` as compact JSON.
pub fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Int(number) => write_display(*number, out),
        Value::Float(number) => write_float(*number, out),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            out.push(b'{');
            for (index, (name, member)) in map.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
                out.push(b':');
                write(member, out);
            }
            out.push(b'}');
        }
    }
}

fn write_display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to memory cannot fail.
    let _ = write!(out, "{value}");
}

/// As Go's encoding/json prints a float64: no exponent between 1e-6 and 1e21, no trailing `.0`.
fn write_float(number: f64, out: &mut Vec<u8>) {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        let text = match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
            _ => text,
        };
        out.extend_from_slice(text.as_bytes());
    } else {
        write_display(number, out);
    }
}

/// Appends `text` as a JSON string.
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut plain = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..0x20 => b"",
            _ => continue,
        };
        out.extend_from_slice(&bytes[plain..at]);
        if escape.is_empty() {
            out.extend_from_slice(format!("\\u{byte:04x}").as_bytes());
        } else {
            out.extend_from_slice(escape);
        }
        plain = at + 1;
    }
    out.extend_from_slice(&bytes[plain..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_a_round_trip() {
        for text in [
            r#"{"a":[1,-2,3.5,true,false,null,"x"],"b":{"c":{}},"d":[]}"#,
            r#""tab\t quote\" back\\ control\u0001 ä 😀""#,
            "9223372036854775807",
            "1e+300",
            "1e-7",
        ] {
            assert_eq!(String::from_utf8(parse(text.as_bytes()).unwrap().to_json()).unwrap(), text);
        }
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(parse(br#""\u00e4\ud83d\ude00\ud800x\/""#).unwrap(), Value::from("ä😀\u{FFFD}x/"));
    }

    #[test]
    fn duplicates_are_named_and_the_last_one_counts() {
        let parsed = parse_noting_repeats(br#"{"a":1,"b":[{"c":1,"c":2}],"a":3}"#).unwrap();
        assert_eq!(parsed.repeats.complaints(&[]), ["duplicate field \"b[0].c\"", "duplicate field \"a\""]);
        assert_eq!(parsed.value.get("a"), Some(&Value::Int(3)));
        let wide: Vec<String> = (0..100).chain([50]).map(|n| format!("\"k{n}\":{n}")).collect();
        let parsed = parse_noting_repeats(format!("{{{}}}", wide.join(",")).as_bytes()).unwrap();
        assert_eq!(parsed.repeats.complaints(&[]), ["duplicate field \"k50\""]);
    }

    #[test]
    fn malformed_text_is_an_error() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "tru",
            "nul",
            "01",
            "-",
            "1.",
            "1e",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "1 2",
            "{} x",
            "1e999",
            "\u{feff}{}",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(matches!(parse(b"\"\xff\""), Err(JsonError::Utf8 { offset: 1 })));
        assert_eq!(parse("[".repeat(10_000).as_bytes()), Err(JsonError::TooDeep));
        assert_eq!(parse("{\"a\":".repeat(10_000).as_bytes()), Err(JsonError::TooDeep));
    }
}
