#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A thousand clients' connections at one block server, each with a put and a get of its own: all are served, in
# bounded memory; a mount beside them goes on; SIGTERM lets what is under way end.
# CONNECTIONS: how many at once (1000; some more are made, because the first may end before the last begins)
# alone: a thousand connections
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
at_once=${CONNECTIONS:-1000}
n=$((at_once + at_once / 8))
[ "$(ulimit -Hn)" -ge $((n + 200)) ] || skip "at most $(ulimit -Hn) open files here"
ulimit -Sn $((n + 200))

lab_up
lab_mount a b
must lab unmount b # its identity is what is needed
url=https://127.0.0.1:$(sed -n 's/^port_blockd-hq=//p' "$lab/config")/metrics
metric() { curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$url" | awk -v n="steadfs_blockd_$1" '$1 == n { print $2 }'; }
pid=$(lab pid blockd-hq) || fail "the block server does not run"
most_kib() { awk '$1 == "VmHWM:" { print $2 }' "/proc/$pid/status"; }
before=$(most_kib)
crowded() { [ "$(metric connections)" -ge $((n / 10)) ]; }

"$build/tests/lib/rawclient" "$lab/clients/b" crowd "$n" >"$work/crowd" 2>&1 &
crowd=$!
children+=("$crowd")
# meanwhile the mount is served, too
until_ok 60 crowded
echo beside >"$a/beside"
must sync "$a/beside"
wait "$crowd" || { cat "$work/crowd"; fail "not all of the crowd was served"; }
same "the crowd" "$(tail -n 1 "$work/crowd")" "$n put, $n got"
[ "$(metric connections_most)" -ge "$at_once" ] || fail "there were only $(metric connections_most) connections at once"
same "connections dropped" "$(metric connections_dropped_total)" 0
same "puts that failed" "$(metric put_failed_total)" 0
# 40 KB of a request and of an answer each, and what TLS takes
used=$(($(most_kib) - before))
[ "$used" -le $((n * 200 + 65536)) ] || fail "$n connections took $used KiB"

# SIGTERM: a put that is under way is answered
random_file "$work/last" 3000000
cp "$work/last" "$a/last" &
copier=$!
lab kill blockd-hq TERM || fail "kill"
grep -q 'stopping: finishing what is under way' "$lab/log/blockd-hq.log" || fail "no word of stopping"
! grep -q 'requests still under way' "$lab/log/blockd-hq.log" || fail "it did not end in time"
wait "$copier"
must lab start blockd-hq
must sync "$a/last"
same "listed" "$(lab blocks hq | wc -l)" "$((n + 1 + $(lab blocks hq | awk '$2 > 40000' | wc -l)))"
passed "crowd: $n connections, $used KiB"
