//! The processing steps of a resource, run on the records of a page before anything else looks at them.
//!
//! A record is read once, goes through all steps as a value of jq and is written once. Where it or what
//! became of it cannot be gone on with, the record is a reject: which step it was is told, what stood in it
//! is not.

use std::ops::Range;

use super::{
    Reject,
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

/// A page after its steps.
#[derive(Debug, Default)]
pub struct Stepped {
    pub body: Vec<u8>,
    pub records: Vec<Range<u32>>,
    pub rejects: Vec<Reject>,
    /// Texts that Postgres cannot hold, replaced on the way.
    pub replaced: u64,
}

/// Why a record ends at a step.
struct Stop {
    step: Option<usize>,
    reason: &'static str,
}

impl Steps {
    /// `None`: there is nothing to do.
    #[must_use]
    pub fn new(steps: &[ProcessingStep], nul: Nul) -> Option<Self> {
        (!steps.is_empty()).then(|| Self {
            steps: steps.to_vec(),
            nul,
        })
    }

    /// The page after all steps. Takes as long as the programs do, which nobody can foresee.
    #[must_use]
    pub fn page(&self, body: &[u8], records: &[Range<u32>]) -> Stepped {
        let mut page = Stepped::default();
        let mut checker = Checker::default();
        for (place, range) in records.iter().enumerate() {
            let record = body
                .get(range.start as usize..range.end as usize)
                .unwrap_or_default();
            let (start, kept) = (page.body.len(), page.records.len());
            if let Err(stop) = self.record(record, &mut page, &mut checker) {
                page.body.truncate(start);
                page.records.truncate(kept);
                page.rejects.push(Reject {
                    key: None,
                    path: stop.step.map(|step| self.name(step)),
                    reason: stop.reason,
                    record: place,
                });
            }
        }
        page
    }

    /// How a step is called in the file.
    fn name(&self, step: usize) -> String {
        let kind = self.steps.get(step).map_or("", |step| step.kind.word());
        format!("processing_steps[{step}].{kind}")
    }

    fn record(&self, record: &[u8], page: &mut Stepped, checker: &mut Checker) -> Result<(), Stop> {
        let bad = |reason| Stop { step: None, reason };
        let (item, replaced) = read(record, self.nul, checker).map_err(bad)?;
        if replaced > 0 && self.nul == Nul::Reject {
            return Err(bad(reason::UNSTORABLE_TEXT));
        }
        page.replaced += replaced;
        let mut emit = |item: &Item| {
            let start = page.body.len();
            item.write(&mut page.body);
            let written = page.body.get(start..).unwrap_or_default();
            // A program can make what JSON does not have: NaN, bytes, names that are no texts.
            if std::str::from_utf8(written).is_err() || checker.check(written).is_err() {
                return Err(reason::STEP_NOT_JSON);
            }
            let end = page.body.len();
            page.records.push(offset(start)..offset(end));
            Ok(end - start)
        };
        let mut made = Made::default();
        self.onward(0, item, &mut made, &mut emit)
    }

    /// Runs the steps from `at` on; recursion is as deep as the list of steps is long.
    fn onward(
        &self,
        at: usize,
        item: Item,
        made: &mut Made,
        emit: &mut impl FnMut(&Item) -> Result<usize, &'static str>,
    ) -> Result<(), Stop> {
        let Some(step) = self.steps.get(at) else {
            let step = at.checked_sub(1);
            made.bytes += emit(&item).map_err(|reason| Stop { step, reason })?;
            made.outputs += 1;
            if made.outputs > MAX_OUTPUTS || made.bytes > MAX_BYTES {
                let reason = reason::STEP_TOO_MUCH;
                return Err(Stop { step, reason });
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
                    self.onward(at + 1, output, made, emit)?;
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
                    StepKind::Filter => self.onward(at + 1, item, made, emit),
                    StepKind::Map | StepKind::YieldMap => self.onward(at + 1, one, made, emit),
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

/// What one record has become so far.
#[derive(Default)]
struct Made {
    outputs: usize,
    bytes: usize,
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
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
        Steps::new(&steps, Nul::Replace).unwrap()
    }

    /// The page of one body with one record per line.
    fn run(list: &[(StepKind, &str)], lines: &str) -> (Vec<String>, Vec<(String, &'static str)>) {
        let mut at = 0;
        let records: Vec<Range<u32>> = lines
            .split('\n')
            .map(|line| {
                let start = at;
                at += line.len() + 1;
                offset(start)..offset(start + line.len())
            })
            .collect();
        let page = steps(list).page(lines.as_bytes(), &records);
        let texts = page.records.iter().map(|range| {
            let bytes = &page.body[range.start as usize..range.end as usize];
            String::from_utf8(bytes.to_vec()).unwrap()
        });
        let rejects = page.rejects.iter();
        let rejects =
            rejects.map(|reject| (reject.path.clone().unwrap_or_default(), reject.reason));
        (texts.collect(), rejects.collect())
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
        for (list, bad, path, reason) in [
            (
                vec![(MAP, "{id: (.id + 1)}")],
                r#"{"id":"x"}"#,
                "processing_steps[0].map",
                reason::STEP_FAILED,
            ),
            (
                vec![(FILTER, "true"), (FILTER, ".id | startswith(\"a\") | not")],
                r#"{"id":[]}"#,
                "processing_steps[1].filter",
                reason::STEP_FAILED,
            ),
            (
                vec![(MAP, ".list[]?")],
                r#"{"list":[1,2]}"#,
                "processing_steps[0].map",
                reason::STEP_NOT_ONE,
            ),
            (
                vec![(YIELD, "range(.n // 0)")],
                r#"{"n":1e9}"#,
                "processing_steps[0].yield_map",
                reason::STEP_TOO_MUCH,
            ),
            (
                vec![(MAP, "{id: (if .id == 5 then nan else .id end)}")],
                r#"{"id":5}"#,
                "processing_steps[0].map",
                reason::STEP_NOT_JSON,
            ),
            (
                vec![(MAP, "{(.k // \"k\"): 1}")],
                r#"{"k":1}"#,
                "processing_steps[0].map",
                reason::STEP_NOT_JSON,
            ),
            (vec![(MAP, ".")], "{\"id\":", "", reason::INVALID_JSON),
            (vec![(MAP, ".")], &deep, "", reason::TOO_DEEP),
        ] {
            let (_, rejects) = run(&list, bad);
            assert_eq!(rejects, [(path.to_owned(), reason)], "{list:?}");
        }
        let (records, rejects) = run(&[(MAP, "{id: (.id + 1)}")], "{\"id\":\"x\"}\n{\"id\":1}");
        assert_eq!((records.len(), rejects.len()), (1, 1));
    }
}
