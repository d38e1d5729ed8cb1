"""The web door: apps' own pages, by CGI programs and files; who may see them; what goes wrong."""

import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import textwrap
import time

import pytest

from support.client import Client, chunks_of, parse_head, read_response
from support.pages import curl, of_app, send_and_never_read

web, _ = of_app("site")

SECRET = "a secret of the inside"


def tar_of(files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            content = content.encode() if isinstance(content, str) else content
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture(scope="module")
def module(guests):
    return guests.c("web")


@pytest.fixture(scope="module")
def app(server, module):
    """The app `site`, public, with pages that its version brought."""
    server.client.create("site", tar_of({
        "app.wasm": module, "www/page.html": "<p>page", "www/docs/index.html": "<p>index",
        "www/style.css": "p {}", "www/a b.txt": "blank", "hidden.txt": "hidden",
    }), web="public")
    return server.client


@pytest.fixture
def clean(app):
    """Before and after: nothing that an earlier test has left in the volume."""
    for name in ("go", "done", "waits"):
        app.delete(f"/apps/site/files/{name}")
    yield
    app.put("/apps/site/files/go", b"")  # whoever still waits ends


def raw(client, text, method="POST"):
    """The answer that the program writes byte for byte."""
    return web(client, "/raw", text, method)


def environment(response):
    return dict(line.split("=", 1) for line in response.text.splitlines())


def log_of(client, name="site"):
    return client.get(f"/apps/{name}/log").text


def is_idle(client):
    return re.search(r"^zasm_runs_running\S* 0$", client.get("/metrics").text, re.M)


# --- what a program is told ----------------------------------------------------------------------


def test_variables(app, server):
    seen = environment(web(app, "/env?a=b&c=%41+d", headers={
        "X-Two-Words": "x y", "User-Agent": "test", "Cookie": "a=1"}))
    assert seen["argc"] == "1"  # no query in the arguments
    for name, value in {
            "GATEWAY_INTERFACE": "CGI/1.1", "REQUEST_METHOD": "GET", "SCRIPT_NAME": "/web/site",
            "PATH_INFO": "/env", "QUERY_STRING": "a=b&c=%41+d", "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(server.port), "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_SOFTWARE": "0asm", "REMOTE_ADDR": "127.0.0.1",
            "REQUEST_URI": "/web/site/env?a=b&c=%41+d", "HTTP_X_TWO_WORDS": "x y",
            "HTTP_USER_AGENT": "test", "HTTP_COOKIE": "a=1",
            "HTTP_HOST": f"127.0.0.1:{server.port}"}.items():
        assert seen[name] == value, name
    assert "CONTENT_LENGTH" not in seen and "CONTENT_TYPE" not in seen


def test_variables_of_a_body(app):
    seen = environment(web(app, "/env", b"12345", headers={"Content-Type": "a/b"}))
    assert seen["CONTENT_LENGTH"] == "5" and seen["CONTENT_TYPE"] == "a/b"
    assert seen["REQUEST_METHOD"] == "POST"
    seen = environment(web(app, "/env", b"", method="PUT"))
    assert "CONTENT_LENGTH" not in seen and seen["REQUEST_METHOD"] == "PUT"


def test_path_is_decoded(app):
    assert web(app, "/%C3%A9%20x/../y%3F?q").text == "program: /y?\n"
    assert web(app, "/%C3%A9%20x").text == "program: /é x\n"
    assert web(app, "/a//b/./c").text == "program: /a/b/c\n"
    assert web(app, "/a%2Fb").status == 400
    assert web(app, "/%ff").status == 400
    assert web(app, "/env?q=100%").status == 200  # the query is the program's


@pytest.mark.parametrize("name", ["Proxy", "Proxy-Authorization", "Connection", "TE",
                                  "X_Underscore", "X.Dot", "Transfer-Encoding-X!"])
def test_headers_that_are_kept_back(app, name):
    seen = environment(web(app, "/env", headers={name: "evil"}))
    assert "evil" not in seen.values()


def test_headers_of_the_connection(app, server):
    """Those that it names are between the client and the server."""
    with app.connect() as connection:
        connection.sendall(f"GET /web/site/env HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
                           "X-Hop: 1\r\nX-Two: 2\r\nX-End: 3\r\nConnection:\r\n"
                           "Connection: keep-alive , x-hop\r\n"
                           "Connection: close,,X-TWO,host\r\n\r\n".encode())
        seen = environment(read_response(connection.makefile("rb")))
    assert "HTTP_X_HOP" not in seen and "HTTP_X_TWO" not in seen and seen["HTTP_X_END"] == "3"
    assert seen["HTTP_HOST"] == f"{server.host}:{server.port}"


def test_headers_of_one_name(app, server):
    with app.connect() as connection:
        connection.sendall(f"GET /web/site/env HTTP/1.1\r\nHost: {server.host}:{server.port}\r\n"
                           "Accept: a/b\r\nCookie: a=1\r\naccept: c/d\r\nCOOKIE: b=2\r\n"
                           "X-Empty:\r\nConnection: close\r\n\r\n".encode())
        seen = environment(read_response(connection.makefile("rb")))
    assert seen["HTTP_ACCEPT"] == "a/b, c/d" and seen["HTTP_COOKIE"] == "a=1; b=2"
    assert seen["HTTP_X_EMPTY"] == ""


def test_app_may_have_variables(app, module):
    app.post("/create", module, query=[
        ("name", "variables"), ("env", "KEY=1"), ("env", "REQUEST_METHOD=FAKE"),
        ("env", "HTTP_PROXY=own")])
    seen = environment(web(app, "/env", name="variables", headers={"Proxy": "evil"}))
    assert seen["KEY"] == "1" and seen["REQUEST_METHOD"] == "GET" and seen["HTTP_PROXY"] == "own"


def test_trace_goes_on(app):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    seen = environment(web(app, "/env", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}))
    assert seen["TRACEPARENT"].split("-")[1] == trace


def test_response_is_no_terminal(app):
    assert web(app, "/tty").text == "0\n"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_any_method(app, method):
    seen = environment(web(app, "/env", method=method))
    assert seen["REQUEST_METHOD"] == method


# --- bodies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 65536, 5 << 20])
def test_body(app, length):
    assert web(app, "/count", b"x" * length).text == f"{length}\n"
    assert web(app, "/echo", b"y" * length).body == b"y" * length


