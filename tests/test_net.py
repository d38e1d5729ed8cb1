"""The network as files: /net/http, /net/request, /net/tcp and their policy."""

import os
import queue
import re
import socket
import ssl
import threading

import pytest

from support.peers import Authority, Peer, Streams


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server(build, tmp_path_factory, authority):
    """In place of the usual one: guests reach this machine, by two names of it."""
    from conftest import Server

    state = tmp_path_factory.mktemp("state") / "state"
    running = Server(build, state, "--allow-private=127.0.0.1", "--allow-private=localhost",
                     f"--ca-file={authority.file}", "--net-connections=40").start()
    yield running
    alive = running.process.poll() is None
    status = running.stop() if alive else running.process.returncode
    log = running.read_log()
    assert alive and status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.stop()


@pytest.fixture
def tls_peer(authority):
    peer = Peer(context=authority.context("DNS:localhost,IP:127.0.0.1"))
    yield peer
    peer.stop()


@pytest.fixture
def streams():
    made = []

    def make(handle, context=None):
        made.append(Streams(handle, context))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def net(client, guests):
    """Runs the guest and returns its output; `fails` says whether it should."""
    client.create("net", guests.c("net"))

    def run(*arguments, stdin=b"", fails=False, **options):
        response = client.run("net", *arguments, stdin=stdin, **options)
        assert (response.trailers["run-exit"] != "0") == fails, response
        return response.body.decode()

    return run


def request(net, text, body=b"", **options):
    """One request through /net/request: status, fields, body."""
    answer = net("talk", "/net/request", stdin=text.replace("\n", "\r\n").encode() + body,
                 **options)
    head, _, rest = answer.partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines)
    assert re.fullmatch(r"HTTP/1\.1 \d{3} .*", status), answer
    assert fields["Connection"] == "close"
    return int(status.split()[1]), fields, rest


def log_of(client, name="net"):
    return client.get(f"/apps/{name}/log").text


# ---- files -------------------------------------------------------------------------------------


def test_reading_is_a_get(net, peer):
    assert net("get", f"/net/http/{peer.host}/a/b?c=d/e?f") == "hello /a/b?c=d/e?f\n"
    assert net("get", f"/net/http/{peer.host}") == "hello /\n"
    assert net("get", f"/net/http/{peer.host}/a/") == "hello /a/\n"
    assert net("get", f"/net/http/{peer.host}/a/b//") == "hello /a/b/\n"
    assert net("get", f"/net/http/{peer.host}/") == "hello /\n"
    assert net("get", f"/net/http/{peer.host}/a?b=c/") == "hello /a?b=c/\n"
    for path in ("request/", "tcp/127.0.0.1:1/", f"http/{peer.host}/a/."):
        assert "Not a directory" in net("get", f"/net/{path}", fails=True)
    assert "Is a directory" in net("get", "/net/http/", fails=True)
    for query in ("x=../y", "x=a/../../../..", "back=http://a/./b//c/..", "q=" + "z" * 3000, "/?/.."):
        assert net("get", f"/net/http/{peer.host}/a/./b?{query}") == f"hello /a/b?{query}\n"
    for path in ("a/../b", "a/../b?c", "a/" * 40):
        assert "a URL's path has at most 30 names, and no '..' before its '?'" in net(
            "get", f"/net/http/{peer.host}/{path}", fails=True)
    assert net("get", f"/net/http/{peer.host}/?q") == "hello /?q\n"
    assert net("get", f"/net/http/{peer.host}/a/?") == "hello /a/?\n"
    assert net("get", f"/net/http/{peer.host}/a b%20c%2Fd%zz#e") == "hello /a%20b%20c%2Fd%25zz%23e\n"
    assert net("get", f"/net/http/{peer.host}/\u00e4") == "hello /%C3%A4\n"
    assert net("get", f"/net/http/localhost:{peer.port}/x") == "hello /x\n"
    assert net("get", f"/net/http/{peer.host}/chunks/3") == "piece 0\npiece 1\npiece 2\n"
    assert {method for method, *_ in peer.requests} == {"GET"}


def test_writing_first_is_a_post(net, peer):
    lines = net("post", f"/net/http/{peer.host}/echo", "some text").splitlines()
    assert lines[0] == "POST /echo 9 some text"
    assert "Content-Length: 9" in lines
    lines = net("talk", f"/net/http/{peer.host}/echo", stdin=b"x" * 100000).splitlines()
    assert lines[0].startswith("POST /echo 100000 xxx")
    assert "Content-Length: 100000" in lines


def test_a_large_post_is_sent_as_it_comes(net, peer):
    body = b"y" * (3 << 20)
    lines = net("talk", f"/net/http/{peer.host}/echo", stdin=body).splitlines()
    assert lines[0].startswith(f"POST /echo {len(body)} yyy")
    assert "Transfer-Encoding: chunked" in lines


def test_what_is_not_read_is_not_sent(client, net, peer):
    net("drop", f"/net/http/{peer.host}/echo", "never")
    assert "a POST to 127.0.0.1 was not made" in log_of(client)
    net("get", f"/net/http/{peer.host}/after")
    assert [path for _, path, *_ in peer.requests] == ["/after"]


def test_looking_makes_no_traffic(net, peer):
    assert net("look", f"/net/http/{peer.host}/a") == "character 0\n"
    assert net("look", "/net/request") == "character 0\n"
    assert net("look", f"/net/tcp/{peer.host}") == "socket 0\n"
    assert net("look", "/net/http") == "directory 0\n"
    assert net("look", "/net") == "directory 0\n"
    assert "No such file" in net("look", "/net/nothing", fails=True)
    assert peer.connections == []


@pytest.mark.parametrize("status, says", [
    (404, "No such file or directory"), (410, "No such file or directory"),
    (401, "Permission denied"), (403, "Permission denied"), (500, "I/O error"),
    (400, "I/O error"), (304, "I/O error"), (429, "I/O error"), (300, "I/O error")])
def test_a_response_that_is_no_success_is_an_error(net, peer, status, says):
    text = net("get", f"/net/http/{peer.host}/status/{status}", fails=True)
    assert text.startswith(f"read: {says}: 127.0.0.1 answered {status} ")


