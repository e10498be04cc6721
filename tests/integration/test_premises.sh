#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two premises in network namespaces of their own. The branch's block server can reach head office's, but cannot be
# reached from there: it fetches what is committed at head office, and gives what is committed at the branch. Then
# the branch is cut off, and comes back; its link is slow; and a client reaches head
# office alone.
# time-out: 300
if [ "$(id -u)" != 0 ]; then
    echo "needs root: network namespaces"
    exit 77
fi
if [ -z "${STEADFS_TEST_NETNS:-}" ]; then
    ns=sf$$
    undo() { ip netns del "${ns}h"; ip netns del "${ns}b"; ip netns del "${ns}c"; } 2>/dev/null
    trap undo EXIT
    trap 'exit 143' INT TERM
    { ip netns add "${ns}h" && ip netns add "${ns}b" && ip netns add "${ns}c" &&
        ip -n "${ns}h" link add up0 type veth peer name up0 netns "${ns}b" &&
        ip -n "${ns}h" addr add 10.99.71.1/24 dev up0 && ip -n "${ns}h" link set up0 up &&
        ip -n "${ns}h" link set lo up && ip -n "${ns}b" link set lo up &&
        ip -n "${ns}b" addr add 10.99.71.2/24 dev up0 && ip -n "${ns}b" link set up0 up &&
        ip -n "${ns}b" addr add 10.99.72.2/32 dev lo; } || {
        echo "no network namespaces here"
        exit 77
    }
    # entering only the network's namespace: mounts stay visible
    STEADFS_TEST_NETNS=$ns nsenter --net="/run/netns/${ns}h" "$0" "$@"
    exit
fi
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

ns=$STEADFS_TEST_NETNS
at_branch() { nsenter --net="/run/netns/${ns}b" "$@"; }
branch_blocks() { "$build/tools/blockd/steadfs-blockd" --data "$work/branch" --list | sort; }
equal() { [ -n "$(branch_blocks)" ] && [ "$(branch_blocks)" = "$(lab blocks cloud)" ]; }

lab_up --premises cloud --address 10.99.71.1
token=$(lab steadfs admin admin server add branch) || fail "no token"
port=$(sed -n 's/^port_metad=//p' "$lab/config")
# exec: the process to be ended later is the block server itself
(exec nsenter --net="/run/netns/${ns}b" "$build/tools/blockd/steadfs-blockd" --data "$work/branch" --listen 10.99.72.2:7441 \
    --meta "https://10.99.71.1:$port" --join "$token" --ca "$lab/metad/ca.pem" \
    --log "$lab/log/blockd-branch.log" >"$work/branch.err" 2>&1) &
children+=($!)
eventually 30 grep -q serves "$lab/log/blockd-branch.log"
must lab steadfs admin admin assign alice branch
! curl -sk --max-time 3 https://10.99.72.2:7441/healthz || fail "the branch can be reached from head office"

# committed at head office: the branch fetches it
must lab mount a "$a" -o prefer=cloud
random_file "$work/x" 5000000
must dd if="$work/x" of="$a/x" bs=1M conv=fsync
[ -n "$(lab blocks cloud)" ] || fail "it is not at head office"
eventually 60 equal

# committed at the branch: it gives it to head office
must at_branch "$top/tools/lab" mount "$lab" b "$b" -o prefer=branch,fsync_timeout=4
eventually 30 cmp -s "$work/x" "$b/x"
random_file "$work/y" 3000000
before=$(put_bytes cloud)
must dd if="$work/y" of="$b/y" bs=1M conv=fsync
eventually 60 equal
[ $(($(put_bytes cloud) - before)) -ge 3000000 ] || fail "nobody brought it to head office"
must cmp "$work/y" "$a/y"
must lab wait --replicated --timeout 60

must ls "$b" # all names are known there from now on

# cut off: both sides go on, and neither claims what it cannot have
ip -n "${ns}b" link set up0 down
random_file "$work/z" 1000000
must dd if="$work/z" of="$a/z" bs=1M conv=fsync
must_fail "timed out" dd if="$work/z" of="$b/offline" bs=1M conv=fsync
must cmp "$work/z" "$b/offline"
must cmp "$work/x" "$b/x"
must_fail "not (replicated|settled)" lab wait --replicated --timeout 2
ip -n "${ns}b" link set up0 up
must lab wait --replicated --timeout 120
equal || fail "the premises hold different blocks"
must cmp "$work/z" "$b/z"
must cmp "$work/z" "$a/offline"

