"""The tree door: files of apps and volumes, settings, versions, /proc."""

import hashlib
import http.client
import io
import json
import tarfile
import threading
import urllib.parse

import pytest

from support.client import read_response
from support.modules import wat_empty, wat_numbered


@pytest.fixture(scope="module")
def app(server, guests):
    server.client.create("app", guests.c("probe"))
    return server.client


FILES = "/apps/app/files"


# --- files --------------------------------------------------------------------------------------


def test_put_and_get(app):
    response = app.put(f"{FILES}/a/b/c.txt", b"hello")
    assert response.status == 201
    response = app.get(f"{FILES}/a/b/c.txt")
    assert (response.status, response.body) == (200, b"hello")
    assert response.headers["content-type"].startswith("text/plain")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "sandbox"
    assert app.put(f"{FILES}/a/b/c.txt", b"other").status == 204
    assert app.get(f"{FILES}/a/b/c.txt").body == b"other"
    assert app.run("app", "get", "/a/b/c.txt").text == "other"


def test_an_empty_file(app):
    assert app.put(f"{FILES}/empty", b"").status == 201
    response = app.get(f"{FILES}/empty")
    assert (response.status, response.body) == (200, b"")
    assert response.headers["content-length"] == "0"


def test_a_shorter_file_replaces_a_longer_one(app):
    app.put(f"{FILES}/shrinks", b"x" * 100000)
    app.put(f"{FILES}/shrinks", b"y")
    assert app.get(f"{FILES}/shrinks").body == b"y"


def test_what_a_guest_writes(app):
    app.run("app", "put", "/written", "by a guest")
    assert app.get(f"{FILES}/written").text == "by a guest"
    assert "written\n" in app.get(f"{FILES}/").text


@pytest.mark.parametrize("ending,type", [
    ("html", "text/html"), ("json", "application/json"), ("PNG", "image/png"),
    ("wasm", "application/wasm"), ("unknown", "application/octet-stream")])
def test_types(app, ending, type):
    app.put(f"{FILES}/type.{ending}", b"<script>")
    response = app.get(f"{FILES}/type.{ending}")
    assert response.headers["content-type"].startswith(type)
    assert response.headers["content-security-policy"] == "sandbox"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_head(app):
    app.put(f"{FILES}/head", b"12345")
    get = app.get(f"{FILES}/head")
    head = app.request("HEAD", f"{FILES}/head")
    assert head.status == 200 and head.body == b""
    assert head.headers["content-length"] == "5"
    assert head.headers["etag"] == get.headers["etag"]
    assert app.request("HEAD", f"{FILES}/nothing").status == 404


def test_head_leaves_the_connection_in_step(app):
    app.put(f"{FILES}/head", b"12345")
    with app.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(3):
            connection.sendall(app.head("HEAD", f"{FILES}/head", headers={
                "Connection": "keep-alive"}))
            assert read_response(stream, "HEAD").status == 200
            connection.sendall(app.head("GET", f"{FILES}/head", headers={
                "Connection": "keep-alive"}))
            assert read_response(stream).body == b"12345"


def test_delete(app):
    app.put(f"{FILES}/gone", b"x")
    assert app.delete(f"{FILES}/gone").status == 204
    assert app.get(f"{FILES}/gone").status == 404
    assert app.delete(f"{FILES}/gone").status == 404


def test_delete_a_directory_with_all_that_is_in_it(app):
    for i in range(20):
        app.put(f"{FILES}/tree/{i % 3}/{i % 2}/{i}", b"x")
    app.put(f"{FILES}/tree.txt", b"stays")
    assert app.delete(f"{FILES}/tree").status == 204
    assert app.get(f"{FILES}/tree").status == 404
    assert app.get(f"{FILES}/tree.txt").body == b"stays"


def test_a_long_directory(app):
    names = [f"{i:03}" for i in range(300)]
    assert app.put(f"{FILES}/long/?unpack", make_tar({name: b"x" for name in names})).status == 200
    assert app.get(f"{FILES}/long/").text.split() == names
    listed = app.get(f"{FILES}/long/", headers={"Accept": "application/json"})
    assert json.loads(listed.text) == [{"name": name, "type": "file"} for name in names]
    assert app.delete(f"{FILES}/long").status == 204
    assert app.get(f"{FILES}/long").status == 404


def test_delete_a_deep_directory(app):
    path = f"{FILES}/deep" + "/d" * 100
    assert app.put(f"{path}/file", b"x").status == 201
    assert app.delete(f"{FILES}/deep").status == 204
    assert app.get(f"{FILES}/deep").status == 404


def test_the_root_of_the_files_stays(app):
    app.put(f"{FILES}/keep", b"x")
    response = app.delete(FILES)
    assert 400 <= response.status < 500
    assert app.get(f"{FILES}/keep").body == b"x"


def test_directories_are_no_files(app):
    app.put(f"{FILES}/dir/file", b"x")
    assert app.put(f"{FILES}/dir", b"y").status == 409
    assert app.put(f"{FILES}/dir/file/below", b"y").status in (404, 409)
    assert app.get(f"{FILES}/dir/file/below").status == 409
    assert app.get(f"{FILES}/dir/file").body == b"x"


def test_a_refused_upload_makes_no_directories(app):
    before = app.get(f"{FILES}/").text
    for path, headers, status in [
            (f"{FILES}/unmade/deep/file", {"If-Match": "*"}, 412),
            (f"{FILES}/unmade/deep/" + "n" * 256, {}, 414),
            ("/apps/app/versions/1/files/unmade/deep/file", {}, 404),
            ("/apps/app/unmade/deep/file", {}, 404), ("/unmade/deep/file", {}, 404)]:
        assert app.put(path, b"x", headers=headers).status == status, path
        assert app.get(f"{FILES}/").text == before
    assert app.put(f"{FILES}/made/deep/file", b"x", headers={"If-None-Match": "*"}).status == 201
    assert app.put(f"{FILES}/made/deep/file", b"y", headers={"If-None-Match": "*"}).status == 412
    assert app.get(f"{FILES}/made/deep/file").text == "x"
    app.delete(f"{FILES}/made")


def test_put_of_a_directory(app):
    assert app.put(f"{FILES}/made/here/", b"").status in (201, 204)
    assert app.get(f"{FILES}/made/here/").text == ""
    assert app.get(f"{FILES}/made/").text == "here/\n"


def test_trailing_slashes(app):
    app.put(f"{FILES}/slash/file", b"x")
    assert app.get(f"{FILES}/slash").text == app.get(f"{FILES}/slash/").text == "file\n"
    assert app.get(f"{FILES}/slash/file/").status in (404, 409)
    assert app.get(f"{FILES}//slash///file").body == b"x"


