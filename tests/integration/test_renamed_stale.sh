#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A program renames what another mount has just put under a name, before the kernel could be told: the new name shows
# what was moved, not what the kernel took it for.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a b
must mkdir "$a/d"
printf 'first' >"$a/d/f"
printf 'second, and longer' >"$a/d/x"
settled
must cat "$a/d/f" "$b/d/f" "$b/d/x"

# an fsync of the directory holds the kernel's lock of it until the block server goes on
must lab kill blockd-hq STOP
python3 - "$a/d" <<'PY' &
import os, sys, threading
d = sys.argv[1]
fd = os.open(d, os.O_RDONLY)
new = os.open(d + '/new', os.O_CREAT | os.O_WRONLY)
os.write(new, os.urandom(300000))
os.close(new)
t = threading.Thread(target=os.fsync, args=(fd,))
t.start()
sys.stdin.close()
while not os.path.exists(d + '/../../told'):
    t.join(0.02)
os.rename(d + '/f', d + '/g')  # waits for the lock
t.join()
PY
mover=$!
children+=("$mover")
# shellcheck disable=SC2317 # called by name
in_call() { grep -q "^$1 " /proc/"$mover"/task/*/syscall; }
eventually 20 in_call 74  # fsync
must mv "$b/d/f" "$b/d/y"
must mv "$b/d/x" "$b/d/f"
must lab steadfs b sync "$b" --timeout 20
cursor() { lab steadfs "$1" status "${!1}" --json | jq '.namespaces[0].cursor'; }
heard() { [ "$(cursor a)" = "$(cursor b)" ]; }
eventually 20 heard
: >"$work/told"
eventually 20 in_call 82 # rename
must lab kill blockd-hq CONT
wait "$mover" || fail "the rename failed"
settled
renamed() { [ "$(cat "$a/d/g")" = 'second, and longer' ]; }
eventually 10 renamed
same_tree "$a" "$b"
passed "renamed"
