//! One data folder and the server on it: made, configured, started or adopted, shut down.

use std::{
    fs::{self, File, OpenOptions},
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{PoisonError, RwLock},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    process::Child,
    time::{Instant, sleep, timeout},
};

use super::{
    super::{Failure, options},
    Account, Binaries, Error, Home, binaries,
    home::random_password,
};
use crate::config::Database;

/// Name of the role that owns everything, and of the database.
const NAME: &str = "rosterd";

/// Port in the socket's name; nothing listens on it unless a port is configured.
const DEFAULT_PORT: u16 = 5432;

/// A start may have to replay the log of a crash first.
const READY: Duration = Duration::from_secs(120);

/// Time for `fast` shutdown: sessions are cut, the log is written out.
const FAST: Duration = Duration::from_secs(30);

/// Time for `immediate` shutdown, in which the server kills its own processes after five seconds.
const IMMEDIATE: Duration = Duration::from_secs(15);

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often an adopted server, whose end nobody tells us, is looked at.
const WATCH: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Cluster {
    home: Home,
    data: PathBuf,
    binaries: Binaries,
    account: Account,
    port: Option<u16>,
    /// Sessions that the server must bear: ours, those of other rosterd processes, and people.
    max_connections: u32,
    /// Where the running server listens; an adopted one may have been started with other settings.
    address: RwLock<Address>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    socket: PathBuf,
    port: u16,
}

/// The server's first process.
#[derive(Debug)]
pub(super) enum Running {
    Started(Child),
    Adopted(Pid),
}

impl Running {
    /// Returns when the process is gone. May be dropped and asked again.
    pub(super) async fn ended(&mut self) {
        match self {
            Self::Started(child) => {
                child.wait().await.ok();
            }
            Self::Adopted(pid) => {
                while is_alive(*pid) {
                    sleep(WATCH).await;
                }
            }
        }
    }

    fn pid(&self) -> Option<Pid> {
        match self {
            Self::Started(child) => child
                .id()
                .and_then(|id| i32::try_from(id).ok())
                .and_then(Pid::from_raw),
            Self::Adopted(pid) => Some(*pid),
        }
    }
}

impl Cluster {
    pub(super) fn new(
        home: Home,
        binaries: Binaries,
        account: Account,
        config: &Database,
    ) -> Result<Self, Error> {
        let port = config.embedded.port;
        let address = Address {
            socket: home.socket(&account, port.unwrap_or(DEFAULT_PORT))?,
            port: port.unwrap_or(DEFAULT_PORT),
        };
        Ok(Self {
            data: home.data(binaries.major),
            home,
            binaries,
            account,
            port,
            max_connections: config.max_connections.saturating_mul(2).saturating_add(50),
            address: RwLock::new(address),
        })
    }

    pub(super) fn home(&self) -> &Home {
        &self.home
    }

    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    pub(super) fn connect_options(&self) -> PgConnectOptions {
        self.options_for(&self.address(), NAME)
    }

    pub(super) fn describe(&self) -> String {
        format!(
            "using embedded PostgreSQL {} in {}; look into it with: {}",
            self.binaries.version,
            self.data.display(),
            self.psql()
        )
    }

    pub(super) fn psql(&self) -> String {
        let program =
            if binaries::on_path("psql").is_none() && self.binaries.program("psql").is_file() {
                self.binaries.program("psql").display().to_string()
            } else {
                "psql".to_owned()
            };
        let Address { socket, port } = self.address();
        let socket = socket.display().to_string();
        // A space in the path would end the argument in the reader's shell.
        let socket = if socket.contains([' ', '\'']) {
            format!("'{}'", socket.replace('\'', r"'\''"))
        } else {
            socket
        };
        let port = if port == DEFAULT_PORT {
            String::new()
        } else {
            format!(" -p {port}")
        };
        format!("{program} -h {socket}{port} -U {NAME} -d {NAME}")
    }