NAMES = ["with space", "ünï", "日本語", "+plus", "per%cent", "a&b=c", "#hash", "quest?ion", ".dot",
         "..two", "…", "quote'\"", "back\\slash", "semi;colon", "new\nline", "x" * 255, "*", "~"]


@pytest.mark.parametrize("name", NAMES)
def test_names(app, name):
    path = f"{FILES}/names/{urllib.parse.quote(name, safe='')}"
    assert app.put(path, name.encode()).status in (201, 204)
    response = app.get(path)
    assert response.text == name
    listed = app.get(f"{FILES}/names/", headers={"Accept": "application/json"}).json()
    assert {"name": name, "type": "file"} in listed
    assert app.run("app", "get", f"/names/{name}").text == name
    assert app.delete(path).status == 204


@pytest.mark.parametrize("name,status", [
    ("x" * 256, (400, 414)), ("%ff", (400,)), ("%00", (400,)), ("a%", (400,)), ("%zz", (400,)),
    ("%ED%A0%80", (400,))])
def test_bad_names(app, name, status):
    assert app.put(f"{FILES}/names/{name}", b"x").status in status
    for path in (f"unmade/{name}", f"unmade/{name}/file", f"unmade/{name}/?unpack"):
        assert app.put(f"{FILES}/{path}", b"x").status in status
        assert app.get(f"{FILES}/unmade").status == 404
    assert app.get(f"{FILES}/names/{name}").status in (400, 404, 414)


@pytest.mark.parametrize("path", [
    "/apps/app/files/../config", "/apps/app/files/a/../../../other", "/apps/app/files/%2e%2e/config",
    "/apps/app/files/..", "/../../etc/passwd", "/apps/../../../../etc/passwd",
    "/apps/app/files/../../../../../../etc/passwd", "/apps/app/files/%2e%2e%2f%2e%2e%2f/etc/passwd"])
def test_dot_dot_stays_in_the_tree(app, path):
    """Whatever `..` means, nothing of the host is reached, and PUT makes nothing outside of files."""
    app.put(f"{FILES}/a/x", b"x")
    before = app.get("/apps/app/config").body
    response = app.get(path)
    assert b"root:" not in response.body
    app.put(path, b"{}")
    assert app.get("/apps").text == "app/\n"
    assert app.get("/apps/app/config").body == before or "config" in path


def test_a_dot(app):
    app.put(f"{FILES}/dots/file", b"x")
    assert app.get(f"{FILES}/./dots/./file").body == b"x"
    assert app.get(f"{FILES}/dots/../dots/file").body == b"x"


# --- symbolic links -----------------------------------------------------------------------------

LINKER = r"""
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc < 3 || symlink(argv[1], argv[2]) != 0) { perror("symlink"); return 1; }
    if (argc > 3) { getchar(); } /* stays for a while */
    return 0;
}
"""


@pytest.fixture(scope="module")
def linker(app, guests):
    app.create("linker", guests.c_text(LINKER))
    app.put("/apps/linker/files/dir/target", b"behind a link")
    return app


def link(client, target, name):
    response = client.run("linker", target, name)
    assert response.trailers["run-exit"] == "0", response


def test_a_link_of_a_guest_is_followed(linker):
    link(linker, "dir/target", "/link")
    assert linker.get("/apps/linker/files/link").text == "behind a link"
    listed = linker.get("/apps/linker/files/", headers={"Accept": "application/json"}).json()
    assert {"name": "link", "type": "link"} in listed


def test_put_through_a_link_keeps_it(linker):
    link(linker, "dir/other", "/link2")
    linker.put("/apps/linker/files/dir/other", b"1")
    assert linker.put("/apps/linker/files/link2", b"2").status == 204
    listed = linker.get("/apps/linker/files/", headers={"Accept": "application/json"}).json()
    assert linker.get("/apps/linker/files/link2").body == b"2"
    # Either the link still points there, or a file took its place: never half of both.
    still_link = {"name": "link2", "type": "link"} in listed
    assert linker.get("/apps/linker/files/dir/other").body == (b"2" if still_link else b"1")


def test_a_link_is_replaced_if_what_it_leads_to_is_as_expected(linker):
    linker.put("/apps/linker/files/dir/led", b"1")
    link(linker, "dir/led", "/link3")
    tag = linker.request("HEAD", "/apps/linker/files/link3").headers["etag"]
    assert linker.put("/apps/linker/files/dir/led", b"2").status == 204
    assert linker.put("/apps/linker/files/link3", b"3", headers={"If-Match": tag}).status == 412
    tag = linker.request("HEAD", "/apps/linker/files/link3").headers["etag"]
    assert linker.put("/apps/linker/files/link3", b"3", headers={"If-Match": tag}).status == 204
    assert linker.get("/apps/linker/files/link3").body == b"3"


@pytest.mark.parametrize("target", [
    "../../../etc/passwd", "../config", "../../app/files/secret", "../../../proc", "../../..",
    "dir/../../config", "/apps/app/files/secret", "/etc/passwd", "loop", "nowhere"])
def test_links_that_lead_out_or_nowhere(linker, target):
    """A guest's link can't make the control door touch anything but that app's files."""
    linker.put("/apps/app/files/secret", b"of another app")
    before = linker.get("/apps/linker/config").body
    for path in ("loop", "loop/", "loop/files/secret", "loop/x"):
        path = f"/apps/linker/files/{path}"
        linker.delete("/apps/linker/files/loop")
        made = linker.run("linker", target, "/loop").trailers["run-exit"] == "0"
        assert made or target.startswith("/")
        response = linker.get(path)
        assert 400 <= response.status < 500, (path, response)
        assert linker.put(path, b'{"memory": "1MiB"}').status < 500
        linker.request("MOVE", path, headers={"Destination": "/apps/linker/files/stolen"})
        assert linker.get("/apps/linker/files/stolen").body != b"of another app"
        linker.delete(path)
        linker.delete("/apps/linker/files/stolen")
    assert linker.get("/apps/linker/config").body == before
    assert linker.get("/apps/app/files/secret").body == b"of another app"


