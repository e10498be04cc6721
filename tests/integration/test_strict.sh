#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# coherence=strict: what is committed on one mount is seen by the next open, lookup or stat on another, at once, though
# no news of it have come. b reaches the metadata server through a relay that holds back what comes unasked, the long
# poll's answers, until it is told to let go. A mount without the option shows that it holds them back indeed.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-60} # of five changes each

# Says its port. `hold` on stdin: what answers a question a second or more after it was asked is held back; says `holds`
# when such a question waits (on a connection that has been used before: on a new one the server speaks first). `go`: it
# comes.
cat >"$work/relay.py" <<'PY'
import asyncio, sys
port = int(sys.argv[1])
waiting = set()
async def serve(reader, writer):
    up_reader, up_writer = await asyncio.open_connection('127.0.0.1', port)
    timer = None
    def answered():
        if timer:
            timer.cancel()
        waiting.discard(writer)
    def waits():
        waiting.add(writer)
        some_wait.set()
    async def up():
        nonlocal timer
        while data := await reader.read(65536):
            answered()
            timer = asyncio.get_running_loop().call_later(1, waits)
            up_writer.write(data)
        up_writer.close()
    async def down():
        while data := await up_reader.read(65536):
            late = writer in waiting
            answered()
            if late:
                await go.wait()
            writer.write(data)
        writer.close()
    await asyncio.gather(up(), down(), return_exceptions=True)
    answered()
async def main():
    global go, some_wait
    go, some_wait = asyncio.Event(), asyncio.Event()
    go.set()
    server = await asyncio.start_server(serve, '127.0.0.1', 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    told = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(told), sys.stdin)
    while line := await told.readline():
        if line == b'go\n':
            go.set()
            continue
        go.clear()
        while not waiting:
            some_wait.clear()
            await some_wait.wait()
        print('holds', flush=True)
asyncio.run(main())
PY

lab_up
lab_mount a b
must lab unmount b
port=$(sed -n 's/^url=.*:\([0-9]*\).*/\1/p' "$lab/clients/b/identity")
coproc relay { exec python3 "$work/relay.py" "$port" 2>"$work/relay.err"; }
# shellcheck disable=SC2154 # coproc sets it
children+=("$relay_PID")
exec 8<&"${relay[0]}" 9>&"${relay[1]}"
read -r -t 20 -u 8 relay_port || fail "the relay does not start"
sed -i "s/:$port/:$relay_port/" "$lab/clients/b/identity"
mount_b() { must "$build/fs/mount.fuse.steadfs" "alice@127.0.0.1:$relay_port" "$b" -o "state=$lab/clients/b,log=$work/b.log,timeout=2$1"; }
hold() {
    echo hold >&9
    for _ in {1..10}; do
        ! read -r -t 2 -u 8 || return 0
        echo more >>"$a/first" # news, after which b asks again
        sync "$a/first"
    done
    fail "b does not wait for news"
}
end_b() {
    must plain_umount "$b"
    eventually 30 flock -n "$lab/clients/b/lock" true
}

cat >"$work/both.py" <<'PY'
import os, sys
a, b, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
def put(path, text, flags=os.O_TRUNC):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | flags, 0o644)
    os.write(fd, text.encode())
    os.fsync(fd)
    os.close(fd)
def settle(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
def get(path):
    with open(path) as f:
        return f.read()
def claim(what, got, want):
    if got != want:
        sys.exit('%s: %r, should be %r' % (what, got, want))
def absent(path):
    try:
        os.stat(path)
    except FileNotFoundError:
        return True
    return False
os.mkdir(a + '/d0')
put(a + '/d0/inside', 'in 0')
for i in range(rounds):
    text = 'round %d' % i + 'x' * (i * 7919 % 30000)
    put(a + '/file', text)  # in place, shorter and longer
    claim('content', get(b + '/file'), text)
    put(a + '/new%d' % i, text)  # a name that b knows to be absent
    claim('a new name', get(b + '/new%d' % i), text)
    claim('the next name', absent(b + '/new%d' % (i + 1)), True)
    put(a + '/other', 'other ' + text)
    os.rename(a + '/other', a + '/saved')  # as editors save
    settle(a)
    claim('a replaced file', get(b + '/saved'), 'other ' + text)
    put(a + '/file', '!', os.O_APPEND)
    claim('size', os.stat(b + '/file').st_size, len(text) + 1)
    put(a + '/d%d/inside' % i, 'in %d' % i)
    os.rename(a + '/d%d' % i, a + '/d%d' % (i + 1))
    settle(a)
    claim('a moved directory', get(b + '/d%d/inside' % (i + 1)), 'in %d' % i)
    claim('where it was', absent(b + '/d%d' % i), True)
    if i % 5 == 0:
        claim('listing', sorted(os.listdir(b)), sorted(os.listdir(a)))
PY

# without the option, the same is not seen
mount_b ''
echo first >"$a/first"
sync "$a/first"
must test ! -e "$b/early"
hold
echo text >"$a/early"
sync "$a/early"
test ! -e "$b/early" || fail "the relay holds nothing back"
echo go >&9
eventually 30 test -e "$b/early"
end_b

mount_b ,coherence=strict
hold
timeout 200 python3 "$work/both.py" "$a" "$b" "$rounds" >"$work/out" 2>&1 || { cat "$work/out"; fail "not seen at once"; }

# an open file keeps its version
exec 5<"$b/file"
was=$(sha256sum <"$a/file")
must head -c 1 "$b/file" # what was never read is not kept
echo changed >"$a/file"
sync "$a/file"
same "a new open" "$(cat "$b/file")" changed
same "an old one" "$(sha256sum <&5)" "$was"
exec 5<&-

# who cannot ask does not guess: EIO once timeout= has passed; what is open goes on
exec 5<"$b/saved"
echo go >&9
lab kill metad STOP
must_fail 'input/output error' cat "$b/file"
must_fail 'input/output error' stat "$b/nothing"
must cat <&5
lab kill metad CONT
eventually 30 cat "$b/file"
same "again" "$(cat "$b/file")" changed
exec 5<&-
settled
end_b
kill "$relay_PID"
passed "strict"
