"""POST /run with a form: options, files and standard input in one request."""

import io
import json
import socket
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from support.form import BOUNDARY, form_of, part


@pytest.fixture(scope="module")
def files(server, guests):
    server.client.create("files", guests.c("files"))
    return server.client


def send(client, *parts, accept="application/json", query=None):
    body, headers = form_of(*parts)
    if accept:
        headers["Accept"] = accept
    return client.post("/run", body, headers=headers, query=query)


def result(client, *parts, **options):
    response = send(client, *parts, **options)
    assert response.status == 200, response
    return response.json()


def test_options_and_files(files):
    got = result(files, ("name", "files"), ("root", "fresh"), ("arg", "ls /in"),
                 ("arg", "get /in/a.csv"), ("/in/a.csv", "1,2\r\n"), ("env", "A=b"),
                 ("/in/deep/er/b", b"\x00\xff"))
    assert got["exit"] == 0 and got["stdout"] == "a.csv\ndeep\n1,2\r\n"
    # The next run sees nothing of it.
    assert files.run_json("files", "ls /in", root="fresh")["exit"] == 1


def test_query_and_fields_are_mixed(files):
    got = result(files, ("arg", "get /x"), ("/x", "1"), query={"name": "files", "root": "fresh"})
    assert got["stdout"] == "1"
    got = result(files, ("arg", "get /y"), ("/y", "2"),
                 query=[("name", "files"), ("root", "fresh"), ("arg", "get /y")])
    assert got["stdout"] == "22"


def test_standard_input(files):
    data = bytes(range(256)) * 4000
    response = send(files, ("stdin", data), ("arg", "cat"), query={"name": "files"}, accept=None)
    assert response.body == data
    # A program that does not read it ends all the same.
    assert result(files, ("stdin", data), ("arg", "ls /"), query={"name": "files"})["exit"] == 0
    # Without the part it is empty.
    assert result(files, ("arg", "cat"), query={"name": "files"})["stdout"] == ""


def test_detached_with_standard_input(files, eventually):
    response = send(files, ("stdin", b"x" * 200000), ("arg", "cat"), ("detach", ""),
                    query={"name": "files"}, accept=None)
    assert response.status == 202
    run = response.text.strip()
    assert files.get(f"/proc/{run}/stdout").body == b"x" * 200000


def test_files_stay_where_the_root_stays(files):
    for root, tree in (("keep", "/apps/files/files"), ("a-session", "/vol/a-session/files")):
        files.put(f"{tree}/in/old", "old")
        files.put(f"{tree}/in/replaced", "old")
        got = result(files, ("root", root), ("/in/replaced", "new"), ("/in/sub/new", "n" * 100000),
                     ("arg", "get /in/replaced"), ("arg", "put /in/out o"),
                     query={"name": "files"})
        assert got["stdout"] == "new"
        assert files.get(f"{tree}/in/").text == "old\nout\nreplaced\nsub/\n"
        assert files.get(f"{tree}/in/sub/new").text == "n" * 100000
        assert files.get(f"{tree}/in/old").text == "old"


def test_files_over_a_read_only_root(files):
    files.put("/apps/files/files/below", "b")
    got = result(files, ("root", "ro"), ("/in/x", "1"), ("arg", "get /in/x"), ("arg", "get /below"),
                 ("arg", "put /in/x 2"), ("arg", "put /y 2"), query={"name": "files"})
    assert got["stdout"] == "1b" and got["exit"] == 1
    assert got["stderr"].count("Read-only file system") == 2
    assert files.get("/apps/files/files/in/x").status == 404


def test_a_file_hides_what_is_below(files):
    """The form's directory is one with that of the version; its file is in place of another."""
    files.put("/apps/files/files/mix/a", "a")
    files.put("/apps/files/files/mix/b", "b")
    got = result(files, ("root", "fresh"), ("/mix/a", "A"), ("arg", "get /mix/a"),
                 ("arg", "get /mix/b"), query={"name": "files"})
    assert got["stdout"] == "Ab"


