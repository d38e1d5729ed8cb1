"""Transaction files, calls between apps, and what a program learns of failures."""

import subprocess

import pytest

ERRSTR = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

static void show(const char *when) {
    char text[2048] = "";
    FILE *file = fopen("/proc/self/errstr", "r");
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    printf("%s: %s%s", when, text, length ? "" : "(nothing)\n");
}

int main(void) {
    show("before");
    fopen("/no/such/file", "r");
    show("an error that says all");
    int control = open("/proc/self/ctl", O_WRONLY);
    int result = (int)write(control, "dance\n", 6);
    printf("%d %s\n", result, strerror(errno));
    show("one with a text");
    lseek(control, -1, SEEK_SET);
    show("it stays");
    fopen("/no/such/file", "r");
    show("not the reason of another");
    write(control, "sing\n", 5);
    show("the next one");
    open("/cloud/apps/nobody/call", O_RDWR);
    show("a call of nobody");
}
"""


def test_errstr_says_why_the_last_call_failed(client, guests):
    client.create("errstr", guests.c_text(ERRSTR))
    assert client.run("errstr").text.splitlines() == [
        "before: (nothing)",
        "an error that says all: (nothing)",
        "-1 Invalid argument",
        "one with a text: 'dance' can't be done to a run; there are pause, resume and kill",
        "it stays: 'dance' can't be done to a run; there are pause, resume and kill",
        "not the reason of another: (nothing)",
        "the next one: 'sing' can't be done to a run; there are pause, resume and kill",
        "a call of nobody: no app named 'nobody'",
    ]


@pytest.fixture
def apps(client, guests):
    """`caller` calls, `worker` is called."""
    client.create("caller", guests.c("caller"))
    client.create("worker", guests.c("worker"))
    return client


def living(client):
    """Ids of the runs that have not ended."""
    ids = client.get("/proc").text.split()
    texts = [client.get(f"/proc/{id}status").text for id in ids]
    return [id.rstrip("/") for id, text in zip(ids, texts) if "state: ended" not in text]


def status_of(client, id):
    text = client.get(f"/proc/{id}/status").text
    return dict(line.split(": ", 1) for line in text.splitlines())


# ---- inside: call ----


def test_a_call_is_a_question_and_its_answer(apps):
    assert apps.run("caller", "ask", "worker", "hello\n", "one\ntwo\n").text == (
        "[HELLO\n].\n"
        "[ONE\n][TWO\n].\n")


def test_a_question_may_be_empty(apps):
    assert apps.run("caller", "ask", "worker", "").text == ".\n"


def test_questions_follow_each_other_line_by_line(apps):
    assert apps.run("caller", "lines", "worker", "a", "b", "c").text == "A\nB\nC\n"


def test_what_a_call_is_to_a_program(apps):
    assert apps.run("caller", "what", "worker").text.splitlines() == [
        "character device: 1, size: 0, terminal: 0",
        "seek to 0: 0, tell: 0",
        "seek to the end: -1 Invalid seek",
        "pread -1, pwrite -1: Invalid seek",
        "read 2: AB",
        "back: 0",
        "again 3: ABC",
    ]


@pytest.mark.parametrize("order, error, words", [
    ("exit 3", "I/O error", "'worker' failed with exit status 3: leaving with 3"),
    ("panic", "I/O error", "'worker' failed with exit status 2: panic: no soup"),
    ("rust panic", "I/O error", "'worker' failed with exit status 101: thread 'main' (1) panicked "
     "at src/main.rs:3:5: no soup"),
    ("trap", "I/O error", "'worker' failed (trap): "),
])
def test_a_run_that_fails_is_an_error_with_a_reason(apps, order, error, words):
    lines = apps.run("caller", "ask", "worker", f"first\n{order}\n", "next\n").text.splitlines()
    assert lines[0] == "[FIRST"  # what it said before comes first
    assert lines[1].startswith(f"]read: {error}: {words}")
    assert lines[2:] == [".", "[NEXT", "]."]


def test_limits_of_the_called_app_are_errors(apps, guests):
    apps.create("worker_brief", guests.c("worker"), wall="100ms")
    text = apps.run("caller", "ask", "worker_brief", "wait\n").text
    assert "Operation timed out: 'worker_brief' failed (wall): wall limit of 100 ms" in text


def test_an_app_that_is_not_there(apps):
    assert apps.run("caller", "ask", "nobody", "x").text.startswith(
        "open: No such file or directory:")


def test_standard_error_of_the_called_goes_to_its_log_and_its_answer_does_not(apps):
    apps.run("caller", "ask", "worker", "blame oh dear\nanswer\n")
    log = apps.get("/apps/worker/log").text
    assert "oh dear" in log and "ANSWER" not in log


def test_large_questions_and_answers_stream(apps):
    data = b"".join(b"line %d of many\n" % i for i in range(200000))
    answer = apps.run("caller", "pipe", "worker", stdin=data)
    assert answer.body == data.upper(), answer.body[-300:]


def test_an_app_that_does_not_read_its_question(apps):
    answer = apps.run("caller", "pipe", "worker", stdin=b"exit 0\n" + b"more\n" * 100000)
    assert answer.body == b""


def test_the_called_is_a_run_with_a_parent(apps):
    caller = apps.run("caller", "ask", "worker", "x")
    parent = caller.headers["run-id"]
    child = next(status for id in apps.get("/proc").text.split()
                 if (status := status_of(apps, id.rstrip("/"))).get("parent") == parent)
    assert child["app"] == "worker" and child["reason"] == "exit"


# ---- inside: start ----


def test_start_gives_a_run_whose_streams_are_apart(apps):
    assert apps.run("caller", "start", "worker", "hello\nblame oh dear\n", "stdin=open",
                    "arg=one", "arg=two").text.splitlines() == [
        "wait: exit 0",
        "stdout: ONE",
        "stdout: TWO",
        "stdout: HELLO",
        "stderr: oh dear",
    ]


def test_a_started_run_can_be_killed(apps):
    assert apps.run("caller", "start", "worker", "-", "arg=wait").text.splitlines()[0] == (
        "wait: killed 137")


def test_start_says_what_it_does_not_know(apps):
    assert apps.run("caller", "start", "worker", "", "colour=red").text.startswith(
        "start: Invalid argument: a run has no parameter 'colour'; there are, a line each: arg env")
    assert "memory='x' is not valid" in apps.run("caller", "start", "worker", "", "memory=x").text
    assert "has no version 99" in apps.run("caller", "start", "worker", "", "version=99").text
    assert "wait: exit 0" in apps.run("caller", "start", "worker", "", "stdin=open",
                                      "version=1").text


# ---- what a chain may do ----


def test_a_chain_is_at_most_eight_deep(apps):
    text = apps.run("caller", "deep", "caller").text
    assert "caller at 8\n" in text and "caller at 9" not in text
    assert "are at most 8 deep" in text


def test_an_app_whose_only_place_is_taken_by_its_caller(client, guests):
    client.create("alone", guests.c("caller"), max_runs=1)
    text = client.run("alone", "ask", "alone", "x").text
    assert "write: Resource deadlock would occur: all 1 places of 'alone' are taken" in text or (
        "read: Resource deadlock would occur: all 1 places of 'alone' are taken" in text)


def test_processor_time_of_the_called_is_charged_to_the_caller(apps):
    result = apps.run_json("caller", "ask", "worker", "spin\n", cpu="200ms")
    assert result["reason"] == "cpu" or "Operation timed out" in result["stdout"]
    assert result["cpu_us"] >= 200000
    status = status_of(apps, result["id"])
    assert 0 < int(status["cpu_us_of_started"]) <= int(status["cpu_us"])


def test_memory_of_the_called_is_what_the_caller_has_left(apps):
    assert "[took 8\n]" in apps.run("caller", "ask", "worker", "take 8\n").text
    text = apps.run("caller", "ask", "worker", "take 8\n", memory="4MiB").text
    assert "no memory" in text


def test_what_was_started_ends_with_its_starter(apps, eventually):
    before = living(apps)
    child = apps.run("caller", "leave", "worker", "arg=wait").text.strip()
    eventually(lambda: status_of(apps, child)["state"] == "ended")
    assert status_of(apps, child)["reason"] == "client"
    assert status_of(apps, child)["message"] == "the run that started it has left it"
    assert living(apps) == before


def test_a_detached_run_outlives_its_starter(apps):
    child = apps.run("caller", "leave", "worker", "arg=wait", "detach").text.strip()
    assert status_of(apps, child)["state"] != "ended"
    assert status_of(apps, child)["detached"] == "yes"
    apps.delete(f"/proc/{child}")


@pytest.mark.parametrize("victim", range(3))
def test_whoever_is_killed_nobody_is_left(apps, eventually, victim):
    """A chain of three: caller starts caller, which starts a worker that waits."""
    before = living(apps)
    first = apps.run("caller", "leave!", "caller", "arg=leave!", "arg=worker", "arg=arg=wait",
                     detach="").text.strip()

    def chain():
        ids = [id for id in living(apps) if id not in before]
        return ids if len(ids) == 3 else None

    ids = sorted(eventually(chain), key=int)
    assert ids[0] == first
    apps.delete(f"/proc/{ids[victim]}")
    eventually(lambda: all(id not in living(apps) for id in ids[victim:]))
    assert all(id in living(apps) for id in ids[:victim])
    apps.delete(f"/proc/{first}")
    eventually(lambda: living(apps) == before)


def test_a_caller_that_leaves_ends_its_call(apps, eventually):
    before = living(apps)
    connection, stream = apps.open("POST", "/run?name=caller&arg=ask&arg=worker&arg=wait%0A")
    eventually(lambda: len(living(apps)) == len(before) + 2)
    connection.close()
    stream.close()
    eventually(lambda: living(apps) == before)


# ---- outside ----


def test_post_is_a_call(apps):
    answer = apps.post("/apps/worker/call", "hello\nyou\n")
    assert (answer.status, answer.text) == (200, "HELLO\nYOU\n")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert apps.post("/apps/worker/call").text == ""


def test_post_streams_a_large_answer(apps):
    data = b"".join(b"line %d\n" % i for i in range(100000))
    answer = apps.post("/apps/worker/call", data)
    assert answer.status == 200 and answer.body == data.upper()


@pytest.mark.parametrize("order, status, words", [
    ("exit 3", 502, "'worker' failed with exit status 3: leaving with 3"),
    ("trap", 502, "'worker' failed (trap)"),
])
def test_a_failure_outside_is_a_status(apps, order, status, words):
    answer = apps.post("/apps/worker/call", f"some\n{order}\n")
    assert answer.status == status and words in answer.text
    problem = apps.post("/apps/worker/call", f"{order}\n", headers={"Accept": "application/json"})
    assert problem.json()["status"] == status and words in problem.json()["detail"]


def test_a_failure_after_much_answer_cuts_the_connection(apps):
    with pytest.raises(ConnectionError):
        apps.post("/apps/worker/call", "say 20000\nexit 1\n")


def test_limits_outside(apps, guests):
    apps.create("worker_short", guests.c("worker"), wall="100ms")
    assert apps.post("/apps/worker_short/call", "wait\n").status == 504


def test_start_outside(apps, eventually):
    answer = apps.post("/apps/worker/start", "arg=one\n")
    assert answer.status == 200
    assert apps.get(f"/proc/{answer.text.strip()}/stdout").text == "ONE\n"
    assert apps.post("/apps/worker/start", "colour=red\n").status == 400


def test_only_post_asks(apps):
    assert apps.get("/apps/worker/call").status == 405
    assert apps.put("/apps/worker/call", "x").status == 405
    assert apps.post("/apps/worker/info", "x").status == 405
    assert apps.post("/apps/nobody/call", "x").status == 404
    assert apps.get("/apps/worker/start").headers["allow"] == "POST"


def test_a_client_that_leaves_ends_its_call(apps, eventually):
    before = living(apps)
    connection, stream = apps.open("POST", "/apps/worker/call", b"wait\n")
    eventually(lambda: len(living(apps)) == len(before) + 1)
    connection.close()
    stream.close()
    eventually(lambda: living(apps) == before)


# ---- the trace ----

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADER = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}


def test_the_trace_goes_through_every_hop(apps):
    direct = apps.run("worker", stdin=b"environment\n", headers=HEADER).text.strip()
    version, trace, parent, flags = direct.split("-")
    assert (version, trace, flags) == ("00", TRACE, "01") and parent != "00f067aa0ba902b7"
    called = apps.post("/apps/worker/call", "environment\n", headers=HEADER).text.strip()
    assert called.split("-")[1] == TRACE and called != direct
    caller = apps.run("caller", "ask", "worker", "environment\n", headers=HEADER)
    assert f"[00-{TRACE}-" in caller.text
    status = status_of(apps, caller.headers["run-id"])
    assert status["traceparent"].split("-")[1] == TRACE
    assert status["traceparent"] not in caller.text  # each hop has a parent-id of its own
    for app in ("caller", "worker"):
        assert f"trace 00-{TRACE}-" in apps.get(f"/apps/{app}/log").text


def test_a_trace_that_is_not_valid_is_none(apps):
    for value in ("nonsense", f"00-{TRACE}-0000000000000000-01", f"00-{TRACE.upper()}-00f067aa0ba902b7-01"):
        answer = apps.run("worker", stdin=b"environment\n", headers={"traceparent": value})
        assert answer.text == "none\n"
    assert apps.run("worker", stdin=b"environment\n").text == "none\n"


def test_a_program_knows_the_state_of_its_trace(apps):
    headers = {**HEADER, "tracestate": "x=1"}
    lines = apps.run("worker", stdin=b"environment\nstate\n", headers=headers).text.splitlines()
    assert lines[0].split("-")[1] == TRACE and lines[1] == "x=1"
    assert apps.run("caller", "ask", "worker", "state\n", headers=headers).text == "[x=1\n].\n"
    own = apps.run("worker", stdin=b"environment\nstate\n", headers=headers, env="TRACEPARENT=own").text
    assert own == "own\nnone\n"


# ---- polling ----


def test_a_poll_loop_over_several_calls(apps):
    lines = apps.run("caller", "poll", "worker", "worker", "worker").text.splitlines()
    assert sorted(lines) == ["TO 0", "TO 1", "TO 2"] + ["end of worker"] * 3


def test_a_poll_that_times_out(apps, guests):
    apps.create("sleeper", guests.c("worker"), arg="wait")
    assert apps.run("caller", "timeout", "sleeper").text.splitlines() == [
        "-1 Resource temporarily unavailable", "poll: 0", "-1 Resource temporarily unavailable"]


def test_a_poll_asks_and_is_ready_when_there_is_an_answer(apps, guests, eventually):
    apps.create("sleeper", guests.c("worker"), arg="wait")
    assert apps.run("caller", "patient", "sleeper").text == "poll: 0\n"
    apps.create("echo", guests.c("worker"))
    assert apps.run("caller", "poll", "echo").text == "TO 0\nend of echo\n"


def test_a_guest_that_waits_for_an_answer_stops_nobody(make_server, guests, eventually):
    client = make_server("--threads", "1").client
    client.create("caller", guests.c("caller"))
    client.create("worker", guests.c("worker"))
    waiting = [client.open("POST", "/run?name=caller&arg=ask&arg=worker&arg=wait%0A")
               for _ in range(5)]
    eventually(lambda: len(living(client)) == 10)
    assert client.run("caller", "ask", "worker", "hello").text == "[HELLO].\n"
    for connection, stream in waiting:
        connection.close()
        stream.close()
    eventually(lambda: living(client) == [])


def test_a_call_does_not_wait_for_a_place_for_ever(make_server, guests, eventually):
    client = make_server("--queue-wait", "200ms").client
    client.create("caller", guests.c("caller"))
    client.create("worker", guests.c("worker"), max_runs=1)
    occupant = client.run("worker", "wait", detach="").text.strip()
    text = client.run("caller", "ask", "worker", "hello\n").text
    assert "read: Resource busy: 'worker' could not be run: all places were taken" in text
    assert client.post("/apps/worker/call", "hello\n").status == 429
    client.delete(f"/proc/{occupant}")
    eventually(lambda: living(client) == [])
    assert client.run("caller", "ask", "worker", "hello\n").text == "[HELLO\n].\n"


# ---- in other languages ----


def test_go_asks(apps, guests):
    apps.create("go_caller", guests.go("caller"))
    lines = apps.run("go_caller", "ask", "one", "two", "exit 3", "four").text.splitlines()
    assert lines[0:4] == ["ONE", "", "TWO", ""]
    assert lines[4].startswith("(read: ") and "'worker' failed with exit status 3" in lines[4]
    assert lines[5:] == ["FOUR", ""]


def test_goroutines_go_on_while_one_waits_for_an_answer(apps, guests, eventually):
    before = living(apps)
    apps.create("go_caller", guests.go("caller"))
    lines = apps.run("go_caller", "together").text.splitlines()
    assert lines == [f"NUMBER {i}" for i in range(8) for _ in range(3)] + ["ticked: true"]
    eventually(lambda: living(apps) == before)  # the one that waited, too


def test_goroutines_on_the_streams_of_a_run(apps, guests):
    apps.create("go_caller", guests.go("caller"))
    assert apps.run("go_caller", "streams").text.splitlines() == [
        r'"HELLO\n" <nil>', r'"it failed\n" <nil>', r'"exit 0\n" <nil>']


PYTHON = r"""
import os

