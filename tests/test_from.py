"""Their program, your files: /create?from=APP, the versions of an app, rolling back."""

import gzip
import io
import json
import subprocess
import tarfile

import pytest

from support.modules import module, wat_numbered


def tar_of(**files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name.replace("__", "/").replace("_dot_", "."))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def create(client, body=b"", headers=None, **query):
    return client.post("/create", body, query=query, headers=headers)


def cat(client, app, *paths, **options):
    run = client.run(app, *(f"get {path}" for path in paths), **options)
    assert run.trailers["run-exit"] == "0", run
    return run.text


@pytest.fixture
def base(client, guests):
    """A program with files of its own, as an interpreter with its library."""
    for name in ("base", "mine", "yours"):
        client.delete(f"/apps/{name}")
    program = guests.c("files")
    client.create("base", tar_of(app_dot_wasm=program, lib__a=b"library a\n", lib__b=b"library b\n"),
                  env="HOME=/lib", memory="8MiB", arg="list", cpu="3s")
    return "base"


# --- what it is -----------------------------------------------------------------------------------


def test_a_single_file(client, base):
    response = create(client, b"print(1)\n", name="mine", **{"from": "base"}, file="/main.py")
    assert response.status == 201, response
    assert "mine: version 1 is online\n" in response.text
    assert "  from     base version 1\n" in response.text
    assert cat(client, "mine", "/main.py", "/lib/a") == "print(1)\nlibrary a\n"
    assert client.run("mine", "ls /").text.split() == [
        "cloud", "dev", "env", "lib", "main.py", "net", "proc", "tmp"]
    info = client.get("/apps/mine/info").text
    assert "from: base@1\n" in info and "files: 1\n" in info and "bytes: 9\n" in info
    assert client.get("/apps/mine/files/lib/b").text == "library b\n"
    # It is the same module, stored and compiled once.
    assert client.get("/apps/mine/module").body == client.get("/apps/base/module").body
    # The library can be written over, in this app alone.
    assert client.run("mine", "put /lib/a changed").trailers["run-exit"] == "0"
    assert cat(client, "mine", "/lib/a") == "changed"
    assert cat(client, "base", "/lib/a") == "library a\n"


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress], ids=["tar", "gzip"])
def test_a_tar(client, base, pack):
    body = pack(tar_of(main_dot_py=b"main", lib__a=b"my a"))
    response = create(client, body, {"Accept": "application/json"}, name="mine", **{"from": "base"})
    assert response.status == 201
    assert response.json()["from"] == "base@1" and response.json()["files"] == 2
    assert cat(client, "mine", "/main.py", "/lib/a", "/lib/b") == "mainmy alibrary b\n"


def test_nothing_but_settings(client, base):
    response = create(client, name="mine", **{"from": "base"}, arg="cat", env="A=1")
    assert response.status == 201
    assert cat(client, "mine", "/lib/a") == "library a\n"
    assert client.get("/apps/mine/args").text == "cat\n"
    assert "files: 0\n" in client.get("/apps/mine/info").text


def test_a_single_file_that_is_an_archive_stays_one(client, base):
    archive = gzip.compress(tar_of(a=b"a"))
    assert create(client, archive, name="mine", **{"from": "base"},
                  file="/data/a.tar.gz").status == 201
    assert client.get("/apps/mine/files/data/a.tar.gz").body == archive
    large = bytes(range(256)) * 5000
    assert create(client, large, name="mine", **{"from": "base"}, file="/large").status == 200
    assert client.get("/apps/mine/files/large").body == large


def test_settings(client, base):
    """Environment and memory, which the program may need, where there are none; nothing else."""
    assert create(client, name="mine", **{"from": "base"}).status == 201
    assert client.get("/apps/mine/config").json() == {"memory": "8MiB", "env": {"HOME": "/lib"}}
    assert create(client, name="yours", **{"from": "base"}, memory="9MiB",
                  env="HOME=/mine").status == 201
    assert client.get("/apps/yours/config").json() == {"memory": "9MiB", "env": {"HOME": "/mine"}}
    assert create(client, name="yours", **{"from": "base"}, env="OTHER=1").status == 200
    assert client.get("/apps/yours/config").json() == {
        "memory": "9MiB", "env": {"HOME": "/lib", "OTHER": "1"}}
    # Secrets are not another app's either.
    assert client.put("/apps/base/secrets/KEY", b"x").status == 201
    assert create(client, name="yours", **{"from": "base"}).status == 200
    assert client.get("/apps/yours/secrets").text == ""
    # A program that needs more memory than the app may have is refused as ever.
    answer = create(client, name="small", **{"from": "base"}, memory="64KiB")
    assert answer.status == 413 and client.get("/apps/small").status == 404


