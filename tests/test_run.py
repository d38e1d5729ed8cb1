"""POST /run: arguments, environment, standard input, the forms of the answer, ends of all kinds."""

import json
import threading

import pytest


@pytest.fixture(scope="module")
def probe(server, guests):
    server.client.create("probe", guests.c("probe"))
    return server.client


def test_output_and_trailers(probe):
    response = probe.run("probe", "args", "a b", "ü")
    assert response.status == 200
    assert response.text == "probe\nargs\na b\nü\n"
    assert int(response.headers["run-id"]) > 0
    assert response.trailers["run-exit"] == "0"
    assert response.trailers["run-reason"] == "exit"
    assert int(response.trailers["run-peak-bytes"]) >= 65536


def test_where_the_ending_is(probe):
    """In the head of an answer that is in one piece, in the trailers of one that was streamed."""
    asked = probe.run("probe", "args", headers={"TE": "gzip;q=0, trailers"})
    assert asked.headers["transfer-encoding"] == "chunked" and "run-exit" not in asked.headers
    assert asked.headers["trailer"] == "Run-Exit, Run-Reason, Run-Cpu-Us, Run-Peak-Bytes"
    assert asked.trailers["run-exit"] == "0"

    # Of a run that has ended, so that it is in one piece however slow the machine is.
    log = f"/proc/{asked.headers['run-id']}/log"
    whole = probe.get(log)
    assert whole.headers["content-length"] == str(len(whole.body)) and whole.body == asked.body
    assert whole.headers["run-exit"] == "0" and whole.headers["run-reason"] == "exit"
    assert whole.headers["content-security-policy"] == "sandbox"
    assert "trailer" not in whole.headers
    assert probe.get(log, query={"from": 6}).body == whole.body[6:]
    head = probe.request("HEAD", log)
    assert head.headers["run-exit"] == "0" and head.body == b""
    streamed = probe.get(log, headers={"TE": "trailers"})
    assert streamed.headers["transfer-encoding"] == "chunked" and streamed.body == whole.body
    assert "run-exit" not in streamed.headers and streamed.trailers["run-exit"] == "0"
    none = probe.get(f"/proc/{asked.headers['run-id']}/stderr")
    assert none.body == b"" and none.headers["content-length"] == "0"
    assert none.headers["run-exit"] == "0"


def test_long_output_is_streamed(probe):
    """More than 32 KiB, and output in many pieces."""
    for arguments, stdin in ((("echo",), b"x" * 32769), (("lines", "200"), b"")):
        response = probe.run("probe", *arguments, stdin=stdin)
        log = f"/proc/{response.headers['run-id']}/log"
        later = probe.get(log)
        assert later.headers["transfer-encoding"] == "chunked"
        assert later.body == response.body and later.trailers["run-exit"] == "0"
        events = probe.get(log, headers={"Accept": "application/x-ndjson"}).lines()
        assert "".join(event["data"] for event in events[:-1]) == response.text
        assert events[-1]["exit"] == 0


def test_ids_grow(probe):
    first = int(probe.run("probe").headers["run-id"])
    second = int(probe.run("probe").headers["run-id"])
    assert second > first


def test_environment(probe):
    text = probe.run("probe", "env", env=["A=1", "B=x=y"]).text
    assert "A=1\n" in text and "B=x=y\n" in text


def test_standard_input(probe):
    data = bytes(range(256)) * 5000
    response = probe.run("probe", "echo", stdin=data)
    assert response.body == data


def test_large_input_while_output_waits(probe):
    # More than any buffer holds: the guest's output is spooled while the body still comes in.
    data = b"0123456789abcdef" * (1 << 20)
    response = probe.run("probe", "echo", stdin=data)
    assert len(response.body) == len(data)
    assert response.body == data


def test_exit_status(probe):
    response = probe.run("probe", "exit", "7")
    assert response.trailers["run-exit"] == "7"
    assert response.trailers["run-reason"] == "exit"


def test_trap_shows_where(probe):
    response = probe.run("probe", "trap")
    assert response.trailers["run-reason"] == "trap"
    assert "unreachable" in response.text
    assert "crash_here" in response.text or "main" in response.text


