//! The ciphers of upstream's providers, with its layouts of what is stored: apiserver/pkg/storage/value/encrypt.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_192_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{
        AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, PaddedBlockEncryptingKey,
        UnboundCipherKey,
    },
    hkdf::{HKDF_SHA256, KeyType, Prk},
    iv::FixedLength,
    rand,
};
use crypto_secretbox::{
    KeyInit, XSalsa20Poly1305,
    aead::{Aead, generic_array::GenericArray},
};

const GCM_NONCE: usize = 12;
const GCM_TAG: usize = 16;
const CBC_IV: usize = 16;
const SECRETBOX_NONCE: usize = 24;
const SEED_INFO: usize = 32;
const DERIVED_KEY: usize = 32;

/// What was stored is not what a key has written, or a key has not the size its cipher needs. Says no more, so that nothing
/// can be learnt from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cipher refuses it")]
pub struct Refused;

impl From<aws_lc_rs::error::Unspecified> for Refused {
    fn from(_: aws_lc_rs::error::Unspecified) -> Refused {
        Refused
    }
}

impl From<crypto_secretbox::Error> for Refused {
    fn from(_: crypto_secretbox::Error) -> Refused {
        Refused
    }
}

/// One key of one cipher. `path` is the key under which a value is stored: a value moved elsewhere is refused, by the
/// ciphers that can tell.
pub(super) enum Cipher {
    /// Nonce, ciphertext, tag (aes.go).
    AesGcm(LessSafeKey),
    /// Initialization vector, ciphertext padded as PKCS #7 (aes.go). Does not notice changes.
    AesCbc(Box<[u8]>),
    /// Nonce, box (secretbox.go).
    Secretbox(Box<XSalsa20Poly1305>),
    /// A number from which the value's own AES-256-GCM key is derived, then as `AesGcm` (aes_extended_nonce.go).
    Seed(Box<[u8]>),
}

impl Cipher {
    pub fn aes_gcm(key: &[u8]) -> Result<Cipher, Refused> {
        let algorithm = match key.len() {
            16 => &AES_128_GCM,
            24 => &AES_192_GCM,
            32 => &AES_256_GCM,
            _ => return Err(Refused),
        };
        Ok(Cipher::AesGcm(LessSafeKey::new(UnboundKey::new(algorithm, key)?)))
    }

    pub fn aes_cbc(key: &[u8]) -> Result<Cipher, Refused> {
        cbc_key(key)?;
        Ok(Cipher::AesCbc(key.into()))
    }

    pub fn secretbox(key: &[u8]) -> Result<Cipher, Refused> {
        Ok(Cipher::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(key).map_err(|_| Refused)?)))
    }

    /// `seed` is used as a pseudorandom key, which has at least 32 bytes.
    pub fn seed(seed: &[u8]) -> Result<Cipher, Refused> {
        if seed.len() < DERIVED_KEY { Err(Refused) } else { Ok(Cipher::Seed(seed.into())) }
    }

    pub fn seal(&self, path: &[u8], plain: &[u8]) -> Result<Vec<u8>, Refused> {
        match self {
            Cipher::AesGcm(key) => {
                let nonce: [u8; GCM_NONCE] = random()?;
                let mut sealed = Vec::with_capacity(GCM_NONCE + plain.len() + GCM_TAG);
                sealed.extend_from_slice(&nonce);
                sealed.extend_from_slice(plain);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(path), &mut sealed[GCM_NONCE..])?;
                sealed.extend_from_slice(tag.as_ref());
                Ok(sealed)
            }
            Cipher::AesCbc(key) => {
                let mut sealed = plain.to_vec();
                let context = PaddedBlockEncryptingKey::cbc_pkcs7(cbc_key(key)?)?.encrypt(&mut sealed)?;
                let iv: &[u8] = (&context).try_into()?;
                Ok([iv, &sealed].concat())
            }
            Cipher::Secretbox(key) => {
                let nonce: [u8; SECRETBOX_NONCE] = random()?;
                let sealed = key.encrypt(GenericArray::from_slice(&nonce), plain)?;
                Ok([&nonce[..], &sealed].concat())
            }
            Cipher::Seed(seed) => {
                let info: [u8; SEED_INFO] = random()?;
                let sealed = derived(seed, &info)?.seal(path, plain)?;
                Ok([&info[..], &sealed].concat())
            }
        }
    }

    pub fn open(&self, path: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Refused> {
        match self {
            Cipher::AesGcm(key) => {
                let (nonce, sealed) = sealed.split_at_checked(GCM_NONCE).ok_or(Refused)?;
                let mut plain = sealed.to_vec();
                let nonce = Nonce::try_assume_unique_for_key(nonce)?;
                let length = key.open_in_place(nonce, Aad::from(path), &mut plain)?.len();
                plain.truncate(length);
                Ok(plain)
            }
            Cipher::AesCbc(key) => {
                let (iv, sealed) = sealed.split_first_chunk::<CBC_IV>().ok_or(Refused)?;
                let mut plain = sealed.to_vec();
                let context = DecryptionContext::Iv128(FixedLength::from(*iv));
                let length = PaddedBlockDecryptingKey::cbc_pkcs7(cbc_key(key)?)?.decrypt(&mut plain, context)?.len();
                plain.truncate(length);
                Ok(plain)
            }
            Cipher::Secretbox(key) => {
                let (nonce, sealed) = sealed.split_at_checked(SECRETBOX_NONCE).ok_or(Refused)?;
                Ok(key.decrypt(GenericArray::from_slice(nonce), sealed)?)
            }
            Cipher::Seed(seed) => {
                let (info, sealed) = sealed.split_at_checked(SEED_INFO).ok_or(Refused)?;
                derived(seed, info)?.open(path, sealed)
            }
        }
    }
}

