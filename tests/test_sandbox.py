"""Sandboxes: what a run sees at its root, sessions, tags."""

import pytest

from support.form import form_of


@pytest.fixture(scope="module")
def files(server, guests):
    server.client.create("files", guests.c("files"))
    return server.client


@pytest.fixture(scope="module")
def py(server, guests):
    server.client.create("py", guests.python())
    return server.client


# ---- root= ----

def test_root_is_an_option_of_the_app(files, guests):
    files.create("guest-fresh", guests.c("files"), root="fresh")
    assert files.get("/apps/guest-fresh/config").json()["root"] == "fresh"
    files.run("guest-fresh", "put /x 1")
    assert files.run_json("guest-fresh", "get /x")["exit"] != 0
    # The run's word wins.
    files.run("guest-fresh", "put /x 1", root="keep")
    assert files.get("/apps/guest-fresh/files/x").status == 200
    assert files.run("guest-fresh", "get /x", root="ro").text == "1"


def test_root_of_an_app_is_checked(files, guests):
    response = files.post("/create", guests.c("files"),
                          query={"name": "guest-bad", "root": "No Volume"})
    assert response.status == 400 and "'root' must be keep, fresh or ro" in response.text
    for root in ("No Volume", "Fresh", "KEEP", "a" * 64):
        response = files.run("files", root=root)
        assert response.status == 400, response
        assert "it is keep, fresh or ro, in small letters, or the name of a volume" in response.text
    assert files.run("files", root="").status == 400
    assert "keep, fresh or ro" in files.run("files", root="").text
    response = files.post("/apps/files/start", "root=\n")
    assert response.status == 400 and "keep, fresh or ro" in response.text
    response = files.post("/create", guests.c("files"), query={"name": "guest-bad", "root": "Ro"})
    assert response.status == 400 and "in small letters" in response.text


@pytest.mark.parametrize("name", ["keep", "fresh", "ro"])
def test_no_volume_has_a_word_of_root_for_a_name(files, guests, name):
    """No run could have it at its root."""
    text = f"'{name}' can't be the name of a volume"
    for answer in (
            files.put(f"/vol/{name}/files/x", b"1"), files.put(f"/vol/{name}/files/?unpack", b""),
            files.post("/create", guests.c("files"),
                       query={"name": "guest-words", "mount": f"{name}:/data"}),
            files.put("/apps/files/config", f'{{"mounts": ["{name}:/data:ro"]}}')):
        assert answer.status == 400 and text in answer.text, answer
    assert files.get(f"/vol/{name}").status == 404
    assert files.get("/apps/guest-words").status == 404
    assert files.put(f"/vol/{name}-1/files/x", b"1").status == 201
    assert files.run("files", "get /x", root=f"{name}-1").text == "1"


def test_two_fresh_python_runs_do_not_meet(py):
    """The first leaves a module that the second would import if it saw it."""
    script = "import json; print(json.dumps([1])); open('/json.py', 'w').write('1/0')"
    first = py.run_json("py", "-c", script, root="fresh")
    assert (first["exit"], first["stdout"]) == (0, "[1]\n"), first
    second = py.run_json("py", "-c", "import json; print(json.dumps([2]))", root="fresh")
    assert (second["exit"], second["stdout"], second["stderr"]) == (0, "[2]\n", ""), second
    # With a root that stays it does see it: the test would notice.
    py.run_json("py", "-c", script, root="meeting")
    third = py.run_json("py", "-c", "import json", root="meeting")
    assert third["exit"] == 1 and "ZeroDivisionError" in third["stderr"]


# Starts a child that writes nothing, holds its root beyond its end, and plants a module there.
PLANT = """
import os
with open("/cloud/apps/py/start", "r+") as start:
    start.write("arg=-c\\narg=print(flush=True) or __import__('time').sleep(600)\\n")
    start.flush()
    child = start.read().strip()
with open(f"/proc/{child}/stdout", "rb", 0) as output:
    output.read(1)
root = os.open(f"/proc/{child}/root", os.O_RDONLY | os.O_DIRECTORY)
open(f"/proc/{child}/ctl", "w").write("kill")
open(f"/proc/{child}/wait").read()
for name in ("json.py", "planted"):
    file = os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=root)
    os.write(file, b"1/0")
open("/mine", "w").close()  # so that the next run is not given this one's tree
print("planted")
"""


