//! The command line: one file per command.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 all went well, 1 something failed
//! or is partial, 2 the configuration or the arguments are wrong.

pub mod check;

mod completions;

mod credentials;

mod demo;

mod erase;

mod healthcheck;

pub mod init;

mod migrate;

mod output;

mod pause;

mod preview;

pub mod ready;

mod reset;

mod run;

mod runs;

pub mod schema;

mod select;

mod status;

mod sync;

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand, ValueEnum};

use crate::{
    config::{self, Config, Environment},
    fault::{Class, Fault},
    fetch, postgres, record,
    sync::sandbox,
    telemetry,
};

/// Keeps a true Postgres copy of third-party HR systems.
#[derive(Debug, Parser)]
#[command(name = "rosterd", version, about, max_term_width = 100)]
struct Arguments {
    /// The configuration file.
    #[arg(
        long,
        short,
        global = true,
        env = "ROSTERD_CONFIG",
        default_value = "daemon.yaml"
    )]
    config: PathBuf,
    /// What is logged, as a tracing filter: `info`, `debug`, `rosterd::fetch=trace`. Left out: `info`
    /// for `run` and `migrate`, `warn` for commands that tell by themselves how it went.
    #[arg(long, global = true, env = "ROSTERD_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// How it is logged; `auto` is pretty on a terminal and JSON elsewhere.
    #[arg(long, global = true, env = "ROSTERD_LOG_FORMAT", value_enum, default_value_t = LogFormat::Auto)]
    log_format: LogFormat,
    /// Kills the process at a named point; for tests.
    #[cfg(feature = "failpoints")]
    #[arg(long, global = true, env = "ROSTERD_FAILPOINT", hide = true)]
    failpoint: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Auto,
    Pretty,
    Json,
}

/// How a command prints what it found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Run,
    /// Sync once, in this process, and exit.
    Sync(sync::Arguments),
    /// Check the configuration without requesting anything.
    Check(check::Arguments),
    /// Show what a resource's first page would become.
    Preview(preview::Arguments),
    /// List recent runs, newest first.
    Runs(runs::Arguments),
    /// Show the health of every resource.
    Status(status::Arguments),
    /// Forget a resource's cursor, so that the next run reads everything.
    Reset(reset::Arguments),
    /// Take a person out of a resource for good, and keep them out.
    Erase(erase::Arguments),
    /// Look after the refresh tokens that are kept in the database.
    Credentials(credentials::Arguments),
    /// Keep a resource from being scheduled.
    Pause(pause::PauseArguments),
    /// Let a paused resource be scheduled again.
    Resume(pause::ResumeArguments),
    /// Bring the bookkeeping schema up to date.
    Migrate,
    /// Print the JSON Schema of the configuration file.
    Schema,
    /// Write a configuration to start from: an example, a ready one, or one made from dlt's.
    Init(init::Arguments),
    /// Try it all: a sample HR API, an embedded Postgres, the real daemon.
    Demo(demo::Arguments),
    /// Ask a running daemon whether it is healthy; for containers.
    Healthcheck(healthcheck::Arguments),
    /// Print a shell's completion script.
    Completions(completions::Arguments),
}

/// What the process says to its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Success,
    /// Something failed or is partial.
    Failure,
    /// The configuration or the arguments are wrong.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::from(1),
            Exit::Usage => Self::from(2),
        }
    }
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    // No command for people: a process of ours that runs the programs of the configuration.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|own| own == sandbox::COMMAND)
    {
        return sandbox::main();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            error.print().ok();
            return code.into();
        }
    };
    #[cfg(feature = "failpoints")]
    if let Some(spec) = &arguments.failpoint
        && let Err(error) = crate::failpoint::arm(spec)
    {
        output::complain(&error);
        return Exit::Usage.into();
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(&format!("cannot start the runtime: {error}"));
            return Exit::Failure.into();
        }
    };
    let exit = runtime.block_on(dispatch(arguments));
    // Runs that were cut must not keep the process; the leases tell the next one of them.
    runtime.shutdown_timeout(std::time::Duration::from_millis(500));
    exit.into()
}

