"""Alarms: apps that run by themselves. What time does is in src/store/alarm_test.c and
src/run/alarms_test.c, which have a clock of their own; here is the real one, seen from both doors."""

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess

import pytest

FAR = "once 2100-01-01T00:00:00Z\n"


@pytest.fixture(scope="module")
def module(guests):
    return guests.c("probe")


@pytest.fixture
def app(server, module):
    response = server.client.post("/create?name=probe&arg=env", module)
    assert response.status in (200, 201), response
    yield "probe"
    assert server.client.delete("/apps/probe").status < 300


def path(name, alarm=""):
    return f"/apps/{name}/alarm/{alarm}"


def facts(client, name, alarm):
    """What an alarm shows: {fact: [values]}, and its input."""
    response = client.get(path(name, alarm))
    assert response.status == 200, response
    head, _, text = response.text.partition("\n\n")
    found = {}
    for line in head.splitlines():
        key, _, value = line.partition(": ")
        found.setdefault(key, []).append(value)
    return found, text


def results(client, name, alarm):
    return facts(client, name, alarm)[0].get("last", [])


def log_of(client, name):
    return client.get(f"/apps/{name}/log").text


def set_alarm(client, name, alarm, text):
    response = client.put(path(name, alarm), text.encode())
    assert response.status in (200, 201, 204), response


# --- from outside -----------------------------------------------------------------------------


def test_set_listed_read_removed(client, app):
    assert client.get(path(app)).text == ""
    set_alarm(client, app, "b", "*/5 * * * *\nsome\ninput")
    set_alarm(client, app, "a", FAR)
    assert client.get(path(app)).text == "a\nb\n"
    found, text = facts(client, app, "b")
    assert found["when"] == ["*/5 * * * *"] and found["state"] == ["waiting"]
    assert len(found["next"]) == 3 and "last" not in found
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d[05]:00\.000Z", time)
               for time in found["next"])
    assert text == "some\ninput"
    assert facts(client, app, "a")[0]["next"] == ["2100-01-01T00:00:00.000Z"]
    tag = client.get(path(app, "a")).headers["etag"]
    assert client.get(path(app, "a"), headers={"If-None-Match": tag}).status == 304
    set_alarm(client, app, "a", "every 1h")
    assert client.get(path(app, "a"), headers={"If-None-Match": tag}).status == 200
    assert client.delete(path(app, "a")).status == 204
    assert client.get(path(app)).text == "b\n"
    assert client.get(path(app, "a")).status == 404
    assert client.delete(path(app, "a")).status == 404


@pytest.mark.parametrize("text,words", [
    ("", "begins with a line like"),
    ("sometimes", "begins with a line like"),
    ("every 0.5s", "followed by a time"),
    ("every 10ms", "every second at most"),
    ("once 2001-01-01T00:00:00Z", "that time has passed"),
    ("0 0 31 2 *", "there is no such day"),
    ("0 0 * * * tz=../etc/passwd", "'../etc/passwd' is no time zone: one is written like Europe/"),
    ("61 * * * *", "is no minute"),
    ("every 1m\n" + "x" * 65537, "at most 65536 bytes"),
])
def test_refused(client, app, text, words):
    response = client.put(path(app, "x"), text.encode())
    assert 400 <= response.status < 500, response
    assert response.text.startswith("error: ") and words in response.text, response
    assert response.text.count("\n") == 1
    assert client.get(path(app)).text == ""


def test_refused_time_zone(client, app):
    """The line is at fault, not what the path names."""
    response = client.put(path(app, "x"), b"0 0 * * * tz=Europe/Atlantis")
    assert response.status == 400, response
    assert "there is no time zone 'Europe/Atlantis'" in response.text
    assert "written like Europe/Berlin" in response.text
    assert client.get(path(app)).text == ""


def test_refused_names(client, app):
    for name in (".hidden", "a%20b", "a" * 65, "%C3%A4"):
        assert client.put(path(app, name), b"every 1m").status == 400, name
    assert client.get("/apps/nosuch/alarm/").status == 404
    assert client.put("/apps/nosuch/alarm/x", b"every 1m").status == 404


