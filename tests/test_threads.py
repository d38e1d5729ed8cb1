"""Several clients on several loops at once, on the same apps, runs, logs and volumes.

Each request comes by a connection of its own, which the system gives to any of the server's loops:
so what one loop does meets what another is doing to the same thing. Nothing here depends on who is
first; what is checked is what holds whoever it is. The thread sanitizer sees more: `make tsan`.
"""

import concurrent.futures
import io
import os
import random
import re
import tarfile
import threading

import pytest

from conftest import Server
from support.modules import wat_print

LOOPS = 3
CLIENTS = 6


@pytest.fixture(scope="module")
def server(build, guests, tmp_path_factory):
    """Afterwards nothing runs, no descriptor is left over, and it stops cleanly."""
    server = Server(build, tmp_path_factory.mktemp("threads") / "state", "--threads", LOOPS,
                    "--kept-runs", 100).start()
    server.client.create("probe", guests.c("probe"))
    server.client.create("ledger", guests.c_text(LEDGER))
    yield server
    alive = server.process.poll() is None
    status = server.stop() if alive else server.process.returncode
    log = server.read_log()
    assert alive and status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture(autouse=True)
def nothing_left(server, eventually):
    """After each test the server is as it was before."""
    before = descriptors(server)
    yield
    assert server.process.poll() is None, server.read_log()
    eventually(lambda: metric(server, "runs_running") == 0 == metric(server, "runs_queued"))
    eventually(lambda: metric(server, "http_connections") == 1)  # that asks
    eventually(lambda: descriptors(server) <= before)


def descriptors(server):
    """Without files of the state: programs, volumes, and output of ended runs are kept open."""
    directory = f"/proc/{server.process.pid}/fd"
    found = 0
    for number in os.listdir(directory):
        try:
            found += not os.readlink(f"{directory}/{number}").startswith(f"{server.state}/")
        except FileNotFoundError:
            pass
    return found


# Adds its argument as a line to /ledger, reads all of it, and keeps a file of its own.
LEDGER = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char line[64], path[64], back[64] = "";
    int length = snprintf(line, sizeof line, "%s\n", argv[1]);
    int file = open("/ledger", O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (file < 0 || write(file, line, length) != length || close(file) != 0) return 1;
    snprintf(path, sizeof path, "/own-%s", argv[1]);
    FILE *own = fopen(path, "w+x");
    if (!own || fputs(line, own) < 0 || fflush(own) != 0) return 2;
    rewind(own);
    if (!fgets(back, sizeof back, own) || strcmp(back, line) != 0 || fclose(own) != 0) return 3;
    char other[64];
    snprintf(other, sizeof other, "/done-%s", argv[1]);
    return rename(path, other) == 0 ? 0 : 4;
}
"""


def metric(server, name):
    text = server.client.get("/metrics").text
    return int(re.search(rf"^zasm_{name} (\d+)$", text, re.MULTILINE).group(1))


def together(*works):
    """Each in a thread of its own; the first failure is the test's."""
    with concurrent.futures.ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        for future in futures:
            future.result()


def expect(response, *statuses):
    assert response.status in statuses, response
    return response


# --- apps ---------------------------------------------------------------------------------------


def test_apps_that_come_go_and_change(server):
    """Created, run, changed, moved and removed by everybody at once."""
    client = server.client
    names = ["alpha", "beta", "gamma"]
    made = set()  # what is printed by the programs that were uploaded
    outcomes = set()

    def work(seed):
        choose = random.Random(seed)

        def create(name):
            text = f"{seed}-{choose.randrange(4)}"
            made.add(text)
            expect(client.post("/create", wat_print(text),
                               query={"name": name, "env": f"MADE={text}"}), 200, 201, 409)

        def run(name):
            response = expect(client.run(name), 200, 404)
            if response.status == 200:
                assert response.trailers["run-reason"] == "exit", response
                assert response.text in made, response

        def move(name):
            target = choose.choice(names)
            expect(client.request("MOVE", f"/apps/{name}",
                                  headers={"Destination": f"/apps/{target}"}),
                   200, 201, 204, 400, 403, 404, 409, 412)

        def remove(name):
            expect(client.delete(f"/apps/{name}"), 204, 404, 409)

        def set_variable(name):
            expect(client.put(f"/apps/{name}/env/COLOUR", b"red"), 201, 204, 404, 409)

        def clear_variable(name):
            expect(client.delete(f"/apps/{name}/env/COLOUR"), 204, 404, 409)

        def set_arguments(name):
            expect(client.put(f"/apps/{name}/args", b"one\ntwo\n"), 204, 404, 409)

        def put_file(name):
            expect(client.put(f"/apps/{name}/files/a/b", b"x" * 5000), 201, 204, 404, 409)

        def look(name):
            response = expect(client.get(f"/apps/{name}", headers={"Accept": "application/json"}),
                              200, 404)
            if response.status == 200:
                response.json()
            for below in ("config", "info", "module", "versions/", "files/", "log", "files/a/b"):
                expect(client.get(f"/apps/{name}/{below}"), 200, 404)
            expect(client.get("/apps"), 200)

        steps = [create, create, run, run, run, move, remove, set_variable, clear_variable,
                 set_arguments, put_file, look]
        for _ in range(25):
            step = choose.choice(steps)
            step(choose.choice(names))
            outcomes.add(step.__name__)

    together(*(lambda seed=seed: work(seed) for seed in range(CLIENTS)))
    assert len(outcomes) == 9
    listed = [name.strip("/") for name in client.get("/apps").text.split()]
    for name in names:
        if name in listed:
            # Whatever became of it, it is one that was made, whole.
            response = client.run(name)
            assert response.text in made and response.trailers["run-reason"] == "exit"
            info = client.get(f"/apps/{name}/config").json()
            assert isinstance(info, dict)
            expect(client.delete(f"/apps/{name}"), 204)
        expect(client.get(f"/apps/{name}"), 404)
        expect(client.run(name), 404)


