#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What one device saves, another one shows: names and contents, whatever it had cached; a file that is open
# there stays the version it is.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab_mount a b
mkdir "$work/v"

# save FILE: the file in $work/v as the new content of it in the mount, fsynced, in place
save() {
    must dd if="$work/v/new" of="$a/$1" bs=64K conv=fsync
}
text() { printf '%s' "$2" >"$a/$1" && sync "$a/$1"; }
shows() { cmp -s "$work/v/new" "$b/$1"; }
reads() { [ "$(cat "$b/$1" 2>/dev/null)" = "$2" ]; }
absent() { [ ! -e "$b/$1" ] && ! find "$b/$(dirname "$1")" -mindepth 1 -maxdepth 1 -name "$(basename "$1")" | grep -q .; }

# names: one that was known to be absent, one in a listing that was cached
must mkdir "$a/d"
eventually 10 test -d "$b/d"
for i in 1 2 3; do
    [ ! -e "$b/d/f$i" ] || fail "there too early"
    same "entries before" "$(find "$b/d" -type f | wc -l)" $((i - 1))
    text "d/f$i" "text $i"
    eventually 10 reads "d/f$i" "text $i"
    same "entries after" "$(find "$b/d" -type f | wc -l)" "$i"
done
must mv "$a/d/f1" "$a/d/g1"
must rm "$a/d/f2"
sync "$a/d"
eventually 10 absent d/f2
eventually 10 absent d/f1
eventually 10 reads d/g1 "text 1"
must mv "$a/d" "$a/e"
sync "$a"
eventually 10 reads e/g1 "text 1"
eventually 10 absent d
must rm -r "$a/e"
eventually 10 absent e

# the other way
printf 'from b' >"$b/back" && sync "$b/back"
eventually 10 cmp -s "$b/back" "$a/back"

# contents: shrink, grow, append, overwrite; read there before, and not
change() { # NAME: makes $work/v/new from $work/v/old
    case $1 in
    shrink) head -c 1000 "$work/v/old" >"$work/v/new" ;;
    empty) : >"$work/v/new" ;;
    grow) { cat "$work/v/old"; head -c 300000 /dev/urandom; } >"$work/v/new" ;;
    append) { cat "$work/v/old"; printf 'tail'; } >"$work/v/new" ;;
    overwrite) random_file "$work/v/new" 100000 ;;
    esac
}
apply() { # NAME FILE: the change as a program would make it
    case $1 in
    shrink) truncate -s 1000 "$a/$2" && sync "$a/$2" ;;
    empty) truncate -s 0 "$a/$2" && sync "$a/$2" ;;
    append) printf 'tail' >>"$a/$2" && sync "$a/$2" ;;
    *) save "$2" ;;
    esac
}
# Maps a file on b, and checks the mapping again when a line arrives on descriptor 8.
map() { # FILE
    rm -f "$work/v/go"
    mkfifo "$work/v/go"
    : >"$work/v/mapped"
    python3 -c '
import mmap, os, sys
m = mmap.mmap(os.open(sys.argv[1], os.O_RDONLY), 0, mmap.MAP_SHARED, mmap.PROT_READ)
old = open(sys.argv[2], "rb").read()
assert m[:] == old
print("mapped", flush=True)
sys.stdin.readline()
assert m[:] == old, "a mapped file changed under its mapping"
' "$b/$1" "$work/v/old" <"$work/v/go" >"$work/v/mapped" 2>&1 &
    mapper=$!
    children+=("$mapper")
    exec 8>"$work/v/go"
    eventually 10 grep -q mapped "$work/v/mapped"
}
for how in shrink empty grow append overwrite; do
    random_file "$work/v/old" 100000
    change "$how"
    for kind in unread read open mapped; do
        f=$how-$kind
        must dd if="$work/v/old" of="$a/$f" bs=64K conv=fsync
        eventually 10 cmp -s "$work/v/old" "$b/$f"
        case $kind in
        open) exec 9<"$b/$f" ;;
        mapped) map "$f" ;;
        esac
        apply "$how" "$f"
        eventually 10 shows "$f"
        same "size after $f" "$(stat -c %s "$b/$f")" "$(stat -c %s "$work/v/new")"
        case $kind in
        open)
            cmp -s "$work/v/old" - <&9 || fail "$f: the open descriptor changed its version"
            exec 9<&-
            ;;
        mapped)
            echo >&8
            exec 8>&-
            wait "$mapper" || { cat "$work/v/mapped"; fail "$f: the mapping"; }
            ;;
        esac
        must rm "$a/$f"
    done