def missing(path):
    return (f"\n  missing  {path}, its first argument, is no file that its runs see: upload it there, "
            "or give another arg=\n")


def test_a_first_argument_that_is_no_file(client, base):
    """What an interpreter is to run and is not there is told when the app is made."""
    options = {"name": "mine", "from": "base"}
    answer = client.post("/create", b"1", query={**options, "file": "/main.py", "arg": "/mian.py"})
    assert answer.status == 201 and missing("/mian.py") in answer.text
    assert "mine: version 1 is online\n" in answer.text
    # The argument stays as it was said once, whatever the next version has.
    for accept, read in (("application/json", lambda answer: answer.json()),
                         ("application/x-ndjson", lambda answer: json.loads(
                             answer.text.splitlines()[-1]))):
        answer = client.post("/create", b"1", query={**options, "file": "/other.py"},
                             headers={"Accept": accept})
        assert answer.status == 200 and read(answer)["missing"] == "/mian.py"
        answer = client.post("/create", b"1", query={**options, "file": "/mian.py"},
                             headers={"Accept": accept})
        assert answer.status == 200 and "missing" not in read(answer)
    # Below a file, and in a directory that is there, or is not, there is none either.
    for path in ("/lib/a/b", "/lib/none.py", "/none/main.py"):
        assert missing(path) in create(client, **options, arg=path).text
    assert client.delete("/apps/mine").status == 204
    # With files of the version, of the one below, and in the app's volume it is there.
    for path in ("/main.py", "/lib/a", "/lib"):
        assert "missing" not in create(client, b"1", **options, file="/main.py", arg=path).text
    assert client.put("/apps/mine/files/later/main.py", b"1").status == 201
    for root in ("", "keep", "fresh", "ro"):
        assert "missing" not in create(client, **options, arg="/later/main.py", root=root).text
        assert missing("/no.py") in create(client, **options, arg="/no.py", root=root).text


def test_a_first_argument_that_may_be_something_else(client, base, guests):
    """Where it is not certain that a file of the app is meant, nothing is said."""
    for arg in ("list", "-c", "main.py", "./main.py", "/", "/proc/self/status", "/tmp/x",
                "/dev/stdin", "/../main.py", "//tmp/x", "/no\n.py", "/mnt", "/mnt/deep",
                "/mnt/deep/main.py", "/" + "x" * 300, ""):
        answer = create(client, name="mine", **{"from": "base"}, arg=arg,
                        mount="shared:/mnt/deep")
        assert answer.status in (200, 201) and "missing" not in answer.text, (arg, answer)
    answer = create(client, name="mine", **{"from": "base"}, args="", mounts="")
    assert "missing" not in answer.text
    # Of a volume by name nothing is known, and a program of one's own may write that file.
    assert "missing" not in create(client, name="mine", **{"from": "base"}, arg="/no.py",
                                   root="some-volume").text
    assert "missing" not in client.create("yours", guests.c("files"), arg="/no.py").text


def test_settings_whose_first_argument_is_no_file(client, base):
    """Told as at /create, and set all the same."""
    assert create(client, b"1", name="mine", **{"from": "base"}, file="/main.py",
                  arg="/main.py").status == 201
    for path in ("/mian.py", "/main.py/x"):
        answer = client.put("/apps/mine/args", f"{path}\n-v\n".encode())
        assert answer.status == 200 and answer.text == missing(path)[3:]
        assert client.get("/apps/mine/args").text == f"{path}\n-v\n"
        config = client.get("/apps/mine/config").body
        answer = client.put("/apps/mine/config", config, headers={"Accept": "application/json"})
        assert answer.status == 200 and answer.json() == {"missing": path}
    for args in (b"/main.py\n/mian.py\n", b"main.py", b"", b"/tmp/x\n"):
        assert client.put("/apps/mine/args", args).status == 204
        assert client.put("/apps/mine/config", client.get("/apps/mine/config").body).status == 204
    # A variable, a file of that name, and the settings of a program of one's own say nothing.
    assert client.put("/apps/mine/args", b"/mian.py").status == 200
    assert client.put("/apps/mine/env/args", b"/mian.py").status == 201
    assert client.put("/apps/mine/files/args", b"/mian.py").status == 201
    assert client.put("/apps/base/args", b"/mian.py").status == 204


