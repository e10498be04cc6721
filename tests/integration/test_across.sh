#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Copying and moving between namespaces: where they share a block server it is asked to have the blocks for both, and no
# content travels; a file that was overwritten in places and one with holes arrive as they are; what has not been sent
# yet, or what no server shares, is copied byte by byte. A kill right after loses nothing.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud --assign alice=hq
lab_mount a
must lab steadfs a namespace create plans
must lab steadfs admin admin assign plans hq
must lab steadfs a namespace create elsewhere
must lab steadfs admin admin assign elsewhere cloud
must lab steadfs admin admin unassign elsewhere hq
must lab steadfs a namespace mount plans "$a/plans"
must lab steadfs a namespace mount elsewhere "$a/elsewhere"
eventually 20 test -d "$a/plans" -a -d "$a/elsewhere"

mkdir "$a/tree"
random_file "$a/tree/big" $((12 << 20))
random_file "$a/tree/small" 1000
settled
must dd if=/dev/urandom of="$a/tree/big" bs=100 count=3 seek=5000000 oflag=seek_bytes conv=notrunc
# cp and mv read and write what has holes; programs that ask for a copy of a range have it linked
random_file "$a/holes" $((2 << 20))
must truncate -s $((5 << 20)) "$a/holes"
must dd if=/dev/urandom of="$a/holes" bs=4k count=1 seek=$((4 << 20)) oflag=seek_bytes conv=notrunc
settled
(cd "$a/tree" && sha256sum big small) >"$work/sums"
same_content() { (cd "$1" && sha256sum --status -c "$work/sums") || fail "not the same in $1"; }

moved() { lab traffic | awk '{ n += $5 + $6 } END { print n + 0 }'; } # content, in both directions
before=$(moved)
must cp -a "$a/tree" "$a/plans/copy"
must mv "$a/tree" "$a/plans/tree"
python3 - "$a/holes" "$a/plans/holes" <<'PY' || fail "copy_file_range"
import os, sys
src, dst = os.open(sys.argv[1], os.O_RDONLY), os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY, 0o644)
while os.copy_file_range(src, dst, 1 << 30):
    pass
os.close(dst)
PY
must cp "$a/holes" "$a/plans/holes-cp" # with bytes, but not of the holes
must cmp "$a/holes" "$a/plans/holes-cp"
blocks=$(stat -c %b "$a/plans/holes-cp")
[ "$blocks" -le $(($(stat -c %b "$a/holes") + 8)) ] || fail "a copy with holes takes $blocks sectors"
must rm "$a/plans/holes-cp"
[ ! -e "$a/tree" ] || fail "moved, and still there"
settled
same "content on the wire" "$(($(moved) - before))" 0
same_content "$a/plans/tree"
must cmp "$a/holes" "$a/plans/holes"
same "room of one with holes" "$(stat -c %b "$a/plans/holes")" "$(stat -c %b "$a/holes")"
same "times" "$(stat -c %Y "$a/plans/tree/big")" "$(stat -c %Y "$a/plans/copy/big")"
must lab steadfs admin admin fsck
lab_mount b
same_content "$b/plans/tree"
same_content "$b/plans/copy"

# others see the whole of a moved file or nothing, however long the block server takes
must cp --sparse=never "$a/holes" "$a/slow"
settled
must lab kill blockd-hq STOP
mv "$a/slow" "$a/plans/slow" & mover=$!
children+=("$mover")
eventually 20 test -e "$a/plans/slow"
must mkdir "$a/plans/after"
eventually 30 test -d "$b/plans/after"
[ ! -e "$b/plans/slow" ] || fail "a moved file is seen without its content"
must lab kill blockd-hq CONT
wait "$mover" || fail "mv"
eventually 30 test -e "$b/plans/slow"
must cmp "$b/plans/slow" "$a/holes"

# back, and killed at once: what was closed is there
before=$(moved)
must mv "$a/plans/tree" "$a/back"
lab kill a
must lab start a
settled
same_content "$a/back"
same_content "$b/back"
same "content on the wire after a kill" "$(($(moved) - before < 2000))" 1

# not sent yet: it goes the long way, and arrives all the same
random_file "$a/fresh" 300000
sum=$(sha256sum <"$a/fresh")
must mv "$a/fresh" "$a/plans/fresh"
same "what was not sent yet" "$(sha256sum <"$a/plans/fresh")" "$sum"

# no server in common
before=$(moved)
must mv "$a/back" "$a/elsewhere/back"
settled
same_content "$a/elsewhere/back"
[ $(($(moved) - before)) -gt $((12 << 20)) ] || fail "the content did not go there"
same_content "$b/elsewhere/back"

# who may not write there cannot have it linked there
must lab steadfs a share plans bob viewer
mkdir "$work/c"
lab mount c "$work/c" --account bob || fail "mount c"
must lab steadfs c namespace mount plans "$work/c/plans"
eventually 20 test -e "$work/c/plans/copy/small"
echo mine >"$work/c/mine"
must_fail 'read-only' cp "$work/c/mine" "$work/c/plans/mine"
must cp "$work/c/plans/copy/big" "$work/c/big" # but read, and so have it
settled
must cmp "$work/c/big" "$a/plans/copy/big"
must lab steadfs admin admin fsck
passed "across namespaces"
