#!/usr/bin/env python3
"""Opens and seals a vault's rows in an SQLite file by the independent implementation, ../vectors/reference.py.

  check.py open DATABASE KEY_FILE          every row and key of the vault -> JSON on stdout
  check.py seal DATABASE KEY_FILE          [{"integration_id", "credential_type", "fields", "expires_us"}] on stdin:
                                           each sealed under the active key of its scope into the integration's row

Test vaults only: it prints what it opens. Needs Python's package cryptography.
"""
import base64, hashlib, importlib.util, json, os, sqlite3, sys, uuid
from pathlib import Path

sys.dont_write_bytecode = True               # no folder beside reference.py
place = Path(__file__).resolve().parent.parent / "vectors" / "reference.py"
spec = importlib.util.spec_from_file_location("reference", place)
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


def master_keys(file):
    """id -> key, of the lines of a key file."""
    keys = {}
    for line in Path(file).read_text().splitlines():
        line = line.split("#")[0].strip()
        if line:
            assert line.startswith("cvmk1_"), "not a master key"
            body = line[len("cvmk1_"):]
            raw = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
            assert len(raw) == 52 and hashlib.sha256(raw[:48]).digest()[:4] == raw[48:], "a damaged master key"
            keys[raw[:16]] = raw[16:48]
    return keys


def id_bytes(text):
    """The 16 bytes of an id in a column, b"" for none; the legacy key has an id of its own."""
    if text is None:
        return b""
    return reference.LEGACY_KEY_ID if text == "v1" else uuid.UUID(text).bytes


def data_keys(database, masters):
    """id in the column -> key, each unwrapped and held to its key check; and the checks of the master keys held."""
    (vault,) = database.execute("SELECT vault_id FROM vault_identity").fetchone()
    vault = id_bytes(vault)
    for id_, check in database.execute("SELECT id, key_check FROM vault_master_keys WHERE state = 'active'"):
        own = reference.key_check(masters[id_bytes(id_)], reference.WRAPPED_KEY, id_bytes(id_), vault, b"")
        assert own == check, f"the key check of master key {id_} differs"
    keys = {}
    for id_, organization, check, master, wrapped in database.execute(
            "SELECT k.id, k.organization_id, k.key_check, m.master_key_id, m.wrapped_key FROM vault_data_keys AS k"
            " JOIN vault_key_material AS m ON m.data_key_id = k.id WHERE m.wrapped_key IS NOT NULL"):
        scope = id_bytes(organization)
        key = reference.open_(
            masters[id_bytes(master)], reference.WRAPPED_KEY,
            lambda header: reference.wrapped_key_aad(header, vault, id_bytes(id_), scope), wrapped)
        own = reference.key_check(key, reference.ROW, id_bytes(id_), vault, scope)
        assert own == check, f"the key check of data key {id_} differs"
        keys[id_] = key
    return keys


def aad(organization, integration, credential_type):
    return lambda header: reference.row_aad(header, id_bytes(organization), id_bytes(integration), credential_type)


def open_all(database, keys):
    rows = {}
    for integration, organization, type_, stored, key, expires_at in database.execute(
            "SELECT i.id, i.organization_id, c.credential_type, c.credential_data_encrypted, c.encryption_key_id,"
            " c.expires_at FROM integration_credentials AS c JOIN integrations AS i ON i.id = c.integration_id"):
        header = reference.parse(stored, reference.ROW)[:reference.HEADER]
        assert header[4:20] == id_bytes(key), f"integration {integration}: header and column name different keys"
        raw = reference.open_(keys[key], reference.ROW, aad(organization, integration, type_), stored)
        fields, expires_us = reference.decode_payload(raw)
        assert expires_us == expires_at, f"integration {integration}: its column expires_at differs"
        rows[integration] = dict(credential_type=type_, fields=fields, expires_us=expires_us, key=key)
    return rows


def seal_one(database, keys, given):
    integration, type_, expires_us = given["integration_id"], given["credential_type"], given["expires_us"]
    (organization,) = database.execute(
        "SELECT organization_id FROM integrations WHERE id = ?", (integration,)).fetchone()
    (key,) = database.execute(
        "SELECT id FROM vault_data_keys WHERE state = 'active' AND (organization_id = ? OR organization_id IS NULL)"
        " ORDER BY organization_id IS NULL LIMIT 1", (organization,)).fetchone()
    payload = reference.encode_payload(given["fields"], expires_us)
    stored = reference.seal(keys[key], reference.ROW, id_bytes(key), os.urandom(24),
                            aad(organization, integration, type_), payload)
    changed = database.execute(
        "UPDATE integration_credentials SET credential_type = ?, credential_data_encrypted = ?, expires_at = ?,"
        " encryption_key_id = ? WHERE integration_id = ?", (type_, stored, expires_us, key, integration))
    assert changed.rowcount == 1, f"integration {integration} has no row"


what, file, key_file = sys.argv[1:]
database = sqlite3.connect(file, timeout=10)
keys = data_keys(database, master_keys(key_file))
if what == "open":
    print(json.dumps(dict(keys=sorted(keys), rows=open_all(database, keys))))
else:
    for given in json.load(sys.stdin):
        seal_one(database, keys, given)
    database.commit()
