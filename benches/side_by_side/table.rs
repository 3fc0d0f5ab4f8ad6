//! Medians, and the two tables that are printed.

use std::time::Duration;

use super::child::Cost;

/// Everything measured, by contender and phase, in the order of their first appearance.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    contender: String,
    phase: &'static str,
    costs: Vec<(Cost, u64)>,
}

impl Samples {
    pub(crate) fn add(&mut self, contender: &str, phase: &'static str, cost: Cost, wal: u64) {
        let known = self
            .lines
            .iter_mut()
            .find(|line| line.contender == contender && line.phase == phase);
        match known {
            Some(line) => line.costs.push((cost, wal)),
            None => self.lines.push(Line {
                contender: contender.to_owned(),
                phase,
                costs: vec![(cost, wal)],
            }),
        }
    }

    /// Median cost and median WAL, each figure by itself.
    pub(crate) fn median(&self, contender: &str, phase: &str) -> (Cost, u64) {
        let costs = self
            .lines
            .iter()
            .find(|line| line.contender == contender && line.phase == phase)
            .map(|line| line.costs.as_slice())
            .unwrap_or_default();
        let cost = Cost {
            wall: median(costs.iter().map(|(cost, _)| cost.wall)),
            cpu: median(costs.iter().map(|(cost, _)| cost.cpu)),
            memory: median(costs.iter().map(|(cost, _)| cost.memory)),
        };
        (cost, median(costs.iter().map(|(_, wal)| *wal)))
    }

    pub(crate) fn wall(&self, contender: &str, phase: &str) -> Duration {
        self.median(contender, phase).0.wall
    }

    pub(crate) fn print(&self, records: u64) {
        println!(
            "\n{records} records, medians\n{:<30} {:<26} {:>4} {:>8} {:>7} {:>9} {:>7} {:>7} {:>8}",
            "", "", "runs", "s", "least", "rows/s", "CPU s", "MB", "WAL MB"
        );
        for line in &self.lines {
            let (cost, wal) = self.median(&line.contender, line.phase);
            let least = line.costs.iter().map(|(cost, _)| cost.wall).min();
            println!(
                "{:<30} {:<26} {:>4} {:>8} {:>7} {:>9.0} {:>7} {:>7} {:>8}",
                line.contender,
                line.phase,
                line.costs.len(),
                seconds(cost.wall),
                seconds(least.unwrap_or_default()),
                records as f64 / cost.wall.as_secs_f64(),
                seconds(cost.cpu),
                megabytes(cost.memory),
                megabytes(wal),
            );
        }
    }
}

fn median<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}

/// A target and what was measured.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) bound: Bound,
    pub(crate) unit: &'static str,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    Most(f64),
    Least(f64),
}

pub(crate) fn gates(gates: &[Gate]) {
    if gates.is_empty() {
        return;
    }
    println!("\n{:<50} {:>10} {:>14}", "target", "measured", "wanted");
    for gate in gates {
        let (sign, bound, met) = match gate.bound {
            Bound::Most(most) => ("<=", most, gate.measured <= most),
            Bound::Least(least) => (">=", least, gate.measured >= least),
        };
        println!(
            "{:<50} {:>7.2} {:<2} {sign:>4} {bound:>6} {:<2}  {}",
            gate.what,
            gate.measured,
            gate.unit,
            gate.unit,
            if met { "met" } else { "MISSED" }
        );
    }
}
