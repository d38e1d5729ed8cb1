"""Request smuggling: requests whose framing two programs could read differently.

Each case is refused (an error of the gate, or no answer, and the connection ends) or leaves the
connection in step: behind it comes one more request, which is answered as itself. A body that is
broken comes behind a head that was let in, whose answer may be on its way: it ends the connection.
The verdict is the same wherever the bytes are split.
"""

import re
import socket

import pytest

# What the gate answers. A request that is let in gets 200, 404 or 405 here.
REFUSALS = {400, 413, 414, 431, 501, 505}


def get(path="/healthz", fields=b""):
    """@ stands for the server's host and port."""
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: @\r\n" + fields + b"\r\n"


def post(fields, body=b"", version=b"1.1"):
    return b"POST /healthz HTTP/" + version + b"\r\nHost: @\r\n" + fields + b"\r\n\r\n" + body


# Of a length that is known here: its Host is not the server's.
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
LENGTH = b"Content-Length: %d"
CHUNKED = b"Transfer-Encoding: chunked"
END = b"0\r\n\r\n"

# Must be refused: no second request is ever read.
REFUSED = {
    "length and chunked, length covers all": post(
        LENGTH % len(END + SMUGGLED) + b"\r\n" + CHUNKED, END + SMUGGLED),
    "chunked and length": post(CHUNKED + b"\r\nContent-Length: 5", END + SMUGGLED),
    "two lengths, first 0": post(b"Content-Length: 0\r\n" + LENGTH % len(SMUGGLED), SMUGGLED),
    "two lengths, second 0": post(LENGTH % len(SMUGGLED) + b"\r\nContent-Length: 0", SMUGGLED),
    "two equal lengths": post(b"Content-Length: 5\r\nContent-Length: 5", b"hello" + SMUGGLED),
    "a list of lengths": post(b"Content-Length: 0, %d" % len(SMUGGLED), SMUGGLED),
    "length with a plus": post(b"Content-Length: +5", b"hello" + SMUGGLED),
    "length with a minus": post(b"Content-Length: -5", b"hello" + SMUGGLED),
    "length in hexadecimal": post(b"Content-Length: 0x5", b"hello" + SMUGGLED),
    "length with a space inside": post(b"Content-Length: 5 0", b"hello" + SMUGGLED),
    "empty length": post(b"Content-Length:", SMUGGLED),
    "length beyond 64 bits": post(b"Content-Length: 18446744073709551621", b"hello" + SMUGGLED),
    "space before the length's colon": post(b"Content-Length : 5", b"hello" + SMUGGLED),
    "gzip, chunked and length": post(
        b"Transfer-Encoding: gzip, chunked\r\nContent-Length: 5", END + SMUGGLED),
    "chunked, chunked": post(b"Transfer-Encoding: chunked, chunked", END + SMUGGLED),
    "xchunked and length": post(
        b"Transfer-Encoding: xchunked\r\nContent-Length: 5", b"hello" + SMUGGLED),
    "identity": post(b"Transfer-Encoding: identity\r\nContent-Length: 5", b"hello" + SMUGGLED),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', END + SMUGGLED),
    "chunked with a space behind": post(CHUNKED + b" ", END + SMUGGLED),
    "chunked with a vertical tab": post(b"Transfer-Encoding:\x0bchunked", END + SMUGGLED),
    "empty transfer encoding": post(b"Transfer-Encoding:", END + SMUGGLED),
    "space before the colon": post(b"Transfer-Encoding : chunked", END + SMUGGLED),
    "folded transfer encoding": post(b"Transfer-Encoding:\r\n chunked", END + SMUGGLED),
    "folded field": post(b"X: a\r\n Content-Length: 5", SMUGGLED),
    "space before the first field": b"GET /healthz HTTP/1.1\r\n X: a\r\nHost: @\r\n\r\n" + SMUGGLED,
    "two transfer encodings": post(CHUNKED + b"\r\nTransfer-Encoding: identity", END + SMUGGLED),
    "two chunked": post(CHUNKED + b"\r\n" + CHUNKED, END + SMUGGLED),
    "chunked in HTTP/1.0": post(CHUNKED + b"\r\nConnection: keep-alive", END + SMUGGLED, b"1.0"),
    "bare LF everywhere": b"GET /healthz HTTP/1.1\nHost: @\n\n" + SMUGGLED,
    "bare LF behind the request line": b"GET /healthz HTTP/1.1\nHost: @\r\n\r\n" + SMUGGLED,
    "bare LF between fields": post(b"X: a\nContent-Length: 5", b"hello" + SMUGGLED),
    "bare LF at the end of the head": b"GET /healthz HTTP/1.1\r\nHost: @\r\n\n" + SMUGGLED,
    "bare CR in a value": post(b"X: a\rTransfer-Encoding: chunked", SMUGGLED),
    "NUL in a value": post(b"X: a\0b", SMUGGLED),
    "two NULs that look like a line's end": post(b"X: a\0\0Content-Length: 5", SMUGGLED),
    "NUL in a name": post(b"X\0: a", SMUGGLED),
    "NUL in the target": b"GET /healthz\0 HTTP/1.1\r\nHost: @\r\n\r\n" + SMUGGLED,
    "control character in a value": post(b"X: a\x01b", SMUGGLED),
    "no colon": post(b"Content-Length", SMUGGLED),
    "empty name": post(b": 5", SMUGGLED),
    "name that is no token": post(b"Content(Length: 5", SMUGGLED),
    "no Host": b"GET /healthz HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two Hosts": b"GET /healthz HTTP/1.1\r\nHost: @\r\nHost: @\r\n\r\n" + SMUGGLED,
    "two Hosts in HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: @\r\nHost: b\r\n\r\n" + SMUGGLED,
    "Host with a path": b"GET /healthz HTTP/1.1\r\nHost: @/x\r\n\r\n" + SMUGGLED,
    "target of another host": b"GET http://b/healthz HTTP/1.1\r\nHost: @\r\n\r\n" + SMUGGLED,
    "space in the target": b"GET /health z HTTP/1.1\r\nHost: @\r\n\r\n" + SMUGGLED,
    "two spaces": b"GET  /healthz HTTP/1.1\r\nHost: @\r\n\r\n" + SMUGGLED,
    "tab for a space": b"GET\t/healthz HTTP/1.1\r\nHost: @\r\n\r\n" + SMUGGLED,
    "HTTP/1.2": b"GET /healthz HTTP/1.2\r\nHost: @\r\n\r\n" + SMUGGLED,
    "HTTP/2.0": b"GET /healthz HTTP/2.0\r\nHost: @\r\n\r\n" + SMUGGLED,
    "HTTP/0.9": b"GET /healthz\r\n\r\n" + SMUGGLED,
    "more than 100 fields": get(fields=b"".join(b"X-%d: a\r\n" % i for i in range(100))),
}