def test_a_root_that_another_run_holds_is_nobody_elses(py):
    """A tree of files may be used again by a later run only if nobody has it any more."""
    for _ in range(3):
        first = py.run_json("py", "-c", PLANT, root="fresh")
        assert (first["exit"], first["stdout"]) == (0, "planted\n"), first
        second = py.run_json("py", "-c", "import json, os; print(os.listdir('/'))", root="fresh")
        assert second["exit"] == 0 and "planted" not in second["stdout"], second


def test_a_hostile_fresh_run_leaves_nothing_to_the_next(files):
    """Also where the next run is given what the last one has not touched."""
    for _ in range(5):
        before = files.run("files", "ls /", root="fresh").text
        files.run("files", "put /tmp/x 1", root="fresh")
        files.run("files", "put /x 1", root="fresh")
        assert files.run("files", "ls /", root="fresh").text == before
        assert files.run_json("files", "get /x", root="fresh")["exit"] != 0
        assert files.run_json("files", "get /tmp/x", root="fresh")["exit"] != 0


def test_an_idle_server_gives_memory_back(make_server, guests, eventually):
    """What was freed goes to the system, and not only to the C library, though some of what came
    between stays."""
    server = make_server("--keep", "1h", "--kept-bytes", "1GiB")
    if server.is_sanitized():
        pytest.skip("a sanitizer keeps what is freed")
    client = server.client
    for name in ("goes", "stays"):
        client.create(name, guests.c("files"))
    body, headers = form_of(("root", "fresh"), *((f"/{number}", b"x" * 5000)
                                                 for number in range(200)))
    before = server.resident_bytes()
    for number in range(150):
        name = "stays" if number % 30 == 0 else "goes"
        assert client.post("/run", body, headers=headers, query={"name": name}).status == 200
    assert server.resident_bytes() > before + (100 << 20)
    assert client.delete("/apps/goes").status == 204
    # Nothing is asked of it meanwhile.
    eventually(lambda: server.resident_bytes() < before + (40 << 20), seconds=60)


# ---- sessions ----

def test_a_session_of_several_runs(files):
    files.run("files", "put /x 1", root="session-a", ttl="1h")
    assert files.run("files", "get /x", root="session-a").text == "1"
    assert files.run_json("files", "get /x", root="session-b", ttl="1h")["exit"] != 0
    status = files.get("/vol/session-a/status").text
    assert "ttl: 3600000ms\n" in status and "ends: 20" in status
    assert files.get("/vol/session-a/files/x").status == 200


def test_a_session_ends(files, eventually):
    files.run("files", "put /x 1", root="short", ttl="1ms")
    eventually(lambda: "short/\n" not in files.get("/vol").text)
    assert files.get("/vol/short/files/x").status == 404
    # Its name can be used again, for a volume that stays.
    files.run("files", "put /y 1", root="short")
    assert "ttl: none\n" in files.get("/vol/short/status").text
    assert files.run_json("files", "get /x", root="short")["exit"] != 0


def test_a_session_does_not_end_while_a_run_uses_it(files, eventually):
    run = files.post(
        "/run", query=[("name", "files"), ("arg", "put /x 1"), ("arg", "wait"), ("root", "busy"),
                       ("ttl", "1ms"), ("detach", ""), ("stdin", "open")]).text.strip()
    files.run("files", "put /x 1", root="witness", ttl="1ms")
    eventually(lambda: "witness/\n" not in files.get("/vol").text)
    assert "busy/\n" in files.get("/vol").text
    assert files.get("/vol/busy/files/x").text == "1"
    files.delete(f"/proc/{run}")
    eventually(lambda: "busy/\n" not in files.get("/vol").text)


