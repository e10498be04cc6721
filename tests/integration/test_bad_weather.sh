#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Wrong credentials, wrong certificates, taken ports, full disks, hostile messages: one clear line and the right errno,
# nothing lost, no hang.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"

lab_up
lab mount a "$a" -o fsync_timeout=3 || fail "mount a"
random_file "$work/x" 100000
must cp "$work/x" "$a/x"
settled
url=$(sed -n 's/^url=//p' "$lab/clients/a/identity")
[ -n "$url" ] || fail "no url in the identity"

# --- messages: curl as a client that knows no better
ca=$lab/clients/a/ca.pem
credential=$(sed -n 's/^credential=//p' "$lab/clients/a/identity")
code() { curl -s -o "$work/answer" -w '%{http_code}' --max-time 20 --cacert "$ca" "$@"; }
same "healthz" "$(code "$url/healthz")" 200
same "metrics" "$(code "$url/metrics")" 200
same "no such page" "$(code "$url/nonsense")" 404
post=(-X POST -H 'Steadfs-Version: 1')
auth=(-H "Authorization: Bearer $credential")
same "no credential" "$(code "${post[@]}" --data-binary '' "$url/v1/list")" 401
same "wrong credential" "$(code "${post[@]}" -H 'Authorization: Bearer d.1.AAAA' --data-binary '' "$url/v1/list")" 401
same "wrong version" "$(code -X POST -H 'Steadfs-Version: 99' "${auth[@]}" --data-binary '' "$url/v1/list")" 426
same "garbage" "$(code "${post[@]}" "${auth[@]}" --data-binary 'garbage' "$url/v1/commit")" 400
head -c $((33 << 20)) /dev/zero >"$work/huge"
case $(code "${post[@]}" "${auth[@]}" -H 'Expect:' --data-binary "@$work/huge" "$url/v1/commit") in
413 | 400 | 000) ;;
*) fail "an oversized body was taken" ;;
esac
rm "$work/huge"
same "still well" "$(code "$url/healthz")" 200

# --- who may come in
copy_state() { rm -rf "$work/state" && cp -a "$lab/clients/a" "$work/state" && rm -f "$work/state"/{lock,control.sock,tree.db*}; }
mount_with() { # STATE: a mount with the identity in it
    local hostport=${url#*://}
    timeout 60 "$build/tools/steadfs/steadfs" mount "alice@${hostport%/}" "$b" -o "state=$1"
}
[ -x "$build/tools/steadfs/steadfs" ] || fail "no steadfs in $build"
copy_state
sed -i 's/^credential=.*/credential=d.1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA/' "$work/state/identity"
must_fail 'credential|log in|login|refused' mount_with "$work/state"
mountpoint -q "$b" && fail "mounted with a wrong credential"
copy_state
openssl req -x509 -newkey ed25519 -nodes -keyout /dev/null -out "$work/state/ca.pem" -subj /CN=other -days 2 2>/dev/null ||
    fail "openssl"
must_fail 'certificat' mount_with "$work/state"
mountpoint -q "$b" && fail "mounted over a wrong certificate"

# --- a port that is taken
port=${url##*:}
port=${port%/}
must_fail "in use" timeout 20 "$build/tools/metad/steadfs-metad" --data "$work/other" --listen "127.0.0.1:$port"
same "one line about the port" "$(wc -l <"$work/out")" 1

# --- beyond limits
must_fail "too long" touch "$a/$(printf 'n%.0s' $(seq 256))"
head -c 65537 /dev/zero | tr '\0' v >"$work/value"
python3 - "$a/x" <<'PY' || fail "xattr limits"
import errno, os, sys
os.setxattr(sys.argv[1], 'user.max', b'v' * 65536)
assert os.getxattr(sys.argv[1], 'user.max') == b'v' * 65536
for value, want in ((b'v' * 65537, errno.E2BIG),):
    try:
        os.setxattr(sys.argv[1], 'user.more', value)
        sys.exit('taken')
    except OSError as e:
        assert e.errno == want, e
try:
    fd = os.open(sys.argv[1] + '.far', os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b'x', 2**63 - 1)
    sys.exit('a write beyond the largest file was taken')
except OSError as e:
    assert e.errno in (errno.EFBIG, errno.EINVAL), e
PY
must rm "$a/x.far"
settled

# --- full disks, on small filesystems of their own
if [ "$(id -u)" != 0 ] || ! mkdir "$work/small" || ! mount -t tmpfs -o size=24m none "$work/small"; then
    passed "bad weather (without full disks: mounting a small one takes root)"
fi
must lab unmount a
mv "$lab/clients/a"/* "$work/small/" && rmdir "$lab/clients/a" && ln -s "$work/small" "$lab/clients/a"
must lab mount a "$a"
must lab kill blockd-hq
random_file "$work/y" 3000000
must cp "$work/y" "$a/y"
must_fail "no space" dd if=/dev/urandom of="$a/z" bs=1M count=64 conv=fsync
must ls -l "$a"
must cmp "$work/y" "$a/y"
must rm "$a/z"
must lab start blockd-hq
settled
must dd if="$work/y" of="$a/again" bs=1M conv=fsync
lab mount b "$b" -o fsync_timeout=5 || fail "mount b"
must cmp "$work/y" "$b/y"

# under the block server: the disk fills, an fsync says so; with room again, it succeeds
must lab kill blockd-hq TERM
store=$lab/blockd-hq
mkdir "$work/blocks"
must mount -t tmpfs -o size=24m none "$work/blocks"
must cp -a "$store/." "$work/blocks/"
must mount --bind "$work/blocks" "$store"
must lab start blockd-hq
must_fail "no space|timed out" dd if=/dev/urandom of="$b/much" bs=1M count=20 conv=fsync oflag=sync
must ls -l "$b"
mount -o remount,size=200m "$work/blocks" || fail "more room"
eventually 60 sync "$b/much"
settled
must cmp "$a/much" "$b/much"
must lab kill blockd-hq TERM
must umount "$store"
passed "bad weather"
