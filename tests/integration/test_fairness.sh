#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A bulk copy and an untar do not hold back another file's fsync, and a block server that stands still does not hold back a
# namespace that is not assigned to it.
# time-out: 300
# alone: it compares times
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
mib=${MIB:-400}

lab_up --premises hq,cloud
must lab steadfs admin admin unassign alice cloud
lab mount a "$a" -o dirty_max=64M || fail "mount a"
must mkdir "$a/d"
settled
status() { lab steadfs a status "$a" --json; }
pending_bytes() { status | jq '[.namespaces[].pending_bytes] | add'; }

cat >"$work/fsync.py" <<'PY'
import os, sys, time
top, n, tag = sys.argv[1], int(sys.argv[2]), sys.argv[3]
took = []
for i in range(n):
    fd = os.open('%s/%s-%d' % (top, tag, i), os.O_CREAT | os.O_RDWR, 0o644)
    os.write(fd, b'small %d' % i)
    t = time.monotonic()
    os.fsync(fd)
    took.append(time.monotonic() - t)
    os.close(fd)
took.sort()
print('%.4f %.4f' % (took[len(took) // 2], took[-1]))
PY
idle=$(python3 "$work/fsync.py" "$a/d" 50 idle) || fail "fsync"

# the bulk: uploads stand still only for want of bandwidth, so the small files must overtake them
head -c $((mib << 20)) /dev/urandom >"$work/bulk"
background cp "$work/bulk" "$a/bulk"
bulk=$!
mkdir "$work/many"
python3 - "$work/many" <<'PY'
import sys
for i in range(5000):
    open('%s/%d' % (sys.argv[1], i), 'w').write('file %d' % i)
PY
tar -C "$work" -cf "$work/many.tar" many
background tar -C "$a/d" -xf "$work/many.tar"
untar=$!
busy=$(python3 "$work/fsync.py" "$a/d" 50 busy) || fail "fsync under load"
left=$(pending_bytes)
kill -0 "$bulk" 2>/dev/null || kill -0 "$untar" 2>/dev/null || [ "$left" -gt 0 ] ||
    fail "the bulk was through first: nothing was overtaken (MIB=$mib is too little)"
wait "$bulk" "$untar" || fail "the bulk copy or the untar failed"
say "fsync of a small file, median and longest: idle $idle s, under load $busy s; $left bytes were pending still"
settled 200
must cmp "$work/bulk" "$a/bulk"

# two namespaces, two servers, one of them stands still
must lab steadfs a namespace create plans --state "$lab/clients/a"
must lab steadfs admin admin assign plans cloud
must lab steadfs admin admin unassign plans hq
must lab steadfs a namespace mount plans "$a/plans"
{ echo first >"$a/plans/first" && sync "$a/plans/first"; } || fail "sync"
lab kill blockd-cloud STOP
random_file "$work/held" 20000000
must cp "$work/held" "$a/plans/held"
for i in $(seq 20); do
    echo "goes on $i" >"$a/d/goes-$i"
    timeout 20 sync "$a/d/goes-$i" || fail "a namespace waits for another one's server"
done
[ "$(status | jq '.namespaces[] | select(.name == "plans") | .pending_files')" -gt 0 ] || fail "plans was sent to a server that stands still"
lab kill blockd-cloud CONT
settled 120
passed "fairness"