def test_ttl_does_not_touch_a_volume_that_is_kept(files):
    files.run("files", "put /x 1", root="mine")
    response = files.run("files", "get /x", root="mine", ttl="1ms")
    assert response.status == 409 and "made without ttl=" in response.text
    assert files.get("/vol/mine/files/x").status == 200
    for root in ("keep", "fresh", "ro"):
        assert files.run("files", root=root, ttl="1h").status == 400
    for ttl in ("x", "0s", "", "366d", "99999999d"):
        response = files.run("files", root="other", ttl=ttl)
        assert response.status == 400 and "from 1ms to 365d" in response.text
    assert files.get("/vol/other").status == 404
    assert files.run("files", root="year", ttl="365d").status == 200


def test_ttl_of_an_app(files, guests, eventually):
    files.create("guest-ttl", guests.c("files"), root="app-session", ttl="1ms")
    files.run("guest-ttl", "put /x 1")
    eventually(lambda: "app-session/\n" not in files.get("/vol").text.replace("_", "-"))
    # What the app says is not for volumes that are there already.
    files.run("files", "put /x 1", root="kept-one")
    assert files.run("guest-ttl", "get /x", root="kept-one").text == "1"


def test_sessions_survive_a_restart(make_server, guests, eventually):
    server = make_server()
    server.client.create("files", guests.c("files"))
    server.client.run("files", "put /x 1", root="long", ttl="1h")
    server.client.run("files", "put /x 1", root="brief", ttl="3s")
    server.kill()
    server.start()
    assert server.client.run("files", "get /x", root="long").text == "1"
    eventually(lambda: "brief/\n" not in server.client.get("/vol").text)
    assert "ttl: 3600000ms\n" in server.client.get("/vol/long/status").text


def test_delete_a_volume(files, guests):
    files.run("files", "put /x 1", root="doomed")
    assert files.delete("/vol/doomed").status == 204
    assert files.get("/vol/doomed").status == 404
    assert files.delete("/vol/doomed").status == 404
    # Apps that mount it get a new one.
    files.create("guest-mount", guests.c("files"), mount="doomed:/data")
    files.run("guest-mount", "put /data/x 1")
    assert files.delete("/vol/doomed").status == 204
    assert files.run_json("guest-mount", "get /data/x")["exit"] != 0
    files.run("guest-mount", "put /data/y 1")
    assert files.get("/vol/doomed/files/").text == "y\n"


def test_a_run_that_does_not_begin_makes_no_volume(files, make_server, guests):
    """Whatever it is refused for; and one that is there, or somebody else has asked for, stays."""
    form, headers = form_of(("name", "files"), ("root", "unmade"), ("disk", "1MiB"),
                            ("/x/y", b"x" * 3000), ("files", "1"))
    for query, status in [("call=nothing", 404), ("memory=64KiB", 413), ("arg=%00", 400),
                          ("root=unmade", 400), ("net=%2F", 400), ("version=9", 404),
                          ("ttl=1h&call=nothing", 404)]:
        response = files.post(f"/run?name=files&root=unmade&{query}")
        assert response.status == status, response
        assert "unmade/\n" not in files.get("/vol").text, query
    assert files.post("/run", form, headers=headers).status == 413
    assert files.get("/vol/unmade").status == 404
    # A file where the run's files want a directory: found when they are placed.
    server = make_server("--files", "3")
    client = server.client
    client.create("files", guests.c("files"))
    form, headers = form_of(("name", "files"), ("root", "unmade"), ("/a", b"1"), ("/b", b"1"),
                            ("/c/d/e", b"1"))
    assert client.post("/run", form, headers=headers).status in (413, 507)
    assert client.get("/vol/unmade").status == 404
    # One that is there stays, with what is in it.
    assert client.run("files", "put /x 1", root="there").status == 200
    assert client.post("/run?name=files&root=there&call=nothing").status == 404
    assert client.get("/vol/there/files/x").text == "1"
    server.stop()
    server.start()
    assert server.client.post("/run?name=files&root=there&call=nothing").status == 404
    assert server.client.get("/vol/there/files/x").text == "1"
    assert sorted(server.client.get("/vol").text.split()) == ["there/"]


