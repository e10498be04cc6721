-- SPDX-License-Identifier: Apache-2.0
-- Migration 12: which public keys a block server may show to who connects to it.

-- SHA-256 of keys (SubjectPublicKeyInfo, DER). pin: the one it joined with, or was given since; NULL for
-- one that joined before this migration, until it tells. pin_next: the one that is to follow, good beside
-- it; NULL: none. shown: what it last said that it shows. rekey_ms: 0, or when another key was ordered,
-- and with pin_next when that came; rekey_overlap_ms later pin_next is to be shown.
ALTER TABLE server ADD COLUMN pin BLOB;
ALTER TABLE server ADD COLUMN pin_next BLOB;
ALTER TABLE server ADD COLUMN shown BLOB;
ALTER TABLE server ADD COLUMN rekey_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE server ADD COLUMN rekey_overlap_ms INTEGER NOT NULL DEFAULT 0;