def test_failures_of_the_network_are_errors(net, peer):
    def get(url):
        return net("get", url, fails=True)

    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    assert get(f"/net/http/127.0.0.1:{port}/x").startswith("read: I/O error: 127.0.0.1 port")
    assert get("/net/http/name.invalid/x").startswith("read: Host is unreachable: the name name.inv")
    assert get("/net/http/10.0.0.1/x").startswith("read: Operation not permitted: 10.0.0.1 is a pri")
    assert get(f"/net/http/{peer.host}/cut").startswith("only thisread: I/O error: ")
    assert get(f"/net/http/{peer.host}/cutchunks").startswith("helloread: I/O error: ")
    assert get("/net/http/a..b/x").startswith("open: Invalid argument: the host has")
    peer.raw = b"this is no HTTP\r\n\r\n"
    assert get(f"/net/http/{peer.host}/raw").startswith("read: I/O error: ")
    peer.raw = b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000 + b"\r\n"
    assert get(f"/net/http/{peer.host}/raw").startswith("read: I/O error: the response's head has")
    peer.raw = b""
    assert get(f"/net/http/{peer.host}/raw").startswith("read: I/O error: ")


# ---- redirects ---------------------------------------------------------------------------------


def test_redirects_are_followed_hop_by_hop(net, peer):
    peer.locations.update(a=f"http://localhost:{peer.port}/b?c#d", b="/x/../there", c="?y")
    assert net("get", f"/net/http/{peer.host}/redirect/301?a") == "hello /b?c\n"
    assert net("get", f"/net/http/{peer.host}/redirect/307?b") == "hello /there\n"
    assert net("post", f"/net/http/{peer.host}/redirect/303?b", "text") == "hello /there\n"
    assert peer.requests[-1][0] == "GET"
    assert "a POST is redirected (307)" in net(
        "post", f"/net/http/{peer.host}/redirect/307?b", "text", fails=True)
    assert "more than 10 redirects" in net("get", f"/net/http/{peer.host}/loop/0", fails=True)


@pytest.mark.parametrize("location", [
    "http://10.0.0.1/", "http://169.254.169.254/latest/", "http://[::1]:{port}/",
    "http://127.0.0.2:{port}/", "http://[::ffff:127.0.0.2]:{port}/", "//192.168.0.1/",
    "http://0.0.0.0:{port}/", "http://[fe80::1]/", "http://100.64.0.1/"])
def test_each_hop_is_checked(client, net, peer, location):
    peer.locations["to"] = location.format(port=peer.port)
    text = net("get", f"/net/http/{peer.host}/redirect/302?to", fails=True)
    assert text.startswith("read: Operation not permitted: redirected to http://")
    assert "net: refused" in log_of(client).splitlines()[-5:][0] + log_of(client)
    assert len(peer.requests) == 1


@pytest.mark.parametrize("location", [
    "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "http://user@127.0.0.1/",
    "http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://127.0.0.1%00/", "javascript:1",
    "http://127.0.0.1:{port}@10.0.0.1/", "http://[::1%25lo]/", "\\\\127.0.0.1\\x"])
def test_odd_locations_are_not_followed(net, peer, location):
    peer.locations["to"] = location.format(port=peer.port)
    assert net("get", f"/net/http/{peer.host}/redirect/302?to",
               fails=True).startswith("read: I/O error: a redirect is not followed: ")
    assert len(peer.requests) == 1


def test_a_redirect_that_leads_to_nothing_is_named(net, peer):
    peer.locations["to"] = "/status/404"
    assert f": redirected to http://{peer.host}/status/404: 127.0.0.1 answered 404" in net(
        "get", f"/net/http/{peer.host}/redirect/302?to", fails=True)


def test_https_does_not_lead_to_http(net, peer, tls_peer):
    tls_peer.locations["to"] = f"http://{peer.host}/"
    assert "from https to http" in net(
        "get", f"/net/https/{tls_peer.host}/redirect/302?to", fails=True)
    peer.locations["to"] = f"https://{tls_peer.host}/x"
    assert net("get", f"/net/http/{peer.host}/redirect/302?to") == "hello /x\n"


# ---- TLS ---------------------------------------------------------------------------------------


def test_tls_is_verified(net, tls_peer, authority, tmp_path):
    assert net("get", f"/net/https/{tls_peer.host}/x") == "hello /x\n"
    assert net("get", f"/net/https/localhost:{tls_peer.port}/x") == "hello /x\n"
    other_name = Peer(context=authority.context("DNS:example.org"))
    other_authority = Peer(context=Authority(tmp_path).context("DNS:localhost,IP:127.0.0.1"))
    plain = Peer()
    for wrong in (other_name, other_authority, plain):
        text = net("get", f"/net/https/localhost:{wrong.port}/x", fails=True)
        assert text.startswith("read: I/O error"), text
        assert wrong.requests == []
        text = net("shut", f"/net/tls/localhost:{wrong.port}", fails=True)
        assert re.match(r"(write|shutdown|read): (I/O error|Connection reset by peer)", text), text
        wrong.stop()


# ---- /net/request ------------------------------------------------------------------------------


def test_any_request(net, peer):
    status, fields, body = request(
        net, f"PATCH http://{peer.host}/echo?a HTTP/1.1\nHost: {peer.host}\nX-One: 1\nX-Two:\n"
             "User-Agent: mine\nContent-Length: 3\n\n", b"abc")
    assert (status, fields["Content-Length"]) == (200, str(len(body)))
    lines = body.splitlines()
    assert lines[0] == "PATCH /echo?a 3 abc"
    assert sorted(lines[1:]) == sorted([f"Host: {peer.host}", "X-One: 1", "X-Two: ",
                                        "User-Agent: mine", "Content-Length: 3"])
    status, fields, body = request(net, f"HEAD http://{peer.host}/echo HTTP/1.1\n\n")
    assert status == 200 and int(fields["Content-Length"]) > 0 and body == ""
    status, _, body = request(
        net, f"POST http://{peer.host}/echo HTTP/1.1\nTransfer-Encoding: chunked\n\n"
             "3\nabc\n5;x\ndefgh\n0\nX: y\n\n")
    assert body.startswith("POST /echo 8 abcdefgh\n")
    status, fields, body = request(net, f"GET http://{peer.host}/chunks/2 HTTP/1.1\n\n")
    assert body == "piece 0\npiece 1\n"
    assert "Transfer-Encoding" not in fields and "X-Trailer" not in fields
    status, _, body = request(net, f"GET http://{peer.host}/status/418 HTTP/1.1\n\n")
    assert (status, body) == (418, "no\n")
    peer.locations["to"] = "/elsewhere"
    status, fields, _ = request(net, f"GET http://{peer.host}/redirect/302?to HTTP/1.1\n\n")
    assert (status, fields["Location"]) == (302, "/elsewhere")
    status, _, _ = request(net, f"DELETE http://{peer.host}/x HTTP/1.1\n\n")
    assert peer.requests[-1][0] == "DELETE"
    assert "Content-Length" not in peer.requests[-1][2]
    request(net, f"POST http://{peer.host}/x HTTP/1.1\n\n")
    assert peer.requests[-1][2]["Content-Length"] == "0"


