//! Whose process the private server is. Postgres refuses to run as root, so root hands it over.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

use super::Error;

/// The operating system's user that the server runs as.
#[derive(Debug, Clone)]
pub(super) struct Account {
    pub(super) name: String,
    uid: u32,
    gid: u32,
    /// We are root and become this user.
    switch: bool,
}

impl Account {
    /// Ourselves; as root the owner of `data` if that exists, else `rosterd`, else `postgres`.
    pub(super) async fn choose(data: Option<&Path>) -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            let uid = rustix::process::geteuid().as_raw();
            let name = id(&["-un"]).await.ok_or(Error::NoUserName { uid })?;
            if let Some(data) = data {
                let owner = fs::metadata(data).map_err(Error::io("read", data))?.uid();
                if owner != uid {
                    return Err(Error::OtherOwner {
                        folder: data.to_owned(),
                        owner,
                    });
                }
            }
            return Ok(Self {
                name,
                uid,
                gid: rustix::process::getegid().as_raw(),
                switch: false,
            });
        }
        let owner = match data {
            Some(data) => Some(fs::metadata(data).map_err(Error::io("read", data))?.uid()),
            None => None,
        };
        // Data that another user made stay theirs.
        if let Some(owner) = owner.filter(|uid| *uid != 0) {
            let owner = owner.to_string();
            return Self::named(&owner).await.ok_or(Error::NoServerUser);
        }
        for name in ["rosterd", "postgres"] {
            if let Some(account) = Self::named(name).await {
                return Ok(account);
            }
        }
        Err(Error::NoServerUser)
    }

    /// A command that runs as this user, with nothing of our environment: that holds secrets.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/bin:/bin")
            .current_dir("/")
            .stdin(Stdio::null());
        if self.switch {
            // Supplementary groups go too.
            command.uid(self.uid).gid(self.gid);
        }
        command
    }

    /// Gives `path` to this user, when that is not ourselves.
    pub(super) fn give(&self, path: &Path) -> Result<(), Error> {
        if self.switch {
            chown(path, Some(self.uid), Some(self.gid)).map_err(Error::io("hand over", path))?;
        }
        Ok(())
    }

    pub(super) fn owns(&self, path: &Path) -> io::Result<bool> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(metadata.is_dir() && metadata.uid() == self.uid)
    }

    pub(super) fn is_other(&self) -> bool {
        self.switch
    }

    /// Whether this user may enter `folder`. Asks the kernel by doing it, so that parents, access
    /// lists and security modules all have their say. `program` is one that the user can start.
    pub(super) async fn can_enter(&self, folder: &Path, program: &Path) -> bool {
        let tried = self
            .command(program)
            .arg("--version")
            .current_dir(folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .await;
        tried.is_ok_and(|status| status.success())
    }

    /// By name, or by number in decimal.
    async fn named(name: &str) -> Option<Self> {
        let uid: u32 = id(&["-u", name]).await?.parse().ok()?;
        let gid: u32 = id(&["-g", name]).await?.parse().ok()?;
        let name = id(&["-un", name]).await?;
        (uid != 0).then_some(Self {
            name,
            uid,
            gid,
            switch: true,
        })
    }
}

/// Asks `id`, which knows every user database of the machine, not only `/etc/passwd`.
async fn id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
