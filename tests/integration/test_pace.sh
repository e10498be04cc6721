#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two block servers of one rank, each behind a link of its own: uploads and reads move to the one that is quick, in the
# middle of a file too, and back when it is the other one that is slow.
# time-out: 180
if [ "$(id -u)" != 0 ]; then
    echo "needs root: network namespaces"
    exit 77
fi
if [ -z "${STEADFS_TEST_NETNS:-}" ]; then
    ns=sp$$
    undo() { for k in c 1 2; do ip netns del "$ns$k"; done } 2>/dev/null
    trap undo EXIT
    trap 'exit 143' INT TERM
    link() { # K: from the client's machine to that of block server K
        ip netns add "$ns$1" && ip -n "$ns$1" link set lo up &&
            ip -n "${ns}c" link add "up$1" type veth peer name up0 netns "$ns$1" &&
            ip -n "${ns}c" addr add "10.99.8$1.1/24" dev "up$1" && ip -n "${ns}c" link set "up$1" up &&
            ip -n "$ns$1" addr add "10.99.8$1.2/24" dev up0 && ip -n "$ns$1" link set up0 up &&
            ip -n "$ns$1" route add default via "10.99.8$1.1"
    }
    { ip netns add "${ns}c" && ip -n "${ns}c" link set lo up && link 1 && link 2; } || {
        echo "no network namespaces here"
        exit 77
    }
    STEADFS_TEST_NETNS=$ns nsenter --net="/run/netns/${ns}c" "$0" "$@"
    exit
fi
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

ns=$STEADFS_TEST_NETNS
# The limit counts what leaves here (uploads) and what leaves there (reads).
slow() {
    ip netns exec "${ns}c" tc qdisc replace dev "up$1" root tbf rate "$2" burst 32kb latency 200ms &&
        ip netns exec "$ns$1" tc qdisc replace dev up0 root tbf rate "$2" burst 32kb latency 200ms
}
quick() { ip netns exec "${ns}c" tc qdisc del dev "up$1" root && ip netns exec "$ns$1" tc qdisc del dev up0 root; }
slow 1 24mbit || skip "no tbf here"

lab_up --premises hq --address 10.99.81.1
admin() { lab steadfs admin admin "$@"; }
port=$(sed -n 's/^port_metad=//p' "$lab/config")
for k in 1 2; do
    token=$(admin server add "s$k") || fail "no token"
    (exec nsenter --net="/run/netns/$ns$k" "$build/tools/blockd/steadfs-blockd" --data "$work/s$k" --listen "10.99.8$k.2:7441" \
        --meta "https://10.99.81.1:$port" --join "$token" --ca "$lab/metad/ca.pem" --replicate-rate none \
        --log "$lab/log/blockd-s$k.log" >"$work/s$k.err" 2>&1) &
    children+=($!)
    disown
    eventually 30 grep -q serves "$lab/log/blockd-s$k.log"
done
must admin assign alice s1,s2
must admin unassign alice hq
lab_mount a
status() { lab steadfs a status "$a" --json | jq -c "$1"; }
moved() { ip -n "${ns}c" -s -j link show dev "up$1" | jq ".[0].stats64.$way.bytes"; }
way=tx

write_to() { must dd if=/dev/urandom of="$1" bs=100k count=1 conv=fsync; }
write_one() { # N: 12 MB, which take 4 s over the slow link
    random_file "$work/f$1" 12000000
    must dd if="$work/f$1" of="$a/f$1" bs=1M conv=fsync
}
share() { # K COMMAND…: how much of what both links carry meanwhile goes to K, in percent
    local k=$1 one two
    one=$(moved 1) two=$(moved 2)
    shift
    "$@"
    one=$(($(moved 1) - one)) two=$(($(moved 2) - two))
    if [ "$k" = 1 ]; then percent=$((100 * one / (one + two))); else percent=$((100 * two / (one + two))); fi
}
write_one 1
same "left for the quick one" "$(status .left_for_pace)" 1
share 2 write_one 2
[ "$percent" -gt 80 ] || fail "only $percent % go to the quick server: $(status .servers)"

quick 1
slow 2 24mbit
n=3
back() { # written again and again: that the first is quick now has to be tried
    share 1 write_one $((n++))
    [ "$percent" -gt 80 ]
}
eventually 60 back

# reads: what both have
quick 2
mkdir "$work/c"
must lab mount c "$work/c" -o copies=2
for k in 1 2 3 4 5 6; do
    random_file "$work/r$k" 12000000
    must dd if="$work/r$k" of="$work/c/r$k" bs=1M conv=fsync
done
must lab mount b "$b" -o race=0 # nothing but what is measured makes a read go elsewhere
eventually 30 ls "$b/r6"
share 1 write_to "$b/target"
[ "$percent" -gt 50 ] && from=1 || from=2 # what it writes to it reads from
way=rx
read_one() { must cmp "$work/r$1" "$b/r$1"; }
share "$from" read_one 1
[ "$percent" -gt 50 ] || fail "only $percent % are read from the target"
slow "$from" 16mbit
for k in 2 3 4 5 6; do # where it is found out
    share "$from" read_one "$k"
    [ "$percent" -ge 20 ] || break
done
[ "$percent" -lt 20 ] || fail "$percent % are read from the slow server: $(lab steadfs b status "$b" --json | jq -c .servers)"
passed "pace: went to the quick one, and back with file $n; $(status '[.trials, .left_for_pace]')"