def test_failures_are_responses(net, peer):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    for target, expected in [(f"http://127.0.0.1:{port}/", 502), ("http://name.invalid/", 502),
                             ("http://10.0.0.1/", 403), ("http://127.1/", 400), ("/x", 400),
                             ("ftp://a/", 400), (f"http://{peer.host}/raw", 502)]:
        status, fields, body = request(net, f"GET {target} HTTP/1.1\n\n")
        assert status == expected, (target, body)
        assert body == f"error: {fields['0asm-Error']}\n"
    for text in ["", "GET", "nonsense\n\n", f"GET http://{peer.host}/ HTTP/1.1\nHost: other\n\n",
                 f"GET http://{peer.host}/ HTTP/1.1\nX: a\x00b\n\n"]:
        assert request(net, text)[0] == 400
    status, fields, _ = request(
        net, f"POST http://{peer.host}/ HTTP/1.1\nTransfer-Encoding: chunked\n\nzz\n")
    assert (status, fields["0asm-Error"]) == (400, "a chunk's size is no hexadecimal number")
    peer.raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc"
    status, fields, _ = request(net, f"GET http://{peer.host}/raw HTTP/1.1\n\n")
    assert (status, fields["0asm-Error"]) == (502, "127.0.0.1 sent a response with two lengths")


@pytest.mark.parametrize("head, body, why", [
    ("GET http://{} HTTP/1.1\n\n", b"abc", "the request has a body, and neither"),
    ("POST http://{} HTTP/1.1\n\n", b"abc", "the request has a body, and neither"),
    ("POST http://{} HTTP/1.1\nContent-Length: 2\n\n", b"abc",
     "the request's body is longer than its Content-Length"),
    ("POST http://{} HTTP/1.1\nContent-Length: 0\n\n", b"abc",
     "the request's body is longer than its Content-Length"),
    ("POST http://{} HTTP/1.1\nTransfer-Encoding: chunked\n\n", b"1\r\na\r\n0\r\n\r\nb",
     "the request goes on after its last chunk")])
def test_more_than_the_request(client, net, peer, guests, head, body, why):
    """Whether it is written with the head or later."""
    status, fields, _ = request(net, head.format(peer.host + "/echo"), body)
    assert status == 400 and fields["0asm-Error"].startswith(why)
    client.create("pieces", guests.c_text(PIECES))
    head = head.format(peer.host + "/echo").replace("\n", "\r\n")
    text = client.run("pieces", stdin=head.encode() + body).text
    assert text.startswith("HTTP/1.1 400 Bad Request") and f"\nerrstr: {why}" in text, text


def test_more_than_the_request_after_the_response_began(client, guests, streams):
    def handle(connection):
        received = b""
        while not received.endswith(b"\r\n\r\na"):
            received += connection.recv(100)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst")
        while connection.recv(100):
            pass

    client.create("pieces", guests.c_text(PIECES))
    server = streams(handle)
    head = f"POST http://127.0.0.1:{server.port}/ HTTP/1.1\r\nContent-Length: 2\r\n\r\na"
    text = client.run("pieces", str(len(head)), stdin=head.encode() + b"bmore").text
    assert text == ("H-1 Invalid argument\n"
                    "errstr: the request's body is longer than its Content-Length\n"), text


# Writes its input byte by byte; before the byte of the number in argv[1] it reads one.
PIECES = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    int file = open("/net/request", O_RDWR), at = 0, pause = argc > 1 ? atoi(argv[1]) : -1;
    char piece[1024];
    while (read(0, piece, 1) == 1) {
        char first;
        if (at++ == pause && read(file, &first, 1) == 1) putchar(first);
        if (write(file, piece, 1) != 1) return perror("write"), 1;
    }
    ssize_t length;
    while ((length = read(file, piece, sizeof piece)) > 0) fwrite(piece, 1, length, stdout);
    if (length < 0) printf("%zd %s", length, strerror(errno));
    FILE *why = fopen("/proc/self/errstr", "r");
    length = fread(piece, 1, sizeof piece, why);
    printf("\nerrstr: %.*s", (int)length, piece);
    return 0;
}
"""


def test_an_injected_field_stays_text(net, peer):
    """CR and LF end a line for the guest too: it can only say what it could say anyway."""
    for target in ["/a\rX: y", "/a%0d%0aX:%20y"]:
        net("get", f"/net/http/{peer.host}{target}", fails="\r" in target)
    for _, path, fields, _ in peer.requests:
        assert "X" not in fields and "\r" not in path
    status, _, _ = request(net, f"GET http://{peer.host}/ HTTP/1.1\nX-A: a\rX-B: b\n\n")
    assert status == 400


BOTH_WAYS = r"""
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>
#include <stdlib.h>

