-- Upper-case BIGINT, BYTES, TEXT and ROWLESS are rewritten for each database
-- (dialect.go). Times are microseconds since 1970 in UTC; unsigned 64-bit
-- numbers keep their bits. docs/formats/database.md explains the tables.

CREATE TABLE state (
	id          BIGINT PRIMARY KEY CHECK (id = 1),
	generation  BIGINT NOT NULL,
	audit_seq   BIGINT NOT NULL,
	audit_hash  BYTES NOT NULL
);

CREATE TABLE audit (
	seq      BIGINT PRIMARY KEY,
	made     BIGINT NOT NULL,
	actor    TEXT NOT NULL,
	action   TEXT NOT NULL,
	subject  TEXT NOT NULL,
	outcome  TEXT NOT NULL,
	detail   BYTES NOT NULL,
	prev     BYTES NOT NULL,
	hash     BYTES NOT NULL
);

CREATE TABLE challenge (
	id       BYTES PRIMARY KEY,
	expires  BIGINT NOT NULL
) ROWLESS;
CREATE INDEX challenge_expires ON challenge (expires);

CREATE TABLE appraisal (
	id              TEXT PRIMARY KEY,
	made            BIGINT NOT NULL,
	kind            TEXT NOT NULL,
	attester        TEXT NOT NULL,
	machine         TEXT NOT NULL,
	verdict         BIGINT NOT NULL,
	policy          TEXT NOT NULL,
	policy_version  BIGINT NOT NULL,
	evidence        BYTES NOT NULL,
	token_id        TEXT NOT NULL,
	findings        BYTES NOT NULL
) ROWLESS;
CREATE INDEX appraisal_attester ON appraisal (attester, id);
CREATE INDEX appraisal_machine ON appraisal (machine, id);
CREATE INDEX appraisal_verdict ON appraisal (verdict, id);

CREATE TABLE evidence (
	digest  BYTES PRIMARY KEY,
	size    BIGINT NOT NULL,
	recipe  BYTES NOT NULL
);

CREATE TABLE evidence_part (
	digest  BYTES PRIMARY KEY,
	body    BYTES NOT NULL
);

CREATE TABLE policy (
	name     TEXT NOT NULL,
	version  BIGINT NOT NULL,
	body     BYTES NOT NULL,
	digest   TEXT NOT NULL,
	author   TEXT NOT NULL,
	made     BIGINT NOT NULL,
	comment  TEXT NOT NULL,
	PRIMARY KEY (name, version)
);

CREATE TABLE reference_value (
	name      TEXT NOT NULL,
	version   BIGINT NOT NULL,
	baseline  BYTES NOT NULL,
	author    TEXT NOT NULL,
	made      BIGINT NOT NULL,
	PRIMARY KEY (name, version)
);

CREATE TABLE anchor (
	id        TEXT PRIMARY KEY,
	kind      TEXT NOT NULL,
	name      TEXT NOT NULL,
	der       BYTES NOT NULL,
	added     BIGINT NOT NULL,
	added_by  TEXT NOT NULL
);

CREATE TABLE signing_key (
	id           TEXT PRIMARY KEY,
	alg          TEXT NOT NULL,
	sealed       BYTES NOT NULL,
	certificate  BYTES NOT NULL,
	not_before   BIGINT NOT NULL,
	not_after    BIGINT NOT NULL
);

CREATE TABLE attester (
	ak_name    TEXT PRIMARY KEY,
	machine    TEXT NOT NULL,
	ak_public  BYTES NOT NULL,
	ek_public  BYTES NOT NULL,
	proof      TEXT NOT NULL,
	baseline   TEXT NOT NULL,
	added      BIGINT NOT NULL,
	added_by   TEXT NOT NULL,
	removed    BIGINT NOT NULL
);
CREATE UNIQUE INDEX attester_machine ON attester (machine) WHERE removed = 0;

-- What each attestation changes, apart from the keys that none does.
CREATE TABLE attester_state (
	ak_name        TEXT PRIMARY KEY,
	revision       BIGINT NOT NULL,
	seen           BIGINT NOT NULL,
	clock          BIGINT NOT NULL,
	reset_count    BIGINT NOT NULL,
	restart_count  BIGINT NOT NULL,
	safe           BIGINT NOT NULL
) ROWLESS;

CREATE TABLE enrolment (
	id           TEXT PRIMARY KEY,
	machine      TEXT NOT NULL,
	ak_public    BYTES NOT NULL,
	ek_public    BYTES NOT NULL,
	baseline     TEXT NOT NULL,
	secret_hash  BYTES NOT NULL,
	added_by     TEXT NOT NULL,
	expires      BIGINT NOT NULL
);

CREATE TABLE principal (
	name         TEXT PRIMARY KEY,
	roles        BYTES NOT NULL,
	permissions  BYTES NOT NULL,
	token_hash   BYTES UNIQUE,
	token_tail   TEXT NOT NULL,
	certificate  BYTES UNIQUE,
	added        BIGINT NOT NULL,
	added_by     TEXT NOT NULL,
	expires      BIGINT NOT NULL
);
