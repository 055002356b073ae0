-- The roles of a vault, made by an administrator before `credvault init`. Each then needs a way to log in, such as psql's
-- `\password`. Where the tables were there before the vault, their owner stays who it is, and takes the part of credvault_owner.

-- Owns the tables: `credvault init`, `migrate`, `rewrap`, `adopt`, `keys create` and `destroy`.
CREATE ROLE credvault_owner LOGIN;
-- A service with a vault.
CREATE ROLE credvault_service LOGIN;
-- `credvault rotate`, `keys compromise` and `quarantine retry`.
CREATE ROLE credvault_rotator LOGIN;
-- `credvault status`, `verify` and `quarantine list`; and all that only reads.
CREATE ROLE credvault_reader LOGIN;

CREATE SCHEMA IF NOT EXISTS public;
ALTER ROLE credvault_owner SET search_path TO public;
ALTER ROLE credvault_service SET search_path TO public;
ALTER ROLE credvault_rotator SET search_path TO public;
ALTER ROLE credvault_reader SET search_path TO public;
GRANT USAGE, CREATE ON SCHEMA public TO credvault_owner;
GRANT USAGE ON SCHEMA public TO credvault_service, credvault_rotator, credvault_reader;