/* Writes a part of the body, reads the head and a piece, writes the rest. */
int main(int argc, char **argv) {
    int file = open("/net/request", O_RDWR);
    char text[4096];
    int length = snprintf(text, sizeof text,
                          "POST http://%s/ HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc", argv[1]);
    if (write(file, text, length) != length) return 1;
    ssize_t got = read(file, text, sizeof text - 1);
    if (got <= 0) return 2;
    text[got] = 0;
    while (!strstr(text, "first")) {
        ssize_t more = read(file, text + got, sizeof text - 1 - got);
        if (more <= 0) return 3;
        got += more;
        text[got] = 0;
    }
    if (write(file, "def", 3) != 3) return 4;
    while ((got = read(file, text, sizeof text)) > 0) fwrite(text, 1, got, stdout);
    return got < 0;
}
"""


def test_both_directions_stream(client, guests, streams):
    def handle(connection):
        received = b""
        while not received.endswith(b"abc"):
            received += connection.recv(100)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nfirst\n\r\n")
        while not received.endswith(b"abcdef"):
            received += connection.recv(100)
        connection.sendall(b"7\r\nsecond\n\r\n0\r\n\r\n")

    client.create("bothways", guests.c_text(BOTH_WAYS))
    response = client.run("bothways", f"127.0.0.1:{streams(handle).port}")
    assert (response.text, response.trailers["run-exit"]) == ("second\n", "0")


def test_connections_are_kept_for_one_app(client, guests, net, peer):
    for _ in range(5):
        net("get", f"/net/http/{peer.host}/same")
        request(net, f"POST http://{peer.host}/same HTTP/1.1\nContent-Length: 1\n\n", b"x")
    assert len(peer.requests) == 10
    loops = 2 * len(os.sched_getaffinity(0))
    assert len(peer.connections) <= loops
    client.create("netother", guests.c("net"))
    before = len(peer.connections)
    client.run("netother", "get", f"/net/http/{peer.host}/other")
    assert len(peer.connections) == before + 1
    assert "on a kept connection" in log_of(client)


def test_the_trace_goes_on(client, net, peer):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}

    def sent():
        return {name.lower(): value for name, value in peer.requests[-1][2].items()}.get("traceparent")

    net("get", f"/net/http/{peer.host}/x")
    assert sent() is None
    seen = set()
    text = f"GET http://{peer.host}/x HTTP/1.1\r\n\r\n".encode()
    for _ in range(2):
        net("get", f"/net/http/{peer.host}/x", headers=headers)
        seen.add(sent())
        net("talk", "/net/request", stdin=text, headers=headers)
        seen.add(sent())
    assert len(seen) == 4  # a hop each
    assert all(re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-01", one) for one in seen)
    own = "00-11111111111111111111111111111111-2222222222222222-00"
    net("talk", "/net/request", headers=headers,
        stdin=f"GET http://{peer.host}/x HTTP/1.1\r\nTraceparent: {own}\r\n\r\n".encode())
    assert sent() == own  # what the program says itself


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def traced(*state):
    return {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "tracestate": list(state)}


def trace_fields(peer):
    """Of each request that the peer had: traceparent and tracestate, or None."""
    return [tuple({name.lower(): value for name, value in fields.items()}.get(wanted)
                  for wanted in ("traceparent", "tracestate")) for _, _, fields, _ in peer.requests]


def test_the_trace_goes_over_redirects(net, peer):
    peer.locations = {"a": f"http://localhost:{peer.port}/redirect/302?b", "b": "/end"}
    net("get", f"/net/http/{peer.host}/redirect/307?a", headers=traced("x=1"))
    hops = trace_fields(peer)
    assert len(set(hops)) == 3  # a parent-id each
    assert all(re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", parent) for parent, _ in hops)
    assert {state for _, state in hops} == {"x=1"}


def test_the_state_of_a_trace_goes_on(net, peer):
    def send(*state, fields="", parent=None):
        headers = traced(*state)
        headers["traceparent"] = parent or headers["traceparent"]
        request(net, f"GET http://{peer.host}/x HTTP/1.1\n{fields}\n", headers=headers)
        return trace_fields(peer)[-1]

    assert send("x=1, y@z=2")[1] == "x=1,y@z=2"
    assert send("x=1", "z=3")[1] == "x=1,z=3"
    assert send("x=1", "=3")[1] is None  # not valid: all of it
    assert send("x=1", parent=f"ff-{TRACE}-00f067aa0ba902b7-01") == (None, None)
    later = send("x=1", parent=f"cc-{TRACE}-00f067aa0ba902b7-01-later")
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-01", later[0]) and later[1] == "x=1"
    # A program's own go out as they are; only a field of that very name is one.
    assert send("x=1", fields="traceparent: mine\n") == ("mine", None)
    assert send("x=1", fields="Tracestate: mine\n")[1] == "mine"
    like = send("x=1", fields="X-Traceparent: traceparent:1\n")
    assert TRACE in like[0] and like[1] == "x=1"


def test_two_parents_are_none(client, net, peer):
    net("get", f"/net/http/{peer.host}/x", headers={"traceparent": 2 * [traced()["traceparent"]]})
    assert trace_fields(peer) == [(None, None)]
    lines = [line for line in log_of(client).splitlines() if f"port {peer.port}" in line]
    assert len(lines) == 1 and "trace" not in lines[0]


def test_a_connections_line_has_the_trace(client, net, peer):
    net("get", f"/net/http/{peer.host}/x", headers=traced())
    allowed = f"net: allowed 127.0.0.1 (127.0.0.1) port {peer.port}"
    lines = [line for line in log_of(client).splitlines() if allowed in line]
    assert len(lines) == 1 and f"{allowed}, trace 00-{TRACE}-" in lines[0]
    assert trace_fields(peer)[0][0] not in lines[0]  # the run's own place in it


def test_a_trace_goes_from_caller_to_callee_and_out(client, guests, net, peer):
    client.create("tracecaller", guests.c("caller"))
    query = [("name", "traceout"), ("arg", "get"), ("arg", f"/net/http/{peer.host}/x")]
    assert client.post("/create", guests.c("net"), query=query).status == 201
    answer = client.run("tracecaller", "ask", "traceout", "", headers=traced("x=1"))
    assert "hello /x" in answer.text
    parent, state = trace_fields(peer)[0]
    assert (parent.split("-")[1], state) == (TRACE, "x=1")
    for app in ("tracecaller", "traceout"):
        ended = [line for line in log_of(client, app).splitlines() if "ended:" in line]
        assert len(ended) == 1 and f"trace 00-{TRACE}-" in ended[0]
        assert parent not in ended[0]  # each has a place of its own


# ---- secrets -----------------------------------------------------------------------------------


def put_secret(client, name, value, *hosts):
    query = [("host", host) for host in hosts]
    response = client.put(f"/apps/net/secrets/{name}", value.encode(), query=query)
    assert response.status in (200, 201, 204), response


def test_secrets_are_put_in_outside(client, net, peer, tls_peer):
    put_secret(client, "KEY", "s3cret\n", "localhost")
    put_secret(client, "PLAIN", "pl41n", f"127.0.0.1:{peer.port}")
    put_secret(client, "BAD", "two\nlines", "localhost")
    url = f"https://localhost:{tls_peer.port}/x"

    def sent(field, to=url):
        status, fields, body = request(net, f"GET {to} HTTP/1.1\n{field}\n\n")
        return fields["0asm-Error"] if "0asm-Error" in fields else status

    assert sent("Authorization: @KEY") == 200
    assert tls_peer.requests[-1][2]["Authorization"] == "s3cret"
    assert sent("authorization: Bearer @KEY") == 200
    assert tls_peer.requests[-1][2]["authorization"] == "Bearer s3cret"
    assert sent("X-Api-Key: @KEY") == 200
    assert tls_peer.requests[-1][2]["X-Api-Key"] == "s3cret"
    assert sent("X-Name: @@KEY") == 200
    assert tls_peer.requests[-1][2]["X-Name"] == "@KEY"
    assert sent("X-Text: mail @KEY") == 200
    assert tls_peer.requests[-1][2]["X-Text"] == "mail @KEY"
    count = len(tls_peer.requests)
    assert "no secret 'NONE'" in sent("Authorization: @NONE")
    assert "no secret 'NONE'" in sent("Authorization: @NONE", f"http://{peer.host}/x")
    assert "can't be the name of a secret" in sent("X: @a b", f"http://{peer.host}/x")
    assert f"'PLAIN' of 'net' is not bound to localhost:{peer.port}" in sent(
        "Authorization: @PLAIN", f"http://localhost:{peer.port}/x")
    assert "not bound" in sent("Authorization: @KEY", f"https://{tls_peer.host}/x")
    assert "not sent without TLS" in sent("Authorization: @KEY", f"http://localhost:{peer.port}/x")
    assert "not bound" in sent("Authorization: @PLAIN")
    assert "a character" in sent("Authorization: @BAD")
    assert len(tls_peer.requests) == count and peer.requests == []
    assert sent("Authorization: @PLAIN", f"http://{peer.host}/x") == 200
    assert peer.requests[-1][2]["Authorization"] == "pl41n"
    assert "s3cret" not in log_of(client) and "pl41n" not in log_of(client)


ERRSTR = r"""
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Sends each argument as a header, and shows what errstr says then. */
int main(int argc, char **argv) {
    for (int i = 2; i < argc; i++) {
        char text[1024];
        int file = open("/net/request", O_RDWR);
        int length = snprintf(text, sizeof text, "GET %s HTTP/1.1\nAuthorization: %s\n\n", argv[1],
                              argv[i]);
        write(file, text, (size_t)length);
        while (read(file, text, sizeof text) > 0);
        close(file);
        file = open("/proc/self/errstr", O_RDONLY);
        ssize_t got = read(file, text, sizeof text);
        printf("%.*s", got < 0 ? 0 : (int)got, text);
        close(file);
    }
}
"""


def test_errstr_says_which_secret(server, client, net, guests, peer):
    client.create("secretive", guests.c_text(ERRSTR))
    client.put("/apps/secretive/secrets/ELSE", b"v4lue", query=[("host", "example.org")])
    answer = client.run("secretive", f"http://{peer.host}/x", "@NONE", "@ELSE").text
    assert answer.splitlines() == [
        "'secretive' has no secret 'NONE'; GET /apps/secretive/secrets lists them",
        "the secret 'ELSE' of 'secretive' is not bound to "
        f"{peer.host}: PUT it with host=HOST[:PORT]"]
    assert peer.requests == [] and "v4lue" not in answer + log_of(client, "secretive")


# ---- the policy --------------------------------------------------------------------------------

REACHED = [  # hosts as guests may write them: none may reach a server on this machine
    "127.0.0.2", "127.1", "127.0.1", "2130706434", "0x7f000002", "0x7f.0.0.2", "0177.0.0.2",
    "017700000002", "0", "0.0.0.0", "127.0.0.2.", "localhost.", "localhost%00", "127.0.0.2%20",
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.2]", "[::ffff:7f00:2]",
    "[::127.0.0.2]", "[64:ff9b::7f00:2]", "[2002:7f00:2::]", "[::1%25lo]", "[::1%lo]",
    "ip6-localhost", "a@127.0.0.2", "127.0.0.2#", "\uff11\uff12\uff17.0.0.2", "\u24db\u24de",
    "127\u30020\u30020\u30022", "127.0.0.0x2", "127.0.0.02", "[fe80::1]", "169.254.169.254",
    "%31%32%37.0.0.2", "127%2e0%2e0%2e2", "[::ffff:0:127.0.0.2]",
]

SSRF = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Each argument is a path that must not be read. */
int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        char byte;
        int file = open(argv[i], O_RDWR);
        ssize_t got = file < 0 ? -1 : read(file, &byte, 1);
        if (got >= 0) printf("%s\n", argv[i]);
        if (file >= 0) close(file);
    }
}
"""


