#!/usr/bin/env python3
"""A program that wraps a vault's master key: what `--master-key exec:/PATH/wrap.py` runs.

A sample to begin from: put your HSM or escrow in the place of AES-256-GCM under the 32 bytes of the file that
CREDVAULT_EXEC_KEY_FILE names. The protocol is on the manual's page on `exec`. Needs the package `cryptography`.
"""

import base64
import json
import os
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12


def answer(**members):
    json.dump({"version": 1, **members}, sys.stdout)
    sys.exit(0)


def refuse(kind, message):
    answer(error={"kind": kind, "message": message})


def main():
    request = json.load(sys.stdin)
    if request["version"] != 1:
        refuse("invalid", "this program speaks version 1")
    # Binds the ciphertext to this vault, master key and organization.
    associated_data = base64.b64decode(request["associated_data"])
    try:
        with open(os.environ["CREDVAULT_EXEC_KEY_FILE"], "rb") as file:
            cipher = AESGCM(file.read())
    except (KeyError, OSError, ValueError):
        refuse("not-found", "CREDVAULT_EXEC_KEY_FILE names no file with a key")

    if request["operation"] == "wrap":
        nonce = os.urandom(NONCE_BYTES)
        sealed = cipher.encrypt(nonce, base64.b64decode(request["key"]), associated_data)
        answer(record=base64.b64encode(nonce + sealed).decode())
    elif request["operation"] == "unwrap":
        try:
            sealed = base64.b64decode(request["record"], validate=True)
            # One ciphertext has one text: `validate` takes more padding than belongs there.
            if base64.b64encode(sealed).decode() != request["record"]:
                raise ValueError("not what was given out")
            key = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
        except (ValueError, InvalidTag):
            refuse("invalid", "the record is none of this key, vault and organization")
        answer(key=base64.b64encode(key).decode())
    else:
        refuse("invalid", "unknown operation")


main()
