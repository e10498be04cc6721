#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The lab itself: what its verbs promise, in a directory with a long name and spaces, through kills and resumes.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
lab="$work/a lab, with spaces and a name so long that no unix socket address could hold it $(printf 'x%.0s' {1..80})"

status_of() { # COMMAND…: prints its exit status
    local s=0
    "$@" >"$work/out" 2>"$work/err" || s=$?
    echo "$s"
}
silent() { # COMMAND…: succeeds and prints nothing on stdout
    same "status of $*" "$(status_of "$@")" 0
    [ ! -s "$work/out" ] || { cat "$work/out"; fail "prints something: $*"; }
}
one_line() { # STATUS COMMAND…: fails with one line on stderr and nothing on stdout
    local want=$1
    shift
    same "status of $*" "$(status_of "$@")" "$want"
    same "lines on stderr, bytes on stdout of $*" "$(wc -l <"$work/err") $(wc -c <"$work/out")" "1 0"
}
ours() { # processes that were started with this lab's directory in their arguments
    local p
    for p in /proc/[0-9]*; do
        { tr '\0' ' ' <"$p/cmdline" | grep -qF -- "$lab/" && echo "${p#/proc/}"; } 2>/dev/null
    done
}

# --- wrong usage ---
labs+=("$lab") # in case that it is taken for right
one_line 2 "$top/tools/lab"
one_line 2 "$top/tools/lab" sing "$lab"
one_line 2 lab up --premises
one_line 2 lab up --meta postgresql
one_line 2 lab up --blocks tape
one_line 2 lab up --premises 'a b'
one_line 1 lab wait
one_line 1 lab down
mkdir "$work/other" && : >"$work/other/file"
one_line 1 "$top/tools/lab" up "$work/other"
[ -e "$work/other/file" ] || fail "up touched a directory that is not its own"
say "ok - wrong usage"

# --- up ---
silent lab up --premises hq,cloud --assign bob=cloud --assign carol=hq
silent lab up --premises hq,cloud
one_line 2 lab up --premises hq
for name in metad blockd-hq blockd-cloud; do
    pid=$(lab pid "$name") || fail "no pid of $name"
    kill -0 "$pid" || fail "$name does not run"
    must ls "$lab/log/$name.log" "$lab/log/$name.trace"
    [ -z "$(find "/proc/$pid/fd" -lname "$work/out")" ] || fail "$name holds a file of its starter open"
done
same "status of an unknown name" "$(status_of lab pid nobody)" 1
same "what pid of nobody prints" "$(cat "$work/out" "$work/err")" ""
lab steadfs admin admin server list >"$work/servers" || fail "server list"
must grep hq "$work/servers"
must grep cloud "$work/servers"
same "exit status passed on" "$(status_of lab steadfs admin admin no such command)" 2
same "lines of traffic" "$(lab traffic | grep -cE '^(metad|blockd-hq|blockd-cloud)( [0-9]+){5}$')" 3
same "traffic of an idle block server, the lab's own queries left out" "$(lab traffic | grep ^blockd-hq)" \
    "blockd-hq 0 0 0 0 0"
same "blocks of an empty server" "$(lab blocks hq)" ""
one_line 1 lab blocks nowhere
say "ok - up"

# --- a server killed, stopped, started ---
port=$(grep ^port_metad= "$lab/config")
silent lab kill metad
one_line 1 lab kill metad
same "pid of the killed" "$(status_of lab pid metad)" 1
mkdir -p "$lab/env" && echo 'LAB_TEST=some value' >"$lab/env/metad"
silent lab start metad
silent lab start metad
same "port after a restart" "$(grep ^port_metad= "$lab/config")" "$port"
tr '\0' '\n' <"/proc/$(lab pid metad)/environ" | grep -qx 'LAB_TEST=some value' || fail "env/metad is not used"
silent lab kill blockd-hq STOP
silent lab kill blockd-hq CONT
silent lab kill blockd-hq TERM
silent lab start blockd-hq
one_line 1 lab kill nobody
one_line 2 lab kill metad NOSUCHSIGNAL
say "ok - kill and start"

