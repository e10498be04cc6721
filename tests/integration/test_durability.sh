#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A successful fsync means: on the servers' disks. The servers run under a library that, at a kill, takes back
# all that they did not sync; afterwards everything acknowledged must be there. Then each kind of sync that they did
# on the way to an acknowledgement is left out in turn, and the loss must be noticed: no sync is there in vain,
# and this test can fail.
# time-out: 600
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
unsynced=$build/tests/lib/unsynced.so
case $(nm -D "$build"/tools/metad/steadfs-metad 2>/dev/null) in
*__asan_init* | *__tsan_init*) skip "a preloaded library and a sanitizer each want to come first" ;;
esac
mkdir "$work/stash" "$work/src"
for i in 1 2 3 4; do random_file "$work/src/small$i" $((i * 1500)); done
random_file "$work/src/large" $((5 << 20))

# The lab's verbs that start servers, with the library.
watched() { # IGNORE VERB ARGS…
    local ignore=$1
    shift
    env UNSYNCED_PREFIX="$lab" UNSYNCED_STASH="$work/stash" UNSYNCED_TRACE="$work/trace" UNSYNCED_IGNORE="$ignore" \
        LD_PRELOAD="$unsynced" "$top/tools/lab" "$1" "$lab" "${@:2}"
}

# One installation from scratch: save on a, lose what is not synced, and look with a device that never saw it.
# 0: all there; 1: something is missing, or the servers do not come up again.
round() { # IGNORE
    local ignore=$1 f status=0
    labs=("$lab")
    watched "" up || fail "lab up"
    lab_mount a
    must mkdir "$a/d"
    sync "$a/d"
    if [ -n "$ignore" ]; then # from here on, one sync is missing
        must lab kill metad TERM
        must lab kill blockd-hq TERM
        must watched "$ignore" start metad
        must watched "$ignore" start blockd-hq
    fi
    : >"$work/trace"
    for f in "$work"/src/*; do
        dd if="$f" of="$a/d/$(basename "$f")" bs=1M conv=fsync 2>/dev/null || fail "fsync of $f"
    done
    python3 -c 'import os, sys
os.rename(sys.argv[1] + "/small1", sys.argv[1] + "/renamed")
os.fsync(os.open(sys.argv[1], os.O_RDONLY))' "$a/d" || fail "fsync of a directory"
    cp "$work/trace" "$work/syncs"
    # a goes first, so that it cannot bring anything again
    lab kill a
    lab kill metad USR2
    lab kill blockd-hq USR2
    { lab start metad && lab start blockd-hq && lab mount b "$b"; } >/dev/null 2>&1 || status=1
    for f in "$work"/src/*; do
        [ "$status" = 0 ] || break
        name=$(basename "$f")
        [ "$name" != small1 ] || name=renamed
        timeout 60 cmp -s "$f" "$b/d/$name" || status=1
    done
    [ ! -e "$b/d/small1" ] || status=1
    must lab down --purge
    labs=()
    return "$status"
}

round "" || fail "something acknowledged was lost"
grep -q lost "$work/trace" || fail "the library did not run"
say "all there after losing what was not synced; $(grep -c . "$work/syncs") syncs on the way"

# The kinds of sync: what was called, and the path with what differs from one block to the next taken out.
kinds=$(sed -nE "s#^(fsync|fdatasync|dirsync) $lab/(.*)#\1:*/\2#p" "$work/syncs" |
    sed -E 's#[0-9a-f]{8,}[^/]*#*#g; s#/[0-9a-f]{2}(/|$)#/??\1#g' | sort -u)
[ -n "$kinds" ] || fail "no sync was seen"
n=0
while IFS= read -r kind; do
    [ -n "$kind" ] || continue
    if round "$kind"; then
        fail "without '$kind' nothing was missed: this sync is in vain, or the test is blind"
    fi
    say "noticed: $kind"
    n=$((n + 1))
done <<<"$kinds"
passed "durable; each of $n kinds of sync is needed"
