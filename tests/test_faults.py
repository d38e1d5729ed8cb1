"""What goes wrong around a server: cut connections, slow clients, full disks, damaged files,
signals. Nothing is left of it, and the error says what to do."""

import os
import random
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading

import pytest

from support.client import read_response
from support.modules import module, wat_empty, wat_numbered
from support.state import names_in

SMALL = module(imports=[("wasi_snapshot_preview1", "proc_exit", "func_i32")],
               exports=["_start"], body=b"\x41\x00\x10\x00\x0b")


def requests_open(client):
    for line in client.get("/metrics").text.splitlines():
        if line.startswith("zasm_http_requests_open "):
            return int(line.split()[1])
    raise AssertionError("no such metric")


class Quiet:
    """Counts what a server holds, and waits until it holds no more than before."""

    def __init__(self, server, eventually):
        self.server, self.eventually = server, eventually
        self.settle()
        self.descriptors = server.descriptors()

    def settle(self):
        self.eventually(lambda: requests_open(self.server.client) == 1)

    def check(self):
        self.settle()
        # The metrics' own connection, and a volume that was opened meanwhile (a database, its log).
        self.eventually(lambda: self.server.descriptors() <= self.descriptors + 3)
        self.eventually(lambda: names_in(self.server.state / "tmp") == [])
        self.eventually(lambda: "zasm_runs_running 0\n" in self.server.client.get("/metrics").text)


@pytest.fixture
def quiet(server, eventually):
    server.client.create("small", SMALL)
    server.client.put("/apps/small/files/warm", b"x")
    watch = Quiet(server, eventually)
    yield watch
    watch.check()


def cut(client, data):
    with client.connect() as connection:
        try:
            connection.sendall(data)
        except OSError:
            pass


def abort(client, data):
    """As a host that crashed: a reset instead of a regular end."""
    with client.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.sendall(data)


# --- cut off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [cut, abort])
def test_an_upload_cut_off_at_every_byte(server, client, quiet, how):
    whole = client.head("POST", "/create?name=cut", SMALL) + SMALL
    for length in range(len(whole)):
        how(client, whole[:length])
    quiet.check()
    assert client.get("/apps/cut").status == 404
    assert client.create("cut", SMALL).status == 201
    client.delete("/apps/cut")


def test_a_large_upload_cut_off(server, client, quiet):
    body = bytes(2 << 20)
    head = client.head("POST", "/create?name=cut", body)
    generator = random.Random(1)
    for _ in range(20):
        cut(client, head + body[:generator.randrange(len(body))])
    quiet.check()


def test_a_file_cut_off_at_every_byte(server, client, quiet):
    client.put("/apps/small/files/kept", b"before")
    whole = client.head("PUT", "/apps/small/files/kept", b"0123456789") + b"0123456789"
    for length in range(len(whole)):
        cut(client, whole[:length])
    quiet.check()
    assert client.get("/apps/small/files/kept").body == b"before"
    assert client.get("/apps/small/files/").text == "kept\nwarm\n"


@pytest.mark.parametrize("unpack", [False, True], ids=["file", "tar"])
def test_directories_of_an_upload_that_is_cut_off_are_not_made(server, client, quiet, unpack):
    """Nor do they stand or fall with an upload to the same place that comes at the same time."""
    path = "/apps/small/files/new/deep/" + ("?unpack" if unpack else "file")
    body = b"0123456789"
    whole = client.head("PUT", path, body) + body
    for length in range(len(whole) - len(body), len(whole)):
        cut(client, whole[:length])
    quiet.check()
    assert client.get("/apps/small/files/new").status == 404
    # Two, of which one is cut off when the other has come, and before it has.
    for first_ends in (True, False):
        with client.connect() as one, client.connect() as other:
            one.sendall(whole[:-1])
            other.sendall(client.head("PUT", "/apps/small/files/new/deep/sibling", body) + body[:5])
            if first_ends:
                one.close()
                quiet.eventually(lambda: requests_open(client) == 2)
            other.sendall(body[5:])
            assert read_response(other.makefile("rb"), "PUT").status == 201
        quiet.check()
        assert client.get("/apps/small/files/new/deep/").text == "sibling\n"
        assert client.get("/apps/small/files/new/deep/sibling").body == body
        client.delete("/apps/small/files/new")


