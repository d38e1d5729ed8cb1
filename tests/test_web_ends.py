"""Ends in the middle at the web door: programs that stop, clients that vanish. Each ends cleanly, and
runs, connections, descriptors, temporary files and memory are counted before and after."""

import re
import socket
import struct

import pytest

from conftest import Server
from support.client import chunks_of, parse_head, read_response
from support.pages import send_what_fits
from support.state import names_in

CLIENTS = 8
# What all tests here together may leave in memory: caches, of each of some hundred runs.
GROWTH_BYTES_MAX = 48 << 20
LARGE_BYTES = 8 << 20
FEW = 4


class Site:
    """The server with its app `site`, and the same as `few`, which has few places."""

    def __init__(self, server, module):
        self.server, self.client = server, server.client
        self.client.create("site", module, web="public", cpu="500ms", root="keep", max_runs="200")
        self.client.create("few", module, web="public", root="keep", max_runs=str(FEW),
                           wall="12h")
        self.client.create("tight", module, web="public", output="64KiB")
        self.client.put("/apps/site/files/www/large", bytes(LARGE_BYTES))
        self.client.get("/web/few/trap")
        for _ in range(40):  # until memory and descriptors are those of use
            self.client.get("/web/site/trap")  # opens the app's log, too
            self.client.get("/web/site/x")
            self.client.get("/web/site/large")
            self.client.post("/web/site/echo", bytes(1 << 20))
        self.quiet_descriptors = self.descriptors()
        self.quiet_files = self.temporary_files()
        self.quiet_bytes = server.resident_bytes()

    def metric(self, name):
        return int(re.search(rf"^zasm_{name}\S* (\d+)$", self.client.get("/metrics").text,
                             re.M)[1])

    def descriptors(self):
        return self.server.descriptors()

    def temporary_files(self):
        return names_in(self.server.state / "tmp")

    def waits(self):
        return self.client.get("/apps/site/files/waits").status == 200

    def go(self):
        self.client.put("/apps/site/files/go", b"")

    def running(self):
        """The ids of runs that have not ended."""
        listed = self.client.get("/proc", headers={"Accept": "application/json"}).json()
        return [entry["name"] for entry in listed if entry["name"].isdigit() and "state: ended"
                not in self.client.get(f"/proc/{entry['name']}/status").text]


@pytest.fixture(scope="module")
def site(build, guests, tmp_path_factory):
    server = Server(build, tmp_path_factory.mktemp("ends") / "state", "--threads", 2,
                    "--kept-runs", 20, "--unheard", "1h").start()
    site = Site(server, guests.c("web"))
    yield site
    grown = server.resident_bytes() - site.quiet_bytes
    status, log = server.stop(), server.read_log()
    assert status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log
    if not server.is_sanitized():  # a sanitizer keeps freed memory
        assert grown < GROWTH_BYTES_MAX


@pytest.fixture(autouse=True)
def nothing_left(site, eventually):
    for name in ("go", "waits", "done"):
        site.client.delete(f"/apps/site/files/{name}")
    yield
    site.go()  # whoever still waits goes on
    eventually(lambda: site.metric("runs_running") == 0)
    eventually(lambda: site.metric("http_connections") <= 1)  # the one that asks
    eventually(lambda: site.descriptors() <= site.quiet_descriptors)
    eventually(lambda: site.temporary_files() == site.quiet_files)
    assert site.client.get("/web/site/x").text == "program: /x\n"


# --- programs that stop --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "trap", "spin", "kill"])
@pytest.mark.parametrize("where", ["nothing", "line", "head", "body", "length"])
def test_program_stops(site, eventually, where, how):
    path = f"/web/site/stop?{where}-{'sleep' if how == 'kill' else how}"
    connection, stream = site.client.open("GET", path)
    with connection, stream:
        eventually(site.waits)
        is_under_way = where in ("body", "length")
        if is_under_way:
            status, headers = parse_head(stream)
            body = chunks_of(stream) if where == "body" else iter(lambda: stream.read(5), b"")
            assert status == 200 and next(body) == b"half\n"
        if how == "kill":
            run, = site.running()
            assert site.client.put(f"/proc/{run}/ctl", b"kill").status < 300
        else:
            site.go()
        if where == "body" and how == "exit":
            assert list(body) == []
        elif where == "body":  # a part must not be taken for all
            with pytest.raises(ConnectionError):
                list(body)
        elif where == "length":
            assert headers["content-length"] == "100" and list(body) == []
        else:
            response = read_response(stream)
            is_page = how == "exit" and where != "head"
            assert response.status == (200 if is_page else 502), response
            if not is_page:
                assert re.fullmatch(r"error: the program of this page [^\n]* \(run \d+\)\n",
                                    response.text), response


# --- clients that vanish -------------------------------------------------------------------------


def request(method, path, *lines, body=b""):
    fields = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *lines]
    return ("\r\n".join(fields) + "\r\n\r\n").encode() + body


