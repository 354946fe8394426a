-- Custom roles, and roles that a principal has on some instances only (JSON, as roles
-- and permissions are). NULL is none: rows that a program wrote which did not know it.

CREATE TABLE custom_role (
	name         TEXT PRIMARY KEY,
	meaning      TEXT NOT NULL,
	permissions  BYTES NOT NULL,
	changed      BIGINT NOT NULL,
	changed_by   TEXT NOT NULL
);
ALTER TABLE principal ADD COLUMN bindings BYTES;