def test_no_spelling_reaches_this_machine(client, guests):
    listeners = [socket.create_server(("0.0.0.0", 0)),
                 socket.create_server(("::", 0), family=socket.AF_INET6)]
    paths = []
    for listener in listeners:
        port = listener.getsockname()[1]
        for host in REACHED:
            for form in ("http", "https"):
                paths.append(f"/net/{form}/{host}:{port}/x")
            for form in ("tcp", "tls"):
                paths.append(f"/net/{form}/{host}:{port}")
    assert len(paths) >= 200
    client.create("ssrf", guests.c_text(SSRF))
    for i in range(0, len(paths), 80):
        response = client.run("ssrf", *paths[i:i + 80])
        assert (response.text, response.trailers["run-exit"]) == ("", "0")
    for listener in listeners:
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has connected
            listener.accept()
        listener.close()


def test_the_default_is_public_addresses_only(make_server, guests, peer):
    server = make_server()
    server.client.create("net", guests.c("net"))
    for form in ("http/{}/x", "tcp/{}"):
        response = server.client.run("net", "get", "/net/" + form.format(peer.host))
        assert "Operation not permitted: 127.0.0.1 is a loopback address" in response.text
    assert peer.connections == []
    line = next(line for line in log_of(server.client).splitlines() if " sys net: " in line)
    assert f"net: refused 127.0.0.1 (127.0.0.1) port {peer.port}: " in line


