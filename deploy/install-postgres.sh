#!/bin/sh
# Makes sure that this machine has what `cargo run` and `cargo test` of rosterd need besides Rust:
# PostgreSQL's server programs (initdb, postgres) and a C compiler. Installs what is missing with
# the system's package manager, and does nothing when nothing is missing.
#
# No PostgreSQL server of the system is set up or started: rosterd starts its own, under its
# state_dir.
set -eu

say() { printf '%s\n' "$*" >&2; }

# The places where rosterd looks too (src/postgres/embedded/binaries.rs).
server_folder() {
    old_ifs=$IFS
    IFS=:
    for folder in $PATH; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            IFS=$old_ifs
            printf '%s\n' "$folder"
            return 0
        fi
    done
    IFS=$old_ifs
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/libexec/postgresql* \
        /usr/lib/postgresql*/bin /usr/local/pgsql*/bin /opt/homebrew/opt/postgresql@*/bin \
        /usr/local/opt/postgresql@*/bin /home/linuxbrew/.linuxbrew/opt/postgresql@*/bin; do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            printf '%s\n' "$folder"
            return 0
        fi
    done
    return 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command as root.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        sudo "$@"
    elif has doas; then
        doas "$@"
    else
        say "This needs root, and there is no usable sudo. Run as root:"
        say "    $*"
        say "or run this script as root once, or set database.url to a PostgreSQL that runs elsewhere."
        return 1
    fi
}

# Debian's packages would set up a server of the system and start it.
apt_postgres() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends postgresql-common </dev/null
    drop_in=/etc/postgresql-common/createcluster.d/rosterd.conf
    as_root mkdir -p "${drop_in%/*}"
    as_root sh -c "echo 'create_main_cluster = false' >$drop_in"
    status=0
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends postgresql </dev/null || status=$?
    as_root rm -f "$drop_in"
    return "$status"
}

install_with() {
    manager=$1
    what=$2
    say "Installing $what with $manager ..."
    case $manager:$what in
        apt-get:postgres) as_root apt-get update </dev/null && apt_postgres ;;
        apt-get:cc) as_root apt-get update </dev/null &&
            as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get install -y --no-install-recommends gcc libc6-dev </dev/null ;;
        dnf:postgres) as_root dnf install -y postgresql-server ;;
        dnf:cc) as_root dnf install -y gcc ;;
        apk:postgres) as_root apk add postgresql postgresql-client ;;
        apk:cc) as_root apk add build-base ;;
        pacman:postgres) as_root pacman -Sy --noconfirm --needed postgresql ;;
        pacman:cc) as_root pacman -Sy --noconfirm --needed gcc ;;
        zypper:postgres) as_root zypper --non-interactive install postgresql-server ;;
        zypper:cc) as_root zypper --non-interactive install gcc ;;
        # Homebrew refuses to run as root.
        brew:postgres) brew install postgresql@17 ;;
        brew:cc) xcode-select --install ;;
    esac
}

need() {
    what=$1
    for manager in apt-get dnf apk pacman zypper brew; do
        if has "$manager"; then
            install_with "$manager" "$what"
            return
        fi
    done
    case $what in
        postgres) say "PostgreSQL's server programs (initdb, postgres) were not found, nor a package manager that this script knows. Install PostgreSQL 14 or newer, or set database.url." ;;
        cc) say "There is no C compiler (cc), nor a package manager that this script knows. Install gcc or clang." ;;
    esac
    return 1
}

if ! has cc; then
    need cc
    has cc || { say "cc is still missing; see above."; exit 1; }
fi

if ! folder=$(server_folder); then
    need postgres
    folder=$(server_folder) || { say "initdb and postgres are still missing; see above."; exit 1; }
fi
say "PostgreSQL server programs: $folder ($("$folder/postgres" --version))"

if [ "$(id -u)" -eq 0 ] && ! id rosterd >/dev/null 2>&1 && ! id postgres >/dev/null 2>&1; then
    say "PostgreSQL does not run as root and this machine has no user to run it as. Run:"
    say "    useradd --system rosterd"
    exit 1
fi
