//! The real binary as a child process, with a configuration of the test's own.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Longest wait for anything the daemon is to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `rosterd`. Killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    directory: TempDir,
    log: PathBuf,
}

/// How a daemon is to be started.
pub(crate) struct Setup {
    /// The YAML file's text.
    pub(crate) config: String,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) arguments: Vec<String>,
}

impl Setup {
    pub(crate) fn run(config: String) -> Self {
        Self {
            config,
            environment: Vec::new(),
            arguments: vec!["run".to_owned()],
        }
    }

    pub(crate) fn command(config: String, arguments: &[&str]) -> Self {
        Self {
            config,
            environment: Vec::new(),
            arguments: arguments.iter().map(|a| (*a).to_owned()).collect(),
        }
    }

    pub(crate) fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn start(self) -> Daemon {
        Daemon::start(&self)
    }
}

impl Daemon {
    fn start(setup: &Setup) -> Self {
        let directory = TempDir::new().unwrap();
        let config = directory.path().join("daemon.yaml");
        fs::write(&config, &setup.config).unwrap();
        let log = directory.path().join("stderr");
        let child = Command::new(env!("CARGO_BIN_EXE_rosterd"))
            .args(&setup.arguments)
            .env_remove("ROSTERD_LOG")
            .env("ROSTERD_CONFIG", &config)
            .env("ROSTERD_LOG_FORMAT", "json")
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(fs::File::create(directory.path().join("stdout")).unwrap())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            directory,
            log,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Status line, headers and body of a page of the daemon's own.
    pub(crate) fn get(&mut self, path: &str, token: &str) -> String {
        let address = self.address();
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The most memory that the process ever held, in MiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap() >> 10
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.path().join("stdout")).unwrap_or_default())
            .into_owned()
    }

    /// Overwrites the configuration file; takes effect at a reload.
    pub(crate) fn write_config(&self, text: &str) {
        fs::write(self.directory.path().join("daemon.yaml"), text).unwrap();
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process has ended by itself.
    #[cfg(feature = "failpoints")]
    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the process did not end; its log:\n{}",
                self.stderr()
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Waits until the log has a line with `text`.
    #[track_caller]
    pub(crate) fn wait_for_log(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.stderr().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none(),
                "the process ended ({ended:?}); its log:\n{}",
                self.stderr()
            );
            assert!(
                Instant::now() < deadline,
                "no {text:?} in the log:\n{}",
                self.stderr()
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    pub(crate) fn wait_until_ready(&mut self) {
        self.wait_for_log("\"ready\"");
    }

    /// Where the status page listens; the daemon was started with port 0.
    pub(crate) fn address(&mut self) -> SocketAddr {
        self.wait_for_log("status page at http://");
        let log = self.stderr();
        let after = log.split("status page at http://").nth(1).unwrap();
        after.split('/').next().unwrap().parse().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A stopped process takes SIGKILL too.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