def test_order_of_both_streams(probe):
    response = probe.run("probe", "lines", "50")
    assert response.text == "".join(f"out {i}\nerr {i}\n" for i in range(50))


def test_stderr_off(probe):
    response = probe.run("probe", "lines", "3", stderr="off")
    assert response.text == "out 0\nout 1\nout 2\n"


def test_events(probe):
    response = probe.run("probe", "lines", "2", headers={"Accept": "application/x-ndjson"})
    events = response.lines()
    assert [(e["stream"], e["data"]) for e in events[:-1]] == [
        ("stdout", "out 0\n"), ("stderr", "err 0\n"), ("stdout", "out 1\n"), ("stderr", "err 1\n")]
    assert all(e["t"] > 1.6e9 for e in events[:-1])
    assert events[-1]["exit"] == 0 and events[-1]["reason"] == "exit"


def test_events_with_bytes(probe):
    response = probe.run("probe", "bytes", headers={"Accept": "application/x-ndjson"})
    assert response.lines()[0]["data64"] == "//4AAQ=="


def test_json_result(probe):
    result = probe.run_json("probe", "lines", "2")
    assert result["stdout"] == "out 0\nout 1\n"
    assert result["stderr"] == "err 0\nerr 1\n"
    assert result["exit"] == 0 and result["reason"] == "exit"
    assert result["id"] > 0 and result["cpu_us"] >= 0 and result["peak_bytes"] > 0


BYTE_BY_BYTE = """
#include <unistd.h>
int main(void) {
    for (int i = 0; i < 30001; i++) write(1 + i % 2, &"ab"[i % 2], 1);
    return 0;
}
"""


def test_streams_in_turn_byte_by_byte(probe, guests):
    probe.create("bytewise", guests.c_text(BYTE_BY_BYTE))
    result = probe.run_json("bytewise")
    assert (result["stdout"], result["stderr"]) == ("a" * 15001, "b" * 15000)
    response = probe.run("bytewise", headers={"Accept": "application/x-ndjson"})
    events = [json.loads(line) for line in response.text.splitlines()]
    assert "".join(event.get("data", "") for event in events) == "ab" * 15000 + "a"
    assert events[-1]["exit"] == 0
    assert probe.run("bytewise").text == "ab" * 15000 + "a"


def test_json_result_with_bytes(probe):
    result = probe.run_json("probe", "bytes")
    assert result["stdout64"] == "//4AAQ=="


@pytest.mark.parametrize("options,reason", [
    ({"cpu": "50ms"}, "cpu"),
    ({"wall": "100ms"}, "wall"),
])
def test_endless_loop_ends(probe, options, reason):
    result = probe.run_json("probe", "spin", **options)
    assert result["reason"] == reason
    assert reason in result["stderr"] or "limit" in result["stderr"]


def test_wall_limit_while_waiting(probe):
    result = probe.run_json("probe", "sleep", "60000", wall="50ms")
    assert result["reason"] == "wall"
    assert result["stdout"] == "sleeping\n"


def test_output_limit(probe):
    response = probe.run("probe", "flood", str(10 << 20), output="1MiB")
    assert response.trailers["run-reason"] == "output"
    assert len(response.body) >= 1 << 20
    assert len(response.body) < (1 << 20) + 4096


def test_memory_limit(probe):
    result = probe.run_json("probe", "eat", str(100 << 20), memory="16MiB")
    assert result["exit"] == 3 or result["reason"] == "memory"
    assert result["peak_bytes"] <= 16 << 20


def test_large_output(probe):
    response = probe.run("probe", "flood", str(40 << 20))
    assert len(response.body) == 40 << 20
    assert response.trailers["run-exit"] == "0"


def test_slow_reader_makes_the_guest_wait(probe, server):
    before = server.resident_bytes()
    connection, stream = probe.open("POST", "/run?name=probe&arg=flood&arg=60000000")
    head = stream.readline()
    assert b"200" in head
    assert server.resident_bytes() - before < 40 << 20
    total = sum(len(line) for line in iter(lambda: stream.read(1 << 20), b""))
    assert total >= 60000000
    connection.close()


