//! A private PostgreSQL for those who name none: the machine's own server programs, data under
//! `state_dir`, a Unix socket that only its owner may reach.
//!
//! The server outlives us when we are killed, and the next start adopts it; several processes
//! (the daemon, a `rosterd runs` beside it) share it, and the last one out stops it. So it is not
//! tied to one process's life by a signal at the parent's death.

mod account;

mod binaries;

mod cluster;

mod home;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    account::Account,
    binaries::Binaries,
    cluster::{Cluster, Running},
    home::Home,
};
use super::probe::OLDEST;
use crate::{
    config::Database,
    fault::{Class, Fault},
};

/// First pause before a crashed server is started again; doubled each time it dies young.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// With a full disk the server dies at each start; it is tried at this pace until there is space.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A server that ran this long has recovered.
const HEALTHY: Duration = Duration::from_secs(60);

/// The private server, kept running until [`Embedded::stop`].
#[derive(Debug)]
pub(super) struct Embedded {
    cluster: Arc<Cluster>,
    stop: CancellationToken,
    supervisor: JoinHandle<Supervised>,
}

/// What the supervisor hands back: the server as it was last seen, and our share in it.
#[derive(Debug)]
struct Supervised {
    running: Option<Running>,
    users: std::fs::File,
}

impl Embedded {
    pub(super) async fn start(config: &Database, state_dir: &Path) -> Result<Self, Error> {
        let mode = if rustix::process::geteuid().is_root() {
            0o711
        } else {
            0o700
        };
        home::make(state_dir, mode)?;
        let state_dir = state_dir
            .canonicalize()
            .map_err(Error::io("find", state_dir))?;
        let (major, data) = Home::existing(&state_dir)
            .iter()
            .find_map(|home| Home::newest_data(home))
            .unzip();
        let data = data.as_deref();
        let binaries = Binaries::find(config.embedded.bin_dir.as_deref(), major).await?;
        let account = Account::choose(data).await?;
        let program = binaries.program("initdb");
        let home = Home::prepare(&state_dir, data, &account, &program).await?;
        let cluster = Arc::new(Cluster::new(home, binaries, account, config)?);

        let lock = cluster.home().lock().await?;
        let users = cluster.home().join_users()?;
        cluster.create().await?;
        let running = cluster.start_or_adopt().await?;
        if let Err(error) = cluster.create_database().await {
            if cluster.home().leave_users(users).await? {
                cluster.shut_down(running).await?;
            }
            return Err(error);
        }
        drop(lock);

        let stop = CancellationToken::new();
        let tracker = TaskTracker::new();
        let supervisor = tracker.spawn(supervise(
            Arc::clone(&cluster),
            running,
            users,
            stop.clone(),
        ));
        Ok(Self {
            cluster,
            stop,
            supervisor,
        })
    }

    pub(super) fn connect_options(&self) -> PgConnectOptions {
        self.cluster.connect_options()
    }

    pub(super) fn describe(&self) -> String {
        self.cluster.describe()
    }

    pub(super) fn psql(&self) -> String {
        self.cluster.psql()
    }

    /// Stops the server, unless another process still uses it.
    pub(super) async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        let Ok(supervised) = self.supervisor.await else {
            return Err(Error::SupervisorDied);
        };
        let _lock = self.cluster.home().lock().await?;
        if !self.cluster.home().leave_users(supervised.users).await? {
            tracing::info!("the embedded PostgreSQL stays up, another process uses it");
            return Ok(());
        }
        if let Some(running) = supervised.running {
            self.cluster.shut_down(running).await?;
        }
        Ok(())
    }
}

/// Starts the server again whenever it ends by itself.
async fn supervise(
    cluster: Arc<Cluster>,
    first: Running,
    users: std::fs::File,
    stop: CancellationToken,
) -> Supervised {
    let mut running = Some(first);
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(server) = &mut running {
            let since = Instant::now();
            tokio::select! {
                () = stop.cancelled() => return Supervised { running, users },
                () = server.ended() => {}
            }
            if since.elapsed() >= HEALTHY {
                pause = FIRST_PAUSE;
            }
            running = None;
            tracing::error!(
                postgres.data = %cluster.data().display(),
                "the embedded PostgreSQL ended by itself; starting it again"
            );
        }
        tokio::select! {
            () = stop.cancelled() => return Supervised { running, users },
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
        // Not cut by `stop`: a server that is half started must be known to be stopped.
        match start_again(&cluster).await {
            Ok(server) => {
                tracing::info!("the embedded PostgreSQL runs again");
                running = Some(server);
            }
            Err(error) => {
                tracing::error!(
                    error = %error,
                    hint = error.fault().hint,
                    "the embedded PostgreSQL does not start"
                );
            }
        }
    }
}

async fn start_again(cluster: &Cluster) -> Result<Running, Error> {
    let _lock = cluster.home().lock().await?;
    cluster.start_or_adopt().await
}

