//! From `database.url` to connection options: what is allowed, and what each session is set to.

use std::{net::IpAddr, time::Duration};

use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};
use url::Url;

use super::Error;
use crate::config::Database;

/// What the driver understands in the query of the URL. Others are dropped, by name and never with
/// their value: `passwrod=…` is a secret too.
const KNOWN_PARAMETERS: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// A transaction of ours that waits this long between two statements belongs to a stopped process.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(60);

/// Reads `url`, and makes an unencrypted or unverified connection something that must be asked for.
///
/// Without `sslmode` the server's certificate is verified in full, except over a socket or loopback.
///
/// # Errors
///
/// Says what is wrong with the URL, without repeating any of it.
pub(super) fn from_url(url: &str) -> Result<PgConnectOptions, Error> {
    let mut url: Url = url.parse().map_err(|error: url::ParseError| Error::Url {
        reason: error.to_string(),
    })?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(Error::Url {
            reason: "it must begin with postgres:// or postgresql://".to_owned(),
        });
    }
    let names_sslmode = drop_unknown_parameters(&mut url);
    let options: PgConnectOptions = url.as_str().parse().map_err(|_| Error::Url {
        // The driver's text may repeat the value that it could not read.
        reason: "the driver cannot read one of its parts (port, sslmode, percent-encoding)"
            .to_owned(),
    })?;
    let verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    let options = if is_local(&options) || verified {
        options
    } else if names_sslmode || !matches!(options.get_ssl_mode(), PgSslMode::Prefer) {
        tracing::warn!(
            database.host = options.get_host(),
            "sslmode does not verify the server's certificate; anybody on the way may read the data. verify-full does"
        );
        options
    } else {
        options.ssl_mode(PgSslMode::VerifyFull)
    };
    Ok(options.disable_statement_logging())
}

/// Sets what every session of ours relies on, all of it at connection start, so that a pooler may
/// hand a connection from one transaction to the next.
///
/// The driver itself asks for UTC, ISO dates and UTF-8, which no role's settings can override.
pub(super) fn with_session_settings(
    options: PgConnectOptions,
    config: &Database,
) -> PgConnectOptions {
    let milliseconds = |duration: Duration| duration.as_millis().to_string();
    base(options).options([
        ("statement_timeout", milliseconds(config.statement_timeout)),
        (
            "idle_in_transaction_session_timeout",
            milliseconds(IDLE_IN_TRANSACTION),
        ),
        // The server then notices within a minute that we are gone, and frees our locks.
        ("tcp_keepalives_idle", "30".to_owned()),
        ("tcp_keepalives_interval", "10".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        // A role with this off would read a backslash in a literal as an escape.
        ("standard_conforming_strings", "on".to_owned()),
    ])
}

/// What also a short connection of ours gets: a name in `pg_stat_activity`, and no SQL in our log.
pub(super) fn base(options: PgConnectOptions) -> PgConnectOptions {
    let named = options.get_application_name().is_some();
    let options = if named {
        options
    } else {
        options.application_name("rosterd")
    };
    // PostgreSQL 12 and later print floats exactly by default, and poolers refuse the setting.
    options.extra_float_digits(None).disable_statement_logging()
}

/// Where the server is, without user and password: for messages.
pub(super) fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or("");
    match options.get_socket() {
        Some(socket) => format!("{}, database {database:?}", socket.display()),
        None => format!(
            "{}:{}, database {database:?}",
            options.get_host(),
            options.get_port()
        ),
    }
}

fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Answers whether the URL itself names an sslmode.
fn drop_unknown_parameters(url: &mut Url) -> bool {
    let mut kept = Vec::new();
    let mut names_sslmode = false;
    for (key, value) in url.query_pairs() {
        if KNOWN_PARAMETERS.contains(&&*key) || key.starts_with("options[") {
            names_sslmode |= matches!(&*key, "sslmode" | "ssl-mode");
            kept.push((key.into_owned(), value.into_owned()));
        } else {
            tracing::warn!(database.parameter = %key, "a parameter of database.url is unknown and has no effect");
        }
    }
    if kept.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(kept);
    }
    names_sslmode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_verified_unless_local_or_told_otherwise() {
        let cases = [
            ("postgres://db.example.com/hr", PgSslMode::VerifyFull),
            ("postgresql://u:p@10.0.0.5:6432/hr", PgSslMode::VerifyFull),
            (
                "postgres://db.example.com/hr?sslmode=require",
                PgSslMode::Require,
            ),
            (
                "postgres://db.example.com/hr?sslmode=disable",
                PgSslMode::Disable,
            ),
            ("postgres://localhost/hr", PgSslMode::Prefer),
            ("postgres://127.0.0.1:5599/hr", PgSslMode::Prefer),
            ("postgres://[::1]/hr", PgSslMode::Prefer),
            ("postgres://%2Frun%2Fpostgresql/hr", PgSslMode::Prefer),
            ("postgres:///hr?host=/run/postgresql", PgSslMode::Prefer),
            ("postgres://localhost.example.com/hr", PgSslMode::VerifyFull),
            (
                "postgres://db/hr?connect_timeout=5&sslmode=verify-full",
                PgSslMode::VerifyFull,
            ),
        ];
        for (url, expected) in cases {
            let options = from_url(url).unwrap();
            assert_eq!(
                format!("{:?}", options.get_ssl_mode()),
                format!("{expected:?}"),
                "{url}"
            );
        }
    }

    #[test]
    fn a_bad_url_is_told_without_repeating_it() {
        for url in [
            "hunter2",
            "mysql://u:hunter2@h/db",
            "postgres://u:hunter2@h:port/db",
            "postgres://u:p@h/db?sslmode=hunter2",
            "postgres://u:p@h/db?port=hunter2",
        ] {
            let error = from_url(url).unwrap_err();
            let told = format!("{error} {error:?} {:?}", error.fault());
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn the_place_names_no_user_and_no_password() {
        let options = from_url("postgres://alice:hunter2@db.example.com/hr").unwrap();
        assert_eq!(place(&options), "db.example.com:5432, database \"hr\"");
    }
}
