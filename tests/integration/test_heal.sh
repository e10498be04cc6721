#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# With two premises, damage at one heals by itself: found by scrubbing or by a read, set aside, told, and brought
# again by the other block server. No client has to do anything. So does a block that is not there at all, found by a read.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud
lab_mount a
metric() { # PREMISES NAME
    local url
    url=https://127.0.0.1:$(sed -n "s/^port_blockd-$1=//p" "$lab/config")/metrics
    curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$url" | awk -v n="steadfs_blockd_$2" '$1 == n { print $2 }'
}
at_least() { [ "$(metric "$1" "$2")" -ge "$3" ]; }
id_of() { sha256sum "$1" | cut -d' ' -f1; }
alike() { [ "$(lab blocks hq)" = "$(lab blocks cloud)" ] && [ "$(lab blocks hq | wc -l)" -ge "$1" ]; }
file_of() { echo "$lab/blockd-$1"/blocks/*/"$(id_of "$2")"-*; }
damage() { # FILE: its first bytes
    printf 'damaged' | dd of="$1" conv=notrunc status=none
}

for i in 1 2 3 4; do
    random_file "$work/f$i" 300000
    must cp "$work/f$i" "$a/f$i"
done
random_file "$work/small" 3000
must cp "$work/small" "$a/small"
lab wait --replicated || fail "not replicated"
alike 5 || fail "the servers differ"
must lab unmount a # nobody is there who could bring anything

damage "$(file_of hq "$work/f1")"
truncate -s 1000 "$(file_of hq "$work/f2")"
rm "$(file_of hq "$work/f3")"
damage "$(file_of cloud "$work/f4")"
sqlite3 -cmd '.timeout 10000' "$lab/blockd-hq/index.db" "UPDATE small SET bytes = CAST(x'0000' || substr(bytes, 3) AS BLOB)
    WHERE n = (SELECT n FROM block WHERE id = x'00$(id_of "$work/small")')" || fail "sqlite3"
for p in hq cloud; do
    passes=$(metric "$p" scrub_passes_total)
    lab kill "blockd-$p" USR1
    eventually 60 at_least "$p" scrub_passes_total $((passes + 1))
done
same "damaged at hq" "$(metric hq corrupt_total)" 4
same "damaged at cloud" "$(metric cloud corrupt_total)" 1
eventually 90 alike 5
lab wait --replicated || fail "not whole again"
must lab steadfs admin admin fsck
for p in hq cloud; do
    passes=$(metric "$p" scrub_passes_total)
    lab kill "blockd-$p" USR1
    eventually 60 at_least "$p" scrub_passes_total $((passes + 1))
done
same "damaged after it healed" "$(metric hq corrupt_total) $(metric cloud corrupt_total)" "4 1"

# a read that finds damage gets the bytes elsewhere, and heals it, too
damage "$(file_of hq "$work/f1")"
lab_mount b
must cmp "$work/f1" "$b/f1"
same "damaged, by a read" "$(metric hq corrupt_total)" 5
eventually 90 alike 5
for i in 1 2 3 4; do must cmp "$work/f$i" "$b/f$i"; done
must cmp "$work/small" "$b/small"

# one that is recorded there, and of which the server knows nothing: a read finds that out, and it is brought again
file=$(file_of hq "$work/f2")
must lab kill blockd-hq
rm "$file"
sqlite3 -cmd '.timeout 10000' "$lab/blockd-hq/index.db" "CREATE TEMP TABLE x AS SELECT n FROM block WHERE id = x'00$(id_of "$work/f2")';
    DELETE FROM held WHERE n IN x; DELETE FROM block WHERE n IN x" || fail "sqlite3"
same "blocks at hq" "$(lab blocks hq | wc -l)" 4
must lab start blockd-hq
lab mount c "$a" -o prefer=hq || fail "mount c"
must cmp "$work/f2" "$a/f2"
eventually 30 alike 5
grep -q "1 blocks that somebody was sent here for are not here" "$lab/log/blockd-hq.log" || fail "it was not told"
passed "heal: 7 blocks damaged at two premises, whole again"
