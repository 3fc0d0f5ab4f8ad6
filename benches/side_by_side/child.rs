//! A child process with what it cost: wall time, CPU time, peak memory.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

/// How often the peak is looked at. The kernel keeps it, so only what grows in the very last
/// moment is missed.
const LOOK: Duration = Duration::from_millis(2);

/// What one run of a command cost.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// User and system time of the process and the children it waited for.
    pub(crate) cpu: Duration,
    /// Peak resident memory in bytes, of the process and its living children together.
    pub(crate) memory: u64,
}

/// Runs a command to its end.
///
/// # Errors
///
/// It cannot be started, or fails; then with what it wrote.
pub(crate) async fn run(command: &mut Command, log: &Path) -> anyhow::Result<Cost> {
    let file = fs::File::create(log)?;
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file);
    let before = cpu_of_children()?;
    let started = Instant::now();
    let mut child = Ended(command.spawn().context("cannot start the command")?);
    let mut memory = 0;
    let status = loop {
        memory = memory.max(peak_memory(child.0.id()));
        if let Some(status) = child.0.try_wait()? {
            break status;
        }
        tokio::time::sleep(LOOK).await;
    };
    let wall = started.elapsed();
    if !status.success() {
        let text = fs::read_to_string(log).unwrap_or_default();
        bail!("{command:?} ended with {status}:\n{text}");
    }
    Ok(Cost {
        wall,
        cpu: cpu_of_children()?.saturating_sub(before),
        memory,
    })
}

/// A child that does not outlive us.
#[derive(Debug)]
pub(crate) struct Ended(pub(crate) Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Peak resident memory of a process and its children, in bytes. 0 where it cannot be known.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let own = fs::read_to_string(format!("/proc/{pid}/status"))
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .unwrap_or(0);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let below = children.split_whitespace().filter_map(|id| id.parse().ok());
    own * 1024 + below.map(peak_memory).sum::<u64>()
}

/// CPU time of all children that have ended and were waited for.
fn cpu_of_children() -> anyhow::Result<Duration> {
    // The fields after the command's name, which may hold anything: cutime and cstime.
    cpu("/proc/self/stat", 13, 14)
}

/// CPU time that a living process has used so far.
pub(crate) fn cpu_of(pid: u32) -> anyhow::Result<Duration> {
    cpu(&format!("/proc/{pid}/stat"), 11, 12)
}

fn cpu(path: &str, user: usize, system: usize) -> anyhow::Result<Duration> {
    let stat = fs::read_to_string(path)?;
    let (_, after) = stat.rsplit_once(')').context("no command in stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    let ticks = ticks(user).context("no user time")? + ticks(system).context("no system time")?;
    // Linux counts in hundredths of a second wherever programs look.
    Ok(Duration::from_millis(ticks * 10))
}