done

# one of two names changes: both show it
random_file "$work/v/old" 50000
must cp "$work/v/old" "$a/one"
must ln "$a/one" "$a/two"
settled
must cmp "$work/v/old" "$b/one"
must cmp "$work/v/old" "$b/two"
exec 9<"$b/one"
random_file "$work/v/new" 20000
must truncate -s 0 "$a/two"
save two
eventually 10 shows one
eventually 10 shows two
same "inode of two names" "$(stat -c %i "$b/one")" "$(stat -c %i "$b/two")"
same "links" "$(stat -c %h "$b/one")" 2
cmp -s "$work/v/old" - <&9 || fail "the open descriptor of a linked file changed its version"
exec 9<&-

# removed there, open here
exec 9<"$b/one"
must rm "$a/one"
sync "$a"
eventually 10 absent one
cmp -s "$work/v/new" - <&9 || fail "a removed file that is open lost its bytes"
exec 9<&-

# read here while it is renamed there, its directory is, and another takes its name
must mkdir "$a/box"
must cp "$work/v/old" "$a/box/read"
settled
exec 9<"$b/box/read"
inode=$(stat -L -c %i "/dev/fd/9")
half=$(head -c 20000 <&9 | sha256sum) # one read, and what is read ahead
must mv "$a/box/read" "$a/box/away"
sync "$a/box"
eventually 10 absent box/read
same "inode of what was renamed" "$(stat -c %i "$b/box/away")" "$inode"
must mv "$a/box" "$a/crate"
sync "$a"
eventually 10 test -e "$b/crate/away"
must cp "$work/v/new" "$a/crate/over"
sync "$a/crate/over"
must mv "$a/crate/over" "$a/crate/away"
sync "$a/crate"
eventually 10 shows crate/away
[ "$(stat -c %i "$b/crate/away")" != "$inode" ] || fail "what took the name is what had it"
same "what was read" "$half" "$(head -c 20000 "$work/v/old" | sha256sum)"
python3 -c 'import os, sys; sys.stdout.buffer.write(os.pread(9, 1 << 20, 0))' | cmp -s "$work/v/old" - ||
    fail "a file that was renamed, and replaced, while it was read"
same "links of what was replaced" "$(stat -L -c %h "/dev/fd/9")" 0
exec 9<&-
must rm -r "$a/crate"

# a directory that somebody works in here is removed there: nothing is found in it, nothing is made in it, nobody hangs
must mkdir -p "$a/left/inner"
echo text >"$a/left/file"
settled
cat >"$work/inside.py" <<'PY'
import errno, os, sys
os.chdir(sys.argv[1])
above = os.open('..', os.O_RDONLY)
assert sorted(os.listdir('.')) == ['file', 'inner']
print('inside', flush=True)
sys.stdin.readline()
def gone(what, *args):
    try:
        what(*args)
    except OSError as e:
        if e.errno == errno.ENOENT:
            return
        raise
    sys.exit('%s%r in a removed directory' % (what.__name__, args))