def test_links_in_the_layer_of_a_run(linker, eventually):
    """Nor can the links that a run has in a layer of its own, while it runs and afterwards."""
    linker.put("/apps/app/files/secret", b"of another app")
    run = linker.post("/run?name=linker&root=fresh&detach&stdin=open"
                      "&arg=../../../apps/app/files&arg=/out&arg=stay").text.strip()
    root = f"/proc/{run}/root"
    eventually(lambda: "out" in linker.get(f"{root}/").text.split())
    path = f"{root}/out/secret"

    def check():
        assert "out" in linker.get(f"{root}/").text.split()
        assert 400 <= linker.get(f"{root}/out/").status < 500
        assert 400 <= linker.get(path).status < 500
        assert 400 <= linker.put(path, b"mine").status < 500
        assert 400 <= linker.delete(path).status < 500
        linker.request("MOVE", path, headers={"Destination": f"{root}/stolen"})
        assert linker.get("/apps/app/files/secret").body == b"of another app"

    check()
    assert linker.put(f"{root}/own", b"x").status == 201
    assert linker.get(f"{root}/own").body == b"x"
    assert linker.delete(f"{root}/own").status == 204
    linker.put(f"/proc/{run}/stdin", b"x")
    eventually(lambda: "state: ended" in linker.get(f"/proc/{run}/status").text)
    check()
    assert linker.delete(f"{root}/out").status == 403
    assert linker.put(f"{root}/own", b"x").status == 403
    moved = linker.request("MOVE", f"{root}/out", headers={"Destination": f"{root}/moved"})
    assert moved.status == 405  # nothing can be moved there
    names = linker.get(f"{root}/").text.split()
    assert "out" in names and "own" not in names and "moved" not in names


def test_deleting_a_link_keeps_its_target(linker):
    link(linker, "dir", "/todir")
    assert linker.get("/apps/linker/files/todir/target").text == "behind a link"
    assert linker.delete("/apps/linker/files/todir").status == 204
    assert linker.get("/apps/linker/files/dir/target").text == "behind a link"


# --- entity tags and ranges ---------------------------------------------------------------------


def etag(client, path):
    return client.request("HEAD", path).headers["etag"]


def test_the_etag_changes_with_the_content(app):
    path = f"{FILES}/tagged"
    app.put(path, b"1")
    first = etag(app, path)
    assert etag(app, path) == first
    app.put(path, b"2")
    assert etag(app, path) != first
    second = etag(app, path)
    app.run("app", "put", "/tagged", "3")
    assert etag(app, path) != second


def test_if_none_match(app):
    path = f"{FILES}/tagged"
    app.put(path, b"1")
    tag = etag(app, path)
    for value in (tag, f'"other", {tag}', "*", f"W/{tag}"):
        response = app.get(path, headers={"If-None-Match": value})
        assert response.status == 304 and response.headers["etag"] == tag
    assert app.get(path, headers={"If-None-Match": '"other"'}).status == 200


def test_create_only(app):
    path = f"{FILES}/once"
    assert app.put(path, b"1", headers={"If-None-Match": "*"}).status == 201
    response = app.put(path, b"2", headers={"If-None-Match": "*"})
    assert response.status == 412 and response.text.startswith("error: ")
    assert app.get(path).body == b"1"
    app.delete(path)


def test_if_match(app):
    path = f"{FILES}/matched"
    app.put(path, b"1")
    tag = etag(app, path)
    assert app.put(path, b"2", headers={"If-Match": tag}).status == 204
    assert app.put(path, b"3", headers={"If-Match": tag}).status == 412
    assert app.put(path, b"3", headers={"If-Match": f"W/{etag(app, path)}"}).status == 412
    assert app.delete(path, headers={"If-Match": tag}).status == 412
    assert app.get(path, headers={"If-Match": tag}).status == 412
    assert app.get(path).body == b"2"
    assert app.put(f"{FILES}/nothing", b"3", headers={"If-Match": "*"}).status == 412
    assert app.get(f"{FILES}/nothing").status == 404
    assert app.delete(path, headers={"If-Match": etag(app, path)}).status == 204


def test_one_of_many_writers_wins_by_etag(app):
    path = f"{FILES}/race"
    app.put(path, b"0")
    tag = etag(app, path)
    statuses = []

    def write(number):
        statuses.append(app.put(path, str(number), headers={"If-Match": tag}).status)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [204] + [412] * 7


class Upload:
    """A PUT of which only a part has been sent."""

    def __init__(self, client, path, headers):
        self.connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=60)
        self.connection.putrequest("PUT", path)
        for name, value in {**headers, "Content-Length": "8"}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(b"half")

    def finish(self):
        self.connection.send(b"rest")
        status = self.connection.getresponse().status
        self.connection.close()
        return status


def test_who_was_overtaken_while_uploading_does_not_win(app):
    path = f"{FILES}/overtaken"
    fresh = {"If-None-Match": "*"}
    first, second = Upload(app, path, fresh), Upload(app, path, fresh)
    assert (first.finish(), second.finish()) == (201, 412)
    seen = {"If-Match": etag(app, path)}
    first, second, third = (Upload(app, path, seen) for _ in range(3))
    assert (first.finish(), second.finish()) == (204, 412)
    assert app.delete(path).status == 204
    assert third.finish() == 412
    assert app.get(path).status == 404


def test_any_content_will_do_when_the_client_says_so(app):
    path = f"{FILES}/whichever"
    app.put(path, b"1")
    upload = Upload(app, path, {"If-Match": "*"})
    assert app.put(path, b"2").status == 204
    assert upload.finish() == 204
    assert app.get(path).body == b"halfrest"


DIGITS = b"0123456789"
RANGES = [
    ("bytes=0-0", 206, b"0"), ("bytes=2-4", 206, b"234"), ("bytes=7-", 206, b"789"),
    ("bytes=-3", 206, b"789"), ("bytes=-100", 206, DIGITS), ("bytes=0-100", 206, DIGITS),
    ("bytes=9-9", 206, b"9"), ("bytes=0-9", 206, DIGITS),
    ("bytes=10-", 416, None), ("bytes=10-20", 416, None), ("bytes=-0", 416, None),
    ("bytes=4-2", 200, DIGITS), ("bytes=a-b", 200, DIGITS), ("bytes=", 200, DIGITS),
    ("bytes=-", 200, DIGITS), ("lines=1-2", 200, DIGITS), ("bytes=0-1,3-4", 200, DIGITS),
    ("bytes=99999999999999999999-", 416, None), ("bytes=0-99999999999999999999", 206, DIGITS),
    ("bytes=+1-2", 200, DIGITS),
]


