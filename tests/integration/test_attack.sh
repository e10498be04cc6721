#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A client that does not play by the rules: without the right receipt nothing is committed, the answer is exactly
# what is missing, and a hash proves nothing.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up --premises hq,cloud
lab_mount a b # the account's devices; `b` is then used without its mount
must lab steadfs a namespace create other
must lab unmount b
must "$build/tests/lib/rawclient" "$lab/clients/b" attack other
checks=$(grep -c '^ok' "$work/out")
[ "$checks" -ge 30 ] || { cat "$work/out"; fail "too few checks ran"; }
must_fail 'no such file' ls "$a/stolen"
# another account: neither sees nor touches what it was not given
must mkdir "$work/bob"
lab mount bobs "$work/bob" --account bob || fail "mount bobs"
must lab unmount bobs
for ns in $(lab steadfs admin admin namespace list --json | jq '.[] | select(.name != "bob") | .id'); do
    must "$build/tests/lib/rawclient" "$lab/clients/bobs" outsider "$ns"
    [ "$(grep -c '^ok' "$work/out")" = 13 ] || { cat "$work/out"; fail "too few checks ran"; }
    checks=$((checks + 13))
done
passed "attack: $checks checks"
