#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What the mount's options make of owners, permissions, set-id bits and devices; how the mount is shown; remount.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

chmod 711 "$work"
me=$(id -u) us=$(id -g)
flags_of() { awk -v m="$1" '$5 == m { print $6 }' /proc/self/mountinfo; }

lab_up
# nobody has changed the root: it belongs to whoever mounts it, and that is not told to anybody
lab_mount a
same "owner of the root" "$(stat -c %u:%g:%a "$a")" "$me:$us:755"
must chmod 750 "$a"
settled
same "owner of the changed root" "$(stat -c %u:%g:%a "$a")" "$me:$us:750"

# owners and permissions shown otherwise: what others see of it stays as it was
must touch "$a/old"
must chmod 664 "$a/old"
must mkdir "$a/dir"
settled
lab mount b "$b" -o uid=4321,gid=1234,umask=027 || fail "mount with owners"
same "shown owner" "$(stat -c %u:%g:%a "$b/old")" 4321:1234:640
same "shown directory" "$(stat -c %u:%g:%a "$b/dir")" 4321:1234:750
as_owner() { if [ "$me" = 0 ]; then setpriv --reuid 4321 --regid 1234 --clear-groups "$@"; else "$@"; fi; }
must as_owner sh -c "echo text >'$b/dir/new'; mkdir '$b/dir/sub'"
must as_owner chmod 660 "$b/dir/new"
must_fail 'not permitted' as_owner chown 99 "$b/old"
must as_owner chmod 600 "$b/old" # the bits that are not shown stay
settled
same "stored owner of what was made there" "$(stat -c %u:%g "$a/dir/new")" "$me:$us"
same "stored owner of a directory" "$(stat -c %u:%g "$a/dir/sub")" "$me:$us"
same "permissions under umask=" "$(stat -c %u:%g:%a "$a/old")" "$me:$us:624"
lab unmount b || fail "unmount b"

# owners by name: a number made of the name is what others see, and what they set is shown by it; unknown ones are numbers
if [ "$me" = 0 ]; then
    lab mount b "$b" -o owners=name,allow_other,default_permissions || fail "mount with names"
    other=$(id -u nobody) group=$(id -g nobody)
    must chmod 755 "$b"
    must chmod 777 "$b/dir"
    must setpriv --reuid "$other" --regid "$group" --clear-groups touch "$b/dir/theirs"
    same "a named owner" "$(stat -c %u:%g "$b/dir/theirs")" "$other:$group"
    must setfacl -m "u:$other:r" "$b/old"
    same "in a list" "$(getfacl -cnp "$b/old" | grep "user:$other:")" "user:$other:r--"
    settled
    named=$(stat -c %u "$a/dir/theirs")
    [ "$named" -ge $((1 << 30)) ] || fail "stored as $named"
    same "stored in the list" "$(getfacl -cnp "$a/old" | grep "user:$named:")" "user:$named:r--"
    must touch "$a/given" "$a/number"
    must chown "$named" "$a/given"
    must chown 4711 "$a/number"
    settled
    same "given elsewhere" "$(stat -c %u "$b/given")" "$other"
    same "without a name" "$(stat -c %u "$b/number")" 4711
    same "root" "$(stat -c %u "$b/dir")" 0
    must chown "$other" "$b/number"
    settled
    same "given here" "$(stat -c %u "$a/number")" "$named"
    lab unmount b || fail "unmount b"
fi

# how it is shown, and the kernel's flags
program=$build/fs/mount.fuse.steadfs
port=$(sed -n 's/^port_metad=//p' "$lab/config")
mount_b() { must "$program" "alice@127.0.0.1:$port" "$b" -o "state=$lab/clients/b,log=$work/b.log" "$@"; }
mount_b -t fuse.synced -o fsname=folder
same "type and source" "$(awk -v m="$b" '$2 == m { print $1, $3 }' /proc/mounts)" "folder fuse.synced"
[[ $(flags_of "$b") == *nosuid*nodev* ]] || fail "set-id bits count without being asked for: $(flags_of "$b")"
must plain_umount "$b"
eventually 30 flock -n "$lab/clients/b/lock" true
if [ "$me" != 0 ]; then
    must_fail 'only root' "$program" x@h "$a" -o remount,ro
    passed "mount options, as a user"
fi
mount_b -o allow_suid,allow_dev,noatime
same "flags" "$(flags_of "$b")" rw,noatime
atime() { stat -c %X.%x "$b/$1"; }
echo text >"$b/read"
was=$(atime read)
must cat "$b/read"
same "access time with noatime" "$(atime read)" "$was"
must_fail 'read-only' sh -c "'$program' x@h '$b' -o remount,ro && touch '$b/no'"
same "flags stay" "$(flags_of "$b")" ro,noatime
must "$program" x@h "$b" -o remount,nodev
same "flags change" "$(flags_of "$b")" rw,nodev,noatime
must touch "$b/yes"
must_fail 'nothing is mounted' "$program" x@h "$work" -o remount,ro

