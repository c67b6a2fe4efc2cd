//! Bootstrap tokens and the Secrets that hold them (`k8s.io/cluster-bootstrap/token`,
//! `cmd/kubeadm/app/apis/bootstraptoken`).

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use jiff::Timestamp;
use rand::Rng;

use super::BOOTSTRAPPERS_GROUP;

/// The type of a token's Secret.
pub const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const SECRET_PREFIX: &str = "bootstrap-token-";
const USAGE_PREFIX: &str = "usage-bootstrap-";
/// A token proves who joins, and signs what the cluster says of itself.
const USAGES: [&str; 2] = ["authentication", "signing"];
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("a token is six and sixteen characters of a-z and 0-9 with a dot between, such as abcdef.0123456789abcdef")]
    Form,
    #[error("the Secret {0} holds no bootstrap token")]
    Secret(String),
}

/// `ID.SECRET`. The id is no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

/// Secrets never reach a log.
impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.…", self.id)
    }
}

impl fmt::Display for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.secret)
    }
}

impl FromStr for BootstrapToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<BootstrapToken, TokenError> {
        let (id, secret) = text.split_once('.').ok_or(TokenError::Form)?;
        if !is_word(id, ID_LENGTH) || !is_word(secret, SECRET_LENGTH) {
            return Err(TokenError::Form);
        }
        Ok(BootstrapToken { id: id.to_owned(), secret: secret.to_owned() })
    }
}

fn is_word(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// The id of a token, or of text that is an id alone.
pub fn id_of(text: &str) -> Result<String, TokenError> {
    if is_word(text, ID_LENGTH) {
        return Ok(text.to_owned());
    }
    text.parse().map(|token: BootstrapToken| token.id)
}

/// The name of the Secret of the token with this id.
pub fn secret_name(id: &str) -> String {
    format!("{SECRET_PREFIX}{id}")
}

impl BootstrapToken {
    /// `random` must be fit for secrets.
    pub fn generate(random: &mut impl Rng) -> BootstrapToken {
        let mut word = |length| -> String {
            let mut character = || char::from(CHARACTERS[random.random_range(0..CHARACTERS.len())]);
            std::iter::repeat_with(&mut character).take(length).collect()
        };
        let id = word(ID_LENGTH);
        BootstrapToken { id, secret: word(SECRET_LENGTH) }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }
}

const CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// A token with what its Secret says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    pub token: BootstrapToken,
    pub description: String,
    /// `None`: never.
    pub expires: Option<Timestamp>,
    pub usages: Vec<String>,
    pub groups: Vec<String>,
}

impl TokenRecord {
    /// As kubeadm makes them for nodes; `ttl` zero is for ever.
    pub fn new(token: BootstrapToken, description: &str, ttl: Duration, now: Timestamp) -> TokenRecord {
        let expires = (!ttl.is_zero()).then(|| now.saturating_add(ttl).unwrap_or(Timestamp::MAX));
        TokenRecord {
            token,
            description: description.to_owned(),
            expires,
            usages: USAGES.map(str::to_owned).into(),
            groups: vec![BOOTSTRAPPERS_GROUP.to_owned()],
        }
    }

    /// A token that invites a master: it gets what was sealed for it, and no node's certificate.
    pub fn for_master(self) -> TokenRecord {
        TokenRecord { groups: vec![super::masters::group(self.token.id())], ..self }
    }

    /// The Secret's data, not yet in base64.
    pub fn data(&self) -> BTreeMap<String, String> {
        let mut data = BTreeMap::from([
            ("token-id".to_owned(), self.token.id.clone()),
            ("token-secret".to_owned(), self.token.secret.clone()),
        ]);
        if !self.description.is_empty() {
            data.insert("description".into(), self.description.clone());
        }
        if let Some(expires) = self.expires {
            data.insert("expiration".into(), seconds(expires));
        }
        data.extend(self.usages.iter().map(|usage| (format!("{USAGE_PREFIX}{usage}"), "true".to_owned())));
        if !self.groups.is_empty() {
            data.insert("auth-extra-groups".into(), self.groups.join(","));
        }
        data
    }

