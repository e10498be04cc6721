#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Block servers give each other what they lack: after a commit, to a server that is new, that lost its disk or
# was away; a server leaves only when others have what it has; and one premises destroyed takes nothing along.
# time-out: 300
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

everywhere() { # PREMISES…: all have the same blocks
    local p first=$1
    for p; do
        [ "$(lab blocks "$p")" = "$(lab blocks "$first")" ] || fail "$p and $first hold different blocks"
    done
    [ -n "$(lab blocks "$first")" ] || fail "$first holds nothing"
}
replicated() { lab wait --replicated --timeout "${1:-60}" || fail "not replicated"; }
state_of() { lab steadfs admin admin replication alice | awk -v p="$1" '$2 == p { print $3 }'; }
admin() { must lab steadfs admin admin "$@"; }

lab_up --premises hq,cloud,attic --assign alice=hq,cloud
lab_mount a
before=$(lab traffic | awk '$1 == "metad" { print $3 + $4 }')
must cp -r "$top/proto" "$a/proto"
random_file "$work/x" 9000000
must cp "$work/x" "$a/x"
replicated
everywhere hq cloud
same "blocks at a server that is not assigned" "$(lab blocks attic | wc -l)" 0
moved=$(($(lab traffic | awk '$1 == "metad" { print $3 + $4 }') - before))
[ "$moved" -lt 4500000 ] || fail "$moved bytes went through the metadata server"

# away during commits: it gets them when it is back
must lab kill blockd-cloud
random_file "$work/y" 3000000
must cp "$work/y" "$a/y"
settled
must_fail "not replicated" lab wait --replicated --timeout 4
grep -q "blockd-cloud: not running" "$work/out" || { cat "$work/out"; fail "wait does not say who is missing"; }
same "state" "$(state_of cloud)" lacking
must lab start blockd-cloud
replicated
everywhere hq cloud

# a new server fills by itself
admin assign alice attic
replicated
everywhere hq cloud attic

# an empty disk in place of the old one
must lab kill blockd-attic
rm -r "$lab/blockd-attic/index.db"* "$lab/blockd-attic/blocks" "$lab/blockd-attic"/replication.db*
must lab start blockd-attic
noticed() { lab steadfs admin admin server list --json | tr '}' '\n' | grep '"attic"' | grep -q '"generation": 2'; }
eventually 20 noticed
replicated
everywhere hq cloud attic

# the head office burns down: all is at the others
must lab kill blockd-hq
rm -r "$lab/blockd-hq/blocks" "$lab/blockd-hq"/index.db*
lab_mount b
must diff -r "$top/proto" "$b/proto"
must cmp "$work/x" "$b/x"
must cmp "$work/y" "$b/y"
must lab start blockd-hq
replicated
everywhere hq cloud attic

# a server that has the only copy of something leaves when it is elsewhere, too
must lab kill blockd-cloud
must lab kill blockd-attic
random_file "$work/z" 1500000
must dd if="$work/z" of="$a/z" bs=1M conv=fsync
# where: what is wherever it should be, and what is not
where() { # JQ COMMAND…
    "${@:2}" --json >"$work/where" || fail "${*:2}"
    jq -c "$1" "$work/where"
}
same "where all of it is" "$(where '[.too_few_bytes, .nowhere_bytes]' lab steadfs admin admin where alice --copies 2)" '[1500000,0]'
same "where the file is" "$(where '[.bytes, .files, (.premises[] | .premises, .bytes)]' \
    "$build/tools/steadfs/steadfs" where "$a/z")" '[1500000,1,"attic",0,"hq",1500000,"cloud",0]'
same "where a folder is" "$(where '[.too_few_bytes, (.servers | length), (.copies[3].bytes == .bytes)]' \
    lab steadfs admin admin where alice:/proto --copies 3)" '[0,3,true]'
must lab steadfs admin admin where "$a"
grep -q 'at no server: 0 bytes' "$work/out" || fail "where: $(cat "$work/out")"
must_fail "does not know" lab steadfs admin admin where alice:/nothing
must_fail "1500000 bytes are not there" "$build/tools/steadfs/steadfs" sync "$a/z" --at cloud --timeout 0.2
must "$build/tools/steadfs/steadfs" sync "$a/z" --at hq
must "$build/tools/steadfs/steadfs" sync "$a/z" --at 1
must_fail "not there" "$build/tools/steadfs/steadfs" sync "$a/z" --at 2 --timeout 0.2
must_fail "no block server mars" "$build/tools/steadfs/steadfs" sync "$a/z" --at mars
must_fail "3 block servers only" "$build/tools/steadfs/steadfs" sync "$a/z" --copies 4
admin unassign alice hq
same "state" "$(state_of hq)" leaving
must cmp "$work/z" "$b/z" # readable meanwhile
must lab start blockd-cloud
must "$build/tools/steadfs/steadfs" sync "$a/z" --at cloud
same "what is at cloud" "$(where '.premises[] | select(.premises == "cloud").bytes' "$build/tools/steadfs/steadfs" where "$a/z")" 1500000
must lab start blockd-attic
gone_from() { [ -z "$(state_of "$1")" ]; }
eventually 60 gone_from hq
must dd if="$work/z" of="$a/z2" bs=1M conv=fsync # goes to another
random_file "$work/w" 700000
hq=$(lab blocks hq)
must dd if="$work/w" of="$a/w" bs=1M conv=fsync
replicated
same "blocks at the server that left" "$(lab blocks hq)" "$hq"
lab blocks cloud | grep -qF "$(sha256sum <"$work/z" | cut -c 1-64)" || {
    [ "$(lab blocks cloud)" = "$(lab blocks attic)" ] || fail "the others differ"
}
must lab kill blockd-hq
must cmp "$work/z" "$b/z"
must cmp "$work/w" "$b/w"
passed "replication"
