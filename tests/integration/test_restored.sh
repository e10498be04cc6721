#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block server whose storage is put back from a backup, and one that runs twice: an fsync that returns 0 tells of
# bytes that are there, from the first beat on, with no comparison in between.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq
lab_mount a
logged() { grep -q -- "$1" "$2"; }
has() { lab blocks hq | grep -q "^$(sha256sum <"$work/$1" | cut -d' ' -f1) $(stat -c %s "$work/$1")\$"; } # as one block
fsynced() { must dd if="$work/$1" of="$2" bs=1M conv=fsync; }
backup() { rm -rf "$work/backup" && must cp -a "$lab/blockd-hq" "$work/backup"; }

echo first >"$a/first"
lab wait || fail "not settled"
must lab kill blockd-hq
backup
must lab start blockd-hq
random_file "$work/x" 500000 # too small to be cut: one block, as y
fsynced x "$a/x"
has x || fail "fsynced, and not at the block server"
must lab unmount a
must lab kill blockd-hq
rm -r "$lab/blockd-hq"
must cp -a "$work/backup" "$lab/blockd-hq"
must lab start blockd-hq
eventually 20 logged "this storage was set back" "$lab/log/blockd-hq.log"
! has x || fail "the backup has what was written after it"

# a device with nothing cached writes the same bytes: they are uploaded, not believed to be there
lab_mount b
fsynced x "$b/again"
has x || fail "fsynced, and not at the block server that was put back"
must lab unmount b
rm -r "$lab/clients/b/blocks"
lab_mount b
must cmp "$work/x" "$b/again"
must cmp "$work/x" "$b/x"
must lab steadfs admin admin fsck
[ "$(cat "$b/first")" = first ] || fail "what the backup had is not told"

# a restart alone takes nothing away
must lab kill blockd-hq
must lab start blockd-hq
fsynced x "$b/third"
has x || fail "gone with a restart"
must lab steadfs admin admin fsck
same "times set back" "$(grep -c "this storage was set back" "$lab/log/blockd-hq.log")" 1

# a copy of its directory is started beside it: the first one stores nothing more, until the copy is stopped
must lab unmount b
must lab kill blockd-hq
backup
must lab start blockd-hq
"$build/tools/blockd/steadfs-blockd" --data "$work/backup" --listen 127.0.0.1:0 --log "$work/copy.log" &
copy=$!
children+=("$copy")
eventually 20 logged "another process runs" "$lab/log/blockd-hq.log"
kill "$copy"
wait "$copy"
must lab kill blockd-hq
must lab start blockd-hq
set_back() { [ "$(grep -c "this storage was set back" "$lab/log/blockd-hq.log")" = 2 ]; }
eventually 20 set_back
lab_mount b
random_file "$work/y" 400000
fsynced y "$b/y"
has x || fail "gone with the copy"
has y || fail "fsynced, and not where the copy ran"
must cmp "$work/x" "$b/x"
must lab steadfs admin admin fsck
passed "restored: nothing that a backup lacks was acknowledged; of two processes the later one counted"
