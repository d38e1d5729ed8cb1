"""serve=listen: programs that are kept, and take connections from descriptor 4."""

import re
import socket
import struct
import threading

import pytest

from support.client import chunks_of, parse_head, read_response
from support.pages import echo_by_curl, of_app, send_and_never_read, send_what_fits

web, instances = of_app("go")

SECRET = "a secret of the inside"


@pytest.fixture(scope="module")
def go_module(guests):
    return guests.go("listen")


@pytest.fixture(scope="module")
def c_module(guests):
    return guests.c("listen")


@pytest.fixture(scope="module")
def app(server, go_module):
    """The app `go`, public: a server by Go's net/http, unchanged."""
    server.client.create("go", go_module, web="public", serve="listen")
    return server.client


@pytest.fixture
def clean(app):
    for name in ("go", "gone"):
        app.delete(f"/apps/go/files/{name}")
    yield
    app.put("/apps/go/files/go", b"")


def ok(client, path="/version", name="go", eventually=None):
    """The answer, once there is one."""
    return eventually(lambda: (r := web(client, path, name=name)).status == 200 and r)


# --- the same program goes on --------------------------------------------------------------------


def test_it_is_kept(app, eventually):
    first = int(web(app, "/count").text)
    assert [int(web(app, "/count").text) for _ in range(5)] == list(range(first + 1, first + 6))
    running, facts = instances(app)
    assert len(running) == 1 and facts["failures"] == "0"
    path = f"/proc/{list(running)[0]}/status"
    assert "app: go\n" in app.get(path).text
    assert "limit_cpu_us: none\nlimit_wall_us: none\n" in app.get(path).text
    eventually(lambda: "state: waiting" in app.get(path).text)


def test_connections_are_kept(app):
    """Go's server says over which connection a request came: one, as long as one is enough."""
    text = web(app, "/connections").text
    before, _ = text.split()
    for _ in range(20):
        web(app, "/echo", b"12345")
        with app.connect() as connection:
            connection.sendall(app.head("POST", "/web/go/echo", headers={
                "Transfer-Encoding": "chunked", "Content-Length": None}) + b"2\r\nab\r\n0\r\n\r\n")
            assert read_response(connection.makefile("rb")).text == "ab"
    after, requests = web(app, "/connections").text.split()
    # Whoever reads on after its answer a little too late gets another connection.
    assert int(after) - int(before) < 40 and int(requests) >= 40


def test_what_it_is_told(app, server):
    lines = web(app, "/some%20page/%C3%A9?x=100%&y", b"12345", headers={
        "X-One": "1", "X-Empty": "", "Proxy": "evil", "Connection": "close, x-hop", "TE": "x",
        "X-Forwarded-For": "192.0.2.1"}).text.splitlines()
    assert lines[0] == (f"POST /some%20page/%C3%A9?x=100%&y host={server.host}:{server.port} "
                        "length=5 chunked=false remote=true")
    for line in ("X-One: 1", "X-Empty: ", "X-Forwarded-Prefix: /web/go",
                 "X-Forwarded-For: 127.0.0.1"):
        assert line in lines
    names = [line.split(":")[0] for line in lines[1:]]
    assert not {"Proxy", "Te", "Connection", "User-Agent", "Expect", "Accept"} & set(names), names