# --- a recycled process id is nobody ---
sleep 600 &
children+=($!)
stranger=$!
read -r pid started boot <"$lab/run/blockd-cloud"
silent lab kill blockd-cloud
echo "$stranger $started $boot" >"$lab/run/blockd-cloud"
same "pid of a recycled number" "$(status_of lab pid blockd-cloud)" 1
one_line 1 lab kill blockd-cloud
silent lab start blockd-cloud
kill -0 "$stranger" || fail "somebody else's process was ended"
say "ok - recycled process ids"

# --- mounts ---
mnt="$work/a mount, with spaces"
mkdir "$mnt"
silent lab mount a "$mnt"
one_line 1 lab mount a "$mnt"
one_line 2 lab mount metad "$mnt"
one_line 1 lab mount b "$work/nowhere"
[ -s "$lab/clients/a/identity" ] || fail "no identity of a"
must ls "$lab/log/a.log" "$lab/log/a.trace"
echo hello >"$mnt/file"
silent lab wait
[ "$(lab blocks hq | wc -l)" = 1 ] || fail "blocks: $(lab blocks hq)"
lab blocks hq | grep -qE '^[0-9a-f]{64} [0-9]+$' || fail "blocks: $(lab blocks hq)"
blocks=$(lab blocks hq)
silent lab kill blockd-hq
same "blocks of a stopped server" "$(lab blocks hq)" "$blocks"
silent lab start blockd-hq
[ "$(put_bytes hq)" = 0 ] || fail "traffic does not count from the process's start"
silent lab kill a
silent lab start a
same "what was written" "$(cat "$mnt/file")" hello
echo more >"$mnt/file2"
silent lab unmount a
! grep -qF 'mount,\040with' /proc/self/mountinfo || fail "still mounted"
one_line 1 lab unmount a
silent lab start a
same "what was written" "$(cat "$mnt/file2")" more
mkdir "$work/c" && silent lab mount c "$work/c" --account carol -o ro
grep -qx account=carol "$lab/clients/c/identity" || fail "c is no device of carol"
silent lab unmount c
say "ok - mounts"

# --- wait tells what is missing ---
must ls "$mnt" # a known directory takes new names without the server
silent lab kill metad
echo late >"$mnt/late" || fail "no new file without the server"
same "status of wait without a server" "$(status_of lab wait --timeout 1)" 1
same "parts that wait names" "$(sed 's/:.*//' "$work/out" | tr '\n' ' ')" "a metad "
same "lines on stderr" "$(wc -l <"$work/err")" 1
silent lab start metad
silent lab wait
say "ok - wait"

# --- down and up again ---
silent lab down
[ -z "$(ours)" ] || fail "processes after down: $(ours)"
! grep -qF 'mount,\040with' /proc/self/mountinfo || fail "a mount after down"
silent lab up
same "port after a resume" "$(grep ^port_metad= "$lab/config")" "$port"
silent lab start a
same "what was written" "$(cat "$mnt/late")" late
say "ok - down and up"

# --- everything killed at once ---
for name in a metad blockd-hq blockd-cloud; do kill -9 "$(lab pid "$name")"; done
silent lab down
[ -z "$(ours)" ] || fail "processes after down: $(ours)"
! grep -qF 'mount,\040with' /proc/self/mountinfo || fail "a mount after down"
silent lab up
silent lab start a
same "what was written" "$(cat "$mnt/late")" late
# stopped processes end, too
for name in a metad blockd-hq; do kill -STOP "$(lab pid "$name")"; done
silent lab down --purge
[ -z "$(ours)" ] || fail "processes after down: $(ours)"
[ ! -e "$lab" ] || fail "down --purge leaves $lab"
silent lab down --purge
say "ok - down after kill -9 and SIGSTOP"

passed "the lab"
