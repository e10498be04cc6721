#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The main job with the blocks in an object store (Ceph's radosgw): written, fsynced, read elsewhere; killed
# servers, a store that is away or full, an index that is gone.
# time-out: 400
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

# Installed by `tools/deps s3`, which tools/check does for its suite s3.
command -v radosgw >/dev/null || { "$top/tools/deps" s3 >/dev/null 2>&1 || fail "radosgw cannot be installed"; }

store() { "$top/tools/s3engine" "$1" "$lab/s3" "${@:2}" >"$work/out" 2>&1 || { cat "$work/out"; fail "s3engine $*"; }; }
stored() { lab blocks hq | wc -l; }
hash_of() { sha256sum "$1" | cut -d' ' -f1; }

lab_up --blocks s3
lab mount a "$a" -o fsync_timeout=12 || fail "mount a"
lab_mount b

# the main job: durable when fsync returns, seen elsewhere, exactly these blocks
random_file "$work/large" 9000000
must cp "$work/large" "$a/large"
must sync "$a/large"
eventually 30 cmp "$work/large" "$b/large"
echo small >"$a/small"
must sync "$a/small"
lab blocks hq | grep -q "^$(hash_of "$a/small") 6\$" || fail "the small file's block is not listed"
same "bytes listed" "$(lab blocks hq | awk '{ n += $2 } END { print n }')" 9000006
before=$(put_bytes hq)
printf X | dd of="$a/large" bs=1 seek=5000000 conv=notrunc status=none
must sync "$a/large"
[ $(($(put_bytes hq) - before)) -le 9000 ] || fail "a byte changed, $(($(put_bytes hq) - before)) sent"

# killed while it stores: what was acknowledged is there
for i in 1 2 3; do
    random_file "$work/f$i" 2000000
    cp "$work/f$i" "$a/f$i" &
    copier=$!
    lab kill blockd-hq || fail "kill"
    wait "$copier"
    lab start blockd-hq || fail "start"
    must sync "$a/f$i"
    eventually 30 cmp "$work/f$i" "$b/f$i"
done

# the store is away: an error that says so in time, nothing counts as lost, and later it is there
store stop
echo away >"$a/away"
must_fail 'time|input/output' sync "$a/away"
store start
eventually 40 sync "$a/away"
eventually 30 grep -qx away "$b/away"
url=https://127.0.0.1:$(sed -n 's/^port_blockd-hq=//p' "$lab/config")/metrics
curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$url" | grep -qx 'steadfs_blockd_corrupt_total 0' || fail "a store that was away was taken for damaged blocks"

# the index is a cache
listed=$(lab blocks hq)
lab kill blockd-hq || fail "kill"
rm -r "$lab/blockd-hq/s3"
lab start blockd-hq || fail "start without an index"
same "blocks after the index was made again" "$(lab blocks hq)" "$listed"
must lab unmount b
must mkdir -p "$work/c"
lab mount c "$work/c" || fail "mount c" # a device without anything at hand
for i in 1 2 3; do must cmp "$work/f$i" "$work/c/f$i"; done
must cmp "$a/large" "$work/c/large"

# full: told as such, and goes on when there is room
store quota "$(stored)"
head -c 3000 /dev/urandom >"$a/full"
must_fail 'no space|timed out' sync "$a/full"
"$build/tools/steadfs/steadfs" status "$a" >"$work/out"
grep -qi 'full\|space' "$work/out" || { cat "$work/out"; fail "status does not say that the store is full"; }
store quota -1
eventually 60 sync "$a/full"

# all down, all up
same "blocks" "$(lab blocks hq | grep -c "^$(hash_of "$a/full") 3000\$")" 1
listed=$(lab blocks hq)
"$top/tools/lab" down "$lab" || fail "down"
lab_up
same "blocks after all was down" "$(lab blocks hq)" "$listed"
lab mount c "$work/c" || fail "mount c again"
must cmp "$work/f3" "$work/c/f3"
passed "s3: $(stored) blocks in the store"
