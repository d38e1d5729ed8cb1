"""0asm top: with and without a terminal."""

import os
import pty
import re
import select
import subprocess

import pytest

SPIN = b'(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))'
WAIT = (b'(module (import "wasi_snapshot_preview1" "fd_read"'
        b' (func $read (param i32 i32 i32 i32) (result i32))) (memory (export "memory") 2)'
        b' (data (i32.const 0) "\\10\\00\\00\\00\\01\\00\\00\\00")'
        b' (func (export "_start") (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1)'
        b' (i32.const 8)))))')


@pytest.fixture(scope="module")
def runs(server):
    """One that waits, one that computes, and one that has ended."""
    client = server.client
    client.create("waits", WAIT)
    client.create("spins", SPIN)
    client.create("ends", b'(module (func (export "_start")))')
    client.run("ends")
    ids = [client.post(f"/run?name={name}&detach&stdin=open").headers["run-id"]
           for name in ("waits", "spins")]
    yield ids
    for run in ids:
        client.delete(f"/proc/{run}")


@pytest.fixture
def top(server, build):
    def start(*arguments, **options):
        return subprocess.Popen([build / "0asm", "top", "--server", server.url, *arguments],
                                stdout=options.pop("stdout", subprocess.PIPE),
                                stderr=subprocess.PIPE, text=True, **options)
    return start


def test_once(client, runs, top, eventually):
    for run, state in zip(runs, ("waiting", "running")):
        eventually(lambda: f"state: {state}\n" in client.get(f"/proc/{run}/status").text)
    eventually(lambda: "cpu_us: 0\n" not in client.get(f"/proc/{runs[1]}/usage").text)
    process = top("--once", stdin=subprocess.DEVNULL)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    lines = text.splitlines()
    assert re.fullmatch(r"up \d+ s: 2 running, 0 queued, 1 kept, [\d.]+ runs/s, [\d.]+ requests/s,"
                        r" [\d.]+ MiB", lines[0]), lines[0]
    assert lines[1] == "" and lines[2].split() == ["ID", "APP", "STATE", "CPU", "TIME", "USED",
                                                   "MEMORY", "CALLS"]
    rows = [line.split() for line in lines[3:]]
    assert [row[:3] for row in rows] == [[runs[1], "spins", "running"], [runs[0], "waits", "waiting"]]
    assert rows[0][3].endswith("%") and rows[0][3] != "0.0%" and "128.0 KiB" in lines[4]


def test_several_without_a_terminal(runs, top):
    process = top("-n", "3", "--delay", "50ms", stdin=subprocess.DEVNULL)
    text, errors = process.communicate(timeout=60)
    assert process.returncode == 0 and errors == ""
    assert text.count("up ") == 3 and text.count(f"{runs[1]} ") >= 3 and "\x1b" not in text


def test_terminal(runs, top):
    """q ends it, and the terminal is as it was."""
    import termios
    outer, inner = pty.openpty()
    before = termios.tcgetattr(inner)
    process = top("-d", "1h", stdin=inner, stdout=inner)
    seen = b""
    while b"waits" not in seen:
        assert select.select([outer], [], [], 60)[0]
        seen += os.read(outer, 10000)
    assert b"\x1b[H\x1b[J" in seen
    os.write(outer, b"q")
    assert process.wait(timeout=60) == 0
    assert termios.tcgetattr(inner) == before
    os.close(outer)
    os.close(inner)


@pytest.mark.parametrize("arguments", (("-n", "0"), ("-n", "x"), ("--delay", "1ms"), ("extra",)))
def test_wrong_usage(top, arguments):
    process = top(*arguments, stdin=subprocess.DEVNULL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2 and errors.startswith("error: ")


def test_no_server(build):
    ran = subprocess.run([build / "0asm", "top", "--once", "--server", "http://127.0.0.1:9"],
                         capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.startswith("error: ")
