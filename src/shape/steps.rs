//! The processing steps of a resource, run on the records of a page before anything else looks at them.
//!
//! A record is read once, goes through all steps as a value of jq and is written once. Where it or what
//! became of it cannot be gone on with, the record is a reject: which step it was is told, what stood in it
//! is not.

use super::{
    json::{self, Checker, Unfit},
    reason,
};
use crate::config::{
    columns::Nul,
    jq::Item,
    source::{ProcessingStep, StepKind},
};

/// Levels of nesting that a step's record may have: programs and the reader of their input recurse.
const MAX_DEPTH: usize = 200;

/// Records that one record may become.
const MAX_OUTPUTS: usize = 100_000;

/// Bytes that one record may become.
const MAX_BYTES: usize = 64 << 20;

/// The steps of one resource.
#[derive(Debug, Clone)]
pub struct Steps {
    steps: Vec<ProcessingStep>,
    nul: Nul,
}

/// What one record became.
#[derive(Debug, Default)]
pub struct Became {
    /// The records, one behind the other.
    pub body: Vec<u8>,
    /// Bytes of each.
    pub lengths: Vec<u32>,
    /// Texts that Postgres cannot hold, replaced on the way.
    pub replaced: u64,
}

/// Why a record ends at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    /// Position of the step. `None`: the record could not be read.
    pub step: Option<usize>,
    pub reason: &'static str,
}

impl Steps {
    #[must_use]
    pub fn new(steps: Vec<ProcessingStep>, nul: Nul) -> Self {
        Self { steps, nul }
    }

    /// The record after all steps. Takes as long and as much memory as the programs do, which nobody can
    /// foresee.
    ///
    /// # Errors
    ///
    /// Which step cannot go on with it, and why.
    pub fn record(&self, record: &[u8]) -> Result<Became, Stop> {
        let bad = |reason| Stop { step: None, reason };
        let mut checker = Checker::default();
        let (item, replaced) = read(record, self.nul, &mut checker).map_err(bad)?;
        if replaced > 0 && self.nul == Nul::Reject {
            return Err(bad(reason::UNSTORABLE_TEXT));
        }
        let mut became = Became {
            replaced,
            ..Became::default()
        };
        self.onward(0, item, &mut became, &mut checker)?;
        Ok(became)
    }

    /// Runs the steps from `at` on; recursion is as deep as the list of steps is long.
    fn onward(
        &self,
        at: usize,
        item: Item,
        became: &mut Became,
        checker: &mut Checker,
    ) -> Result<(), Stop> {
        let Some(step) = self.steps.get(at) else {
            let step = at.checked_sub(1);
            let stop = |reason| Stop { step, reason };
            let start = became.body.len();
            item.write(&mut became.body);
            let written = became.body.get(start..).unwrap_or_default();
            // A program can make what JSON does not have: NaN, bytes, names that are no texts.
            if std::str::from_utf8(written).is_err() || checker.check(written).is_err() {
                return Err(stop(reason::STEP_NOT_JSON));
            }
            became
                .lengths
                .push(u32::try_from(written.len()).unwrap_or(u32::MAX));
            if became.lengths.len() > MAX_OUTPUTS || became.body.len() > MAX_BYTES {
                return Err(stop(reason::STEP_TOO_MUCH));
            }
            return Ok(());
        };
        let stop = |reason| Stop {
            step: Some(at),
            reason,
        };
        let mut outputs = step.program.run(item.clone());
        match step.kind {
            StepKind::YieldMap => {
                for output in outputs {
                    let output = output.map_err(|_| stop(reason::STEP_FAILED))?;
                    self.onward(at + 1, output, became, checker)?;
                }
                Ok(())
            }
            StepKind::Filter | StepKind::Map => {
                let one = outputs.next();
                let one = one.ok_or_else(|| stop(reason::STEP_NOT_ONE))?;
                let one = one.map_err(|_| stop(reason::STEP_FAILED))?;
                if outputs.next().is_some() {
                    return Err(stop(reason::STEP_NOT_ONE));
                }
                drop(outputs);
                match step.kind {
                    StepKind::Filter if !one.is_true() => Ok(()),
                    StepKind::Filter => self.onward(at + 1, item, became, checker),
                    StepKind::Map | StepKind::YieldMap => self.onward(at + 1, one, became, checker),
                }
            }
        }
    }
}

