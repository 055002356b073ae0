#!/usr/bin/env python3
"""Keys as Azure keeps them, that really wrap: what stands behind the double of tests/providers/azure_kv/double.rs.

Speaks JSON over HTTP on a free port of this machine, which it prints: an action, with its arguments, and its answer.
"""

import base64
import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa

OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)

# By host and name: the versions, in their order, each a key and whether it is enabled.
keys = {}


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def fails(status, code, inner=None):
    error = {"code": code, "message": "hunter2 of the message"}
    if inner:
        error["innererror"] = {"code": inner}
    return {"status": status, "body": {"error": error}}


def add(key, bits=2048):
    """A new key, or a new version of the one that is there."""
    made = secrets.token_bytes(32) if ".managedhsm." in key else rsa.generate_private_key(65537, bits)
    version = secrets.token_hex(16)
    keys.setdefault(key, {})[version] = {"key": made, "enabled": True}
    return {"version": version}


def newest(key):
    return {"version": next(reversed(keys[key]))}


def enable(key, version, enabled):
    keys[key][version]["enabled"] = enabled
    return {}


def wrap_by_public_key(key, version, value):
    """What anybody can do who has the public half of an RSA key."""
    return {"value": encoded(keys[key][version]["key"].public_key().encrypt(decoded(value), OAEP))}


def perform(key, version, action, alg, value):
    versions = keys.get(key, {})
    version = version or next(reversed(versions), None)
    if version not in versions:
        return fails(404, "KeyNotFound")
    found = versions[version]
    if not found["enabled"]:
        return fails(403, "Forbidden", "KeyDisabled")
    value, own = decoded(value), found["key"]
    try:
        if alg == "RSA-OAEP-256" and not isinstance(own, bytes):
            result = own.public_key().encrypt(value, OAEP) if action == "wrapkey" else own.decrypt(value, OAEP)
        elif alg == "A256KW" and isinstance(own, bytes):
            work = keywrap.aes_key_wrap if action == "wrapkey" else keywrap.aes_key_unwrap
            result = work(own, value)
        else:
            return fails(400, "BadParameter")
    except (ValueError, keywrap.InvalidUnwrap):
        return fails(400, "BadParameter")
    return {"status": 200, "body": {"kid": f"https://{key}/{version}", "value": encoded(result)}}


ACTIONS = {"add": add, "newest": newest, "enable": enable, "wrap-by-public-key": wrap_by_public_key, "perform": perform}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        arguments = json.loads(self.rfile.read(int(self.headers["content-length"])))
        answer = json.dumps(ACTIONS[self.path.strip("/")](**arguments)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
