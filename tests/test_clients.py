"""Hostile clients: slow, greedy, rude, many. Others go on meanwhile, and nothing is left afterwards.

One server with short deadlines is attacked by each test. A neighbour asks for ordinary things all
the time and must always get them. After each test no connection, no run, no descriptor and no
temporary file is left, and the memory is bounded. How long something takes is never looked at.
"""

import itertools
import os
import re
import resource
import select
import socket
import struct
import threading

import pytest

from conftest import Server
from support.client import Client, parse_head, read_response
from support.state import names_in

# Far more than any attack here needs, far less than it would take without bounds.
MEMORY_BYTES_MAX = 300 << 20


class Neighbour(threading.Thread):
    """A client that behaves, and expects the same."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client = client
        self.rounds = 0
        self.failure = None
        self.ended = threading.Event()

    def run(self):
        try:
            while not self.ended.is_set():
                word = str(self.rounds)
                response = self.client.run("probe", "echo", stdin=word.encode())
                assert response.status == 200 and response.text == word, response
                assert response.trailers["run-reason"] == "exit", response
                response = self.client.put("/apps/probe/files/word", word.encode())
                assert response.status in (201, 204), response
                assert self.client.get("/apps/probe/files/word").text == word
                self.rounds += 1
        except Exception as error:  # whatever it is, it must not happen
            self.failure = error


class Ground:
    def __init__(self, server, guests):
        self.server, self.client = server, server.client
        self.client.create("probe", guests.c("probe"))
        self.client.run("probe", "flood", "1000000")
        self.client.put("/apps/probe/files/word", b"0")
        self.client.put("/apps/probe/files/large", b"x" * (8 << 20))
        self.neighbour = Neighbour(Client(server.host, server.port))

    def connect(self):
        return socket.create_connection((self.server.host, self.server.port), timeout=60)

    def head(self, method, path, *lines, version="1.1"):
        fields = [f"{method} {path} HTTP/{version}",
                  f"Host: {self.server.host}:{self.server.port}", *lines]
        return ("\r\n".join(fields) + "\r\n\r\n").encode()

    def send(self, method, path, *lines, body=b""):
        """A connection on which this was sent."""
        connection = self.connect()
        connection.sendall(self.head(method, path, *lines) + body)
        return connection

    def metric(self, name):
        text = self.client.get("/metrics").text
        return int(re.search(rf"^zasm_{name} (\d+)$", text, re.MULTILINE).group(1))

    def descriptors(self):
        """Without files of the state: volumes, and output of ended runs are kept open."""
        directory = f"/proc/{self.server.process.pid}/fd"
        found = 0
        for number in os.listdir(directory):
            try:
                found += not os.readlink(f"{directory}/{number}").startswith(
                    f"{self.server.state}/")
            except FileNotFoundError:
                pass
        return found

    def temporary_files(self):
        return names_in(self.server.state / "tmp")


@pytest.fixture(scope="module")
def ground(build, guests, tmp_path_factory):
    server = Server(build, tmp_path_factory.mktemp("clients") / "state", "--threads", 2,
                    "--head-timeout", "500ms", "--body-timeout", "1s", "--kept-runs", 20,
                    "--kept-bytes", "4MiB", "--upload", "32MiB", "--disk", "32MiB").start()
    ground = Ground(server, guests)
    ground.quiet_descriptors = ground.descriptors()
    ground.quiet_files = ground.temporary_files()
    ground.neighbour.start()
    yield ground
    ground.neighbour.ended.set()
    ground.neighbour.join()
    status = server.stop()
    log = server.read_log()
    assert status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture(autouse=True)
def nothing_left(ground, eventually):
    rounds = ground.neighbour.rounds
    yield
    assert ground.server.process.poll() is None, ground.server.read_log()
    eventually(lambda: ground.neighbour.failure or ground.neighbour.rounds >= rounds + 3)
    assert ground.neighbour.failure is None
    # The neighbour's and the one that asks.
    eventually(lambda: ground.metric("http_connections") <= 2)
    eventually(lambda: ground.metric("runs_running") <= 1)
    eventually(lambda: ground.descriptors() <= ground.quiet_descriptors + 1)
    eventually(lambda: ground.temporary_files() == ground.quiet_files)
    if not ground.server.is_sanitized():  # sanitizers need more
        assert ground.server.resident_bytes() < MEMORY_BYTES_MAX


@pytest.fixture
def many():
    """As many sockets as this process may have, at most 2,000."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield min(2000, hard - 200)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def wait_for_the_end(connections):
    """Until the server has closed each of them, whatever it says before."""
    poll = select.poll()
    by_number = {connection.fileno(): connection for connection in connections}
    for connection in connections:
        connection.setblocking(False)
        poll.register(connection, select.POLLIN)
    while by_number:
        ready = poll.poll(60000)
        assert ready, f"{len(by_number)} connections stay open"
        for number, _ in ready:
            try:
                data = by_number[number].recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                poll.unregister(number)
                by_number.pop(number).close()


