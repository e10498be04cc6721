#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Block servers compare what they have with what is recorded of it: a disk that was put back to an older state, records
# that were lost, uploads that nobody committed, and what a namespace left behind that went to other servers.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud --gc-grace 2
lab_mount a
metric() { # PREMISES NAME
    local url
    url=https://127.0.0.1:$(sed -n "s/^port_blockd-$1=//p" "$lab/config")/metrics
    curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$url" | awk -v n="steadfs_blockd_$2" '$1 == n { print $2 }'
}
at_least() { [ "$(metric "$1" "$2")" -ge "$3" ]; }
compare() { # PREMISES: a whole comparison, from now on
    local passes
    passes=$(metric "$1" collected_passes_total)
    must lab kill "blockd-$1" USR1
    eventually 30 at_least "$1" collected_passes_total $((passes + 1))
}
count() { lab blocks "$1" | wc -l; }
has_n() { [ "$(count "$1")" = "$2" ]; }
nudged() { # PREMISES N: it has so many blocks, or compares again
    has_n "$@" || { lab kill "blockd-$1" USR1 && return 1; }
}
sql() { sqlite3 -cmd '.timeout 10000' "$@" || fail "sqlite3"; }

for i in 1 2 3 4 5 6; do
    random_file "$work/f$i" $((i % 2 ? 300000 : 3000))
    must cp "$work/f$i" "$a/f$i"
done
lab wait --replicated || fail "not replicated"
same "blocks" "$(count hq) $(count cloud)" "6 6"
must lab unmount a

# a disk from a backup lacks what was stored since, and does not know
must lab kill blockd-hq
sql "$lab/blockd-hq/index.db" "DELETE FROM small WHERE n IN (SELECT n FROM block WHERE n <= 3);
    DELETE FROM held WHERE n <= 3; DELETE FROM block WHERE n <= 3;"
# the metadata server's records of the other are lost
must lab kill metad
sql "$lab/metad/meta.db" "DELETE FROM presence WHERE server = 2"
must lab start metad
must lab start blockd-hq
same "blocks of the backup" "$(count hq)" 3
compare hq
compare cloud
same "not there, announced" "$(metric hq collected_not_here_total) $(metric cloud collected_announced_total)" "3 6"
lab wait --replicated || fail "not whole again"
same "blocks again" "$(count hq) $(count cloud)" "6 6"
must lab steadfs admin admin fsck

# uploads that nobody commits: they stay for the grace time, and go then
: >"$work/ledger"
"$build/tests/lib/rawclient" "$lab/clients/a" store "$work/ledger" "$work/stop" >"$work/storing" 2>&1 &
storing=$!
children+=("$storing")
some() { [ "$(wc -l <"$work/ledger")" -gt 5 ]; }
eventually 20 some
: >"$work/stop"
wait "$storing" || fail "rawclient store"
[ "$(count hq)" -gt 6 ] || fail "nothing was uploaded"
eventually 60 nudged hq 6

# what left a server goes from there
must lab steadfs admin admin unassign alice cloud
eventually 60 nudged cloud 0
lab_mount b
for i in 1 2 3 4 5 6; do must cmp "$work/f$i" "$b/f$i"; done
must lab steadfs admin admin fsck
passed "inventory: 3 blocks of an old disk, 6 records, uploads of nobody and a namespace that left"
