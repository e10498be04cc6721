#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What no file and no kept version refers to any more goes from the disks of the block servers, after the grace time:
# also under kill -9 of everything at any moment, and with a writer that brings the same bytes again and again
# meanwhile. Nothing that is referred to goes.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud --gc-grace 2 --history-min 1
lab_mount a
admin() { lab steadfs admin admin "$@"; }
disk() { find "$lab/blockd-$1/blocks" -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'; }
ids_of() { sha256sum "$@" | cut -d' ' -f1; }

mkdir "$work/src" "$a/keep" "$a/gone"
for i in 1 2 3 4 5 6; do
    random_file "$work/src/$i" $((i % 2 ? 400000 : 5000)) # one block each
    must cp "$work/src/$i" "$a/gone/$i"
    random_file "$work/src/k$i" $((i % 2 ? 400000 : 5000))
    must cp "$work/src/k$i" "$a/keep/k$i"
done
must cp "$work/src/1" "$a/keep/k7" # of the same block as what goes
cp "$work/src/1" "$work/src/k7"
lab wait --replicated || fail "not replicated"
same "blocks at first" "$(lab blocks hq | wc -l) $(lab blocks cloud | wc -l)" "12 12"
before=$(disk hq)
must admin gc --dry-run alice
grep -q 'refers to 0 blocks' "$work/out" || fail "gc --dry-run finds something: $(cat "$work/out")"

must rm -r "$a/gone"
must sync "$a"

# the same bytes as some of what goes, acknowledged and removed, all the time
writer() {
    local n
    mkdir "$a/again"
    for ((n = 0; ; n++)); do
        cp "$work/src/$((n % 4 + 1))" "$a/again/$((n % 4 + 1))" && sync "$a/again/$((n % 4 + 1))" || return 1
        [ -e "$work/stop" ] && [ $((n % 4)) = 3 ] && return 0
        [ $((n % 4)) = 3 ] && rm "$a/again"/*
    done
}
writer >"$work/writer" 2>&1 &
writing=$!
children+=("$writing")

# 5 and 6 go, whatever happens meanwhile
has() { lab blocks "$1" | grep -q "^$(ids_of "$work/src/$2") "; }
has_not() { ! has "$@"; }
for ((i = 0; i < 2; i++)); do
    for p in hq cloud; do
        must lab kill "blockd-$p"
        must lab start "blockd-$p"
    done
    must lab kill metad
    must lab start metad
done
for p in hq cloud; do
    eventually 60 has_not "$p" 5
    eventually 60 has_not "$p" 6
done
: >"$work/stop"
wait "$writing" || { cat "$work/writer"; fail "the writer failed"; }
settled

# what is referred to is there, at both, for who has nothing of it at hand
lab wait --replicated || fail "not replicated in the end"
must admin fsck
must lab unmount a
for p in hq cloud; do
    lab kill "blockd-$p" || fail "kill $p"
    mkdir "$work/c-$p"
    lab mount "c-$p" "$work/c-$p" || fail "mount"
    for i in 1 2 3 4; do must cmp "$work/src/$i" "$work/c-$p/again/$i"; done
    for i in 1 2 3 4 5 6 7; do must cmp "$work/src/k$i" "$work/c-$p/keep/k$i"; done
    must lab unmount "c-$p"
    lab start "blockd-$p" || fail "start $p"
done

# and when the writer's last is removed, too, nothing of it is left
lab_mount a
must rm -r "$a/again"
must sync "$a"
left() { [ "$(lab blocks hq | wc -l) $(lab blocks cloud | wc -l)" = "7 7" ]; }
eventually 60 left
must admin gc
for p in hq cloud; do
    same "bytes in files at $p" "$(disk $p)" $((4 * 400000))
done
[ "$(disk hq)" -lt "$before" ] || fail "the disk has as much as before"
for i in 1 2 3 4 5 6 7; do must cmp "$work/src/k$i" "$a/keep/k$i"; done
must admin fsck
passed "gc: $before bytes of files became $(disk hq)"
