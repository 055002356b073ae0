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