@pytest.mark.parametrize("value,status,body", RANGES)
def test_ranges(app, value, status, body):
    app.put(f"{FILES}/range", DIGITS)
    response = app.get(f"{FILES}/range", headers={"Range": value})
    assert response.status == status, response
    if response.status == 416:
        assert response.headers["content-range"] == "bytes */10"
    else:
        assert response.body == body
        assert response.headers["accept-ranges"] == "bytes"
    if response.status == 206:
        first = DIGITS.index(body[:1])
        assert response.headers["content-range"] == f"bytes {first}-{first + len(body) - 1}/10"


def test_a_range_of_nothing(app):
    app.put(f"{FILES}/range0", b"")
    assert app.get(f"{FILES}/range0", headers={"Range": "bytes=0-"}).status == 416
    assert app.get(f"{FILES}/range0", headers={"Range": "bytes=-5"}).status == 416


def test_if_range(app):
    app.put(f"{FILES}/range", DIGITS)
    tag = etag(app, f"{FILES}/range")
    wanted = {"Range": "bytes=1-2", "If-Range": tag}
    assert app.get(f"{FILES}/range", headers=wanted).status == 206
    app.put(f"{FILES}/range", DIGITS[::-1])
    response = app.get(f"{FILES}/range", headers=wanted)
    assert response.status == 200 and response.body == DIGITS[::-1]


# --- large files --------------------------------------------------------------------------------


def test_a_large_file_streams(app, server):
    """100 MB each way, in pieces; the server's memory does not grow with it."""
    # A sanitizer keeps much of what was freed.
    bound = (50 << 20) + ((600 << 20) if server.is_sanitized() else 0)
    piece = bytes(range(256)) * 4096
    count = 100
    digest = hashlib.sha256()
    before = server.resident_bytes()
    most = before
    with app.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(app.head("PUT", f"{FILES}/large", b"", {
            "Content-Length": str(count * len(piece))}))
        for _ in range(count):
            connection.sendall(piece)
            digest.update(piece)
            most = max(most, server.resident_bytes())
        assert read_response(stream).status == 201
    assert most - before < bound, f"{(most - before) >> 20} MiB"
    with app.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(app.head("GET", f"{FILES}/large"))
        while stream.readline() != b"\r\n":
            pass
        received = hashlib.sha256()
        while data := stream.read(1 << 20):
            received.update(data)
            most = max(most, server.resident_bytes())
    assert received.digest() == digest.digest()
    assert most - before < bound, f"{(most - before) >> 20} MiB"
    response = app.get(f"{FILES}/large", headers={"Range": f"bytes={50 << 20}-{(50 << 20) + 255}"})
    assert response.body == bytes(range(256))
    assert app.delete(f"{FILES}/large").status == 204


def test_a_file_larger_than_the_disk_of_the_app(app):
    app.create("small", wat_empty(), disk="1MiB")
    app.put("/apps/small/files/kept", b"x" * 1000)
    response = app.put("/apps/small/files/large", b"x" * (2 << 20))
    assert response.status in (413, 507), response
    assert app.get("/apps/small/files/").text == "kept\n"
    assert app.put("/apps/small/files/kept", b"y" * 1000).status == 204


# --- archives -----------------------------------------------------------------------------------


def make_tar(files, mode="w"):
    """Of contents by name; None is a directory."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode=mode) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.REGTYPE if content is not None else tarfile.DIRTYPE
            entry.size = len(content or b"")
            archive.addfile(entry, io.BytesIO(content or b""))
    return data.getvalue()


def read_tar(data):
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name.removeprefix("./").rstrip("/"): archive.extractfile(member).read()
                for member in archive if member.isfile()}


TREE = {"a.txt": b"1", "dir/b.txt": b"22", "dir/ü/c": b"", "large": bytes(300000)}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_archives_there_and_back(app, mode):
    where = f"{FILES}/unpacked-{mode.replace(':', '')}"
    response = app.put(f"{where}/?unpack", make_tar(TREE, mode))
    assert response.status == 200 and "4 files" in response.text
    assert app.get(f"{where}/dir/b.txt").body == b"22"
    response = app.get(f"{where}/", headers={"Accept": "application/x-tar"})
    assert response.headers["content-type"] == "application/x-tar"
    assert read_tar(response.body) == TREE


def test_archives_say_what_no_program_sees(app, guests):
    """What lies where programs have the server's own files is stored, and told."""
    app.create("veiled", guests.c("files"))
    files = "/apps/veiled/files"
    places = "because the server has its own files there (/cloud /dev /env /net /proc /tmp)"
    hidden = {"tmp": None, "tmp/x": b"1", "./proc/a\nb": b"2", "net": b"3"}
    answer = app.put(f"{files}/?unpack", make_tar({"a": b"0", **hidden}))
    assert answer.text.splitlines()[1:] == [f"3 where no program sees them, {places}: tmp/x, ..."]
    assert app.get(f"{files}/tmp/x").body == b"1"
    assert app.run("veiled", "get /tmp/x").trailers["run-exit"] == "1"
    answer = app.put(f"{files}/?unpack", make_tar({"proc/a\nb": b"2", "proc": None}))
    assert answer.text.splitlines()[1:] == [f"1 where no program sees them, {places}: proc/a?b"]
    answer = app.put(f"{files}/proc/sub/?unpack", make_tar({"a": b"0"}))
    assert answer.text.splitlines()[1:] == [f"1 where no program sees them, {places}: a"]
    # Neither empty directories, nor places that are no places here, nor a volume, mounted anywhere.
    for path, content in ((f"{files}/", {"tmp": None, "proc/sub2": None}),
                          (f"{files}/deeper/", {"tmp/x": b"1"}),
                          ("/vol/unveiled/files/", {"tmp/x": b"1"})):
        answer = app.put(f"{path}?unpack", make_tar(content))
        assert answer.status == 200 and answer.text.count("\n") == 1, answer


