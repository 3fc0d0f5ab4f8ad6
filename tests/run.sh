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
# The failpoints let tests kill the real program at named points; what ships is built without.
exec cargo test --locked --features failpoints "$@"