def test_a_rollback_to_where_the_first_argument_is_no_file(client, base):
    for path in ("/one.py", "/two.py"):
        answer = create(client, b"1", name="mine", **{"from": "base"}, file=path, arg=path)
        assert "missing" not in answer.text
    answer = client.post("/apps/mine/rollback")
    assert answer.status == 200 and answer.text == (
        "mine: version 3 is online, with the program and files of version 1" + missing("/two.py"))
    answer = client.post("/apps/mine/rollback?version=1", headers={"Accept": "application/json"})
    assert answer.status == 200 and answer.json()["missing"] == "/two.py"
    answer = client.post("/apps/mine/rollback?version=2", headers={"Accept": "application/json"})
    assert answer.status == 200 and "missing" not in answer.json()
    answer = client.post("/apps/mine/rollback?version=2")
    assert answer.text.count("\n") == 1


def test_versions_of_the_other_app(client, base, guests):
    client.create("base", tar_of(app_dot_wasm=guests.c("files"), lib__a=b"second a\n"))
    assert create(client, name="mine", **{"from": "base"}).status == 201
    assert create(client, name="yours", **{"from": "base@1"}).status == 201
    assert cat(client, "mine", "/lib/a") == "second a\n"
    assert cat(client, "yours", "/lib/a", "/lib/b") == "library a\nlibrary b\n"
    assert "from: base@2\n" in client.get("/apps/mine/info").text
    assert "from: base@1\n" in client.get("/apps/yours/info").text
    # What the first one gets later does not change the others.
    client.create("base", guests.c("files"))
    assert cat(client, "mine", "/lib/a") == "second a\n"
    assert client.delete("/apps/base").status == 204
    assert cat(client, "mine", "/lib/a") == "second a\n"
    assert cat(client, "yours", "/lib/a") == "library a\n"
    assert create(client, b"x", name="mine", **{"from": "mine"}, file="/x").status == 200
    assert cat(client, "mine", "/lib/a", "/x") == "second a\nx"


def test_on_top_of_each_other(client, base):
    below = "base"
    for depth in range(1, 5):
        assert create(client, f"{depth} ".encode(), name=f"on{depth}", **{"from": below},
                      file=f"/f{depth}").status == 201
        below = f"on{depth}"
    assert cat(client, "on4", "/lib/a", "/f1", "/f2", "/f3", "/f4") == "library a\n1 2 3 4 "
    assert cat(client, "on4", "/lib/a", "/f4", root="fresh") == "library a\n4 "
    answer = create(client, b"5", name="on5", **{"from": "on4"}, file="/f5")
    assert answer.status == 413 and "4 are the most" in answer.text
    assert create(client, name="on5", **{"from": "on4"}).status == 201
    assert cat(client, "on5", "/f1", "/f4") == "1 4 "
    for depth in (1, 2, 3, 4):
        assert client.delete(f"/apps/on{depth}").status == 204
    assert cat(client, "on5", "/lib/a", "/f1", "/f4") == "library a\n1 4 "


# --- what is refused ------------------------------------------------------------------------------


