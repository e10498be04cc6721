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
must lab mount a "$a" # one copy is enough for it
random_file "$work/old" 500000 # one block
must cp "$work/old" "$a/old"
must sync "$a/old"
must lab kill a TERM
must lab mount a "$a" -o copies=2,fsync_timeout=3
# a clone has the blocks of a file that is at one server: they count, too
must cp "$a/old" "$a/clone"
must_fail "timed out" sync "$a/clone"
must_fail "timed out" dd if=/dev/zero of="$a/early" bs=4096 count=1 conv=fsync
"$top/tools/lab" steadfs "$lab" a status "$a" >"$work/status" || true
grep -q '1 of 2 block servers' "$work/status" || { cat "$work/status"; fail "status does not say what is missing"; }
grep -q '2 blocks on their way have too few copies yet: 1 of 2 reached' "$work/status" ||
    { cat "$work/status"; fail "status does not say how many copies were reached"; }
must lab start blockd-cloud
must lab start blockd-attic
must lab kill a TERM
must lab mount a "$a" -o copies=2,fsync_timeout=30
settled
[ -e "$a/early" ] || fail "what could not be synced in time is gone"
must sync "$a/clone"
sites_of() { lab blocks cloud | cat - <(lab blocks attic) | grep -c "$1"; }
while read -r id _; do
    [ "$(sites_of "$id")" -ge 1 ] || fail "a block of the clone is at one server only"
done < <(sqlite3 -cmd '.timeout 10000' "$lab/metad/meta.db" "SELECT lower(substr(hex(block), 3)) FROM extent
    JOIN entry ON entry.node = extent.node WHERE name = CAST('clone' AS BLOB)")
must cmp "$work/old" "$a/clone"

# Writes files of random bytes and fsyncs them; the names and sums of those acknowledged go to $work/acked, of the
# others to $work/failed. Ends when $work/stop is there.
writer='
import hashlib, os, sys
top, acked, stop, refused = sys.argv[1:]
n = failed = 0
with open(acked, "w") as log, open(refused, "w") as bad:
    while not os.path.exists(stop):
        data = os.urandom(20000 + (n * 7919) % 400000)
        name = "f%d" % n
        n += 1
        fd = os.open(top + "/" + name, os.O_CREAT | os.O_WRONLY)
        os.write(fd, data)
        line = name + " " + hashlib.sha256(data).hexdigest() + "\n"
        try:
            os.fsync(fd)
            log.write(line)
            log.flush()
        except OSError:
            bad.write(line)
            bad.flush()
            failed += 1
        os.close(fd)
print(n, failed)
'
mkdir "$a/w"
# Reads what was acknowledged, on another device, each file once: one of its two servers is always there.
reader='
import hashlib, os, sys, time
top, acked, stop = sys.argv[1:]
n = 0
with open(acked) as log:
    while True:
        line = log.readline()
        if not line.endswith("\n"):
            if os.path.exists(stop):
                break
            log.seek(log.tell() - len(line))
            time.sleep(0.02)
            continue
        name, digest = line.split()
        for attempt in range(500): # the name comes with the journal
            if os.path.exists(top + "/" + name):
                break
            time.sleep(0.02)
        with open(top + "/" + name, "rb") as f:
            if hashlib.sha256(f.read()).hexdigest() != digest:
                sys.exit(name + " has other content")
        n += 1
print(n)
'
lab_mount b
python3 -c "$writer" "$a/w" "$work/acked" "$work/stop" "$work/failed" >"$work/writer" 2>&1 &
children+=($!)
writer_pid=$!
acked() { [ "$(wc -l <"$work/acked")" -gt "$1" ]; }
eventually 60 test -s "$work/acked"
python3 -c "$reader" "$b/w" "$work/acked" "$work/written" >"$work/reader" 2>&1 &
children+=($!)
reader_pid=$!
for ((i = 0; i < rounds; i++)); do
    site=${sites[i % 3]}
    must lab kill "blockd-$site"
    seen=$(wc -l <"$work/acked")
    eventually 60 acked $((seen + 1 + i % 3)) # two others are there: fsyncs go on
    must lab start "blockd-$site"
done
: >"$work/stop"
wait "$writer_pid" || { cat "$work/writer"; fail "the writer failed"; }
: >"$work/written"
wait "$reader_pid" || { cat "$work/reader"; fail "a read failed or was wrong"; }
same "files read during the kills" "$(cat "$work/reader")" "$(wc -l <"$work/acked")"
say "$(wc -l <"$work/acked") fsyncs acknowledged over $rounds kills; files and failures: $(cat "$work/writer")"

# One premises is destroyed at this moment, before anything may be repaired; the writer's mount is gone too, and what
# the reader's had fetched.
lost=${sites[$(($(wc -l <"$work/acked") % 3))]}
must lab kill a
must lab kill b
must lab kill "blockd-$lost"
rm -r "$lab/blockd-$lost/blocks" "$lab/blockd-$lost"/index.db* "$lab/clients/b/blocks"
must lab start b
while read -r name sum; do
    [ "$(sha256sum <"$b/w/$name" | cut -c 1-64)" = "$sum" ] || fail "$name was acknowledged and is lost"
done <"$work/acked"

must lab start "blockd-$lost"
must lab start a
must lab wait --replicated --timeout 120
while read -r name sum; do # what was not acknowledged was kept, and is there now
    [ "$(sha256sum <"$b/w/$name" | cut -c 1-64)" = "$sum" ] || fail "$name, whose fsync failed, is lost"
done <"$work/failed"
same "what is anywhere not" "$(lab steadfs admin admin where alice --copies 3 --json | jq -c '[.too_few_bytes, .nowhere_bytes]')" '[0,0]'
for site in cloud attic; do
    [ "$(lab blocks hq)" = "$(lab blocks "$site")" ] || fail "hq and $site hold different blocks"
done
passed "copies"
