//! Paths and queries of requests, percent-decoded. Pure.

/// The parameters of a query, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Query {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decode(name, true), decode(value, true))
        };
        Query(text.split('&').filter(|part| !part.is_empty()).map(pair).collect())
    }

    pub fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As upstream reads stream flags: any of the values a Go `ParseBool` would not be asked for.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.first(name), Some("1" | "true"))
    }
}

/// The parts of a path between its slashes.
pub fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect()
}

fn decode(text: &str, form: bool) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(if form && bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%26b%20%2B&tty=1&empty&bad=%zz%4");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a&b +"]);
        assert!(query.flag("tty") && !query.flag("empty") && !query.flag("none"));
        assert_eq!(query.first("bad"), Some("%zz%4"));
        assert_eq!(segments("/exec/ns/p%2Fq//c+d/"), ["exec", "ns", "p/q", "c+d"]);
    }
}