/// Why there is no private server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no PostgreSQL server programs of version {OLDEST} or newer were found{}", also(.found))]
    NoBinaries { found: Vec<String> },
    #[error("{} holds no initdb and postgres", .folder.display())]
    NotABinDir { folder: PathBuf },
    #[error("the embedded data were made by PostgreSQL {needed}, whose server programs were not found{}", also(.found))]
    OtherMajor { needed: u32, found: Vec<String> },
    #[error(
        "PostgreSQL does not run as root, and there is no user rosterd or postgres to run it as"
    )]
    NoServerUser,
    #[error("user id {uid} has no name on this machine, which PostgreSQL needs")]
    NoUserName { uid: u32 },
    #[error("{} belongs to user id {owner}", .folder.display())]
    OtherOwner { folder: PathBuf, owner: u32 },
    #[error("{} is not a folder of user {account}", .folder.display())]
    Foreign { folder: PathBuf, account: String },
    #[error("user {account}, who must run PostgreSQL for root, cannot enter {}", list(.folders))]
    CannotEnter {
        folders: Vec<PathBuf>,
        account: String,
    },
    #[error("user {account}, who must run PostgreSQL for root, cannot run {}", .program.display())]
    CannotRun { program: PathBuf, account: String },
    #[error("initdb failed; see {}", .log.display())]
    Initdb { log: PathBuf },
    #[error("the embedded PostgreSQL ended while it started; see {} and {}", .start_log.display(), .log.display())]
    EndedAtStart { start_log: PathBuf, log: PathBuf },
    #[error("the embedded PostgreSQL did not become ready within {seconds} s; see {}", .log.display())]
    NotReady { seconds: u64, log: PathBuf },
    #[error("port {port} on loopback is taken")]
    PortTaken { port: u16 },
    #[error("process {pid} holds the data in {} but does not answer", .data.display())]
    Unresponsive { pid: i32, data: PathBuf },
    #[error("the embedded PostgreSQL (process {pid}) did not stop")]
    DidNotStop { pid: i32 },
    #[error("another process has held {} for too long", .path.display())]
    LockHeld { path: PathBuf },
    #[error("the embedded PostgreSQL refused to {doing}: {failure}")]
    Refused {
        doing: &'static str,
        failure: super::Failure,
    },
    #[error("the task that watches the embedded PostgreSQL died")]
    SupervisorDied,
    #[error("cannot {doing} {}: {kind}", .path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        kind: io::ErrorKind,
    },
}

impl Error {
    fn io<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Self + 'a {
        move |error| Self::Io {
            doing,
            path: path.to_owned(),
            kind: error.kind(),
        }
    }

    pub(super) fn fault(&self) -> Fault {
        let mut retryable = false;
        let hint = match self {
            Self::NoBinaries { .. } => "one of three: install the server (`apt-get install postgresql`, `dnf install postgresql-server`, `apk add postgresql`, `brew install postgresql@17`; or `sh deploy/install-postgres.sh`); \
                 or name its folder in database.embedded.bin_dir; \
                 or give database.url of a server that runs elsewhere".to_owned(),
            Self::NotABinDir { .. } => "point database.embedded.bin_dir at the folder that holds initdb and postgres, or leave it out".to_owned(),
            Self::OtherMajor { needed, .. } => format!(
                "install PostgreSQL {needed} again; to change to a newer one, dump the data with it first (pg_dump), move the folder {needed}/ away, start rosterd and restore"
            ),
            Self::NoServerUser => "make one (`useradd --system rosterd`), or run rosterd as an ordinary user, or give database.url".to_owned(),
            Self::NoUserName { .. } => "add the user id to /etc/passwd, or give database.url".to_owned(),
            Self::OtherOwner { owner, .. } => format!("run rosterd as that user (`sudo -u '#{owner}' rosterd …`), or set another daemon.state_dir"),
            Self::Foreign { .. } => "remove it, or set another daemon.state_dir".to_owned(),
            Self::CannotEnter { account, .. } => format!("set daemon.state_dir to a folder that user {account} can enter (chmod o+x on it and on those above)"),
            Self::CannotRun { .. } => "install PostgreSQL where every user can run it, or run rosterd as an ordinary user".to_owned(),
            Self::Initdb { .. } | Self::EndedAtStart { .. } => {
                retryable = true;
                "read the end of that log; a full disk and missing rights are the usual reasons".to_owned()
            }
            Self::NotReady { .. } | Self::Unresponsive { .. } => {
                retryable = true;
                "it may still be recovering from a crash: look at its log, then start rosterd again".to_owned()
            }
            Self::PortTaken { .. } => "set another database.embedded.port, or none: the Unix socket is always there".to_owned(),
            Self::DidNotStop { .. } => "look at its log; it stops by itself when its last statement ends".to_owned(),
            Self::LockHeld { .. } => "look for another rosterd that starts or stops with this state_dir".to_owned(),
            Self::Refused { failure, .. } => return Fault { message: self.to_string(), ..failure.fault() },
            Self::SupervisorDied => "please report this with the lines of the log around it".to_owned(),
            Self::Io { .. } => "check rights and free space there, or set another daemon.state_dir".to_owned(),
        };
        Fault {
            class: Class::Config,
            code: "embedded_postgres".to_owned(),
            message: self.to_string(),
            hint,
            retryable,
        }
    }
}

fn also(found: &[String]) -> String {
    if found.is_empty() {
        String::new()
    } else {
        format!(" (found: {})", found.join(", "))
    }
}

fn list(folders: &[PathBuf]) -> String {
    let names: Vec<_> = folders.iter().map(|f| f.display().to_string()).collect();
    names.join(" or ")
}