with open("/cloud/apps/worker/call", "r+") as call:
    call.write("text\n")
    call.flush()
    print(call.read(), end="")
    call.write("again\n")
    call.seek(0)
    print(call.readline(), end="")

with open("/cloud/apps/worker/call", "r+b") as call:
    call.write(b"bytes\nand more\n")
    print(call.readline(), call.read())

with open("/cloud/apps/worker/call", "r+") as call:
    call.write("exit 7\n")
    try:
        call.seek(0)
        call.read()
    except OSError as error:
        print(error.errno, open("/proc/self/errstr").read(), end="")

with open("/cloud/apps/worker/start", "r+") as start:
    start.write("stdin=open\narg=first\n")
    start.flush()
    run = f"/proc/{int(start.read())}"
with open(f"{run}/stdin", "w") as stdin:
    stdin.write("hello\nblame it was late\n")
os.remove(f"{run}/stdin")
for name in ("wait", "stdout", "stderr"):
    print(name, repr(open(f"{run}/{name}").read()))
"""


def test_python_asks(apps, guests):
    apps.create("python", guests.python())
    assert apps.run("python", "-c", PYTHON).text.splitlines() == [
        "TEXT",
        "AGAIN",
        r"b'BYTES\n' b'AND MORE\n'",
        "29 'worker' failed with exit status 7: leaving with 7",
        r"wait 'exit 0\n'",
        r"stdout 'FIRST\nHELLO\n'",
        r"stderr 'it was late\n'",
    ]


# ---- the pipeline of the examples ----


def test_the_pipeline(client, guests):
    for name in ("upper", "count", "report"):
        client.create(name, guests.c(name))
    assert client.run("report", stdin=b"tea\ncoffee\nTea\n").text == (
        " 1. 2 TEA\n 2. 1 COFFEE\n2 different lines\n")
    many = "".join(f"line {i}\n" for i in range(2000))
    result = client.run_json("report", stdin=many.encode())
    assert result["exit"] == 1
    assert result["stderr"].endswith(
        "count: 'count' failed with exit status 1: more than 1000 different lines\n")


def test_the_command(apps, server):
    def call(*arguments, **options):
        return subprocess.run([server.binary, "call", *arguments, "--server", server.url],
                              capture_output=True, text=True, timeout=120, **options)

    result = call("worker", input="hello\n")
    assert (result.returncode, result.stdout, result.stderr) == (0, "HELLO\n", "")
    result = call("worker", input="exit 3\n")
    assert (result.returncode, result.stdout) == (1, "")
    assert "'worker' failed with exit status 3: leaving with 3" in result.stderr
    assert "no app named 'nobody'" in call("nobody", input="").stderr
    assert call().returncode == 2
