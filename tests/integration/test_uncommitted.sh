#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is put at a block server and never committed counts for no quota: it is bounded there, the error says so, and
# what was given up is soon in nobody's way.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
lab_up --gc-grace 6 --assign alice=hq
lab mount a "$a" -o fsync_timeout=30,drain=1 || fail "mount a"
admin() { must lab steadfs admin admin "$@"; }
url=https://127.0.0.1:$(sed -n 's/^port_blockd-hq=//p' "$lab/config")/metrics
metric() { curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" "$url" | sed -n "s/^steadfs_blockd_$1 //p"; }
is_parked() { lab steadfs a parked "$a" --json | jq -e 'map(select(.errno == "EDQUOT" and .remedy != "")) | length == 1'; }
stores() { echo "$RANDOM" >"$a/small" && sync "$a/small"; }

admin quota alice --bytes 1000000

# what is committed does not count
echo first >"$a/first"
must sync "$a/first"
none_left() { [ "$(metric uncommitted_blocks)" = 0 ] && [ "$(metric uncommitted_settled_total)" -ge 1 ]; }
eventually 20 none_left

# a file that no quota allows is not taken whole before it is refused
random_file "$work/large" 90000000
cp "$work/large" "$a/large"
must_fail 'quota' sync "$a/large"
eventually 20 is_parked
[ "$(metric uncommitted_refused_total)" -ge 1 ] || fail "nothing was refused"
[ "$(metric uncommitted_bytes)" -le 67108864 ] || fail "$(metric uncommitted_bytes) bytes were taken that nobody committed"
[ "$(metric bytes)" -le 67200000 ] || fail "$(metric bytes) bytes are stored"

# … and goes again: something small has room, without anybody's help
eventually 40 stores
given_up() { [ "$(metric bytes)" -lt 67000000 ]; }
eventually 30 given_up

# a larger quota lets it through
admin quota alice --bytes 200000000
must lab steadfs a parked retry "$a"
eventually 40 sync "$a/large"
same "what is stored of the large file" "$(lab blocks hq | awk '{ n += $2 } END { print (n > 90000000) }')" 1
passed "uncommitted: $(metric uncommitted_refused_total) puts refused"
