//! Programs of the configuration, run where they can do no harm.
//!
//! Nobody can foresee how long a program of jq takes, how much memory it wants or how deep it calls
//! itself, and none of that can be stopped from inside the process. So programs run in a process of
//! their own, this same binary, which has a limit of memory and no environment, and which is killed when
//! a record takes too long. Such a record is a reject; the others go on in the next process.
//!
//! ```text
//! pages -> Sandbox (ours) -> stdin -> child::main (a process) -> stdout -> one answer for each record
//! ```

mod child;
mod wire;

use std::{io, ops::Range, path::Path, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tracing::debug;

use self::wire::{Answer, Task, Work};
use super::Error;
use crate::{
    config::{
        columns::Nul,
        jq::Program,
        source::{ProcessingLimits, ProcessingStep},
    },
    shape::{Reject, Verdict, reason},
};

pub use child::main;

/// The argument that makes the binary such a process.
pub const COMMAND: &str = "sandbox";

/// Records of one run that may each cost a process. A run in which more do is not worth the time.
const MAX_LOST: u32 = 20;

/// Longest that a process may take to start, on a busy machine.
const START: Duration = Duration::from_secs(30);

/// The binary that such processes are made of: rosterd.
#[derive(Debug, Clone)]
pub struct Binary(Arc<Path>);

impl Binary {
    /// That of this process, also after another one took its place on the disk.
    #[must_use]
    pub fn own() -> Self {
        let own = Path::new("/proc/self/exe");
        Self::at(&match own.exists() {
            true => own.to_owned(),
            false => std::env::current_exe().unwrap_or_else(|_| "rosterd".into()),
        })
    }

    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self(path.into())
    }
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

/// The processing steps of one resource.
pub(super) struct Steps {
    sandbox: Sandbox,
    /// How each step is called in the file.
    names: Vec<String>,
}

/// What says of a record that it is gone.
pub(super) struct Condition(Sandbox);

impl Steps {
    /// `None`: there is nothing to do.
    pub(super) fn new(
        binary: &Binary,
        steps: &[ProcessingStep],
        nul: Nul,
        limits: ProcessingLimits,
    ) -> Option<Self> {
        let names = steps.iter().enumerate();
        let names = names.map(|(at, step)| format!("processing_steps[{at}].{}", step.kind.word()));
        (!steps.is_empty()).then(|| Self {
            names: names.collect(),
            sandbox: Sandbox::new(binary, Work::steps(steps), nul, limits),
        })
    }

    /// The page after all steps.
    pub(super) async fn page(
        &mut self,
        body: &Bytes,
        records: &[Range<u32>],
    ) -> Result<Stepped, Error> {
        let mut page = Stepped::default();
        let names = &self.names;
        let take = |place, answer: Answer<'_>| match answer {
            Answer::Became(made) => {
                page.replaced += made.replaced;
                for range in made.records() {
                    let start = page.body.len();
                    page.body.extend_from_slice(range);
                    page.records.push(offset(start)..offset(page.body.len()));
                }
            }
            Answer::Stopped { step, reason } => page.rejects.push(Reject {
                key: None,
                path: step.and_then(|step| names.get(step).cloned()),
                reason,
                record: place,
            }),
            // Not what steps give.
            Answer::Judged(_) => {}
        };
        self.sandbox.page(body, records, take).await?;
        Ok(page)
    }
}

impl Condition {
    pub(super) fn new(
        binary: &Binary,
        condition: &Program,
        nul: Nul,
        limits: ProcessingLimits,
    ) -> Self {
        let work = Work::condition(condition);
        Self(Sandbox::new(binary, work, nul, limits))
    }

    /// One verdict for each record.
    pub(super) async fn page(
        &mut self,
        body: &Bytes,
        records: &[Range<u32>],
    ) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::with_capacity(records.len());
        let take = |_, answer: Answer<'_>| {
            verdicts.push(match answer {
                Answer::Judged(verdict) => verdict,
                Answer::Stopped { reason, .. } => Verdict::Unknown(reason),
                // Not what a condition gives.
                Answer::Became(_) => Verdict::Unknown(reason::STEP_FAILED),
            });
        };
        self.0.page(body, records, take).await?;
        Ok(verdicts)
    }
}

/// One task and the process that has it in hand.
struct Sandbox {
    binary: Binary,
    task: Vec<u8>,
    limits: ProcessingLimits,
    /// `None`: the next page starts one. Taken out while it works, so that a page which is dropped half-way
    /// takes its process with it.
    running: Option<Running>,
    lost: u32,
}