def test_names_are_unescaped_as_browsers_escape_them(files):
    got = result(files, (b'/a%22b\\"c', "1"), ("arg", 'get /a"b"c'), ("root", "fresh"),
                 query={"name": "files"})
    assert got["stdout"] == "1"


@pytest.mark.parametrize("parts,status,text", [
    ([("/../x", "")], 400, "has a component '.' or '..'"),
    ([("/a/./x", "")], 400, "has a component '.' or '..'"),
    ([("//x", "")], 400, "has an empty component"),
    ([("/", "")], 400, "ends in a slash"),
    ([("/a/", "")], 400, "ends in a slash"),
    ([("/proc/x", "")], 400, "is in a directory of the system"),
    ([("/tmp/x", "")], 400, "is in a directory of the system"),
    ([("/" + "x" * 256, "")], 400, "name of more than 255 bytes"),
    ([("/x" * 65, "")], 400, "too deep"),
    ([("/" + "/".join(["x" * 200] * 30), "")], 400, "longer than 4096 bytes"),
    ([("/a", ""), ("/a", "")], 400, "given twice"),
    ([("/a", ""), ("/a/b", "")], 400, "given twice in the form, or is in what is a file"),
    ([("/a/b", ""), ("/a", "")], 400, "given twice"),
    ([("stdin", ""), ("stdin", "")], 400, "'stdin' is given twice"),
    ([("root", "fresh"), ("root", "ro")], 400, "'root' is given twice"),
    ([("name", "files")], 400, "'name' is given twice"),
    ([("rot", "fresh")], 400, "did you mean 'root'"),
    ([("", "x")], 400, "empty name"),
    ([("a/b", "x")], 400, "no parameter 'a/b'"),
    ([("arg", b"\xff")], 400, "not UTF-8"),
    ([("arg", b"a\x00b")], 400, "not UTF-8 text without NUL"),
    ([("root", "No Volume"), ("/x", "")], 400, "root='No Volume' is not valid"),
    ([("root", "Fresh"), ("/x", "")], 400, "in small letters"),
    ([("arg", "x" * 1100000)], 413, "more than 1048576 bytes"),
    ([("/a", b"x" * (65 << 20))], 413, "the limit tmp of 67108864 bytes"),
    ([("stdin", b"x" * (65 << 20))], 413, "the limit tmp of 67108864 bytes"),
    ([("/a", "x" * 5000), ("disk", "4096")], 413, "its limit disk of 4096 bytes"),
    ([(f"/f/{i}", "") for i in range(10001)], 413, "more than 10000 parts"),
])
def test_refused(files, parts, status, text):
    before = files.get("/apps/files/files/").text
    response = send(files, *parts, query={"name": "files"})
    assert response.status == status, response
    assert text in response.json()["detail"], response
    assert files.get("/apps/files/files/").text == before


def test_no_app(files):
    assert send(files, ("/x", "1"), query={"name": "nobody"}).status == 404
    response = send(files, ("/x", "1"))
    assert response.status == 400 and "say which app" in response.text


@pytest.mark.parametrize("body,type_,text", [
    (part("/x", "1"), None, "ends before its last boundary"),
    (part("/x", "1")[:-20], None, "ends before its last boundary"),
    (b"", None, "nothing of a form"),
    (b"just text", None, "nothing of a form"),
    (part("/x", "1"), "multipart/form-data", "names its boundary"),
    (part("/x", "1"), "multipart/form-data; boundary=", "names its boundary"),
    (part("/x", "1").replace(b"\r\n", b"\n"), None, ""),
    (b"--" + BOUNDARY.encode() + b"\r\nX: y\r\n\r\n", None, "has no name"),
])
def test_no_form(files, body, type_, text):
    files.put("/apps/files/files/marker", "")
    before = files.get("/apps/files/files/").text
    response = files.post("/run", body, query={"name": "files"}, headers={
        "Content-Type": type_ or f"multipart/form-data; boundary={BOUNDARY}"})
    if not body:  # no body at all is no form
        assert response.status == 200
        return
    assert response.status == 400 and text in response.text, response
    assert files.get("/apps/files/files/").text == before


