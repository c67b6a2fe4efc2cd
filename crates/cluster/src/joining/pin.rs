//! The hash by which a machine knows the cluster's authority before it trusts anybody (`cmd/kubeadm/app/util/pubkeypin`):
//! `sha256:` and the SHA-256 of the SubjectPublicKeyInfo, in hex. It outlives the certificate, not the key.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};
use x509_parser::pem::Pem;

const FORMAT: &str = "sha256:";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no hash of an authority: sha256: and 64 hexadecimal digits, as `argosy token create` prints it")]
pub struct PinError(String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaPin([u8; 32]);

impl FromStr for CaPin {
    type Err = PinError;

    fn from_str(text: &str) -> Result<CaPin, PinError> {
        let bad = || PinError(text.to_owned());
        let hex = text.strip_prefix(FORMAT).filter(|hex| hex.len() == 64 && hex.is_ascii()).ok_or_else(bad)?;
        let mut hash = [0; 32];
        for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
        }
        Ok(CaPin(hash))
    }
}

impl fmt::Display for CaPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMAT)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The hashes of all certificates in a bundle, in their order; what is no certificate is left out.
pub fn pins(bundle: &[u8]) -> Vec<CaPin> {
    let blocks = Pem::iter_from_buffer(bundle).filter_map(Result::ok).filter(|block| block.label == "CERTIFICATE");
    let pin = |block: Pem| Some(CaPin(Sha256::digest(block.parse_x509().ok()?.public_key().raw).into()));
    blocks.filter_map(pin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_written_as_it_is_read() {
        let text = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(text.parse::<CaPin>().map(|pin| pin.to_string()), Ok(text.clone()));
        assert_eq!(text.to_uppercase().replace("SHA", "sha").parse::<CaPin>(), text.parse());
        for bad in
            ["", "sha256:", "sha1:00", &text[7..], &text[..70], &text.replace('0', "x"), &text.replace("01", "é")]
        {
            assert!(bad.parse::<CaPin>().is_err(), "{bad}");
        }
    }
}