def test_refusals(client, base, guests):
    library = module(exports=["add"])
    client.create("lib", library)
    for query, body, status, words in [
            ({"from": "nobody"}, b"x", 404, "no app named 'nobody'"),
            ({"from": "../base"}, b"x", 404, "no app named"),
            ({"from": "base@7"}, b"", 404, "'base' has no version 7"),
            ({"from": "base@0"}, b"", 400, "not APP or APP@VERSION"),
            ({"from": "base@"}, b"", 400, "not APP or APP@VERSION"),
            ({"from": "base@x"}, b"", 400, "not APP or APP@VERSION"),
            ({"from": "lib"}, b"", 400, "has no _start"),
            ({"from": "base"}, b"print(1)", 400, "file=/main.py"),
            ({"from": "base", "file": "main.py"}, b"x", 400, "say file=/main.py"),
            ({"from": "base", "file": "/"}, b"x", 400, "say file=/main.py"),
            ({"from": "base", "file": "/a/"}, b"x", 400, "say file=/main.py"),
            ({"from": "base", "file": "/a/../b"}, b"x", 400, "'..'"),
            ({"from": "base", "file": "/./proc/a"}, b"x", 400, "'.'"),
            ({"from": "base", "file": "//proc/a"}, b"x", 400, "an empty component"),
            ({"from": "base", "file": "/" + "a" * 300}, b"x", 400, "more than 255 bytes"),
            *[({"from": "base", "file": f"/{name}/a"}, b"x", 400, f"file='/{name}/a' is in a "
               "directory of the system, where no run would see it")
              for name in ("cloud", "dev", "env", "net", "proc", "tmp")],
            ({"from": "base", "file": "/proc"}, b"x", 400, "is in a directory of the system"),
            ({"from": "base", "mount": "v:/net/a"}, b"x", 400, "is in a directory of the system"),
            ({"from": "base", "file": "/a"}, b"", 400, "the body is empty: send the file"),
            ({"file": "/a"}, b"x", 400, "file= needs from=APP"),
            ({"from": "base", "form": "x"}, b"x", 400, "'from'"),
            ({"from": "base"}, tar_of(app_dot_wasm=b"\0asm", a=b"a"), 400, "is a program"),
    ]:
        answer = create(client, body, name="mine", **query)
        assert answer.status == status and words in answer.text, (query, answer)
        assert answer.text.count("\n") == 1
    twice = client.post("/create", b"", query=[("name", "mine"), ("from", "base"), ("from", "lib")])
    assert twice.status == 400 and "given twice" in twice.text
    assert client.get("/apps/mine").status == 404
    client.delete("/apps/lib")


def test_nothing_is_left_of_a_refused_one(make_server, guests, eventually):
    server = make_server()
    server.client.create("base", guests.c("files"))
    assert create(server.client, tar_of(a=b"a", app_dot_wasm=b"x"), name="mine",
                  **{"from": "base"}).status == 400
    eventually(lambda: list((server.state / "tmp").iterdir()) == [])
    before = sorted(path.name for path in (server.state / "volumes").iterdir())
    assert create(server.client, b"a", name="mine", **{"from": "base"}, file="/a").status == 201
    assert server.client.delete("/apps/mine").status == 204
    eventually(lambda: sorted(path.name for path in (server.state / "volumes").iterdir()) == before)
    assert server.stop() == 0


# --- versions and rollback ------------------------------------------------------------------------


@pytest.fixture
def versions(client, base):
    """Three versions with a file of their own each, and data that the first one wrote."""
    for number in (1, 2, 3):
        assert create(client, f"file {number}\n".encode(), name="mine", **{"from": "base"},
                      file="/file").status in (200, 201)
        if number == 1:
            assert client.run("mine", "put /data written").trailers["run-exit"] == "0"
    return "mine"


def test_list(client, versions):
    lines = client.get("/apps/mine/versions").text.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "2", "1"]
    assert all(", from base@1" in line for line in lines)
    assert [line.endswith(", current") for line in lines] == [True, False, False]
    listed = client.get("/apps/mine/versions", headers={"Accept": "application/json"}).json()
    assert [entry["version"] for entry in listed] == [3, 2, 1]
    sha256 = client.get("/apps/base/info").text.split("sha256: ")[1].split("\n")[0]
    assert {entry["sha256"] for entry in listed} == {sha256}
    assert listed[0]["current"] and listed[0]["from"] == "base@1" and listed[0]["files"] == 1
    assert client.get("/apps/mine/versions/").text == "1/\n2/\n3/\n"


def test_files_of_versions(client, versions):
    for number in (1, 2, 3):
        path = f"/apps/mine/versions/{number}"
        assert client.get(f"{path}/files/file").text == f"file {number}\n"
        assert client.get(f"{path}/files/lib/a").text == "library a\n"
        assert client.get(f"{path}/files/").text == "file\nlib/\n"
        assert client.get(f"{path}/files/data").status == 404
        assert client.get(f"{path}/").text == "files/\ninfo\nmodule\n"
        assert client.put(f"{path}/files/file", b"x").status in (403, 405, 409)
        assert client.delete(f"{path}/files/file").status in (403, 405, 409)
        assert cat(client, "mine", "/file", version=str(number)) == f"file {number}\n"
    tar = client.get("/apps/mine/versions/2/files/", headers={"Accept": "application/x-tar"}).body
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert archive.extractfile("file").read() == b"file 2\n"
    assert client.get("/apps/mine/versions/9/files/file").status == 404
    # A program without files has an empty directory.
    client.create("yours", wat_numbered(1))
    assert client.get("/apps/yours/versions/1/files/").text == ""
    # A guest sees its own.
    assert client.run("mine", "get /cloud/apps/self/versions/1/files/file").text == "file 1\n"
    assert client.run("mine", "ls /cloud/apps/self/versions/2").text == "files\ninfo\nmodule\n"


