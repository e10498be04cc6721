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

# Starts the servers again under the library.
watched() { # IGNORE
    local name
    mkdir -p "$lab/env"
    for name in metad blockd-hq; do
        must lab kill "$name" TERM
        printf '%s\n' "LD_PRELOAD=$unsynced" "UNSYNCED_PREFIX=$lab/$name" "UNSYNCED_STASH=$work/stash" \
            "UNSYNCED_TRACE=$work/trace" "UNSYNCED_IGNORE=$1" >"$lab/env/$name"
        must lab start "$name"
    done
}

# Takes back what a server did not sync, and kills it.
lose() { # NAME
    local pid
    pid=$(lab pid "$1") || fail "$1 does not run"
    rm "$lab/env/$1"
    must lab kill "$1" USR2
    until_ok 60 gone "$pid" || fail "$1 does not end by the library"
}

# One installation from scratch: save on a, lose what is not synced, and look with a device that never saw it.
# 0: all there; 1: something is missing, or the servers do not come up again.
round() { # IGNORE
    local ignore=$1 f status=0
    lab_up
    lab_mount a
    must mkdir "$a/d"
    sync "$a/d"
    watched "$ignore"
    : >"$work/trace"
    for f in "$work"/src/*; do
        dd if="$f" of="$a/d/$(basename "$f")" bs=1M conv=fsync 2>/dev/null || fail "fsync of $f"
    done
    python3 -c 'import os, sys
os.rename(sys.argv[1] + "/small1", sys.argv[1] + "/renamed")
os.fsync(os.open(sys.argv[1], os.O_RDONLY))' "$a/d" || fail "fsync of a directory"
    cp "$work/trace" "$work/syncs"
    # a goes first, so that it cannot bring anything again
    must lab kill a
    lose metad
    lose blockd-hq
    { lab start metad && lab start blockd-hq && lab mount b "$b" -o timeout=3; } >/dev/null 2>&1 || status=1
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
    from=$SECONDS
    if round "$kind"; then
        fail "without '$kind' nothing was missed: this sync is in vain, or the test is blind"
    fi
    say "noticed ($((SECONDS - from)) s): $kind"
    n=$((n + 1))
done <<<"$kinds"
passed "durable; each of $n kinds of sync is needed"
