#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Damage on a block server's disk is found by scrubbing, before anybody reads it: set aside, told to the metadata
# server, and whoever brings the bytes again makes it whole.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a b
url=https://127.0.0.1:$(sed -n 's/^port_blockd-hq=//p' "$lab/config")/metrics
metric() { curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$url" | awk -v n="steadfs_blockd_$1" '$1 == n { print $2 }'; }
at_least() { [ "$(metric "$1")" -ge "$2" ]; }
id_of() { sha256sum "$1" | cut -d' ' -f1; }
log=$lab/log/blockd-hq.log

for i in 1 2 3 4 5 6; do
    random_file "$work/f$i" $((i % 2 ? 300000 : 3000))
    must cp "$work/f$i" "$a/f$i"
    must sync "$a/f$i"
done
eventually 20 cmp "$work/f6" "$b/f6"

# a file in many pieces of one block, which goes bad, too
"$build/tests/lib/rawclient" "$lab/clients/b" shred many 25000 >"$work/out" 2>&1 || { cat "$work/out"; fail "shred"; }
must lab steadfs admin admin fsck # all is well

flip() { # FILE: one bit in its middle
    local at=$(($(stat -c %s "$1") / 2)) byte
    byte=$(od -An -tu1 -j "$at" -N 1 "$1")
    # shellcheck disable=SC2059 # the byte
    printf "\\x$(printf %02x $((byte ^ 8)))" | dd of="$1" bs=1 seek="$at" conv=notrunc status=none
}
file_of() { echo "$lab"/blockd-hq/blocks/*/"$(id_of "$1")"-*; }
flip "$(file_of "$work/f1")"
truncate -s 299999 "$(file_of "$work/f3")"
rm "$(file_of "$work/f5")"
sqlite3 -cmd '.timeout 10000' "$lab/blockd-hq/index.db" "UPDATE small SET bytes = CAST(x'0000' || substr(bytes, 3) AS BLOB)
    WHERE n IN (SELECT n FROM block WHERE id = x'00$(id_of "$work/f2")' OR stored_len = 65536)" || fail "sqlite3"

passes=$(metric scrub_passes_total)
lab kill blockd-hq USR1
eventually 60 at_least scrub_passes_total $((passes + 1))
same "blocks found damaged" "$(metric corrupt_total)" 5
for i in 1 2 3 5; do
    grep -q "block $(id_of "$work/f$i") is damaged; set aside" "$log" || fail "the log does not name f$i's block"
done
same "blocks left" "$(lab blocks hq | wc -l)" 2
same "in corrupt/" "$(find "$lab/blockd-hq/corrupt" -type f | wc -l)" 4 # the fifth block was gone
eventually 20 grep -q 'told the metadata server of . lost' "$log"

# what it cost
must_fail '^5 files lack 103303000 bytes' lab steadfs admin admin fsck
for i in 1 2 3 5; do grep -q "^alice:/f$i: .* are at no block server" "$work/out" || fail "fsck does not name f$i"; done
! grep -q 'f[46]' "$work/out" || fail "fsck names what is there"
same "pieces of the shredded file" "$(sed -n 's|^alice:/many: .* in \([0-9]*\) pieces.*|\1|p' "$work/out" | awk '{ n += $1 } END { print n }')" 25000

# what is right is read as before; what is brought again is whole again
must lab unmount b
mkdir "$work/c"
lab mount c "$work/c" -o timeout=3 || fail "mount c"
must cmp "$work/f4" "$work/c/f4"
must_fail 'input/output' cat "$work/c/f1"
for i in 1 2 3 5; do
    must cp "$work/f$i" "$a/again$i"
    must sync "$a/again$i"
    eventually 30 cmp "$work/f$i" "$work/c/again$i"
    eventually 30 cmp "$work/f$i" "$work/c/f$i"
done
same "blocks in the end" "$(lab blocks hq | wc -l)" 6
passes=$(metric scrub_passes_total)
lab kill blockd-hq USR1
eventually 60 at_least scrub_passes_total $((passes + 1))
same "damaged in the end" "$(metric corrupt_total)" 5
must rm "$a/many"
must sync "$a"
must lab steadfs admin admin fsck
# set aside on what was read while the memory was bad, so to speak: it is right, and comes back without anybody who has it
must lab unmount a
must lab unmount c
flip "$(file_of "$work/f1")"
passes=$(metric scrub_passes_total)
lab kill blockd-hq USR1
eventually 60 at_least scrub_passes_total $((passes + 1))
same "damaged once more" "$(metric corrupt_total)" 6
for f in "$lab/blockd-hq/corrupt/$(id_of "$work/f1")"-*; do flip "$f"; done # one of these is right now
lab steadfs admin admin fsck --repair >"$work/out" 2>&1 # 6 or 1 while it is being brought
grep -q "1 blocks that had been set aside are right, and are here again" "$log" || fail "it is not back"
mkdir "$work/d"
lab mount d "$work/d" -o timeout=20 || fail "mount d"
must cmp "$work/f1" "$work/d/f1"
eventually 30 lab steadfs admin admin fsck
passed "scrub: 4 of 6 blocks damaged, found, set aside, brought again; what was right comes back"
