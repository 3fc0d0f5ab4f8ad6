//! Parses the arguments and calls the command; the only place that exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    rosterd::cli::main()
}
