#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everyday POSIX on a mount, by a program that claims the same of any local filesystem.
# time-out: 180
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

check=$build/tests/lib/posixcheck
must "$check" "$work" # the claims themselves

lab_up
lab_mount a
"$check" "$a" || fail "on the mount"

# data behind a hole is found at once, however long the hole is
must truncate -s 9223372036854775807 "$a/sparse"
must timeout 5 python3 - "$a/sparse" <<'EOF'
import errno, os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
try:
    sys.exit("data at %d of a hole" % os.lseek(fd, 0, os.SEEK_DATA))
except OSError as e:
    if e.errno != errno.ENXIO:
        raise
os.pwrite(fd, b"x", 1 << 50)
found = os.lseek(fd, 0, os.SEEK_DATA)
if not (1 << 50) - (4 << 20) < found <= 1 << 50:
    sys.exit("data found at %d" % found)
EOF
must rm "$a/sparse"
# holes are told in blocks of st_blksize, as of a disk
must python3 - "$a/sparse" <<'EOF'
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
block = os.fstat(fd).st_blksize
a, b, c = 10, block + block // 2, 5 * block + 7
for at in a, b, c:
    os.pwrite(fd, b"x", at)
os.ftruncate(fd, c + 100)
for whence, at, want in (
        (os.SEEK_HOLE, 0, 2 * block), (os.SEEK_HOLE, a, 2 * block), (os.SEEK_HOLE, b + 1, 2 * block),
        (os.SEEK_HOLE, 3 * block + 5, 3 * block + 5), (os.SEEK_HOLE, c, c + 100),
        (os.SEEK_DATA, 0, 0), (os.SEEK_DATA, b + 1, b + 1), (os.SEEK_DATA, 2 * block, 5 * block),
        (os.SEEK_DATA, 3 * block + 5, 5 * block), (os.SEEK_DATA, c + 1, c + 1)):
    got = os.lseek(fd, at, whence)
    if got != want:
        sys.exit("whence %d from %d: %d instead of %d" % (whence, at, got, want))
EOF
must rm "$a/sparse"

# as the upper layer of an overlayfs: what is removed and renamed there is, on the mount, a sign of it
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$work/lower/dir" "$work/merged" "$a/upper" "$a/work"
    for f in kept removed moved dir/inside; do echo "$f" >"$work/lower/$f"; done
    must mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$a/upper,workdir=$a/work" "$work/merged"
    must rm "$work/merged/removed"
    must mv "$work/merged/moved" "$work/merged/here"
    must rm -r "$work/merged/dir"
    must mkdir "$work/merged/dir"
    echo more >>"$work/merged/kept"
    same "names above" "$(cd "$work/merged" && find . | sort | tr '\n' ' ')" ". ./dir ./here ./kept "
    must umount "$work/merged"
    must mount -t overlay overlay -o "lowerdir=$work/lower,upperdir=$a/upper,workdir=$a/work" "$work/merged"
    same "names above again" "$(cd "$work/merged" && find . | sort | tr '\n' ' ')" ". ./dir ./here ./kept "
    same "content above" "$(cat "$work/merged/here" "$work/merged/kept" | tr '\n' ' ')" "moved kept more "
    same "signs" "$(stat -c '%F %t:%T' "$a/upper/removed" "$a/upper/moved" | sort -u)" "character special file 0:0"
    must umount "$work/merged"
    must rm -r "$a/work"
fi

# what the second device sees of what is left is the same tree
must cp -a "$top/tests" "$a/tests"
must ln "$a/tests/meson.build" "$a/link"
must setfattr -n user.colour -v blue "$a/link"
must mkfifo "$a/fifo"
must mkdir -m 1777 "$a/sticky"
must chmod 4755 "$a/link"
settled
lab_mount b
same_tree "$a" "$b"
same "xattr on the other side" "$(getfattr --only-values -n user.colour "$b/tests/meson.build")" blue
# as root, another user meets the same permissions
if [ "$(id -u)" = 0 ]; then
    must "$check" "$b"
fi
passed "POSIX on the mount"