def test_uploads_into_the_same_new_directories(server, client, quiet):
    """All at once, and each with another one that is cut off."""
    def upload(number):
        cut(client, client.head("PUT", f"/apps/small/files/a/b/c/cut{number}", b"xy") + b"x")
        statuses.append(client.put(f"/apps/small/files/a/b/c/{number}", b"x" * number).status)

    statuses = []
    threads = [threading.Thread(target=upload, args=(number,)) for number in range(1, 17)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [201] * 16
    quiet.check()
    assert sorted(client.get("/apps/small/files/a/b/c/").text.split(), key=int) == [
        str(number) for number in range(1, 17)]
    client.delete("/apps/small/files/a")


def test_a_run_cut_off_at_every_byte(server, client, quiet, guests):
    client.create("probe", guests.c("probe"))
    whole = client.head("POST", "/run?name=probe&arg=echo", b"0123456789") + b"0123456789"
    for length in range(len(whole)):
        cut(client, whole[:length])
    quiet.check()
    assert client.run("probe", "args").text == "probe\nargs\n"


@pytest.mark.parametrize("path", [
    "/apps/small/files/large", "/run?name=probe&arg=flood&arg=20000000&keep=1ms", "/proc", "/",
    "/apps/small/log?follow", "/run?name=probe&arg=sleep&arg=600000"])
def test_a_client_that_reads_no_more(server, client, quiet, guests, path):
    """An ended run that is kept holds a file where its output was too much for memory: how much a
    flood gets out before its client has left is a matter of luck, so it is not kept."""
    client.create("probe", guests.c("probe"))
    client.put("/apps/small/files/large", bytes(4 << 20))
    method = "POST" if path.startswith("/run") else "GET"
    for how in (0, 1, 100, 10000):
        connection, stream = client.open(method, path)
        stream.read(how) if "sleep" not in path and "follow" not in path else stream.readline()
        stream.close()
        connection.close()
    quiet.check()
    client.delete("/apps/small/files/large")


def test_a_client_that_leaves_while_it_compiles(server, client, quiet):
    """Each leaves at once when all of its (new) module is sent."""
    for i in range(8):
        body = wat_numbered(1000 + i)
        cut(client, client.head("POST", f"/create?name=leaver{i}", body) + body)
    quiet.check()
    # Whole or not at all.
    for i in range(8):
        response = client.run(f"leaver{i}")
        assert response.status == 404 or response.trailers["run-exit"] == str(1000 + i)
        client.delete(f"/apps/leaver{i}")


# --- slow ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(build, tmp_path_factory):
    from conftest import Server
    state = tmp_path_factory.mktemp("state") / "state"
    running = Server(build, state, "--head-timeout", "200ms", "--body-timeout", "300ms").start()
    running.client.create("small", SMALL)
    yield running
    assert running.stop() == 0


@pytest.mark.parametrize("data", [b"", b"G", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_slow_heads(impatient, data):
    with impatient.client.connect() as connection:
        connection.sendall(data)
        # It is closed by the server: only then does recv give nothing (it would time out).
        received = b"".join(iter(lambda: connection.recv(1 << 16), b""))
        assert b" 200 " not in received


@pytest.mark.parametrize("method,path", [
    ("POST", "/create?name=slow"), ("PUT", "/apps/small/files/slow"), ("POST", "/run?name=small"),
    ("PUT", "/apps/small/files/?unpack")])
def test_slow_bodies(impatient, method, path, eventually):
    client = impatient.client
    with client.connect() as connection:
        connection.sendall(client.head(method, path, b"", {"Content-Length": "1000"}) + b"\0asm")
        try:
            while connection.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
    eventually(lambda: requests_open(client) == 1)
    eventually(lambda: names_in(impatient.state / "tmp") == [])
    eventually(lambda: client.get("/apps/small/files/").text == "")


def test_a_reader_that_never_reads(impatient, guests, eventually):
    client = impatient.client
    client.create("probe", guests.c("probe"))
    connection, stream = client.open("POST", "/run?name=probe&arg=flood&arg=60000000")
    eventually(lambda: "zasm_runs_running 1\n" in client.get("/metrics").text)
    eventually(lambda: "zasm_runs_running 0\n" in client.get("/metrics").text)
    connection.close()


# --- disks --------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """16 MiB of memory as a file system, where the tests may mount one."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "none", directory],
                             capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield directory
    subprocess.run(["umount", "-l", directory], check=True)


def test_a_full_disk(make_server, small_disk, guests, eventually):
    server = make_server(state=small_disk / "state")
    client = server.client
    client.create("app", guests.c("probe"))
    client.put("/apps/app/files/kept", b"before")
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)) == 4096:
                pass
        except OSError:
            pass
    for response in (client.put("/apps/app/files/large", bytes(1 << 20)),
                     client.post("/create?name=other", wat_empty() + b" " * (1 << 20))):
        assert response.status in (500, 503, 507), response
        assert "space" in response.text, response
    assert client.get("/apps/app/files/kept").body == b"before"
    response = client.run("app", "get", "/kept")
    assert response.text == "before" or "no space left" in response.text
    filler.unlink()
    assert client.run("app", "get", "/kept").text == "before"
    assert client.put("/apps/app/files/kept", b"after").status == 204
    assert client.create("other", wat_empty()).status == 201
    eventually(lambda: names_in(server.state / "tmp") == [])
    assert server.stop() == 0
    again = make_server(state=small_disk / "state")
    assert again.client.get("/apps/app/files/kept").body == b"after"


def test_stopping_at_once(make_server):
    """Whatever the loops are at when they stop."""
    for _ in range(8):
        server = make_server()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0, server.read_log()


def test_a_limit_of_file_sizes(make_server, guests):
    """RLIMIT_FSIZE: every write beyond 2 MiB fails. The server lives on."""
    server = make_server()
    client = server.client
    client.create("app", wat_empty())
    client.put("/apps/app/files/kept", b"before")
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
    response = client.post("/create?name=large", wat_empty() + b" " * (8 << 20))
    assert response.status >= 400, response
    assert server.process.poll() is None, server.read_log()
    assert client.get("/apps/app/files/kept").body == b"before"


# --- damage -------------------------------------------------------------------------------------


def stopped_state(make_server, guests):
    server = make_server()
    server.client.create("first", guests.c("probe"))
    server.client.create("second", guests.c("probe"))
    server.client.put("/apps/first/files/note", b"1" * 20000)
    server.client.put("/apps/second/files/note", b"2")
    assert server.stop() == 0
    return server.state


def flip(path, offset, length=64):
    with open(path, "r+b") as file:
        file.seek(offset)
        data = file.read(length)
        file.seek(offset)
        file.write(bytes(byte ^ 0xff for byte in data))


def contents(state):
    """All files with something in them."""
    return {str(path): path.read_bytes() for path in state.rglob("*")
            if path.is_file() and path.stat().st_size > 0}


@pytest.mark.parametrize("damage", ["header", "middle", "cut", "text", "empty", "removed"])
def test_a_damaged_catalog(make_server, guests, damage):
    state = stopped_state(make_server, guests)
    path = state / "catalog.db"
    size = path.stat().st_size
    if damage == "header":
        flip(path, 0)
    elif damage == "middle":
        flip(path, 4096, size - 4096)
    elif damage == "cut":
        os.truncate(path, size // 2)
    elif damage == "text":
        path.write_text("this is no database\n" * 1000)
    elif damage == "empty":
        os.truncate(path, 0)
    else:
        path.unlink()
    before = contents(state)
    with pytest.raises(RuntimeError) as failure:
        make_server(state=state)
    assert "catalog.db" in str(failure.value) and "error: " in str(failure.value)
    assert "--state" in str(failure.value)
    assert contents(state) == before


def volume_of(state, text):
    for path in sorted((state / "volumes").glob("*.db")):
        if text in path.read_bytes():
            return path
    raise AssertionError("no volume has it")


@pytest.mark.parametrize("damage", ["header", "all", "cut"])
def test_a_damaged_volume(make_server, guests, damage):
    state = stopped_state(make_server, guests)
    path = volume_of(state, b"1" * 2000)
    if damage == "header":
        flip(path, 0)
    elif damage == "all":
        flip(path, 0, path.stat().st_size)
    else:
        os.truncate(path, 5000)
    server = make_server(state=state)
    client = server.client
    response = client.get("/apps/first/files/note")
    assert response.status == 500, response
    assert "volume" in response.text and "damaged" in response.text
    response = client.run("first", "get", "/note")
    assert response.status == 500 or response.trailers.get("run-exit") != "0", response
    assert client.put("/apps/first/files/note", b"x").status == 500
    # Everybody else goes on.
    assert client.run("second", "get", "/note").text == "2"
    assert client.get("/apps/second/files/note").text == "2"
    assert server.stop() == 0


def compiled_files(state):
    return sorted((state / "compiled").glob("*/*.cwasm"))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "removed", "directory", "other engine"])