# Bodies that are no chunks: at most the request itself is answered.
BROKEN = {
    "chunk size beyond 64 bits": post(CHUNKED, b"10000000000000005\r\nhello\r\n" + END + SMUGGLED),
    "chunk size with 0x": post(CHUNKED, b"0x5\r\nhello\r\n" + END + SMUGGLED),
    "chunk size with a plus": post(CHUNKED, b"+5\r\nhello\r\n" + END + SMUGGLED),
    "negative chunk size": post(CHUNKED, b"-1\r\nhello\r\n" + END + SMUGGLED),
    "empty chunk size": post(CHUNKED, b"\r\nhello\r\n" + END + SMUGGLED),
    "space before a chunk size": post(CHUNKED, b" 5\r\nhello\r\n" + END + SMUGGLED),
    "chunk longer than its size": post(CHUNKED, b"5\r\nhelloXX\r\n" + END + SMUGGLED),
    "chunk extension with a bare LF": post(CHUNKED, b"5;a\nb\r\nhello\r\n" + END + SMUGGLED),
    "space behind a chunk size": post(CHUNKED, b"5 \r\nhello\r\n" + END + SMUGGLED),
    "space before an extension": post(CHUNKED, b"5 ;a\r\nhello\r\n" + END + SMUGGLED),
    "bare LF between chunks": post(CHUNKED, b"5\nhello\n0\n\n" + SMUGGLED),
    "bare LF behind a chunk": post(CHUNKED, b"5\r\nhello\n" + END + SMUGGLED),
    "bare CR behind a chunk size": post(CHUNKED, b"5\rhello\r\n" + END + SMUGGLED),
    "long chunk extension": post(CHUNKED, b"5;" + b"a" * 2000 + b"\r\nhello\r\n" + END + SMUGGLED),
    "no end of a chunk": post(CHUNKED, b"5\r\nhello" + END + SMUGGLED),
    "trailer that is no field": post(CHUNKED, b"0\r\nGET / HTTP/1.1\r\n\r\n" + SMUGGLED),
    "folded trailer": post(CHUNKED, b"0\r\nA: b\r\n c\r\n\r\n" + SMUGGLED),
    "bare LF behind a trailer": post(CHUNKED, b"0\r\nA: b\n\r\n" + SMUGGLED),
    "bare LF at the end": post(CHUNKED, b"0\r\n\n" + SMUGGLED),
    "long trailers": post(CHUNKED, b"0\r\n" + b"A: b\r\n" * 2000 + b"\r\n" + SMUGGLED),
}