def test_at_most_a_hundred(client, app):
    for i in range(100):
        set_alarm(client, app, f"a{i}", FAR)
    response = client.put(path(app, "more"), FAR.encode())
    assert response.status == 507 and "100 alarms" in response.text, response
    set_alarm(client, app, "a5", "every 1h")
    client.delete(path(app, "a7"))
    set_alarm(client, app, "more", FAR)


def test_it_runs(client, app, eventually):
    set_alarm(client, app, "tick", "every 1s\n")
    eventually(lambda: len(results(client, app, "tick")) >= 2)
    last = results(client, app, "tick")[0]
    match = re.fullmatch(r"\S+Z run (\d+) exit 0 reason exit", last)
    assert match, last
    status = client.get(f"/proc/{match[1]}/status").text
    assert "tag: alarm:tick" in status and "app: probe" in status
    output = client.get(f"/proc/{match[1]}/stdout").text
    assert output == "ALARM=tick\n"
    log = log_of(client, app)
    assert f" {match[1]} sys alarm tick: its time has come\n" in log
    client.delete(path(app, "tick"))
    ended = len(log_of(client, app).splitlines())
    set_alarm(client, app, "tock", "every 1s\n")
    eventually(lambda: results(client, app, "tock"))
    assert "alarm tick" not in "\n".join(log_of(client, app).splitlines()[ended + 4:])


def test_input(client, server, module, eventually):
    text = "".join(f"line {i}\n" for i in range(7000))[:65536]
    assert client.post("/create?name=echo&arg=echo", module).status == 201
    set_alarm(client, "echo", "x", "every 1s\n" + text)
    run = eventually(lambda: results(client, "echo", "x"))[-1].split()[2]
    assert client.get(f"/proc/{run}/stdout").text == text
    client.delete("/apps/echo")


def test_failures_and_overlaps_are_shown(client, module, eventually):
    assert client.post("/create?name=bad&arg=exit&arg=7", module).status == 201
    assert client.post("/create?name=slow&arg=sleep&arg=600000", module).status == 201
    set_alarm(client, "bad", "x", "every 1s")
    set_alarm(client, "slow", "x", "every 1s")
    assert " exit 7 reason exit" in eventually(lambda: results(client, "bad", "x"))[0]
    skipped = eventually(lambda: results(client, "slow", "x"))[0]
    assert skipped.endswith("skipped: the last run goes on")
    state = facts(client, "slow", "x")[0]["state"][0]
    run = re.fullmatch(r"run (\d+)", state)[1]
    assert "alarm x: skipped" in log_of(client, "slow")
    client.put(f"/proc/{run}/ctl", b"kill")
    eventually(lambda: any(f"run {run} exit 137 reason killed" in line
                           for line in results(client, "slow", "x")))
    client.delete("/apps/bad")
    client.delete("/apps/slow")


def test_an_app_that_is_removed_has_no_alarms(client, module, eventually):
    assert client.post("/create?name=gone", module).status == 201
    set_alarm(client, "gone", "x", "every 1s")
    eventually(lambda: results(client, "gone", "x"))
    client.delete("/apps/gone")
    assert client.post("/create?name=gone", module).status == 201
    assert client.get(path("gone")).text == ""
    assert client.delete("/apps/gone").status < 300


# --- over restarts ----------------------------------------------------------------------------


