//! Texts that are secret, and the hashes by which the daemon knows them.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::system::random;

/// The SHA-256 of a secret.
pub type Hash = [u8; 32];

/// The beginning of every key.
pub const PREFIX: &str = "kk_";
/// The letters of a pairing's secret: Crockford's base 32, without those that look like others.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters of a pairing's secret: five bits each.
const LENGTH: usize = 16;

/// A new key, from the kernel's randomness.
pub fn new_key() -> io::Result<String> {
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random::bytes::<32>()?)))
}

/// The hash of a key; none if the text is not one.
pub fn hash_of_key(text: &str) -> Option<Hash> {
    bytes_of_key(text).map(|_| Sha256::digest(text).into())
}

/// A new ticket of a link to the page: 128 bits, which nobody types.
pub fn new_ticket() -> io::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::bytes::<16>()?))
}

/// The hash of a ticket.
pub fn hash_of_ticket(text: &str) -> Hash {
    Sha256::digest(text).into()
}

/// Two halves of a key, each of which alone is random and says nothing about the key; none if the text is no key.
///
/// # Errors
/// The kernel gives no random bytes.
pub fn halves(key: &str) -> io::Result<Option<[String; 2]>> {
    let Some(bytes) = bytes_of_key(key) else { return Ok(None) };
    let pad = random::bytes::<32>()?;
    Ok(Some([exclusive_or(&bytes, &pad), pad].map(|half| URL_SAFE_NO_PAD.encode(half))))
}

/// The key that these are the halves of; none if they are none. Any two halves give a key, which need not exist.
pub fn joined(halves: [&str; 2]) -> Option<String> {
    let [one, other] = halves.map(bytes_of);
    Some(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(exclusive_or(&one?, &other?))))
}

fn exclusive_or(one: &[u8; 32], other: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| one[at] ^ other[at])
}

fn bytes_of_key(text: &str) -> Option<[u8; 32]> {
    bytes_of(text.strip_prefix(PREFIX)?)
}

fn bytes_of(text: &str) -> Option<[u8; 32]> {
    // Longer ones are not read.
    if text.len() != 43 {
        return None;
    }
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// A new secret for a pairing: 80 bits, in groups of four.
pub fn new_secret() -> io::Result<String> {
    let bytes = random::bytes::<LENGTH>()?;
    let letters: Vec<u8> = bytes.iter().map(|byte| LETTERS[usize::from(byte & 31)]).collect();
    let groups = letters.chunks(4).map(|group| String::from_utf8_lossy(group).into_owned());
    Ok(groups.collect::<Vec<String>>().join("-"))
}

/// The hash of a pairing's secret, however a person has typed it: small letters, spaces, and letters that look like another.
pub fn hash_of_secret(text: &str) -> Hash {
    let meant = |letter: char| match letter.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    let letters = text.chars().filter(|letter| *letter != '-' && !letter.is_whitespace());
    Sha256::digest(letters.map(meant).collect::<String>()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_random_and_only_a_whole_one_has_a_hash() {
        let (one, two) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 46);
        assert_ne!(hash_of_key(&one), hash_of_key(&two));
        assert!(hash_of_key(&one).is_some());
        let last = if one.ends_with('A') { 'B' } else { 'A' };
        // The last letter carries four bits: `B` has others set, and would be a second text for the same bytes.
        for wrong in [
            "",
            "kk_",
            &one[3..],
            &one[..45],
            &format!("{one}A"),
            &format!("{}=", &one[..45]),
            &format!("kk_{}", "!".repeat(43)),
            &format!("kk_{}B", &"A".repeat(42)),
        ] {
            assert_eq!(hash_of_key(wrong), None, "{wrong} {last}");
        }
    }

    #[test]
    fn two_halves_are_a_key_and_one_is_nothing() {
        let key = new_key().unwrap();
        let [cookie, proof] = halves(&key).unwrap().unwrap();
        assert_eq!(joined([&cookie, &proof]).as_ref(), Some(&key));
        let [other_cookie, other_proof] = halves(&key).unwrap().unwrap();
        assert!(cookie != other_cookie && proof != other_proof, "each log-in has halves of its own");
        assert_ne!(joined([&cookie, &other_proof]), Some(key.clone()));
        for half in [&cookie, &proof] {
            assert!(!key.contains(half.as_str()));
            assert_eq!(
                hash_of_key(&format!("{PREFIX}{half}")).map(|hash| Some(hash) == hash_of_key(&key)),
                Some(false)
            );
        }
        for wrong in ["", "x", &cookie[1..], &format!("{cookie}A"), &"!".repeat(43), &"A".repeat(100_000)] {
            assert_eq!((joined([wrong, &proof]), joined([&cookie, wrong])), (None, None));
        }
        assert_eq!(halves("kk_").unwrap(), None);
    }

    #[test]
    fn a_secret_has_80_bits_and_may_be_typed_carelessly() {
        let secret = new_secret().unwrap();
        assert_eq!(secret.len(), 19);
        let letters: Vec<u8> = secret.bytes().filter(|letter| *letter != b'-').collect();
        assert!(letters.len() == LENGTH && letters.iter().all(|letter| LETTERS.contains(letter)), "{secret}");
        for lookalike in "ILOUilou".chars() {
            assert!(!secret.contains(lookalike));
        }
        assert_ne!(secret, new_secret().unwrap());
        let hash = hash_of_secret("10AB-CDEF-GHJK-MNPQ");
        for same in ["loab cdef ghjk mnpq", "I0ABCDEFGHJKMNPQ", " 10ab-cdef-ghjk-mnpq\n"] {
            assert_eq!(hash_of_secret(same), hash, "{same}");
        }
        assert_ne!(hash_of_secret("20AB-CDEF-GHJK-MNPQ"), hash);
    }
}