def chunked(body, piece):
    pieces = [body[i:i + piece] for i in range(0, len(body), piece)]
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("length", [0, 10, 3 << 20])
def test_chunked_body_has_a_length(app, server, length):
    for path, expected in (("/count", str(length)), ("/env", f"CONTENT_LENGTH={length}")):
        with app.connect() as connection:
            connection.sendall(f"POST /web/site{path} HTTP/1.1\r\nHost: {server.host}\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n".encode()
                               + chunked(b"z" * length, 100000))
            response = read_response(connection.makefile("rb"))
        assert response.status == 200 and expected in response.text.splitlines(), response


def test_chunked_body_has_a_limit(make_server, module):
    server = make_server("--upload", "1MiB")
    server.client.create("site", module)
    with server.client.connect() as connection:
        connection.sendall(f"POST /web/site/count HTTP/1.1\r\nHost: {server.host}\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n".encode()
                           + chunked(b"z" * (2 << 20), 100000))
        assert read_response(connection.makefile("rb")).status == 413


def test_program_need_not_read_its_input(app):
    response = web(app, "/early", b"x" * (4 << 20))
    assert response.status == 200 and response.text == "early\n"


def begun(client, path, sent, length, *, name="site", headers=None):
    """A connection with a request of whose body no more than this has been sent."""
    connection = client.connect()
    connection.settimeout(60)
    connection.sendall(client.head("POST", f"/web/{name}{path}", headers={
        "Content-Length": str(length), "Connection": None, **(headers or {})}) + sent)
    return connection


@pytest.mark.parametrize("path, sent, status, text", [
    ("/trap", b"", 502, "failed"),
    ("/exit?3", b"x", 502, "failed"),
    ("/trap", b"x" * 200000, 502, "failed"),
    ("/raw", b"Content-Type: a/b\nbroken\n" + b"x" * 70000, 502, "no valid answer"),
    ("/flood_trap?100000", b"x", 502, "failed"),
    ("/early", b"x", 200, "early"),
])
def test_answer_does_not_wait_for_the_body(app, path, sent, status, text):
    """Of a program that has failed or ended; the connection goes on behind the body."""
    length = 1000000
    connection = begun(app, path, sent, length)
    with connection, connection.makefile("rb") as stream:
        response = read_response(stream)
        assert response.status == status and text in response.text, response
        connection.sendall(b"x" * (length - len(sent)) + app.head("GET", "/web/site/x"))
        assert read_response(stream).text == "program: /x\n"


def test_early_answer_ends_a_connection_with_too_much_to_drop(app):
    connection = begun(app, "/trap", b"x", 1 << 30)
    with connection, connection.makefile("rb") as stream:
        response = read_response(stream)
        assert response.status == 502 and response.headers["connection"] == "close"
        assert stream.read() == b""


def test_local_redirect_does_not_wait_for_the_body(app):
    connection = begun(app, "/location", b"x" * 200000, 1000000)
    with connection, connection.makefile("rb") as stream:
        seen = environment(read_response(stream))
        assert seen["REQUEST_METHOD"] == "GET" and seen["PATH_INFO"] == "/env"


def test_client_may_be_silent_when_all_has_come(make_server, module, guests, eventually):
    """However long the program takes, and whether or not it has read its input."""
    # Long enough for a busy machine: who sends all at once is never that slow.
    server = make_server("--body-timeout", "3s")
    client = server.client
    client.create("site", module)
    client.create("kept", guests.c("serve"), serve="listen")
    body = b"x" * 300000
    waiting = [begun(client, "/wait", b"x" * 10, 10), begun(client, "/wait", body, len(body)),
               begun(client, "/wait", body, len(body), name="kept")]
    chunks = client.connect()
    chunks.sendall(client.head("POST", "/web/site/wait", headers={
        "Content-Length": None, "Transfer-Encoding": "chunked"}) + chunked(body, 100000))
    waiting.append(chunks)
    eventually(lambda: client.get("/apps/site/files/waits").status == 200)
    # Each of these is silent for so long in the middle of its body.
    for silent in [begun(client, "/count", b"x", 10) for _ in range(3)]:
        with silent:
            assert silent.recv(1) == b""
    eventually(lambda: log_of(client).count("ended: client") == 3)
    for name in ("site", "kept"):
        client.put(f"/apps/{name}/files/go", b"")
    for connection in waiting:
        with connection, connection.makefile("rb") as stream:
            assert read_response(stream).text == "waited\n"


def test_large_answer_is_not_kept(app, server, eventually):
    """More than the limit of output, and than what memory may hold."""
    size = 300 << 20
    before = server.resident_bytes()
    most = taken = 0
    connection, stream = app.open("GET", f"/web/site/flood?{size}")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        for piece in chunks_of(stream):
            taken += len(piece)
            if taken % 16 == 0:
                most = max(most, server.resident_bytes())
    assert taken == size
    assert most - before < 64 << 20 or server.is_sanitized()
    eventually(lambda: is_idle(app))


def test_answer_goes_out_while_the_body_comes(app, server, module, tmp_path, eventually):
    """What can't be sent yet has the limit of output; then it is sent all the same."""
    app.create("tight", module, output="64KiB")
    (tmp_path / "body").write_bytes(os.urandom(9 << 20))
    (tmp_path / "large").write_bytes(os.urandom(70 << 20))  # more than the default
    before = server.resident_bytes()
    for name, file in (("tight", "body"), ("site", "large")):
        body = (tmp_path / file).read_bytes()
        path = f"{server.url}/web/{name}"
        assert curl("--data-binary", f"@{tmp_path}/{file}", f"{path}/echo") == body
    assert server.is_sanitized() or server.resident_bytes() - before < 32 << 20
    # The program ends, or has said all that it promised: what still comes is dropped.
    head = b"Content-Type: a/b\nContent-Length: 100000\n\n"
    for name, path, start in (("tight", "/flood?300000", b""), ("tight", "/raw", head)):
        length = 4 << 20
        connection = begun(app, path, start + bytes(200000), length, name=name)
        with connection, connection.makefile("rb") as stream:
            assert len(read_response(stream).body) == (300000 if not start else 100000)
            connection.sendall(bytes(length - len(start) - 200000))
            connection.sendall(app.head("GET", "/web/site/x"))
            assert read_response(stream).text == "program: /x\n"
    # It fails in the middle: a cut.
    connection = begun(app, "/flood_trap?300000", b"x", 10, name="tight")
    with connection, connection.makefile("rb") as stream:
        assert parse_head(stream)[0] == 200
        with pytest.raises(ConnectionError):
            list(chunks_of(stream))
    eventually(lambda: is_idle(app))