def test_a_client_that_leaves_in_the_middle_leaves_nothing(files, server, eventually):
    before = int(files.run("files").headers["run-id"])
    listing = files.get("/apps/files/files/").text
    body, headers = form_of(("/left", "x" * 100000), ("arg", "ls /"))
    for cut in (10, 300, 50000, len(body) - 3):
        head = files.head("POST", "/run", body, headers, {"name": "files"})
        with files.connect() as connection:
            connection.sendall(head + body[:cut])
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)
    after = int(files.run("files").headers["run-id"])
    assert after == before + 1  # no run was started
    assert files.get("/apps/files/files/").text == listing


@pytest.mark.parametrize("root", ["keep", "form-root"])
@pytest.mark.parametrize("option,status", [
    (("memory", "64KiB"), 413), (("call", "nothing"), 404), (("version", "9"), 404),
    (("arg", "x" * 300000), 413), (("env", "X"), 400), (("ttl", "x"), 400), (("tag", "x"), 400),
    (("net", "a b"), 400)])
def test_a_run_that_is_refused_leaves_no_files(files, root, option, status):
    tree = "/apps/files/files" if root == "keep" else "/vol/form-root/files"
    files.put(f"{tree}/there", "before")
    before = files.get(f"{tree}/").text
    response = send(files, ("root", root), ("/there", "after"), ("/refused/a", "1"), option,
                    query={"name": "files"})
    assert response.status == status, response
    assert files.get(f"{tree}/").text == before
    assert files.get(f"{tree}/there").text == "before"


def test_a_run_that_found_no_place_leaves_no_files(make_server, guests):
    server = make_server("--max-runs", 1, "--queue-wait", "50ms", "--queue", 1)
    client = server.client
    client.create("files", guests.c("files"))
    run = client.post("/run", query=[("name", "files"), ("arg", "wait"), ("detach", ""),
                                     ("stdin", "open")]).text.strip()
    response = send(client, ("/a", "1"), ("arg", "ls /"), query={"name": "files"})
    assert response.status == 429, response
    assert client.get("/apps/files/files/").text == ""
    client.delete(f"/proc/{run}")


def test_one_file_in_the_way_leaves_none(files):
    """The others are not written, no directory is made, what is there stays."""
    files.put("/apps/files/files/amid/directory/x", "x")
    files.put("/apps/files/files/amid/file", "before")
    files.run("files", "ln nowhere /amid/dangling")
    before = files.get("/apps/files/files/amid/").text
    for path in ("/amid/directory", "/amid/file/below", "/amid/dangling/below"):
        response = send(files, ("/amid/a", "1"), ("/amid/new/b", "1"), ("/amid/file2", "1"),
                        ("/amid/z/z", "1"), (path, "1"), query={"name": "files"})
        assert 400 <= response.status < 500, response
        assert "of the run can't be written" in response.text, response
        assert files.get("/apps/files/files/amid/").text == before
        assert ".zasm" not in files.get("/apps/files/files/").text
    assert files.get("/apps/files/files/amid/file").text == "before"


def test_forms_at_once_with_the_same_directories(files):
    """Whoever makes a directory first, all find it."""
    forms, directories = 6, 60
    for round_ in range(4):
        root = f"crowd-{round_}"

        def bring(form, root=root):
            parts = [(f"/d{i}/e/{form}", f"{form} {i}") for i in range(directories)]
            return send(files, ("root", root), ("arg", "ls /d0/e"), *parts, ("/same", "s"),
                        query={"name": "files"})

        with ThreadPoolExecutor(forms) as pool:
            for response in pool.map(bring, range(forms)):
                assert response.status == 200, response
                assert response.json()["exit"] == 0, response
        tree = f"/vol/{root}/files"
        names = sorted([f"d{i}/" for i in range(directories)] + ["same"])
        assert sorted(files.get(f"{tree}/").text.split()) == names
        for i in range(directories):
            listing = files.get(f"{tree}/d{i}/e/").text.split()
            assert listing == [str(form) for form in range(forms)]
        assert files.get(f"{tree}/d7/e/3").text == "3 7"
        assert files.get(f"{tree}/same").text == "s"