def test_one_name_for_one(server):
    """Of many who make a new app of the same name at once, one does."""
    client = server.client
    for _ in range(3):
        statuses = []

        def work(number):
            response = client.post("/create?name=single&new", wat_print(f"by {number}"))
            statuses.append((response.status, number))

        together(*(lambda number=number: work(number) for number in range(CLIENTS)))
        winners = [number for status, number in statuses if status == 201]
        assert len(winners) == 1 and len(statuses) == CLIENTS, statuses
        assert all(status in (201, 409) for status, _ in statuses), statuses
        assert client.run("single").text == f"by {winners[0]}"
        expect(client.delete("/apps/single"), 204)


def test_versions_are_counted(server):
    """Updates at the same time become versions one after the other; none is lost."""
    client = server.client
    client.create("counted", wat_print("0"))
    numbers = []

    def work(seed):
        for step in range(4):
            response = client.create("counted", wat_print(f"{seed}.{step}"),
                                     env=f"V{seed}={step}")
            numbers.append(response)

    together(*(lambda seed=seed: work(seed) for seed in range(CLIENTS)))
    versions = client.get("/apps/counted/versions/").text.split()
    assert len(versions) == 1 + 4 * CLIENTS, versions
    outputs = [client.run("counted", version=version.strip("/")).text for version in versions]
    assert sorted(outputs) == sorted(
        ["0"] + [f"{seed}.{step}" for seed in range(CLIENTS) for step in range(4)])
    expect(client.delete("/apps/counted"), 204)


# --- runs ---------------------------------------------------------------------------------------


def test_a_run_from_all_loops(server):
    """Input, output, status, pause and resume of one run by many connections."""
    client = server.client
    lines = [[f"{writer}:{number:04}" for number in range(30)] for writer in range(3)]
    identifier = expect(client.post("/run?name=probe&arg=echo&detach&stdin=open"), 202).text.strip()
    outputs = []
    ended = threading.Event()
    written = threading.Barrier(len(lines))

    def write(own):
        for line in own:
            expect(client.put(f"/proc/{identifier}/stdin", f"{line}\n".encode()), 200, 201, 204)
        if written.wait() == 0:
            expect(client.put(f"/proc/{identifier}/ctl", b"resume\n"), 200, 201, 204)
            expect(client.delete(f"/proc/{identifier}/stdin"), 204)

    def read(path):
        response = expect(client.get(f"/proc/{identifier}/{path}"), 200)
        outputs.append(response.text)

    def control():
        while not ended.is_set():
            for word in (b"pause\n", b"resume\n"):
                expect(client.put(f"/proc/{identifier}/ctl", word), 200, 201, 204, 409)
            text = expect(client.get(f"/proc/{identifier}/status"), 200).text
            assert "state:" in text
            expect(client.get(f"/proc/{identifier}/usage"), 200)
            assert identifier in client.get("/proc").text

    def wait():
        expect(client.get(f"/proc/{identifier}/wait"), 200)
        ended.set()

    together(control, control, wait,
             *(lambda path=path: read(path)
               for path in ("stdout", "stdout", "log?follow", "log?follow&from=0")),
             *(lambda own=own: write(own) for own in lines))
    for output in outputs:
        assert output == outputs[0]
    # Each writer's lines are all there, in its order.
    said = outputs[0].splitlines()
    for own in lines:
        assert [line for line in said if line.startswith(own[0].split(":")[0] + ":")] == own
    assert len(said) == sum(map(len, lines))
    assert "exit" in client.get(f"/proc/{identifier}/status").text


