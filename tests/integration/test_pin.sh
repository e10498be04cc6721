#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A block server is who joined, not who has a certificate for its host: one that was removed, with a certificate of the
# same authority for the same host, listens at the address of its successor, and gets nothing from clients, by relay, or
# from the other block server. Then a server's key is changed under load, and no fsync fails.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
admin() { must lab steadfs admin admin "$@"; }
server() { lab steadfs admin admin server list --json | jq -r --arg p "$1" '.[] | select(.premises == $p) | .'"$2"; }
hq_says() { grep -qF -- "$1" "$lab/log/blockd-hq.log"; }

lab_up --premises hq,cloud --assign alice=hq,cloud
meta=https://127.0.0.1:$(sed -n 's/^port_metad=//p' "$lab/config")
port=$(sed -n 's/^port_blockd_hq=//p; s/^port_blockd-hq=//p' "$lab/config")

# The removed server; what it is asked is counted in its metrics.
old() { # ARGS: of steadfs-blockd
    (exec "$build/tools/blockd/steadfs-blockd" --data "$work/old" --log "$work/old.log" "$@" 2>"$work/old.err") &
    old_pid=$!
    children+=("$old_pid")
}
end_old() { kill -9 "$old_pid"; wait "$old_pid" 2>/dev/null; }
old_up() { curl -s --cacert "$lab/metad/ca.pem" "https://127.0.0.1:$port/healthz"; }
asked() {
    curl -s --cacert "$lab/metad/ca.pem" "https://127.0.0.1:$port/metrics" |
        awk '/requests_total/ && /put|get|have|link|offer/ { n += $NF } END { print n + 0 }'
}
token=$(lab steadfs admin admin server add old) || fail "no token"
old --listen 127.0.0.1:0 --meta "$meta" --join "$token" --ca "$lab/metad/ca.pem"
eventually 20 grep -q serves "$work/old.log"
end_old
admin server remove "$(server old id)"

lab mount a "$a" -o fsync_timeout=2 || fail "mount a"
random_file "$work/x" 300000
must dd if="$work/x" of="$a/x" conv=fsync

# It is there in the place of hq's.
must lab kill blockd-hq
old --listen "127.0.0.1:$port"
eventually 20 old_up
same "requests before" "$(asked)" 0
random_file "$work/y" 300000
must dd if="$work/y" of="$a/y" conv=fsync # cloud takes it
must lab steadfs a where "$a/y"
grep -q "cloud" "$work/out" || fail "it is not at cloud: $(cat "$work/out")"
status_says() { lab steadfs a status "$a" | tr -s ' \n' ' ' | grep -q "is not block server $(server hq id)"; }
eventually 10 status_says
# both at once: neither directly nor passed on by cloud, and the fsync says the truth
lab mount b "$b" -o copies=2,fsync_timeout=2 || fail "mount b"
must_fail "timed out" dd if="$work/y" of="$b/z" conv=fsync
not_passed_on() { grep -q "replication with hq: .*its key is not the one" "$lab/log/blockd-cloud.log" &&
    grep -rq "not passed on to block server.*its key is not the one" "$lab/log/b.log"; }
eventually 10 not_passed_on
same "what the removed server was asked" "$(asked)" 0
grep -q "refused" "$work/old.log" && fail "a capability reached the removed server: $(cat "$work/old.log")"

# The right one is back.
end_old
must lab start blockd-hq
must lab steadfs b sync "$b"
must dd if="$work/x" of="$b/both" conv=fsync
same "the file of which fsync failed" "$(cmp "$work/y" "$b/z" && echo same)" same

# Another key, while files are written to both; the server is killed with each of the keys.
before=$(server hq pin)
same "the key that it joined with" "${#before} $(server hq pin_shown)" "64 $before"
admin server rekey "$(server hq id)" --overlap 1
eventually 20 hq_says "there is a certificate for another key"
writer_start "$b"
go_on
must lab kill blockd-hq # the next key is kept
must lab start blockd-hq
go_on
eventually 20 hq_says "another key is shown from now on"
go_on
must lab kill blockd-hq # it is the one that is shown
must lab start blockd-hq
go_on
writer_stop
[ ! -e "$work/failed" ] || { cat "$work/failed"; fail "an fsync failed"; }
after=$(server hq pin)
[ "$after" != "$before" ] || fail "it is the old key"
same "keys after the change" "$(server hq pin_shown) $(server hq pin_next) $(server hq rekey)" "$after  false"
must lab wait --replicated
passed "pin: $(cat "$work/count") fsyncs over a change of keys"