def test_a_run_that_does_not_begin_leaves_a_ttl(files):
    """Whatever it is refused for, and however late; who only looks at an ended one, too."""
    assert files.run("files", "put /x 1", root="lasting", ttl="1h").status == 200
    for query, status in [("call=nothing", 404), ("memory=64KiB", 413), ("arg=%00", 400),
                          ("version=9", 404)]:
        response = files.post(f"/run?name=files&root=lasting&ttl=5h&{query}")
        assert response.status == status, response
        assert "ttl: 3600000ms\n" in files.get("/vol/lasting/status").text, query
    # A file where the run's files want a directory: found when they are placed.
    form, headers = form_of(("name", "files"), ("root", "lasting"), ("ttl", "5h"), ("/x/y", b"1"))
    assert files.post("/run", form, headers=headers).status >= 400
    assert "ttl: 3600000ms\n" in files.get("/vol/lasting/status").text
    # One that begins gives its own, from then on.
    first = files.run("files", "get /x", root="lasting", ttl="2h")
    assert first.text == "1"
    assert "ttl: 7200000ms\n" in files.get("/vol/lasting/status").text
    assert files.run("files", "get /x", root="lasting", ttl="3h").text == "1"
    assert files.get(f"/proc/{first.headers['run-id']}/root/x").text == "1"
    assert "ttl: 10800000ms\n" in files.get("/vol/lasting/status").text


def test_a_run_that_does_not_begin_uses_no_session(files, eventually):
    """However often it is tried, the session goes."""
    files.run("files", "put /x 1", root="tried", ttl="100ms")

    def has_gone():
        assert files.post("/run?name=files&root=tried&call=nothing").status == 404
        return "tried/" not in files.get("/vol").text.split()

    eventually(has_gone)


def test_what_is_written_to_a_removed_volume_fails(files, eventually):
    """And is not lost without a word. What was in it can be read as long as a run has it."""
    query = [("name", "files"), ("root", "leaving"), ("detach", ""), ("stdin", "open")]
    for command in ("put /x 1", "wait", "get /x", "put /y 2"):
        query.append(("arg", command))
    run = files.post("/run", query=query).text.strip()
    eventually(lambda: files.get("/vol/leaving/files/x").status == 200)
    assert files.delete("/vol/leaving").status == 204
    assert files.get("/vol/leaving").status == 404
    assert files.delete(f"/proc/{run}/stdin").status == 204
    assert files.get(f"/proc/{run}/wait").text == "exit 1\n"
    assert files.get(f"/proc/{run}/stdout").text == "waiting\n1"
    assert files.get(f"/proc/{run}/stderr").text == "put /y 2: Identifier removed\n"
    # The next one of that name is another.
    assert files.run_json("files", "get /x", root="leaving")["exit"] == 1
    assert files.run("files", "put /y 3", root="leaving").status == 200
    assert files.get("/vol/leaving/files/").text == "y\n"


# ---- tags and ids ----

