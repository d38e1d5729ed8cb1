"""Secrets: written by HTTP and the command line, read back by nobody."""

import io
import os
import subprocess
import tarfile

import pytest

VALUE = "hunter2-and-some-more"


@pytest.fixture
def app(client, guests):
    client.delete("/apps/a")
    client.create("a", guests.c("files"))
    return "a"


def put(client, key, value=VALUE, **options):
    query = [(name, one) for name, given in options.items()
             for one in (given if isinstance(given, list) else [given])]
    return client.put(f"/apps/a/secrets/{key}", value, query=query)


def test_written_listed_removed(client, app):
    assert client.get("/apps/a/secrets").text == ""
    assert put(client, "TOKEN", host=["api.example.org", "[::1]:8443"]).status == 201
    assert put(client, "other.key-2", VALUE + "\n").status == 201
    assert client.get("/apps/a/secrets").text == "TOKEN api.example.org [::1]:8443\nother.key-2\n"
    listed = client.get("/apps/a/secrets", headers={"Accept": "application/json"}).json()
    assert [(entry["name"], entry["hosts"]) for entry in listed] == [
        ("TOKEN", ["api.example.org", "[::1]:8443"]), ("other.key-2", [])]
    # Another value keeps the hosts; `host=` alone takes them away.
    assert put(client, "TOKEN", "new").status == 204
    assert client.get("/apps/a/secrets").text.startswith("TOKEN api.example.org [::1]:8443\n")
    assert put(client, "TOKEN", "new", host="").status == 204
    assert client.get("/apps/a/secrets").text.startswith("TOKEN\n")
    assert client.delete("/apps/a/secrets/TOKEN").status == 204
    assert client.delete("/apps/a/secrets/TOKEN").status == 404
    assert client.get("/apps/a/secrets").text == "other.key-2\n"


def test_refusals(client, app):
    for key in ("a%20b", "-a", "a@b", "%C3%A4"):
        answer = put(client, key)
        assert answer.status == 400 and "can't be the name of a secret" in answer.text
    assert put(client, "A", "").status == 400
    assert put(client, "A", "x" * 65536 + "\n").status == 201
    assert put(client, "B", "x" * 65537).status == 413
    for host in ("*.example.org", "http://a", "a:0"):
        answer = put(client, "A", host=host)
        assert answer.status == 400 and "not a host" in answer.text
    answer = put(client, "A", hosts="x")
    assert answer.status == 400 and "'host'" in answer.text
    assert "no app named 'none'" in client.get("/apps/none/secrets").text
    assert client.request("PUT", "/apps/none/secrets/A", body="x").status == 404


def test_read_by_nobody(server, client, app):
    assert put(client, "TOKEN", host="api.example.org").status == 201
    answer = client.get("/apps/a/secrets/TOKEN")
    assert answer.status == 403 and "secrets can be written, not read" in answer.text
    everything = [client.get(path, headers={"Accept": accept}).body
                  for accept in ("text/plain", "application/json", "application/x-tar")
                  for path in ("/apps", "/apps/a", "/apps/a/secrets", "/apps/a/secrets/",
                               "/apps/a/info", "/apps/a/config", "/apps/a/log", "/metrics")]
    archive = client.get("/apps/a", headers={"Accept": "application/x-tar"}).body
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert "secrets" in names and "config" in names and "secrets/TOKEN" not in names
    run = client.run("a", "ls /cloud/apps/self")
    everything += [run.body, client.get("/apps/a/log").body, server.read_log().encode()]
    for path in ("", "/env", "/status", "/log"):
        everything.append(client.get(f"/proc/{run.headers['run-id']}{path}").body)
    for path, _, names in os.walk(server.state):
        everything += [open(os.path.join(path, name), "rb").read() for name in names]
    assert all(VALUE.encode() not in text for text in everything)


def test_in_a_guest(client, guests, app):
    assert put(client, "TOKEN").status == 201
    assert client.run("a", "ls /cloud/apps/self/secrets").text.split() == ["TOKEN"]
    for action in ("get /cloud/apps/self/secrets/TOKEN", "put /cloud/apps/self/secrets/TOKEN x"):
        run = client.run("a", action)
        assert "Permission denied" in run.text and run.trailers["run-exit"] == "1"
    for action in ("rm {}/TOKEN", "put {}/B x", "mkdir {}/B", "mv {}/TOKEN {}/B"):
        run = client.run("a", action.replace("{}", "/cloud/apps/self/secrets"))
        assert "Permission denied" in run.text and run.trailers["run-exit"] == "1", action
    assert client.get("/apps/a/secrets").text == "TOKEN\n"
    client.create("b", guests.c("files"))
    run = client.run("b", "ls /cloud/apps/a/secrets")
    assert "Permission denied" in run.text


def test_survive_kill_and_rename(make_server, guests):
    server = make_server()
    server.client.create("a", guests.c("files"))
    assert put(server.client, "TOKEN", host="h").status == 201
    server.kill()
    server.start()
    assert server.client.get("/apps/a/secrets").text == "TOKEN h\n"
    assert server.client.request("MOVE", "/apps/a", headers={"Destination": "/apps/b"}).status == 201
    assert server.client.get("/apps/b/secrets").text == "TOKEN h\n"
    assert server.client.delete("/apps/b").status == 204
    server.client.create("b", guests.c("files"))
    assert server.client.get("/apps/b/secrets").text == ""


def test_command(server, client, build, app):
    def cli(*arguments, stdin=b""):
        return subprocess.run([build / "0asm", "secret", *arguments, "--server", server.url],
                              input=stdin, capture_output=True, timeout=60)

    done = cli("a", "TOKEN", "--host", "api.example.org", "--host=b:8443", stdin=VALUE.encode())
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert cli("a").stdout == b"TOKEN api.example.org b:8443\n"
    assert cli("a", "TOKEN", stdin=b"other\n").returncode == 0
    assert cli("a").stdout == b"TOKEN api.example.org b:8443\n"
    empty = cli("a", "TOKEN")
    assert empty.returncode == 1 and b"the secret is empty" in empty.stderr
    assert cli("a", "--unset", "TOKEN").returncode == 0
    assert cli("a").stdout == b""
    assert cli("a", "--unset", "TOKEN").returncode == 1
    assert cli("a", "--host", "h").returncode == 2
    assert cli("a", "K", "--unset", "K").returncode == 2
    assert cli("a", "x/y", stdin=b"1").returncode == 1
