"""Slow clients, and many of them at once: everybody is served whole, memory is bounded, nothing stays behind.
How fast the others are meanwhile is measured by `make bench` (crowd)."""

import itertools
import random
import re
import socket
import time

import pytest

from support.client import chunks_of, parse_head, read_response

IDLE, READERS, UPLOADS = 500, 250, 250
LARGE_BYTES = 1 << 20
UPLOAD_BYTES = 100_000
# What a connection may cost the server, with its buffers and what waits to be written.
BYTES_EACH_MAX = 150 << 10
WAT = b"(module (func (export \"_start\")))"


@pytest.fixture
def crowded(make_server):
    return make_server("--head-timeout", "10m", "--body-timeout", "10m")


def piece_of(number):
    return random.Random(number).randbytes(UPLOAD_BYTES)


def test_a_crowd_of_slow_clients(crowded, guests, eventually):
    client = crowded.client
    client.create("probe", guests.c("probe"))
    large = random.Random(1).randbytes(LARGE_BYTES)
    client.put("/apps/probe/files/large", large)
    assert client.run("probe", "args").status == 200
    before = crowded.resident_bytes()
    descriptors = crowded.descriptors()

    idle = [client.connect() for _ in range(IDLE)]
    readers = []
    for _ in range(READERS):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(300)
        connection.connect((crowded.host, crowded.port))
        connection.sendall(client.head("GET", "/apps/probe/files/large", b""))
        readers.append(connection)
    uploads = []
    for i in range(UPLOADS):
        body = piece_of(i)
        connection = client.connect()
        connection.sendall(client.head("PUT", f"/apps/probe/files/up{i}", body)
                           + body[:UPLOAD_BYTES // 2])
        uploads.append(connection)

    # Others are served as ever.
    for i in range(50):
        assert client.run("probe", "args", f"n{i}").text == f"probe\nargs\nn{i}\n"
    everybody = IDLE + READERS + UPLOADS
    # Less those that were still open when it was counted before.
    eventually(lambda: crowded.descriptors() >= descriptors + IDLE + UPLOADS - 20, 60)
    if not crowded.is_sanitized():
        assert crowded.resident_bytes() - before < everybody * BYTES_EACH_MAX

    for i, connection in enumerate(uploads):
        connection.sendall(piece_of(i)[UPLOAD_BYTES // 2:])
    for connection in uploads:
        with connection, connection.makefile("rb") as stream:
            assert read_response(stream, "PUT").status == 201
    for connection in readers:
        with connection, connection.makefile("rb") as stream:
            response = read_response(stream)
            assert response.status == 200 and response.body == large
    for i in range(0, UPLOADS, 25):
        assert client.get(f"/apps/probe/files/up{i}").body == piece_of(i)
    for connection in idle:
        connection.close()
    eventually(lambda: crowded.descriptors() <= descriptors + 10, 60)


def send_queue_bytes(connection):
    """What the kernel holds of the response at the server's end of a connection."""
    port = connection.getsockname()[1]
    with open("/proc/net/tcp") as table:
        for line in table:
            fields = line.split()
            if fields[2].endswith(f":{port:04X}"):
                return int(fields[4].split(":")[0], 16)
    return 0


def test_slow_readers_take_little_of_the_kernel(crowded, guests, eventually):
    """Its memory for TCP is everybody's: a response waits here, not there."""
    client = crowded.client
    client.create("probe", guests.c("probe"))
    client.put("/apps/probe/files/large", bytes(16 << 20))
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(300)
        connection.connect((crowded.host, crowded.port))
        connection.sendall(client.head("GET", "/apps/probe/files/large"))
        held = [-1]

        def is_still():
            held.append(send_queue_bytes(connection))
            return len(held) > 20 and len(set(held[-20:])) == 1 and held[-1] > 0

        eventually(is_still, 60)
        assert max(held) < 400_000
        with connection.makefile("rb") as stream:
            assert read_response(stream).body == bytes(16 << 20)


def test_crowds_leave_no_memory(crowded, guests, eventually):
    """After several crowds there is no more of it than after the first two."""
    client = crowded.client
    client.create("probe", guests.c("probe"))
    client.put("/apps/probe/files/large", bytes(LARGE_BYTES))
    descriptors = crowded.descriptors()
    after = []
    for _ in range(6):
        connections = [client.connect() for _ in range(600)]
        for i, connection in enumerate(connections):
            if i % 3 == 1:
                connection.sendall(client.head("GET", "/apps/probe/files/large"))
            elif i % 3 == 2:
                connection.sendall(client.head("PUT", f"/apps/probe/files/up{i}", headers={
                    "Content-Length": str(UPLOAD_BYTES)}) + bytes(UPLOAD_BYTES // 2))
        eventually(lambda: crowded.descriptors() >= descriptors + 550, 60)
        for connection in connections:
            connection.close()
        eventually(lambda: crowded.descriptors() <= descriptors + 10, 60)
        after.append(crowded.resident_bytes())
    if not crowded.is_sanitized():
        assert min(after[3:]) < max(after[:2]) + (16 << 20)


def test_a_crowd_that_vanishes(crowded, guests, eventually):
    """Each in the middle of what it does."""
    client = crowded.client
    client.create("probe", guests.c("probe"))
    client.put("/apps/probe/files/large", bytes(LARGE_BYTES))
    descriptors = crowded.descriptors()
    connections = []
    for i in range(UPLOADS):
        upload = client.connect()
        upload.sendall(client.head("PUT", f"/apps/probe/files/up{i}", bytes(UPLOAD_BYTES))
                       + bytes(UPLOAD_BYTES // 2))
        reader = client.connect()
        reader.sendall(client.head("GET", "/apps/probe/files/large", b""))
        connections += [upload, reader]
    for connection in connections:
        connection.close()
    eventually(lambda: crowded.descriptors() <= descriptors + 10, 60)
    assert client.get("/apps/probe/files/").text == "large\n"
    assert client.run("probe", "args").status == 200


def test_a_crowd_that_vanishes_while_it_stops(crowded, guests, eventually):
    """What has come of their files goes before the end, whatever the disk is busy with."""
    crowded.client.create("probe", guests.c("probe"))
    crowded.client.put("/apps/probe/files/large", bytes(LARGE_BYTES))
    for _ in range(8):
        client, descriptors = crowded.client, crowded.descriptors()
        connections = [client.connect() for _ in range(UPLOADS)]
        for i, connection in enumerate(connections):
            connection.sendall(client.head("PUT", f"/apps/probe/files/up{i}", bytes(UPLOAD_BYTES))
                               + bytes(UPLOAD_BYTES // 2))
        eventually(lambda: crowded.descriptors() >= descriptors + UPLOADS - 20, 60)
        with client.connect() as busy:  # with this, and with what has come of the others
            busy.sendall(client.head("PUT", "/apps/probe/files/large", bytes(LARGE_BYTES))
                         + bytes(LARGE_BYTES))
            for connection in connections:
                connection.close()
        assert crowded.stop() == 0
        crowded.start()
        assert crowded.client.get("/apps/probe/files/").text == "large\n"


def test_many_slow_programs(crowded, guests, eventually):
    """Uploads of programs that stop before their end: what has come of them is on disk, not in memory."""
    client = crowded.client
    client.create("probe", guests.c("probe"))
    part, count = bytes(250_000), 800
    descriptors, before = crowded.descriptors(), crowded.resident_bytes()
    connections = []
    for i in range(count):
        connections.append(client.connect())
        fields = {"Content-Length": "300000"}
        connections[-1].sendall(client.head("POST", f"/create?name=slow{i}", headers=fields) + part)
    for i in range(50):
        assert client.run("probe", "args", f"n{i}").text == f"probe\nargs\nn{i}\n"
    if not crowded.is_sanitized():
        # 64 MiB together, in buffers that may have grown to twice of it, and some for each.
        assert crowded.resident_bytes() - before < (128 << 20) + count * (32 << 10)
    for connection in connections:
        connection.close()
    eventually(lambda: crowded.descriptors() <= descriptors + 10, 60)
    assert client.get("/apps").text == "probe/\n"


# ---- bodies in small pieces --------------------------------------------------------------------


def put_in_chunks(client, path, data, sizes):
    """Each chunk is a piece of its own for the server, however it comes."""
    connection, at = client.connect(), 0
    fields = {"Content-Length": None, "Transfer-Encoding": "chunked"}
    with connection, connection.makefile("rb") as stream:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(client.head("PUT", path, headers=fields))
        pending = b""
        for size in itertools.cycle(sizes):
            piece = data[at:at + size]
            at += len(piece)
            pending += b"%x\r\n%s\r\n" % (len(piece), piece)
            if len(pending) > 8192 or not piece:
                try:
                    connection.sendall(pending)
                except OSError:  # refused in the middle
                    break
                pending = b""
            if not piece:
                break
        return read_response(stream, "PUT")


@pytest.fixture
def files(client, guests):
    client.create("pieces", guests.c("worker"), disk="1MiB")
    for name in client.get("/apps/pieces/files/").text.split():
        client.delete(f"/apps/pieces/files/{name}")
    return client


@pytest.mark.parametrize("sizes", [
    [1], [512], [4095], [4096], [4097], [1, 9000], [16383, 1, 1], [5000, 100, 20000], [1448],
    [16384, 7]], ids=str)
def test_pieces_of_any_size(files, sizes):
    for length in (1, 511, 4096, 16383, 16384, 16385, 70_001 if sizes != [1] else 17_000):
        data = random.Random(length).randbytes(length)
        assert put_in_chunks(files, "/apps/pieces/files/x", data, sizes).status in (201, 204)
        assert files.get("/apps/pieces/files/x").body == data
    assert files.get("/apps/pieces/files/").text == "x\n"


def test_a_body_that_comes_slowly(files, eventually):
    """What has come is not seen before all has, and goes when the rest does not come."""
    data = random.Random(1).randbytes(50_000)
    files.put("/apps/pieces/files/x", b"old")
    for is_cut in (True, False):
        connection = files.connect()
        with connection, connection.makefile("rb") as stream:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(files.head("PUT", "/apps/pieces/files/x", data))
            for at in range(0, 40_000, 100):
                connection.sendall(data[at:at + 100])
                if at % 10_000 == 0:  # another request is between them
                    assert files.get("/apps/pieces/files/x").body == b"old"
            if is_cut:
                continue
            connection.sendall(data[40_000:])
            assert read_response(stream, "PUT").status == 204
    assert files.get("/apps/pieces/files/x").body == data
    eventually(lambda: files.get("/apps/pieces/files/").text == "x\n", 60)


@pytest.mark.parametrize("sizes", [[100], [4000, 5000], [1 << 16]], ids=str)
def test_a_quota_is_met_in_pieces(files, sizes):
    files.put("/apps/pieces/files/kept", bytes(1000))
    data = bytes((1 << 20) + 1)
    assert put_in_chunks(files, "/apps/pieces/files/x", data, sizes).status in (413, 507)
    assert files.get("/apps/pieces/files/").text == "kept\n"
    assert put_in_chunks(files, "/apps/pieces/files/x", data[:900_000], sizes).status == 201
    # The last bytes, which are written when the body has ended, count too.
    assert put_in_chunks(files, "/apps/pieces/files/y", data[:148_000], sizes).status in (413, 507)
    assert files.get("/apps/pieces/files/").text == "kept\nx\n"


def test_what_is_gone_has_no_room(files):
    """As soon as the answer says so, not when the server is done with the request."""
    data = bytes((1 << 20) + 1)
    for _ in range(50):
        assert put_in_chunks(files, "/apps/pieces/files/x", data, [1 << 16]).status in (413, 507)
        assert put_in_chunks(files, "/apps/pieces/files/x", data[:900_000], [1 << 16]).status == 201
        assert files.delete("/apps/pieces/files/x").status == 204


@pytest.mark.parametrize("sizes", [[100], [4000, 5000], [1 << 16]], ids=str)
def test_a_body_too_large_is_refused_in_pieces(make_server, sizes):
    client = make_server("--upload=30000").client
    client.post("/create?name=pieces", WAT)
    assert put_in_chunks(client, "/apps/pieces/files/x", bytes(30_000), sizes).status == 201
    assert put_in_chunks(client, "/apps/pieces/files/y", bytes(30_001), sizes).status == 413
    assert client.get("/apps/pieces/files/").text == "x\n"


def test_standard_input_is_not_gathered(files):
    """What is written into a run that lives is there at once, however little it is."""
    run = files.post("/run?name=pieces&detach&stdin=open").headers["run-id"]
    output, stream = files.open("GET", f"/proc/{run}/stdout")
    connection = files.connect()
    with connection, output, stream:
        connection.sendall(files.head("PUT", f"/proc/{run}/stdin", headers={"Content-Length": "100000"}))
        connection.sendall(b"one\n")
        assert parse_head(stream)[0] == 200
        chunks = chunks_of(stream)
        assert next(chunks) == b"ONE\n"
        connection.sendall(b"two\n")
        assert next(chunks) == b"TWO\n"
    files.post(f"/proc/{run}/ctl", "kill")


# ---- runs that say much --------------------------------------------------------------------------


def test_a_run_that_says_much_does_not_fill_its_log(client, guests):
    """All of it is its output; the log has a part, the count of the rest, and how it ended."""
    client.create("loud", guests.c("worker"))
    count = 400_000  # lines of 9 to 14 bytes, much longer in a log
    began = time.monotonic()
    answer = client.run("loud", f"say {count}", "trap")
    passed = time.monotonic() - began
    assert answer.body.startswith(b"%d bottles\n" % count) and b"\n1 bottles\n" in answer.body
    log = client.get("/apps/loud/log").body
    assert b" out %d bottles\n" % count in log
    logged = len(re.findall(rb" out \d+ bottles", log))
    left_out = sum(int(found) for found in re.findall(rb" sys (\d+) lines of \d+ bytes are left out", log))
    dropped = sum(int(found) for found in re.findall(rb" sys (\d+) lines were dropped", log))
    assert logged + left_out + dropped == count
    assert logged * 56 <= (8 << 20) + (passed + 1) * (1 << 20)
    assert b"unreachable" in log and b"ended: trap 134" in log  # our own words are always there