@pytest.mark.parametrize("root", ["keep", "swept-root"])
def test_what_a_crash_left_goes(files, guests, root):
    """Hidden files of another life of the server, before it is looked whether there is room; what
    else begins with a dot stays."""
    files.create("crashed", guests.c("files"), disk="256KiB")
    tree = "/apps/crashed/files" if root == "keep" else f"/vol/{root}/files"
    leftover = ".zasm-put-00000000-0000000000000000"
    # Unpacking writes under a name that is free at once, so that nothing is swept before.
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, size in ((leftover, 200_000), (".own", 1)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"h" * size))
    assert files.put(f"{tree}/?unpack", archive.getvalue()).status == 200
    got = result(files, ("root", root), ("/new", "n" * 150_000), ("arg", "ls /"),
                 query={"name": "crashed"})
    assert got["exit"] == 0 and leftover not in got["stdout"], got
    assert files.get(f"{tree}/").text.split() == [".own", "new"]
    files.delete("/apps/crashed")


def test_volume_without_room(server, files, guests):
    files.create("small", guests.c("files"), disk="256KiB")
    response = send(files, ("/a", "x" * 200000), ("/b", "x" * 200000), ("root", "keep"),
                    query={"name": "small"})
    assert response.status == 413
    files.put("/apps/small/files/filler", "x" * 200000)
    response = send(files, ("/a", "x" * 100000), query={"name": "small"})
    assert response.status == 507 and "no room for the run's files" in response.text
    assert files.get("/apps/small/files/").text == "filler\n"


def test_a_directory_in_the_way(files):
    files.put("/apps/files/files/way/x", "")
    response = send(files, ("/way", "1"), query={"name": "files"})
    assert response.status in (400, 409) and "'/way' of the run can't be written" in response.text
    files.put("/apps/files/files/fileway", "")
    response = send(files, ("/fileway/x", "1"), query={"name": "files"})
    assert response.status in (400, 404, 409), response
    assert ".zasm" not in files.get("/apps/files/files/").text


def test_mounted_volume_in_the_way(files, guests):
    files.create("mounted", guests.c("files"), mount="form-data:/data/in")
    for path in ("/data/in", "/data/in/x"):
        response = send(files, (path, "1"), query={"name": "mounted"})
        assert response.status == 400 and "PUT it to /vol/form-data/files" in response.text
    assert result(files, ("/data/x", "1"), ("arg", "get /data/x"),
                  query={"name": "mounted"})["stdout"] == "1"


def test_links_in_the_volume_are_followed_inside_it(files):
    files.run("files", "mkdir /real", "ln real /alias", "ln ../../x /real/out")
    got = result(files, ("/alias/a", "1"), ("arg", "get /real/a"), query={"name": "files"})
    assert got["stdout"] == "1"
    response = send(files, ("/real/out/a", "1"), query={"name": "files"})
    assert response.status in (400, 403, 404), response


def test_events_and_text(files):
    response = send(files, ("/x", "1"), ("arg", "get /x"), query={"name": "files"}, accept=None)
    assert response.text == "1" and response.trailers.get("run-exit",
                                                          response.headers.get("run-exit")) == "0"
    events = send(files, ("/x", "1"), ("arg", "get /x"), query={"name": "files"},
                  accept="application/x-ndjson").lines()
    assert events[0]["data"] == "1" and events[-1]["exit"] == 0


def test_many_forms_leave_nothing(server, files, eventually):
    """Memory and descriptors after many forms, good and bad, are what they were."""
    def round_of_forms():
        for size in (10, 100000):
            result(files, ("/x", "x" * size), ("keep", "1ms"), ("root", "fresh"),
                   query={"name": "files"})
            send(files, ("/x", "x" * size), ("/x", ""), query={"name": "files"})
    round_of_forms()
    before = server.descriptors()
    for _ in range(20):
        round_of_forms()
    eventually(lambda: server.descriptors() <= before + 2)
