//! A range of addresses, written `10.244.0.0/16`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A range of addresses; its address has no bit set behind the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("{0:?} is no range of addresses such as 10.244.0.0/16")]
    Malformed(String),
    #[error("{0:?} has bits set behind its prefix; did you mean {1}?")]
    HostBits(String, Cidr),
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(a) => (u128::from(u32::from(a)), 32),
        IpAddr::V6(a) => (u128::from(a), 128),
    }
}

fn address(bits: u128, width: u8) -> IpAddr {
    match width {
        // Only 32 bits are ever set for this width.
        32 => IpAddr::V4(Ipv4Addr::from(bits as u32)),
        _ => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

impl Cidr {
    /// The range around `address`, whose bits behind the prefix are dropped. A prefix that is too long is the whole width.
    pub fn new(address_in: IpAddr, prefix: u8) -> Cidr {
        let (value, width) = bits(address_in);
        let prefix = prefix.min(width);
        Cidr { address: address(value & !Cidr::host_mask(prefix, width), width), prefix }
    }

    pub fn v4(address: [u8; 4], prefix: u8) -> Cidr {
        Cidr::new(IpAddr::from(address), prefix)
    }

    fn host_mask(prefix: u8, width: u8) -> u128 {
        match width - prefix {
            128 => u128::MAX,
            host => (1u128 << host) - 1,
        }
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    pub fn contains(&self, other: IpAddr) -> bool {
        let ((base, width), (value, other_width)) = (bits(self.address), bits(other));
        width == other_width && value & !Cidr::host_mask(self.prefix, width) == base
    }

    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// The address `index` places behind the first one, `None` past the end.
    pub fn nth(&self, index: u128) -> Option<IpAddr> {
        let (base, width) = bits(self.address);
        (index <= Cidr::host_mask(self.prefix, width)).then(|| address(base + index, width))
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        if prefix > bits(address).1 {
            return Err(malformed());
        }
        let cidr = Cidr::new(address, prefix);
        if cidr.address != address {
            return Err(CidrError::HostBits(text.to_owned(), cidr));
        }
        Ok(cidr)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Cidr, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_what_they_should() {
        let cases = [
            ("10.96.0.0/16", "10.96.0.10", true),
            ("10.96.0.0/16", "10.97.0.1", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("10.0.0.1/32", "10.0.0.1", true),
            ("fd00::/8", "fdff::1", true),
            ("::/0", "10.0.0.1", false),
        ];
        for (range, address, inside) in cases {
            let range: Cidr = range.parse().expect(range);
            assert_eq!(range.contains(address.parse().expect(address)), inside, "{range} {address}");
        }
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0/8", "x/8", "fd00::/129"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Malformed(text.to_owned())), "{text}");
        }
        let hint = CidrError::HostBits("10.0.0.1/8".into(), Cidr::v4([10, 0, 0, 0], 8));
        assert_eq!("10.0.0.1/8".parse::<Cidr>(), Err(hint));
    }

    #[test]
    fn addresses_are_counted_from_the_first() {
        let range = Cidr::v4([10, 96, 0, 0], 30);
        let listed: Vec<_> = (0..5).map(|i| range.nth(i).map(|a| a.to_string())).collect();
        let want = ["10.96.0.0", "10.96.0.1", "10.96.0.2", "10.96.0.3"].map(|a| Some(a.to_owned()));
        assert_eq!(listed[..4], want);
        assert_eq!(listed[4], None);
    }
}