def test_the_servers_own_door_needs_its_port(make_server, guests, net, server):
    text = net("get", f"/net/http/127.0.0.1:{server.port}/apps", fails=True)
    assert "is 0asm itself" in text
    other = make_server(f"--allow-private=127.0.0.1:{server.port}")
    other.client.create("net", guests.c("net"))
    assert other.client.run("net", "get", f"/net/http/127.0.0.1:{server.port}/healthz").status == 200


def test_net_narrows(client, guests, peer):
    module = guests.c("net")
    url, path = f"localhost:{peer.port}", f"/net/http/localhost:{peer.port}/x"

    def read(*nets, where=path, **options):
        if nets:
            options["net"] = list(nets)
        return client.run("narrow", "get", where, **options).text

    client.create("narrow", module)
    assert read() == "hello /x\n"
    assert "net= of the run does not allow localhost" in read("none")
    assert "does not allow" in read("example.org", "*.localhost")
    assert read("example.org", url) == "hello /x\n"
    assert "does not allow" in read(f"localhost:{peer.port + 1}")
    client.create("narrow", module, net="none")
    assert "net= of the app does not allow localhost" in read()
    assert "net= of the app does not allow localhost" in read("public")
    assert "does not allow" in read(url)
    client.create("narrow", module, net=url)
    assert read() == read("public") == "hello /x\n"
    assert "net= of the app does not allow 127.0.0.1" in read(where=f"/net/http/{peer.host}/x")
    assert "net= of the app" in read(f"127.0.0.1:{peer.port}", where=f"/net/tcp/{peer.host}")
    client.create("narrow", module, net="10.0.0.1")  # names what the server does not allow
    assert "10.0.0.1 is a private address" in read(where="/net/http/10.0.0.1/x")
    assert client.run("narrow", "get", path, net=["none", "a"]).status == 400
    assert client.run("narrow", "get", path, net="a b").status == 400
    log = log_of(client, "narrow")
    assert f"net: refused localhost port {peer.port}: not in the run's net=" in log
    assert f"net: allowed localhost (127.0.0.1) port {peer.port}" in log


def test_a_run_hands_its_narrowing_down(client, guests, peer, eventually):
    """Or one whose network was taken away would start another of itself."""
    client.create("down", guests.c("net"))
    child = f"arg=get\narg=/net/http/{peer.host}/x\ndetach\n".encode()

    def output_of_child(extra=b"", **options):
        run = client.run("down", "talk", "/cloud/apps/self/start", stdin=child + extra, **options)
        identity = run.text.split()[0]
        eventually(lambda: "ended" in client.get(f"/proc/{identity}/status").text)
        return client.get(f"/proc/{identity}/log").text

    assert output_of_child() == "hello /x\n"
    assert "net= of the run does not allow" in output_of_child(net="none")
    assert "net= of the run does not allow" in output_of_child(b"net=public\n", net="none")
    assert "net= of the run does not allow" in output_of_child(b"net=none\n", net="127.0.0.1")
    assert output_of_child(b"net=127.0.0.1\n", net="127.0.0.1") == "hello /x\n"


def test_a_sandbox_hands_its_narrowing_down_to_other_apps(client, guests, peer):
    """Or one without a network would have that of whom it may call, or of whom these call."""
    fetch, caller = guests.c("net"), guests.c("caller")
    for name, module, *arguments in [("fetch", fetch, "get", f"/net/http/{peer.host}/x"),
                                     ("between", caller, "pipe", "fetch")]:
        query = [("name", name)] + [("arg", argument) for argument in arguments]
        assert client.post("/create", module, query=query).status == 201
    client.create("outer", caller)
    client.create("outer-none", caller, net="none", root="fresh")
    client.create("outer-here", caller, net="127.0.0.1", root="fresh")
    client.create("outer-there", caller, net="example.org", root="fresh")
    refused = "net= of the run does not allow"
    for app in ("fetch", "between"):
        def call(caller, app=app, **options):
            return client.run(caller, "pipe", app, **options).text

        assert call("outer", net="none") == "hello /x\n"  # no sandbox: its word is for itself
        assert call("outer", root="fresh") == "hello /x\n"
        assert refused in call("outer", root="fresh", net="none")
        assert refused in call("outer", root="ro", net="example.org")
        assert call("outer", root="fresh", net="127.0.0.1") == "hello /x\n"
        # So is what the app of the sandbox says.
        assert refused in call("outer-none")
        assert refused in call("outer-there", net="public")
        assert refused in call("outer-here", net="none")
        assert call("outer-here") == "hello /x\n"
        assert call("outer-here", net="public") == "hello /x\n"
    assert refused in client.run("outer-none", "start", "fetch", "", "stdin=open",
                                 "net=public").text


def test_a_wrong_rule_is_told(build, make_server):
    server = make_server("--allow-private=10.0.0.0/33", start=False)
    with pytest.raises(RuntimeError, match="is not HOST"):
        server.start()


# ---- streams -----------------------------------------------------------------------------------


def echo(connection):
    while data := connection.recv(65536):
        connection.sendall(data)
    if not isinstance(connection, ssl.SSLSocket):
        connection.shutdown(socket.SHUT_WR)
    else:
        connection.unwrap()


@pytest.mark.parametrize("form", ["tcp", "tls"])
def test_streams_go_both_ways_and_end_apart(net, streams, authority, form):
    context = authority.context("DNS:localhost,IP:127.0.0.1") if form == "tls" else None

    def count(connection):
        total = 0
        while data := connection.recv(65536):
            total += len(data)
        connection.sendall(f"{total}\n".encode())  # after the guest has closed its side
        if context:
            connection.unwrap()

    port = streams(count, context).port
    assert net("shut", f"/net/{form}/localhost:{port}", stdin=b"x" * 300000) == "300000\n"
    assert net("shut", f"/net/{form}/127.0.0.1:{port}", stdin=b"") == "0\n"
    assert net("shut", f"/net/{form}/127.0.0.1:{streams(echo, context).port}",
               stdin=b"hello") == "hello"


