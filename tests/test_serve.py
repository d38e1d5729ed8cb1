"""/net/serve: programs that are kept, and take requests one by one from a file."""

import re
import textwrap
import threading

import pytest

from support.client import chunks_of, parse_head, read_response
from support.pages import echo_by_curl, of_app, send_and_never_read

web, instances = of_app("c")

SECRET = "a secret of the inside"


@pytest.fixture(scope="module")
def module(guests):
    return guests.c("serve")


@pytest.fixture(scope="module")
def app(server, module):
    server.client.create("c", module, web="public", serve="listen")
    return server.client


@pytest.fixture
def clean(app, eventually):
    names = ("go", "gone", "summed", "late", "begun", "shut")
    for name in names:
        app.delete(f"/apps/c/files/{name}")
    yield
    app.put("/apps/c/files/go", b"")
    idle(app, eventually)  # before somebody takes the file away again


def note(client, eventually, path, name="c"):
    """What the program has written to a file, once it is there."""
    return eventually(lambda: (r := client.get(f"/apps/{name}/files{path}")).status == 200
                      and r.text)


def idle(client, eventually, name="c"):
    eventually(lambda: all(", 0 requests" in line for line in instances(client, name)[0].values()))


# --- the request ---------------------------------------------------------------------------------


def test_it_is_kept(app):
    first = int(web(app, "/count").text)
    assert [int(web(app, "/count").text) for _ in range(5)] == list(range(first + 1, first + 6))
    running, facts = instances(app)
    assert len(running) == 1 and facts["failures"] == "0"


def test_what_it_reads(app, server):
    text = web(app, "/head?x=100%&y", b"12345", headers={
        "X-One": "1", "X-Empty": "", "Proxy": "evil", "Connection": "close, x-hop", "TE": "x",
        "X-Hop": "1",
        "X-Forwarded-For": "192.0.2.1", "Expect": None}).text
    assert text == (f"POST /head?x=100%&y HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
                    "X-One: 1\r\nX-Empty: \r\nX-Forwarded-For: 127.0.0.1\r\n"
                    "X-Forwarded-Prefix: /web/c\r\nContent-Length: 5\r\n\r\n12345")


def test_without_a_body(app, server):
    assert web(app, "/head").text == (
        f"GET /head HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
        "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Prefix: /web/c\r\n\r\n")


def test_at_its_host_name(app, server):
    host = f"c.localhost:{server.port}"
    text = app.get("/head", headers={"Host": host}).text
    assert text.startswith(f"GET /head HTTP/1.1\r\nHost: {host}\r\n") and "Prefix" not in text


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_any_method(app, method):
    assert web(app, "/head", method=method).text.startswith(f"{method} /head HTTP/1.1\r\n")


