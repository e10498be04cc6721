#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block server that is late, or gone in the middle of an upload: reads race a second one, the upload goes on at
# another one with what that lacks, and goes back when the first is there again.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
status() { lab steadfs "$1" status "${!1}" --json | jq -c "$2"; }

lab_up --premises hq,cloud
lab_mount a
mkdir "$work/files"
for i in $(seq 30); do random_file "$work/files/$i" 200000; done
must cp -r "$work/files" "$a/files"
must lab wait --replicated --timeout 60
lab_mount b
must cmp "$work/files/1" "$b/files/1" # of the first, which is quick
same "races of a quick server" "$(status b '[.servers[0].premises, .servers[0].answers]')" '["hq",true]'

# the first one stops answering: nobody waits until that is certain
must lab kill blockd-hq STOP
before=$(status b .races_won)
for i in $(seq 2 30); do must cmp "$work/files/$i" "$b/files/$i"; done
won=$(($(status b .races_won) - before))
[ "$won" -ge 1 ] || fail "no read was won by the second server: $(status b '[.races, .races_won, .servers]')"
must lab kill blockd-hq CONT

# gone in the middle of an upload
settled
answers() { [ "$(status "$1" '.servers[0].answers')" = true ]; }
eventually 30 answers a
random_file "$work/large" 60000000
start=$(put_bytes hq)
(exec dd if="$work/large" of="$a/large" bs=1M conv=fsync) >"$work/dd" 2>&1 &
children+=($!)
dd_pid=$!
underway() { [ $(($(put_bytes hq) - start)) -gt 4000000 ]; }
eventually 30 underway
must lab kill blockd-hq
wait "$dd_pid" || { cat "$work/dd"; fail "the fsync failed"; }
mkdir "$work/third"
lab mount third "$work/third" || fail "mount third"
must cmp "$work/large" "$work/third/large" # head office is still gone: it is all at the other one
grep -E ' A6 ' "$lab/log/a.trace" | tail -n 1 | grep -q 'target=2' || fail "the question was not asked again for the other"

# back
must lab start blockd-hq
eventually 30 answers a
back() {
    local had
    had=$(put_bytes hq)
    random_file "$work/next" 50000
    dd if="$work/next" of="$a/next" conv=fsync && [ "$(put_bytes hq)" -gt "$had" ] && tail -n 20 "$lab/log/a.trace" | grep -qE ' A8 .*target=1'
}
eventually 30 back

# it moves: its new address is known as soon as the metadata server knows it, which is long before anybody asks by himself
must lab kill blockd-hq
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
sed -i "s/^port_blockd-hq=.*/port_blockd-hq=$port/" "$lab/config"
must lab start blockd-hq
eventually 15 back
passed "slow: $won reads were won by the second server"