def test_a_file_that_no_program_would_see_is_refused(app, guests):
    """One file is not stored where it would be of no use; what lies there already can go."""
    app.create("veiled3", guests.c("files"))
    files = "/apps/veiled3/files"
    why = ("no program would see it, because the server has its own files there "
           "(/cloud /dev /env /net /proc /tmp); take another place")
    app.put(f"{files}/seen", b"1")
    app.put(f"{files}/?unpack", make_tar({"tmp/old": b"1", "dev/old": b"2"}))
    for path in ("cloud", "dev/x", "env/A", "net/a/b", "proc/x", "tmp/", "tmp/old", "./tmp/x",
                 "%74mp/x", "/tmp/x", "a/../tmp/x"):
        answer = app.put(f"{files}/{path}", b"" if path.endswith("/") else b"x")
        assert answer.status == 409 and why in answer.text, (path, answer)
        if not path.endswith("/"):
            answer = app.request("MOVE", f"{files}/seen",
                                 headers={"Destination": f"{files}/{path}"})
            assert answer.status == 409 and why in answer.text, (path, answer)
    answer = app.put("/apps/veiled3/files/proc/x", b"x", headers={"Accept": "application/json"})
    assert answer.status == 409 and answer.json()["detail"] == f"{files}/proc/x: {why}"
    assert app.get(f"{files}/").text == "dev/\nseen\ntmp/\n"
    assert app.get(f"{files}/tmp/old").body == b"1"
    assert app.request("MOVE", f"{files}/tmp/old",
                       headers={"Destination": f"{files}/new"}).status == 201
    assert app.delete(f"{files}/dev").status == 204
    assert app.run("veiled3", "get /new").text == "1"
    # Names that are the server's own at the root alone, and in no volume, which is mounted anywhere.
    for path in (f"{files}/a/tmp/x", f"{files}/tmpx", f"{files}/.tmp", "/vol/unveiled3/files/tmp/x"):
        assert app.put(path, b"x").status == 201
    assert app.put("/apps/nope/files/tmp/x", b"x").status == 404


def test_an_upload_says_what_no_program_sees(app, guests):
    tar = make_tar({"app.wasm": guests.c("files"), "data": b"1", "dev/x": b"22", "tmp/y": b""})
    answer = app.post("/create?name=veiled2", tar)
    assert "\n  files    3, 3 bytes\n  hidden   2 where no program sees them, " in answer.text
    assert answer.text.count(": dev/x, ...\n") == 1
    answer = app.post("/create?name=veiled2", tar, headers={"Accept": "application/json"}).json()
    assert (answer["files"], answer["hidden"], answer["first_hidden"]) == (3, 2, "dev/x")
    answer = app.post("/create?name=veiled2", make_tar({"app.wasm": guests.c("files"), "a": b""}),
                      headers={"Accept": "application/json"}).json()
    assert "hidden" not in answer


@pytest.mark.parametrize("name", ["../outside", "/absolute", "a/../../outside"])
def test_archives_can_not_leave_their_directory(app, name):
    app.put(f"{FILES}/jail/sub/?unpack", make_tar({name: b"x"}))
    for path in ("outside", "jail/outside", "absolute"):
        assert app.get(f"{FILES}/{path}").status == 404, path


@pytest.mark.parametrize("body", [b"", b"junk" * 1000, make_tar(TREE)[:1000]])
def test_damaged_archives(app, body):
    response = app.put(f"{FILES}/damaged/?unpack", body)
    assert response.status < 500, response
    assert response.status >= 400 or body == b"", response


def test_a_cut_archive_leaves_whole_files(app):
    """What comes in half replaces nothing; nothing of it stays, nor under another name."""
    where = f"{FILES}/cut"
    assert app.put(f"{where}/big", b"o" * 100_000).status == 201
    archive = make_tar({"other": b"n", "big": b"n" * 100_000, "new": b"n"})
    assert app.put(f"{where}/?unpack", archive[:60_000]).status == 400
    assert app.get(f"{where}/big").body == b"o" * 100_000
    assert app.get(f"{where}/").text.split() == ["big", "other"]
    archive_of_one = make_tar({"new": b"n" * 100_000})
    assert app.put(f"{where}/?unpack", archive_of_one[:60_000]).status == 400
    assert app.get(f"{where}/").text.split() == ["big", "other"]
    assert app.put(f"{where}/?unpack", archive).status == 200
    assert app.get(f"{where}/big").body == b"n" * 100_000
    assert app.get(f"{where}/").text.split() == ["big", "new", "other"]


LEFTOVER = ".zasm-put-00000000-0000000000000000"  # of another life of the server


def files_of_volume(client, name):
    """How many it has, also those that nobody sees; its root is one."""
    lines = dict(line.split(": ") for line in client.get(f"/vol/{name}/status").text.splitlines())
    return int(lines["files"])


def test_unpacking_sweeps_what_a_crash_left(app):
    where = "/vol/swept-archive/files"
    assert app.put(f"{where}/?unpack", make_tar({f"d/{LEFTOVER}": b"half", "d/a": b"o"})).status == 200
    before = files_of_volume(app, "swept-archive")
    assert app.put(f"{where}/?unpack", make_tar({"d/a": b"n"})).status == 200
    assert files_of_volume(app, "swept-archive") == before - 1
    assert app.get(f"{where}/d/").text.split() == ["a"]


LISTER = r"""
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (argc > 1) return rmdir(argv[1]) ? perror(argv[1]), 1 : 0;
    DIR *directory = opendir("/");
    for (struct dirent *entry; directory && (entry = readdir(directory));) puts(entry->d_name);
    return !directory;
}
"""


def names_of_all_doors(client, volume):
    """What each way to list a volume's root shows of it."""
    where = f"/vol/{volume}/files/"
    listed = client.get(where, headers={"Accept": "application/json"}).json()
    archive = client.get(where, headers={"Accept": "application/x-tar"}).body
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        packed = tar.getnames()
    guest = client.run("lister", root=volume).text.split("\n")[:-1]
    return [client.get(where).text.splitlines(), [entry["name"] for entry in listed], packed,
            sorted(set(guest) - {".", "..", "cloud", "dev", "env", "net", "proc", "tmp"})]


def test_half_a_file_is_none(make_server, guests, eventually):
    """While it comes, and when the server was killed before it was whole."""
    server = make_server()
    client = server.client
    client.create("lister", guests.c_text(LISTER))
    assert client.put("/vol/half/files/there", b"x").status == 201
    whole = files_of_volume(client, "half")
    body = b"y" * 300_000

    def begin(name):
        connection = client.connect()
        connection.sendall(client.head("PUT", f"/vol/half/files/{name}", body) + body[:200_000])
        eventually(lambda: files_of_volume(client, "half") == whole + 1)
        return connection

    with begin("slow") as connection:
        assert names_of_all_doors(client, "half") == [["there"]] * 4
        assert client.get("/vol/half/files/slow").status == 404
        connection.sendall(body[200_000:])
        with connection.makefile("rb") as stream:
            assert read_response(stream).status == 201
    assert client.get("/vol/half/files/slow").body == body
    whole += 1
    with begin("killed"):
        assert client.put("/vol/half/files/there", b"committed, and with it all").status == 204
        server.kill()
    server.start()
    client = server.client
    assert files_of_volume(client, "half") == whole + 1
    assert names_of_all_doors(client, "half") == [["slow", "there"]] * 4
    # Who lists a directory removes it, so that its room is free.
    eventually(lambda: files_of_volume(client, "half") == whole)