STATES = {
    "in the head": b"GET /web/site/x HTTP/1.1\r\nHost: 127.0.0.1\r\nAcc",
    "before the body": request("POST", "/web/site/count", "Content-Length: 10"),
    "in the body": request("POST", "/web/site/echo", "Content-Length: 300000",
                           body=bytes(150000)),
    "in a chunked body": request("POST", "/web/site/count", "Transfer-Encoding: chunked",
                                 body=b"20000\r\n" + bytes(0x20000) + b"\r\n20000\r\n" + b"half"),
    "in a body that nobody reads": request("POST", "/web/site/early", "Content-Length: 9000000",
                                           body=bytes(100000)),
    "before the answer": request("GET", "/web/site/stop?nothing-exit"),
    "in the head of the answer": request("GET", "/web/site/stop?head-trap"),
    "in the answer": request("GET", "/web/site/stop?body-exit"),
    "in a flood": request("GET", "/web/site/flood?20000000"),
    "in a flood with a body": request("POST", "/web/site/flood?20000000", "Content-Length: 10",
                                      body=b"12345"),
    "in an answer before the end of the body": request(
        "POST", "/web/tight/echo", "Content-Length: 3000000", body=bytes(400000)),
    "in a flood before the end of the body": request(
        "POST", "/web/tight/flood?20000000", "Content-Length: 3000000", body=bytes(200000)),
    "in a file": request("GET", "/web/site/large"),
    "in a redirect": request("POST", "/web/site/raw", "Content-Length: 39",
                             body=b"Location: /web/site/flood?20000000\n\n".ljust(39)),
    "in a page that fails": request("GET", "/web/site/trap"),
    "between two": request("GET", "/web/site/x"),
    "with more behind": request("GET", "/web/site/x") * 20 + b"GET /web",
}


@pytest.mark.parametrize("way", ["close", "reset", "half", "read"])
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.replace(" ", "-"))
def test_client_vanishes(site, eventually, state, way):
    """In every state, and in every way there is to leave."""
    connections = []
    for _ in range(CLIENTS):
        connection = site.client.connect()
        connection.sendall(STATES[state])
        connections.append(connection)
    if "stop" in STATES[state].decode("latin-1"):
        eventually(site.waits)
    for connection in connections:
        if way == "half":
            connection.shutdown(socket.SHUT_WR)
        elif way == "read" and state in ("in the answer", "in a flood", "in a file",
                                         "in a redirect", "between two",
                                         "in an answer before the end of the body",
                                         "in a flood before the end of the body"):
            assert connection.recv(1) == b"H"
        elif way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if way == "half":
        site.go()
        for connection in connections:  # until the server has ended it
            try:
                while connection.recv(1 << 20):
                    pass
            except ConnectionError:
                pass
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("how, ending", [("heed", "exit 1"), ("ignore", "client 137"),
                                         ("flood", "client 137")])
def test_stream_for_nobody(site, eventually, how, ending):
    """Visitors that have left keep no places of an app: its programs are told that nobody reads,
    and those that don't care are ended."""
    visitors = [site.client.open("GET", f"/web/few/ticks?{how}") for _ in range(FEW)]
    for _, stream in visitors:
        assert parse_head(stream)[0] == 200
        assert next(chunks_of(stream)).startswith(b"data: tick\n")
    runs = site.running()
    assert len(runs) == FEW
    for connection, stream in visitors:
        stream.close()
        connection.close()
    assert site.client.get("/web/few/x").text == "program: /x\n"  # once there is a place
    for run in runs:
        assert site.client.get(f"/proc/{run}/wait").text == f"{ending}\n"


def test_stream_for_nobody_whose_body_waits(site):
    """Likewise where the end of the visitor is behind a body that the program does not read."""
    visitors = [send_what_fits(site.client, "/web/few/ticks?heed") for _ in range(FEW)]
    for connection in visitors:
        assert connection.recv(12) == b"HTTP/1.1 200"
    runs = site.running()
    assert len(runs) == FEW
    for connection in visitors:
        connection.close()
    assert site.client.get("/web/few/x").text == "program: /x\n"
    for run in runs:
        assert site.client.get(f"/proc/{run}/wait").text == "client 137\n"


def test_work_for_nobody(site, eventually):
    """Who has left ends nothing that is short: the work is done, and its page can be written."""
    connection, stream = site.client.open("GET", "/web/site/work")
    eventually(site.waits)
    run, = site.running()
    stream.close()
    connection.close()
    eventually(lambda: site.metric("http_connections") <= 1)
    site.go()
    assert site.client.get(f"/proc/{run}/wait").text == "exit 0\n"
    assert site.client.get("/apps/site/files/done").status == 200


def test_queue_of_nobody(site, eventually):
    """Whose visitor leaves while it waits for a place is not started any more."""
    visitors = [site.client.open("GET", "/web/few/ticks?heed") for _ in range(FEW)]
    for _, stream in visitors:
        assert parse_head(stream)[0] == 200
    started = site.metric("runs_started_total")
    waiting = [site.client.open("GET", "/web/few/x") for _ in range(CLIENTS)]
    eventually(lambda: site.metric("runs_queued") == CLIENTS)
    for connection, stream in waiting:
        stream.close()
        connection.close()
    eventually(lambda: site.metric("runs_queued") == 0)
    for connection, stream in visitors:
        stream.close()
        connection.close()
    eventually(lambda: site.metric("runs_running") == 0)
    assert site.metric("runs_started_total") == started


@pytest.mark.parametrize("way", ["waits", "computes"])
def test_silence_for_nobody(make_server, guests, eventually, way):
    """A program that says nothing more keeps its place for a while, not for as long as it may run."""
    client = make_server("--unheard", "100ms", "--wall", "1h", "--cpu", "1h", "--max-runs", 1).client
    client.create("site", guests.c("web"))
    connection, stream = client.open("GET", "/web/site/stop?nothing-" +
                                     ("sleep" if way == "waits" else "spin"))
    eventually(lambda: client.get("/apps/site/files/waits").status == 200)
    if way == "computes":
        client.put("/apps/site/files/go", b"")
    run, = [name for name in client.get("/proc").text.split("/\n") if name.isdigit()]
    stream.close()
    connection.close()
    assert client.get("/web/site/x").text == "program: /x\n"  # once there is a place
    assert client.get(f"/proc/{run}/wait").text == "client 137\n"
    assert "its client has left" in client.get("/apps/site/log").text
