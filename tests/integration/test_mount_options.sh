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
must plain_umount "$b"
eventually 30 flock -n "$lab/clients/b/lock" true
mount_b -o strictatime
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
passed "mount options"