    /// Of a Secret's name and data.
    pub fn read(name: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<TokenRecord, TokenError> {
        let bad = || TokenError::Secret(name.to_owned());
        let get = |key: &str| data.get(key).map(|value| String::from_utf8_lossy(value).into_owned());
        let (id, secret) = (get("token-id").ok_or_else(bad)?, get("token-secret").ok_or_else(bad)?);
        let token: BootstrapToken = format!("{id}.{secret}").parse().map_err(|_| bad())?;
        if name != secret_name(&id) {
            return Err(bad());
        }
        let expires = get("expiration").filter(|text| !text.is_empty());
        let expires = expires.map(|text| text.parse::<Timestamp>().map_err(|_| bad())).transpose()?;
        let usages = data.iter().filter(|(_, value)| value.as_slice() == b"true");
        let usages = usages.filter_map(|(key, _)| key.strip_prefix(USAGE_PREFIX)).map(str::to_owned).collect();
        let groups = get("auth-extra-groups").unwrap_or_default();
        let groups = groups.split(',').filter(|group| !group.is_empty()).map(str::to_owned).collect();
        Ok(TokenRecord { token, description: get("description").unwrap_or_default(), expires, usages, groups })
    }

    /// The columns of kubeadm's table, see [`COLUMNS`].
    pub fn row(&self, now: Timestamp) -> [String; 6] {
        let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
        let (ttl, expires) = match self.expires {
            None => ("<forever>".to_owned(), "<never>".to_owned()),
            Some(at) => (short_duration(at.as_second().saturating_sub(now.as_second())), seconds(at)),
        };
        [
            self.token.to_string(),
            ttl,
            expires,
            or_none(self.usages.join(",")),
            or_none(self.description.clone()),
            or_none(self.groups.join(",")),
        ]
    }
}

/// Of the table of tokens.
pub const COLUMNS: [&str; 6] = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"];

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `apimachinery/pkg/util/duration.ShortHumanDuration`.
fn short_duration(seconds: i64) -> String {
    match seconds {
        i64::MIN..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        86_400..31_536_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn token() -> BootstrapToken {
        "abcdef.0123456789abcdef".parse().expect("a token")
    }

    #[test]
    fn tokens_have_one_form() {
        for bad in
            ["", "abcdef", "abcdef.0123456789abcde", "abcdeF.0123456789abcdef", "abcdef.0123456789abcdef.", "a.b"]
        {
            assert_eq!(bad.parse::<BootstrapToken>(), Err(TokenError::Form), "{bad}");
        }
        assert_eq!(token().to_string(), "abcdef.0123456789abcdef");
        assert_eq!(format!("{:?}", token()), "abcdef.…");
        assert_eq!((id_of("abcdef"), id_of("abcdef.0123456789abcdef")), (Ok("abcdef".into()), Ok("abcdef".into())));
        assert_eq!(id_of("abc"), Err(TokenError::Form));
        let (one, other) = (BootstrapToken::generate(&mut rand::rng()), BootstrapToken::generate(&mut rand::rng()));
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert_ne!(one, other);
    }

    #[test]
    fn a_tokens_secret_holds_what_kubeadms_does() {
        let record = TokenRecord::new(token(), "for tests", Duration::from_secs(86_400), NOW);
        let data = record.data();
        let expected = [
            ("auth-extra-groups", "system:bootstrappers:kubeadm:default-node-token"),
            ("description", "for tests"),
            ("expiration", "2027-01-16T08:00:00Z"),
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("usage-bootstrap-signing", "true"),
        ];
        assert_eq!(data, expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        let bytes: BTreeMap<String, Vec<u8>> = data.into_iter().map(|(key, value)| (key, value.into_bytes())).collect();
        assert_eq!(TokenRecord::read("bootstrap-token-abcdef", &bytes), Ok(record));
        assert!(TokenRecord::read("bootstrap-token-other1", &bytes).is_err(), "the name is the id's");
        let forever = TokenRecord::new(token(), "", Duration::ZERO, NOW);
        assert!(!forever.data().contains_key("expiration") && !forever.data().contains_key("description"));
    }

    #[test]
    fn the_table_says_how_long_a_token_lives() {
        let row = TokenRecord::new(token(), "", Duration::from_secs(86_399), NOW).row(NOW);
        let cells = ["abcdef.0123456789abcdef", "23h", "2027-01-16T07:59:59Z", "authentication,signing", "<none>"];
        assert_eq!(row[..5], cells.map(str::to_owned));
        assert_eq!(TokenRecord::new(token(), "", Duration::ZERO, NOW).row(NOW)[1..3], ["<forever>", "<never>"]);
        let cases = [(-5, "<invalid>"), (-1, "0s"), (59, "59s"), (60, "1m"), (3600, "1h"), (172_800, "2d")];
        for (seconds, text) in cases {
            assert_eq!(short_duration(seconds), text);
        }
    }
}
