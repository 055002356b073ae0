# shellcheck shell=bash
# For `run` to source: moto, which answers as AWS KMS does, on a free port of this machine, for as long as the tests run.
#
# Sets the variables of the SDK, whose endpoint is the double of tests/providers/aws_kms/double.rs in front of moto, and for
# the double CREDVAULT_KMS_DOUBLE, its own port, and CREDVAULT_MOTO, moto's address; CREDVAULT_AWS_CLI is the folder of `aws`.

moto_version=5.2.5

command -v python3 >/dev/null || install "Python 3" python3 python3-venv
moto_venv=${CARGO_TARGET_DIR:-target}/moto-$moto_version
if [ ! -x "$moto_venv/bin/moto_server" ] || [ ! -x "$moto_venv/bin/aws" ]; then
    say "installing moto $moto_version and the AWS CLI in $moto_venv"
    if ! python3 -m venv "$moto_venv"; then
        install "Python's venv" python3-venv
        python3 -m venv "$moto_venv"
    fi
    "$moto_venv/bin/pip" install --quiet --disable-pip-version-check "moto[server,kms]==$moto_version" awscli ||
        fail "pip can't install moto $moto_version and awscli"
fi

read -r moto_port CREDVAULT_KMS_DOUBLE <<<"$(python3 -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(socket.getsockname()[1] for socket in sockets))')"
moto_log=$(mktemp "${TMPDIR:-/tmp}/credvault-moto-XXXXXX")
"$moto_venv/bin/moto_server" -H 127.0.0.1 -p "$moto_port" >"$moto_log" 2>&1 &
moto_pid=$!
stop_moto() {
    kill "$moto_pid" 2>/dev/null || true
    rm -f "$moto_log"
}
at_exit stop_moto
for _ in $(seq 300); do
    if grep -q "Running on" "$moto_log"; then break; fi
    kill -0 "$moto_pid" 2>/dev/null || fail "moto ended: $(cat "$moto_log")"
    sleep 0.1
done
grep -q "Running on" "$moto_log" || fail "moto has not started within 30 s"

CREDVAULT_MOTO=127.0.0.1:$moto_port
CREDVAULT_AWS_CLI=$(cd "$moto_venv/bin" && pwd)
AWS_ENDPOINT_URL_KMS=http://127.0.0.1:$CREDVAULT_KMS_DOUBLE
AWS_REGION=us-east-1
AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE
AWS_SECRET_ACCESS_KEY=hunter2EXAMPLEhunter2EXAMPLEhunter2EXAMP
# Nothing of whoever runs this.
AWS_EC2_METADATA_DISABLED=true AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null
unset AWS_PROFILE AWS_SESSION_TOKEN AWS_DEFAULT_REGION AWS_ENDPOINT_URL AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE \
    AWS_CONTAINER_CREDENTIALS_RELATIVE_URI AWS_CONTAINER_CREDENTIALS_FULL_URI
export CREDVAULT_MOTO CREDVAULT_AWS_CLI CREDVAULT_KMS_DOUBLE AWS_ENDPOINT_URL_KMS AWS_REGION AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY \
    AWS_EC2_METADATA_DISABLED AWS_CONFIG_FILE AWS_SHARED_CREDENTIALS_FILE
say "moto $moto_version on $CREDVAULT_MOTO"
