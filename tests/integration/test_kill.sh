#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writers keep writing while the mount, the metadata server and the block server are killed (-9) in turn. What
# was acknowledged to them is recorded outside the mount; in the end nothing of it is missing, on this device and
# on another, and nothing that was closed before a kill of the mount.
# ROUNDS: kills (100 in the long form)
# time-out: 1800
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-12}
writers=8
ackwriter=$build/tests/lib/ackwriter

lab_up
lab_mount a
must mkdir "$a/work"
settled

"$ackwriter" write "$a/work" "$work/log" "$writers" "$work/stop" >"$work/writers" 2>&1 &
pid=$!
children+=("$pid")
acks() { cat "$work"/log.* 2>/dev/null | grep -c '^[SC]'; }
more_than() { [ "$(acks)" -gt "$1" ]; }
eventually 30 more_than 50

times=()
for ((i = 0; i < rounds; i++)); do
    case $((i % 3)) in
    0) name=a ;;
    1) name=metad ;;
    2) name=blockd-hq ;;
    esac
    # a moment that has nothing to do with what the writers do
    until_ok 1 test $((RANDOM % 20)) = 0
    t=$EPOCHREALTIME
    times+=("${t//[.,]/}")
    lab kill "$name" || fail "kill $name"
    lab start "$name" || fail "start $name"
    before=$(acks)
    until_ok 60 more_than $((before + writers)) || fail "after the kill of $name the writers stand still"
    kill -0 "$pid" 2>/dev/null || { cat "$work/writers"; fail "the writers gave up"; }
done
: >"$work/stop"
wait "$pid" || { cat "$work/writers"; fail "the writers failed"; }
settled 120

hits=$("$ackwriter" hits "$work/log" "$writers" "${times[@]}")
say "$rounds kills, $hits of them with an fsync in flight, $(acks) acknowledgements"
"$ackwriter" verify "$a/work" "$work/log" "$writers" || fail "this device lost what was acknowledged"
lab_mount b
"$ackwriter" verify "$b/work" "$work/log" "$writers" || fail "the other device misses what was acknowledged"
same "conflicted copies" "$(find "$b/work" -name '*conflicted copy*' | wc -l)" 0
[ $((hits * 100)) -ge $((rounds * 30)) ] || fail "too few kills hit an fsync in flight to prove anything"
passed "kill -9"
