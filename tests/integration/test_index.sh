#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block server whose index is gone, or is an older copy, removes no block on its word and says what is the matter;
# with the right one back it serves all of them again. One that is damaged is refused with the remedy. Without a right
# one it is made again from the files.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a
data=$lab/blockd-hq
swap() { # FROM TO: the index with its log
    local part
    for part in '' -wal -shm; do
        rm -f "$2$part"
        [ ! -e "$1$part" ] || mv "$1$part" "$2$part"
    done
}
files() { find "$data/blocks" -type f | wc -l; }
warned() { grep -c "WARN.*files of blocks are not in .*index.db, which is $1" "$lab/log/blockd-hq.log"; }

random_file "$a/old" 300000 # one block, in a file
must lab wait
must lab kill blockd-hq
mkdir "$work/copy"
cp "$data"/index.db* "$work/copy"
must lab start blockd-hq
random_file "$a/new" 300000
must lab wait
for f in old new; do must cp "$a/$f" "$work/$f"; done
must lab unmount a
must lab kill blockd-hq
before=$(files)
[ "$before" -ge 2 ] || fail "only $before files"
lab blocks hq >"$work/blocks"

# gone
mkdir "$work/right"
swap "$data/index.db" "$work/right/index.db"
must lab start blockd-hq
same "files without the index" "$(files)" "$before"
same "lines about it" "$(warned new)" 1
must lab kill blockd-hq
# an older copy
swap "$work/copy/index.db" "$data/index.db"
must lab start blockd-hq
same "files with an older index" "$(files)" "$before"
same "lines about it" "$(warned 'an older copy')" 1
must lab kill blockd-hq
# damaged
swap "$data/index.db" "$work/copy/index.db"
head -c 8192 /dev/urandom >"$data/index.db"
must_fail 'put back a whole copy' lab start blockd-hq
same "files with a damaged index" "$(files)" "$before"
# the right one
swap "$work/right/index.db" "$data/index.db"
must lab start blockd-hq
same "blocks" "$(lab blocks hq)" "$(cat "$work/blocks")"
same "files set aside" "$(find "$data/corrupt" -type f | wc -l)" 0

# made again from the files: what is read again is what was there (nobody else has it)
must lab kill blockd-hq
rm -f "$data"/index.db*
must "$build/tools/blockd/steadfs-blockd" --data "$data" --reindex
grep -q "^[1-9][0-9]* blocks with .* were taken in; 0 files are not" "$work/out" || fail "reindex: $(tail -n 1 "$work/out")"
must lab start blockd-hq
same "lines about it after a reindex" "$(grep -c 'files of blocks are not in' "$lab/log/blockd-hq.log")" 2
lab mount b "$b" -o timeout=5 || fail "mount b"
for f in old new; do eventually 30 cmp "$work/$f" "$b/$f"; done
eventually 30 lab steadfs admin admin fsck
must lab kill blockd-hq
must_fail 'was not compared' "$build/tools/blockd/steadfs-blockd" --data "$data" --drop-unclaimed
passed "index: $before files stay, and are read again without the index that was lost"