# The last request of its connection.
LAST = {
    "HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: @\r\n\r\n",
    "Connection: close": get(fields=b"Connection: close\r\n"),
    "close in a list": get(fields=b"Connection: TE, Close\r\n"),
}

# Requests as they should be: the next one is answered too.
IN_STEP = {
    "GET": get(),
    "GET with a body": get(fields=LENGTH % len(SMUGGLED) + b"\r\n") + SMUGGLED,
    "HEAD with a body": b"HEAD /healthz HTTP/1.1\r\nHost: @\r\n" + LENGTH % len(SMUGGLED)
                        + b"\r\n\r\n" + SMUGGLED,
    "POST with a body": post(LENGTH % len(SMUGGLED), SMUGGLED),
    "POST without a body": post(b"Content-Length: 0"),
    "leading zeros in the length": post(b"Content-Length: 0005", b"hello"),
    "DELETE with a body": b"DELETE /healthz HTTP/1.1\r\nHost: @\r\nContent-Length: 5\r\n\r\nhello",
    "unknown method": b"BREW /healthz HTTP/1.1\r\nHost: @\r\n\r\n",
    "absolute target": b"GET http://@/healthz HTTP/1.1\r\nHost: @\r\n\r\n",
    "an empty line before": b"\r\n" + get(),
    "100 fields": get(fields=b"".join(b"X-%d: a\r\n" % i for i in range(99))),
    "keep-alive in HTTP/1.0": b"GET /healthz HTTP/1.0\r\nHost: @\r\nConnection: keep-alive\r\n\r\n",
    "white space around values": get(fields=b"X: \t a b \t \r\nY:\r\n"),
    "cookies": get(fields=b"Cookie: a=b; c; =; d=e=f\r\n"),
    "a query of many pairs": get("/healthz?" + "a&" * 1000),
    "chunked": post(CHUNKED, b"5\r\nhello\r\n" + END),
    "chunked, no data": post(CHUNKED, END),
    "chunked in capitals": post(b"TRANSFER-ENCODING: CHUNKED", b"5\r\nhello\r\n" + END),
    "chunk extension": post(CHUNKED, b'5;a=b;c="d"\r\nhello\r\n' + END),
    "chunk of a request": post(CHUNKED, b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n" + END),
    "leading zeros": post(CHUNKED, b"00000005\r\nhello\r\n" + END),
    "trailer Content-Length": post(CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 30\r\n\r\n"),
    "trailer Transfer-Encoding": post(CHUNKED, b"0\r\nTransfer-Encoding: chunked\r\n\r\n"),
}


class Talk:
    def __init__(self, server):
        self.address = (server.host, server.port)
        self.host = f"{server.host}:{server.port}".encode()
        self.other = socket.create_connection(self.address, timeout=20)

    def close(self):
        self.other.close()

    def let_the_server_read(self):
        """A round trip on another connection: what was sent before has been seen meanwhile."""
        self.other.sendall(get().replace(b"@", self.host))
        data = b""
        while b"\r\n\r\n" not in data:
            part = self.other.recv(65536)
            assert part, data
            data += part
        head, rest = data.split(b"\r\n\r\n", 1)
        length = int(re.search(rb"(?i)\r\nContent-Length: (\d+)", head).group(1))
        while len(rest) < length:
            rest += self.other.recv(65536)

    def statuses(self, request, split=None):
        """Sends it and one request more; the statuses of all answers until the connection ends."""
        data = (request + get(fields=b"Connection: close\r\n")).replace(b"@", self.host)
        with socket.create_connection(self.address, timeout=20) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            answer = b""
            try:
                if split:
                    connection.sendall(data[:split])
                    self.let_the_server_read()
                connection.sendall(data[split or 0:])
                while part := connection.recv(65536):
                    answer += part
            except (BrokenPipeError, ConnectionResetError):
                pass  # closed with something unread: a refusal
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) [A-Z]", answer)]


@pytest.fixture(scope="module")
def talk(server):
    talk = Talk(server)
    yield talk
    talk.close()


def is_refused(statuses):
    return len(statuses) <= 1 and all(status in REFUSALS for status in statuses)


def splits(request):
    """Everywhere; in a long one, around its ends."""
    if len(request) <= 300:
        return range(1, len(request) + 1)
    return [*range(1, 60), *range(len(request) - 60, len(request) + 1)]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(talk, name):
    request = REFUSED[name]
    statuses = talk.statuses(request)
    assert is_refused(statuses), statuses
    for split in splits(request):
        statuses = talk.statuses(request, split)
        assert is_refused(statuses), (split, statuses)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_body_ends_the_connection(talk, name):
    request = BROKEN[name]
    for split in [None, *splits(request)]:
        statuses = talk.statuses(request, split)
        assert len(statuses) <= 1 and statuses in ([], [400], [405]), (split, statuses)


@pytest.mark.parametrize("name", LAST)
def test_last_of_its_connection(talk, name):
    request = LAST[name]
    first = talk.statuses(request)
    assert len(first) == 1 and first[0] not in REFUSALS
    for split in splits(request):
        assert talk.statuses(request, split) == first, split


@pytest.mark.parametrize("name", IN_STEP)
def test_in_step(talk, name):
    request = IN_STEP[name]
    first = talk.statuses(request)
    assert len(first) == 2 and first[0] not in REFUSALS and first[1] == 200
    for split in splits(request):
        assert talk.statuses(request, split) == first, split


@pytest.mark.parametrize("size", [33_000, 60_000, 200_000])
@pytest.mark.parametrize("place", ["target", "value", "name", "fields"])
def test_large_heads_are_refused(talk, place, size):
    request = {
        "target": get("/" + "a" * size),
        "value": get(fields=b"X: " + b"a" * size + b"\r\n"),
        "name": get(fields=b"a" * size + b": x\r\n"),
        "fields": get(fields=b"X: a\r\n" * (size // 6)),
    }[place]
    statuses = talk.statuses(request)
    assert statuses in ([], [431], [414]), statuses


def test_cut_off_anywhere(server, talk, eventually):
    """A client that goes away in the middle: nothing is left of it."""
    request = post(LENGTH % 20, b"0123456789" * 2).replace(b"@", talk.host)
    before = server.descriptors()
    for length in range(len(request)):
        with socket.create_connection(talk.address, timeout=20) as connection:
            connection.sendall(request[:length])
    talk.let_the_server_read()
    eventually(lambda: server.descriptors() <= before)
