//! The folders of the private server, and who may share it.
//!
//! ```text
//! state_dir/postgres/
//!   15/          the data, of major version 15; the server's
//!   socket/      the Unix socket; the server's, nobody else may enter
//!   log/         the server's log, seven days; the server's
//!   etc/         its configuration, written anew at each start; ours
//!   start.log    what the server said before its log began; ours
//!   start.lock   held while somebody starts or stops it; ours
//!   users.lock   shared by all processes that use it: the last one out stops it; ours
//!   pgpass       the password for the loopback port; ours
//! ```
//!
//! As root, what the server owns and what we write are kept apart: a server that was taken over
//! must not be able to plant a link where root writes next.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{ErrorKind, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use xxhash_rust::xxh3::xxh3_64;

use super::{Error, account::Account};

/// Where the data go when root runs us and the server's user cannot enter `state_dir`.
const FALLBACK: &str = "/var/lib/rosterd";

/// Longest socket path of macOS with its end mark; Linux has four more.
const SOCKET_PATH: usize = 104;

/// Longer than a start takes with a crash recovery before it, and than a stop.
const LOCK_WAIT: Duration = Duration::from_secs(180);

#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
}

impl Home {
    /// Where the data of `state_dir` are, without making anything.
    pub(super) fn existing(state_dir: &Path) -> Vec<PathBuf> {
        let mut homes = vec![state_dir.join("postgres")];
        if rustix::process::geteuid().is_root() {
            homes.push(fallback(state_dir));
        }
        homes
    }