# file handles: good while the kernel knows the file, when it has forgotten it (remount makes it drop what nobody uses), and
# at the next mount
must mkdir -p "$b/deep/er"
echo inside >"$b/deep/er/file"
cat >"$work/handles.py" <<'PY'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
class Handle(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint), ('type', ctypes.c_int), ('data', ctypes.c_ubyte * 128)]
def take(path):
    h, mount = Handle(bytes=128), ctypes.c_int()
    if libc.name_to_handle_at(-100, os.fsencode(path), ctypes.byref(h), ctypes.byref(mount), 0) != 0:
        sys.exit('no handle of %s: %s' % (path, os.strerror(ctypes.get_errno())))
    return bytes(h)
def opened(top, h, flags):
    fd = libc.open_by_handle_at(top, ctypes.byref(Handle.from_buffer_copy(h)), flags)
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
how, top, kept = sys.argv[1:4]
paths = ['deep/er/file', 'deep/er', 'deep']
if how == 'take':
    with open(kept, 'wb') as f:
        f.write(b''.join(take(top + '/' + p) for p in paths))
    sys.exit(0)
size = ctypes.sizeof(Handle)
with open(kept, 'rb') as f:
    handles = [f.read(size) for _ in paths]
at = os.open(top, os.O_RDONLY)
if how == 'gone':
    try:
        opened(at, handles[0], os.O_RDONLY)
    except OSError as e:
        sys.exit(0 if e.errno == errno.ESTALE else 'a removed file: %s' % e)
    sys.exit('a removed file is opened by its handle')
if os.read(opened(at, handles[0], os.O_RDONLY), 99) != b'inside\n':
    sys.exit('not the file')
if os.listdir(opened(at, handles[1], os.O_RDONLY | os.O_DIRECTORY)) != ['file']:
    sys.exit('not the directory')
fd = opened(at, handles[2], os.O_RDONLY | os.O_DIRECTORY)
if os.stat('er/file', dir_fd=fd).st_size != 7 or not os.path.samestat(os.stat('..', dir_fd=fd), os.fstat(at)):
    sys.exit('not where it should be')
PY
must python3 "$work/handles.py" take "$b" "$work/handles"
must python3 "$work/handles.py" open "$b" "$work/handles"
must "$program" x@h "$b" -o remount,noatime
must python3 "$work/handles.py" open "$b" "$work/handles"
must plain_umount "$b"
eventually 30 flock -n "$lab/clients/b/lock" true
mount_b -o strictatime
must python3 "$work/handles.py" open "$b" "$work/handles" # nothing was looked up before
must rm "$b/deep/er/file"
must python3 "$work/handles.py" gone "$b" "$work/handles"
for i in 1 2 3; do
    was=$(atime read)
    must cat "$b/read"
    [ "$(atime read)" != "$was" ] || fail "access time $i with strictatime: $was"
done
must plain_umount "$b"
eventually 30 flock -n "$lab/clients/b/lock" true
mount_b -o noexec
echo more >>"$b/read"
was=$(atime read)
must cat "$b/read"
now=$(atime read)
[ "$now" != "$was" ] || fail "access time after a change: $was"
must cat "$b/read"
same "access time after another reading" "$(atime read)" "$now"
must plain_umount "$b"
eventually 30 flock -n "$lab/clients/b/lock" true

# a mount that may have few descriptors serves programs that have many
(ulimit -n 64 && mount_b) || exit 1
cat >"$work/many.py" <<'PY'
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
n = 900
os.mkdir(sys.argv[1] + '/many')
fds = [os.open('%s/many/%d' % (sys.argv[1], i), os.O_RDWR | os.O_CREAT) for i in range(n)]
for i, fd in enumerate(fds):
    os.pwrite(fd, b'%d' % i * 1000, i * 100)
for fd in fds[::90]:
    os.fsync(fd)
for i, fd in enumerate(fds):
    if os.pread(fd, 9999, i * 100) != b'%d' % i * 1000:
        sys.exit('file %d is another one' % i)
    os.unlink('%s/many/%d' % (sys.argv[1], i)) if i % 3 == 0 else None
for i, fd in enumerate(fds):
    if os.fstat(fd).st_nlink != (i % 3 != 0):
        sys.exit('links of file %d' % i)
PY
must timeout 60 python3 "$work/many.py" "$b"
must lab steadfs b sync "$b"
settled
same "files there" "$(find "$a/many" -type f | wc -l)" 600
same "content there" "$(tr -d '\0' <"$a/many/7" | head -c 8)" 77777777
must plain_umount "$b"
passed "mount options"
