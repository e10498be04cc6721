#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A tree copied in arrives whole on another device; what is known already is not sent again, and a small change
# costs what it is, whatever the file's size or the number of its extents.
# BIG_MIB: size of the big file (1024 in the long form). EXTENTS: of the fragmented one (100000 in the long form)
# time-out: 400
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
big_mib=${BIG_MIB:-256}
extents=${EXTENTS:-2000}

lab_up
lab_mount a
must cp -a /usr/include "$a/include"
settled
lab steadfs a status "$a" --json | jq -e \
    '[.namespaces[] | select(.pending_files != 0 or .pending_bytes != 0 or .conflicts != 0)] == []' \
    >"$work/status" || fail "status tells of pending work: $(cat "$work/status")"
same_tree /usr/include "$a/include" files
lab_mount b
same_tree "$a" "$b"

# the same bytes, written again at another pace: no block is sent
random_file "$work/bytes" $((40 << 20))
must dd if="$work/bytes" of="$a/first" bs=1M
settled
before=$(put_bytes hq)
must dd if="$work/bytes" of="$a/second" bs=37123
must dd if=/usr/include/stdio.h of="$a/stdio-again" bs=511
settled
must cmp "$work/bytes" "$b/second"
same "put_bytes after writing known bytes" "$(put_bytes hq)" "$before"

# moved COMMAND…: bytes on the wire while it runs and until it is settled
moved() {
    local from
    from=$(traffic)
    must "$@"
    echo $(($(traffic) - from))
}
poke() { # FILE OFFSET BYTES: in place, and fsynced
    dd if=/dev/urandom of="$1" bs="$3" count=1 seek="$2" oflag=seek_bytes conv=notrunc,fsync
}

must dd if=/dev/urandom of="$a/big" bs=1M count="$big_mib" conv=fsync
settled
n=$(moved poke "$a/big" $(((big_mib << 19) + 12345)) 1)
say "one byte in $big_mib MiB, fsynced: $n bytes moved"
[ "$n" -lt 65536 ] || fail "one byte changed in the middle moved $n bytes"
settled
must cmp "$a/big" "$b/big"

# a file of many extents: one page in every second one
python3 - "$a/big" "$extents" <<'PY' || fail "fragmenting"
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY)
for i in range(int(sys.argv[2]) // 2):
    os.pwrite(fd, os.urandom(512), i * 8192)
os.fsync(fd)
os.close(fd)
PY
settled 120
n=$(moved poke "$a/big" $((4096 * 301)) 4096)
say "4 KiB in a file of $extents extents, fsynced: $n bytes moved"
[ "$n" -lt 65536 ] || fail "4 KiB in a file of many extents moved $n bytes"
settled
must cmp "$a/big" "$b/big"
passed "a tree, sent once"