# a slow link: who reads across it is not held up by it where the same is at hand
slow=no
if ip netns exec "${ns}h" tc qdisc add dev up0 root tbf rate 4mbit burst 64kb latency 400ms; then
    mkdir "$work/c"
    must at_branch "$top/tools/lab" mount "$lab" c "$work/c" -o prefer=cloud
    eventually 30 ls "$work/c/x" "$work/c/y"
    must cmp "$work/x" "$work/c/x" # 5 MB would take ten seconds
    must cmp "$work/y" "$work/c/y"
    slow=$("$top/tools/lab" steadfs "$lab" c status "$work/c" --json | jq .races_won)
    [ "$slow" -ge 1 ] || fail "no read was won by the server at hand"
fi

# a client that reaches head office alone, and wants two copies: head office passes its blocks on to the branch
ip netns exec "${ns}h" tc qdisc del dev up0 root 2>/dev/null
{ ip -n "${ns}h" link add up1 type veth peer name up1 netns "${ns}c" && ip -n "${ns}h" addr add 10.99.73.1/24 dev up1 &&
    ip -n "${ns}h" link set up1 up && ip -n "${ns}c" link set lo up && ip -n "${ns}c" addr add 10.99.73.2/24 dev up1 &&
    ip -n "${ns}c" link set up1 up && ip -n "${ns}c" route add 10.99.71.0/24 via 10.99.73.1 &&
    ip -n "${ns}h" route add 10.99.72.2 via 10.99.71.2; } || fail "no third network"
mkdir "$work/d"
must nsenter --net="/run/netns/${ns}c" "$top/tools/lab" mount "$lab" d "$work/d" -o copies=2,prefer=cloud,fsync_timeout=30
random_file "$work/w" 1500000
must dd if="$work/w" of="$work/d/w" bs=1M conv=fsync
must lab kill blockd-cloud # … which is gone at once: the fsync has said the truth
must cmp "$work/w" "$b/w"
must lab start blockd-cloud

# two copies under load, and the branch is cut off in the middle: an fsync that returned 0 said the truth, and meanwhile
# none does
mkdir "$work/e"
must lab mount e "$work/e" -o copies=2,prefer=cloud,fsync_timeout=3
: >"$work/acked"
writes() { # FROM TO: each a block of its own; what was acknowledged is noted
    local i
    for ((i = $1; i <= $2; i++)); do
        random_file "$work/one" 60000
        if dd if="$work/one" of="$work/e/w$i" conv=fsync 2>/dev/null; then sha256sum <"$work/one" | cut -d' ' -f1 >>"$work/acked"; fi
    done
}
at_both() { # all that was acknowledged so far, as the disks are now
    branch_blocks | cut -d' ' -f1 >"$work/at.branch"
    lab blocks cloud | cut -d' ' -f1 >"$work/at.cloud"
    sort -u "$work/acked" >"$work/want"
    same "acknowledged and at one place only" "$(comm -23 "$work/want" "$work/at.branch" | wc -l) $(comm -23 "$work/want" "$work/at.cloud" | wc -l)" "0 0"
}
writes 1 3
same "acknowledged with both" "$(wc -l <"$work/acked")" 3
writes 4 100 &
writer=$!
children+=("$writer")
some() { [ "$(wc -l <"$work/acked")" -ge 6 ]; }
eventually 30 some
ip -n "${ns}b" link set up0 down
must_fail "timed out" dd if="$work/x" of="$work/e/cut" bs=1M count=1 conv=fsync
cut=$(wc -l <"$work/acked") # what was on its way is there by now, or never
at_both
must_fail "timed out" dd if="$work/y" of="$work/e/cut" bs=1M count=1 conv=fsync
same "acknowledged while cut off" "$(wc -l <"$work/acked")" "$cut"
ip -n "${ns}b" link set up0 up
ip -n "${ns}h" route replace 10.99.72.2 via 10.99.71.2
more() { [ "$(wc -l <"$work/acked")" -ge $((cut + 3)) ]; }
eventually 60 more
kill "$writer" 2>/dev/null
wait "$writer" 2>/dev/null
at_both
passed "premises; reads across a slow link that were won by the server at hand: $slow"
