-- The roles of the scheduled jobs, with the least that each needs. The owner of the tables runs it after `credvault init`,
-- and the GRANTs again after an upgrade that changes them. Then give each role a way to log in, such as psql's `\password`.

-- `credvault rotate`: makes and switches data keys, and changes nothing of a credential but its sealed text and its key.
CREATE ROLE credvault_rotate LOGIN;
GRANT SELECT
   ON integrations, integration_credentials, vault_identity, vault_master_keys
   TO credvault_rotate;
GRANT UPDATE (credential_data_encrypted, encryption_key_id)
   ON integration_credentials
   TO credvault_rotate;
-- Nothing of it is changed: who locks a row, here against a rewrap, needs the right to change a column of it, and this one
-- only orders lists.
GRANT UPDATE (created_at)
   ON vault_master_keys
   TO credvault_rotate;
GRANT SELECT, INSERT, UPDATE
   ON vault_data_keys, vault_rotation_runs
   TO credvault_rotate;
GRANT SELECT, INSERT
   ON vault_key_material
   TO credvault_rotate;
GRANT SELECT, INSERT, UPDATE, DELETE
   ON vault_quarantine
   TO credvault_rotate;

-- `credvault status`, `verify` and `quarantine list`: reads.
CREATE ROLE credvault_status LOGIN;
GRANT SELECT
   ON integrations, integration_credentials, vault_identity, vault_master_keys, vault_data_keys, vault_key_material,
      vault_rotation_runs, vault_quarantine
   TO credvault_status;