    /// The newest data folder in `home`, and its major version.
    pub(super) fn newest_data(home: &Path) -> Option<(u32, PathBuf)> {
        fs::read_dir(home)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let major = entry.file_name().to_str()?.parse().ok()?;
                let folder = entry.path();
                // Of another user we may see the folder, but not what is in it.
                let is_data = match fs::metadata(folder.join("PG_VERSION")) {
                    Ok(_) => true,
                    Err(error) => error.kind() == ErrorKind::PermissionDenied,
                };
                is_data.then_some((major, folder))
            })
            .max_by_key(|(major, _)| *major)
    }

    /// Makes the folders: beside the `data` that are there, else in `state_dir`, or, for root, where
    /// the server's user can reach them.
    pub(super) async fn prepare(
        state_dir: &Path,
        data: Option<&Path>,
        account: &Account,
        program: &Path,
    ) -> Result<Self, Error> {
        let ours = if account.is_other() { 0o711 } else { 0o700 };
        let elsewhere = fallback(state_dir);
        // Data that are there are used or nothing is: an empty database beside them would look
        // like their loss.
        let mut parent = match data.and_then(|data| data.ancestors().nth(2)) {
            Some(parent) => parent.to_owned(),
            None => state_dir.to_owned(),
        };
        if account.is_other() && !account.can_enter(Path::new("/"), program).await {
            return Err(Error::CannotRun {
                program: program.to_owned(),
                account: account.name.clone(),
            });
        }
        if account.is_other() && !account.can_enter(&parent, program).await {
            let mut tried = vec![parent];
            parent = elsewhere.parent().map(Path::to_owned).unwrap_or_default();
            if data.is_none() {
                make(Path::new(FALLBACK), 0o755)?;
                make(&parent, ours)?;
                tried.push(parent.clone());
            }
            if data.is_some() || !account.can_enter(&parent, program).await {
                return Err(Error::CannotEnter {
                    folders: tried,
                    account: account.name.clone(),
                });
            }
        }
        if parent != state_dir {
            tracing::warn!(
                postgres.user = account.name,
                state_dir = %state_dir.display(),
                folder = %parent.display(),
                "the embedded PostgreSQL's user cannot enter state_dir, so its data are elsewhere"
            );
        }
        let home = Self {
            folder: parent.join("postgres"),
        };
        make(&home.folder, ours)?;
        let owner = fs::metadata(&home.folder)
            .map_err(Error::io("look at", &home.folder))?
            .uid();
        if owner != rustix::process::geteuid().as_raw() {
            // Also for root: in another user's folder a link may stand where we write next.
            return Err(Error::OtherOwner {
                folder: home.folder,
                owner,
            });
        }
        // Holds no secret; the server's user must read it.
        make(&home.etc(), if account.is_other() { 0o755 } else { 0o700 })?;
        home.make_for(account, &home.log())?;
        Ok(home)
    }

    pub(super) fn data(&self, major: u32) -> PathBuf {
        self.folder.join(major.to_string())
    }

    /// Where `initdb` works until it is done.
    pub(super) fn unfinished_data(&self, major: u32) -> PathBuf {
        self.folder.join(format!("{major}.new"))
    }

    pub(super) fn etc(&self) -> PathBuf {
        self.folder.join("etc")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    pub(super) fn start_log(&self) -> PathBuf {
        self.folder.join("start.log")
    }

    pub(super) fn password_for_initdb(&self) -> PathBuf {
        self.folder.join("initdb.password")
    }

    pub(super) fn pgpass(&self) -> PathBuf {
        self.folder.join("pgpass")
    }

    /// Makes the folder of the socket. A path that is too long for a socket moves to the temporary
    /// directory, under a name that nobody else can have taken.
    pub(super) fn socket(&self, account: &Account, port: u16) -> Result<PathBuf, Error> {
        let near = self.folder.join("socket");
        let length = near.as_os_str().len() + format!("/.s.PGSQL.{port}").len() + 1;
        let folder = if length <= SOCKET_PATH {
            near
        } else {
            let hash = xxh3_64(self.folder.as_os_str().as_bytes());
            std::env::temp_dir().join(format!("rosterd-{hash:016x}"))
        };
        self.make_for(account, &folder)?;
        Ok(folder)
    }

    /// Makes a folder that only the server's user may enter.
    pub(super) fn make_for(&self, account: &Account, folder: &Path) -> Result<(), Error> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => account.give(folder)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("make", folder)(error)),
        }
        let owned = account.owns(folder).map_err(Error::io("look at", folder))?;
        if !owned {
            return Err(Error::Foreign {
                folder: folder.to_owned(),
                account: account.name.clone(),
            });
        }
        fs::set_permissions(folder, Permissions::from_mode(0o700))
            .map_err(Error::io("protect", folder))
    }

    /// Writes a file of ours as a whole, so that nobody reads half of it.
    pub(super) fn write(&self, path: &Path, text: &str, mode: u32) -> Result<(), Error> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        // A mode is only obeyed for a file that is made, not for one that was left over.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Error::io("replace", &new)(error));
            }
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)
            .map_err(Error::io("write", &new))?;
        // The process's umask may have taken more away than we want.
        file.set_permissions(Permissions::from_mode(mode))
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&new, path))
            .map_err(Error::io("write", path))
    }

    /// Waits until no other process starts or stops the server. Released when dropped.
    pub(super) async fn lock(&self) -> Result<File, Error> {
        let path = self.folder.join("start.lock");
        let file = open_lock(&path)?;
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(TryLockError::WouldBlock) => return Err(Error::LockHeld { path }),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
    }

    /// Notes this process as a user of the server, until the file is dropped or the process dies.
    pub(super) fn join_users(&self) -> Result<File, Error> {
        let path = self.folder.join("users.lock");
        let file = open_lock(&path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(Error::LockHeld { path }),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// Leaves the users, and answers whether nobody is left. To be asked under [`Self::lock`], so
    /// that nobody comes in between.
    ///
    /// Between its fork and its exec a child that another thread starts holds copies of our files,
    /// and with them our locks. So a lock is given back by name, and one that is held is asked for
    /// again before it counts as another process's.
    pub(super) async fn leave_users(&self, users: File) -> Result<bool, Error> {
        users.unlock().ok();
        drop(users);
        let path = self.folder.join("users.lock");
        let file = open_lock(&path)?;
        let deadline = Instant::now() + FORK_WAIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(true),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    sleep(Duration::from_millis(20)).await;
                }
                Err(TryLockError::WouldBlock) => return Ok(false),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", &path)(error)),
            }
        }
    }
}

/// Longest time between a child's fork and its exec, on a busy machine.
const FORK_WAIT: Duration = Duration::from_millis(500);

/// 128 bits from the kernel, in hexadecimal.
pub(super) fn random_password() -> Result<String, Error> {
    let path = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 16];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::io("read", path))?;
    Ok(format!("{:032x}", u128::from_le_bytes(bytes)))
}

fn fallback(state_dir: &Path) -> PathBuf {
    let hash = xxh3_64(state_dir.as_os_str().as_bytes());
    Path::new(FALLBACK)
        .join(format!("{hash:016x}"))
        .join("postgres")
}

/// Makes a folder of ours with exactly this mode, or takes the one that is there as it is.
pub(super) fn make(folder: &Path, mode: u32) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .create(folder)
        // The umask may have taken away what the server's user needs.
        .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(mode)))
        .map_err(Error::io("make", folder))
}

fn open_lock(path: &Path) -> Result<File, Error> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(Error::io("open", path))
}