gone(os.getcwd)
gone(os.stat, 'file')
gone(os.stat, 'new')
gone(os.open, 'file', os.O_RDONLY)
gone(os.open, 'new', os.O_CREAT | os.O_RDWR)
gone(os.mkdir, 'new')
gone(os.mknod, 'new')
gone(os.symlink, 'x', 'new')
gone(os.rename, '../two', 'new')
gone(os.link, '../two', 'new')
gone(os.unlink, 'file')
gone(os.rmdir, 'inner')
if os.listdir('.'):
    sys.exit('names in a removed directory')
if os.stat('.').st_nlink != 0:
    sys.exit('%d links of a removed directory' % os.stat('.').st_nlink)
os.chdir('..')
os.stat('two')
assert os.path.samestat(os.stat('.'), os.fstat(above))
PY
rm -f "$work/v/go"
mkfifo "$work/v/go"
timeout 60 python3 "$work/inside.py" "$b/left" <"$work/v/go" >"$work/v/inside" 2>&1 &
inside=$!
children+=("$inside")
exec 8>"$work/v/go"
eventually 10 grep -q inside "$work/v/inside"
must rm -r "$a/left"
sync "$a"
eventually 10 absent left
echo >&8
exec 8>&-
wait "$inside" || { cat "$work/v/inside"; fail "in a directory that is removed elsewhere"; }

# what was fsynced in pieces is whole and committed: closing it is no change, however it would have been cut at once. So
# what another device does to it then is neither undone nor a conflict
cat >"$work/pieces.py" <<'PY'
import os, sys
a, b, how = sys.argv[1:4]
fd = os.open(a + '/pieces', os.O_RDWR | os.O_CREAT, 0o644)
for i in range(3):
    os.write(fd, os.urandom(3000))
    os.fsync(fd)
while not (os.path.exists(b + '/pieces') and os.stat(b + '/pieces').st_size == 9000):
    pass
os.close(fd)
if how == 'removed':
    os.unlink(b + '/pieces')
elif how == 'replaced':
    with open(b + '/newer', 'w') as f: f.write('new')
    os.rename(b + '/newer', b + '/pieces')
else:
    with open(b + '/pieces', 'w') as f: f.write('new')
PY
for how in removed replaced edited; do
    must timeout 60 python3 "$work/pieces.py" "$a" "$b" "$how"
    settled
    for d in "$a" "$b"; do
        same "files $how on $d" "$(find "$d" -name 'pieces*' -printf '%f %s\n')" "$([ "$how" = removed ] || echo "pieces 3")"
    done
done
must rm "$a/pieces"

# attributes
must chmod 640 "$a/two"
must touch -d '2001-02-03 04:05:06.123456789' "$a/two"
must setfattr -n user.k -v v "$a/two"
must ln -sfn two "$a/link"
settled
eventually 10 test "$(stat -c '%a %y' "$b/two" | cut -c1-33)" = "$(stat -c '%a %y' "$a/two" | cut -c1-33)"
same "xattr" "$(getfattr --only-values -n user.k "$b/two")" v
same "symlink" "$(readlink "$b/link")" two
must ln -sfn elsewhere "$a/link"
settled
same "symlink changed" "$(readlink "$b/link")" elsewhere
same_tree "$a" "$b"

# many new names in a directory that another device made: its list is loaded, not each name asked for
asked() {
    curl -sf --noproxy '*' --cacert "$lab/metad/ca.pem" \
        "https://127.0.0.1:$(sed -n 's/^port_metad=//p' "$lab/config")/metrics" |
        awk '$1 == "steadfs_metad_requests_total{method=\"lookup\"}" { print $2 }'
}
must mkdir "$a/shared"
for i in $(seq 100); do echo "$i" >"$a/shared/old-$i"; done
settled
must lab unmount b
must lab mount b "$b"
before=$(asked)
for i in $(seq 200); do echo "$i" >"$b/shared/new-$i"; done
looked=$(($(asked) - before))
say "200 new names in a directory of 100: $looked questions about single names"
[ "$looked" -lt 60 ] || fail "$looked questions"
settled
same "names" "$(find "$a/shared" -type f | wc -l)" 300
passed "the second mount"