def test_a_directory_with_half_a_file_can_be_removed(app, guests):
    app.create("remover", guests.c_text(LISTER))
    for way in ("delete", "guest"):
        where = "/vol/removes/files"
        assert app.put(f"{where}/?unpack", make_tar({f"d/{LEFTOVER}": b"half"})).status == 200
        if way == "delete":
            assert app.delete(f"{where}/d").status == 204
            continue
        response = app.run("remover", "/d", root="removes")
        assert response.trailers["run-exit"] == "0", response
    assert files_of_volume(app, "removes") == 0


def test_names_of_the_servers_own(app):
    for path in (f"{FILES}/{LEFTOVER}", f"{FILES}/{LEFTOVER}/x", f"/vol/own-names/files/{LEFTOVER}"):
        response = app.put(path, b"x")
        assert response.status == 400 and "the server's own" in response.text, response
        assert app.get(path).status == 404
        assert app.delete(path).status == 404
    app.put(f"{FILES}/moves", b"x")
    assert move(app, f"{FILES}/moves", f"{FILES}/{LEFTOVER}").status in (400, 404, 409)
    assert app.run("app", "put", f"/{LEFTOVER}", "x").trailers["run-exit"] != "0"
    # What only begins like it is anybody's.
    for name in (LEFTOVER[:-1], ".zasm-put-mine"):
        assert app.put(f"{FILES}/{name}", b"x").status == 201
        assert name in app.get(f"{FILES}/").text.splitlines()


def test_an_upload_with_files(app, guests):
    body = make_tar({"app.wasm": guests.c("probe"), "in.txt": b"from the layer", "www/x": b"y"})
    response = app.post("/create?name=layered", body, headers={"Accept": "application/json"})
    assert response.status == 201 and response.json()["files"] == 2, response
    assert app.run("layered", "get", "/in.txt").text == "from the layer"
    assert app.get("/apps/layered/files/in.txt").text == "from the layer"
    # The volume lies above the layer, and stays when the layer is exchanged.
    app.put("/apps/layered/files/in.txt", b"from the volume")
    app.put("/apps/layered/files/mine", b"kept")
    body = make_tar({"app.wasm": guests.c("probe"), "in.txt": b"second", "new.txt": b"new"})
    assert app.post("/create?name=layered", body).status == 200
    assert app.run("layered", "get", "/in.txt").text == "from the volume"
    assert app.run("layered", "get", "/new.txt").text == "new"
    assert app.get("/apps/layered/files/mine").text == "kept"
    assert app.get("/apps/layered/files/www/x").status == 404


def test_a_file_of_the_layer_can_be_deleted(app, guests):
    body = make_tar({"app.wasm": guests.c("probe"), "in.txt": b"from the layer", "d/e": b"f"})
    assert app.post("/create?name=whiteout", body).status == 201
    assert app.delete("/apps/whiteout/files/in.txt").status == 204
    assert app.get("/apps/whiteout/files/in.txt").status == 404
    assert app.run("whiteout", "get", "/in.txt").trailers["run-exit"] == "1"
    assert app.get("/apps/whiteout/files/").text == "d/\n"


def test_an_upload_without_the_program(app):
    response = app.post("/create?name=headless", make_tar({"readme": b"x"}))
    assert 400 <= response.status < 500 and "app.wasm" in response.text
    assert app.get("/apps/headless").status == 404


# --- MOVE ---------------------------------------------------------------------------------------


def move(client, source, destination, **headers):
    return client.request("MOVE", source, headers={"Destination": destination, **headers})


def test_move(app):
    app.put(f"{FILES}/from", b"moved")
    assert move(app, f"{FILES}/from", f"{FILES}/to").status == 201
    assert app.get(f"{FILES}/from").status == 404
    assert app.get(f"{FILES}/to").body == b"moved"
    app.put(f"{FILES}/from", b"again")
    assert move(app, f"{FILES}/from", f"{FILES}/to", Overwrite="F").status == 412
    assert move(app, f"{FILES}/from", f"http://{app.host}:{app.port}{FILES}/to").status == 204
    assert app.get(f"{FILES}/to").body == b"again"


def test_move_a_directory(app):
    app.put(f"{FILES}/olddir/x", b"1")
    assert move(app, f"{FILES}/olddir", f"{FILES}/newdir").status == 201
    assert app.get(f"{FILES}/newdir/x").body == b"1"
    assert move(app, f"{FILES}/newdir", f"{FILES}/newdir/sub").status in (400, 409)
    assert app.get(f"{FILES}/newdir/x").body == b"1"


@pytest.mark.parametrize("destination,status", [
    (None, 400), ("", 400), ("relative", 400), ("/apps/app/files/no/such/dir", (404, 409)),
    ("/nowhere/x", (404, 403, 409)), ("/vol/other/files/x", (404, 409, 502, 400)),
    ("/apps/app/config", (400, 403, 404, 409, 502))])
def test_moves_that_can_not_be(app, destination, status):
    app.put(f"{FILES}/stays", b"x")
    response = app.request("MOVE", f"{FILES}/stays", headers={"Destination": destination})
    assert response.status in (status if isinstance(status, tuple) else (status,)), response
    assert app.get(f"{FILES}/stays").body == b"x"
    assert move(app, f"{FILES}/missing", f"{FILES}/x").status == 404


def test_move_an_app(app):
    app.create("oldname", wat_numbered(7))
    app.put("/apps/oldname/files/note", b"moves along")
    assert move(app, "/apps/oldname", "/apps/newname").status == 201
    assert app.run("newname").trailers["run-exit"] == "7"
    assert app.get("/apps/newname/files/note").body == b"moves along"
    assert app.run("oldname").status == 404
    app.create("taken", wat_numbered(8))
    assert move(app, "/apps/newname", "/apps/taken").status in (409, 412)
    assert app.run("taken").trailers["run-exit"] == "8"
    assert move(app, "/apps/newname", "/apps/Bad Name").status in (400, 404)
    assert app.run("newname").trailers["run-exit"] == "7"


# --- an app's settings --------------------------------------------------------------------------