def test_rollback(client, versions):
    assert cat(client, "mine", "/file", "/data") == "file 3\nwritten"
    answer = client.post("/apps/mine/rollback?version=1")
    assert answer.status == 200
    assert answer.text == (
        "mine: version 4 is online, with the program and files of version 1\n")
    assert cat(client, "mine", "/file", "/data") == "file 1\nwritten"
    info = client.get("/apps/mine/info").text
    assert "version: 4\n" in info and "rollback: 1\n" in info and "from: base@1\n" in info
    # Without a number: the one before, each time one further; it ends at the first.
    answer = client.post("/apps/mine/rollback")
    assert answer.status == 404 and "'mine' has no version before 1" in answer.text
    assert client.post("/apps/mine/rollback?version=3").status == 200
    for version, back in ((6, 2), (7, 1)):
        answer = client.post("/apps/mine/rollback", headers={"Accept": "application/json"})
        assert answer.json()["version"] == version and answer.json()["rollback"] == back
        assert answer.json()["name"] == "mine"
        assert cat(client, "mine", "/file", "/data") == f"file {back}\nwritten"
    assert client.post("/apps/mine/rollback").status == 404
    # What is uploaded then has what was online before it.
    assert create(client, b"new\n", name="mine", **{"from": "base"}, file="/file").status == 200
    answer = client.post("/apps/mine/rollback")
    assert "version 9 is online, with the program and files of version 1\n" in answer.text
    # Settings stay.
    assert client.put("/apps/mine/env/COLOUR", b"blue").status == 201
    assert client.post("/apps/mine/rollback?version=2").status == 200
    assert client.get("/apps/mine/env/COLOUR").text == "blue"
    for query, status, words in [("version=99", 404, "no version 99"), ("version=0", 400, "number"),
                                 ("version=x", 400, "number"), ("to=1", 400, "known are: version")]:
        answer = client.post(f"/apps/mine/rollback?{query}")
        assert answer.status == status and words in answer.text
    assert client.post("/apps/none/rollback").status == 404
    client.create("yours", wat_numbered(1))
    answer = client.post("/apps/yours/rollback")
    assert answer.status == 404 and "no version before 1" in answer.text


def test_remove_versions(client, versions):
    answer = client.delete("/apps/mine/versions/3")
    assert answer.status == 409 and "the current one" in answer.text
    assert client.delete("/apps/mine/versions/1").status == 204
    assert client.get("/apps/mine/versions/").text == "2/\n3/\n"
    for number in ("1", "99", "x"):
        answer = client.delete(f"/apps/mine/versions/{number}")
        assert answer.status == 404 and answer.text == (
            f"error: 'mine' has no version '{number}'; GET /apps/mine/versions lists them\n")
        answer = client.get(f"/apps/mine/versions/{number}/files/file")
        assert answer.status == 404 and f"no version '{number}'" in answer.text
    assert client.run("mine", "get /file", version="1").status == 404
    assert client.post("/apps/mine/rollback?version=1").status == 404
    assert cat(client, "mine", "/file", "/lib/a", "/data") == "file 3\nlibrary a\nwritten"
    assert client.post("/apps/mine/rollback").status == 200
    assert cat(client, "mine", "/file") == "file 2\n"
    assert client.run("mine", "rmdir /cloud/apps/self/versions/2").trailers["run-exit"] == "1"


def test_survives_a_kill(make_server, guests):
    server = make_server()
    client = server.client
    client.create("base", tar_of(app_dot_wasm=guests.c("files"), a=b"library\n"))
    assert create(client, b"one\n", name="mine", **{"from": "base"}, file="/f").status == 201
    assert create(client, b"two\n", name="mine", **{"from": "base"}, file="/f").status == 200
    assert client.post("/apps/mine/rollback").status == 200
    assert client.delete("/apps/base").status == 204
    server.kill()
    server.start()
    assert cat(server.client, "mine", "/a", "/f") == "library\none\n"
    listed = server.client.get("/apps/mine/versions").text
    assert ", from base@1, rollback to 1, current\n" in listed
    assert server.stop() == 0