def volume_of(server, alarm):
    """The database that has the alarm."""
    for database in (server.state / "volumes").glob("*.db"):
        with contextlib.closing(sqlite3.connect(database)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_schema")}
            if "zasm_alarm" in tables and connection.execute(
                    "SELECT 1 FROM zasm_alarm WHERE name = ?", (alarm.encode(),)).fetchone():
                return database
    raise AssertionError("no volume has it")


def change(database, how):
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute(f"UPDATE zasm_alarm SET {how}")
        connection.commit()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_they_survive(make_server, module, eventually, how):
    server = make_server()
    assert server.client.post("/create?name=probe&arg=echo", module).status == 201
    set_alarm(server.client, "probe", "far", "0 3 * * * \ninput")
    set_alarm(server.client, "probe", "soon", "every 1s")
    before = facts(server.client, "probe", "far")
    eventually(lambda: results(server.client, "probe", "soon"))
    getattr(server, how)()
    server.start()
    assert facts(server.client, "probe", "far") == before
    newest = eventually(lambda: results(server.client, "probe", "soon"))[0]
    eventually(lambda: results(server.client, "probe", "soon")[0] != newest)
    assert server.stop() == 0


def test_missed_ones_are_made_up_for_once(make_server, module, eventually):
    server = make_server()
    assert server.client.post("/create?name=probe&arg=echo", module).status == 201
    set_alarm(server.client, "probe", "day", "0 0 1 1 *")
    set_alarm(server.client, "probe", "once", FAR)
    set_alarm(server.client, "probe", "other", FAR)
    assert server.stop() == 0
    # As if the server had been away for long: both should have come years ago.
    change(volume_of(server, "day"), "next_ns = 1000000000 WHERE name <> x'6f74686572'")
    server.start()
    for name in ("day", "once"):
        assert "exit 0 reason exit" in eventually(
            lambda name=name: results(server.client, "probe", name))[0]
    assert facts(server.client, "probe", "once")[0]["state"] == ["over"]
    day = facts(server.client, "probe", "day")[0]
    assert day["next"][0].endswith("-01-01T00:00:00.000Z") and len(day["last"]) == 1
    assert "last" not in facts(server.client, "probe", "other")[0]
    assert server.stop() == 0
    # Nothing is left to make up for.
    server.start()
    set_alarm(server.client, "probe", "tick", "every 1s")
    eventually(lambda: results(server.client, "probe", "tick"))
    assert len(results(server.client, "probe", "day")) == 1
    assert len(results(server.client, "probe", "once")) == 1
    assert server.stop() == 0


def test_once_whose_run_was_cut_off_runs_again(make_server, module, eventually):
    server = make_server("--grace", "0s")
    assert server.client.post("/create?name=probe&arg=sleep&arg=600000", module).status == 201
    set_alarm(server.client, "probe", "once", FAR)
    server.kill()
    change(volume_of(server, "once"), "next_ns = 1000000000")
    server.start()
    eventually(lambda: facts(server.client, "probe", "once")[0]["state"][0].startswith("run "))
    assert server.stop() == 0
    server.start()
    eventually(lambda: facts(server.client, "probe", "once")[0]["state"][0].startswith("run "))
    assert server.stop() == 0


def test_a_copy_of_the_volume_has_them(make_server, module):
    server = make_server()
    assert server.client.post("/create?name=probe&arg=echo", module).status == 201
    set_alarm(server.client, "probe", "kept", FAR + "input")
    kept = facts(server.client, "probe", "kept")
    assert server.stop() == 0
    database = volume_of(server, "kept")
    copy = server.state.parent / "copy.db"
    shutil.copy(database, copy)
    server.start()
    server.client.delete(path("probe", "kept"))
    assert server.stop() == 0
    shutil.copy(copy, database)
    server.start()
    assert facts(server.client, "probe", "kept") == kept
    assert server.stop() == 0


def test_many_apps_with_alarms_start_at_once(make_server, module, eventually):
    server = make_server()
    for i in range(20):
        assert server.client.post(f"/create?name=app{i}&arg=echo", module).status == 201
        set_alarm(server.client, f"app{i}", "x", "every 1s")
    assert server.stop() == 0
    server.start()
    descriptors = server.descriptors()
    for i in range(20):
        newest = (results(server.client, f"app{i}", "x") or [""])[0]
        eventually(lambda: (results(server.client, f"app{i}", "x") or [""])[0] != newest)
    for i in range(20):
        server.client.delete(f"/apps/app{i}")
    eventually(lambda: server.descriptors() <= descriptors + 30)
    assert server.stop() == 0


# --- inside a guest ---------------------------------------------------------------------------


def test_a_guest_sets_its_own(client, app, eventually):
    own = "/cloud/apps/self/alarm/mine"
    done = client.run_json(app, "put", own, "every 1s\nfrom inside")
    assert done["exit"] == 0, done
    assert facts(client, app, "mine")[1] == "from inside"
    shown = client.run_json(app, "get", own)
    assert shown["exit"] == 0 and shown["stdout"].startswith("when: every 1s\n"), shown
    eventually(lambda: results(client, app, "mine"))
    done = client.run_json(app, "put", own, "every 1x")
    assert done["exit"] == 1 and "Invalid argument" in done["stderr"], done
    assert facts(client, app, "mine")[0]["when"] == ["every 1s"]


def test_a_guest_that_does_not_close(client, guests, eventually):
    program = guests.c_text("""
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    FILE *file = fopen("/cloud/apps/self/alarm/mine", "w");
    if (!file || fputs(argc > 1 ? argv[1] : "every 1h\\ninput", file) < 0) return 1;
    if (argc > 2) { fflush(file); abort(); }
    return 0; /* libc writes what it has, and closes nothing */
}
""")
    assert client.post("/create?name=lazy", program).status == 201
    assert client.run_json("lazy")["exit"] == 0
    eventually(lambda: client.get(path("lazy", "mine")).status == 200)
    assert facts(client, "lazy", "mine")[1] == "input"
    assert client.run_json("lazy", "every 1x")["exit"] == 0
    eventually(lambda: "alarm mine was not set: 'every'" in log_of(client, "lazy"))
    assert facts(client, "lazy", "mine")[0]["when"] == ["every 1h"]
    # One that ended badly may not have been done with it.
    assert client.run_json("lazy", "every 2h", "abort")["exit"] != 0
    eventually(lambda: "alarm mine was not set: the program was ended" in log_of(client, "lazy"))
    assert facts(client, "lazy", "mine")[0]["when"] == ["every 1h"]
    client.delete("/apps/lazy")


def test_a_guest_may_not_touch_others(client, app, module):
    assert client.post("/create?name=other&arg=env", module).status == 201
    for arguments in (("put", "/cloud/apps/other/alarm/x", "every 1m"),
                      ("get", "/cloud/apps/other/alarm/x")):
        done = client.run_json(app, *arguments)
        assert done["exit"] == 1 and "Permission denied" in done["stderr"], done
    assert client.get(path("other")).text == ""
    # A run that does not see the app's volume does not reach its alarms either.
    done = client.run_json(app, "put", "/cloud/apps/self/alarm/x", "every 1m",
                           root="fresh")
    assert done["exit"] == 1 and "Permission denied" in done["stderr"], done
    client.delete("/apps/other")


def test_the_example(client, guests, eventually):
    assert client.post("/create?name=report", guests.c("nightly")).status == 201
    client.put("/apps/report/files/visits.txt", b"one\ntwo\n")
    assert client.run_json("report")["stdout"] == "comes: 0 3 * * *\n"
    assert facts(client, "report", "nightly")[0]["when"] == ["0 3 * * *"]
    done = client.run_json("report", "every night")
    assert done["exit"] == 1 and "Invalid argument" in done["stderr"], done
    assert client.run_json("report", "every 1s")["exit"] == 0
    line = eventually(lambda: (lambda answer: answer.status == 200 and answer.text)(
        client.get("/apps/report/files/report.txt")))
    assert re.fullmatch(r"(\d{4}-\d\d-\d\d visits: 2\n)+", line), line
    client.delete("/apps/report")


# --- the command line -------------------------------------------------------------------------


def test_command_line(server, client, app, tmp_path):
    def cli(*arguments, text="", status=0):
        result = subprocess.run([server.binary, "alarm", *arguments], input=text, text=True,
                                capture_output=True, timeout=60,
                                env={**os.environ, "ZASM_SERVER": server.url})
        assert result.returncode == status, result
        return result.stdout if status == 0 else result.stderr

    assert cli(app) == ""
    assert cli(app, "x", "--set", "every 1h", text="input\n") == ""
    assert cli(app) == "x\n"
    assert cli(app, "x").startswith("when: every 1h\nstate: waiting\n")
    assert facts(client, app, "x")[1] == "input\n"
    assert "error: 'every' is followed" in cli(app, "x", "--set", "every x", status=1)
    assert cli(app, "x", "--rm") == ""
    assert cli(app, "x", status=1).startswith("error: ")
    assert cli(app, "--rm", status=2).startswith("error: ")
    assert cli("no/name", status=1).startswith("error: ")
    assert "at most" in cli(app, "x", "--set", FAR.strip(), text="x" * 70000, status=1)
