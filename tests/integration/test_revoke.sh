#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A removed member and a lost device are out at once, at the block servers too, whatever they have in hand, and stay
# out over a restart and while the metadata server is away. Keys change under load, and no fsync fails.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
admin() { must lab steadfs admin admin "$@"; }

lab_up --premises hq,cloud --assign alice=hq --assign bob=hq
lab_mount a
must lab steadfs a namespace create team
must lab steadfs a share team bob editor
mkdir "$work/bob" "$work/lost"
lab mount bobs "$work/bob" --account bob || fail "mount bobs"
lab mount lost "$work/lost" || fail "mount lost"
must lab unmount bobs
must lab unmount lost

# holds CLIENT NAMESPACE COMMAND…: what the client has is refused within a second of the command
holds() {
    local client=$1 ns=$2 pid start
    shift 2
    rm -f "$work/ready"
    "$build/tests/lib/rawclient" "$lab/clients/$client" hold "$ns" "$work/ready" >"$work/hold" 2>&1 &
    pid=$!
    children+=("$pid")
    eventually 20 test -e "$work/ready"
    must "$@"
    start=$(date +%s%N)
    wait "$pid" || { cat "$work/hold"; fail "$client after $*"; }
    took=$((($(date +%s%N) - start) / 1000000))
    [ "$took" -lt 1500 ] || fail "refused only after $took ms: $*"
    say "ok - $client: refused $took ms after ${*: -4}"
}
holds bobs team lab steadfs a share team bob none
device=$(lab steadfs admin admin device list alice --json | jq '.[] | select(.name == "lost") | .id')
holds lost alice lab steadfs admin admin device revoke "$device"

writer_start "$a"
go_on
newest() { grep -q "keys, the newest is number $2" "$lab/log/blockd-$1.log"; }
admin rotate-key
eventually 20 newest hq 2
eventually 20 newest cloud 2
go_on
must lab kill blockd-hq # with both keys
must lab start blockd-hq
go_on
admin rotate-key --at-once
eventually 20 newest hq 3
go_on
grep -q "another key" "$lab/log/blockd-hq.log" || fail "nobody was refused the key that ended"
must lab steadfs admin admin server list --json
must lab kill metad # a block server keeps what it was told
must lab kill blockd-hq
must lab start blockd-hq
grep -q . "$lab/blockd-hq/taken-back" || fail "what was taken back is not kept"
grep -qx "$device" "$lab/blockd-hq/revoked" || fail "the revoked device is not kept"
must lab start metad
go_on
writer_stop
[ ! -e "$work/failed" ] || { cat "$work/failed"; fail "an fsync failed"; }
settled
lab_mount b
same "files" "$(find "$b" -name 'w*' | wc -l)" "$(cat "$work/count")"
passed "revoke: $(cat "$work/count") fsyncs over two rotations"
