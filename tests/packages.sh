# shellcheck shell=bash
# For scripts to source that install what they lack, on Debian and Ubuntu; elsewhere they say what to install.

say() { printf '%s: %s\n' "$0" "$*"; }
fail() { say "$*" >&2; exit 1; }

# at_exit COMMAND...: runs it when the script ends, the last one first: scripts that are sourced don't replace each other's trap.
at_exit_commands=()
at_exit() {
    at_exit_commands+=("$(printf '%q ' "$@")")
    trap run_at_exit EXIT
}
run_at_exit() {
    local at
    for ((at = ${#at_exit_commands[@]} - 1; at >= 0; at--)); do
        eval "${at_exit_commands[at]}" || true
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

apt_updated=
# install WHAT PACKAGE...: the packages by apt; fails, naming WHAT, where there is no apt.
install() {
    local what=$1
    shift
    command -v apt-get >/dev/null || fail "$what is missing and there is no apt-get: install it, then run this again"
    if [ "$(id -u)" -ne 0 ] && ! command -v sudo >/dev/null; then
        fail "$what is missing: as root, apt-get install $*"
    fi
    say "installing $what: $*"
    if [ -z "$apt_updated" ]; then
        as_root apt-get update -qq || fail "apt-get update failed"
        apt_updated=yes
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null ||
        fail "apt-get install $* failed"
}

# A python3 that sees the package `cryptography`.
python_with_cryptography() {
    command -v python3 >/dev/null || install "Python" python3
    if ! python3 -c 'import cryptography' 2>/dev/null; then
        if command -v apt-get >/dev/null; then
            install "Python's cryptography" python3-cryptography
        fi
        # A python3 that is not the system's doesn't see apt's packages.
        python3 -c 'import cryptography' 2>/dev/null || python3 -m pip install --quiet cryptography ||
            fail "Python's package cryptography is missing: python3 -m pip install cryptography"
        python3 -c 'import cryptography' || fail "$(command -v python3) doesn't see the package cryptography"
    fi
}

# The newest folder with both initdb and postgres, wherever the usual packages put one.
postgres_bin() {
    local found folder
    if found=$(command -v initdb); then
        # Debian's folder is not in PATH; a link in PATH leads to it.
        found=$(dirname "$(readlink -f "$found")")
        if [ -x "$found/postgres" ]; then
            echo "$found"
            return
        fi
    fi
    for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin | sort -rV); do
        if [ -x "$folder/initdb" ] && [ -x "$folder/postgres" ]; then
            echo "$folder"
            return
        fi
    done
    return 1
}

# Debian's package starts a cluster on port 5432: not on a machine that only wanted to test.
install_postgres() {
    local no_cluster=/etc/postgresql-common/createcluster.d/credvault-tests.conf installed=0
    install "PostgreSQL's server" postgresql-common
    as_root mkdir -p "$(dirname "$no_cluster")"
    echo 'create_main_cluster = false' | as_root tee "$no_cluster" >/dev/null
    (install "PostgreSQL's server" postgresql) || installed=$?
    as_root rm -f "$no_cluster"
    return "$installed"
}

# PostgreSQL's programs in PATH. The tests start their own servers: no setting of the caller's may lead them to another one.
with_postgres() {
    local name postgres
    postgres_bin >/dev/null || install_postgres
    postgres=$(postgres_bin) ||
        fail "PostgreSQL's server is installed, but initdb and postgres are in no known folder: put theirs into PATH"
    export PATH="$postgres:$PATH"
    for name in $(compgen -e); do
        case $name in
        CREDVAULT_ENDURANCE_SECONDS | CREDVAULT_LONG_TESTS) ;; # how long, not where
        CREDVAULT_* | DATABASE_URL | PG*) unset "$name" ;;
        esac
    done
}