fn cbc_key(key: &[u8]) -> Result<UnboundCipherKey, Refused> {
    let algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return Err(Refused),
    };
    Ok(UnboundCipherKey::new(algorithm, key)?)
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        DERIVED_KEY
    }
}

/// HKDF's second step alone: the seed is random already.
fn derived(seed: &[u8], info: &[u8]) -> Result<Cipher, Refused> {
    let mut key = [0; DERIVED_KEY];
    Prk::new_less_safe(HKDF_SHA256, seed).expand(&[info], KeyLength)?.fill(&mut key)?;
    Cipher::aes_gcm(&key)
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Refused> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
    }

    fn bytes(from: u8, to: u8) -> Vec<u8> {
        (from..to).collect()
    }

    /// Published or made by other programs: the GCM specification's test case 4, OpenSSL, NaCl's secretbox test.
    #[test]
    fn what_others_have_sealed_opens() {
        let gcm = Cipher::aes_gcm(&hex("feffe9928665731c6d6a8f9467308308")).unwrap();
        let path = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
        let sealed =
            hex("cafebabefacedbaddecaf88842831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b2\
                          5466931c7d8f6a5aac84aa051ba30b396a0aac973d58e0915bc94fbc3221a5db94fae95ae7121a47");
        let plain =
            hex("d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
                         b16aedf5aa0de657ba637b39");
        assert_eq!(gcm.open(&path, &sealed), Ok(plain));

        let cbc = Cipher::aes_cbc(&bytes(0, 32)).unwrap();
        let sealed =
            [bytes(100, 116), hex("023c2f38f419da6a2ef611d223acad3affbff2e618088f51d7d7cc19a125a4f9")].concat();
        assert_eq!(cbc.open(b"any", &sealed).as_deref(), Ok(&b"a secret of sixteen+ bytes"[..]));

        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let sealed = hex(
            "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273\
                          c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2\
                          270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de\
                          56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
        );
        let plain = Cipher::secretbox(&key).unwrap().open(b"any", &sealed).unwrap();
        assert_eq!((plain.len(), &plain[..8]), (131, &hex("be075fc53c81f2d5")[..]));

        // HMAC-SHA256(seed, info, 1) is the first block of HKDF's expansion.
        let derived =
            Cipher::aes_gcm(&hex("ccb4f05e673c90bd153935b11d0dabfc00537bc35cf92953deac178dd081ef8d")).unwrap();
        let sealed = [bytes(32, 64), derived.seal(b"path", b"plain").unwrap()].concat();
        assert_eq!(Cipher::seed(&bytes(0, 32)).unwrap().open(b"path", &sealed).as_deref(), Ok(&b"plain"[..]));
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_and_path_and_no_other() {
        type New = fn(&[u8]) -> Result<Cipher, Refused>;
        for (name, new, sizes) in [
            ("gcm", Cipher::aes_gcm as New, &[16, 24, 32][..]),
            ("cbc", Cipher::aes_cbc, &[16, 24, 32]),
            ("secretbox", Cipher::secretbox, &[32]),
            ("seed", Cipher::seed, &[32, 64]),
        ] {
            assert!(new(&[1; 15]).is_err(), "{name}");
            for size in sizes {
                let (cipher, other) = (new(&vec![1; *size]).unwrap(), new(&vec![2; *size]).unwrap());
                for length in [0, 1, 15, 16, 17, 10_000] {
                    let plain = vec![7; length];
                    let mut sealed = cipher.seal(b"path", &plain).unwrap();
                    assert_ne!(sealed, cipher.seal(b"path", &plain).unwrap(), "{name} never makes the same twice");
                    assert_eq!(cipher.open(b"path", &sealed), Ok(plain.clone()), "{name} {size} {length}");
                    let bound = matches!(name, "gcm" | "seed");
                    assert_eq!(cipher.open(b"elsewhere", &sealed).is_err(), bound, "{name}");
                    // Without a tag a wrong key is noticed by chance only, as what comes out.
                    assert!(length == 0 || other.open(b"path", &sealed).as_ref() != Ok(&plain), "{name}");
                    let cut = sealed.len() - 1;
                    assert!(cipher.open(b"path", &sealed[..cut]).is_err(), "{name}");
                    sealed[0] ^= 1;
                    assert!(length == 0 || cipher.open(b"path", &sealed) != Ok(plain), "{name}");
                }
            }
            assert!(new(&[1; 32]).unwrap().open(b"path", b"").is_err(), "{name}");
        }
    }
}
