#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block server is killed again and again while blocks are stored, at moments that nobody chose; half of the
# time by a library that takes back what it had not synced. Every block that it acknowledged is there in the end.
# KILLS: how many (2000 in the long form)
# time-out: 3600
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-40}
rawclient=$build/tests/lib/rawclient
unsynced=$build/tests/lib/unsynced.so
case $(nm -D "$build"/tools/blockd/steadfs-blockd 2>/dev/null) in
*__asan_init* | *__tsan_init*) skip "a preloaded library and a sanitizer each want to come first" ;;
esac

lab_up
lab_mount a
must lab unmount a # the device's identity is what is needed
mkdir "$work/stash"
mkdir -p "$lab/env"
printf '%s\n' "LD_PRELOAD=$unsynced" "UNSYNCED_PREFIX=$lab/blockd-hq" "UNSYNCED_STASH=$work/stash" \
    >"$lab/env/blockd-hq"
must lab kill blockd-hq TERM
must lab start blockd-hq

acked() { wc -l <"$work/ledger"; }
more_than() { [ "$(acked)" -gt "$1" ]; }
start_storing() {
    rm -f "$work/stop"
    storing_since=$SECONDS
    "$rawclient" "$lab/clients/a" store "$work/ledger" "$work/stop" >"$work/storing" 2>&1 &
    storing=$!
    children+=("$storing")
}
stop_storing() {
    : >"$work/stop"
    wait "$storing" || { cat "$work/storing"; fail "the storing client ended"; }
}

: >"$work/ledger"
start_storing
stood_still=0
for ((i = 1; i <= kills; i++)); do
    before=$(acked)
    # a moment that has nothing to do with what the server does, mostly while it stores
    until_ok 10 more_than $((before + RANDOM % 12)) || stood_still=$((stood_still + 1))
    if [ $((RANDOM % 2)) = 0 ]; then
        lab kill blockd-hq || fail "kill"
    else
        pid=$(lab pid blockd-hq) || fail "the block server does not run"
        lab kill blockd-hq USR2 || fail "kill"
        until_ok 60 gone "$pid" || fail "it does not end by the library"
    fi
    lab start blockd-hq || fail "start after kill $i"
    # capabilities last 15 minutes
    if [ $((SECONDS - storing_since)) -gt 300 ]; then
        stop_storing
        start_storing
    fi
done
stop_storing
[ "$stood_still" -le $((kills / 10)) ] || fail "nothing was acknowledged in $stood_still of $kills rounds"
[ "$(acked)" -ge "$kills" ] || fail "only $(acked) blocks were acknowledged"
"$rawclient" "$lab/clients/a" check "$work/ledger" >"$work/check" || { tail -n 20 "$work/check"; fail "acknowledged blocks are missing"; }
lab blocks hq | cut -d' ' -f1 >"$work/listed"
same "blocks listed of those acknowledged" "$(sort -u "$work/ledger" | comm -23 - "$work/listed" | wc -l)" 0
passed "$kills kills, $(tail -n 1 "$work/check")"
