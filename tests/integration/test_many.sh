#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Size of the folder and of the file do not matter: a new device mounts a namespace of many entries and lists one
# directory without fetching the tree; a small overwrite in a file of 100,000 extents moves little.
#
#   ENTRIES=1000000 tests/integration/test_many.sh      the long form (default: 100,000)
# alone: it measures
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

entries=${ENTRIES:-100000}
lab_up
lab_mount a
must lab unmount a
must "$build/tests/lib/rawclient" "$lab/clients/a" fill $((entries / 1000)) 1000
must "$build/tests/lib/rawclient" "$lab/clients/a" shred shredded 100000
before=$(traffic)
start=$(date +%s%N)
lab_mount b
ls "$b/fill/d0007" >"$work/names"
took=$((($(date +%s%N) - start) / 1000000))
same "entries of one directory" "$(wc -l <"$work/names")" 1000
moved=$(($(traffic) - before))
say "mount and ls of 1,000 of $entries entries: $took ms, $moved bytes"
[ "$moved" -lt 1000000 ] || fail "a mount and one ls moved $moved bytes"

# one 4 KiB overwrite, fsynced
same "size" "$(stat -c %s "$b/shredded")" 409600000
must cat "$b/fill/d0007/f00001"
must dd if=/dev/urandom of="$b/shredded" bs=4096 count=1 seek=50000 conv=notrunc,fsync # the file is known now
settled
before=$(traffic)
must dd if=/dev/urandom of="$b/shredded" bs=4096 count=1 seek=50003 conv=notrunc,fsync
moved=$(($(traffic) - before))
say "4 KiB overwritten and fsynced in a file of 100,000 extents: $moved bytes"
[ "$moved" -lt 65536 ] || fail "it moved $moved bytes"
passed "many: $entries entries"
