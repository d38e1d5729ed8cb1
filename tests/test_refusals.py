"""What is refused, with which status and which words: each says what to do."""

import pytest

from support.form import form_of


@pytest.fixture(scope="module")
def apps(server, guests):
    client = server.client
    client.create("files", guests.c("files"))
    client.create("other", guests.c("files"))
    client.put("/apps/files/files/a", "a")
    client.put("/apps/files/files/dir/b", "b")
    client.put("/apps/files/secrets/KEY", "hush")
    return client


@pytest.mark.parametrize("method, path, status, words", [
    # Parameters that would be taken for something else, or for nothing.
    ("POST", "/run?name=files&detach&stdin=bogus", 400, "write stdin=open"),
    ("POST", "/run?name=files&stdin=open", 400, "add detach"),
    ("POST", "/run?name=files&trace=yes", 400, "write trace without a value"),
    ("POST", "/run?name=files&trace=no", 400, "write trace without a value"),
    ("POST", "/run?name=files&keep=999999d", 400, "keep='999999d' is too long: it is at most 365d"),
    ("POST", "/run?name=files&wall=0", 400, "from 1ms to what the app has"),
    ("GET", "/apps/files/log?run=abc", 400, "run='abc' is no id of a run"),
    ("GET", "/apps/files/log?run=", 400, "is no id of a run"),
    ("GET", "/apps/files/log?run=07", 400, "is no id of a run"),
    ("GET", "/apps/files/log?follow=no", 400, "write follow without a value"),
    ("GET", "/proc/1/log?attach=no", 400, "write attach without a value"),
    ("DELETE", "/proc?tag=x", 400, "a tag is KEY:VALUE"),
    ("DELETE", "/proc?tag=", 400, "KEY:VALUE"),
    ("DELETE", "/proc?tag=a:b&tag=:x", 400, "a tag is KEY:VALUE"),
    ("GET", "/proc?tag=x", 400, "a tag is KEY:VALUE"),
    ("GET", "/proc/?tag=", 400, "a tag is KEY:VALUE"),
    ("GET", "/proc?tag=a:b&tag=:x", 400, "a tag is KEY:VALUE"),
    ("GET", "/proc?tag=a:b%0A", 400, "a tag is KEY:VALUE"),
    ("HEAD", "/proc?tag=x", 400, ""),
    # What is not there, or can't be done there.
    ("GET", "/apps/files/rollback", 405, "GET can't be done here; this path has: POST"),
    ("PUT", "/apps/files/rollback", 405, "PUT can't be done here; this path has: POST"),
    ("DELETE", "/apps/files/rollback", 405, "DELETE can't be done here; this path has: POST"),
    ("GET", "/apps/nope/rollback", 404, "no app named 'nope'; GET /apps lists them"),
    ("POST", "/apps/nope/call", 404, "no app named 'nope'; GET /apps lists them"),
    ("POST", "/apps/nope/start", 404, "no app named 'nope'; GET /apps lists them"),
])
def test_requests(apps, method, path, status, words):
    response = apps.request(method, path, b"x" if method == "PUT" else b"")
    assert response.status == status and words in response.text, response
    if status == 405:
        assert response.headers["allow"] == "POST"


@pytest.mark.parametrize("source, target, status, words", [
    ("/apps/files", "/apps/other", 409, "/apps/other: exists already"),
    ("/apps/files/files/a", "/apps/files/files/dir", 409, "/apps/files/files/dir: "),
    ("/apps/files/files/dir", "/apps/files/files/a", 409, "/apps/files/files/a: "),
    ("/apps/files/files/a", "/apps/nope/files/a", 404, "no app named 'nope'"),
    ("/apps/files/files/a", "/apps/files/files/no/a", 404, "/apps/files/files/no/a: no such file"),
    ("/apps/files/files/no", "/apps/files/files/a", 404, "/apps/files/files/no: no such file"),
    ("/apps/files/secrets/KEY", "/apps/other/secrets/KEY", 403, "secrets can't be moved"),
    ("/apps/files/secrets/KEY", "/apps/files/secrets/B", 403, "secrets can't be moved"),
    ("/apps/files/secrets/KEY", "/apps/files/files/KEY", 403, "secrets can't be moved"),
    ("/apps/files/files/a", "/apps/files/secrets/A", 403, "secrets can't be moved"),
])
def test_moves(apps, source, target, status, words):
    response = apps.request("MOVE", source, headers={"Destination": target})
    assert response.status == status and words in response.text, response
    assert apps.get("/apps/files/files/a").text == "a"
    assert apps.get("/apps/files/secrets").text.split()[0] == "KEY"


def test_files_of_a_form(apps):
    body, headers = form_of(("name", "files"), ("root", "fresh"), ("tmp", "10"),
                            ("/a", "x" * 24))
    response = apps.post("/run", body, headers=headers)
    assert response.status == 413, response
    assert "files take 256 bytes of memory (each is rounded up)" in response.text
    assert "more than its limit tmp of 10 bytes" in response.text


def test_standard_input_of_a_run(apps):
    run = apps.run("files", "ls /").headers["run-id"]
    response = apps.put(f"/proc/{run}/stdin", "x")
    assert response.status == 409 and "start it with stdin=open" in response.text, response
    run = apps.post("/run?name=files&arg=cat&detach&stdin=open").text.strip()
    assert apps.put(f"/proc/{run}/stdin", "x").status in (201, 204)
    assert apps.delete(f"/proc/{run}/stdin").status == 204
    assert apps.get(f"/proc/{run}/stdout").text == "x"
    response = apps.put(f"/proc/{run}/stdin", "y")
    assert response.status == 409 and "takes no more input" in response.text, response


@pytest.mark.parametrize("method, path, status, name", [
    ("POST", "/run?name=nope", 404, "noent"),
    ("GET", "/apps/nope", 404, "noent"),
    ("GET", "/apps/nope/log", 404, "noent"),
    ("GET", "/nothing", 404, "noent"),
    ("POST", "/run?name=files&version=99", 404, "noent"),
    ("POST", "/run", 400, "inval"),
    ("POST", "/run?nam=files", 400, "inval"),
    ("GET", "/apps/files/secrets/KEY", 403, "acces"),
    ("GET", "/run", 405, "notsup"),
    ("POST", "/create?name=files&new", 409, "exist"),
    ("GET", "/" + "x" * 17000, 414, "nametoolong"),
    ("GET", "/apps/files/log?from=999999999", 416, "refused"),
])
def test_names_of_errors(apps, method, path, status, name):
    response = apps.request(method, path, headers={"Accept": "application/json"})
    assert response.status == status, response
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["error"] == name
