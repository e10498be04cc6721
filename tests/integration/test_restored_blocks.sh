#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The metadata server's database is put back to an older copy, and says wrongly what block servers have. What was
# collected since is not believed to be there: who writes the same bytes brings them. What the copy knows nothing of is
# not removed, however old it is, until the administrator says so: the mount that had it committed sends it again.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --gc-grace 2 --history-min 1
lab_mount a b
admin() { lab steadfs admin admin "$@"; }
id_of() { sha256sum "$1" | cut -d' ' -f1; }
has() { lab blocks hq | grep -q "^$(id_of "$1") "; }
has_not() { ! has "$1"; }
# what makes blocks old enough to be removed, of the incarnation that it has now: a comparison with it has been
old() { awk '{ print $1, $2 }' "$lab/blockd-hq/compared"; }
compared() { # WORDS: since those were $was; nudged until then
    [ "$(old | cut -d' ' -f"$1")" != "$was" ] || { lab kill blockd-hq USR1 && return 1; }
}

random_file "$work/removed" 400000
random_file "$work/lost" 400000 # one block each
must cp "$work/removed" "$a/removed"
must sync "$a/removed"
has "$work/removed" || fail "not one block"
must lab unmount b
must lab kill metad
must cp -a "$lab/metad" "$work/backup"
must lab start metad

must rm "$a/removed"
must cp "$work/lost" "$a/lost"
must sync "$a/lost"
has "$work/lost" || fail "not one block"
eventually 30 has_not "$work/removed"
must lab unmount a
rm -f "$lab"/clients/a/blocks/* # only the block server has it
must lab kill metad
must rm -r "$lab/metad"
must cp -a "$work/backup" "$lab/metad"
sed -i 's/^history_min=.*/history_min=600/' "$lab/config" # so long nothing is removed
was=$(old | cut -d' ' -f1)
must lab start metad

# at once: what the copy says is there is not
must lab start b
must cp "$work/removed" "$b/again"
must sync "$b/again"
has "$work/removed" || fail "fsync returned 0 for a block that is nowhere"

eventually 30 grep -q 'put back to a copy' "$lab/log/metad.log"
eventually 30 compared 1 # with what it has as its new incarnation
was=$(old)
eventually 30 compared 1,2 # … once more, the grace time later
has "$work/lost" || fail "what the copy does not know was removed"
must admin fsck --repair
grep -q 'nothing is removed before' "$work/out" || fail "fsck does not tell: $(cat "$work/out")"
must admin gc
has "$work/lost" || fail "what the copy does not know was removed by fsck or gc"
must lab start a
eventually 30 cmp "$work/lost" "$a/lost"
must sync "$a"
must cmp "$work/removed" "$b/removed"
must lab steadfs a parked "$a"
[ ! -s "$work/out" ] || fail "something is parked: $(cat "$work/out")"
passed "restored blocks"