def test_environment(app):
    app.create("envs", wat_empty())
    assert app.put("/apps/envs/env/KEY", b"value").status == 201
    assert app.put("/apps/envs/env/OTHER", b"line\n").status == 201
    assert app.get("/apps/envs/env/KEY").text == "value"
    assert app.get("/apps/envs/env").text == "KEY\nOTHER\n"
    assert app.get("/apps/envs/config").json() == {"env": {"KEY": "value", "OTHER": "line"}}
    assert app.put("/apps/envs/env/KEY", b"2").status == 204
    assert app.delete("/apps/envs/env/OTHER").status == 204
    assert app.delete("/apps/envs/env/OTHER").status == 404
    assert app.get("/apps/envs/config").json() == {"env": {"KEY": "2"}}
    assert app.put("/apps/envs/env/A=B", b"x").status == 400
    assert app.put("/apps/envs/env/NUL", b"a\0b").status == 400
    assert app.put("/apps/envs/env/BYTES", b"\xff").status == 400
    assert app.get("/apps/envs/env").text == "KEY\n"


def test_many_variables_at_once(app):
    app.create("race", wat_empty())
    threads = [threading.Thread(target=app.put, args=(f"/apps/race/env/K{i}", str(i)))
               for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert app.get("/apps/race/config").json()["env"] == {f"K{i}": str(i) for i in range(8)}


def test_arguments(app, guests):
    app.create("arguments", guests.c("probe"))
    assert app.put("/apps/arguments/args", b"args\na b\n\nc\n").status == 204
    assert app.get("/apps/arguments/args").text == "args\na b\n\nc\n"
    assert app.run("arguments").text == "arguments\nargs\na b\n\nc\n"
    assert app.put("/apps/arguments/args", b"").status == 204
    assert app.get("/apps/arguments/config").json().get("args", []) == []
    assert app.put("/apps/arguments/args", b"\xff\n").status == 400


def test_configuration(app):
    app.create("configured", wat_empty(), memory="1MiB")
    wanted = {"memory": "2MiB", "env": {"A": "1"}, "args": ["x"]}
    tag = etag(app, "/apps/configured/config")
    assert app.put("/apps/configured/config", json.dumps(wanted)).status == 204
    assert app.get("/apps/configured/config").json() == wanted
    assert etag(app, "/apps/configured/config") != tag
    assert app.put("/apps/configured/config", b"{}", headers={"If-Match": tag}).status == 412
    for bad, words in ((b"{", "JSON"), (b"[]", ""), (b'{"memry": 1}', "memory"),
                       (b'{"memory": "x"}', "memory"), (b'{"a":1,"a":2}', ""), (b"", "JSON"),
                       (b'{"args": [1]}', "args"), (b"x" * 300000, "")):
        response = app.put("/apps/configured/config", bad)
        assert response.status in (400, 413), response
        assert words in response.text
        assert app.get("/apps/configured/config").json() == wanted


def test_versions(app):
    for number in (1, 2, 3):
        app.create("versioned", wat_numbered(number))
    assert app.get("/apps/versioned/versions/").text == "1/\n2/\n3/\n"
    assert app.get("/apps/versioned/versions/2/module").body == wat_numbered(2)
    assert "version: 2\n" in app.get("/apps/versioned/versions/2/info").text
    assert app.get("/apps/versioned/versions/4/module").status == 404
    assert app.get("/apps/versioned/versions/02/module").status == 404
    digest = hashlib.sha256(wat_numbered(3)).hexdigest()
    assert f"sha256: {digest}\n" in app.get("/apps/versioned/info").text
    assert app.get("/apps/versioned/module").headers["content-type"] == "application/wasm"


@pytest.mark.parametrize("path", ["module", "info", "versions/1/module", "versions", "log"])
def test_what_can_not_be_written(app, path):
    app.create("fixed", wat_empty())
    before = app.get("/apps/fixed/module").body
    assert app.put(f"/apps/fixed/{path}", b"x").status in (400, 403, 404, 405, 409)
    assert app.delete(f"/apps/fixed/{path}").status in (400, 403, 404, 405, 409)
    assert app.get("/apps/fixed/module").body == before


# --- DELETE of an app ---------------------------------------------------------------------------


def test_delete_an_app(app, server, eventually):
    app.create("doomed", wat_numbered(99))
    app.put("/apps/doomed/files/note", b"x")
    digest = hashlib.sha256(wat_numbered(99)).hexdigest()
    assert (server.state / "modules" / f"{digest}.wasm").exists()
    volumes = set((server.state / "volumes").iterdir())
    assert app.delete("/apps/doomed").status == 204
    assert app.get("/apps/doomed").status == 404
    assert app.run("doomed").status == 404
    assert "doomed/" not in app.get("/apps").text
    eventually(lambda: not (server.state / "modules" / f"{digest}.wasm").exists())
    eventually(lambda: len(set((server.state / "volumes").iterdir())) < len(volumes))
    app.create("doomed", wat_numbered(98))
    assert app.get("/apps/doomed/files/").text == ""
    assert "version: 1\n" in app.get("/apps/doomed/info").text


def test_delete_an_app_with_runs_under_way(app, guests, eventually):
    app.create("busy", guests.c("probe"))
    identifier = app.post("/run?name=busy&arg=wait&detach&stdin=open").text.strip()
    eventually(lambda: "waiting" in app.get(f"/proc/{identifier}/log").text)
    assert app.delete("/apps/busy").status == 204
    assert app.run("busy").status == 404
    # The run keeps what it has, and ends as ever; then it is forgotten with the app.
    connection, stream = app.open("GET", f"/proc/{identifier}/stdout")
    while stream.readline() != b"waiting\n":
        pass
    app.put(f"/proc/{identifier}/stdin", b"A")
    assert b"got 65\n" in stream.read()
    connection.close()
    eventually(lambda: app.get(f"/proc/{identifier}").status == 404)
    app.create("busy", guests.c("probe"))
    assert app.run("busy", "args").text == "busy\nargs\n"


# --- lists --------------------------------------------------------------------------------------


def test_lists(app):
    app.put(f"{FILES}/list/b", b"x")
    app.put(f"{FILES}/list/a/x", b"x")
    assert app.get(f"{FILES}/list").text == "a/\nb\n"
    assert app.get(f"{FILES}/list", headers={"Accept": "application/json"}).json() == [
        {"name": "a", "type": "directory"}, {"name": "b", "type": "file"}]
    assert "app/\n" in app.get("/apps").text
    entries = app.get("/apps/app").text.splitlines()
    assert {"args", "config", "env/", "files/", "log", "module", "versions/"} <= set(entries)


def test_the_index_names_the_verbs(app):
    text = app.get("/").text
    for word in ("/create", "/run", "/apps", "/proc", "/vol", "/healthz", "/metrics"):
        assert word in text
    assert app.get("/healthz").status == 200
    assert app.get("/metrics").status == 200


def test_many_names(app):
    files = {f"many/{i:05}": b"" for i in range(3000)}
    assert app.put(f"{FILES}/?unpack", make_tar(files)).status == 200
    assert app.get(f"{FILES}/many").text.splitlines() == sorted(n[5:] for n in files)
    assert app.delete(f"{FILES}/many").status == 204


# --- volumes ------------------------------------------------------------------------------------


def test_shared_volumes(app, guests):
    assert app.put("/vol/shared/files/note", b"from outside").status == 201
    assert "shared/\n" in app.get("/vol").text
    app.create("user1", guests.c("probe"), mount="shared:/shared")
    app.create("user2", guests.c("probe"), mount="shared:/s:ro")
    assert app.run("user1", "get", "/shared/note").text == "from outside"
    assert app.run("user1", "put", "/shared/other", "from user1").trailers["run-exit"] == "0"
    assert app.run("user2", "get", "/s/other").text == "from user1"
    assert app.run("user2", "put", "/s/other", "no").trailers["run-exit"] == "1"
    assert app.get("/vol/shared/files/other").text == "from user1"
    assert app.delete("/vol/shared/files/other").status == 204
    assert app.get("/vol/nothing/files/x").status == 404
    assert app.put("/vol/Bad Name/files/x", b"").status in (400, 404)


# --- /proc --------------------------------------------------------------------------------------


def test_proc(app, eventually):
    identifier = app.post("/run?name=app&arg=wait&detach&stdin=open").text.strip()
    assert f"{identifier}/\n" in app.get("/proc").text
    entries = app.get(f"/proc/{identifier}").text.split()
    assert {"status", "usage", "stdin", "stdout", "stderr", "log", "wait", "ctl"} <= set(entries)
    status = app.get(f"/proc/{identifier}/status").text
    assert f"id: {identifier}\n" in status and "app: app\n" in status
    shown = app.get(f"/proc/{identifier}/status", headers={"Accept": "application/json"})
    assert shown.status == 200
    eventually(lambda: "waiting" in app.get(f"/proc/{identifier}/log").text)
    assert app.delete(f"/proc/{identifier}").status == 204
    app.get(f"/proc/{identifier}/wait")
    assert "reason: killed\n" in app.get(f"/proc/{identifier}/status").text


@pytest.mark.parametrize("path", ["/proc/0", "/proc/x", "/proc/99999999999/status", "/proc/01"])
def test_runs_that_are_not(app, path):
    response = app.get(path)
    assert response.status == 404 and "GET /proc" in response.text


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path,words", [
    ("/nothing", "GET /"),
    ("/apps/nobody", "GET /apps"),
    ("/apps/nobody/files/x", "GET /apps"),
    ("/apps/app/nothing", "/apps/app/nothing"),
    ("/apps/app/files/nothing", "/apps/app/files/nothing"),
    ("/vol/nobody", "/vol/nobody"),
])
def test_what_is_not_there(app, path, words):
    response = app.get(path)
    assert response.status == 404
    assert response.text.startswith("error: ") and words in response.text
    response = app.get(path, headers={"Accept": "application/json"})
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == 404 and words in problem["detail"]
    assert {"type", "status", "detail"} <= set(problem)