def test_runs_killed_at_any_moment(server):
    """Started by one, and ended by others at the same time, while somebody reads."""
    client = server.client
    verbs = [("spin",), ("sleep", "600000"), ("wait",), ("flood", "100000000"), ("lines", "50")]
    reasons = set()

    def one(seed):
        verb = verbs[seed % len(verbs)]
        identifier = client.run("probe", *verb, detach="", stdin="open").text.strip()

        def kill():
            if seed % 2:
                expect(client.delete(f"/proc/{identifier}"), 204, 404, 409)
            else:
                expect(client.put(f"/proc/{identifier}/ctl", b"kill\n"), 200, 201, 204, 409)

        def pause():
            expect(client.put(f"/proc/{identifier}/ctl", b"pause\n"), 200, 201, 204, 409)

        def read():
            for path in ("status", "usage", "args", "env", "root/", "stderr"):
                expect(client.get(f"/proc/{identifier}/{path}"), 200, 404, 409)

        def write():
            expect(client.put(f"/proc/{identifier}/stdin", b"x" * 100000),
                   200, 201, 204, 400, 409, 410, 422)

        together(kill, kill, pause, read, write)
        expect(client.get(f"/proc/{identifier}/wait"), 200)
        text = client.get(f"/proc/{identifier}/status").text
        assert "killed" in text or "exit" in text, text
        reasons.add("killed" if "killed" in text else "exit")

    together(*(lambda start=start: [one(seed) for seed in range(start, start + 5)]
               for start in range(0, 20, 5)))
    assert "killed" in reasons


def test_clients_that_leave(server, eventually):
    """Attached runs whose clients go away in the middle, while they are looked at."""
    client = server.client

    def work(seed):
        verbs = (("spin",), ("flood", "200000000"), ("sleep", "600000"))
        for verb in verbs:
            path = "/run?name=probe" + "".join(f"&arg={word}" for word in verb)
            connection, stream = client.open("POST", path)
            if seed % 2:
                stream.readline()
            stream.close()
            connection.close()
            client.get("/proc")

    together(*(lambda seed=seed: work(seed) for seed in range(CLIENTS)))
    eventually(lambda: metric(server, "runs_running") == 0)


# --- logs ---------------------------------------------------------------------------------------


