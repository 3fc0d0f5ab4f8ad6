//! The API's counts of all rows, in the order in which the API made them.
//!
//! A count that fell means that rows went away, and those behind them moved to pages already read.
//! Pages are fetched side by side, so a smaller count may come from the *earlier* request. Two counts
//! are compared only when one was there before the other was asked for.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::fetch::client::Asked;

/// Counts that are compared one by one. More requests than these are never under way together, so
/// an older count was there before any that is still to come was asked for.
const KEPT: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Totals {
    /// When each count was there.
    heard: VecDeque<(Instant, u64)>,
    /// The largest of the counts that are no longer kept.
    older: u64,
    most: u64,
    /// The count that was asked for last.
    newest: Option<(Instant, u64)>,
}

impl Totals {
    /// Takes a count. Returns a larger one that was there before this one was asked for.
    pub(super) fn hear(&mut self, asked: Asked, total: u64) -> Option<u64> {
        let earlier = self.heard.iter().filter(|(at, _)| *at <= asked.sent);
        let before = earlier.map(|(_, total)| *total).max();
        let before = before.unwrap_or_default().max(self.older);
        self.heard.push_back((asked.answered, total));
        if self.heard.len() > KEPT
            && let Some((_, total)) = self.heard.pop_front()
        {
            self.older = self.older.max(total);
        }
        self.most = self.most.max(total);
        if self.newest.is_none_or(|(sent, _)| sent <= asked.sent) {
            self.newest = Some((asked.sent, total));
        }
        (total < before).then_some(before)
    }

    /// The count that was asked for last.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest.map(|(_, total)| total)
    }

    /// At the end of a walk: the largest count and the newest, where they differ. Whether rows went
    /// away between two requests under way together cannot be told then.
    pub(super) fn unsettled(&self) -> Option<(u64, u64)> {
        let newest = self.newest()?;
        (newest < self.most).then_some((self.most, newest))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Hears `(sent, answered, total)`, in milliseconds; returns what was said each time, and at the end.
    fn hear(counts: &[(u64, u64, u64)]) -> (Vec<Option<u64>>, Option<(u64, u64)>) {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut totals = Totals::default();
        let said = counts
            .iter()
            .map(|(sent, answered, total)| {
                let asked = Asked {
                    sent: at(*sent),
                    answered: at(*answered),
                };
                totals.hear(asked, *total)
            })
            .collect();
        (said, totals.unsettled())
    }

    #[test]
    fn only_counts_one_after_the_other_are_compared() {
        for (name, counts, said, end) in [
            (
                "grows",
                vec![(0, 10, 5), (10, 20, 6)],
                vec![None, None],
                None,
            ),
            (
                "falls",
                vec![(0, 10, 6), (10, 20, 5)],
                vec![None, Some(6)],
                Some((6, 5)),
            ),
            (
                "grows while two are under way, the earlier one heard last",
                vec![(5, 9, 7), (0, 10, 6), (20, 30, 7)],
                vec![None, None, None],
                None,
            ),
            (
                "falls while two are under way, and a later one tells",
                vec![(0, 10, 7), (1, 9, 6), (20, 30, 6)],
                vec![None, None, Some(7)],
                Some((7, 6)),
            ),
            (
                "falls while the last two are under way",
                vec![(0, 10, 7), (1, 9, 6)],
                vec![None, None],
                Some((7, 6)),
            ),
        ] {
            assert_eq!(hear(&counts), (said, end), "{name}");
        }
    }

    #[test]
    fn what_is_no_longer_kept_still_counts() {
        let mut counts: Vec<(u64, u64, u64)> = (0..200).map(|n| (n, n, 10)).collect();
        counts[0].2 = 11;
        let (said, _) = hear(&counts);
        assert_eq!(said[199], Some(11));
    }
}
