#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Data goes only to the block servers that its namespace is assigned to, and each step of that is told by the
# trace; a namespace within a directory of another has an assignment of its own.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud --assign alice=hq
lab_mount a b
random_file "$work/x" 3000000
must cp "$work/x" "$a/x"
settled
must cmp "$work/x" "$b/x"
[ "$(put_bytes hq)" -ge 3000000 ] || fail "the assigned server did not get it"
same "put_bytes of the other" "$(put_bytes cloud)" 0
same "blocks of the other" "$(lab blocks cloud | wc -l)" 0
same "bytes of blocks" "$(lab blocks hq | awk '{ n += $2 } END { print n }')" 3000000

# a second namespace, mounted inside the first, lives elsewhere
must lab steadfs a namespace create docs
must lab steadfs admin admin unassign docs hq
must lab steadfs admin admin assign docs cloud
must mkdir "$a/dir"
settled # the command asks the metadata server, which must know the directory
must lab steadfs a namespace mount docs "$a/dir/docs"
eventually 20 test -d "$a/dir/docs"
eventually 20 test -d "$b/dir/docs"
hq=$(lab blocks hq) cloud=$(lab blocks cloud | wc -l)
random_file "$work/y" 700000
must dd if="$work/y" of="$a/dir/docs/y" bs=1M conv=fsync
settled
same "blocks at hq" "$(lab blocks hq)" "$hq"
[ "$(lab blocks cloud | wc -l)" -gt "$cloud" ] || fail "the other namespace's block is not at its server"
must cmp "$work/y" "$b/dir/docs/y"
must_fail "cross-device" ln "$a/dir/docs/y" "$a/y"
must mv "$a/dir/docs/y" "$a/y" # mv copies
must cmp "$work/y" "$a/y"

# the steps, as the trace of the mount has them
for step in A1 A2 A3 A4 A5 A6 A7 put A8 journal; do
    grep -qE "^[^ ]+ $step( |$)" "$lab"/log/*.trace || fail "no step $step in any trace"
done
passed "assignment"
