#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One name follows a change through the logs of the mount, the metadata server and the block server; what went wrong has it at
# the usual level, too.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
lab_up --log-level debug
must lab mount a "$a" -o log_level=debug
log=$lab/log

# NAME PATTERN: the op= of the newest line with the pattern
op_of() { grep -E "$2" "$log/$1.log" | tail -n 1 | sed -n 's/.* op=\([^:]*\): .*/\1/p'; }
# OP NAME PATTERN
says() { grep -F " op=$1: " "$log/$2.log" | grep -qE "$3" || { grep -F "op=$1" "$log"/*.log; fail "no '$3' of $1 in the log of $2"; }; }

# a file's fsync: from the node to the question, the put, the commit and its number, in all three logs
random_file "$work/new" 50000
must cp "$work/new" "$a/new"
sync "$a/new" || fail "sync"
node=$(stat -c %i "$a/new")
op=$(op_of a "node=$node .*fsync waits")
[ -n "$op" ] || { cat "$log/a.log"; fail "an fsync has no name"; }
says "$op" a "put of 1 blocks to hq"
says "$op" metad "asked about 1 blocks: 1 missing"
says "$op" blockd-hq "put: 1 of 1 blocks are stored"
says "$op" metad "device=1 request=[0-9]+ .*committed as"
says "$op" a "request=[0-9]+ .*commit: committed as"
request=$(grep -F " op=$op: " "$log/metad.log" | sed -n 's/.* request=\([0-9]*\) .*committed.*/\1/p')
same "request of the commit" "$request" "$(grep -F " op=$op: " "$log/a.log" | sed -n 's/.* request=\([0-9]*\) .*commit: committed.*/\1/p')"

# the background's batch has a name of its own
random_file "$work/quiet" 60000
must cp "$work/quiet" "$a/quiet"
settled
op2=$(op_of metad "committed as")
{ [ -n "$op2" ] && [ "$op2" != "$op" ]; } || fail "a batch of the background has no name"
says "$op2" a "commit of"
says "$op2" blockd-hq "put: "

# what is refused says so under the same name at the usual level
must lab steadfs admin admin quota alice --bytes 1000
must cp "$work/new" "$a/too-much"
must_fail "quota" sync "$a/too-much"
grep -E 'WARN .*commit refused' "$log/metad.log" >"$work/refusals" || fail "a refusal is not in the log"
op3=$(sed -n 's/.* op=\([^:]*\): .*/\1/p' "$work/refusals" | tail -n 1)
says "$op3" a "refused"

# a line from elsewhere cannot forge one: another client's name for it is left out unless it is one
must curl -s --noproxy '*' --cacert "$lab/metad/ca.pem" -H 'Steadfs-Version: 1' -H 'Steadfs-Op: 1-a request=7' -H 'Authorization: Bearer d.1.x' \
    --data-binary x "$(sed -n 's/^url=//p' "$lab/clients/a/identity")/v1/commit"
grep -F "1-a request=7" "$log/metad.log" && fail "a name with other characters is in the log"

# what is moved away goes on in a new file, and the server with it
for name in metad blockd-hq; do
    must mv "$log/$name.log" "$work/$name.old"
    must kill -HUP "$(lab pid "$name")"
    eventually 10 test -e "$log/$name.log"
done
must lab steadfs admin admin quota alice --bytes 0
must cp "$work/new" "$a/later"
sync "$a/later" || fail "sync after the logs were moved away"
says "$(op_of metad "committed as")" metad "committed as"
passed "log"
