# shellcheck shell=bash
# For `run` to source: keys as Azure keeps them, for as long as the tests run, and the variables of Azure's tools.
#
# Adds to `settings`, which cargo gives to the test program and heeds not itself: HTTPS_PROXY, whose port is that of the double
# of tests/providers/azure_kv/double.rs, and SSL_CERT_FILE, which the double writes. For the double CREDVAULT_KEY_VAULT is the
# address of the keys, and CREDVAULT_AZURE_DOUBLE its own.

python_with_cryptography
azure_folder=$(mktemp -d "${TMPDIR:-/tmp}/credvault-azure-XXXXXX")
python3 tests/providers/counterparts/key_vault.py >"$azure_folder/port" 2>"$azure_folder/log" &
azure_pid=$!
stop_azure() {
    kill "$azure_pid" 2>/dev/null || true
    rm -rf "$azure_folder"
}
at_exit stop_azure
for _ in $(seq 300); do
    if [ -s "$azure_folder/port" ]; then break; fi
    kill -0 "$azure_pid" 2>/dev/null || fail "the keys ended: $(cat "$azure_folder/log")"
    sleep 0.1
done
[ -s "$azure_folder/port" ] || fail "the keys have not started within 30 s"

CREDVAULT_KEY_VAULT=127.0.0.1:$(cat "$azure_folder/port")
CREDVAULT_AZURE_DOUBLE=127.0.0.1:$(python3 -c '
import socket
print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
AZURE_TENANT_ID=00000000-0000-4000-8000-000000000001
AZURE_CLIENT_ID=00000000-0000-4000-8000-000000000002
AZURE_CLIENT_SECRET=hunter2EXAMPLEhunter2EXAMPLEhunter2EXAMP
unset AZURE_AUTHORITY_HOST AZURE_FEDERATED_TOKEN_FILE AZURE_CLIENT_CERTIFICATE_PATH IDENTITY_ENDPOINT IDENTITY_HEADER \
    MSI_ENDPOINT MSI_SECRET
export CREDVAULT_KEY_VAULT CREDVAULT_AZURE_DOUBLE AZURE_TENANT_ID AZURE_CLIENT_ID AZURE_CLIENT_SECRET
for setting in "HTTPS_PROXY='http://$CREDVAULT_AZURE_DOUBLE'" "SSL_CERT_FILE='$azure_folder/roots.pem'" "NO_PROXY=''"; do
    settings+=(--config "env.${setting%%=*}.value=${setting#*=}" --config "env.${setting%%=*}.force=true")
done
say "keys on $CREDVAULT_KEY_VAULT"