def test_output_comes_line_by_line(probe):
    connection, stream = probe.open("POST", "/run?name=probe&arg=sleep&arg=300000")
    while stream.readline() not in (b"\r\n",):
        pass
    stream.readline()  # the chunk's size
    assert stream.readline() == b"sleeping\n"  # while it still sleeps
    connection.close()


@pytest.mark.parametrize("verb, length", [("sleep", "0"), ("wait", "100")])
def test_a_client_that_leaves_ends_its_run(probe, eventually, verb, length):
    """Also in the middle of a dialogue."""
    connection, stream = probe.open("POST", f"/run?name=probe&arg={verb}&arg=600000",
                                    headers={"Content-Length": length})
    head = {}
    while True:
        line = stream.readline()
        if line == b"\r\n":
            break
        name, _, value = line.decode().partition(":")
        head[name.lower()] = value.strip()
    identifier = head["run-id"]
    stream.close()
    connection.close()
    status = eventually(lambda: (lambda text: text if "ended" in text else None)(
        probe.get(f"/proc/{identifier}/status").text))
    assert "client" in status


def test_detached(probe, eventually):
    response = probe.run("probe", "lines", "3", detach="")
    assert response.status == 202
    identifier = response.text.strip()
    assert response.headers["location"] == f"/proc/{identifier}"
    probe.get(f"/proc/{identifier}/wait")
    assert probe.get(f"/proc/{identifier}/stdout").text == "out 0\nout 1\nout 2\n"
    assert probe.get(f"/proc/{identifier}/stderr").text == "err 0\nerr 1\nerr 2\n"


def test_dialogue_over_stdin_and_stdout(probe):
    identifier = probe.post("/run?name=probe&arg=wait&detach&stdin=open").text.strip()
    connection, stream = probe.open("GET", f"/proc/{identifier}/stdout")
    while stream.readline() != b"\r\n":
        pass
    stream.readline()
    assert stream.readline() == b"waiting\n"
    assert probe.put(f"/proc/{identifier}/stdin", b"A").status in (200, 201, 204)
    rest = stream.read()
    assert b"got 65\n" in rest
    connection.close()


CHUNKED = {"Transfer-Encoding": "chunked", "Content-Length": None, "Connection": None}


