"""/proc/ID/trace: the host calls of a run, when asked for."""

import re
import subprocess

import pytest

from support.modules import wat_print

# Opens, reads and writes, and fails at something; then it may wait for its standard input.
GUEST = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    char data[100];
    int file = open("/in.csv", O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (file < 0 || write(file, "1,2,3\n", 6) != 6 || close(file) != 0) return 1;
    file = open("/in.csv", O_RDONLY);
    if (file < 0 || read(file, data, sizeof data) != 6) return 1;
    open("/no\x1b[1m", O_RDONLY);
    if (argc > 1) read(0, data, sizeof data);
    return 3;
}
"""


@pytest.fixture(scope="module", autouse=True)
def apps(server, guests):
    server.client.create("traced", guests.c_text(GUEST))
    server.client.create("hello", wat_print("hello"))


def trace_of(client, run):
    response = client.get(f"/proc/{run}/trace")
    assert response.status == 200, response
    return response.text


def test_lines(client):
    run = client.run("traced", trace="").headers["run-id"]
    text = trace_of(client, run)
    lines = text.splitlines()
    for line in lines[:-1]:
        assert re.fullmatch(r"\d+\.\d{6} [a-z_]+\(.*\) = .* <\d+\.\d{6}>", line), line
    assert re.fullmatch(r"\d+\.\d{6} \+\+\+ exit 3 \+\+\+", lines[-1])
    times = [float(line.split()[0]) for line in lines]
    assert times == sorted(times)
    for wanted in (r'path_open\(3, follow, "in.csv", creat\|trunc, .*, 0\) = 4 <',
                   r'fd_write\(4, "1,2,3\\n"\[6\]\) = 6 <',
                   r'fd_read\(4, \[100\]\) = 6 "1,2,3\\n" <',
                   r'path_open\(3, follow, "no\\x1b\[1m", .*\) = noent <',
                   r"proc_exit\(3\) = exit <"):
        assert re.search(wanted, text), (wanted, text)
    # As often as calls were counted.
    usage = client.get(f"/proc/{run}/usage").text
    assert f"calls: {len(lines) - 1}\n" in usage


def test_only_when_asked_for(client):
    run = client.run("hello").headers["run-id"]
    answer = client.get(f"/proc/{run}/trace")
    assert answer.status == 404 and f"run {run} was not traced; start one with trace" in answer.text
    assert "trace" not in client.get(f"/proc/{run}").text.split()
    run = client.run("hello", trace="").headers["run-id"]
    assert "trace" in client.get(f"/proc/{run}").text.split()


def test_follow(client):
    """What waits is seen while it waits, and its end when it is killed."""
    run = client.post("/run?name=traced&arg=wait&trace&detach&stdin=open").headers["run-id"]
    connection, stream = client.open("GET", f"/proc/{run}/trace")
    with connection, stream:
        seen = b""
        while b"fd_read(0, [100])" not in seen:
            piece = stream.read1()
            assert piece, seen
            seen += piece
        client.put(f"/proc/{run}/ctl", "kill")
        seen += stream.read()
    assert b"+++ killed 137 +++" in seen
    text = trace_of(client, run)
    assert text.splitlines()[-2].endswith("fd_read(0, [100]) <unfinished>")


def test_is_bounded(client, guests):
    """A guest that calls for ever: its trace ends, its calls are counted on."""
    client.create("caller", b'(module (import "wasi_snapshot_preview1" "sched_yield"'
                            b' (func $yield (result i32))) (memory (export "memory") 1)'
                            b' (func (export "_start") (local $i i32) (loop $again'
                            b' (drop (call $yield)) (br_if $again (i32.lt_u (local.tee $i'
                            b' (i32.add (local.get $i) (i32.const 1))) (i32.const 150000))))))')
    run = client.run("caller", trace="").headers["run-id"]
    text = trace_of(client, run)
    assert 4 << 20 <= len(text) < (4 << 20) + 1000
    lines = text.splitlines()
    assert lines[-3].startswith("--- the trace is full")
    assert lines[-2] == f"--- {150000 - (len(lines) - 3)} calls are not shown"
    assert "calls: 150000\n" in client.get(f"/proc/{run}/usage").text


def test_not_for_guests(client, guests):
    client.create("looks", guests.c_text(r"""
#include <fcntl.h>
#include <stdio.h>
int main(void) {
    printf("%d\n", open("/proc/self/trace", O_RDONLY));
    return 0;
}
"""))
    assert client.run("looks", trace="").text == "-1\n"


def test_runs_that_never_begin(client, guests):
    client.create("big", b'(module (memory (export "memory") 100) (func (export "_start")))')
    run = client.run("big", trace="", detach="", memory="64KiB").headers["run-id"]
    assert trace_of(client, run).endswith(" +++ failed 126 +++\n")


def test_command_line(server, build):
    def cli(*arguments):
        return subprocess.run([build / "0asm", *arguments, "--server", server.url]
                              if arguments[0] != "run" else
                              [build / "0asm", "run", "--server", server.url, *arguments[1:]],
                              capture_output=True, text=True, stdin=subprocess.DEVNULL)

    ran = cli("run", "--trace", "traced")
    assert ran.returncode == 3 and ran.stdout == ""
    assert ran.stderr.endswith("+++ exit 3 +++\n") and ' "in.csv", ' in ran.stderr
    run = cli("run", "--trace", "--detach", "traced").stdout.strip()
    traced = cli("trace", run)
    assert traced.returncode == 0 and traced.stdout.endswith("+++ exit 3 +++\n")
    run = cli("run", "--detach", "traced").stdout.strip()
    failed = cli("trace", run)
    assert failed.returncode == 1 and failed.stderr.startswith("error: ")
    assert cli("trace", "traced").returncode == 2