@pytest.mark.parametrize("method,path,allowed", [
    ("DELETE", "/run", "POST"), ("GET", "/create", "POST"), ("HEAD", "/create", "POST"),
    ("PUT", "/", "GET, HEAD"), ("POST", "/healthz", "GET, HEAD"), ("BREW", "/run", "POST"),
    ("PUT", "/metrics", "GET, HEAD"), ("POST", "/apps", "GET, HEAD, PUT, DELETE, MOVE"),
    ("MOVE", "/proc/1", "GET, HEAD, PUT, POST, DELETE"),
    ("PATCH", "/proc/1/log", "GET, HEAD, PUT, POST, DELETE"),
    ("PATCH", "/apps/app", "GET, HEAD, PUT, DELETE, MOVE"),
    ("POST", "/apps/app/log", "GET, HEAD, PUT, DELETE, MOVE"),
    ("POST", "/apps/app/secrets/X", "GET, HEAD, PUT, DELETE, MOVE"),
    ("POST", "/vol/v/files/a", "GET, HEAD, PUT, DELETE, MOVE"),
    ("HEAD", "/apps/app/call", "POST"), ("PUT", "/apps/app/start", "POST")])
def test_methods_that_are_not(app, method, path, allowed):
    """Each method that there is, once; HEAD wherever there is GET."""
    response = app.request(method, path, body=b"x" if method == "PUT" else None)
    assert response.status == 405, response
    assert sorted(response.headers["allow"].split(", ")) == sorted(allowed.split(", "))
    if method != "HEAD" and allowed != "POST":
        assert f"this path has: {response.headers['allow']}\n" in response.text


def test_a_body_where_none_is_taken(app):
    """It is dropped, and the connection stays in step."""
    with app.connect() as connection, connection.makefile("rb") as stream:
        for _ in range(2):
            connection.sendall(app.head("GET", "/healthz", b"GET / HTTP/1.1\r\n\r\n", {
                "Connection": "keep-alive"}) + b"GET / HTTP/1.1\r\n\r\n")
            assert read_response(stream).status == 200


def test_puts_leave_nothing_beside(app, eventually):
    """A PUT writes beside its target first: a client that leaves half-way leaves nothing."""
    app.put(f"{FILES}/half/kept", b"whole")
    for _ in range(5):
        with app.connect() as connection:
            connection.sendall(app.head("PUT", f"{FILES}/half/kept", b"", {
                "Content-Length": "1000000"}) + b"x" * 500000)
    eventually(lambda: app.get(f"{FILES}/half").text == "kept\n")
    assert app.get(f"{FILES}/half/kept").body == b"whole"


def test_a_directory_takes_no_content(client):
    client.create("plain", wat_empty())
    response = client.put("/apps/plain/files/made/", b"important")
    assert response.status == 400 and "directory" in response.text
    assert client.get("/apps/plain/files/made/").status == 404
    assert client.put("/apps/plain/files/made/").status == 201
    assert client.get("/apps/plain/files/made/").status == 200


def test_an_encoded_slash_is_refused(client):
    assert client.get("/apps%2fplain").status == 400


def test_move_to_another_server(client):
    client.create("plain", wat_empty())
    response = client.request("MOVE", "/apps/plain",
                              headers={"Destination": "http://elsewhere.example/apps/moved"})
    assert response.status == 400 and "another server" in response.text
    assert client.get("/apps/plain/info").status == 200