def reset(connection):
    """Closes it so that the server sees an error, not an end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# --- slow ---------------------------------------------------------------------------------------


def test_many_that_say_nothing(ground, many):
    wait_for_the_end([ground.connect() for _ in range(many)])


def test_many_in_the_middle_of_a_head(ground, many):
    connections = []
    for number in range(many):
        connection = ground.connect()
        connection.sendall(b"POST /run?name=probe HTTP/1.1\r\nHost: x\r\nX: " + b"y" * (number % 90))
        connections.append(connection)
    wait_for_the_end(connections)


def test_many_in_the_middle_of_a_body(ground, many):
    """Also their runs end."""
    connections = [ground.send("POST", "/run?name=probe&arg=echo", "Content-Length: 1000000",
                               body=b"x" * 100) for _ in range(min(many, 60))]
    connections += [ground.send("POST", f"/create?name=slow{number}", "Content-Length: 1000000",
                                body=b"\0asm") for number in range(min(many, 300))]
    connections += [ground.send("PUT", f"/apps/probe/files/slow{number}", "Content-Length: 1000000",
                                body=b"x") for number in range(min(many, 300))]
    wait_for_the_end(connections)
    for number in range(3):
        assert ground.client.get(f"/apps/probe/files/slow{number}").status == 404
        assert ground.client.get(f"/apps/slow{number}").status == 404


@pytest.mark.parametrize("beginning,drop", [
    (b"GET / HTTP/1.1\r\n", b"a"),  # a name that never ends
    (b"GET / HTTP/1.1\r\nHost: x\r\n", b"A: b\r\n"),  # fields without end
    (b"GET /", b"x"),  # a path
    (b"", b"\r\n"),  # empty lines
    (b"POST /run?name=probe&arg=echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n", b"x"),
    (b"PUT /apps/probe/files/drip HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100000\r\n\r\n", b"x"),
    (b"POST /run?name=probe&arg=echo HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n",
     b"1\r\nx\r\n"),
    (b"PUT /apps/probe/files/drip HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"1;", b"e"),  # an extension without end
], ids=["name", "fields", "path", "lines", "body", "file", "chunks", "extension"])
def test_drop_by_drop(ground, beginning, drop):
    """A byte now and then is not enough to stay."""
    host = f"{ground.server.host}:{ground.server.port}".encode()
    connections = [ground.connect() for _ in range(20)]
    for connection in connections:
        connection.sendall(beginning.replace(b"{host}", host))
    ended = threading.Event()

    def feed():
        while not ended.wait(0.02):  # their pace, no synchronisation
            for connection in connections:
                try:
                    connection.send(drop)
                except OSError:
                    pass

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        wait_for_the_end(connections)
    finally:
        ended.set()
        feeder.join()


@pytest.mark.parametrize("path", [
    "/run?name=probe&arg=flood&arg=50000000", "/apps/probe/files/large", "/apps/probe/module"])
def test_that_never_read(ground, path):
    """What they asked for is not made in advance, and their runs end."""
    method = "POST" if path.startswith("/run") else "GET"
    connections = []
    for _ in range(40):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((ground.server.host, ground.server.port))
        connection.sendall(ground.head(method, path) * (1 if method == "POST" else 50))
        connections.append(connection)
    # Nobody reads. It is the server that ends it: the connections that are left are the others'.
    end = itertools.count()
    while ground.metric("http_connections") > 3:
        assert next(end) < 100000, "they stay"
    for connection in connections:
        connection.close()


def test_readers_drop_by_drop(ground):
    """Those who take a byte now and then are cut, and so are their runs."""
    connections = []
    for _ in range(10):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((ground.server.host, ground.server.port))
        connection.sendall(ground.head("POST", "/run?name=probe&arg=flood&arg=60000000"))
        connections.append(connection)
    end = itertools.count()
    while ground.metric("http_connections") > 3:
        for connection in connections:
            connection.setblocking(False)
            try:
                connection.recv(1)
            except OSError:
                pass
        assert next(end) < 100000, "they stay"
    for connection in connections:
        connection.close()


# --- too much -----------------------------------------------------------------------------------


def answer(connection):
    with connection, connection.makefile("rb") as stream:
        return read_response(stream)


@pytest.mark.parametrize("lines", [
    [f"X-{number}: y" for number in range(5000)],
    ["X: " + "y" * 100000],
    ["Cookie: a=b"] * 101,
    ["X" * 60000 + ": y"],
], ids=["many", "long", "101", "name"])
def test_floods_of_fields(ground, lines):
    connection = ground.connect()
    try:
        connection.sendall(ground.head("GET", "/", *lines))
        assert answer(connection).status in (400, 431)
    except (BrokenPipeError, ConnectionError):
        pass  # cut before the answer could be read


@pytest.mark.parametrize("path", ["/" + "x" * 40000, "/?" + "a=b&" * 20000, "/%41" * 5000,
                                  "/apps/probe/files/" + "a/" * 7000])
def test_long_targets(ground, path):
    connection = ground.connect()
    try:
        connection.sendall(ground.head("GET", path))
        assert answer(connection).status in (400, 404, 414, 422, 431)
    except (BrokenPipeError, ConnectionError):
        pass


@pytest.mark.parametrize("path", ["/create?name=giant", "/apps/probe/files/giant", "/run?name=no"])
def test_bodies_of_a_terabyte(ground, path):
    method = "PUT" if path.startswith("/apps") else "POST"
    connection = ground.send(method, path, f"Content-Length: {1 << 40}")
    response = answer(connection)
    assert response.status in (404, 413), response
    assert ground.client.get("/apps/giant").status == 404
    # The same without saying how much it will be.
    connection = ground.send(method, path, "Transfer-Encoding: chunked")
    block = b"100000\r\n" + b"\0" * 0x100000 + b"\r\n"
    try:
        for _ in range(40):
            connection.sendall(block)
        connection.sendall(b"0\r\n\r\n")
        assert answer(connection).status in (404, 413, 507)
    except OSError:
        pass  # cut before the answer could be read
    connection.close()
    assert ground.client.get("/apps/giant").status == 404
    assert ground.client.get("/apps/probe/files/giant").status == 404


# --- rude ---------------------------------------------------------------------------------------

STATES = {
    "connected": lambda ground: b"",
    "in the request line": lambda ground: b"POST /ru",
    "in the head": lambda ground: b"POST /run HTTP/1.1\r\nHost",
    "before the body": lambda ground: ground.head("POST", "/run?name=probe&arg=echo",
                                                  "Content-Length: 10"),
    "in the body": lambda ground: ground.head("POST", "/run?name=probe&arg=echo",
                                              "Content-Length: 10") + b"12345",
    "in an upload": lambda ground: ground.head("POST", "/create?name=rude",
                                               "Content-Length: 300000") + b"\0asm" * 50000,
    "in a file": lambda ground: ground.head("PUT", "/apps/probe/files/rude",
                                            "Content-Length: 300000") + b"1234" * 50000,
    "in an archive": lambda ground: ground.head("PUT", "/apps/probe/files/rude/?unpack",
                                                "Content-Length: 300000") + b"1234" * 50000,
    "while it computes": lambda ground: ground.head("POST", "/run?name=probe&arg=spin"),
    "while it sleeps": lambda ground: ground.head("POST", "/run?name=probe&arg=sleep&arg=600000"),
    "while it writes": lambda ground: ground.head("POST", "/run?name=probe&arg=flood&arg=60000000"),
    "for one result": lambda ground: ground.head("POST", "/run?name=probe&arg=spin",
                                                 "Accept: application/json"),
    "for events": lambda ground: ground.head("POST", "/run?name=probe&arg=flood&arg=60000000",
                                             "Accept: application/x-ndjson"),
    "in a download": lambda ground: ground.head("GET", "/apps/probe/files/large"),
    "in a list": lambda ground: ground.head("GET", "/proc"),
    "following the log": lambda ground: ground.head("GET", "/apps/probe/log?follow"),
    "between two": lambda ground: ground.head("GET", "/healthz"),
    "with more behind": lambda ground: ground.head("GET", "/healthz") * 30 + b"GET /",
    "in a tar": lambda ground: ground.head("GET", "/apps/probe/files/",
                                           "Accept: application/x-tar"),
}


@pytest.mark.parametrize("way", ["close", "reset", "half", "read"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.replace(" ", "-"))
def test_leaving(ground, state, way):
    """In every state, and in every way there is to leave."""
    connections = []
    for _ in range(4):
        connection = ground.connect()
        connection.sendall(STATES[state](ground))
        connections.append(connection)
    if way == "half":
        for connection in connections:
            connection.shutdown(socket.SHUT_WR)
        wait_for_the_end(connections)
        return
    for connection in connections:
        if way == "read" and b"\r\n\r\n" in STATES[state](ground) and state in (
                "while it writes", "in a download", "for events", "in a tar"):
            connection.recv(1)
        reset(connection) if way == "reset" else connection.close()


def test_abandoned_uploads(ground):
    """500 of them, each at another place."""
    module = ground.client.get("/apps/probe/module").body
    for number in range(500):
        kind = number % 3
        path = ("/create?name=abandoned", "/apps/probe/files/abandoned", "/create?name=abandoned")
        part = len(module) * number // 500
        length = len(module) + (kind == 2)
        method = "PUT" if kind == 1 else "POST"
        connection = ground.send(method, path[kind], f"Content-Length: {length}",
                                 body=module[:part])
        reset(connection) if number % 2 else connection.close()
    assert ground.client.get("/apps/abandoned").status == 404
    assert ground.client.get("/apps/probe/files/abandoned").status == 404


def test_pipelining(ground):
    """Requests one after the other without waiting are answered in their order."""
    connection = ground.connect()
    count = 200
    requests = b"".join(
        ground.head("GET", "/apps/probe/files/word") if number % 3 == 0
        else ground.head("POST", f"/run?name=probe&arg=args&arg={number}", "Content-Length: 0")
        if number % 3 == 1
        else ground.head("PUT", f"/apps/probe/files/piped{number}", "Content-Length: 5") + b"piped"
        for number in range(count))
    sender = threading.Thread(target=connection.sendall, args=(requests,))
    sender.start()
    with connection.makefile("rb") as stream:
        for number in range(count):
            response = read_response(stream)
            assert response.status in ((200,), (200,), (201, 204))[number % 3], (number, response)
            if number % 3 == 1:
                assert response.text == f"probe\nargs\n{number}\n"
    sender.join()
    connection.close()


def test_requests_without_end_on_one_connection(ground):
    """Somebody who only asks and never reads is cut; the answers are not kept for them."""
    connection = ground.connect()
    block = ground.head("GET", "/metrics") * 100
    try:
        while True:
            connection.settimeout(30)
            connection.sendall(block)
    except TimeoutError:
        pytest.fail("it was not cut")
    except OSError:
        pass
    connection.close()


def test_the_end_of_a_connection_is_no_end_of_a_body(ground):
    """A body that was cut is never taken for whole."""
    for method, path in (("POST", "/create?name=cut"), ("PUT", "/apps/probe/files/cut")):
        connection = ground.send(method, path, "Content-Length: 1000", body=b"\0asm\1\0\0\0")
        connection.shutdown(socket.SHUT_WR)
        wait_for_the_end([connection])
    assert ground.client.get("/apps/cut").status == 404
    assert ground.client.get("/apps/probe/files/cut").status == 404