def test_visitor_that_sends_and_never_reads(make_server, module, eventually):
    """It is cut off after a while, its program ends, and memory is bounded meanwhile."""
    server = make_server("--body-timeout", "300ms")
    client = server.client
    client.create("site", module, output="64KiB")
    web(client, "/echo", b"x")
    grown = send_and_never_read(server, "/web/site/echo")
    assert server.is_sanitized() or grown < 32 << 20
    eventually(lambda: "ended: client" in log_of(client))
    eventually(lambda: is_idle(client))
    assert web(client, "/x").text == "program: /x\n"


def test_slow_reader_makes_the_program_wait(app, server, eventually):
    connection, stream = app.open("GET", f"/web/site/flood?{1 << 30}")
    with connection, stream:
        run = eventually(lambda: [p for p in app.get("/proc", headers={
            "Accept": "application/json"}).json() if p["name"].isdigit() and "waiting" in app.get(
                f"/proc/{p['name']}/status").text])[0]["name"]
        status = app.get(f"/proc/{run}/status").text
        assert "app: site" in status, status
    app.put(f"/proc/{run}/ctl", b"kill")
    eventually(lambda: is_idle(app))


# --- answers -------------------------------------------------------------------------------------


def test_head_of_an_answer(app):
    response = raw(app, b"Status: 404 Nope\nContent-Type: text/x\nX-One: 1\nSet-Cookie: a=b\n\nno")
    assert response.status == 404 and response.body == b"no"
    assert response.headers["content-type"] == "text/x" and response.headers["x-one"] == "1"
    assert response.headers["set-cookie"] == "a=b; Path=/web/site"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_headers_that_are_not_the_programs(app):
    response = raw(app, b"Content-Type: text/plain\nConnection: close, x\n"
                        b"Date: never\nX-Content-Type-Options: sniff\nUpgrade: x\n\nbody")
    # Its length is known, or not yet.
    assert response.body == b"body" and response.headers.get("content-length", "4") == "4"
    assert response.headers.get("transfer-encoding", "chunked") == "chunked"
    assert response.headers["date"] != "never" and "upgrade" not in response.headers
    assert response.headers["x-content-type-options"] == "nosniff"


def test_transfer_encoding_is_refused(app):
    """The chunks would be delivered as the body."""
    chunks = b"Transfer-Encoding: chunked\n\n4\r\nbody\r\n0\r\n\r\n"
    assert raw(app, b"Content-Type: text/plain\n" + chunks).status == 502
    assert "it has a Transfer-Encoding" in app.get("/apps/site/log").text
    assert raw(app, chunks).body == chunks  # no head, but text


def far_fields(client, path, **headers):
    """The fields of an answer that would reach further than its app; cookies by themselves."""
    text = (b"Content-Type: text/plain\nSet-Cookie: a=1; Path=/; Domain=localhost\n"
            b"Set-Cookie: b=2; Path=/web/other\nSet-Cookie: __Host-c=3; Path=/; Secure\n"
            b"Run-Id: 1\nClear-Site-Data: \"*\"\nStrict-Transport-Security: max-age=9\n\nbody")
    connection, stream = client.open("POST", path, text, headers=headers)
    fields = []
    with connection, stream:
        assert stream.readline().split()[1] == b"200"
        while line := stream.readline().decode().strip():
            fields.append(line.split(": ", 1))
    return ([value for name, value in fields if name.lower() == "set-cookie"],
            {name.lower() for name, value in fields})


def check_reach(client, server, app):
    """Below /web/ apps share an origin with each other and the control door."""
    whole = {"clear-site-data", "strict-transport-security"}
    cookies, names = far_fields(client, f"/web/{app}/raw")
    assert cookies == [f"a=1; Path=/web/{app}", f"b=2; Path=/web/{app}"]
    assert "content-type" in names and not names & (whole | {"run-id"})
    cookies, names = far_fields(client, "/raw", Host=f"{app}.localhost:{server.port}")
    assert cookies == ["a=1; Path=/", "b=2; Path=/web/other", "__Host-c=3; Path=/; Secure"]
    assert names >= whole and "run-id" not in names


def test_how_far_an_answer_reaches(app, server):
    check_reach(app, server, "site")


@pytest.mark.parametrize("text", [b"plain words\n", b"", b"Result: 42\n", b"<p>html", b"\n\nx",
                                  b"a: b\nno head\n", b"\x00\xff", b"a: b\n\nbody"])
def test_any_output_is_a_page(app, text):
    response = raw(app, text)
    assert response.status == 200 and response.body == text
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_status_without_a_body(app):
    for status in (204, 304):
        response = raw(app, b"Status: %d\nX-One: 1\n\nbody" % status)
        assert response.status == status and response.headers["x-one"] == "1"
        assert response.body == b""


def test_length_of_the_program(app):
    answer = b"Content-Type: text/plain\nContent-Length: %d\n\n0123456789"
    assert raw(app, answer % 10).body == b"0123456789"
    assert raw(app, answer % 4).body == b"0123"
    try:
        assert raw(app, answer % 11).status == 502
    except ConnectionError:
        pass  # the program had not ended yet when its head was complete
    assert raw(app, answer.replace(b"%d", b"4\nContent-Length: 4")).body == b"0123"
    assert raw(app, answer.replace(b"%d", b"x1") % ()).body == b"0123456789"
    long = b"x" * 200000
    assert raw(app, b"Content-Type: a/b\nContent-Length: 200000\n\n" + long).body == long
    assert raw(app, b"Content-Type: a/b\nContent-Length: 100000\n\n" + long).body == long[:100000]
    with pytest.raises(ConnectionError):
        raw(app, b"Content-Type: a/b\nContent-Length: 200001\n\n" + long)
    assert re.search(r" sys an answer was cut: its body is shorter than its Content-Length "
                     r"\(POST /web/site/raw\)$", log_of(app), re.M)