def test_tags_select_and_end(files, eventually):
    ids = [files.post("/run", query=[("name", "files"), ("arg", "wait"), ("detach", ""),
                                     ("stdin", "open"), ("tag", f"job:{job}"), ("tag", "kind:x")])
           .text.strip() for job in ("a", "a", "b")]
    assert files.get("/proc", query={"tag": "job:a"}).text == f"{ids[0]}/\n{ids[1]}/\n"
    assert files.get("/proc", query=[("tag", "kind:x"), ("tag", "job:b")]).text == f"{ids[2]}/\n"
    listed = files.get("/proc", query={"tag": "kind:x"}, headers={"Accept": "application/json"})
    assert [entry["name"] for entry in listed.json()] == ids
    assert files.get("/proc", query={"tag": "job:none"}).text == ""
    assert files.delete("/proc").status == 400
    assert files.delete("/proc", query={"tags": "job:a"}).status == 400
    for query in ([("tag", "")], [("tag", "job:a"), ("tag", "")]):
        refused = files.delete("/proc", query=query)
        assert refused.status == 400 and "a tag is KEY:VALUE" in refused.text, refused
    assert files.delete("/proc", query={"tag": "job:a"}).text == "2 ended\n"
    eventually(lambda: "reason: killed" in files.get(f"/proc/{ids[1]}/status").text)
    assert "state: ended" not in files.get(f"/proc/{ids[2]}/status").text
    response = files.delete("/proc", query={"tag": "job:b"},
                            headers={"Accept": "application/json"})
    assert response.json() == {"ended": 1}
    eventually(lambda: files.delete("/proc", query={"tag": "kind:x"}).text 
               == "0 ended: no run with this tag is under way; GET /proc?tag=KEY:VALUE lists "
                  "those that are, or ended lately\n")
    assert files.delete("/proc", query={"tag": "x:y"}).text.startswith("0 ended: ")


def test_ids_are_never_used_again(make_server, guests):
    server = make_server()
    server.client.create("files", guests.c("files"))
    seen = []
    for end in (server.kill, server.stop, server.kill):
        seen += [int(server.client.run("files").headers["run-id"]) for _ in range(3)]
        end()
        server.start()
    seen.append(int(server.client.run("files").headers["run-id"]))
    assert seen == sorted(set(seen))


# ---- what a sandbox may do by other runs ----

ESCAPE = """
import errno, os, sys
def start(lines):
    question = os.open("/cloud/apps/self/start", os.O_RDWR)
    try:
        os.write(question, lines.encode())
        run = os.read(question, 99).decode().strip()
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(question)
    open(f"/proc/{run}/wait").read()
    return open(f"/proc/{run}/stdout").read().strip()
print(start(sys.argv[1].replace("|", "\\n") + "\\narg=-c\\narg=" + sys.argv[2] + "\\n"))
"""


def escape(py, parameters, script, **options):
    result = py.run_json("py", "-c", ESCAPE, parameters, script, **options)
    assert (result["exit"], result["stderr"]) == (0, ""), result
    return result["stdout"].strip()


@pytest.mark.parametrize("root", ["fresh", "ro", "session-own"])
@pytest.mark.parametrize("wider", ["root=keep", "root=session-other", "root=made-up"])
def test_a_sandbox_starts_none_with_a_wider_root(py, root, wider):
    py.run("py", "-c", "open('/secret', 'w').write('s')", root="session-other", ttl="1h")
    assert escape(py, wider, "print(1)", root=root) == "EACCES"
    assert py.get("/vol/made-up").status == 404


def test_what_a_sandbox_starts_has_its_root(py):
    write = "open('/left', 'w').write('x'); print('written')"
    assert escape(py, "tag=a:b", write, root="fresh") == "written"
    assert escape(py, "root=ro", "print(2)", root="fresh") == "2"
    assert escape(py, "tag=a:b", write, root="session-mine", ttl="1h") == "written"
    assert py.get("/vol/session-mine/files/left").text == "x"
    assert py.get("/apps/py/files/left").status == 404
    # A run on the app's own volume is the app: it may choose.
    assert escape(py, "root=session-mine", "print(open('/left').read())") == "x"