@pytest.mark.parametrize("form", ["tcp", "tls"])
def test_what_was_written_arrives_after_a_close(net, streams, authority, form):
    """Also where the peer begins to read when the guest has ended: what waits is sent."""
    context = authority.context("DNS:localhost") if form == "tls" else None
    counts, begin = queue.Queue(), threading.Event()

    def count(connection):
        total = len(connection.recv(1))
        begin.wait(30)
        while data := connection.recv(65536):
            total += len(data)
        counts.put(total)

    path = f"/net/{form}/localhost:{streams(count, context).port}"
    for size in (1, 20_000, 100_000):
        begin.clear()
        net("pour", path, str(size))
        begin.set()
        assert counts.get(timeout=60) == size
    begin.set()
    net("pour", path, str(8 << 20))
    assert counts.get(timeout=60) == 8 << 20


def test_a_cut_tls_stream_is_an_error(net, streams, authority):
    def cut(connection):
        connection.recv(100)
        connection.sendall(b"part")
        connection.shutdown(socket.SHUT_RDWR)  # of the socket below, without the end of TLS

    port = streams(cut, authority.context("IP:127.0.0.1")).port
    text = net("talk", f"/net/tls/127.0.0.1:{port}", stdin=b"x", fails=True)
    assert text.startswith("partread: Connection reset by peer: 127.0.0.1: 127.0.0.1 closed")


def test_streams_report_their_failures(net):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    assert "Connection refused: no connection to 127.0.0.1" in net(
        "talk", f"/net/tcp/127.0.0.1:{port}", fails=True)
    assert "Host is unreachable" in net("talk", "/net/tcp/name.invalid:1", fails=True)
    assert "Operation not permitted" in net("talk", "/net/tcp/10.0.0.1:1", fails=True)
    assert "say which port" in net("talk", "/net/tcp/localhost", fails=True)
    assert "Invalid argument" in net("talk", "/net/tcp/localhost:0", fails=True)
    assert "Not a directory" in net("talk", "/net/tcp/localhost:1/x", fails=True)


def test_polling_over_all_of_them(net, peer, tls_peer, streams, authority):
    greet = streams(lambda connection: connection.sendall(b"12345"))

    def greet_tls(connection):
        connection.sendall(b"1234567")
        connection.unwrap()

    secure = streams(greet_tls, authority.context("DNS:localhost"))
    text = net("poll", f"/net/http/{peer.host}/abc", f"/net/https/{tls_peer.host}/abcde",
               f"/net/tcp/127.0.0.1:{greet.port}", f"/net/tls/localhost:{secure.port}",
               f"/net/http/{peer.host}/chunks/10")
    assert sorted(text.splitlines()) == ["0: 11", "1: 13", "2: 5", "3: 7", "4: 80"]


@pytest.mark.parametrize("how", ["get", "post", "request"])
def test_a_poll_asks_and_is_ready_when_there_is_an_answer(client, net, peer, how):
    """A poll loop that never reads before it was told to, over a server that takes its time."""
    path, text = f"/net/http/{peer.host}/wait", {"post": ["text"]}.get(how, [])
    if how == "request":
        path, text = "/net/request", [f"GET http://{peer.host}/wait HTTP/1.1\n\n"]
    connection, stream = client.open(
        "POST", "/run", query=[("name", "net")] + [("arg", each) for each in ["loop", path, *text]])
    assert peer.reached.acquire(timeout=60), "nothing was asked"
    line = stream.readline()
    while line and line != b"poll: 0\n":
        assert not line.startswith(b"poll"), line
        line = stream.readline()
    assert line
    peer.gate.release()
    rest = stream.read()
    assert b"at last\n" in rest and b"Run-Exit: 0" in rest, rest
    connection.close()
    assert [method for method, *_ in peer.requests] == ["POST" if how == "post" else "GET"]


def test_what_a_poll_has_found_out_is_told_to_the_read(net, peer):
    text = net("loop", "/net/http/10.0.0.1/", fails=True)
    assert text.startswith("poll: 1\nread: Operation not permitted: ") and "10.0.0.1" in text
    assert "answered 404" in net("loop", f"/net/http/{peer.host}/status/404", fails=True)


# ---- languages --------------------------------------------------------------------------------


def test_go_dials(client, guests, streams, authority):
    client.create("dial", guests.go("dial"))
    secure = streams(echo, authority.context("DNS:localhost"))
    for path in (f"tcp/127.0.0.1:{streams(echo).port}", f"tls/localhost:{secure.port}"):
        response = client.run("dial", f"/net/{path}")
        assert (response.text, response.trailers["run-exit"]) == ("200001 5\n", "0")


def test_go_fetches_many_at_once(client, guests, peer, tls_peer):
    """The first one is answered when all the others have been: one goroutine waits, not all."""
    client.create("fetch", guests.go("fetch"))
    urls = [f"http://{peer.host}/wait", f"http://{peer.host}/a",
            f"https://localhost:{tls_peer.port}/bytes/100000", "http://10.0.0.1/"]
    connection, stream = client.open(
        "POST", "/run", query=[("name", "fetch")] + [("arg", url) for url in urls])
    assert peer.reached.acquire(timeout=60)
    seen = b""
    while seen.count(b"200 OK") < 2 or b"private address" not in seen:
        line = stream.readline()
        assert line, seen
        seen += line
    assert b"/wait" not in seen
    peer.gate.release()
    seen += stream.read()
    connection.close()
    text = seen.decode()
    assert f"http://{peer.host}/wait: 200 OK: 8 bytes" in text
    assert f"https://localhost:{tls_peer.port}/bytes/100000: 200 OK: 100000 bytes" in text
    assert 'Get "http://10.0.0.1/": 10.0.0.1 is a private address' in text


WITH_OPEN = """
import sys
with open(sys.argv[1], "r+") as file:
    file.write("from python")
    file.flush()
    print(file.read().splitlines()[0])
try:
    open(sys.argv[2]).read()
except FileNotFoundError:
    print("not found")
"""