TOO_LONG = "an answer was longer than its Content-Length: the rest was dropped"


@pytest.mark.parametrize("length, more", [(10, 1), (0, 10), (100000, 100000), (0, 100000)])
def test_more_than_its_length_is_logged(app, eventually, length, more):
    """Once, and the client is in step."""
    answer = b"Content-Type: a/b\nContent-Length: %d\n\n" % length
    path = f"/raw?{length}-{more}"
    assert web(app, path, answer + b"x" * (length + more)).body == b"x" * length
    line = f"{TOO_LONG} (POST /web/site{path})"
    eventually(lambda: line in log_of(app))
    eventually(lambda: is_idle(app))
    assert log_of(app).count(line) == 1


def test_more_than_its_length_later_is_logged(app, clean, eventually):
    before = log_of(app).count(TOO_LONG)
    connection, stream = app.open("GET", "/web/site/too_long")
    with connection, stream:
        assert read_response(stream).text == "12345"
    app.put("/apps/site/files/go", b"")
    eventually(lambda: app.get("/apps/site/files/done").status == 200)
    eventually(lambda: is_idle(app))
    assert log_of(app).count(TOO_LONG) == before + 1
    assert f"{TOO_LONG} (GET /web/site/too_long)" in log_of(app)


def test_head(app):
    response = web(app, "/echo", method="HEAD")
    assert response.status == 200 and response.headers["content-type"] == "text/plain"
    connection, stream = app.open("HEAD", "/web/site/flood?100000000")
    with connection, stream:
        assert parse_head(stream)[0] == 200 and stream.read() == b""


@pytest.mark.parametrize("text", [
    b"Content-Type: a/b\n", b"Content-Type: a/b\nno header\n\n", b"Status: 1000\n\n",
    b"Status: 101 Switching Protocols\n\n", b"Status: ok\n\n", b"Location:\n\n",
    b"Content-Type: a/b\nX: a\rb\n\n", b"Content-Type: a/b\nX: \x00\n\n",
    b"Content-Type: a/b\n folded\n\n", b"Content-Type: a/b\nX Y: z\n\n",
    b"Content-Type: a/b\nContent-Type: c/d\n\n", b"Content-Type: a/b\n: x\n\n",
    b"Content-Type: a/b\nContent-Length: 1\nContent-Length: 2\n\nxy",
    b"Content-Type: a/b\n" + b"X: y\n" * 64 + b"\n",
    b"Content-Type: a/b\nX: " + b"y" * 20000 + b"\n\n"])
def test_broken_heads(app, text):
    response = raw(app, text)
    assert response.status == 502 and response.text.startswith("error: the program of this page")
    number = re.search(r"run (\d+)\)", response.text)[1]
    assert re.search(rf" {number} sys bad CGI response: ", log_of(app))
    assert web(app, "/x").text == "program: /x\n"


def test_largest_head(app):
    """It fits, also where the request's head is a large one."""
    fields = b"".join(b"X-%d: %s\n" % (i, b"y" * 240) for i in range(60))
    answer = b"Content-Type: a/b\n" + fields + b"\nbody"
    assert len(answer) < 16384
    for headers in ({}, {f"X-{i}": "z" * 900 for i in range(30)}):
        response = web(app, "/raw", answer, headers=headers)
        assert response.status == 200 and response.body == b"body"
        assert response.headers["x-59"] == "y" * 240


# --- redirects -----------------------------------------------------------------------------------


def test_redirects_of_clients(app):
    response = raw(app, b"Location: https://example.org/x\n\n")
    assert response.status == 302 and response.headers["location"] == "https://example.org/x"
    response = raw(app, b"Status: 303 See Other\nLocation: /web/site/x\n\n")
    assert response.status == 303 and response.headers["location"] == "/web/site/x"
    response = raw(app, b"Location: //example.org/\n\n")
    assert response.status == 302 and response.headers["location"] == "//example.org/"


def test_local_redirects(app):
    response = raw(app, b"Location: /web/site/other%20page?x=y\n\n")
    assert response.status == 200 and response.text == "program: /other page\n"
    seen = environment(raw(app, b"Location: /web/site/env?x=y\n\n"))
    assert seen["REQUEST_METHOD"] == "GET" and seen["QUERY_STRING"] == "x=y"
    assert seen["REQUEST_URI"] == "/web/site/env?x=y" and "CONTENT_LENGTH" not in seen
    assert raw(app, b"Location: /web/site/page.html\n\n").text == "<p>page"


@pytest.mark.parametrize("path", ["/apps", "/web/other/", "/web/site/../../apps", "/web/sitex/",
                                  "/web/site/%2e%2e/other/", "/web/site"])
def test_local_redirect_stays_in_the_app(app, path):
    response = raw(app, f"Location: {path}\n\n".encode())
    assert response.status == 302 and response.headers["location"] == path


def test_local_redirects_end(app, guests):
    app.create("circle", guests.c_text('#include <stdio.h>\nint main(void) {'
                                       'printf("Location: /web/circle/\\n\\n"); return 0; }'))
    response = web(app, "/", name="circle")
    assert response.status == 502 and "redirects" in log_of(app, "circle")


def test_name_without_a_slash(app):
    response = web(app, "?a=b")
    assert response.status == 308 and response.headers["location"] == "/web/site/?a=b"
    assert web(app, "", b"x").text == "program: \n"


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/trap", "/exit?3"])
def test_failure_shows_nothing_of_the_inside(app, path):
    response = web(app, path)
    number = re.fullmatch(r"error: the program of this page failed \(run (\d+)\)\n",
                          response.text)[1]
    assert response.status == 502
    log = app.get(f"/apps/site/log?run={number}").text
    assert SECRET in log and "ended: " in log
    for text in (SECRET, "unreachable", "wasm"):
        assert text not in response.text


def test_success_that_says_nothing(app):
    response = web(app, "/exit?0")
    assert response.status == 200 and response.body == b""


def test_time_is_over(make_server, module):
    server = make_server("--wall", "200ms")
    server.client.create("site", module)
    response = web(server.client, "/spin")
    assert response.status == 504 and "in time" in response.text


def test_library_has_no_pages(app):
    app.create("library", b'(module (func (export "add") (result i32) i32.const 1))')
    response = web(app, "/", name="library")
    assert response.status == 502 and "_start" not in response.text
    assert "no _start" in log_of(app, "library")