def chunked(body, size):
    pieces = [body[i:i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("length", [1, 65536, 65537, 300000])
def test_chunked_body(app, length):
    """Decoded; its length is said if it is no more than what is gathered before."""
    body = b"0123456789" * (length // 10) + b"x" * (length % 10)
    with app.connect() as connection:
        head = app.head("POST", "/web/c/head", headers={
            "Transfer-Encoding": "chunked", "Content-Length": None})
        connection.sendall(head + chunked(body, 1000))
        text = read_response(connection.makefile("rb")).body
    assert b"Transfer-Encoding" not in text
    assert (b"Content-Length: %d\r\n" % length in text) == (length < 65536)
    with app.connect() as connection:
        connection.sendall(head.replace(b"/head", b"/echo") + chunked(body, 7777))
        assert read_response(connection.makefile("rb")).body == body


@pytest.mark.parametrize("length", [0, 1, 65535, 65536, 65537, 1 << 20])
def test_bodies(app, length):
    body = bytes(range(256)) * (length // 256) + b"x" * (length % 256)
    assert web(app, "/echo", body).body == body


def test_slow_upload_does_not_hold_up_the_others(app):
    """Each byte comes by itself; the program, that does one thing at a time, answers others."""
    with app.connect() as connection:
        connection.sendall(app.head("POST", "/web/c/echo", headers={"Content-Length": "10"}))
        for byte in b"0123456789":
            connection.sendall(bytes([byte]))
            assert web(app, "/version").text == "hello from C\n"
        assert read_response(connection.makefile("rb")).text == "0123456789"


def test_large_upload(app, server):
    """150 MB in bounded memory."""
    before = server.resident_bytes()
    piece = b"\1" * (1 << 20)
    with app.connect() as connection:
        connection.sendall(app.head("POST", "/web/c/sum",
                                    headers={"Content-Length": str(150 << 20)}))
        for _ in range(150):
            connection.sendall(piece)
        answer = read_response(connection.makefile("rb"))
    assert answer.text == f"{150 << 20} {150 << 20} end\n"
    assert server.is_sanitized() or server.resident_bytes() - before < 32 << 20


# --- the answer ----------------------------------------------------------------------------------


def raw(client, answer):
    """What the visitor gets when the program writes this."""
    return web(client, "/raw", answer)


def test_forms_of_an_answer(app):
    response = raw(app, b"just text: of any kind")
    assert response.status == 200 and response.text == "just text: of any kind"
    assert response.headers["content-type"].startswith("text/plain")
    response = raw(app, b"Status: 404 Gone\nContent-Type: text/html\nX-One: 1\n\n<p>")
    assert response.status == 404 and response.body == b"<p>" and response.headers["x-one"] == "1"
    response = raw(app, b"HTTP/1.1 201 Made\r\nContent-Type: text/html\r\nDate: x\r\n\r\n<p>")
    assert response.status == 201 and response.headers["content-type"] == "text/html"
    assert response.headers.get("date") != "x"
    response = raw(app, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nabc")
    assert response.status == 200 and response.body == b"ab"
    assert raw(app, b"HTTP/1.1 204 Nothing\r\n\r\n").status == 204
    response = raw(app, b"HTTP/1.1 302 There\r\nLocation: /web/c/version\r\n\r\n")
    assert response.status == 302 and response.headers["location"] == "/web/c/version"
    response = raw(app, b"HTTP/2 is no status line that is meant here\n")
    assert response.status == 200 and response.text.startswith("HTTP/2 is")


TOO_LONG = "an answer was longer than its Content-Length: the rest was dropped"


@pytest.mark.parametrize("length, more", [(2, 1), (0, 5), (100000, 100000)])
def test_more_than_its_length_is_logged(app, eventually, length, more):
    """Once, and the client is in step."""
    path = f"/long?{length}-{more}"
    assert web(app, path).body == b"x" * length
    line = re.compile(rf"{TOO_LONG} \(GET (/web/c)?{re.escape(path)}\)\n")
    eventually(lambda: line.search(app.get("/apps/c/log").text))
    idle(app, eventually)
    assert len(line.findall(app.get("/apps/c/log").text)) == 1


def test_more_than_its_length_later_is_logged(app, clean, eventually):
    line = f"{TOO_LONG} (GET /too_long)\n"
    before = app.get("/apps/c/log").text.count(line)
    assert web(app, "/too_long").text == "12345"
    app.put("/apps/c/files/go", b"")
    assert note(app, eventually, "/late") == "written"
    assert app.get("/apps/c/log").text.count(line) == before + 1


def test_less_than_its_length_is_a_cut(app, clean, eventually):
    connection, stream = app.open("GET", "/web/c/too_short")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        app.put("/apps/c/files/go", b"")
        assert stream.read() == b"12345"
    assert ("sys an answer was cut: its body is shorter than its Content-Length "
            "(GET /web/c/too_short)\n") in app.get("/apps/c/log").text


def test_local_redirect(app):
    response = raw(app, b"Location: /web/c/version?x\n\n")
    assert response.status == 200 and response.text == "hello from C\n"


@pytest.mark.parametrize("answer", [
    b"Content-Type: text/html\n", b"Status: 99\n\n", b"HTTP/1.1 200 OK\r\nno field\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 65 + b"\r\n",
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * 20000 + b"\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nStatus: 404\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n<p>", b"HTTP/1.1 20\r\n\r\n<p>", b"HTTP/2 200",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy",
    b"Content-Type: a/b\nContent-Length: 1\nContent-Length: 2\n\nxy"])
def test_broken_answers(app, answer):
    """A 502, and the next request is answered as if nothing had been."""
    assert raw(app, answer).status == 502
    assert web(app, "/version").text == "hello from C\n"


def test_answer_that_is_too_short(app):
    """A 502 if its end is known before its head has gone, else a cut: the visitor sees it always."""
    for _ in range(20):
        try:
            assert raw(app, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc").status == 502
        except ConnectionError as error:
            assert "cut in the middle of a body" in str(error)
        assert web(app, "/version").text == "hello from C\n"


def test_no_answer(app, eventually):
    response = web(app, "/nothing")
    assert response.status == 502 and "no valid answer" in response.text
    eventually(lambda: "/net/serve was closed, and nothing was written" in
               app.get("/apps/c/log").text)


def test_head(app):
    response = web(app, "/echo", method="HEAD")
    assert response.status == 200 and response.body == b""
    assert response.headers["content-type"] == "application/octet-stream"


def test_events(app, clean):
    connection, stream = app.open("GET", "/web/c/events")
    with connection, stream:
        status, headers = parse_head(stream)
        assert status == 200 and headers["content-type"] == "text/event-stream"
        pieces = chunks_of(stream)
        got = b""
        while b"data: first\n\n" not in got:
            got += next(pieces)
        app.put("/apps/c/files/go", b"")
        assert b"".join(pieces).endswith(b"data: second hello from C\n\n")


def test_large_answer(app, server):
    """150 MB in bounded memory."""
    before = server.resident_bytes()
    size = 150 << 20
    connection, stream = app.open("GET", f"/web/c/flood?{size}")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        assert sum(len(piece) for piece in chunks_of(stream)) == size
    assert server.is_sanitized() or server.resident_bytes() - before < 32 << 20


def test_answer_before_the_body_is_read(app):
    """It waits until it can be sent."""
    body = b"\1" * 300000
    answer = web(app, "/both", body)
    assert answer.text == "0123456789abcdef" * 1000 + "300000 300000 end\n"


def test_end_by_shutdown(app, clean, eventually):
    """The visitor has all of it while the program goes on."""
    assert web(app, "/shutdown").text == "all of it\n"
    assert note(app, eventually, "/shut") == "pipe"
    app.put("/apps/c/files/go", b"")
    web(app, "/count")  # it has gone on, and waits for no file that is taken away again


# --- visitors that leave -------------------------------------------------------------------------


def test_visitor_leaves_a_stream(app, clean, eventually):
    """The program learns it."""
    connection, stream = app.open("GET", "/web/c/events")
    with connection, stream:
        assert parse_head(stream)[0] == 200
    assert note(app, eventually, "/gone") == "Broken pipe"
    idle(app, eventually)


def test_visitor_leaves_a_flood(app, clean, eventually):
    connection, stream = app.open("GET", f"/web/c/flood?{1 << 30}")
    with connection, stream:
        parse_head(stream)
    assert note(app, eventually, "/gone") == "Broken pipe"
    idle(app, eventually)


def test_visitor_leaves_before_a_short_answer(app, clean, eventually):
    """The program need not care: what it writes is dropped."""
    connection, stream = app.open("GET", "/web/c/late")
    with connection, stream:
        eventually(lambda: app.get("/apps/c/files/begun").status == 200)
    eventually(lambda: "zasm_http_connections 1\n" in app.get("/metrics").text)  # that asks
    app.put("/apps/c/files/go", b"")
    assert note(app, eventually, "/late") == "fine"
    idle(app, eventually)


def test_visitor_leaves_in_a_short_body(app, eventually):
    """The program never hears of it."""
    first = int(web(app, "/count").text)
    connection = app.connect()
    connection.sendall(app.head("POST", "/web/c/count", headers={"Content-Length": "10"}) + b"x")
    eventually(lambda: ", 1 requests" in str(instances(app)[0]))
    connection.close()
    idle(app, eventually)
    assert int(web(app, "/count").text) == first + 1


def test_visitor_leaves_in_a_long_body(app, clean, eventually):
    """The program does not take half for all."""
    connection = app.connect()
    connection.sendall(app.head("POST", "/web/c/sum", headers={"Content-Length": "1000000"})
                       + b"\1" * 500000)
    connection.close()
    assert re.fullmatch(r"\d+ \d+ Connection reset by peer\n", note(app, eventually, "/summed"))
    idle(app, eventually)


def test_nothing_is_left(server, app, clean, eventually):
    web(app, "/version")
    before = server.descriptors()
    for _ in range(20):
        web(app, "/echo", b"x" * 100000)
        web(app, "/nothing")
        connection, stream = app.open("GET", "/web/c/flood?100000000")
        with connection, stream:
            parse_head(stream)
        connection = app.connect()
        connection.sendall(app.head("POST", "/web/c/echo", headers={"Content-Length": "9"}) + b"x")
        connection.close()
    idle(app, eventually)
    eventually(lambda: server.descriptors() <= before)


# --- when it ends --------------------------------------------------------------------------------


def test_it_dies(make_server, module, eventually):
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen")
    assert web(client, "/count").text == "1\n"
    response = web(client, "/die")
    assert response.status == 502 and SECRET not in response.text, response
    number = re.search(r"\(run (\d+)\)", response.text)[1]
    eventually(lambda: instances(client)[1]["failures"] == "1")
    assert f"run {number}: exit 7" in instances(client)[1]["last failure"]
    assert SECRET in client.get(f"/apps/c/log?run={number}").text
    assert eventually(lambda: (r := web(client, "/count")).status == 200 and r.text) == "1\n"
    running, facts = instances(client)
    assert len(running) == 1 and number not in running and facts["starts"] == "2"
    assert server.stop() == 0


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_it_ends_in_the_middle_of_an_answer(make_server, module, eventually, how):
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen")
    connection, stream = client.open("GET", "/web/c/half")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        pieces = chunks_of(stream)
        assert next(pieces) == b"half"
        if how == "exit":
            client.put("/apps/c/files/go", b"")
        else:
            number = list(instances(client)[0])[0]
            assert client.put(f"/proc/{number}/ctl", b"kill").status in (200, 204)
        with pytest.raises(ConnectionError):
            list(pieces)
    eventually(lambda: not instances(client)[0])
    assert ("sys an answer was cut: the program ended before it had closed /net/serve "
            "(GET /web/c/half)\n") in client.get("/apps/c/log").text


def test_killed_before_its_answer(make_server, module, eventually):
    """What it had not taken goes to the next one, when that may be started."""
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen")
    taken = client.open("GET", "/web/c/wait")
    eventually(lambda: "1 requests, 0 wait" in str(instances(client)[0]))
    waits = client.open("GET", "/web/c/version")
    eventually(lambda: "2 requests, 1 wait" in str(instances(client)[0]))
    number = list(instances(client)[0])[0]
    client.put(f"/proc/{number}/ctl", b"kill")
    assert parse_head(taken[1])[0] == 502
    status, headers = parse_head(waits[1])
    assert status == 200 or status == 503 and int(headers["retry-after"]) >= 1
    for connection, stream in (taken, waits):
        stream.close()
        connection.close()


def test_one_that_does_not_start(make_server, module):
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen", arg="fail")
    statuses = [web(client, "/x") for _ in range(20)]
    assert {response.status for response in statuses} <= {502, 503}
    assert all(SECRET not in response.text for response in statuses)
    assert "exit 3" in instances(client)[1]["last failure"]


def test_no_answer_in_time(make_server, module, eventually):
    server = make_server("--wall", "1s")
    client = server.client
    client.create("c", module, serve="listen")
    assert web(client, "/wait").status == 504
    client.put("/apps/c/files/go", b"")
    assert eventually(lambda: (r := web(client, "/count")).status == 200 and r.text) == "1\n"


def test_it_hangs(make_server, module, eventually):
    """It computes for ever: ended when it has not answered in time, and started again."""
    server = make_server("--wall", "1s")
    client = server.client
    client.create("c", module, serve="listen")
    assert web(client, "/hang").status == 504
    eventually(lambda: instances(client)[1]["failures"] == "1")
    failure = instances(client)[1]["last failure"]
    number = re.search(r"run (\d+): hung 137: it has not answered for 1 s$", failure)[1]
    log = client.get(f"/apps/c/log?run={number}").text
    assert "0asm: killed: it has not answered for 1 s\n" in log and "ended: hung 137" in log, log
    assert eventually(lambda: (r := web(client, "/count")).status == 200 and r.text) == "1\n"
    assert server.stop() == 0


def test_it_hangs_and_its_visitor_has_left(make_server, module, eventually):
    client = make_server("--wall", "1s").client
    client.create("c", module, serve="listen")
    connection, stream = client.open("GET", "/web/c/hang")
    with connection, stream:
        eventually(lambda: client.get("/apps/c/files/begun").status == 200)
    eventually(lambda: instances(client)[1]["failures"] == "1")
    assert not instances(client)[0]


def test_one_that_sends_events_does_not_hang(make_server, module, eventually):
    """Others wait in vain, but it does something for somebody."""
    client = make_server("--wall", "1s").client
    client.create("c", module, serve="listen")
    connection, stream = client.open("GET", "/web/c/events")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        assert [web(client, "/version").status for _ in range(3)] == [504] * 3
        client.put("/apps/c/files/go", b"")
        assert b"".join(chunks_of(stream)).endswith(b"data: second hello from C\n\n")
    assert web(client, "/count").text == "1\n"
    assert instances(client)[1]["failures"] == "0"


def test_one_that_hangs_is_not_waited_for(make_server, module, eventually):
    """After an update: not for the ten minutes that others have."""
    client = make_server("--wall", "1s").client
    client.create("c", module, serve="listen", arg="one")
    connection, stream = client.open("GET", "/web/c/hang")
    with connection, stream:
        eventually(lambda: client.get("/apps/c/files/begun").status == 200)
        client.create("c", module, serve="listen", arg="two")
        assert eventually(lambda: (r := web(client, "/version")).status == 200 and r.text) == "two\n"
        eventually(lambda: len(instances(client)[0]) == 1)
        assert "ended: hung 137" in client.get("/apps/c/log").text


def test_echo_of_more_than_can_wait(app, server, tmp_path):
    """It answers while it reads, and its answer goes out while the body comes in."""
    before = server.resident_bytes()
    url = f"{server.url}/web/c/echo"
    echo_by_curl(url, tmp_path)
    echo_by_curl(url, tmp_path, "-H", "Transfer-Encoding: chunked")
    assert server.is_sanitized() or server.resident_bytes() - before < 32 << 20
    assert web(app, "/version").text == "hello from C\n"


def test_visitor_that_sends_and_never_reads(make_server, module):
    """It is cut off after a while, memory is bounded, and the next one is answered."""
    server = make_server("--body-timeout", "300ms")
    client = server.client
    client.create("c", module, serve="listen")
    assert web(client, "/version").status == 200
    grown = send_and_never_read(server, "/web/c/echo")
    assert server.is_sanitized() or grown < 32 << 20
    assert web(client, "/version").text == "hello from C\n"
    assert len(instances(client)[0]) == 1


def test_update_drains_the_old_one(make_server, module, eventually):
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen", arg="one")
    connection, stream = client.open("GET", "/web/c/events")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        old = list(instances(client)[0])[0]
        client.create("c", module, serve="listen", arg="two")
        assert web(client, "/version").text == "two\n"
        running = instances(client)[0]
        assert len(running) == 2 and "ends" in running[old] and "version 1" in running[old]
        client.put("/apps/c/files/go", b"")
        assert b"".join(chunks_of(stream)).endswith(b"data: second one\n\n")
    eventually(lambda: old not in instances(client)[0])
    assert len(instances(client)[0]) == 1 and instances(client)[1]["failures"] == "0"


def test_work_for_a_visitor_that_has_gone_is_finished(make_server, module, eventually):
    """An update does not end what is still at work on a request."""
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen", arg="one")
    connection, stream = client.open("GET", "/web/c/late")
    with connection, stream:
        eventually(lambda: client.get("/apps/c/files/begun").status == 200)
    client.create("c", module, serve="listen", arg="two")
    assert web(client, "/version").text == "two\n"
    client.put("/apps/c/files/go", b"")
    eventually(lambda: len(instances(client)[0]) == 1)
    assert note(client, eventually, "/late") == "fine"


def test_removed_app_ends(make_server, module, eventually):
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen")
    web(client, "/count")
    assert client.delete("/apps/c").status in (200, 204)
    eventually(lambda: re.search(r"^zasm_runs_running\S* 0$", client.get("/metrics").text, re.M))


def test_server_stops_without_waiting_for_it(make_server, module):
    server = make_server("--grace", "1h")
    server.client.create("c", module, serve="listen")
    web(server.client, "/count")
    assert server.stop() == 0


# --- how many ------------------------------------------------------------------------------------


def test_more_instances_while_requests_wait(make_server, module):
    server = make_server()
    client = server.client
    client.create("c", module, serve="listen", instances="1..3")
    web(client, "/count")
    connections = []
    while len(instances(client)[0]) < 3:  # each is busy with one, and the others wait
        connections.append(client.open("GET", "/web/c/wait"))
        assert len(connections) < 200
    client.put("/apps/c/files/go", b"")
    for connection, stream in connections:
        assert parse_head(stream)[0] == 200
        stream.close()
        connection.close()


def waiters(client, path, count):
    return [client.open("GET", f"/web/c{path}") for _ in range(count)]


def expect_answers(opened, status=200):
    for connection, stream in opened:
        assert parse_head(stream)[0] == status
        stream.close()
        connection.close()


def test_idle_ones_take_what_waits_at_others(make_server, module, eventually):
    client = make_server("--wall", "1h").client
    client.create("c", module, serve="listen", instances="2")
    web(client, "/count")
    busy = waiters(client, "/wait_for?/a", 1)
    eventually(lambda: sum("1 requests, 0 wait" in line
                           for line in instances(client)[0].values()) == 1)
    other = waiters(client, "/wait_for?/b", 1)
    eventually(lambda: sum("1 requests, 0 wait" in line
                           for line in instances(client)[0].values()) == 2)
    waiting = waiters(client, "/version", 6)
    eventually(lambda: all("4 requests, 3 wait" in line
                           for line in instances(client)[0].values()))
    client.put("/apps/c/files/b", b"")
    expect_answers(other + waiting)
    assert any("1 requests, 0 wait" in line for line in instances(client)[0].values())
    client.put("/apps/c/files/a", b"")
    expect_answers(busy)


def test_new_ones_take_what_waits_at_others(make_server, module, eventually):
    client = make_server("--wall", "1h").client
    client.create("c", module, serve="listen", instances="1..2")
    web(client, "/count")
    busy = waiters(client, "/wait_for?/a", 1)
    eventually(lambda: "1 requests, 0 wait" in str(instances(client)[0]))
    expect_answers(waiters(client, "/version", 9))  # with the last one another one is started
    client.put("/apps/c/files/a", b"")
    expect_answers(busy)


def test_a_new_version_takes_what_waits_at_the_old_one(make_server, module, eventually):
    client = make_server("--wall", "1h").client
    client.create("c", module, serve="listen", arg="one")
    busy = waiters(client, "/wait_for?/a", 1)
    eventually(lambda: "1 requests, 0 wait" in str(instances(client)[0]))
    waiting = waiters(client, "/version", 3)
    eventually(lambda: "4 requests, 3 wait" in str(instances(client)[0]))
    client.create("c", module, serve="listen", arg="two")
    assert web(client, "/version").text == "two\n"
    expect_answers(waiting)
    client.put("/apps/c/files/a", b"")
    expect_answers(busy)


def test_more_instances_before_a_small_queue_is_full(make_server, module, eventually):
    client = make_server("--threads", "1").client
    client.create("c", module, serve="listen", instances="1..4", queue="5")
    # Each is busy with one at most; the others find a place, as there are four queues.
    waiting = waiters(client, "/wait", 18)
    eventually(lambda: len(instances(client)[0]) == 4)
    client.put("/apps/c/files/go", b"")
    expect_answers(waiting)


def test_one_that_nobody_asked_for_yet(make_server, module):
    client = make_server().client
    client.create("c", module, serve="listen")
    assert client.get("/apps/c/instances").text == "starts: 0\nfailures: 0\n"
    client.create("d", module)
    assert client.get("/apps/d/instances").text == ""


def test_too_many_wait(make_server, module, eventually):
    client = make_server("--wall", "1h").client  # however long all of this takes
    client.create("c", module, serve="listen", queue="2")
    waiting = [client.open("GET", "/web/c/wait")]
    eventually(lambda: "1 requests, 0 wait" in str(instances(client)[0]))
    waiting += [client.open("GET", "/web/c/wait") for _ in range(2)]
    eventually(lambda: "3 requests, 2 wait" in str(instances(client)[0]))
    response = web(client, "/version")
    assert response.status == 503 and response.headers["retry-after"] == "1"
    client.put("/apps/c/files/go", b"")
    for connection, stream in waiting:
        assert parse_head(stream)[0] == 200
        stream.close()
        connection.close()


# --- other programs ------------------------------------------------------------------------------


STDIO = r"""
#include <stdio.h>
#include <string.h>
int main(void) {
    char line[200];
    for (int count = 1;; count++) {
        FILE *request = fopen("/net/serve", "r+");
        if (!request || !fgets(line, sizeof line, request)) return 1;
        char first[200];
        strcpy(first, line);
        while (fgets(line, sizeof line, request) && strcmp(line, "\r\n") != 0) {}
        fseek(request, 0, SEEK_CUR);
        fprintf(request, "Content-Type: text/html\n\n%d: %s", count, first);
        if (fclose(request) != 0) return 2;
    }
}
"""


def test_stdio(app, guests):
    app.create("stdio", guests.c_text(STDIO), serve="listen")
    for number in (1, 2):
        response = web(app, "/x?y", name="stdio")
        assert response.text == f"{number}: GET /x?y HTTP/1.1\r\n"
        assert response.headers["content-type"] == "text/html"
    response = web(app, "/x", b"a body that nobody reads" * 100, name="stdio")
    assert response.text == "3: POST /x HTTP/1.1\r\n"
    assert instances(app, "stdio")[1]["failures"] == "0"


READ_ALL = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    for (;;) { /* all of it, then the answer */
        static char all[100000];
        size_t length = 0;
        ssize_t got;
        int file = open("/net/serve", O_RDWR | O_TRUNC | O_CREAT, 0666);
        while ((got = read(file, all + length, sizeof all - length)) > 0) length += (size_t)got;
        if (got < 0 || read(file, all, 1) != 0 || lseek(file, 0, SEEK_SET) != 0) return 1;
        char text[100];
        int size = snprintf(text, sizeof text, "%zu bytes, %d\n", length, isatty(file));
        if (write(file, text, (size_t)size) != size || fsync(file) != 0 || close(file) != 0) return 2;
    }
}
"""


def test_read_all_then_write(app, guests):
    app.create("all", guests.c_text(READ_ALL), serve="listen")
    for _ in range(3):
        assert re.fullmatch(r"5\d\d\d bytes, 0\n", web(app, "/x", b"x" * 5000, name="all").text)
    assert instances(app, "all")[1]["failures"] == "0"


POLL = r"""
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(void) { /* four at once, answered when all are there, the last one first */
    int order[4], count = 0;
    struct pollfd files[4];
    int first = open("/net/serve", O_RDWR);
    if (write(first, "first\n", 6) != 6 || close(first) != 0) return 7; /* without reading it */
    for (int i = 0; i < 4; i++) {
        files[i].fd = open("/net/serve", O_RDWR | O_NONBLOCK);
        files[i].events = POLLIN;
        char byte;
        if (read(files[i].fd, &byte, 1) >= 0 || errno != EAGAIN) return 1;
        if (write(files[i].fd, &byte, 1) >= 0 || errno != EAGAIN) return 1;
    }
    if (poll(files, 4, 0) != 0) return 2;
    close(open("/ready", O_CREAT | O_WRONLY, 0666));
    while (count < 4) {
        if (poll(files, 4, -1) < 1) return 3;
        for (int i = 0; i < 4; i++) {
            if (files[i].fd >= 0 && (files[i].revents & POLLIN)) {
                order[count++] = files[i].fd;
                files[i].fd = -1;
            }
        }
    }
    for (int i = 3; i >= 0; i--) {
        char head[1000], text[1100];
        ssize_t length = read(order[i], head, sizeof head - 1);
        if (length <= 0) return 4;
        head[length] = 0;
        strtok(head, "\r");
        snprintf(text, sizeof text, "%s\n", head);
        struct pollfd file = {.fd = order[i], .events = POLLOUT};
        if (poll(&file, 1, -1) != 1 || file.revents != POLLOUT) return 5;
        if (write(order[i], text, strlen(text)) < 1 || close(order[i]) != 0) return 6;
    }
    pause_for_ever: sleep(1000);
    goto pause_for_ever;
}
"""


def test_several_at_once_by_poll(app, guests, eventually):
    app.create("poll", guests.c_text(POLL), serve="listen")
    assert web(app, "/", name="poll").text == "first\n"
    eventually(lambda: app.get("/apps/poll/files/ready").status == 200)
    connections = [app.open("GET", f"/web/poll/{number}") for number in range(4)]
    for number, (connection, stream) in enumerate(connections):
        assert read_response(stream).text == f"GET /{number} HTTP/1.1\n"
        stream.close()
        connection.close()


KEPT = r"""
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) { /* one connection for all requests, which counts them */
    int connection = accept(4, NULL, NULL);
    for (int count = 1;; count++) {
        char request[4000], answer[200];
        size_t length = 0;
        do {
            ssize_t got = read(connection, request + length, sizeof request - 1 - length);
            if (got <= 0) return 1;
            length += (size_t)got;
            request[length] = 0;
        } while (!strstr(request, "\r\n\r\n"));
        const char *more = strstr(request, " /last") ? "Connection: close\r\n" : "";
        snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n"
                 "3\r\n%03d\r\n0\r\n\r\n", more, count);
        if (write(connection, answer, strlen(answer)) < 1) return 2;
        if (*more) {
            if (read(connection, request, 1) != 0) return 3; /* it is closed on the other side, too */
            close(connection);
            connection = accept(4, NULL, NULL);
        }
    }
}
"""


def test_connections_are_kept(app, guests):
    """A request after the other over the same one; one that says so is the last."""
    app.create("kept", guests.c_text(KEPT), serve="listen")
    texts = [web(app, path, name="kept").text for path in ("/", "/", "/last", "/", "/last", "/")]
    assert texts == [f"00{number}" for number in range(1, 7)]
    assert instances(app, "kept")[1] == {"starts": "1", "failures": "0"}


EITHER = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    for (;;) { /* by turns */
        char request[4000];
        int file = open("/net/serve", O_RDWR);
        const char *one = "by the file\n";
        if (read(file, request, sizeof request) <= 0) return 1;
        if (write(file, one, strlen(one)) < 1 || close(file) != 0) return 2;
        int connection = accept(4, NULL, NULL);
        const char *two = "HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\nby the connection\n";
        if (connection < 0 || read(connection, request, sizeof request) <= 0) return 3;
        if (write(connection, two, strlen(two)) < 1 || close(connection) != 0) return 4;
    }
}
"""


def test_file_and_connections(app, guests):
    """A request goes to whoever asks first."""
    app.create("either", guests.c_text(EITHER), serve="listen")
    for _ in range(3):
        assert web(app, "/", name="either").text == "by the file\n"
        assert web(app, "/", name="either").text == "by the connection\n"


def test_requests_of_others(client, guests, eventually):
    """Only a program that is kept has requests."""
    source = r"""
    #include <stdio.h>
    int main(void) {
        FILE *file = fopen("/net/serve", "r+");
        char why[300] = "";
        if (!file) { file = fopen("/proc/self/errstr", "r"); fgets(why, sizeof why, file); }
        printf("%s", why);
        return 0;
    }"""
    client.create("other", guests.c_text(source))
    assert "set serve=listen" in client.post("/run?name=other").text
    assert "serve" in client.post("/run?name=other").text


def test_go(app, guests):
    app.create("go", guests.go("serve"), serve="listen")
    response = web(app, "/a?b", b"12345", name="go")
    assert response.status == 200 and response.headers["x-length"] == "5"
    assert re.fullmatch(r"POST /a\?b host=\S+ length=5: 12345", response.text)
    assert web(app, "/missing", name="go").status == 404
    assert web(app, "/stream", name="go").text.startswith("GET /stream ")
    # Eight wait in it, and a ninth behind them.
    waiting = [app.open("GET", "/web/go/wait") for _ in range(9)]
    app.put("/apps/go/files/go", b"")
    for connection, stream in waiting:
        assert read_response(stream).text.startswith("GET /wait ")
        stream.close()
        connection.close()
    big = b"x" * (1 << 20)
    assert web(app, "/big", big, name="go").text.endswith(": " + big.decode())
    assert instances(app, "go")[1]["failures"] == "0"


def test_many_at_once_in_go(app, guests):
    app.create("go", guests.go("serve"), serve="listen")
    results = []

    def ask(number):
        results.append(web(app, f"/{number}", b"%d" % number * 1000, name="go").text
                       .endswith(": " + str(number) * 1000))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 50


def test_todo(app, guests):
    """The example."""
    app.create("todo", guests.c("todo"), serve="listen")
    assert web(app, "/", b"one", name="todo").text == "1. one\n1 to do\n"
    assert web(app, "/", b"x" * 500, name="todo").text == f"1. one\n2. {'x' * 199}\n2 to do\n"
    assert web(app, "/", method="DELETE", name="todo").text == f"1. {'x' * 199}\n1 to do\n"
    assert web(app, "/", method="DELETE", name="todo").text == "0 to do\n"
    assert web(app, "/", method="DELETE", name="todo").status == 409
    assert web(app, "/", method="BREW", name="todo").status == 409
    assert web(app, "/", headers={"X-Long": "x" * 20000}, name="todo").text == "0 to do\n"


def test_python(app, guests):
    """Buffered, and not."""
    app.create("python", guests.python(), arg="/serve.py", serve="listen")
    app.put("/apps/python/files/serve.py", textwrap.dedent("""
        count = 0
        while True:
            count += 1
            with open("/net/serve", "r+b") as file:
                line = file.readline()
                while file.readline().strip():
                    pass
                body = file.read()
                file.write(b"Content-Type: text/html\\n\\n%d %s %s" % (count, line.strip(), body))
            with open("/net/serve", "r+b", buffering=0) as file:
                text = b""
                while not text.endswith(b"\\r\\n\\r\\n"):
                    text += file.read(1)
                file.write(b"Status: 404 Not Found\\n\\n")
                file.write(text.split(b"\\r\\n")[0])
        """))
    for number in (1, 2):
        response = web(app, "/x", b"words", name="python")
        assert response.text == f"{number} POST /x HTTP/1.1 words", response
        response = web(app, "/y", name="python")
        assert response.status == 404 and response.text == "GET /y HTTP/1.1", response
    assert instances(app, "python")[1]["failures"] == "0"
