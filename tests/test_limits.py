"""What docs/limits.md says happens at a limit, for those that no other scenario meets: of the
server, of an app, and of a run, which only tightens."""

import select

import pytest

from conftest import Server
from support.form import form_of
from support.modules import wat_empty, wat_print

# WASI's numbers, which wasi-libc has as errno.
NFILE, NOSPC = 41, 51

GUEST = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
/* What ends each: the errno. */
int main(int argc, char **argv) {
    char path[64];
    static char block[4096];
    if (strcmp(argv[1], "open") == 0) {
        int count = 3; /* the standard streams; the directory is one more */
        while (open("/", O_RDONLY) >= 0) count++;
        printf("%d %d\n", count + 1, errno);
    } else if (strcmp(argv[1], "make") == 0) {
        int count = 0;
        for (int file; snprintf(path, sizeof path, "/f%d", count),
             (file = open(path, O_WRONLY | O_CREAT, 0666)) >= 0; count++) close(file);
        printf("%d %d\n", count, errno);
    } else {
        long total = 0;
        int file = open(argv[1], O_WRONLY | O_CREAT, 0666);
        for (ssize_t n; (n = write(file, block, sizeof block)) > 0;) total += n;
        printf("%ld %d\n", total, errno);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def server(build, guests, tmp_path_factory):
    server = Server(build, tmp_path_factory.mktemp("limits") / "state", "--threads", 1,
                    "--max-runs", 2, "--queue", 2, "--runs", 3, "--kept-runs", 3,
                    "--open-files", 20, "--tmp", "1MiB", "--disk", "2MiB", "--files", 50,
                    "--wall", "1h").start()
    server.client.create("uses", guests.c_text(GUEST))
    server.client.create("probe", guests.c("probe"))
    yield server
    assert server.process.poll() is None and server.stop() == 0, server.read_log()


def used(client, *arguments, **options):
    response = client.run("uses", *arguments, **options)
    assert response.status == 200, response
    return tuple(map(int, response.text.split()))


def test_descriptors(client):
    assert used(client, "open") == (20, NFILE)
    assert used(client, "open", open_files=10) == (10, NFILE)
    assert used(client, "open", open_files=100) == (20, NFILE)  # looser: nothing changes


def test_tmp(client):
    total, error = used(client, "/tmp/x")
    assert error == NOSPC and 900_000 < total <= 1 << 20


def test_a_run_tightens_its_own_files(client):
    """Of its /tmp and of its own layer; the tree of the next run has the app's limits again."""
    for _ in range(2):
        total, error = used(client, "/tmp/x", tmp="100KiB")
        assert error == NOSPC and total <= 100 << 10
        total, error = used(client, "/x", root="fresh", disk="100KiB")
        assert error == NOSPC and total <= 100 << 10
        assert used(client, "make", root="fresh", files=7) == (7, NOSPC)
        assert used(client, "make", root="fresh", files=1000) == (50, NOSPC)  # looser
        total, error = used(client, "/tmp/x")
        assert error == NOSPC and 900_000 < total <= 1 << 20
    form, headers = form_of(("name", "uses"), ("root", "fresh"), ("files", "2"), ("/a/b", ""),
                            ("/a/c", ""))
    response = client.post("/run", form, headers=headers)
    assert response.status == 413 and "more than its limit files of 2" in response.text
    for option, example in (("files=0", "files=1000"), ("tmp=x", "tmp=16MiB"),
                            ("queue_wait=0", "queue_wait=5s")):
        response = client.post(f"/run?name=uses&{option}")
        assert response.status == 400 and f"write it like {example}" in response.text


def test_files_of_a_volume(client, guests):
    total, error = used(client, "/big")
    assert error == NOSPC and 1_500_000 < total <= 2 << 20
    assert client.put("/apps/uses/files/more", bytes(1 << 20)).status == 507
    client.delete("/apps/uses/files/big")
    count, error = used(client, "make")
    assert error == NOSPC and 40 <= count <= 50
    assert client.put("/apps/uses/files/one_more", b"").status == 507
    for number in range(count):
        client.delete(f"/apps/uses/files/f{number}")


def test_the_root_is_no_file_of_the_volume(client):
    client.create("one", wat_empty(), files="1")
    assert client.put("/apps/one/files/f", b"x").status == 201
    assert client.put("/apps/one/files/g", b"x").status == 507
    client.post("/run?name=one&root=one-volume")
    assert "files: 0\n" in client.get("/vol/one-volume/status").text
    client.put("/vol/one-volume/files/f", b"x")
    assert "files: 1\nlimit_bytes:" in client.get("/vol/one-volume/status").text


@pytest.mark.parametrize("root", ["keep", "tight-volume"])
def test_a_run_tightens_what_it_may_put_into_a_volume(client, root):
    """However much more that may have: of others, or of the next run."""
    total, error = used(client, "/tight", root=root, disk="100KiB")
    assert error == NOSPC and 50_000 < total <= 100 << 10
    assert used(client, "/tight2", root=root, disk="100KiB") == (0, NOSPC)
    total, error = used(client, "/loose", root=root, disk="1TiB")
    assert error == NOSPC and total > 1_000_000
    # What is there may be more than it may add to: that can still be read and removed.
    assert used(client, "/more", root=root, disk="100KiB") == (0, NOSPC)
    files = "/apps/uses/files" if root == "keep" else f"/vol/{root}/files"
    for name in ("tight", "tight2", "loose", "more"):
        client.delete(f"{files}/{name}")
    count, error = used(client, "make", root=root, files=7)
    assert error == NOSPC and 1 <= count <= 7
    assert used(client, "make", root=root)[0] > 30
    for number in range(50):
        client.delete(f"{files}/f{number}")


def waiting(client, name, count):
    """So many runs of an app that wait for input."""
    ids = [client.post(f"/run?name={name}&arg=wait&detach&stdin=open").headers["run-id"]
           for _ in range(count)]
    return ids


def state(client, run):
    return client.get(f"/proc/{run}/status").text.split("\nstate: ")[1].split("\n")[0]


@pytest.fixture
def ends(client):
    """Ends the runs that a test adds to it."""
    runs = []
    yield runs
    for run in runs:
        client.delete(f"/proc/{run}")
    for run in runs:
        client.get(f"/proc/{run}/wait")


def test_queue_of_an_app(client, ends, eventually):
    """Two run, two wait, one more is refused; a place that becomes free is the first one's."""
    ends += waiting(client, "probe", 4)
    eventually(lambda: state(client, ends[1]) == "waiting")
    assert [state(client, run) for run in ends[2:]] == ["queued", "queued"]
    refused = client.run("probe", "exit", "0")
    assert refused.status == 429 and int(refused.headers["retry-after"]) > 0
    assert refused.text.startswith("error: ")
    client.delete(f"/proc/{ends[0]}")
    eventually(lambda: state(client, ends[2]) == "waiting")
    assert state(client, ends[3]) == "queued"


def test_places_go_round_by_app(client, ends, eventually):
    """The server has three places and the app two: another app has the third one, and waits in its
    own queue for more; of the places that become free each gets one."""
    client.create("other", client.get("/apps/probe/module").body)
    first = waiting(client, "probe", 4)
    second = waiting(client, "other", 3)
    ends += first + second
    eventually(lambda: state(client, second[0]) == "waiting")
    assert [state(client, run) for run in first[2:] + second[1:]] == ["queued"] * 4
    client.delete(f"/proc/{first[0]}")
    # Whose turn it is: the other app has waited for a place of the server, the first for one of its
    # own. Then the first.
    eventually(lambda: state(client, second[1]) == "waiting")
    assert state(client, first[2]) == "queued"
    client.delete(f"/proc/{second[0]}")
    eventually(lambda: state(client, first[2]) == "waiting")
    assert state(client, second[2]) == "queued"


def test_the_queue_takes_too_long(make_server, guests):
    client = make_server("--max-runs", 1, "--queue-wait", "100ms").client
    client.create("probe", guests.c("probe"))
    run = client.post("/run?name=probe&arg=wait&detach&stdin=open").headers["run-id"]
    late = client.run("probe", "exit", "0")
    assert late.status == 429 and int(late.headers["retry-after"]) > 0, late
    client.delete(f"/proc/{run}")
    # An app may wait longer or less, a run less.
    client = make_server("--max-runs", 1, "--queue-wait", "1h").client
    client.create("probe", guests.c("probe"))
    client.create("brief", guests.c("probe"), queue_wait="50ms")
    runs = [client.post(f"/run?name={name}&arg=wait&detach&stdin=open").headers["run-id"]
            for name in ("probe", "brief")]
    assert client.run("probe", "exit", "0", queue_wait="50ms").status == 429
    assert client.run("brief", "exit", "0").status == 429
    assert client.run("brief", "exit", "0", queue_wait="1h").status == 429
    for run in runs:
        client.delete(f"/proc/{run}")
    client = make_server("--max-runs", 1, "--queue-wait", "100ms").client
    client.create("probe", guests.c("probe"))
    run = client.post("/run?name=probe&arg=wait&detach&stdin=open").headers["run-id"]
    assert client.run("probe", "exit", "0", queue_wait="1h").status == 429
    client.delete(f"/proc/{run}")


def test_kept_runs(client):
    client.create("hello", wat_print("hello"))
    runs = [client.run("hello").headers["run-id"] for _ in range(5)]
    found = [client.get(f"/proc/{run}/status").status for run in runs]
    assert found == [404, 404, 200, 200, 200]


def test_an_app_may_have_more_than_the_server_gives(client, guests):
    client.create("loose", guests.c_text(GUEST), open_files=30)
    assert client.run("loose", "open").text == f"30 {NFILE}\n"
    assert client.run("loose", "open", open_files=40).text == f"30 {NFILE}\n"


# ---- connections ----


def answered(connections):
    """Those that have had an answer, which is read."""
    ready = select.select(connections, [], [], 0)[0]
    for connection in ready:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    return ready


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_connections_are_as_many_as_allowed(make_server, eventually, limit):
    """The loops share the limit: no place is lost, and there is none too many."""
    client = make_server("--threads", 2, "--connections", limit, "--head-timeout", "1h").client
    request = client.head("GET", "/healthz", headers={"Connection": None})
    waiting = [client.connect() for _ in range(40)]
    for connection in waiting:
        connection.sendall(request)
    served = []

    def all_places_are_taken():
        served.extend(answered(waiting))
        waiting[:] = [connection for connection in waiting if connection not in served]
        return len(served) == limit

    eventually(all_places_are_taken)
    for _ in range(20):
        served[0].sendall(client.head("GET", "/metrics", headers={"Connection": None}))
        text = b""
        while b"zasm_uptime_seconds " not in text:
            text += served[0].recv(65536)
        assert f"\nzasm_http_connections {limit}\n".encode() in text
    assert answered(waiting) == []
    # A place that is free again is taken by one that waits.
    for connection in served:
        connection.close()
    served.clear()
    eventually(all_places_are_taken)
    for connection in served + waiting:
        connection.close()