def test_program_stops_in_the_middle(app, clean, eventually):
    connection, stream = app.open("GET", "/web/site/half")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        pieces = chunks_of(stream)
        assert next(pieces) == b"half\n"
        app.put("/apps/site/files/go", b"")
        with pytest.raises(ConnectionError):
            list(pieces)
    eventually(lambda: is_idle(app))
    assert re.search(r" sys an answer was cut: the program was ended in the middle of it: trap "
                     r"\(GET /web/site/half\)$", log_of(app), re.M)


def test_file_becomes_shorter(app, clean):
    """What was promised and is not there any more is a cut, and never zeros."""
    length = 64 << 20
    app.put("/apps/site/files/www/large", b"x" * length)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.settimeout(60)
    connection.connect((app.host, app.port))
    connection.sendall(app.head("GET", "/web/site/large"))
    with connection, connection.makefile("rb") as stream:
        status, headers = parse_head(stream)
        assert status == 200 and headers["content-length"] == str(length)
        assert web(app, "/truncate?1000").text == "0\n"
        taken = 0
        try:
            while piece := stream.read(1 << 20):
                assert piece.count(b"x") == len(piece)
                taken += len(piece)
        except ConnectionError:
            pass
        assert taken < length
    assert re.search(r" sys an answer was cut: its file has become shorter meanwhile "
                     r"\(GET /web/site/large\)$", log_of(app), re.M)
    assert web(app, "/large").body == b"x" * 1000
    app.delete("/apps/site/files/www/large")


def test_events(app, clean):
    connection, stream = app.open("GET", "/web/site/events")
    with connection, stream:
        status, headers = parse_head(stream)
        assert status == 200 and headers["content-type"] == "text/event-stream"
        pieces = chunks_of(stream)
        assert next(pieces) == b"data: first\n\n"
        app.put("/apps/site/files/go", b"")
        assert b"".join(pieces) == b"data: second\n\n"


def test_client_leaves(app, clean, eventually):
    """The program goes on."""
    connection, stream = app.open("GET", "/web/site/events")
    with connection, stream:
        assert parse_head(stream)[0] == 200
        assert next(chunks_of(stream)) == b"data: first\n\n"
    app.put("/apps/site/files/go", b"")
    eventually(lambda: app.get("/apps/site/files/done").status == 200)
    eventually(lambda: is_idle(app))


def test_client_leaves_before_the_answer(app, clean, eventually):
    connection, stream = app.open("GET", "/web/site/wait")
    with connection, stream:
        eventually(lambda: app.get("/apps/site/files/waits").status == 200)
    app.put("/apps/site/files/go", b"")
    eventually(lambda: is_idle(app))
    assert "client" not in log_of(app).splitlines()[-1]


def test_client_leaves_in_its_request(app, clean, eventually):
    """Half of a body is not taken for all of it."""
    connection = app.connect()
    connection.sendall(app.head("POST", "/web/site/count", headers={"Content-Length": "1000"})
                       + b"x" * 10)
    eventually(lambda: not is_idle(app))
    connection.close()
    eventually(lambda: is_idle(app))
    assert "ended: client" in log_of(app).splitlines()[-1]


def test_client_leaves_a_flood(app, eventually):
    """Nobody takes it any more: it runs to its end."""
    connection, stream = app.open("GET", f"/web/site/flood?{50 << 20}")
    with connection, stream:
        assert parse_head(stream)[0] == 200
    eventually(lambda: is_idle(app))


def test_too_many_visitors(make_server, module, eventually):
    server = make_server()
    client = server.client
    client.create("site", module, web="public", max_runs="1", queue="1")
    first, first_stream = client.open("GET", "/web/site/wait")
    with first, first_stream:
        eventually(lambda: client.get("/apps/site/files/waits").status == 200)
        second, second_stream = client.open("GET", "/web/site/x")
        with second, second_stream:
            eventually(lambda: re.search(r"^zasm_runs_queued\S* 1$", client.get("/metrics").text,
                                         re.M))
            third = web(client, "/x")
            assert third.status == 503 and third.headers["retry-after"], third
            assert "too many visitors" in third.text
            client.put("/apps/site/files/go", b"")
            assert read_response(first_stream).text == "waited\n"
            assert read_response(second_stream).text == "program: /x\n"


def test_nothing_is_left(server, app, clean, eventually):
    """Descriptors and runs after all kinds of ends."""
    web(app, "/x")
    eventually(lambda: is_idle(app))
    before = server.descriptors()
    for _ in range(20):
        web(app, "/trap")
        raw(app, b"Content-Type: a/b\nbroken")
        web(app, "/page.html")
        raw(app, b"Location: /web/site/page.html\n\n")
        connection, stream = app.open("GET", "/web/site/flood?1000000")
        with connection, stream:
            parse_head(stream)
        connection = app.connect()
        connection.sendall(app.head("POST", "/web/site/count", headers={
            "Content-Length": "1000"}) + b"x")
        connection.close()
        connection = app.connect()
        connection.sendall(app.head("POST", "/web/site/count", headers={
            "Transfer-Encoding": "chunked", "Content-Length": None}) + b"5\r\nhello\r\n")
        connection.close()
    eventually(lambda: is_idle(app))
    eventually(lambda: server.descriptors() <= before)


# --- connections ---------------------------------------------------------------------------------


def test_connection_is_kept(app, server):
    """Pages of all kinds one after the other on one connection."""
    head = f"HTTP/1.1\r\nHost: {server.host}\r\n"
    large = b"x" * 300000
    requests = [
        (f"GET /web/site/x {head}\r\n".encode(), 200, b"program: /x\n"),
        (f"POST /web/site/echo {head}Content-Length: {len(large)}\r\n\r\n".encode() + large,
         200, large),
        (f"GET /web/site/flood?500000 {head}\r\n".encode(), 200, b"x" * 500000),
        (f"POST /web/site/early {head}Content-Length: 100000\r\n\r\n".encode() + large[:100000],
         200, b"early\n"),
        (f"GET /web/site/page.html {head}\r\n".encode(), 200, b"<p>page"),
        (f"GET /web/site/trap {head}\r\n".encode(), 502, None),
        (f"POST /web/site/count {head}Transfer-Encoding: chunked\r\n\r\n".encode()
         + chunked(large, 7000), 200, b"300000\n"),
        (f"GET /web/site/docs {head}\r\n".encode(), 301, None),
        (f"GET /web/nobody/ {head}\r\n".encode(), 404, None),
    ]
    with app.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(5):
            for text, status, body in requests:
                connection.sendall(text)
                response = read_response(stream)
                assert response.status == status and body in (None, response.body), text[:60]
                assert "connection" not in response.headers, text[:60]


