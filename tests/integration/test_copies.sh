#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two copies: while three premises lose a server again and again under load, each fsync says the truth; then one
# premises is destroyed, and all that was acknowledged is there; in the end every block is everywhere.
#
# ROUNDS=2000 tests/integration/test_copies.sh: the long form, so many kills.
# time-out: 300
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

rounds=${ROUNDS:-12}
sites=(hq cloud attic)

lab_up --premises hq,cloud,attic --assign alice=hq,cloud,attic
must lab mount a "$a" -o copies=2,fsync_timeout=30

# with one server alone it cannot be met, and says so; what was written is kept and goes later
must lab kill blockd-cloud
must lab kill blockd-attic
must lab kill a TERM
must lab mount a "$a" -o copies=2,fsync_timeout=3
must_fail "timed out" dd if=/dev/zero of="$a/early" bs=4096 count=1 conv=fsync
"$top/tools/lab" steadfs "$lab" a status "$a" >"$work/status" || true
grep -q '1 of 2 block servers' "$work/status" || { cat "$work/status"; fail "status does not say what is missing"; }
must lab start blockd-cloud
must lab start blockd-attic
must lab kill a TERM
must lab mount a "$a" -o copies=2,fsync_timeout=30
settled
[ -e "$a/early" ] || fail "what could not be synced in time is gone"

# Writes files of random bytes and fsyncs them; the names and sums of those acknowledged go to $work/acked.
# Ends when $work/stop is there.
writer='
import hashlib, os, sys
top, acked, stop = sys.argv[1:]
n = failed = 0
with open(acked, "w") as log:
    while not os.path.exists(stop):
        data = os.urandom(20000 + (n * 7919) % 400000)
        name = "f%d" % n
        n += 1
        fd = os.open(top + "/" + name, os.O_CREAT | os.O_WRONLY)
        os.write(fd, data)
        try:
            os.fsync(fd)
            log.write(name + " " + hashlib.sha256(data).hexdigest() + "\n")
            log.flush()
        except OSError:
            failed += 1
        os.close(fd)
print(n, failed)
'
mkdir "$a/w"
python3 -c "$writer" "$a/w" "$work/acked" "$work/stop" >"$work/writer" 2>&1 &
children+=($!)
writer_pid=$!
acked() { [ "$(wc -l <"$work/acked")" -gt "$1" ]; }
eventually 60 test -s "$work/acked"
for ((i = 0; i < rounds; i++)); do
    site=${sites[i % 3]}
    must lab kill "blockd-$site"
    seen=$(wc -l <"$work/acked")
    eventually 60 acked $((seen + 1 + i % 3)) # two others are there: fsyncs go on
    must lab start "blockd-$site"
done
: >"$work/stop"
wait "$writer_pid" || { cat "$work/writer"; fail "the writer failed"; }
say "$(wc -l <"$work/acked") fsyncs acknowledged over $rounds kills; files and failures: $(cat "$work/writer")"

# One premises is destroyed at this moment, before anything may be repaired; the writer's mount is gone too.
must lab kill a
must lab kill blockd-hq
rm -r "$lab/blockd-hq/blocks" "$lab/blockd-hq"/index.db*
lab_mount b
while read -r name sum; do
    [ "$(sha256sum <"$b/w/$name" | cut -c 1-64)" = "$sum" ] || fail "$name was acknowledged and is lost"
done <"$work/acked"

must lab start blockd-hq
must lab start a
must lab wait --replicated --timeout 120
for site in cloud attic; do
    [ "$(lab blocks hq)" = "$(lab blocks "$site")" ] || fail "hq and $site hold different blocks"
done
passed "copies"