def test_what_an_app_says_of_its_root_is_not_widened_by_other_apps(py, guests):
    """Its owner may: who can run it from outside can also change it. Its own runs are the app."""
    py.create("strict", guests.c("files"), root="fresh")
    py.create("shared", guests.c("files"), root="strict-own")
    start = """
import os
question = os.open("/cloud/apps/%s/start", os.O_RDWR)
os.write(question, b"root=%s\\narg=put /x 1\\n")
try:
    run = os.read(question, 99).decode().strip()
    print(open(f"/proc/{run}/wait").read().strip())
except OSError as error:
    print(error.errno, open("/proc/self/errstr").read())
"""
    for app, root in [("strict", "keep"), ("strict", "made-up"), ("shared", "keep"),
                      ("shared", "other")]:
        text = py.run("py", "-c", start % (app, root)).text
        assert text.startswith("2 ") and f"which other apps can't change to root={root}" in text
        assert "leave root= out, or say fresh or ro" in text
    for app, root, end in [("strict", "fresh", "exit 0"), ("strict", "ro", "exit 1"),
                           ("shared", "strict-own", "exit 0"), ("shared", "fresh", "exit 0")]:
        assert py.run("py", "-c", start % (app, root)).text == end + "\n"
    assert py.get("/apps/strict/files/x").status == 404
    assert py.get("/vol/strict-own/files/x").text == "1"
    assert py.get("/vol/made-up").status == 404
    assert py.run("strict", "put /x 1", root="keep").status == 200
    assert py.get("/apps/strict/files/x").text == "1"


def test_a_sandbox_calls_its_own_app_in_a_sandbox(py):
    call = ("f = open('/cloud/apps/self/call', 'r+'); f.write(\"open('/left', 'w').write('x')\");"
            "f.flush(); print(f.read())")
    for root in ("fresh", "ro"):
        py.run("py", "-c", call, root=root)
        assert py.get("/apps/py/files/left").status == 404


def test_a_sandbox_leaves_nothing_detached_behind(py):
    assert escape(py, "detach", "print(1)", root="fresh") == "EACCES"
    assert escape(py, "detach", "print(1)") == "1"


def test_a_sandbox_does_not_read_what_others_printed(py):
    assert py.run("py", "-c", "print('of somebody')", root="fresh").text == "of somebody\n"
    script = "print(sum('of somebody' in l for l in open('/cloud/apps/self/log')))"
    result = py.run_json("py", "-c", script, root="fresh")
    assert result["exit"] == 1 and "PermissionError" in result["stderr"], result
    assert int(py.run("py", "-c", script).text) > 0


def test_what_a_run_starts_has_its_tags(py):
    tags = escape(py, "tag=c:d", "print([l for l in open('/proc/self/status') if 'tag' in l])",
                  root="fresh", tag="a:b")
    assert "a:b" in tags and "c:d" in tags


def test_a_run_has_so_many_others_under_way(py, guests):
    py.create("waits", guests.c("probe"), arg="wait")
    script = """
import errno, os
count = 0
while True:
    question = os.open("/cloud/apps/waits/start", os.O_RDWR)
    os.write(question, b"stdin=open\\n")
    try:
        os.read(question, 99)
    except OSError as error:
        print(count, errno.errorcode[error.errno])
        break
    os.close(question)
    count += 1
"""
    assert py.run("py", "-c", script, root="fresh").text == "64 EBUSY\n"


@pytest.fixture(scope="module")
def strangers(files, guests):
    """`caller` is the sandbox; `open` has files, an environment and arguments, `relay` calls it."""
    files.create("caller", guests.c("caller"))
    files.create("open", guests.c("worker"), env="SECRET=s", memory="16MiB")
    files.create("open", guests.c("worker"), env="SECRET=s", memory="16MiB")  # version 2
    for name, *arguments in [("relay", "lines", "open", "relayed"),
                             ("presets", "start", "open", "input", "stdin=open", "env=A=b")]:
        query = [("name", name)] + [("arg", argument) for argument in arguments]
        assert files.post("/create", guests.c("caller"), query=query).status == 201
    return files


INPUT_ONLY = "gives other apps input only: call it, or start it without arg and env"


@pytest.mark.parametrize("root", ["fresh", "ro", "session-giver"])
@pytest.mark.parametrize("parameter", ["arg=say 1", "env=A=b", "version=1", "root=fresh",
                                       "root=keep", "call=_start"])