# --- settings at both doors -----------------------------------------------------------------------


def test_settings_inside(client, base):
    """A guest reads its own app's settings; only the outside changes them."""
    self = "/cloud/apps/self"
    assert client.put("/apps/base/env/COLOUR", b"blue").status == 201
    assert client.put("/apps/base/args", b"list\n/\n").status == 204
    assert cat(client, "base", f"{self}/env/COLOUR", f"{self}/args") == "bluelist\n/\n"
    assert client.run("base", f"ls {self}/env").text == "COLOUR\nHOME\n"
    assert "\"COLOUR\": \"blue\"" in cat(client, "base", f"{self}/config")
    for action in (f"put {self}/env/COLOUR red", f"put {self}/env/NEW x", f"put {self}/args x",
                   f"put {self}/config {{}}", f"rm {self}/env/COLOUR"):
        run = client.run("base", action)
        assert run.trailers["run-exit"] == "1" and "Permission denied" in run.text, action
    # Of another app it reads nothing of this.
    assert create(client, name="mine", **{"from": "base"}).status == 201
    for path in ("args", "config", "env/COLOUR", "versions/1/files/lib/a"):
        assert "Permission denied" in client.run("mine", f"get /cloud/apps/base/{path}").text
    assert client.get("/apps/base/env/COLOUR").text == "blue"
    assert client.get("/apps/base/args").text == "list\n/\n"
    assert client.delete("/apps/base/env/COLOUR").status == 204
    assert client.run("base", f"get {self}/env/COLOUR").trailers["run-exit"] == "1"


# --- the command line -----------------------------------------------------------------------------


def test_commands(server, client, build, base, tmp_path):
    def cli(*arguments, stdin=b"", status=0):
        done = subprocess.run([build / "0asm", *arguments, "--server", server.url], input=stdin,
                              capture_output=True, timeout=60, cwd=tmp_path)
        assert done.returncode == status, done
        return (done.stdout + done.stderr).decode()

    (tmp_path / "main.py").write_text("main\n")
    assert "from     base version 1" in cli("create", "mine", "main.py", "--from", "base")
    assert cat(client, "mine", "/main.py", "/lib/a") == "main\nlibrary a\n"
    cli("create", "mine", "main.py", "--from", "base@1", "--file", "/src/other.py")
    assert cat(client, "mine", "/src/other.py") == "main\n"
    cli("create", "mine", "-", "--from", "base", "--file", "/stdin", stdin=b"typed")
    assert cat(client, "mine", "/stdin") == "typed"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page").write_text("page\n")
    cli("create", "mine", "site", "--from", "base")
    assert cat(client, "mine", "/page") == "page\n"
    (tmp_path / "files.tar.gz").write_bytes(gzip.compress(tar_of(packed=b"packed\n")))
    cli("create", "mine", "files.tar.gz", "--from", "base")
    assert cat(client, "mine", "/packed") == "packed\n"
    cli("create", "mine", "--from", "base", "--env", "A=1")
    assert cat(client, "mine", "/lib/a") == "library a\n"
    assert "from: base@1\n" in cli("show", "mine")
    listed = cli("versions", "mine").splitlines()
    assert len(listed) == 6 and listed[0].endswith("from base@1, current")
    assert "with the program and files of version 5" in cli("rollback", "mine")
    assert cat(client, "mine", "/packed") == "packed\n"
    assert "of version 1\n" in cli("rollback", "mine", "1")
    cli("versions", "mine", "--remove", "2")
    assert len(cli("versions", "mine").splitlines()) == 7
    assert "no version 2" in cli("rollback", "mine", "2", status=1)
    assert missing("/no.py") in cli("create", "mine", "main.py", "--from", "base", "--arg", "/no.py")
    assert missing("/no.py") in cli("rollback", "mine")
    assert "FILE is missing" in cli("create", "mine", status=2)
    assert "--file needs --from" in cli("create", "mine", "main.py", "--file", "/x", status=2)
    assert "no app named 'nobody'" in cli("create", "mine", "--from", "nobody", status=1)
