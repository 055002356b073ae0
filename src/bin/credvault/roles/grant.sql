-- What the roles may do, granted by the owner of the tables after `credvault init`, and again after an upgrade.
SET search_path TO public;

-- The service puts, gets and deletes credentials, and sees no more of a key than who reads a backup does. It makes, moves and
-- keeps integrations, and deletes none.
GRANT SELECT, INSERT, UPDATE, DELETE
   ON integration_credentials
   TO credvault_service;
GRANT SELECT, INSERT, UPDATE
   ON integrations
   TO credvault_service;
GRANT SELECT
   ON vault_identity, vault_master_keys, vault_data_keys, vault_key_material
   TO credvault_service;

-- The rotator makes and switches data keys, and changes nothing of a credential but its sealed text and its key.
GRANT SELECT
   ON integrations, integration_credentials, vault_identity, vault_master_keys
   TO credvault_rotator;
GRANT UPDATE (credential_data_encrypted, encryption_key_id)
   ON integration_credentials
   TO credvault_rotator;
-- Nothing of it is changed: who locks a row, here against a rewrap, needs the right to change a column of it, and this one
-- only orders lists.
GRANT UPDATE (created_at)
   ON vault_master_keys
   TO credvault_rotator;
-- Of a key that is there it writes the state, its times but that of destruction, and the run that waits for older
-- transactions; never whose key it is, or its check.
GRANT SELECT, INSERT, UPDATE (state, activated_at, deactivated_at, compromised_at, unused_since, drain_run_id)
   ON vault_data_keys
   TO credvault_rotator;
GRANT SELECT, INSERT, UPDATE
   ON vault_rotation_runs
   TO credvault_rotator;
GRANT SELECT, INSERT
   ON vault_key_material
   TO credvault_rotator;
GRANT SELECT, INSERT, UPDATE, DELETE
   ON vault_quarantine
   TO credvault_rotator;

-- The reader writes nothing.
GRANT SELECT
   ON integrations, integration_credentials, vault_identity, vault_master_keys, vault_data_keys, vault_key_material,
      vault_rotation_runs, vault_quarantine
   TO credvault_reader;
