#!/bin/sh
# Runs all tests. They start a real PostgreSQL of their own; nothing of this machine's is touched.
# Arguments go to `cargo test`: `sh tests/run.sh --test it postgres::`.
set -eu
cd "$(dirname "$0")/.."

sh deploy/install-postgres.sh
if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo was not found: install Rust from https://rustup.rs" >&2
    exit 1
fi
# Tests wait for servers and clocks more than they compute: twice as many at once as there are processors.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc 2>/dev/null || echo 2)))}
export RUST_TEST_THREADS
# The failpoints let tests kill the real program at named points; what ships is built without.
exec cargo test --locked --features failpoints "$@"