def test_pages_in_a_pipeline(app, server):
    count = 60
    text = "".join(f"GET /web/site/{n} HTTP/1.1\r\nHost: {server.host}\r\n\r\n" for n in
                   range(count))
    with app.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(text.encode())
        for n in range(count):
            assert read_response(stream).text == f"program: /{n}\n"


def test_curl(app, server, tmp_path):
    """One connection for several pages; bodies with a length, and as they come."""
    base = f"{server.url}/web/site"
    lines = curl("-w", "%{num_connects} %{http_code}\n", *(f"{base}/{n}" for n in range(20)))
    expected = "".join(f"program: /{n}\n{int(n == 0)} 200\n" for n in range(20))
    assert lines.decode() == expected
    body = os.urandom(3 << 20)
    (tmp_path / "body").write_bytes(body)
    assert curl("--data-binary", f"@{tmp_path}/body", f"{base}/echo") == body
    assert curl("-X", "POST", "-T", "-", f"{base}/echo", stdin=body) == body  # in chunks
    assert curl("-r", "1-3", f"{base}/page.html") == b"p>p"
    assert curl("-L", f"{base}/docs") == b"<p>index"


def test_wrk(app, server):
    if not shutil.which("wrk"):
        pytest.skip("wrk is not installed")
    for path in ("x", "page.html"):
        text = subprocess.run(["wrk", "-t1", "-c32", "-d1s", "--timeout", "120s",
                               f"{server.url}/web/site/{path}"],
                              check=True, capture_output=True, text=True).stdout
        assert int(re.search(r"(\d+) requests in", text)[1]) > 0
        assert "Socket errors" not in text and "Non-2xx" not in text, text


# --- files ---------------------------------------------------------------------------------------