def test_a_damaged_compiled_cache(make_server, guests, damage):
    """Compiled code is never loaded unless it is what was compiled; it is made again."""
    state = stopped_state(make_server, guests)
    for path in compiled_files(state):
        if damage == "flip":
            flip(path, path.stat().st_size // 2, 1)
        elif damage == "cut":
            os.truncate(path, path.stat().st_size // 2)
        elif damage == "empty":
            os.truncate(path, 0)
        elif damage == "removed":
            path.unlink()
    if damage == "directory":
        shutil.rmtree(state / "compiled")
    elif damage == "other engine":
        directory = next((state / "compiled").iterdir())
        directory.rename(directory.with_name("wasmtime-0-old"))
    server = make_server(state=state)
    assert server.client.run("first", "args").text == "first\nargs\n"
    assert server.client.run("second", "args").text == "second\nargs\n"
    assert server.stop() == 0
    assert make_server(state=state).client.run("first", "args").text == "first\nargs\n"


def test_leftovers_are_cleared_away(make_server, guests):
    state = stopped_state(make_server, guests)
    (state / "tmp" / "leftover").write_bytes(b"x")
    server = make_server(state=state)
    assert names_in(state / "tmp") == []
    assert server.client.run("first", "args").status == 200


def test_two_servers_on_one_state(make_server):
    server = make_server()
    with pytest.raises(RuntimeError, match="in use by another server"):
        make_server(state=server.state)
    assert server.client.create("still", wat_empty()).status == 201


def test_a_state_that_can_not_be_made(make_server, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RuntimeError, match="error: "):
        make_server(state=tmp_path / "file" / "state")


@pytest.mark.parametrize("listen", ["127.0.0.1", "nowhere:80", "127.0.0.1:99999", "", "[::1:80"])
def test_addresses_that_are_none(make_server, listen):
    with pytest.raises(RuntimeError, match="--listen"):
        make_server(listen=listen)


def test_a_port_that_is_taken(make_server):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RuntimeError, match="can't listen"):
            make_server(listen=f"127.0.0.1:{taken.getsockname()[1]}")


# --- stopping -----------------------------------------------------------------------------------


def start_waiting(client):
    """A run that waits for input for ever; its id."""
    identifier = client.post("/run?name=probe&arg=wait&detach&stdin=open").text.strip()
    connection, stream = client.open("GET", f"/proc/{identifier}/stdout")
    while stream.readline() != b"waiting\n":
        pass
    connection.close()
    return identifier


def test_sigterm_lets_runs_finish(make_server, guests, eventually):
    server = make_server("--grace", "60s")
    client = server.client
    client.create("probe", guests.c("probe"))
    connection, stream = client.open("POST", "/run?name=probe&arg=sleep&arg=300")
    while stream.readline() != b"sleeping\n":
        pass
    server.process.send_signal(signal.SIGTERM)
    rest = stream.read()
    assert b"awake\n" in rest and b"run-exit: 0" in rest.lower()
    assert server.process.wait(timeout=60) == 0
    assert "everything is on disk" in server.read_log()


@pytest.mark.parametrize("again", [False, True])
def test_runs_end_when_the_grace_is_over(make_server, guests, eventually, again):
    server = make_server("--grace", "60s" if again else "100ms")
    client = server.client
    client.create("probe", guests.c("probe"))
    connection, stream = client.open("POST", "/run?name=probe&arg=sleep&arg=600000")
    while stream.readline() != b"sleeping\n":
        pass
    spinning, spinning_stream = client.open("POST", "/run?name=probe&arg=spin")
    eventually(lambda: "zasm_runs_running 2\n" in client.get("/metrics").text)
    server.process.send_signal(signal.SIGTERM)
    if again:
        eventually(lambda: "stopping" in server.read_log())
        server.process.send_signal(signal.SIGTERM)
    for ended in (stream, spinning_stream):
        assert b"run-reason: shutdown" in ended.read().lower()
    assert server.process.wait(timeout=60) == 0, server.read_log()


def test_everything_is_on_disk_after_sigterm(make_server, guests):
    server = make_server("--grace", "0s")
    client = server.client
    client.create("probe", guests.c("probe"))
    start_waiting(client)
    client.run("probe", "put", "/note", "written")
    client.put("/apps/probe/env/KEY", b"value")
    assert server.stop() == 0, server.read_log()
    assert not list(server.state.rglob("*-wal")), "the databases were not closed"
    again = make_server(state=server.state).client
    assert again.run("probe", "get", "/note").text == "written"
    assert again.get("/apps/probe/env/KEY").text == "value"


@pytest.mark.parametrize("phase", ["head", "body", "compile", "put", "follow", "idle"])
def test_sigterm_in_every_phase_of_a_request(make_server, guests, phase):
    server = make_server("--grace", "100ms")
    client = server.client
    client.create("probe", guests.c("probe"))
    connection = client.connect()
    if phase == "head":
        connection.sendall(b"GET / HTTP/1.1\r\n")
    elif phase == "body":
        connection.sendall(client.head("POST", "/create?name=x", b"", {"Content-Length": "100"}))
    elif phase == "compile":
        body = guests.c("probe", "-DSIGTERM_TEST=1")
        connection.sendall(client.head("POST", "/create?name=x", body) + body)
    elif phase == "put":
        connection.sendall(client.head("PUT", "/apps/probe/files/x", b"", {
            "Content-Length": "1000000"}) + bytes(300000))
    elif phase == "follow":
        connection.sendall(client.head("GET", "/apps/probe/log?follow"))
    assert client.get("/healthz").status == 200
    assert server.stop() == 0, server.read_log()
    assert "invariant" not in server.read_log()
    connection.close()
    again = make_server(state=server.state)
    assert again.client.run("probe", "args").text == "probe\nargs\n"
    assert names_in(server.state / "tmp") == []


# --- many at once -------------------------------------------------------------------------------


def test_many_things_at_once(make_server, eventually):
    """Eight threads create, run, change and delete the same names; afterwards all is consistent."""
    server = make_server()
    client = server.client
    names = ["one", "two", "three"]
    failures = []

    def work(number):
        generator = random.Random(number)
        for _ in range(40):
            name = generator.choice(names)
            exit_status = generator.randrange(1, 9)
            action = generator.randrange(6)
            try:
                if action < 2:
                    response = client.post(f"/create?name={name}", wat_numbered(exit_status))
                    allowed = (200, 201)
                elif action == 2:
                    response = client.run(name)
                    allowed = (200, 404)
                    if response.status == 200 and not 1 <= int(response.trailers["run-exit"]) < 9:
                        failures.append(response)
                elif action == 3:
                    response = client.put(f"/apps/{name}/env/K{number}", str(exit_status))
                    allowed = (201, 204, 404)
                elif action == 4:
                    response = client.put(f"/apps/{name}/files/f{number}", b"x" * 10000)
                    allowed = (201, 204, 404)
                else:
                    response = client.delete(f"/apps/{name}")
                    allowed = (204, 404)
                if response.status not in allowed:
                    failures.append((action, response))
            except Exception as error:  # noqa: BLE001: any is a failure of the test
                failures.append((action, error))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]

    def check(client):
        listed = {name.rstrip("/") for name in client.get("/apps").text.split()}
        assert listed <= set(names)
        described = {}
        for name in listed:
            module_of = client.get(f"/apps/{name}/module").body
            status = next(i for i in range(1, 9) if module_of == wat_numbered(i))
            assert client.run(name).trailers["run-exit"] == str(status)
            files = client.get(f"/apps/{name}/files/").text
            for file in files.split():
                assert client.get(f"/apps/{name}/files/{file}").body == b"x" * 10000
            described[name] = (module_of, files, client.get(f"/apps/{name}/config").body)
        return described

    before = check(client)
    eventually(lambda: names_in(server.state / "tmp") == [])
    assert server.stop() == 0, server.read_log()
    # Nothing is kept of what was removed. (While it runs, what was looked at lately holds some.)
    assert len(list((server.state / "volumes").glob("*.db"))) <= len(before)
    again = make_server(state=server.state)
    assert check(again.client) == before


def test_two_servers_on_one_port(make_server):
    first = make_server()
    second = make_server(listen=f"127.0.0.1:{first.port}", start=False)
    with pytest.raises(RuntimeError, match="address in use"):
        second.start()
    assert first.client.get("/healthz").status == 200


def test_a_dump_of_the_server_is_never_written(server):
    """It would hold secrets, and what strangers' programs had in memory."""
    assert resource.prlimit(server.process.pid, resource.RLIMIT_CORE) == (0, 0)
