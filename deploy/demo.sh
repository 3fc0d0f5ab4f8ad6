#!/bin/sh
# Shows rosterd at work: a sample HR API on loopback, a private PostgreSQL, the real daemon between.
# Everything is kept under ./.rosterd; Ctrl-C stops it, a second start goes on where it was.
set -eu
cd "$(dirname "$0")/.."

sh deploy/install-postgres.sh
if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo was not found: install Rust from https://rustup.rs" >&2
    exit 1
fi
exec cargo run --release --locked -- demo "$@"
