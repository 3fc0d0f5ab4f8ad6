//! What goes between the two processes: frames of a length (32 bits, little-endian) and that many bytes.
//!
//! In: the task as JSON, then pages: a count, and each record as a frame. Out: an empty frame when the
//! task is understood, then one frame for each record. Both ends are the same binary.

use serde::{Deserialize, Serialize};

use crate::{
    config::{
        columns::Nul,
        jq::Program,
        source::{ProcessingStep, StepKind},
    },
    shape::{Became, Condition, Steps, Stop, Verdict, reason},
};

/// Bytes of a frame: all that one record may become, with its lengths.
pub(super) const MAX_FRAME: usize = 80 << 20;

/// Reasons by their number in a frame.
const REASONS: [&str; 10] = [
    reason::STEP_FAILED,
    reason::STEP_NOT_ONE,
    reason::STEP_NOT_JSON,
    reason::STEP_TOO_MUCH,
    reason::NOT_BOOLEAN,
    reason::INVALID_UTF8,
    reason::INVALID_JSON,
    reason::TOO_DEEP,
    reason::NUMBER_OUT_OF_RANGE,
    reason::UNSTORABLE_TEXT,
];

const BECAME: u8 = 0;
const STOPPED: u8 = 1;
const JUDGED: u8 = 2;

/// What a process is for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// Bytes of memory that it may have.
    pub(super) memory: u64,
    pub(super) nul: Nul,
    pub(super) work: Work,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Work {
    Steps(Vec<(StepKind, String)>),
    Condition(String),
}

/// The programs of a task, compiled.
pub(super) enum Job {
    Steps(Steps),
    Condition(Condition),
}

/// What became of one record.
pub(super) enum Answer<'a> {
    Became(Made<'a>),
    Stopped {
        step: Option<usize>,
        reason: &'static str,
    },
    Judged(Verdict),
}

/// Records that one record became.
pub(super) struct Made<'a> {
    /// Texts that Postgres cannot hold, replaced.
    pub(super) replaced: u64,
    lengths: &'a [u8],
    body: &'a [u8],
}

impl Made<'_> {
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.body;
        self.lengths.chunks_exact(4).map_while(move |length| {
            let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
            let (record, after) = rest.split_at_checked(length)?;
            rest = after;
            Some(record)
        })
    }
}

impl Work {
    pub(super) fn steps(steps: &[ProcessingStep]) -> Self {
        let steps = steps.iter();
        Self::Steps(
            steps
                .map(|step| (step.kind, step.program.text().to_owned()))
                .collect(),
        )
    }

    pub(super) fn condition(program: &Program) -> Self {
        Self::Condition(program.text().to_owned())
    }
}

impl Task {
    /// `None`: a program does not compile, which it did when the configuration was read.
    pub(super) fn compile(&self) -> Option<Job> {
        Some(match &self.work {
            Work::Steps(steps) => {
                let steps = steps.iter().map(|(kind, text)| {
                    let program = Program::compile(text).ok()?;
                    Some(ProcessingStep {
                        kind: *kind,
                        program,
                    })
                });
                let steps: Option<Vec<ProcessingStep>> = steps.collect();
                Job::Steps(Steps::new(steps?, self.nul))
            }
            Work::Condition(text) => {
                let program = Program::compile(text).ok()?;
                Job::Condition(Condition::new(program, self.nul))
            }
        })
    }
}

impl Job {
    /// Appends the frame for one record.
    pub(super) fn answer(&self, record: &[u8], frame: &mut Vec<u8>) {
        let stopped = |step: Option<usize>, reason: &str, frame: &mut Vec<u8>| {
            let reason = REASONS.iter().position(|known| *known == reason);
            let reason = reason.and_then(|at| u8::try_from(at).ok()).unwrap_or(0);
            let step = step.and_then(|step| u8::try_from(step).ok());
            frame.extend_from_slice(&[
                STOPPED,
                reason,
                u8::from(step.is_some()),
                step.unwrap_or(0),
            ]);
        };
        match self {
            Self::Steps(steps) => match steps.record(record) {
                Ok(Became {
                    replaced,
                    body,
                    lengths,
                }) => {
                    frame.push(BECAME);
                    frame.extend_from_slice(&replaced.to_le_bytes());
                    let count = u32::try_from(lengths.len()).unwrap_or(u32::MAX);
                    frame.extend_from_slice(&count.to_le_bytes());
                    for length in lengths {
                        frame.extend_from_slice(&length.to_le_bytes());
                    }
                    frame.extend_from_slice(&body);
                }
                Err(Stop { step, reason }) => stopped(step, reason, frame),
            },
            Self::Condition(condition) => match condition.record(record) {
                Verdict::Stays => frame.extend_from_slice(&[JUDGED, 0]),
                Verdict::Gone => frame.extend_from_slice(&[JUDGED, 1]),
                Verdict::Unknown(reason) => stopped(None, reason, frame),
            },
        }
    }
}

impl<'a> Answer<'a> {
    /// `None`: nothing that [`Job::answer`] writes.
    pub(super) fn decode(frame: &'a [u8]) -> Option<Self> {
        let (kind, rest) = frame.split_first()?;
        match (*kind, rest) {
            (BECAME, rest) => {
                let (replaced, rest) = rest.split_first_chunk::<8>()?;
                let (count, rest) = rest.split_first_chunk::<4>()?;
                let count = u32::from_le_bytes(*count) as usize;
                let (lengths, body) = rest.split_at_checked(count.checked_mul(4)?)?;
                Some(Self::Became(Made {
                    replaced: u64::from_le_bytes(*replaced),
                    lengths,
                    body,
                }))
            }
            (STOPPED, &[reason, has_step, step]) => Some(Self::Stopped {
                step: (has_step == 1).then_some(step.into()),
                reason: REASONS.get(usize::from(reason))?,
            }),
            (JUDGED, &[verdict]) => Some(Self::Judged(match verdict {
                0 => Verdict::Stays,
                _ => Verdict::Gone,
            })),
            _ => None,
        }
    }
}