def test_at_its_host_name(app, server):
    host = f"go.localhost:{server.port}"
    response = app.get("/a/b?c", headers={"Host": host})
    assert response.text.startswith(f"GET /a/b?c host={host} ")
    assert "X-Forwarded-Prefix" not in response.text
    assert "content-security-policy" not in response.headers
    assert "sandbox" in web(app, "/x").headers["content-security-policy"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_any_method(app, method):
    assert web(app, "/x", method=method).text.startswith(f"{method} /x ")


@pytest.mark.parametrize("length", [0, 1, 65536, 5 << 20])
def test_bodies(app, length):
    response = web(app, "/echo", b"x" * length)
    assert response.body == b"x" * length and response.headers["x-length"] == str(length)


def test_chunked_body(app, server):
    with app.connect() as connection:
        connection.sendall(f"POST /web/go/echo HTTP/1.1\r\nHost: {server.host}\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n"
                           "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n".encode())
        assert read_response(connection.makefile("rb")).text == "hello world"


def test_large_answer(app):
    size = 100 << 20
    connection, stream = app.open("GET", f"/web/go/flood?{size}")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        assert sum(len(piece) for piece in chunks_of(stream)) == size


def test_echo_of_more_than_can_wait(app, server, tmp_path):
    """The answer goes out while the body comes in."""
    before = server.resident_bytes()
    url = f"{server.url}/web/go/mirror"
    echo_by_curl(url, tmp_path)
    echo_by_curl(f"{url}?duplex", tmp_path)
    echo_by_curl(f"{url}?duplex", tmp_path, "-H", "Transfer-Encoding: chunked")
    assert server.is_sanitized() or server.resident_bytes() - before < 64 << 20


def test_dialogue_of_more_than_can_wait(app):
    """The visitor sends the rest when it has read so much of the answer that some had gone out."""
    piece, pieces = bytes(1 << 16), 60
    with app.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(app.head("POST", "/web/go/mirror?duplex", headers={
            "Content-Length": str(len(piece) * pieces)}))
        for _ in range(pieces // 2):
            connection.sendall(piece)
        assert parse_head(stream)[0] == 200
        chunks = chunks_of(stream)
        length = len(next(chunks))
        for _ in range(pieces // 2):
            connection.sendall(piece)
        assert length + sum(len(chunk) for chunk in chunks) == len(piece) * pieces


def test_visitor_vanishes_in_a_mirror(make_server, go_module, eventually):
    """Its body still comes, and the answer is under way. The program sees it; nothing is left."""
    server = make_server()
    client = server.client
    client.create("go", go_module, serve="listen")
    web(client, "/echo", b"x")
    client.put("/apps/go/files/x", b"")  # its volume is open then
    before = server.descriptors()
    for way in ["close", "reset", "half"] * 2:
        connection = client.connect()
        connection.sendall(client.head("POST", "/web/go/mirror?duplex", headers={
            "Content-Length": str(1 << 30)}) + bytes(2 << 20))
        assert connection.recv(1) == b"H"
        if way == "half":
            connection.shutdown(socket.SHUT_WR)
            try:  # until the server has ended it
                while connection.recv(1 << 16):
                    pass
            except ConnectionError:
                pass
        elif way == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        eventually(lambda: client.get("/apps/go/files/gone").status == 200)
        client.delete("/apps/go/files/gone")
    eventually(lambda: server.descriptors() <= before)
    assert web(client, "/version").text == "1\n"
    assert instances(client)[1]["failures"] == "0"


def test_visitor_that_sends_and_never_reads(make_server, go_module, eventually):
    """It is cut off after a while, memory is bounded, and the program sees it."""
    server = make_server("--body-timeout", "300ms")
    client = server.client
    client.create("go", go_module, serve="listen")
    assert web(client, "/version").status == 200
    grown = send_and_never_read(server, "/web/go/mirror?duplex")
    assert server.is_sanitized() or grown < 64 << 20
    eventually(lambda: client.get("/apps/go/files/gone").status == 200)
    assert web(client, "/version").text == "1\n"
    assert instances(client)[1]["failures"] == "0"


def test_events_for_a_request_that_is_not_read(make_server, go_module, eventually):
    """They come all the same, and who leaves is noticed, though its end is behind its body."""
    server = make_server()
    client = server.client
    client.create("go", go_module, serve="listen")
    assert web(client, "/version").status == 200
    client.put("/apps/go/files/x", b"")  # its volume is open then
    before = server.descriptors()
    for _ in range(2):
        connection = send_what_fits(client, "/web/go/ticks")
        answer = b""
        while answer.count(b"tick") < 2:
            answer += connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 ")
        connection.close()
        eventually(lambda: client.get("/apps/go/files/gone").status == 200)
        client.delete("/apps/go/files/gone")
        eventually(lambda: server.descriptors() <= before)
    assert instances(client)[1]["failures"] == "0"


def test_no_answer_in_time_to_a_request_that_is_not_read(make_server, go_module):
    server = make_server("--wall", "1s")
    client = server.client
    client.create("go", go_module, serve="listen")
    assert web(client, "/version").status == 200
    with send_what_fits(client, "/web/go/never") as connection:
        assert connection.recv(12) == b"HTTP/1.1 504"
    assert web(client, "/version").text == "1\n"


def test_status_and_head(app):
    for status in (201, 204, 304, 404, 500):
        response = web(app, f"/status?{status}")
        assert response.status == status and response.headers["x-one"] == "1" and not response.body
    response = web(app, "/echo", method="HEAD")
    assert response.status == 200 and response.headers["x-length"] == "0"
    connection, stream = app.open("HEAD", "/web/go/flood?100")
    with connection, stream:
        assert parse_head(stream)[0] == 200 and stream.read() == b""


def test_answer_without_the_body(app):
    assert web(app, "/early", b"x" * (8 << 20)).status == 413


def test_head_that_is_too_large(app):
    assert web(app, "/head").status == 502
    assert web(app, "/x").status == 200


def test_events(app, clean):
    connection, stream = app.open("GET", "/web/go/events")
    with connection, stream:
        status, headers = parse_head(stream)
        assert status == 200 and headers["content-type"] == "text/event-stream"
        pieces = chunks_of(stream)
        assert next(pieces) == b"data: first\n\n"
        assert web(app, "/version").text == "1\n"  # others go on
        app.put("/apps/go/files/go", b"")
        assert b"".join(pieces) == b"data: second 1\n\n"


def test_client_leaves(app, clean, eventually):
    """The program learns it; nothing is left."""
    connection, stream = app.open("GET", "/web/go/events")
    with connection, stream:
        assert next(chunks_of(stream) if parse_head(stream) else None) == b"data: first\n\n"
    eventually(lambda: app.get("/apps/go/files/gone").status == 200)
    eventually(lambda: ", 0 requests" in str(instances(app)[0]))


def test_client_leaves_a_flood(app, clean, eventually):
    connection, stream = app.open("GET", f"/web/go/flood?{1 << 30}")
    with connection, stream:
        parse_head(stream)
    eventually(lambda: app.get("/apps/go/files/gone").status == 200)
    eventually(lambda: ", 0 requests" in str(instances(app)[0]))


def test_client_leaves_in_its_request(app, eventually):
    connection = app.connect()
    connection.sendall(app.head("POST", "/web/go/echo", headers={"Content-Length": "1000"}) + b"x")
    eventually(lambda: ", 1 requests" in str(instances(app)[0]))
    connection.close()
    eventually(lambda: ", 0 requests" in str(instances(app)[0]))


def test_half_an_answer_is_cut(app):
    """Or it is none, if nothing of it has gone out."""
    connection, stream = app.open("GET", "/web/go/half")
    with connection, stream:
        status = parse_head(stream)[0]
        assert status in (200, 502)
        if status == 200:
            with pytest.raises(ConnectionError):
                list(chunks_of(stream))


def test_many_at_once(app):
    results = []

    def ask(number):
        results.append(web(app, "/echo", b"%d" % number * 1000).body == b"%d" % number * 1000)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 50


def test_nothing_is_left(server, app, eventually):
    web(app, "/x")
    before = server.descriptors()
    for _ in range(20):
        web(app, "/echo", b"x" * 100000)
        test_half_an_answer_is_cut(app)
        connection, stream = app.open("GET", "/web/go/flood?100000000")
        with connection, stream:
            parse_head(stream)
    eventually(lambda: ", 0 requests" in str(instances(app)[0]))
    eventually(lambda: server.descriptors() <= before)


# --- when it ends --------------------------------------------------------------------------------


def test_it_is_started_again(make_server, c_module, eventually):
    server = make_server()
    client = server.client
    client.create("c", c_module, serve="listen")
    web(client, "/count", name="c")
    response = web(client, "/die", name="c")
    assert response.status == 502 and SECRET not in response.text, response
    number = re.search(r"\(run (\d+)\)", response.text)[1]
    eventually(lambda: instances(client, "c")[1]["failures"] == "1")
    assert f"run {number}: exit 7" in instances(client, "c")[1]["last failure"]
    assert SECRET in client.get(f"/apps/c/log?run={number}").text
    assert ok(client, "/count", "c", eventually).text == "1\n"
    running, facts = instances(client, "c")
    assert len(running) == 1 and number not in running and facts["starts"] == "2"
    assert server.stop() == 0


def test_one_that_does_not_start(make_server, c_module, eventually):
    """Strangers learn nothing, and it is not started for every request."""
    server = make_server()
    client = server.client
    client.create("c", c_module, serve="listen", arg="fail")
    statuses = [web(client, "/x", name="c") for _ in range(50)]
    assert {response.status for response in statuses} <= {502, 503}
    assert all(SECRET not in response.text for response in statuses)
    waits = [response for response in statuses if response.status == 503]
    assert waits and all(int(response.headers["retry-after"]) >= 1 for response in waits)
    facts = instances(client, "c")[1]
    assert 1 <= int(facts["starts"]) < 40 and "exit 3" in facts["last failure"]


HINT = ("the program has not accepted a connection on fd 4; with serve=listen it has to accept "
        "there, or read /net/serve, and go on running")


def test_one_that_ends_without_accepting(make_server, guests):
    """A main that does its work and is through: everybody learns what is missing."""
    client = make_server().client
    client.create("c", guests.c_text("int main(void) { return 0; }"), serve="listen")
    response = web(client, "/x", name="c")
    assert response.status == 503 and int(response.headers["retry-after"]) >= 1
    assert "has not accepted a connection on fd 4" in response.text
    assert HINT in client.get("/apps/c/log").text
    running, facts = instances(client, "c")
    assert not running and f"exit 0: {HINT}" in facts["last failure"]


def test_one_that_never_accepts(make_server, guests, eventually):
    """It computes for ever: ended after `wall`, and its owner sees why."""
    client = make_server().client
    client.create("c", guests.c_text("int main(void) { for (;;) {} }"), serve="listen", wall="1s")
    connection, stream = client.open("GET", "/web/c/x")
    with connection, stream:
        eventually(lambda: any(", 1 requests, 1 wait, has not accepted yet" in line
                               for line in instances(client, "c")[0].values()))
        response = read_response(stream)
        assert response.status == 504
        assert "has not accepted a connection on fd 4" in response.text
    assert HINT in client.get("/apps/c/log").text
    failure = eventually(lambda: instances(client, "c")[1].get("last failure"))
    assert f"hung 137: {HINT}" in failure, failure


def test_no_answer_in_time(make_server, go_module):
    """It goes on as long as it would take others, whatever has become of one request."""
    client = make_server("--wall", "1s").client
    client.create("go", go_module, serve="listen")
    first = int(web(client, "/count").text)
    for _ in range(3):
        response = web(client, "/never")
        assert response.status == 504 and "in time" in response.text
    assert int(web(client, "/count").text) == first + 1
    assert instances(client)[1]["failures"] == "0"


@pytest.mark.parametrize("guest", ["c", "go"])
def test_it_hangs(make_server, c_module, go_module, eventually, guest):
    """By waiting for what does not come, or by computing."""
    client = make_server("--wall", "1s").client
    client.create("c", c_module if guest == "c" else go_module, serve="listen")
    path = "/wait" if guest == "c" else "/hang"
    assert web(client, path, name="c").status == 504
    eventually(lambda: instances(client, "c")[1]["failures"] == "1")
    failure = instances(client, "c")[1]["last failure"]
    assert failure.endswith(": hung 137: it has not answered for 1 s"), failure
    assert ok(client, "/count", "c", eventually).text == "1\n"


def test_update_drains_the_old_one(make_server, c_module, eventually):
    server = make_server()
    client = server.client
    client.create("c", c_module, serve="listen", arg="one")
    connection, stream = client.open("GET", "/web/c/events")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        pieces = chunks_of(stream)
        next(pieces)
        old = list(instances(client, "c")[0])[0]
        client.create("c", c_module, serve="listen", arg="two")
        assert web(client, "/version", name="c").text == "two\n"
        running = instances(client, "c")[0]
        assert len(running) == 2 and "ends" in running[old] and "version 1" in running[old]
        client.put("/apps/c/files/go", b"")
        assert b"".join(pieces) == b"data: second one\n\n"
    eventually(lambda: old not in instances(client, "c")[0])
    assert len(instances(client, "c")[0]) == 1 and instances(client, "c")[1]["failures"] == "0"


def test_removed_app_ends(make_server, c_module, eventually):
    server = make_server()
    client = server.client
    client.create("c", c_module, serve="listen")
    web(client, "/count", name="c")
    assert client.delete("/apps/c").status in (200, 204)
    assert web(client, "/count", name="c").status == 404
    eventually(lambda: re.search(r"^zasm_runs_running\S* 0$", client.get("/metrics").text, re.M))


def test_server_stops_without_waiting_for_it(make_server, c_module):
    server = make_server("--grace", "1h")
    server.client.create("c", c_module, serve="listen")
    web(server.client, "/count", name="c")
    assert server.stop() == 0


# --- how many ------------------------------------------------------------------------------------


def test_more_instances_while_connections_wait(make_server, c_module, eventually):
    server = make_server()
    client = server.client
    client.create("c", c_module, serve="listen", instances="1..3")
    assert '"1..3"' in client.get("/apps/c/config").text
    web(client, "/count", name="c")
    connections = []
    try:
        # Each is busy with one, and the others wait.
        while len(instances(client, "c")[0]) < 3:
            connections.append(client.open("GET", "/web/c/wait"))
            assert len(connections) < 200
        for _ in range(40):
            connections.append(client.open("GET", "/web/c/version"))
        assert len(instances(client, "c")[0]) == 3
        client.put("/apps/c/files/go", b"")
        for connection, stream in connections:
            assert parse_head(stream)[0] == 200
    finally:
        for connection, stream in connections:
            stream.close()
            connection.close()


def test_least_number_is_started(make_server, c_module):
    server = make_server()
    server.client.create("c", c_module, serve="listen", instances="3")
    assert web(server.client, "/", name="c").text == "hello from C\n"
    assert len(instances(server.client, "c")[0]) == 3


def test_too_many_wait(make_server, c_module, eventually):
    """A program that never accepts."""
    server = make_server()
    client = server.client
    client.create("c", c_module, serve="listen", queue="2", arg="deaf")
    waiting = [client.open("GET", "/web/c/") for _ in range(2)]
    eventually(lambda: "2 wait" in str(instances(client, "c")[0]))
    response = web(client, "/", name="c")
    assert response.status == 503 and response.headers["retry-after"] == "1"
    for connection, stream in waiting:
        stream.close()
        connection.close()


# --- languages -----------------------------------------------------------------------------------

def test_accept_in_c(app, c_module):
    """It blocks for who does not ask whether it does."""
    app.create("c", c_module, serve="listen")
    for _ in range(3):
        assert web(app, "/x", name="c").text == "hello from C\n"
    assert instances(app, "c")[1]["failures"] == "0"


def test_listener_in_rust(app, guests):
    app.create("rust", guests.rust("listen"), serve="listen")
    for _ in range(3):
        assert web(app, "/y?z", name="rust").text == "hello from Rust: GET /y?z HTTP/1.1\n"


def test_chat(app, guests):
    """The example: who listens hears what others say."""
    app.create("chat", guests.go("chat"), serve="listen")
    assert "<h1>Chat" in web(app, "/", name="chat").text
    connection, stream = app.open("GET", "/web/chat/events")
    with connection, stream:
        parse_head(stream)
        pieces = chunks_of(stream)
        assert next(pieces) == b": welcome\n\n"
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        assert web(app, "/say", b"text=hello+all", name="chat", headers=form).status == 204
        assert next(pieces) == b"data: hello all\n\n"


def test_files_come_first(app):
    app.put("/apps/go/files/www/page.html", b"<p>a file")
    assert web(app, "/page.html").text == "<p>a file"
    assert web(app, "/page.html", b"x").text.startswith("POST /page.html ")


BROKEN_SERVER = r"""
#include <sys/socket.h>
#include <unistd.h>

static const char answer[%d] = {%s};

int main(void) {
    for (;;) {
        int connection = accept(4, NULL, NULL);
        if (connection < 0) {
            return 9;
        }
        char request[4096];
        if (read(connection, request, sizeof request) > 0) {
            write(connection, answer, sizeof answer);
        }
        close(connection);
    }
}
"""

BROKEN = [b"", b"no http\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 99 X\r\n\r\n",
          b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 200 OK\r\n",
          b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
          b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
          b"HTTP/1.1 700 OK\r\nContent-Length: 0\r\n\r\n",
          b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n", b"HTTP/1.1 200 OK\r\nX Y: z\r\n\r\n",
          b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"]


BROKEN_LATER = r"""
#include <sys/socket.h>
#include <string.h>
#include <unistd.h>

static const char first[] = "HTTP/1.1 200 OK\r\n%s", second[] = "%s";

int main(void) {
    for (;;) {
        int connection = accept(4, NULL, NULL);
        char request[4096];
        if (connection < 0 || read(connection, request, sizeof request) <= 0) {
            return 9;
        }
        write(connection, first, strlen(first));
        while (access("/go", F_OK) != 0) {
            usleep(1000);
        }
        write(connection, second, strlen(second));
        close(connection);
        unlink("/go");
    }
}
"""


@pytest.mark.parametrize("name, first, second, body, why", [
    ("chunk", r"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", r"x\r\n", b"12345",
     "an answer was cut: its chunks are malformed"),
    ("closed", r"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", "", b"12345",
     "an answer was cut: the connection was closed in the middle of it"),
    ("short", r"Content-Length: 9\r\n\r\n12345", "67", b"1234567",
     "an answer was cut: its body is shorter than its Content-Length"),
    ("later", r"Content-Length: 5\r\n\r\n12345", "67", b"12345",
     "an answer was longer than its Content-Length: the rest was dropped"),
    ("long", r"Content-Length: 5\r\n\r\n1234567", "8", b"12345",
     "an answer was longer than its Content-Length: the rest was dropped"),
])
def test_answer_that_breaks_later_is_logged(app, guests, eventually, name, first, second, body,
                                            why):
    name = f"later_{name}"
    app.create(name, guests.c_text(BROKEN_LATER % (first, second)), serve="listen")
    connection, stream = app.open("GET", f"/web/{name}/")
    with connection, stream:
        status, headers = parse_head(stream)
        assert status == 200
        app.put(f"/apps/{name}/files/go", b"")
        if "content-length" in headers:
            assert stream.read() == body
        else:
            chunks = []
            with pytest.raises(ConnectionError):
                chunks.extend(iter(lambda pieces=chunks_of(stream): next(pieces), None))
            assert b"".join(chunks) == body
    asked = "/" if name == "later_later" else f"/web/{name}/"  # then as the program knows it
    line = f" sys {why} (GET {asked})\n"
    eventually(lambda: line in app.get(f"/apps/{name}/log").text)
    eventually(lambda: app.get(f"/apps/{name}/files/go").status == 404)
    assert app.get(f"/apps/{name}/log").text.count(f" sys {why} ") == 1


@pytest.mark.parametrize("answer", BROKEN)
def test_broken_answers(app, guests, answer):
    """Never more than a 502 or a cut, and the next request is answered as if nothing had been."""
    name = f"broken{BROKEN.index(answer)}"
    source = BROKEN_SERVER % (max(len(answer), 1), ", ".join(map(str, answer)) or "0")
    app.create(name, guests.c_text(source), serve="listen")
    for _ in range(2):
        try:
            assert web(app, "/", name=name).status == 502
        except ConnectionError:
            pass
    assert web(app, "/version").text == "1\n"
