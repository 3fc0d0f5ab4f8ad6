//! Encryption of what must not be read in the database: AES-256-GCM under keys of the configuration.

use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
    rand::{SecureRandom as _, SystemRandom},
};

use crate::{
    config::{Secret, credential_store::StoreKey},
    fault::{Class, Fault},
};

/// The keys of the configuration, ready for one credential.
pub struct Seal {
    /// The present one first.
    keys: Vec<Ready>,
    /// What the credential belongs to; sealed in, so that no row can stand for another.
    owner: String,
}

struct Ready {
    id: String,
    cipher: LessSafeKey,
    mark: hmac::Key,
}

impl Seal {
    /// `None`: there is no key.
    #[must_use]
    pub fn new(keys: &[StoreKey], owner: String) -> Option<Self> {
        let keys: Vec<Ready> = keys.iter().filter_map(Ready::new).collect();
        (!keys.is_empty()).then_some(Self { keys, owner })
    }

    /// Name of the key that seals.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.keys.first().map(|key| key.id.as_str())
    }

    /// Encrypts `secret`; `what` is sealed in, too.
    ///
    /// # Errors
    ///
    /// The machine has no random numbers.
    pub fn seal(&self, what: &str, secret: &Secret) -> Result<Vec<u8>, Box<Fault>> {
        let failed = || {
            fault(
                Class::Internal,
                "seal_failed",
                "the credential could not be encrypted".into(),
                "please report this",
            )
        };
        let key = self.keys.first().ok_or_else(failed)?;
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| failed())?;
        let mut sealed = secret.expose().as_bytes().to_vec();
        let aad = self.aad(what);
        key.cipher
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(aad.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| failed())?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Decrypts what the key of that name sealed.
    ///
    /// # Errors
    ///
    /// The key is not configured, or it is another one now.
    pub fn open(&self, key_id: &str, what: &str, sealed: &[u8]) -> Result<Secret, Box<Fault>> {
        let key = self.keys.iter().find(|key| key.id == key_id).ok_or_else(|| {
            fault(
                Class::Config,
                "credential_key_missing",
                format!("the kept credential is encrypted with key {key_id:?}, which the configuration does not have"),
                "put the key back under credential_store.former_keys, or start over with `rosterd credentials reset SOURCE`",
            )
        })?;
        let opened = sealed
            .split_at_checked(NONCE_LEN)
            .and_then(|(nonce, rest)| {
                let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
                let mut rest = rest.to_vec();
                let aad = self.aad(what);
                let plain = key
                    .cipher
                    .open_in_place(nonce, Aad::from(aad.as_bytes()), &mut rest)
                    .ok()?;
                String::from_utf8(plain.to_vec()).ok().map(Secret::new)
            });
        opened.ok_or_else(|| {
            fault(
                Class::Config,
                "credential_key_wrong",
                format!("key {key_id:?} of credential_store does not open the kept credential: it is another secret now"),
                "give the new secret a new id and put the old one under credential_store.former_keys, or start over with `rosterd credentials reset SOURCE`",
            )
        })
    }

    /// Keyed hashes of a secret, under each key; the first is the one to write down.
    #[must_use]
    pub fn marks(&self, secret: &Secret) -> Vec<Vec<u8>> {
        let text = format!("{}\0{}", self.owner, secret.expose());
        self.keys
            .iter()
            .map(|key| hmac::sign(&key.mark, text.as_bytes()).as_ref().to_vec())
            .collect()
    }

    fn aad(&self, what: &str) -> String {
        format!("{}\0{what}", self.owner)
    }
}

impl Ready {
    /// One configured secret, two keys: what is good for one use says nothing of the other.
    fn new(key: &StoreKey) -> Option<Self> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"rosterd credential_store");
        let root = salt.extract(key.secret.expose().as_bytes());
        let derive = |purpose: &[u8]| {
            let mut derived = [0; 32];
            root.expand(&[purpose], hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(&mut derived))
                .ok()
                .map(|()| derived)
        };
        Some(Self {
            id: key.id.clone(),
            cipher: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &derive(b"encrypt")?).ok()?),
            mark: hmac::Key::new(hmac::HMAC_SHA256, &derive(b"mark")?),
        })
    }
}

fn fault(class: Class, code: &str, message: String, hint: &str) -> Box<Fault> {
    Box::new(Fault {
        class,
        code: code.to_owned(),
        message,
        hint: hint.to_owned(),
        retryable: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(keys: &[(&str, &str)], owner: &str) -> Seal {
        let keys: Vec<StoreKey> = keys
            .iter()
            .map(|(id, secret)| StoreKey {
                id: (*id).to_owned(),
                secret: Secret::new((*secret).to_owned()),
            })
            .collect();
        Seal::new(&keys, owner.to_owned()).unwrap()
    }

    #[test]
    fn only_its_own_key_owner_and_purpose_open_what_is_sealed() {
        let secret = Secret::new("r3fresh é".into());
        let present = seal(&[("k1", "one")], "hr/default");
        let sealed = present.seal("refresh", &secret).unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("r3fresh"));
        assert_ne!(sealed, present.seal("refresh", &secret).unwrap());
        let rotated = seal(&[("k2", "two"), ("k1", "one")], "hr/default");
        assert_eq!(rotated.key_id(), Some("k2"));
        for (seal, key, what, outcome) in [
            (&present, "k1", "refresh", Ok(())),
            (&rotated, "k1", "refresh", Ok(())),
            (&rotated, "k2", "refresh", Err("credential_key_wrong")),
            (&present, "k0", "refresh", Err("credential_key_missing")),
            (&present, "k1", "access", Err("credential_key_wrong")),
            (
                &seal(&[("k1", "one")], "hr/other"),
                "k1",
                "refresh",
                Err("credential_key_wrong"),
            ),
            (
                &seal(&[("k1", "two")], "hr/default"),
                "k1",
                "refresh",
                Err("credential_key_wrong"),
            ),
        ] {
            match (seal.open(key, what, &sealed), outcome) {
                (Ok(opened), Ok(())) => assert_eq!(opened, secret),
                (Err(fault), Err(code)) => assert_eq!(fault.code, code),
                (Ok(_), Err(code)) => panic!("opened, expected {code}"),
                (Err(fault), Ok(())) => panic!("{fault}"),
            }
        }
        for broken in [&sealed[..4], &sealed[..20], &[][..]] {
            assert!(present.open("k1", "refresh", broken).is_err());
        }
    }

    #[test]
    fn marks_tell_secrets_apart_and_say_nothing_else() {
        let (one, two) = (Secret::new("one".into()), Secret::new("two".into()));
        let present = seal(&[("k1", "x")], "hr/default");
        assert_eq!(present.marks(&one), present.marks(&one));
        assert_ne!(present.marks(&one), present.marks(&two));
        assert_ne!(
            present.marks(&one),
            seal(&[("k1", "y")], "hr/default").marks(&one)
        );
        assert_eq!(
            seal(&[("k2", "y"), ("k1", "x")], "hr/default").marks(&one)[1],
            present.marks(&one)[0]
        );
    }
}
