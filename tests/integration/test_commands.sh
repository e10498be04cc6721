#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The command line: exit statuses, what it prints, and that it says in one line what went wrong.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
steadfs=$build/tools/steadfs/steadfs

# exits STATUS PATTERN COMMAND…: that status; what it prints on stderr is one line that matches, progress apart
exits() {
    local status=0 want=$1 pattern=$2
    shift 2
    "$@" >"$work/out" 2>"$work/err" || status=$?
    same "status of $* ($(cat "$work/err"))" "$status" "$want"
    [ -n "$pattern" ] || return 0
    same "progress said twice" "$(grep ' to go$' "$work/err" | uniq -d)" ""
    sed -i '/ to go$/d' "$work/err"
    same "lines on stderr of $*" "$(wc -l <"$work/err")" 1
    grep -qE -- "$pattern" "$work/err" || fail "no '$pattern': $(cat "$work/err")"
}

# --- without any mount ---
for c in mount unmount status sync conflicts parked where login namespace share admin history restore pin evict; do
    must "$steadfs" "$c" --help
    grep -q "^usage: steadfs $c" "$work/out" || fail "help of $c: $(cat "$work/out")"
done
root=$(cd "$(dirname "$0")/../.." && pwd)
# what --help names, the manual and the completion of the shell do, too
options() { grep -oE -- '--[a-z][a-z0-9-]+|[a-z_]+=' | grep -vx -- '--help' | sort -u; }
completed() { # WORD…: what can stand behind them, once an option begins
    COMP_WORDS=(steadfs "$@" --) COMP_CWORD=$(($# + 1)) COMPREPLY=()
    _steadfs
    printf '%s\n' "${COMPREPLY[@]}" | options
}
# shellcheck source=tools/steadfs/completion/steadfs.bash
. "$root/tools/steadfs/completion/steadfs.bash"
for c in unmount status sync conflicts parked where login namespace share; do
    same "completion of $c" "$(completed "$c")" "$("$steadfs" "$c" --help | options)"
done
while read -r line; do
    read -ra words < <(sed 's/ [^a-z].*//; s/ [[].*//' <<<"$line")
    missing=$(comm -23 <(options <<<"$line") <(completed admin "${words[@]}"))
    [ -z "$missing" ] || fail "completion of admin ${words[*]} lacks $missing"
done < <("$steadfs" admin --help | sed -n 's/^  \([a-z]\)/\1/p')
COMP_WORDS=(steadfs admin quota alice --bytes 20) COMP_CWORD=5 COMPREPLY=()
_steadfs
same "completion of a quota" "${COMPREPLY[*]}" "20K 20M 20G 20T"
for program in tools/steadfs/steadfs.1 fs/mount.fuse.steadfs.8 tools/metad/steadfs-metad.8 tools/blockd/steadfs-blockd.8; do
    command=$build/${program%.?}
    helps=("$command --help")
    [[ $command != "$steadfs" ]] || mapfile -t helps < <(awk -v s="$steadfs" '/^  [a-z]/ { print s, $1, "--help" }' <("$steadfs" --help))
    missing=$(comm -23 <(for h in "${helps[@]}"; do $h; done | options) <(sed 's/\\-/-/g' "$root/$program" | options))
    [ -z "$missing" ] || fail "$program lacks $missing"
done
missing=$(comm -23 <("$build/fs/mount.fuse.steadfs" --help | options) <(options <"$root/tools/steadfs/completion/steadfs.bash"))
[ -z "$missing" ] || fail "completion of mount lacks $missing"
exits 2 '' "$steadfs"
exits 2 "no command" "$steadfs" nonsense
for c in history restore pin evict; do exits 2 "later version" "$steadfs" "$c" x; done
exits 3 "not in a steadfs mount" "$steadfs" sync /
exits 3 "not in a steadfs mount" "$steadfs" status /
exits 3 "not the mount point" "$steadfs" unmount /
exits 2 "no invitation" "$steadfs" login alice@host
exits 2 "no invitation" "$steadfs" login - <<<"alice@host"
exits 2 "invitation" "$steadfs" login
exits 2 "invitation" "$steadfs" login --token-file "$work/token" alice@host
exits 1 "cannot read an invitation from" "$steadfs" login --token-file "$work/none-such"
exits 2 "not a number" "$steadfs" sync --timeout soon
exits 2 "unknown option" "$steadfs" status --xml
exits 4 "refused|reach" "$steadfs" login "alice@127.0.0.1:1/token#$(printf '0%.0s' {1..64})" --state "$work/none"
[ ! -e "$work/none" ] || fail "a login that failed left its directory"
say "ok - without a mount"

# --- login ---
lab_up --premises hq,cloud
invitation=$(lab steadfs admin admin account token alice)
[[ $invitation =~ ^alice@127\.0\.0\.1:[0-9]+/[^#]+#[0-9a-f]{64}$ ]] || fail "invitation: $invitation"
exits 5 "not trusted|certificate" "$steadfs" login "${invitation%#*}#$(printf '0%.0s' {1..64})" --state "$work/state"
exits 5 "unknown|used" "$steadfs" login "${invitation/\/*#/\/wrong#}" --state "$work/state"
[ ! -e "$work/state" ] || fail "a login that failed left its directory"
must "$steadfs" login "$invitation" --state "$work/state" --device laptop
lab steadfs admin admin account token alice >"$work/token" || fail "no invitation"
must "$steadfs" login --token-file "$work/token" --state "$work/by-file"
lab steadfs admin admin account token alice >"$work/token" || fail "no invitation"
must "$steadfs" login - --state "$work/by-input" <"$work/token"
same "mode of the identity" "$(stat -c %a "$work/state/identity")" 600
same "mode of the state directory" "$(stat -c %a "$work/state")" 700
grep -qx 'device_name=laptop' "$work/state/identity" || fail "device name"
cp "$work/state/identity" "$work/identity"
exits 1 "identity already" "$steadfs" login "$(lab steadfs admin admin account token alice)" --state "$work/state"
must cmp "$work/identity" "$work/state/identity"
exits 5 "unknown|used" "$steadfs" login "$invitation" --state "$work/state2"
json=$(lab steadfs admin admin account token alice --json)
jq -e '.account == "alice" and (.invitation | startswith("alice@"))' >"$work/out" <<<"$json" || fail "json: $json"
say "ok - login"

# --- status, sync ---
lab_mount a
echo content >"$a/file"
must "$steadfs" sync "$a/file"
must "$steadfs" status "$a"
grep -q synced "$work/out" || fail "status: $(cat "$work/out")"
"$steadfs" status "$a/file" --json | jq -e --arg m "$a" '
    .mountpoint == $m and .account == "alice" and .device == "a" and .online
    and (.namespaces[0] | .name == "alice" and (.id | type == "number") and (.cursor | type == "number")
        and .pending_files == 0 and .pending_bytes == 0 and .conflicts == 0 and has("last_error") and has("since"))' \
    >"$work/out" || fail "status --json: $("$steadfs" status "$a/file" --json)"
exits 2 "neither a conflicted copy" "$steadfs" conflicts diff "$a/file"
(cd "$a" && must "$steadfs" sync && must "$steadfs" conflicts)
same "conflicts" "$("$steadfs" conflicts "$a" --json)" "[]"
say "ok - status and sync"

# --- namespaces ---
mkdir "$a/projects"
(cd "$a" && must "$steadfs" namespace create one) # the identity of the current directory's mount
STEADFS_STATE=$lab/clients/a must "$steadfs" namespace create two
must "$steadfs" namespace mount one "$a/projects/one"
echo in one >"$a/projects/one/file" || fail "writing into a namespace just mounted"
must "$steadfs" namespace mount two projects/two --state "$lab/clients/a"
eventually 10 ls "$a/projects/two"
exits 3 "not in a steadfs mount" "$steadfs" namespace mount two /tmp/two --state "$lab/clients/a"
exits 1 "" "$steadfs" namespace mount one "$a/projects/again"
(cd "$a" && "$steadfs" namespace list) >"$work/out"
grep -qE '^one .*/projects/one' "$work/out" || fail "namespace list: $(cat "$work/out")"
exits 1 "no account" "$steadfs" share one nobody editor --state "$lab/clients/a"
must "$steadfs" share one bob viewer --state "$lab/clients/a"
must "$steadfs" namespace unmount "$a/projects/two"
eventually 10 test ! -e "$a/projects/two"
settled
b="$work/b \$({touch,expanded})" # a name is anybody's
mkdir "$b"
must lab mount d "$b" --account bob
COMP_WORDS=(steadfs unmount "$work/b") COMP_CWORD=2 COMPREPLY=()
cd "$work" && _steadfs
same "completed mount points" "${COMPREPLY[*]}" "$b"
[ ! -e "$work/expanded" ] || fail "the shell expanded a mount point's name"
must lab steadfs d namespace mount one theirs
eventually 10 test -e "$b/theirs/file"
same "what alice wrote" "$(cat "$b/theirs/file")" "in one"
exits 5 "" lab steadfs d share one bob owner
exits 5 "administrator" lab steadfs d admin account add eve --admin "$lab/clients/d/identity"
say "ok - namespaces"

# --- a mount that does not answer: seen to at the end ---
must lab kill d STOP
"$steadfs" unmount "$b" 2>"$work/stopped" &
stopped=$!

# --- servers away ---
must ls "$a" # a known directory takes new names without the server
must lab kill metad STOP
exits 6 "not sent|answer|journal|time" "$steadfs" sync "$a" --timeout 1
echo pending >"$a/file2" || fail "no new file without the server"
exits 6 "still mounted" "$steadfs" unmount "$a" --timeout 2
must cat "$a/file2"
must lab kill metad CONT
must "$steadfs" sync "$a"
must lab kill metad
exits 4 "connection refused" "$steadfs" namespace list --state "$lab/clients/a"
exits 4 "connection refused" lab steadfs admin admin server list
echo more >"$a/file3" || fail "no new file without the server"
exits 6 "unmounting all the same" "$steadfs" unmount "$a" --timeout 1 --force
exits 3 "" "$steadfs" status "$a"
must lab start metad
pid=$(lab pid a) && eventually 90 gone "$pid"
must lab start a
same "what was pending" "$(cat "$a/file3")" more
say "ok - servers away"

# --- a revoked device ---
number=$(sed -n 's/^device=//p' "$lab/clients/a/identity")
must lab steadfs admin admin device revoke "$number"
exits 5 "revoked|not know" "$steadfs" namespace list --state "$lab/clients/a"
exits 1 "revoked.*--renew" "$steadfs" login "$(lab steadfs admin admin account token alice)" --state "$lab/clients/a"
echo unsent >"$a/file4" || fail "no new file on a revoked device"
told() { "$steadfs" status "$a" | grep -qF "login INVITATION --renew --state $lab/clients/a"; }
eventually 20 told
say "ok - a revoked device"

# --- a mount whose process is gone ---
must lab kill a
exits 4 "process is gone" "$steadfs" status "$a"
must "$steadfs" unmount "$a"
exits 3 "" "$steadfs" status "$a"
say "ok - a dead mount"

status=0
wait "$stopped" || status=$?
same "status of unmount where nobody answers ($(cat "$work/stopped"))" "$status" 4
grep -q "does not answer; still mounted" "$work/stopped" || fail "$(cat "$work/stopped")"
must lab kill d CONT
must ls "$b/theirs"
must lab unmount d
say "ok - a mount that does not answer"

passed "the command line"
