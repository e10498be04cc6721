#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A metadata server that was put back to an older copy gives the number of a lost namespace to another one: nothing of
# the private one gets into the one that is shared.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a
must mkdir "$work/bob"
must lab kill metad
must cp -a "$lab/metad" "$work/backup"
must lab start metad
must lab steadfs a namespace create taxes
must lab steadfs a namespace mount taxes "$a/taxes"
eventually 20 test -d "$a/taxes"
echo "alice's private numbers" >"$a/taxes/secret"
must sync "$a/taxes/secret"
must lab unmount a
must lab kill metad
# before a block server has told that the copy is old, numbers go on where they were
must lab kill blockd-hq
must rm -r "$lab/metad"
must cp -a "$work/backup" "$lab/metad"
must lab start metad
must lab steadfs a namespace create team
must lab steadfs a share team bob editor
must lab start blockd-hq
must lab mount bob "$work/bob" --account bob
must lab steadfs bob namespace mount team "$work/bob/team"
eventually 20 test -d "$work/bob/team"
echo hello >"$work/bob/team/hello"
must sync "$work/bob/team/hello"

must lab start a
told() { lab steadfs a status "$a" --json | grep -q "team has its number now"; }
eventually 20 told
must lab wait --timeout 5
[ "$(ls "$work/bob/team")" = hello ] || fail "bob sees $(ls "$work/bob/team") in team"
must grep -q "team has its number now" "$lab/log/a.log"
must lab unmount bob

passed "nothing of a lost namespace is in the one that has its number"