def test_a_log_followed_while_it_is_written(server, guests):
    """Every follower gets every line of every run once, and in the run's order."""
    client = server.client
    client.create("writer", guests.c("probe"))
    runs, count = 8, 40
    begun = threading.Barrier(5)

    def follow():
        connection, stream = client.open("GET", "/apps/writer/log?follow")
        begun.wait()
        seen = {}
        ends = 0  # last lines
        while ends < runs:
            line = stream.readline()
            assert line, "the log ended"
            match = re.match(rb"\S+ (\d+) (\S+) (.*)\n", line)
            if not match:
                continue  # the frame of a chunk
            identifier, stream_name, text = match.groups()
            seen.setdefault((identifier, stream_name), []).append(text)
            ends += text == f"err {count - 1}".encode()
        stream.close()
        connection.close()
        for kind in ("out", "err"):
            of_kind = {key: value for key, value in seen.items()
                       if value[0].startswith(kind.encode())}
            assert len(of_kind) == runs, of_kind.keys()
            for value in of_kind.values():
                assert value == [f"{kind} {i}".encode() for i in range(count)]

    def write(times):
        begun.wait()
        for _ in range(times):
            response = client.run("writer", "lines", str(count))
            assert response.trailers["run-exit"] == "0"

    together(follow, follow, follow, lambda: write(runs // 2), lambda: write(runs // 2))
    expect(client.delete("/apps/writer"), 204)


# --- volumes ------------------------------------------------------------------------------------


def test_a_volume_used_by_all(server):
    """Runs on every loop add to one file, while clients put, read and move others."""
    client = server.client
    files = "/apps/ledger/files"
    ended = threading.Event()
    per_writer, writers = 12, 4

    def write(writer):
        for number in range(per_writer):
            response = client.run("ledger", f"{writer}-{number}")
            assert response.status == 200 and response.trailers["run-exit"] == "0", response

    def put(name):
        number = 0
        while not ended.is_set():
            number += 1
            content = (b"%06d" % number) * 7000
            expect(client.put(f"{files}/shared/{name}", content), 201, 204)

    def read(name):
        while not ended.is_set():
            response = expect(client.get(f"{files}/shared/{name}"), 200, 404)
            if response.status == 200:
                # One content or another, never a mixture.
                assert response.body == response.body[:6] * 7000, response
            expect(client.get(f"{files}/"), 200)

    def move():
        while not ended.is_set():
            expect(client.put(f"{files}/there/a", b"moved"), 201, 204)
            expect(client.request("MOVE", f"{files}/there",
                                  headers={"Destination": f"{files}/elsewhere"}), 201, 204)
            expect(client.delete(f"{files}/elsewhere"), 204)

    def pack():
        while not ended.is_set():
            response = expect(client.get(f"{files}/shared/", headers={"Accept": "application/x-tar"}),
                              200, 404)
            if response.status == 200:
                with tarfile.open(fileobj=io.BytesIO(response.body)) as archive:
                    for member in archive:
                        archive.extractfile(member) if member.isfile() else None

    def all_writers():
        try:
            together(*(lambda writer=writer: write(writer) for writer in range(writers)))
        finally:
            ended.set()

    together(all_writers, lambda: put("one"), lambda: put("two"), lambda: read("one"),
             lambda: read("two"), move, pack)
    ledger = client.get(f"{files}/ledger").text.splitlines()
    expected = [f"{writer}-{number}" for writer in range(writers) for number in range(per_writer)]
    assert sorted(ledger) == sorted(expected)
    for name in expected:
        assert client.get(f"{files}/done-{name}").text == f"{name}\n"
    assert not [line for line in client.get(f"{files}/").text.split() if line.startswith("own-")]
    expect(client.delete(f"{files}/shared"), 204)


def test_uploads_at_once(server):
    """Archives unpacked into one volume from several connections; each is there whole."""
    client = server.client

    def archive(seed):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for number in range(20):
                content = f"{seed} {number}\n".encode() * 200
                member = tarfile.TarInfo(f"from-{seed}/{number}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return stream.getvalue()

    together(*(lambda seed=seed: expect(
        client.put("/apps/probe/files/many/?unpack", archive(seed)), 200)
        for seed in range(CLIENTS)))
    for seed in range(CLIENTS):
        for number in range(20):
            assert client.get(f"/apps/probe/files/many/from-{seed}/{number}").body == (
                f"{seed} {number}\n".encode() * 200)
    expect(client.delete("/apps/probe/files/many"), 204)


# A program that takes its requests by turns from /net/serve and from connections, and answers with
# what it has read.
EITHER = r"""
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    static char request[200000];
    for (int turn = 0;; turn++) {
        const char *head = turn % 2 ? "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" : "Status: 200\n\n";
        int file = turn % 2 ? accept(4, NULL, NULL) : open("/net/serve", O_RDWR);
        size_t length = 0;
        ssize_t got;
        char *body = NULL;
        while ((!body || !memchr(body, '.', length - (size_t)(body - request))) &&
               (got = read(file, request + length, sizeof request - 1 - length)) > 0) {
            length += (size_t)got;
            request[length] = 0;
            body = strstr(request, "\r\n\r\n");
            body = body ? body + 4 : NULL;
        }
        write(file, head, strlen(head));
        for (char *at = body; at && at < request + length;) {
            got = write(file, at, (size_t)(request + length - at));
            if (got <= 0) break;
            at += got;
        }
        close(file);
    }
}
"""


def test_programs_that_are_kept(server, guests, eventually):
    """Requests and visitors that leave, from all loops, while the app changes."""
    client = server.client
    client.create("kept", guests.c_text(EITHER), serve="listen", instances="1..3")
    body = b"x" * 150000 + b"."

    def ask(seed):
        choose = random.Random(seed)
        for number in range(40):
            if choose.random() < 0.3:
                with client.connect() as connection:
                    connection.sendall(client.head("POST", "/web/kept/", headers={
                        "Content-Length": str(len(body))}) + body[:choose.randrange(len(body))])
            else:
                sent = body[choose.randrange(len(body)):]
                response = client.request("POST", f"/web/kept/{seed}-{number}", sent)
                assert response.status == 200 and response.body == sent, response

    def change():
        for number in range(5):
            expect(client.put("/apps/kept/env/N", str(number).encode()), 200, 201, 204)

    together(change, *(lambda seed=seed: ask(seed) for seed in range(CLIENTS)))
    expect(client.delete("/apps/kept"), 204)
    eventually(lambda: metric(server, "runs_running") == 0)


def test_threads_say_what_they_are(server):
    """In `top -H` and profiles: each loop but the first, which is the process's own thread."""
    tasks = f"/proc/{server.process.pid}/task"
    names = []
    for task in os.listdir(tasks):
        with open(f"{tasks}/{task}/comm", encoding="ascii") as file:
            names.append(file.read().strip())
    assert {"0asm", "ticker", "catalog", "log"} <= set(names)
    assert sorted(name for name in names if name.startswith(("loop-", "compute-"))) == \
        [f"compute-{i}" for i in range(LOOPS, 2 * LOOPS)] + [f"loop-{i}" for i in range(1, LOOPS)]