@pytest.mark.parametrize("accept", ["text/plain", "application/x-ndjson"])
def test_dialogue_in_one_request(probe, accept):
    """What a program says comes while its input is not complete, and it may answer."""
    connection, stream = probe.open("POST", "/run?name=probe&arg=wait",
                                    headers={**CHUNKED, "Accept": accept})
    while stream.readline() != b"\r\n":
        pass
    stream.readline()  # the chunk's size
    assert b"waiting" in stream.readline()
    connection.sendall(b"1\r\nA\r\n")
    stream.readline()
    while b"got 65" not in (line := stream.readline()):
        assert line
    # It has ended; the answer ends when the client has, too, and then says how.
    connection.sendall(b"0\r\n\r\n")
    rest = b""
    while not rest.endswith(b"\r\n\r\n"):
        rest += stream.read(1)
    assert b"Run-Exit: 0" in rest or b'"exit":0' in rest
    # The connection is good for another request.
    connection.sendall(b"GET /proc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert stream.readline().startswith(b"HTTP/1.1 200")
    connection.close()


def test_dialogue_of_many_turns(probe):
    """A line goes back and forth many times."""
    connection, stream = probe.open("POST", "/run?name=probe&arg=talk", headers=CHUNKED)
    connection.sendall(b"6\r\nbegin\n\r\n")
    while stream.readline() != b"\r\n":
        pass
    expected = b"begin\n"
    for turn in range(100):
        size = int(stream.readline(), 16)
        assert stream.read(size) == expected and stream.readline() == b"\r\n"
        expected = b"turn %d\n" % turn
        connection.sendall(b"%x\r\n%s\r\n" % (len(expected), expected))
    connection.sendall(b"0\r\n\r\n")
    connection.close()


def test_closing_standard_input(probe):
    identifier = probe.post("/run?name=probe&arg=wait&detach&stdin=open").text.strip()
    assert probe.delete(f"/proc/{identifier}/stdin").status == 204
    assert "got -1" in probe.get(f"/proc/{identifier}/stdout").text


def test_kill(probe, eventually):
    identifier = probe.run("probe", "spin", detach="").text.strip()
    assert probe.put(f"/proc/{identifier}/ctl", b"kill\n").status in (200, 201, 204)
    probe.get(f"/proc/{identifier}/wait")
    assert "killed" in probe.get(f"/proc/{identifier}/status").text


def test_delete_ends_a_run(probe):
    identifier = probe.run("probe", "sleep", "600000", detach="").text.strip()
    assert probe.delete(f"/proc/{identifier}").status == 204
    probe.get(f"/proc/{identifier}/wait")
    assert "killed" in probe.get(f"/proc/{identifier}/status").text


def test_pause_and_resume(probe, eventually):
    identifier = probe.run("probe", "spin", detach="", cpu="300ms").text.strip()
    assert probe.put(f"/proc/{identifier}/ctl", b"pause\n").status in (200, 201, 204)
    eventually(lambda: "paused" in probe.get(f"/proc/{identifier}/status").text)
    first = probe.get(f"/proc/{identifier}/usage").text
    assert probe.get(f"/proc/{identifier}/usage").text.splitlines()[0] == first.splitlines()[0]
    assert probe.put(f"/proc/{identifier}/ctl", b"resume\n").status in (200, 201, 204)
    probe.get(f"/proc/{identifier}/wait")
    assert "cpu" in probe.get(f"/proc/{identifier}/status").text


def test_unknown_control_verb(probe):
    identifier = probe.run("probe", "sleep", "600000", detach="").text.strip()
    response = probe.put(f"/proc/{identifier}/ctl", b"explode\n")
    assert response.status == 400
    probe.delete(f"/proc/{identifier}")


def test_log_of_a_run_by_offset(probe):
    identifier = probe.run("probe", "lines", "2").headers["run-id"]
    whole = probe.get(f"/proc/{identifier}/log").text
    assert whole == "out 0\nerr 0\nout 1\nerr 1\n"
    assert probe.get(f"/proc/{identifier}/log?from=6").text == whole[6:]


def test_files_persist(probe):
    assert probe.run("probe", "put", "/note", "kept").trailers["run-exit"] == "0"
    assert probe.run("probe", "get", "/note").text == "kept"
    assert probe.get("/apps/probe/files/note").text == "kept"


def test_tmp_does_not_persist(probe):
    assert probe.run("probe", "put", "/tmp/note", "gone").trailers["run-exit"] == "0"
    assert probe.run("probe", "get", "/tmp/note").trailers["run-exit"] == "1"


def test_many_at_once(probe):
    results = []

    def work(number):
        response = probe.run("probe", "args", str(number))
        results.append((number, response.text))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(i, f"probe\nargs\n{i}\n") for i in range(64)]


@pytest.mark.parametrize("query,status,words", [
    ({}, 400, "name"),
    ({"name": "nobody"}, 404, "no app named 'nobody'"),
    ({"name": "probe", "mem": "1MiB"}, 400, "did you mean"),
    ({"name": "probe", "memory": "lots"}, 400, "memory"),
    ({"name": "probe", "env": "novalue"}, 400, "KEY=VALUE"),
    ({"name": "probe", "keep": "x"}, 400, "keep"),
    ({"name": "probe", "call": "nothing"}, 404, "nothing"),
])
def test_bad_requests(probe, query, status, words):
    response = probe.post("/run", query=query)
    assert response.status == status, response
    assert words in response.text


def test_problem_json(probe):
    response = probe.post("/run", query={"name": "nobody"}, headers={"Accept": "application/json"})
    assert response.status == 404
    assert response.headers["content-type"] == "application/problem+json"
    problem = json.loads(response.text)
    assert problem["status"] == 404 and "nobody" in problem["detail"]