    /// Makes the data folder, unless it is there. A try that was cut short leaves no half folder.
    pub(super) async fn create(&self) -> Result<(), Error> {
        if self.data.exists() {
            return Ok(());
        }
        let unfinished = self.home.unfinished_data(self.binaries.major);
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("remove", &unfinished)(error));
            }
            _ => {}
        }
        let password = random_password()?;
        let file = self.home.password_for_initdb();
        self.home.write(&file, &password, 0o600)?;
        self.account.give(&file)?;
        self.home.write(
            &self.home.pgpass(),
            &format!("*:*:*:{NAME}:{password}\n"),
            0o600,
        )?;

        tracing::info!(
            postgres.version = self.binaries.version,
            postgres.data = %self.data.display(),
            "creating the embedded PostgreSQL"
        );
        // Bytewise order is fast and never changes with the system's libraries; only what is a
        // letter should be known beyond ASCII, so that people can search without case.
        let mut made = self
            .initdb(&unfinished, &["--locale=C", "--lc-ctype=C.UTF-8"])
            .await?;
        if !made {
            made = self.initdb(&unfinished, &["--locale=C"]).await?;
        }
        fs::remove_file(&file).map_err(Error::io("remove", &file))?;
        if !made {
            return Err(Error::Initdb {
                log: self.home.start_log(),
            });
        }
        fs::rename(&unfinished, &self.data).map_err(Error::io("make", &self.data))
    }

    async fn initdb(&self, folder: &Path, locale: &[&str]) -> Result<bool, Error> {
        self.home.make_for(&self.account, folder)?;
        let log = self.open_start_log()?;
        let copy = log
            .try_clone()
            .map_err(Error::io("open", &self.home.start_log()))?;
        let program = self.binaries.program("initdb");
        let status = self
            .account
            .command(&program)
            .arg("-D")
            .arg(folder)
            .args([
                "-U",
                NAME,
                "-E",
                "UTF8",
                "--data-checksums",
                "--no-instructions",
            ])
            .args(["--auth-local=peer", "--auth-host=scram-sha-256"])
            .args(locale)
            .arg("--pwfile")
            .arg(self.home.password_for_initdb())
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(copy))
            .status()
            .await
            .map_err(Error::io("run", &program))?;
        Ok(status.success())
    }

    /// Finds the server that a killed process left, or starts one. To be called under the lock.
    pub(super) async fn start_or_adopt(&self) -> Result<Running, Error> {
        if let Some(pid) = self.adopt().await? {
            tracing::info!(
                postgres.pid = pid.as_raw_nonzero().get(),
                "the embedded PostgreSQL runs already"
            );
            return Ok(Running::Adopted(pid));
        }
        self.start().await.map(Running::Started)
    }

    async fn start(&self) -> Result<Child, Error> {
        if let Some(port) = self.port {
            // The server would end with a text that we do not repeat; find out in advance.
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|_| Error::PortTaken { port })?;
        }
        let port = self.port.unwrap_or(DEFAULT_PORT);
        let address = Address {
            socket: self.home.socket(&self.account, port)?,
            port,
        };
        self.write_settings(&address)?;
        let log = self.open_start_log()?;
        let copy = log
            .try_clone()
            .map_err(Error::io("open", &self.home.start_log()))?;
        let program = self.binaries.program("postgres");
        let setting = |name: &str, file: &str| {
            let mut argument = std::ffi::OsString::from(format!("{name}="));
            argument.push(self.home.etc().join(file));
            argument
        };
        let mut child = self
            .account
            .command(&program)
            .arg("-D")
            .arg(&self.data)
            .arg("-c")
            .arg(setting("config_file", "postgresql.conf"))
            .arg("-c")
            .arg(setting("hba_file", "pg_hba.conf"))
            .arg("-c")
            .arg(setting("ident_file", "pg_ident.conf"))
            .stdout(Stdio::from(log))
            .stderr(Stdio::from(copy))
            // Ctrl-C in a terminal goes to our group; the server must outlive our last writes.
            .process_group(0)
            .kill_on_drop(false)
            .spawn()
            .map_err(Error::io("run", &program))?;

        let deadline = Instant::now() + READY;
        loop {
            if self.answers(&address).await {
                *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
                return Ok(child);
            }
            if let Ok(Some(_)) = child.try_wait() {
                return Err(Error::EndedAtStart {
                    start_log: self.home.start_log(),
                    log: self.home.log(),
                });
            }
            if Instant::now() >= deadline {
                // It may still be recovering; the next try adopts it.
                return Err(Error::NotReady {
                    seconds: READY.as_secs(),
                    log: self.home.log(),
                });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The living server on our data, once it answers; `None` when there is none.
    async fn adopt(&self) -> Result<Option<Pid>, Error> {
        let deadline = Instant::now() + READY;
        loop {
            let Some((pid, address)) = self.read_pid_file() else {
                return Ok(None);
            };
            if !is_alive(pid) {
                return Ok(None);
            }
            if !may_be_postgres(pid) {
                // The number went to another program, and the server would take it for a rival.
                let file = self.data.join("postmaster.pid");
                fs::remove_file(&file).map_err(Error::io("remove", &file))?;
                return Ok(None);
            }
            if self.answers(&address).await && self.serves_our_data(&address).await {
                *self.address.write().unwrap_or_else(PoisonError::into_inner) = address;
                return Ok(Some(pid));
            }
            if Instant::now() >= deadline {
                return Err(Error::Unresponsive {
                    pid: pid.as_raw_nonzero().get(),
                    data: self.data.clone(),
                });
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Makes our database, unless it is there.
    pub(super) async fn create_database(&self) -> Result<(), Error> {
        let refused = |error: sqlx::Error| Error::Refused {
            doing: "create its database",
            failure: Failure::from(error),
        };
        let options = self.options_for(&self.address(), "postgres");
        let mut connection = PgConnection::connect_with(&options)
            .await
            .map_err(refused)?;
        let exists: bool =
            sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
                .bind(NAME)
                .fetch_one(&mut connection)
                .await
                .map_err(refused)?;
        if !exists {
            sqlx::raw_sql("create database rosterd")
                .execute(&mut connection)
                .await
                .map_err(refused)?;
        }
        connection.close().await.map_err(refused)
    }

    /// Ends the server: its sessions are cut, what is committed is kept.
    pub(super) async fn shut_down(&self, mut running: Running) -> Result<(), Error> {
        let Some(pid) = running.pid() else {
            return Ok(());
        };
        for (signal, time) in [(Signal::INT, FAST), (Signal::QUIT, IMMEDIATE)] {
            if kill_process(pid, signal).is_err() {
                return Ok(());
            }
            if timeout(time, running.ended()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(
                postgres.pid = pid.as_raw_nonzero().get(),
                "the embedded PostgreSQL does not stop"
            );
        }
        Err(Error::DidNotStop {
            pid: pid.as_raw_nonzero().get(),
        })
    }

    fn address(&self) -> Address {
        self.address
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn options_for(&self, address: &Address, database: &str) -> PgConnectOptions {
        options::base(
            PgConnectOptions::new_without_pgpass()
                .host("localhost")
                .socket(&address.socket)
                .port(address.port)
                .username(NAME)
                .database(database)
                .ssl_mode(PgSslMode::Disable),
        )
    }

    async fn answers(&self, address: &Address) -> bool {
        let socket = address.socket.join(format!(".s.PGSQL.{}", address.port));
        if !socket.exists() {
            return false;
        }
        let options = self.options_for(address, "postgres");
        let connected = timeout(Duration::from_secs(2), PgConnection::connect_with(&options)).await;
        match connected {
            Ok(Ok(connection)) => {
                connection.close().await.ok();
                true
            }
            _ => false,
        }
    }

    async fn serves_our_data(&self, address: &Address) -> bool {
        let options = self.options_for(address, "postgres");
        let question = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let data: String = sqlx::query_scalar("show data_directory")
                .fetch_one(&mut connection)
                .await?;
            connection.close().await?;
            Ok::<_, sqlx::Error>(data)
        };
        let data = timeout(Duration::from_secs(5), question).await;
        matches!(data, Ok(Ok(data)) if Path::new(&data) == self.data)
    }

    /// Process and address from the server's own file: line 1 the process, 4 the port, 5 the
    /// socket's folder. The address is missing for an instant while it starts.
    fn read_pid_file(&self) -> Option<(Pid, Address)> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = Pid::from_raw(lines.next()?.trim().parse::<i32>().ok()?)?;
        let port = lines.nth(2).and_then(|line| line.trim().parse().ok());
        let socket = lines.next().map(str::trim).filter(|line| !line.is_empty());
        let address = match (port, socket) {
            (Some(port), Some(socket)) => Address {
                socket: PathBuf::from(socket),
                port,
            },
            _ => self.address(),
        };
        Some((pid, address))
    }

    fn open_start_log(&self) -> Result<File, Error> {
        let path = self.home.start_log();
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("write", &path))
    }

    fn write_settings(&self, address: &Address) -> Result<(), Error> {
        let etc = self.home.etc();
        let mode = if self.account.is_other() {
            0o644
        } else {
            0o600
        };
        let listen = if self.port.is_some() { "127.0.0.1" } else { "" };
        let settings = format!(
            "# Written by rosterd at each start. Settings of your own: `alter system set …`.\n\
             listen_addresses = '{listen}'\n\
             port = {port}\n\
             unix_socket_directories = {socket}\n\
             unix_socket_permissions = 0700\n\
             max_connections = {max_connections}\n\
             cluster_name = 'rosterd'\n\
             password_encryption = 'scram-sha-256'\n\
             timezone = 'UTC'\n\
             datestyle = 'iso, ymd'\n\
             shared_buffers = '64MB'\n\
             max_wal_size = '512MB'\n\
             jit = off\n\
             # Containers give shared memory of 64 MB only.\n\
             max_parallel_workers_per_gather = 0\n\
             logging_collector = on\n\
             log_directory = {log}\n\
             log_filename = 'postgres-%a.log'\n\
             log_truncate_on_rotation = on\n\
             log_rotation_age = '1d'\n\
             log_rotation_size = 0\n\
             log_timezone = 'UTC'\n\
             log_checkpoints = off\n\
             # Errors of statements quote rows; the client gets them, the log does not.\n\
             log_min_messages = log\n\
             log_min_error_statement = panic\n\
             log_error_verbosity = terse\n\
             log_min_duration_statement = -1\n\
             log_parameter_max_length = 0\n\
             log_parameter_max_length_on_error = 0\n",
            port = address.port,
            socket = quoted(&socket_setting(&address.socket)),
            max_connections = self.max_connections,
            log = quoted(&self.home.log().display().to_string()),
        );
        self.home
            .write(&etc.join("postgresql.conf"), &settings, mode)?;

        let mut access = "# Written by rosterd at each start.\n\
             local all all peer map=rosterd\n"
            .to_owned();
        if self.port.is_some() {
            access.push_str("host all all 127.0.0.1/32 scram-sha-256\n");
        }
        self.home.write(&etc.join("pg_hba.conf"), &access, mode)?;

        // Root can become the server's user anyway.
        let mut map = "# Written by rosterd at each start.\n".to_owned();
        for user in ["root", &self.account.name] {
            map.push_str(&format!("rosterd \"{user}\" {NAME}\n"));
        }
        self.home.write(&etc.join("pg_ident.conf"), &map, mode)
    }
}

/// In a list of folders a comma would end the name.
fn socket_setting(folder: &Path) -> String {
    format!("\"{}\"", folder.display().to_string().replace('"', "\"\""))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn is_alive(pid: Pid) -> bool {
    // Of another user's process we may not know more than that it is there.
    !matches!(test_kill_process(pid), Err(rustix::io::Errno::SRCH))
}

/// Only Linux tells; elsewhere the answer to a connection decides.
fn may_be_postgres(pid: Pid) -> bool {
    let file = format!("/proc/{}/comm", pid.as_raw_nonzero().get());
    fs::read_to_string(file).map_or(true, |name| {
        name.starts_with("postgres") || name.starts_with("postmaster")
    })
}