async fn dispatch(arguments: Arguments) -> Exit {
    let result = match &arguments.command {
        Command::Run => Box::pin(run::execute(&arguments)).await,
        Command::Sync(own) => Box::pin(sync::execute(&arguments, own)).await,
        Command::Check(own) => Box::pin(check::execute(&arguments, own)).await,
        Command::Preview(own) => Box::pin(preview::execute(&arguments, own)).await,
        Command::Runs(own) => Box::pin(runs::execute(&arguments, own)).await,
        Command::Status(own) => Box::pin(status::execute(&arguments, own)).await,
        Command::Reset(own) => Box::pin(reset::execute(&arguments, own)).await,
        Command::Erase(own) => Box::pin(erase::execute(&arguments, own)).await,
        Command::Credentials(own) => Box::pin(credentials::execute(&arguments, own)).await,
        Command::Pause(own) => Box::pin(pause::execute(&arguments, own)).await,
        Command::Resume(own) => Box::pin(pause::resume(&arguments, own)).await,
        Command::Migrate => Box::pin(migrate::execute(&arguments)).await,
        Command::Schema => schema::execute(),
        Command::Init(own) => init::execute(own),
        Command::Demo(own) => Box::pin(demo::execute(&arguments, own)).await,
        Command::Healthcheck(own) => Box::pin(healthcheck::execute(&arguments, own)).await,
        Command::Completions(own) => completions::execute(own),
    };
    result.unwrap_or_else(|error| {
        output::complain(&format!("{error:#}"));
        let fault = fault_of(&error);
        let hint = fault
            .as_ref()
            .map(|fault| fault.hint.as_str())
            .or_else(|| Some(error.downcast_ref::<record::report::Error>()?.hint()));
        if let Some(hint) = hint {
            output::say(&format!("hint: {hint}"));
        }
        if error.is::<config::Problems>()
            || error.is::<select::NoSuchResource>()
            || fault.is_some_and(|fault| fault.class == Class::Config)
        {
            Exit::Usage
        } else {
            Exit::Failure
        }
    })
}

/// The class and the hint of whatever stage it was that failed.
fn fault_of(error: &anyhow::Error) -> Option<Fault> {
    None.or_else(|| Some(error.downcast_ref::<postgres::Error>()?.fault()))
        .or_else(|| Some(error.downcast_ref::<record::Error>()?.fault()))
        .or_else(|| Some(error.downcast_ref::<fetch::Error>()?.fault()))
        .or_else(|| Some(error.downcast_ref::<crate::sync::Error>()?.fault()))
}

/// A configuration, and the log that covers its secrets for as long as this is kept.
struct Loaded {
    config: Arc<Config>,
    log: telemetry::Guard,
}

impl Arguments {
    /// Reads the configuration.
    fn read(&self) -> Result<Config, config::Problems> {
        config::load(&self.config, &Environment::of_process())
    }

    /// Reads the configuration and starts the log, which masks the configuration's secrets.
    fn load(&self) -> anyhow::Result<Loaded> {
        let config = self.read()?;
        let log = self.start_log(&config)?;
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Ok(Loaded {
            config: Arc::new(config),
            log,
        })
    }

    /// What is logged. Commands that end by themselves say on their own how it went, run by run.
    fn filter(&self) -> &str {
        match (&self.log, &self.command) {
            (Some(wanted), _) => wanted,
            (None, Command::Run | Command::Migrate) => "info",
            (None, _) => "warn,rosterd::sync=error",
        }
    }

    fn start_log(&self, config: &Config) -> anyhow::Result<telemetry::Guard> {
        let environment = Environment::of_process();
        let settings = telemetry::Settings {
            format: match self.log_format {
                LogFormat::Auto => telemetry::Format::Auto,
                LogFormat::Pretty => telemetry::Format::Pretty,
                LogFormat::Json => telemetry::Format::Json,
            },
            filter: Some(self.filter().to_owned()),
            journal: environment.has("JOURNAL_STREAM"),
            no_color: environment.has("NO_COLOR"),
        };
        Ok(telemetry::init(&settings, &config.secret_texts())?)
    }
}
