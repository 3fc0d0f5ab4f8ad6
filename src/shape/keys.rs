//! Sets of row keys. A key is a hash already, so that hashing it once more would only cost time.
//!
//! Nobody gains by colliding keys on purpose: whoever can make two keys have the same first half of
//! their 128 bits makes one look-up slow, and decides what the API sends anyhow.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
};

/// Keys of rows, as in [`ScanRow::key`](super::ScanRow::key).
pub type KeySet = HashSet<u128, KeyHashing>;

/// Takes a key for its own hash.
pub type KeyHashing = BuildHasherDefault<KeyHasher>;

/// See [`KeyHashing`].
#[derive(Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u128(&mut self, key: u128) {
        // Its lower half.
        self.0 = key as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxhash_rust::xxh3::xxh3_64(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_tells_keys_apart_that_share_a_half() {
        let keys = [1, 1 << 64 | 1, 1 << 64, 0, u128::MAX];
        let set: KeySet = keys.into_iter().collect();
        assert_eq!(set.len(), keys.len());
        assert!(keys.iter().all(|key| set.contains(key)));
        assert!(!set.contains(&2));
    }
}