struct Running {
    // Killed when it is dropped.
    _child: Child,
    input: BufWriter<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The answer in hand.
    frame: Vec<u8>,
}

/// Why a process gives no more answers.
enum Lost {
    TooLong,
    Ended,
}

impl Sandbox {
    fn new(binary: &Binary, work: Work, nul: Nul, limits: ProcessingLimits) -> Self {
        let memory = limits.memory;
        let task = Task { memory, nul, work };
        Self {
            binary: binary.clone(),
            // Texts and numbers are always JSON.
            task: serde_json::to_vec(&task).unwrap_or_default(),
            limits,
            running: None,
            lost: 0,
        }
    }

    /// Calls `take` with each record's place and what became of it, in order.
    async fn page(
        &mut self,
        body: &Bytes,
        records: &[Range<u32>],
        mut take: impl FnMut(usize, Answer<'_>),
    ) -> Result<(), Error> {
        let mut next = 0;
        // After a process was lost, one by one, so that the record which did it is known.
        let mut alone = false;
        while next < records.len() {
            let until = match alone {
                true => next + 1,
                false => records.len(),
            };
            let mut running = match self.running.take() {
                Some(running) => running,
                None => self.start().await?,
            };
            let some = records.get(next..until).unwrap_or_default();
            let asked = running.ask(body, some, self.limits.time, |answer| {
                take(next, answer);
                next += 1;
            });
            match asked.await {
                Ok(()) => self.running = Some(running),
                Err(_) if !alone => alone = true,
                Err(lost) => {
                    let reason = match lost {
                        Lost::TooLong => reason::STEP_TOO_LONG,
                        Lost::Ended => reason::STEP_EXHAUSTED,
                    };
                    debug!(reason, "a record cost its process");
                    take(next, Answer::Stopped { step: None, reason });
                    next += 1;
                    alone = false;
                    self.lost += 1;
                    if self.lost > MAX_LOST {
                        return Err(Error::StepsLost { records: self.lost });
                    }
                }
            }
        }
        Ok(())
    }

    async fn start(&self) -> Result<Running, Error> {
        let mut child = Command::new(&*self.binary.0)
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(Error::Sandbox)?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Sandbox(io::ErrorKind::BrokenPipe.into()));
        };
        let mut running = Running {
            _child: child,
            input: BufWriter::new(input),
            output: BufReader::new(output),
            frame: Vec::new(),
        };
        match timeout(START, running.greet(&self.task)).await {
            Ok(Ok(())) => Ok(running),
            Ok(Err(error)) => Err(Error::Sandbox(error)),
            Err(_) => Err(Error::Sandbox(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl Running {
    /// Hands the task over; the answer says that it was understood.
    async fn greet(&mut self, task: &[u8]) -> io::Result<()> {
        self.input.write_u32_le(offset(task.len())).await?;
        self.input.write_all(task).await?;
        self.input.flush().await?;
        self.read().await
    }

    async fn ask(
        &mut self,
        body: &[u8],
        records: &[Range<u32>],
        time: Duration,
        mut take: impl FnMut(Answer<'_>),
    ) -> Result<(), Lost> {
        within(time, self.send(body, records)).await?;
        for _ in records {
            within(time, self.read()).await?;
            take(Answer::decode(&self.frame).ok_or(Lost::Ended)?);
        }
        Ok(())
    }

    async fn send(&mut self, body: &[u8], records: &[Range<u32>]) -> io::Result<()> {
        self.input.write_u32_le(offset(records.len())).await?;
        for range in records {
            let record = body.get(range.start as usize..range.end as usize);
            let record = record.unwrap_or_default();
            self.input.write_u32_le(offset(record.len())).await?;
            self.input.write_all(record).await?;
        }
        self.input.flush().await
    }

    /// Reads one frame.
    async fn read(&mut self) -> io::Result<()> {
        let length = self.output.read_u32_le().await? as usize;
        if length > wire::MAX_FRAME {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.frame.resize(length, 0);
        self.output.read_exact(&mut self.frame).await?;
        Ok(())
    }
}

async fn within(time: Duration, work: impl Future<Output = io::Result<()>>) -> Result<(), Lost> {
    match timeout(time, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(Lost::Ended),
        Err(_) => Err(Lost::TooLong),
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
