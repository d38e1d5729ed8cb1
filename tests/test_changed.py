"""What a run has changed, and getting it: `changed` in results, /proc/ID/changed, /proc/ID/root."""

import io
import tarfile

import pytest

from support.form import form_of

ROOTS = ["fresh", "keep", "a-volume"]


@pytest.fixture(scope="module")
def archive(guests):
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, data in {"app.wasm": guests.c("files"), "below": b"b", "d/one": b"1",
                           "d/two": b"2", "gone": b"g"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return layer.getvalue()


@pytest.fixture
def files(server, archive):
    """A client of a server with an app `files` that has only what it was uploaded with."""
    for path in ("/apps/files", "/vol/a-volume"):
        server.client.delete(path)
    server.client.create("files", archive)
    return server.client


def names(tar_bytes):
    with tarfile.open(fileobj=io.BytesIO(tar_bytes)) as tar:
        return {member.name: tar.extractfile(member).read() if member.isfile() else None
                for member in tar}


@pytest.mark.parametrize("root", ROOTS)
def test_changed(files, root):
    got = files.run_json("files", "put /x 1", "mkdir /new", "put /new/a 2", "get /below",
                         "put /tmp/t 3", "ls /d", "put /come 1", "rm /come", root=root)
    assert got["changed"] == ["/new/", "/new/a", "/x"]
    assert "removed" not in got and "changed_more" not in got
    run = got["id"]
    assert files.get(f"/proc/{run}/changed").text == "changed /new/\nchanged /new/a\nchanged /x\n"
    listed = files.get(f"/proc/{run}/changed", headers={"Accept": "application/json"}).json()
    assert listed == {"changed": ["/new/", "/new/a", "/x"]}
    # All of it can be fetched, alone and as tars: what changed, and the whole view.
    got = files.get(f"/proc/{run}/root/new/a")
    assert got.text == "2" and got.headers["content-type"] == "application/octet-stream"
    tar = files.get(f"/proc/{run}/changed", headers={"Accept": "application/x-tar"})
    assert tar.headers["content-type"] == "application/x-tar"
    assert names(tar.body) == {"new": None, "new/a": b"2", "x": b"1"}
    whole = names(files.get(f"/proc/{run}/root/", headers={"Accept": "application/x-tar"}).body)
    assert whole["new/a"] == b"2" and whole["below"] == b"b" and whole["d/one"] == b"1"


@pytest.mark.parametrize("root", ROOTS)
def test_removed_renamed_and_written_again(files, root):
    files.run("files", "put /old o", root=root)
    got = files.run_json("files", "put /t.tmp 1", "mv /t.tmp /x", "append /below more", "rm /gone",
                         "rmat /d one", "ln below /new", root=root)
    assert got["exit"] == 0, got
    assert got["changed"] == ["/below", "/new", "/x"]
    assert got["removed"] == ["/d/one", "/gone"]
    tar = files.get(f"/proc/{got['id']}/changed", headers={"Accept": "application/x-tar"})
    assert names(tar.body) == {"below": b"bmore", "new": None, "x": b"1"}


def test_a_renamed_directory_comes_whole(files):
    files.put("/vol/a-volume/files/dir/sub/f", "f")
    files.put("/vol/a-volume/files/other", "o")
    got = files.run_json("files", "mv /dir /moved", root="a-volume")
    assert got["changed"] == ["/moved/"] and got["removed"] == ["/dir"]
    tar = files.get(f"/proc/{got['id']}/changed", headers={"Accept": "application/x-tar"})
    assert names(tar.body) == {"moved": None, "moved/sub": None, "moved/sub/f": b"f"}


def test_nothing_changed(files):
    got = files.run_json("files", "get /below", "put /tmp/x 1")
    assert got["changed"] == []
    assert files.get(f"/proc/{got['id']}/changed").text == ""
    tar = files.get(f"/proc/{got['id']}/changed", headers={"Accept": "application/x-tar"})
    assert names(tar.body) == {}
    got = files.run_json("files", "put /y 1", root="ro")
    assert got["exit"] == 1 and got["changed"] == []


def test_files_of_the_form_are_not_changed_by_the_run(files):
    body, headers = form_of(("name", "files"), ("root", "fresh"), ("/in/a", "1"), ("/in/b", "2"),
                            ("arg", "append /in/b 3"))
    got = files.post("/run", body, headers={**headers, "Accept": "application/json"}).json()
    assert got["changed"] == ["/in/b"]
    assert files.get(f"/proc/{got['id']}/root/in/b").text == "23"


def test_events_end_with_it(files):
    events = files.run("files", "put /x 1", root="fresh",
                       headers={"Accept": "application/x-ndjson"}).lines()
    assert events[-1]["changed"] == ["/x"]


def test_a_run_that_traps_tells_it_too(files):
    got = files.run_json("files", "put /x 1", "trap", root="fresh")
    assert got["reason"] == "trap" and got["changed"] == ["/x"]
    assert files.get(f"/proc/{got['id']}/root/x").text == "1"


def test_many_are_bounded(files):
    got = files.run_json("files", "mkdir /many", "many /many/ 1200", root="fresh")
    assert got["exit"] == 0 and got["changed_more"] is True
    assert len(got["changed"]) == 1000
    assert files.get(f"/proc/{got['id']}/changed").text.endswith("\nmore\n")
    assert len(files.get(f"/proc/{got['id']}/root/many/").text.splitlines()) == 1200


def test_names_that_need_quoting(files):
    got = files.run_json("files", 'put /a"b\\ü\n 1', root="fresh")
    assert got["changed"] == ['/a"b\\ü\n'] or got["exit"] != 0


def test_until_keep_is_over(files, eventually):
    got = files.run_json("files", "put /x 1", root="fresh", keep="1ms")
    eventually(lambda: files.get(f"/proc/{got['id']}/root/x").status == 404)
    assert files.get(f"/proc/{got['id']}/changed").status == 404


def test_root_of_a_volume_that_is_gone(files):
    got = files.run_json("files", "put /x 1", root="a-volume")
    assert files.get(f"/proc/{got['id']}/root/x").text == "1"
    files.delete("/vol/a-volume")
    assert files.get(f"/proc/{got['id']}/root/x").status == 404
    assert "a_volume" not in files.get("/vol").text
    assert files.get(f"/proc/{got['id']}/changed").text == "changed /x\n"


def test_mounted_volumes_are_not_told(files, guests):
    files.create("mounting", guests.c("files"), mount="elsewhere:/data")
    got = files.run_json("mounting", "put /data/x 1", "put /y 1")
    assert got["changed"] == ["/y"]


@pytest.mark.parametrize("root", ROOTS)
def test_what_a_run_wrote_stays(files, root, eventually):
    """Until its end its files can be changed from outside; then they are its result."""
    run = files.post("/run", query=[("name", "files"), ("root", root), ("arg", "put /x 1"),
                                    ("arg", "mkdir /d2"), ("arg", "wait"), ("detach", ""),
                                    ("stdin", "open")]).text.strip()
    eventually(lambda: files.get(f"/proc/{run}/log").text == "waiting\n")
    assert files.put(f"/proc/{run}/root/y", "2").status in (201, 204)
    assert files.delete(f"/proc/{run}/stdin").status == 204
    assert files.get(f"/proc/{run}/wait").text == "exit 0\n"
    for response in (files.put(f"/proc/{run}/root/x", "other"),
                     files.put(f"/proc/{run}/root/new", "other"),
                     files.put(f"/proc/{run}/root/new/new", "other"),
                     files.put(f"/proc/{run}/root/dir/"),
                     files.put(f"/proc/{run}/root/?unpack", b"x" * 1024),
                     files.delete(f"/proc/{run}/root/x"),
                     files.delete(f"/proc/{run}/root/d2"),
                     files.delete(f"/proc/{run}/root/none")):
        assert response.status == 403, response
        assert f"run {run} has ended: what it wrote is for reading" in response.text, response
    problem = files.delete(f"/proc/{run}/root/x", headers={"Accept": "application/json"}).json()
    assert problem["error"] == "rofs"
    assert files.get(f"/proc/{run}/root/x").text == "1"
    assert files.get(f"/proc/{run}/root/y").text == "2"
    listed = files.get(f"/proc/{run}/root/").text.split()
    assert "x" in listed and "d2/" in listed and "new" not in listed and "dir/" not in listed
