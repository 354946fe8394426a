-- SHA-256 over the public key of an attester (attest.KeyDigest), NULL where a
-- program that did not know the column wrote the row: keys.go fills it in.

ALTER TABLE attester ADD COLUMN key_digest BYTES;
CREATE INDEX attester_key ON attester (key_digest);
