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
    WHERE n = (SELECT n FROM block WHERE id = x'00$(id_of "$work/f2")')" || fail "sqlite3"

passes=$(metric scrub_passes_total)
lab kill blockd-hq USR1
eventually 60 at_least scrub_passes_total $((passes + 1))
same "blocks found damaged" "$(metric corrupt_total)" 4
for i in 1 2 3 5; do
    grep -q "block $(id_of "$work/f$i") is damaged; set aside" "$log" || fail "the log does not name f$i's block"
done
same "blocks left" "$(lab blocks hq | wc -l)" 2
same "in corrupt/" "$(find "$lab/blockd-hq/corrupt" -type f | wc -l)" 3 # the fourth file was gone
eventually 20 grep -q 'told the metadata server of . lost' "$log"

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
same "damaged in the end" "$(metric corrupt_total)" 4
passed "scrub: 4 of 6 blocks damaged, found, set aside, brought again"
