//! Memory of bodies, which goes from page to page of a walk.
//!
//! The pages of one walk are about as large as each other. Given back to the allocator and asked for
//! anew, their memory is cleared by the kernel for each page, and what lies between two of them is lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;

/// Most bytes that wait to be used again.
const MOST: usize = 4 << 20;

/// Where bodies go that nobody looks at any more. Whoever holds the last handle takes them along.
#[derive(Debug, Clone, Default)]
pub(super) struct Buffers(Arc<Spare>);

type Spare = Mutex<Vec<Vec<u8>>>;

impl Buffers {
    /// Empty memory with room for some bytes.
    pub(super) fn take(&self, room: usize) -> Vec<u8> {
        let spare = lock(&self.0).pop();
        match spare {
            Some(spare) if spare.capacity() >= room => spare,
            // The next may be a little longer.
            _ => Vec::with_capacity(room + room / 16),
        }
    }

    /// A body to be looked at. Its memory comes back when the last part of it is dropped.
    pub(super) fn lend(&self, mut bytes: Vec<u8>) -> Bytes {
        // Pages wait for each other; room that nobody needs would wait with them.
        if bytes.len() < bytes.capacity() / 2 {
            let exact = bytes.as_slice().to_vec();
            keep(&self.0, std::mem::replace(&mut bytes, exact));
        } else if bytes.capacity() - bytes.len() > bytes.len() / 8 {
            bytes.shrink_to_fit();
        }
        Bytes::from_owner(Lent {
            bytes,
            home: Arc::downgrade(&self.0),
        })
    }
}

fn lock(spare: &Spare) -> MutexGuard<'_, Vec<Vec<u8>>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(home: &Spare, mut bytes: Vec<u8>) {
    bytes.clear();
    let mut spare = lock(home);
    let waiting: usize = spare.iter().map(Vec::capacity).sum();
    if waiting + bytes.capacity() <= MOST {
        spare.push(bytes);
    }
}

/// A body in use.
struct Lent {
    bytes: Vec<u8>,
    home: Weak<Spare>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            keep(&home, std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(buffers: &Buffers, length: usize) -> Bytes {
        let mut bytes = buffers.take(length);
        assert!(bytes.is_empty(), "it begins with nothing of another");
        bytes.extend(std::iter::repeat_n(b'x', length));
        buffers.lend(bytes)
    }

    fn spare(buffers: &Buffers) -> Vec<usize> {
        lock(&buffers.0).iter().map(Vec::capacity).collect()
    }

    #[test]
    fn memory_comes_back_with_the_last_part_of_a_body() {
        let buffers = Buffers::default();
        let whole = body(&buffers, 1000);
        let part = whole.slice(10..20);
        drop(whole);
        assert!(spare(&buffers).is_empty());
        assert_eq!(part, "x".repeat(10));
        drop(part);
        assert_eq!(spare(&buffers), [1062]);
        let again = body(&buffers, 1010);
        assert_eq!(again.len(), 1010);
        assert!(spare(&buffers).is_empty());
    }

    #[test]
    fn little_waits() {
        let buffers = Buffers::default();
        let many: Vec<Bytes> = (0..10).map(|_| body(&buffers, MOST / 4)).collect();
        drop(many);
        // Each has a little more room than was asked for.
        assert_eq!(spare(&buffers).len(), 3);
        lock(&buffers.0).clear();
        drop(body(&buffers, MOST + 1));
        assert!(spare(&buffers).is_empty());
        let mut mostly_empty = buffers.take(1 << 20);
        mostly_empty.push(b'x');
        let lent = buffers.lend(mostly_empty);
        assert_eq!(spare(&buffers).len(), 1, "the room is for others");
        drop(lent);
        assert_eq!(spare(&buffers).last(), Some(&1));
    }

    #[test]
    fn bodies_outlive_their_walk() {
        let buffers = Buffers::default();
        let body = body(&buffers, 10);
        drop(buffers);
        assert_eq!(body.len(), 10);
    }
}