def test_python_opens_and_python_posts(client, guests, peer, tls_peer):
    client.create("netpython", guests.python())
    run = client.run("netpython", "-c", WITH_OPEN, f"/net/http/{peer.host}/echo",
                     f"/net/http/{peer.host}/status/404")
    assert run.text == "POST /echo 11 from python\nnot found\n"
    for name in ("net_http.py", "webhook.py"):
        assert client.put(f"/apps/netpython/files/{name}",
                          (guests.examples / name).read_bytes()).status in (201, 204)
    response = client.put("/apps/netpython/secrets/WEBHOOK", b"t0ken", query=[("host", "localhost")])
    assert response.status < 300
    url = f"https://localhost:{tls_peer.port}/echo"
    lines = client.run("netpython", "/webhook.py", url, "it happened").text.splitlines()
    assert lines[0] == '200 POST /echo 23 {"text": "it happened"}'
    assert "Authorization: Bearer t0ken" in lines  # the server echoes it
    assert "Content-Type: application/json" in lines
    run = client.run("netpython", "/webhook.py", f"https://{tls_peer.host}/echo", "x")
    assert run.trailers["run-exit"] == "1" and "is not bound to" in run.text


WITH_TIMEOUT = """
import sys
import net_http
import urllib.request
try:
    urllib.request.urlopen(sys.argv[1], timeout=0.3)
except TimeoutError as error:
    print(error)
"""


def test_python_has_its_timeouts(client, guests, peer):
    client.create("netpython", guests.python())
    client.put("/apps/netpython/files/net_http.py", (guests.examples / "net_http.py").read_bytes())
    run = client.run("netpython", "-c", WITH_TIMEOUT, f"http://{peer.host}/wait", env=["PYTHONPATH=/"])
    assert run.text == "timed out\n"
    peer.gate.release()


# ---- limits and ends ---------------------------------------------------------------------------


def start(client, *arguments):
    """A run whose standard input stays open: the guest holds what it has until that ends."""
    query = [("name", "net"), ("detach", ""), ("stdin", "open")]
    response = client.post("/run", query=query + [("arg", text) for text in arguments])
    assert response.status == 202, response
    return response.text.strip()


def test_an_app_has_a_limit_of_connections(client, net, peer, eventually):
    run = start(client, "many", f"/net/http/{peer.host}/wait", "60")

    def output():
        return client.get(f"/proc/{run}/log").text

    eventually(lambda: "connections" in output())
    assert "40\nnext: Resource busy: the app has 40 connections" in output()
    assert "the app has 40 connections" in net("get", f"/net/http/{peer.host}/x", fails=True)
    client.delete(f"/proc/{run}/stdin")
    eventually(lambda: "ended" in client.get(f"/proc/{run}/status").text)
    for _ in range(40):
        peer.gate.release()
    assert net("get", f"/net/http/{peer.host}/x") == "hello /x\n"


def test_silence_ends(make_server, guests, streams):
    server = make_server("--allow-private=127.0.0.1", "--net-timeout=50ms")
    server.client.create("net", guests.c("net"))
    silent = streams(lambda connection: connection.recv(100) and connection.recv(100))
    path = f"/net/http/127.0.0.1:{silent.port}/x"
    assert "I/O error: 127.0.0.1 was silent" in server.client.run("net", "get", path).text
    text = f"GET http://127.0.0.1:{silent.port}/ HTTP/1.1\r\n\r\n".encode()
    response = server.client.run("net", "talk", "/net/request", stdin=text)
    assert response.text.startswith("HTTP/1.1 504 Gateway Timeout\r\n")


def test_bodies_are_limited(make_server, guests, peer, streams):
    server = make_server("--allow-private=127.0.0.1", "--net-bytes=1MiB")
    server.client.create("net", guests.c("net"))
    path = f"/net/http/{peer.host}/bytes/"
    assert server.client.run("net", "download", f"{path}{1 << 20}").text == f"{1 << 20}\n"
    assert "--net-bytes" in server.client.run("net", "download", f"{path}{(1 << 20) + 1}").text

    def sink(connection):
        while connection.recv(1 << 20):
            pass

    # Also one whose length is said.
    url = f"http://127.0.0.1:{streams(sink).port}/x"
    answer = server.client.run("net", "upload", url, f"{(1 << 20) + 1}").text
    assert "the request's body has more than 1048576 bytes" in answer


GIB = 1 << 30


def test_large_bodies_pass_in_little_memory(server, net, streams):
    """1 GiB in each direction; the server may grow by a small part of that."""
    def source(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
        piece = b"d" * (1 << 20)
        for _ in range(1024):
            connection.sendall(piece)

    def sink(connection):
        count, head, piece = 0, b"", bytearray(1 << 20)
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        count = len(head.partition(b"\r\n\r\n")[2])
        while count < GIB:
            count += connection.recv_into(piece)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")

    before = server.resident_bytes()
    assert net("download", f"/net/http/127.0.0.1:{streams(source).port}/x") == f"{GIB}\n"
    assert net("upload", f"http://127.0.0.1:{streams(sink).port}/x", str(GIB)).endswith("done")
    if not server.is_sanitized():
        assert server.resident_bytes() - before < 64 << 20


def test_nothing_is_left(client, net, server, peer, tls_peer, streams, eventually):
    """Guests that are killed in the middle, peers that go away: descriptors as before."""
    silent = streams(lambda connection: connection.recv(1 << 20) and connection.recv(1 << 20))
    gone = streams(lambda connection: None)
    targets = [f"/net/http/{peer.host}/wait", f"/net/http/127.0.0.1:{silent.port}/x",
               f"/net/tcp/127.0.0.1:{silent.port}", f"/net/tls/127.0.0.1:{silent.port}",
               f"/net/https/{tls_peer.host}/wait", f"/net/tcp/127.0.0.1:{gone.port}",
               f"/net/http/127.0.0.1:{gone.port}/x", f"/net/tls/127.0.0.1:{gone.port}"]

    def round_of_all():
        for target in targets:
            run = start(client, "many", target, "3")
            eventually(lambda: client.get(f"/proc/{run}/log").text)
            assert client.put(f"/proc/{run}/ctl", b"kill").status < 300
            eventually(lambda: "ended" in client.get(f"/proc/{run}/status").text)

    round_of_all()
    before = server.descriptors()
    for _ in range(5):
        round_of_all()
    # What is kept for reuse stays: connections of this app on each loop.
    eventually(lambda: server.descriptors() <= before + 8)
