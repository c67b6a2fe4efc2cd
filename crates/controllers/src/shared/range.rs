//! Ranges of addresses.

use std::net::IpAddr;

/// A range of addresses, both families as 128-bit numbers (IPv4 in the upper 32 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    base: u128,
    pub bits: u8,
    pub is_v6: bool,
}

impl Range {
    pub fn parse(text: &str) -> Option<Range> {
        let (address, bits) = text.trim().split_once('/')?;
        let bits: u8 = bits.parse().ok()?;
        let Range { base, bits: most, is_v6 } = Range::of(address.parse().ok()?);
        (bits <= most).then_some(Range { base: base & mask(bits), bits, is_v6 })
    }

    /// The range of one address.
    pub fn of(address: IpAddr) -> Range {
        match address {
            IpAddr::V4(address) => Range { base: u128::from(address.to_bits()) << 96, bits: 32, is_v6: false },
            IpAddr::V6(address) => Range { base: address.to_bits(), bits: 128, is_v6: true },
        }
    }

    pub fn contains(&self, other: &Range) -> bool {
        self.bits <= other.bits && self.overlaps(other)
    }

    pub fn overlaps(&self, other: &Range) -> bool {
        let common = mask(self.bits.min(other.bits));
        self.is_v6 == other.is_v6 && self.base & common == other.base & common
    }

    /// Its parts of `bits` each.
    pub fn parts(self, bits: u8) -> impl Iterator<Item = Range> {
        let count = 1u128.checked_shl(u32::from(bits.saturating_sub(self.bits))).unwrap_or(0).min(1 << 24);
        let step = 1u128.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        (0..count).map(move |at| Range { base: self.base + at * step, bits, is_v6: self.is_v6 })
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.is_v6 {
            true => write!(f, "{}/{}", std::net::Ipv6Addr::from_bits(self.base), self.bits),
            false => write!(f, "{}/{}", std::net::Ipv4Addr::from_bits((self.base >> 96) as u32), self.bits),
        }
    }
}

fn mask(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}
