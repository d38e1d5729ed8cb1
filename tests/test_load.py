"""Many slow clients at once: everybody is served whole, memory is bounded, nothing stays behind.
How fast the others are meanwhile is measured by `make bench` (crowd)."""

import random
import socket

import pytest

from support.client import read_response

IDLE, READERS, UPLOADS = 500, 250, 250
LARGE_BYTES = 1 << 20
UPLOAD_BYTES = 100_000
# What a connection may cost the server, with its buffers and what waits to be written.
BYTES_EACH_MAX = 150 << 10


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
