# shellcheck shell=bash
# For `run` to source: credentials that no Google knows, and a free port for the double of tests/providers/gcp_kms/double.rs,
# which stands for Google's token service, a metadata server and Cloud KMS.
#
# Sets the variables of the SDK, and for the tests CREDVAULT_GCP_DOUBLE, the double's address, and CREDVAULT_GCP_FILES, a folder
# with the credentials of a user, those of a service account and the latter's public key.

python_with_cryptography # it draws the service account's key

google_files=$(mktemp -d "${TMPDIR:-/tmp}/credvault-google-XXXXXX")
at_exit rm -rf "$google_files"
google_port=$(python3 - "$google_files" <<'PYTHON'
import json, pathlib, socket, sys
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import rsa

folder = pathlib.Path(sys.argv[1])
port = socket.create_server(("127.0.0.1", 0)).getsockname()[1]
key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
(folder / "public.der").write_bytes(key.public_key().public_bytes(form.Encoding.DER, form.PublicFormat.PKCS1))
(folder / "service_account.json").write_text(json.dumps({
    "type": "service_account",
    "project_id": "credvault-test",
    "private_key_id": "0123456789abcdef0123456789abcdef01234567",
    "private_key": key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()).decode(),
    "client_email": "credvault@credvault-test.iam.gserviceaccount.com",
    "client_id": "100000000000000000001",
    "token_uri": f"http://127.0.0.1:{port}/token",
    "universe_domain": "googleapis.com",
}))
(folder / "user.json").write_text(json.dumps({
    "type": "authorized_user",
    "client_id": "100000000000-example.apps.googleusercontent.com",
    "client_secret": "hunter2-of-the-client",
    "refresh_token": "1//hunter2-of-the-user",
    "token_uri": f"http://127.0.0.1:{port}/token",
}))
print(port)
PYTHON
) || fail "no credentials could be made"

CREDVAULT_GCP_FILES=$google_files
CREDVAULT_GCP_DOUBLE=127.0.0.1:$google_port
GOOGLE_APPLICATION_CREDENTIALS=$google_files/user.json
CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS=http://$CREDVAULT_GCP_DOUBLE
# The SDK then traces what it does, which is searched for keys and credentials.
GOOGLE_CLOUD_RUST_LOGGING=true
# Nothing of whoever runs this.
unset GOOGLE_CLOUD_QUOTA_PROJECT GOOGLE_CLOUD_UNIVERSE_DOMAIN GCE_METADATA_HOST
export CREDVAULT_GCP_FILES CREDVAULT_GCP_DOUBLE GOOGLE_APPLICATION_CREDENTIALS CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDKMS \
    GOOGLE_CLOUD_RUST_LOGGING