/// A record as a program's input, and how many of its texts Postgres cannot hold.
pub(super) fn read(
    record: &[u8],
    nul: Nul,
    checker: &mut Checker,
) -> Result<(Item, u64), &'static str> {
    if std::str::from_utf8(record).is_err() {
        return Err(reason::INVALID_UTF8);
    }
    let has_escapes = checker.check(record).map_err(|unfit| match unfit {
        Unfit::Malformed => reason::INVALID_JSON,
        Unfit::TooDeep => reason::TOO_DEEP,
        Unfit::Number => reason::NUMBER_OUT_OF_RANGE,
    })?;
    if json::depth(record) > MAX_DEPTH {
        return Err(reason::TOO_DEEP);
    }
    let mut text = record.to_vec();
    let mut replaced = 0;
    if has_escapes {
        json::repair(nul, &mut text, 0, &mut replaced);
    }
    let item = Item::parse(&text).ok_or(reason::INVALID_JSON)?;
    Ok((item, replaced))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::jq::Program;

    fn steps(list: &[(StepKind, &str)]) -> Steps {
        let steps: Vec<ProcessingStep> = list
            .iter()
            .map(|(kind, text)| ProcessingStep {
                kind: *kind,
                program: Program::compile(text).unwrap(),
            })
            .collect();
        Steps::new(steps, Nul::Replace)
    }

    /// What one record per line becomes, and why others do not.
    fn run(list: &[(StepKind, &str)], lines: &str) -> (Vec<String>, Vec<Stop>) {
        let steps = steps(list);
        let (mut records, mut stops) = (Vec::new(), Vec::new());
        for line in lines.split('\n') {
            match steps.record(line.as_bytes()) {
                Ok(became) => {
                    let mut rest = became.body.as_slice();
                    for length in became.lengths {
                        let (record, after) = rest.split_at(length as usize);
                        records.push(String::from_utf8(record.to_vec()).unwrap());
                        rest = after;
                    }
                    assert!(rest.is_empty());
                }
                Err(stop) => stops.push(stop),
            }
        }
        (records, stops)
    }

    const FILTER: StepKind = StepKind::Filter;
    const MAP: StepKind = StepKind::Map;
    const YIELD: StepKind = StepKind::YieldMap;

    #[test]
    fn records_are_filtered_changed_and_taken_apart() {
        for (list, lines, expected) in [
            (
                vec![(FILTER, ".active")],
                "{\"id\":1,\"active\":true}\n{\"id\":2,\"active\":false}\n{\"id\":3}",
                vec![r#"{"id":1,"active":true}"#],
            ),
            (
                vec![(MAP, "{id, name: .n, pay: (.pay | tonumber)}")],
                r#"{"id":1,"n":"Ann","pay":"1200.50"}"#,
                vec![r#"{"id":1,"name":"Ann","pay":1200.50}"#],
            ),
            (
                // A map of keys to values becomes rows that hold their key.
                vec![(YIELD, "to_entries[] | .value + {id: .key}")],
                r#"{"7":{"h":8.0},"9":{"h":4.50}}"#,
                vec![r#"{"h":8.0,"id":"7"}"#, r#"{"h":4.50,"id":"9"}"#],
            ),
            (
                vec![(YIELD, ".id as $id | .days[] + {employee: $id}")],
                "{\"id\":1,\"days\":[{\"d\":1},{\"d\":2}]}\n{\"id\":2,\"days\":[]}",
                vec![r#"{"d":1,"employee":1}"#, r#"{"d":2,"employee":1}"#],
            ),
            (
                vec![(YIELD, ".[]"), (FILTER, ".id > 1"), (MAP, "del(.x)")],
                r#"[{"id":1,"x":0},{"id":2,"x":0}]"#,
                vec![r#"{"id":2}"#],
            ),
            (
                vec![(MAP, ".")],
                r#"{"text":"a\ud800b\u0000c","big":12345678901234567890.10}"#,
                vec!["{\"text\":\"a\u{fffd}b\u{fffd}c\",\"big\":12345678901234567890.10}"],
            ),
        ] {
            let (records, rejects) = run(&list, lines);
            assert_eq!(records, expected, "{list:?}");
            assert_eq!(rejects, [], "{list:?}");
        }
    }

    #[test]
    fn a_record_that_a_step_cannot_take_is_a_reject_and_the_others_go_on() {
        let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
        for (list, bad, step, reason) in [
            (
                vec![(MAP, "{id: (.id + 1)}")],
                r#"{"id":"x"}"#,
                Some(0),
                reason::STEP_FAILED,
            ),
            (
                vec![(FILTER, "true"), (FILTER, ".id | startswith(\"a\") | not")],
                r#"{"id":[]}"#,
                Some(1),
                reason::STEP_FAILED,
            ),
            (
                vec![(MAP, ".list[]?")],
                r#"{"list":[1,2]}"#,
                Some(0),
                reason::STEP_NOT_ONE,
            ),
            (
                vec![(YIELD, "range(.n // 0)")],
                r#"{"n":1e9}"#,
                Some(0),
                reason::STEP_TOO_MUCH,
            ),
            (
                vec![(MAP, "{id: (if .id == 5 then nan else .id end)}")],
                r#"{"id":5}"#,
                Some(0),
                reason::STEP_NOT_JSON,
            ),
            (
                vec![(MAP, "{(.k // \"k\"): 1}")],
                r#"{"k":1}"#,
                Some(0),
                reason::STEP_NOT_JSON,
            ),
            (vec![(MAP, ".")], "{\"id\":", None, reason::INVALID_JSON),
            (vec![(MAP, ".")], &deep, None, reason::TOO_DEEP),
        ] {
            let (_, rejects) = run(&list, bad);
            assert_eq!(rejects, [Stop { step, reason }], "{list:?}");
        }
        let (records, rejects) = run(&[(MAP, "{id: (.id + 1)}")], "{\"id\":\"x\"}\n{\"id\":1}");
        assert_eq!((records.len(), rejects.len()), (1, 1));
    }
}
