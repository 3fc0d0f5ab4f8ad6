//! The process that runs the programs: it reads records, writes what became of them, and knows nothing else.

use std::{
    io::{self, BufReader, BufWriter, Read, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getppid, setrlimit};

use super::wire::{Job, Task};

/// Of the thread that runs the programs, which call themselves as deep as they like.
const STACK: usize = 64 << 20;
/// Bytes of the largest record or task.
const MAX_INPUT: usize = 1 << 30;

/// The whole process.
#[must_use]
pub fn main() -> ExitCode {
    let (parent, main) = (getppid(), thread::current());
    let worker = thread::Builder::new().stack_size(STACK).spawn(move || {
        let ended = work();
        main.unpark();
        ended
    });
    let Ok(worker) = worker else {
        return ExitCode::FAILURE;
    };
    while !worker.is_finished() {
        if getppid() != parent {
            // Whoever started this is gone, and nobody else ends a program that does not end.
            return ExitCode::FAILURE;
        }
        thread::park_timeout(Duration::from_secs(1));
    }
    match worker.join() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn work() -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    let mut buffer = Vec::new();
    read(&mut input, &mut buffer)?;
    let task: Task = serde_json::from_slice(&buffer)?;
    let job = task.compile().ok_or(io::ErrorKind::InvalidInput)?;
    bound(task.memory);
    output.write_all(&0_u32.to_le_bytes())?;
    output.flush()?;
    pages(&job, &mut input, &mut output, buffer)
}

/// Answers page after page until there is no more.
fn pages(
    job: &Job,
    input: &mut impl Read,
    output: &mut impl Write,
    mut buffer: Vec<u8>,
) -> io::Result<()> {
    let mut frame = Vec::new();
    loop {
        let count = match length(input) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            count => count?,
        };
        // All of a page is read before the first answer: the other side writes before it reads.
        buffer.clear();
        let mut ends = Vec::new();
        for _ in 0..count {
            let length = length(input)?;
            let start = buffer.len();
            buffer.resize(start + length, 0);
            input.read_exact(buffer.get_mut(start..).unwrap_or_default())?;
            ends.push(buffer.len());
        }
        let mut start = 0;
        for end in ends {
            frame.clear();
            job.answer(buffer.get(start..end).unwrap_or_default(), &mut frame);
            let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            output.write_all(&length.to_le_bytes())?;
            output.write_all(&frame)?;
            start = end;
        }
        output.flush()?;
    }
}

fn read(input: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.resize(length(input)?, 0);
    input.read_exact(buffer)
}

fn length(input: &mut impl Read) -> io::Result<usize> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    match u32::from_le_bytes(length) as usize {
        length if length > MAX_INPUT => Err(io::ErrorKind::InvalidData.into()),
        length => Ok(length),
    }
}

/// Gives the process its limits. Where a system knows one of them not, it goes on without.
fn bound(memory: u64) {
    let at_most = |most| Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(Resource::Data, at_most(memory.saturating_add(STACK as u64))).ok();
    // What is in memory are people.
    setrlimit(Resource::Core, at_most(0)).ok();
    setrlimit(Resource::Fsize, at_most(0)).ok();
}