def test_a_sandbox_gives_other_apps_input_only(strangers, root, parameter):
    start = ("caller", "start", "open", "input\n", parameter, "stdin=open")
    text = strangers.run(*start, root=root).text
    assert text.startswith("start: Permission denied: a run with a root of its own"), text
    assert INPUT_ONLY in text
    # It is not what a run of the app itself is refused.
    assert INPUT_ONLY not in strangers.run(*start).text


def test_a_sandbox_may_call_and_start_other_apps(strangers):
    assert strangers.run("caller", "ask", "open", "input\n", root="fresh").text == "[INPUT\n].\n"
    assert strangers.run("caller", "start", "open", "input\n", "stdin=open", "memory=8MiB",
                         "net=none", "tag=a:b", root="fresh").text == "wait: exit 0\nstdout: INPUT\n"
    # Of its own app it still says all.
    assert strangers.run("caller", "start", "self", "", "stdin=open", "arg=lines", "arg=open",
                         "arg=x", root="fresh").text == "wait: exit 0\nstdout: X\n"


def test_what_a_sandbox_calls_is_confined_too(strangers):
    assert strangers.run("caller", "ask", "relay", "", root="fresh").text == "[RELAYED\n].\n"
    assert strangers.run("caller", "ask", "presets", "").text == (
        "[wait: exit 0\n][stdout: INPUT].\n")
    text = strangers.run("caller", "ask", "presets", "", root="fresh").text
    assert "a run with a root of its own, or below one, gives other apps input only" in text


def test_a_sandbox_does_not_see_how_another_app_is_set_up(py, strangers):
    script = """
import os
question = os.open("/cloud/apps/open/start", os.O_RDWR)
os.write(question, b"stdin=open\\n")
run = os.read(question, 99).decode().strip()
for name in ("args", "env"):
    try:
        print(open(f"/proc/{run}/{name}").read().strip(), name in os.listdir(f"/proc/{run}"))
    except OSError as error:
        print(error.errno, name in os.listdir(f"/proc/{run}"))
"""
    assert py.run("py", "-c", script, root="fresh").text == "44 False\n44 False\n"
    assert py.run("py", "-c", script).text == "open True\nSECRET=s True\n"


def test_limits_of_a_sandbox_are_those_of_what_it_calls(py, strangers):
    script = """
import os
question = os.open("/cloud/apps/open/start", os.O_RDWR)
os.write(question, b"stdin=open\\nfiles=50\\n")
run = os.read(question, 99).decode().strip()
names = ("limit_output_bytes", "limit_tmp_bytes", "limit_files", "limit_open_files")
print([line.split()[1] for line in open(f"/proc/{run}/status") if line.split(":")[0] in names])
"""
    limits = {"output": "2KiB", "tmp": "1MiB", "files": "70", "open_files": "33"}
    inside = py.run("py", "-c", script, root="fresh", **limits).text
    assert sorted(eval(inside)) == sorted(["2048", "1048576", "50", "33"])
    outside = py.run("py", "-c", script, **limits).text
    assert not {"2048", "1048576", "33"} & set(eval(outside)), outside


def test_what_a_tight_run_starts_is_as_tight(py):
    """Of its own app, whatever root that has, and in its own layer."""
    fill = "f = open('/much', 'wb', 0); [f.write(bytes(4096)) for _ in range(100)]; print('all')"
    for root in ("fresh", "keep", "tight-session"):
        assert escape(py, "disk=1GiB", fill, root=root, disk="100KiB") == "", root
        assert escape(py, "disk=1GiB", fill, root=root) == "all", root


def test_a_parameter_counts_once(files):
    for query in ("root=keep&root=fresh", "memory=1MiB&memory=2MiB", "detach&detach"):
        response = files.post(f"/run?name=files&{query}")
        assert response.status == 400 and "is given twice" in response.text, response
    for query in ("detach=0", "trace=off", "core=maybe"):
        response = files.post(f"/run?name=files&{query}")
        assert response.status == 400 and "is not valid" in response.text, response