def test_files(app):
    response = web(app, "/page.html")
    assert response.status == 200 and response.text == "<p>page"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["etag"] and response.headers["cache-control"] == "no-cache"
    assert web(app, "/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert web(app, "/a%20b.txt").text == "blank"
    head = web(app, "/page.html", method="HEAD")
    assert head.status == 200 and head.headers["content-length"] == "7" and head.body == b""


def test_files_that_are_known(app):
    first = web(app, "/page.html")
    for header, value in (("If-None-Match", first.headers["etag"]), ("If-None-Match", "*"),
                          ("If-Modified-Since", first.headers["last-modified"])):
        response = web(app, "/page.html", headers={header: value})
        assert response.status == 304 and response.headers["etag"] == first.headers["etag"]
    for header, value in (("If-None-Match", '"x"'), ("If-Modified-Since", "yesterday"),
                      ("If-Modified-Since", "Sun, 06 Nov 1960 08:49:37 GMT")):
        assert web(app, "/page.html", headers={header: value}).status == 200


OLD, NEW = "Sun, 06 Nov 1960 08:49:37 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
# What a GET of a file is answered; ETAG, MODIFIED stand for what it has (RFC 9110 section 13).
CONDITIONS = [
    ({"If-Match": "ETAG"}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"x", ETAG'}, 200),
    ({"If-Match": '"x"'}, 412), ({"If-Match": "W/ETAG"}, 412),
    ({"If-Match": '"x"', "If-None-Match": "ETAG"}, 412),
    ({"If-Match": "ETAG", "If-None-Match": "ETAG"}, 304),
    ({"If-Unmodified-Since": "MODIFIED"}, 200), ({"If-Unmodified-Since": OLD}, 412),
    ({"If-Unmodified-Since": "never"}, 200),
    ({"If-Match": "ETAG", "If-Unmodified-Since": OLD}, 200),
    ({"If-None-Match": "W/ETAG"}, 304), ({"If-None-Match": '"x"'}, 200),
    ({"If-None-Match": '"x"', "If-Modified-Since": NEW}, 200),
    ({"If-Modified-Since": NEW}, 304), ({"If-Modified-Since": OLD}, 200),
    ({"If-Modified-Since": "Friday, 01-Jan-38 00:00:00 GMT"}, 304),
    ({"If-Modified-Since": "Fri Jan  1 00:00:00 2100"}, 304),
    ({"If-Modified-Since": "Sun Nov  6 08:49:37 1960"}, 200),
    ({"If-Range": "ETAG", "Range": "bytes=0-2"}, 206),
    ({"If-Range": "W/ETAG", "Range": "bytes=0-2"}, 200),
    ({"If-Range": '"x"', "Range": "bytes=0-2"}, 200), ({"If-Range": '"x"'}, 200),
    ({"If-Range": "MODIFIED", "Range": "bytes=0-2"}, 206),
    ({"If-Range": OLD, "Range": "bytes=0-2"}, 200), ({"If-Range": NEW, "Range": "bytes=0-2"}, 200),
    ({"If-Match": '"x"', "Range": "bytes=0-2"}, 412),
    ({"If-None-Match": "ETAG", "Range": "bytes=0-2"}, 304),
    ({"If-None-Match": "ETAG", "Range": "bytes=99-"}, 304),
]


@pytest.mark.parametrize("fields,status", CONDITIONS)
def test_conditions(app, fields, status):
    first = web(app, "/page.html").headers
    headers = {name: value.replace("ETAG", first["etag"]).replace("MODIFIED", first["last-modified"])
               for name, value in fields.items()}
    for method in ("GET", "HEAD"):
        response = web(app, "/page.html", method=method, headers=headers)
        wanted = 200 if status == 206 and method == "HEAD" else status
        assert response.status == wanted, (method, response)
        if status != 412:
            assert response.headers["etag"] == first["etag"]
    if status == 412:
        assert web(app, "/page.html", headers=headers).text.startswith("error: ")


def test_ranges(app):
    huge = "9" * 40
    for header, status, body in (("bytes=0-2", 206, b"<p>"), ("bytes=3-", 206, b"page"),
                                 ("bytes=-4", 206, b"page"), ("bytes=9-", 416, None),
                                 (f"bytes=0-{huge}", 206, b"<p>page"), ("Bytes=3-3", 206, b"p"),
                                 (f"bytes=-{huge}", 206, b"<p>page"),
                                 (f"bytes={huge}-", 416, None), (f"bytes={huge}-{huge}", 416, None),
                                 (f"bytes=0-{huge}x", 200, b"<p>page"),
                                 ("bytes=0-1,3-4", 200, b"<p>page"), ("x", 200, b"<p>page")):
        response = web(app, "/page.html", headers={"Range": header})
        assert response.status == status and body in (None, response.body), header
    head = web(app, "/page.html", method="HEAD", headers={"Range": "bytes=0-2"})
    assert head.status == 200 and head.headers["content-length"] == "7"


def count_fields(client, method, path, **headers):
    """How often each field is in a head, and what they say."""
    connection, stream = client.open(method, path, headers=headers)
    fields = {}
    with connection, stream:
        status = int(stream.readline().split()[1])
        while line := stream.readline().decode().strip():
            name, value = line.split(":", 1)
            fields.setdefault(name.lower(), []).append(value.strip())
    return status, fields


def test_fields_are_given_once(app, server):
    for path, headers in (("/web/site/page.html", {}), ("/apps/site/files/www/page.html", {}),
                          ("/page.html", {"Host": f"site.localhost:{server.port}"})):
        status, fields = count_fields(app, "GET", path, Range="bytes=100-", **headers)
        assert status == 416 and all(len(values) == 1 for values in fields.values()), fields
        assert fields["content-range"] == ["bytes */7"]
        assert "content-security-policy" in fields


def test_names_with_a_dot_are_no_pages(client, module):
    hidden = [".env", ".git/config", "a/.htpasswd", ".well-known/.x", "a/.well-known/y", "..x"]
    shown = [".well-known/security.txt", "a.b/c.", "a/b..c"]
    client.create("dots", tar_of({"app.wasm": module, **{
        f"www/{name}": "the file" for name in hidden + shown}}), web="public")
    for name in hidden:
        for path in (name, name.replace(".", "%2e"), f"/{name}", f"a/../{name}"):
            assert web(client, f"/{path}", name="dots").text.startswith("program: /"), path
    for name in shown:
        assert web(client, f"/{name}", name="dots").text == "the file", name


def test_index(app):
    assert web(app, "/docs/").text == "<p>index"
    response = web(app, "/docs?x=y")
    assert response.status == 301 and response.headers["location"] == "/web/site/docs/?x=y"
    assert web(app, "/").text == "program: /\n"


def test_what_is_no_file_is_the_programs(app):
    for path in ("/nothing", "/page.html/", "/page.html/x", "/docs/nothing", "/hidden.txt",
                 "/www/page.html", "/" + "x" * 300):
        assert web(app, path).text == f"program: {path}\n"
    assert web(app, "/page.html", b"x").text == "program: /page.html\n"


def test_volume_lies_over_the_version(app):
    app.put("/apps/site/files/www/new.html", b"new")
    assert web(app, "/new.html").text == "new"
    app.put("/apps/site/files/www/style.css", b"changed")
    assert web(app, "/style.css").text == "changed"
    app.delete("/apps/site/files/www/style.css")
    assert web(app, "/style.css").text == "program: /style.css\n"


def test_links_do_not_lead_out_of_www(app, guests):
    app.create("links", guests.c_text(
        '#include <unistd.h>\n#include <sys/stat.h>\nint main(void) { mkdir("/www", 0755);'
        ' symlink("../hidden", "/www/out"); symlink("in.txt", "/www/link");'
        ' symlink("loop", "/www/loop"); return 0; }'))
    app.put("/apps/links/files/hidden", b"hidden")
    app.put("/apps/links/files/www/in.txt", b"inside")
    app.run("links")
    assert web(app, "/link", name="links").text == "inside"
    assert web(app, "/out", name="links").text == ""
    assert web(app, "/loop", name="links").text == ""


def test_www_may_be_a_link(app, guests):
    app.create("linked", guests.c_text(
        '#include <stdio.h>\n#include <unistd.h>\n'
        'int main(void) { symlink("public", "/www"); puts("program"); return 0; }'))
    app.put("/apps/linked/files/public/page.txt", b"a file")
    assert web(app, "/page.txt", name="linked").text == "program\n"
    assert web(app, "/page.txt", name="linked").text == "a file"


# --- who may see it, and where -------------------------------------------------------------------


def host(server, name):
    return {"Host": f"{name}:{server.port}"}


def test_host_names(app, server, module):
    app.create("under_score", module)
    for name in ("under_score.localhost", "under-score.localhost", "UNDER-Score.LocalHost"):
        seen = environment(app.get("/env?q", headers=host(server, name)))
        assert seen["SCRIPT_NAME"] == "" and seen["PATH_INFO"] == "/env", name
        assert seen["SERVER_NAME"] == name and seen["REQUEST_URI"] == "/env?q"
    response = app.get("/docs", headers=host(server, "site.localhost"))
    assert response.status == 301 and response.headers["location"] == "/docs/"
    response = app.get("//example.org/..//docs", headers=host(server, "site.localhost"))
    assert response.headers["location"] == "/docs/"


@pytest.mark.parametrize("path", ["/apps", "/", "/run?name=site", "/healthz", "/metrics", "/proc"])
def test_host_name_has_no_control_door(app, server, path):
    for method in ("GET", "POST", "DELETE"):
        response = app.request(method, path, headers=host(server, "site.localhost"))
        assert response.text == f"program: {path.split('?')[0]}\n"
        response = app.request(method, path, headers=host(server, "nobody.localhost"))
        assert response.status == 404
        response = app.request(method, path, headers=host(server, "a.site.localhost"))
        assert response.status == 404


def test_sandbox(app, server):
    """Below /web a page has no origin; by host name it has one of its own."""
    for path in ("/x", "/page.html"):
        policy = web(app, path).headers["content-security-policy"]
        assert policy.startswith("sandbox ") and "allow-same-origin" not in policy
        response = app.get(path, headers=host(server, "site.localhost"))
        assert response.status == 200 and "content-security-policy" not in response.headers


def test_domain(make_server, module):
    server = make_server("--domain", "cloud.example")
    server.client.create("site", module)
    for name in ("site.cloud.example", "SITE.Cloud.Example", "site.localhost"):
        assert server.client.get("/x", headers=host(server, name)).text == "program: /x\n"
    assert server.client.get("/x", headers=host(server, "site.example")).status == 421
    assert server.client.get("/apps", headers=host(server, "cloud.example")).status == 200


FOREIGN = [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"},
           {"Origin": "null"}, {"X-Forwarded-For": "192.0.2.1"}]


@pytest.fixture(scope="module")
def doors(server, module):
    for who in ("off", "private", "public"):
        server.client.create(f"door_{who}", module, web=who)
    server.client.create("door_default", module)


@pytest.mark.parametrize("headers", FOREIGN)
def test_who_may(app, server, doors, headers):
    for name in ("door_private", "door_default"):
        assert web(app, "/x", name=name).status == 200
        assert web(app, "/x", name=name, headers=headers).status == 403
        by_host = {**headers, **host(server, f"{name}.localhost")}
        assert app.get("/x", headers=by_host).status == 403
    assert web(app, "/x", name="door_public", headers=headers).status == 200
    assert app.get("/x", headers={**headers, "Host": "door-public.localhost"}).status == 200
    assert web(app, "/x", name="door_off").status == 404
    for name in ("door_off", "nobody", "BAD", "a.b"):
        assert web(app, "/x", name=name).status == 404
        assert web(app, "/x", name=name, headers=headers).status == 403  # tells nothing


def test_own_origin(app, server, doors):
    for name in ("door-private.localhost", "door_default.localhost"):
        origin = {"Origin": f"http://{name}:{server.port}", "Sec-Fetch-Site": "same-origin"}
        assert app.get("/x", headers={**host(server, name), **origin}).status == 200
    response = web(app, "/x", name="door_private", headers={"Sec-Fetch-Site": "cross-site"})
    assert "0asm open door_private" in response.text


def test_foreign_host(app, doors):
    assert web(app, "/x", name="door_private", headers={"Host": "evil.example"}).status == 421
    assert web(app, "/x", name="door_public", headers={"Host": "evil.example"}).status == 200


TOKEN = "zasm_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"


def test_tokens(make_server, module):
    server = make_server(listen="0.0.0.0:0", environment={"ZASM_TOKEN": TOKEN})
    client = Client("127.0.0.1", server.port)
    token = {"Authorization": f"Bearer {TOKEN}"}
    for name in ("private", "public"):
        assert client.request("POST", f"/create?name={name}&web={name}", module,
                              headers=token).status == 201
    assert web(client, "/x", name="private").status == 401
    assert web(client, "/x", name="nobody").status == 401
    assert web(client, "/x", name="public").status == 200
    for name in ("private", "public"):
        seen = environment(web(client, "/env", name=name, headers=token))
        assert "HTTP_AUTHORIZATION" not in seen and TOKEN not in str(seen)
    seen = environment(web(client, "/env", name="public", headers={"Authorization": "Basic eDp5"}))
    assert seen["HTTP_AUTHORIZATION"] == "Basic eDp5"


def test_listener_of_the_web_door(make_server, module):
    server = make_server("--web", "127.0.0.1:0")
    server.client.create("site", module)
    line = server.process.stdout.readline()
    door = Client("127.0.0.1", int(re.match(r"web door on http://127.0.0.1:(\d+)$", line)[1]))
    assert web(door, "/x").text == "program: /x\n"
    assert door.get("/x", headers={"Host": "site.localhost"}).text == "program: /x\n"
    for path in ("/", "/apps", "/run?name=site", "/healthz", "/metrics", "/web", "/web/",
                 "/web/site/../../apps"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert door.request(method, path).status == 404, path
    assert server.stop() == 0


def test_listener_for_strangers(make_server, module):
    server = make_server("--web", "0.0.0.0:0")
    server.client.create("private", module)
    server.client.create("public", module, web="public")
    door = Client("127.0.0.1", int(server.process.stdout.readline().rsplit(":", 1)[1]))
    assert web(door, "/x", name="public").status == 200
    assert web(door, "/x", name="private").status == 401
    assert web(server.client, "/x", name="private").status == 200


def test_behind_a_proxy(make_server, module):
    server = make_server("--trust-proxy", "127.0.0.1", "--domain", "cloud.example",
                         environment={"ZASM_TOKEN": TOKEN})
    client = server.client
    client.request("POST", "/create?name=site&web=public", module,
                   headers={"Authorization": f"Bearer {TOKEN}"})
    seen = environment(client.get("/env", headers={
        "Host": "site.cloud.example", "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "192.0.2.9"}))
    assert seen["HTTPS"] == "on" and seen["SERVER_PORT"] == "443"
    assert seen["HTTP_X_FORWARDED_FOR"] == "192.0.2.9"


# --- languages -----------------------------------------------------------------------------------


def test_go(app, server, guests):
    app.create("go_cgi", guests.go("cgi"), web="public")
    response = web(app, "/a/b?x=y", b"hello", name="go_cgi", headers={
        "Content-Type": "text/plain", "Cookie": "c=d"})
    assert response.status == 200, response
    assert response.text == (f"POST /web/go_cgi/a/b host={server.host}:{server.port} "
                             "type=text/plain cookie=c=d length=5 body=hello\n")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert web(app, "/?do=missing", name="go_cgi").status == 404
    response = web(app, "/?do=redirect", name="go_cgi")
    assert response.status == 303 and response.headers["location"] == "/elsewhere"
    large = b"x" * (1 << 20)
    assert web(app, "/", large, name="go_cgi").body.endswith(b"body=" + large + b"\n")


def test_python(app, guests):
    app.create("wsgi", tar_of({"app.wasm": guests.python(), "wsgi.py": textwrap.dedent("""
        from wsgiref.handlers import CGIHandler

        def page(environ, start_response):
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("201 Created", [("Content-Type", "text/html"), ("X-Python", "yes")])
            yield f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} ".encode()
            yield body

        CGIHandler().run(page)
        """)}), arg="/wsgi.py", web="public")
    response = web(app, "/some/page?x=y", b"words", name="wsgi")
    assert response.status == 201 and response.text == "POST /some/page words", response
    assert response.headers["x-python"] == "yes"
