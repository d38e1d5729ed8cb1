"""Bodies that are far larger than what the server may take of memory for them, in each direction, by
/run and by the web door: they arrive whole, and nothing of them stays. How fast they go is measured
by `make bench` (bodies)."""

import re
import zlib

import pytest

from support.client import chunks_of, parse_fields, parse_head, read_response

LENGTH = 150_000_001
# What the server may grow by. A run's own memory, pipes and the record's first part are in it.
GROWTH_BYTES_MAX = 40 << 20
PATTERN = bytes((i * 7 + (i >> 8)) & 0xFF for i in range(65521))

PATHS = {"run": "/run?name=body", "web": "/web/body/"}


def pieces_of(length):
    """The bytes that the guest writes, too."""
    while length > 0:
        yield PATTERN[:length]
        length -= len(PATTERN)


def adler_of(pieces):
    adler = 1
    for piece in pieces:
        adler = zlib.adler32(piece, adler)
    return adler


@pytest.fixture(scope="module")
def expected():
    return adler_of(pieces_of(LENGTH))


@pytest.fixture(scope="module")
def app(server, guests):
    client = server.client
    client.create("body", guests.c("body"), output="256MiB", web="public")
    client.put("/apps/body/files/www/file", b"".join(pieces_of(LENGTH)))
    for path in PATHS.values():
        client.post(path, b"warm-up")
    return client


@pytest.fixture(autouse=True)
def bounded(app, server, eventually):
    """Around each test: the most memory that was resident, and what is left."""
    descriptors, before = server.descriptors(), server.resident_bytes()
    process = f"/proc/{server.process.pid}"
    with open(f"{process}/clear_refs", "w") as reset:
        reset.write("5")  # the peak begins anew
    yield
    with open(f"{process}/status") as status:
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) << 10
    if not server.is_sanitized():  # a sanitizer keeps freed memory
        assert peak - before < GROWTH_BYTES_MAX
    eventually(lambda: re.search(r"^zasm_runs_running\S* 0$", app.get("/metrics").text, re.M))
    # The output of an ended run is kept for a while, in a file.
    eventually(lambda: server.descriptors() <= descriptors + 1)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("door", PATHS)
def test_request(app, expected, door, framing):
    headers = ({"Content-Length": str(LENGTH)} if framing == "length"
               else {"Content-Length": None, "Transfer-Encoding": "chunked"})
    with app.connect() as connection:
        connection.sendall(app.head("POST", PATHS[door], headers=headers))
        for piece in pieces_of(LENGTH):
            if framing == "chunked":
                piece = b"%x\r\n%s\r\n" % (len(piece), piece)
            connection.sendall(piece)
        if framing == "chunked":
            connection.sendall(b"0\r\n\r\n")
        response = read_response(connection.makefile("rb"))
    assert response.status == 200 and response.text == f"{LENGTH} {expected:08x}\n", response


@pytest.mark.parametrize("door", PATHS)
def test_answer(app, expected, door):
    path = PATHS[door] + {"run": f"&arg={LENGTH}", "web": f"?{LENGTH}"}[door]
    connection, stream = app.open("POST" if door == "run" else "GET", path)
    with connection, stream:
        assert parse_head(stream)[0] == 200
        length, adler = 0, 1
        for piece in chunks_of(stream):
            length, adler = length + len(piece), zlib.adler32(piece, adler)
        trailers = parse_fields(stream)
    assert (length, adler) == (LENGTH, expected)
    assert door == "web" or trailers["run-reason"] == "exit"


@pytest.mark.parametrize("path", ["/apps/body/files/www/file", "/web/body/file"])
def test_file(app, expected, path):
    connection, stream = app.open("GET", path)
    with connection, stream:
        status, headers = parse_head(stream)
        assert status == 200 and headers["content-length"] == str(LENGTH)
        assert adler_of(iter(lambda: stream.read(1 << 20), b"")) == expected


def test_file_is_written(app, expected):
    with app.connect() as connection:
        connection.sendall(app.head("PUT", "/apps/body/files/written",
                                    headers={"Content-Length": str(LENGTH)}))
        for piece in pieces_of(LENGTH):
            connection.sendall(piece)
        assert read_response(connection.makefile("rb")).status == 201
    assert app.run("body", "1").body == PATTERN[:1]  # the volume is still to be used
    assert app.delete("/apps/body/files/written").status == 204
