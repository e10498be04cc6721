#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A namespace that never leaves its premises, whatever fails: not by upload, replication, fail-over or reads, nor by an
# operator or a client that tries. Then premises are evacuated.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
admin() { must lab steadfs admin admin "$@"; }
server_at() { lab steadfs admin admin server list --json | jq -r --arg p "$1" '.[] | select(.premises == $p) | .'"$2"; }
at_cloud() { lab blocks cloud | wc -l; }

lab_up --premises hq,cloud --assign alice=hq
admin onsite alice hq
lab mount a "$a" -o fsync_timeout=2,timeout=2 || fail "mount a"
random_file "$work/x" 3000000
must dd if="$work/x" of="$a/x" bs=1M conv=fsync

# an operator tries
must_fail "refused.*never leaves" lab steadfs admin admin assign alice cloud
must_fail "no other block server" lab steadfs admin admin evacuate hq --to cloud
admin evacuate hq --cancel
# … in the database itself, behind the server's back
cloud=$(server_at cloud id)
python3 -c '
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=20)
ns, = db.execute("SELECT id FROM namespace WHERE name = ?", ("alice",)).fetchone()
db.execute("INSERT INTO assignment (ns, server, priority) VALUES (?, ?, 0)", (ns, int(sys.argv[2])))
db.commit()
' "$lab/metad/meta.db" "$cloud" || fail "cannot write to the database"
must lab kill metad
must lab start metad
must lab steadfs a sync "$a"

# another namespace of the same account is there
must lab steadfs a namespace create docs
admin onsite docs --anywhere
admin assign docs cloud

# a client tries: with a capability for head office, and by naming the other as a target
must lab mount b "$b"
must lab unmount b
must "$build/tests/lib/rawclient" "$lab/clients/b" elsewhere "$cloud" "$(server_at cloud url)"
[ "$(grep -c '^ok' "$work/out")" -ge 11 ] || { cat "$work/out"; fail "too few checks ran"; }

# fail-over: head office is gone, and nothing goes elsewhere; what was written is kept
random_file "$work/y" 700000
must lab kill blockd-hq
must_fail "timed out" dd if="$work/y" of="$a/y" bs=1M conv=fsync
lab mount b "$b" -o timeout=2 || fail "mount b"
must_fail "input/output error" timeout 60 cat "$b/x"
same "blocks elsewhere" "$(at_cloud)" 0
same "bytes taken elsewhere" "$(put_bytes cloud) $(get_bytes cloud)" "0 0"
must lab start blockd-hq
settled
must cmp "$work/y" "$b/y"
same "blocks elsewhere" "$(at_cloud)" 0
must lab steadfs admin admin replication alice
! grep -q cloud "$work/out" || fail "it is at cloud: $(cat "$work/out")"

# what may go is evacuated, and head office is empty of it afterwards
admin unassign alice cloud # the row made by hand
admin onsite alice --anywhere
(exec "$top/tools/lab" steadfs "$lab" admin admin evacuate hq --to cloud --wait) >"$work/evacuate" 2>&1 &
children+=($!)
evacuation=$!
wait "$evacuation" || { cat "$work/evacuate"; fail "evacuation"; }
grep -q "still at hq: others lack" "$work/evacuate" || { cat "$work/evacuate"; fail "no progress was shown"; }
same "all of it is there" "$(lab steadfs admin admin where alice --json | jq -c '[.premises[] | .premises, (.bytes > 3000000)] + [.nowhere_bytes]')" '["cloud",true,0]'
must lab kill blockd-hq
must lab unmount b
rm -r "$lab/clients/b/blocks"
lab_mount b
must cmp "$work/x" "$b/x"
admin server remove "$(server_at hq id)"
must_fail "no block server at premises hq" lab steadfs admin admin assign alice hq
passed "onsite"
