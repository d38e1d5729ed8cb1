"""/proc/ID/core: what is left of a program that has trapped, in the format of tool-conventions."""

import struct

import pytest

from conftest import Server

# Two globals, one exported; a stretch of memory at each end; a trap three calls deep.
GUEST = rb"""(module
  (memory (export "memory") 40)
  (global (export "counter") (mut i32) (i32.const -7))
  (global (export "big") (mut i64) (i64.const 81985529216486895))
  (global $hidden (mut i32) (i32.const 5))
  (data (i32.const 16) "at the beginning")
  (func $inner (unreachable))
  (func $outer nop call $inner)
  (func (export "_start")
    (i32.store (i32.const 2621436) (i32.const 0x04030201))
    (memory.fill (i32.const 1000000) (i32.const 0x55) (i32.const 5000))
    call $outer))"""

FILLS = (b'(module (memory (export "memory") %d) (func (export "_start")'
         b' (memory.fill (i32.const 0) (i32.const 1) (i32.const %d)) unreachable))')


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def bytes(self, count):
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count:self.at]

    def byte(self):
        return self.bytes(1)[0]

    def number(self, signed=False):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value - (1 << shift) if signed and byte & 0x40 else value

    def name(self):
        return self.bytes(self.number()).decode()

    def list(self, read):
        return [read() for _ in range(self.number())]

    def zero(self):
        assert self.byte() == 0

    def at_end(self):
        return self.at == len(self.data)


def tagged(reader, read):
    def one():
        reader.zero()
        return read()
    return one


def parse(data):
    """Strictly: each section is used up, and comes once, in an order that a module may have."""
    reader = Reader(data)
    assert reader.bytes(8) == b"\0asm\1\0\0\0"
    core = {}
    numbers = []
    while not reader.at_end():
        number = reader.byte()
        section = Reader(reader.bytes(reader.number()))
        name = section.name() if number == 0 else number
        assert name not in core
        if number:
            numbers.append(number)
        core[name] = READ[name](section)
        assert section.at_end(), name
    assert numbers == sorted(numbers)
    return core


def read_core(section):
    section.zero()
    return section.name()


def read_instance(section):
    return section.number(), section.list(section.number), section.list(section.number)


def read_frame(section):
    return (section.number(), section.number(), section.number(),
            section.list(section.byte), section.list(section.byte))


def read_stack(section):
    section.zero()
    return section.name(), section.list(tagged(section, lambda: read_frame(section)))


def read_memory(section):
    assert section.byte() == 0  # no maximum
    return section.number()


def read_global(section):
    kind, mutable, code = section.bytes(3)
    assert mutable == 0 and (kind, code) in ((0x7F, 0x41), (0x7E, 0x42))
    value = section.number(signed=True)
    assert section.byte() == 0x0B
    return kind, value


def read_segment(section):
    assert section.bytes(2) == b"\x00\x41"
    offset = section.number(signed=True) & 0xFFFFFFFF
    assert section.byte() == 0x0B
    return offset, section.bytes(section.number())


READ = {
    "core": read_core,
    "coremodules": lambda s: s.list(tagged(s, s.name)),
    "coreinstances": lambda s: s.list(tagged(s, lambda: read_instance(s))),
    "corestack": read_stack,
    5: lambda s: s.list(lambda: read_memory(s)),
    6: lambda s: s.list(lambda: read_global(s)),
    11: lambda s: s.list(lambda: read_segment(s)),
}


def memory_of(core):
    memory = bytearray(core[5][0] * 65536)
    end = 0
    for offset, data in core[11]:
        assert offset >= end and data  # in order, none empty
        end = offset + len(data)
        memory[offset:end] = data
    return memory


@pytest.fixture(scope="module")
def server(build, tmp_path_factory):
    server = Server(build, tmp_path_factory.mktemp("core") / "state",
                    "--core", "4MiB", "--kept-cores", "10MiB").start()
    yield server
    assert server.process.poll() is None and server.stop() == 0, server.read_log()


def crash(client, name, **options):
    run = client.run(name, **options)
    return run.headers["run-id"]


def test_core(client):
    client.create("crash", GUEST)
    run = crash(client, "crash", core="")
    response = client.get(f"/proc/{run}/core")
    assert response.status == 200 and response.headers["content-type"] == "application/wasm"
    assert int(response.headers["content-length"]) == len(response.body) < 100_000
    core = parse(response.body)
    assert core["core"] == "crash" and core["coremodules"] == ["crash"]
    assert core["coreinstances"] == [(0, [0], [0, 1])]
    assert core[6] == [(0x7F, -7), (0x7E, 81985529216486895)]
    assert core[5] == [40]
    thread, frames = core["corestack"]
    assert thread == "main"
    assert [frame[:2] for frame in frames] == [(0, 0), (0, 1), (0, 2)]
    # In the function's body, which begins with its locals (one byte). The engine does not tell
    # where in the beginning of a function it was: 0 is its entry.
    offsets = [frame[2] for frame in frames]
    assert offsets[0] == 0 and offsets[1] == 2 and 2 < offsets[2] < 100
    assert all(frame[3:] == ([], []) for frame in frames)
    memory = memory_of(core)
    assert memory[16:32] == b"at the beginning"
    assert memory[1_000_000:1_005_000] == b"\x55" * 5000
    assert struct.unpack_from("<I", memory, 2621436) == (0x04030201,)
    assert sum(1 for byte in memory if byte) == 16 + 5000 + 4
    part = client.get(f"/proc/{run}/core", headers={"Range": "bytes=1-3"})
    assert part.status == 206 and part.body == b"asm"
    head = client.request("HEAD", f"/proc/{run}/core")
    for answer in (head, response):
        assert answer.status == 200 and "etag" not in answer.headers
    assert "trap 134\n" == client.get(f"/proc/{run}/wait").text


def test_only_when_asked_for_and_trapped(client):
    client.create("crash", GUEST)
    run = crash(client, "crash")
    answer = client.get(f"/proc/{run}/core")
    assert answer.status == 404 and answer.text == (
        f"error: run {run} was started without core; start one with it, as in "
        "/run?name=crash&core: should it trap, there is a core dump\n")
    client.create("exits", b'(module (memory (export "memory") 1) (func (export "_start")))')
    run = crash(client, "exits", core="")
    answer = client.get(f"/proc/{run}/core")
    assert answer.status == 404 and f"run {run} did not trap" in answer.text
    assert "core" not in client.get(f"/proc/{run}").text.split()


def test_without_memory_or_instance(client):
    client.create("bare", b'(module (func (export "_start") unreachable))')
    core = parse(client.get(f"/proc/{crash(client, 'bare', core='')}/core").body)
    assert 5 not in core and 11 not in core and core["coreinstances"] == [(0, [], [])]
    client.create("starts", b'(module (memory (export "memory") 1) (func $f unreachable)'
                            b' (start $f) (func (export "_start")))')
    run = crash(client, "starts", core="")
    assert client.get(f"/proc/{run}/wait").text == "trap 134\n"
    core = parse(client.get(f"/proc/{run}/core").body)
    assert len(core["corestack"][1]) >= 1


def test_stack_overflow(client):
    client.create("deep", b'(module (memory (export "memory") 1) (func $f (export "_start")'
                          b' call $f))')
    run = crash(client, "deep", core="")
    core = parse(client.get(f"/proc/{run}/core").body)
    assert len(core["corestack"][1]) > 10


def test_limits(client, eventually):
    """One that is too large is not made, and the run's last words say so; the oldest goes for the
    next when there are too many."""
    client.create("large", FILLS % (100, 5 << 20))
    response = client.run("large", core="")
    assert "no core dump: it would be larger than the limit" in response.text
    assert client.get(f"/proc/{response.headers['run-id']}/core").status == 404
    client.create("fills", FILLS % (50, 3 << 20))
    runs = [crash(client, "fills", core="") for _ in range(5)]
    there = [client.get(f"/proc/{run}/core").status for run in runs]
    assert there == [404, 404, 200, 200, 200]
    assert "has gone for newer ones" in client.get(f"/proc/{runs[0]}/core").text


def test_killed_meanwhile(client):
    """Kills and clients that leave while it is written come too late, or before: nothing hangs."""
    client.create("fills", FILLS % (50, 3 << 20))
    runs = [client.run("fills", core="", detach="").headers["run-id"] for _ in range(8)]
    for run in runs:
        client.put(f"/proc/{run}/ctl", "kill")
    for run in runs:
        assert client.get(f"/proc/{run}/wait").text in ("trap 134\n", "killed 137\n")


def test_goes_with_the_run(client, server, eventually):
    import os

    def cores():
        directory = f"/proc/{server.process.pid}/fd"
        found = 0
        for number in os.listdir(directory):
            try:
                link = os.readlink(f"{directory}/{number}")
            except FileNotFoundError:
                continue
            found += "/tmp/" in link and str(server.state) in link and "(deleted)" in link
        return found

    client.create("small", GUEST)
    before = cores()
    run = crash(client, "small", core="", keep="1s")
    eventually(lambda: client.get(f"/proc/{run}/status").status == 404)
    client.get("/proc")
    eventually(lambda: cores() <= before)


def test_not_for_guests(client, guests):
    client.create("looks", guests.c_text(r"""
#include <fcntl.h>
#include <stdio.h>
int main(void) {
    printf("%d\n", open("/proc/self/core", O_RDONLY));
    return 0;
}
"""))
    assert client.run("looks", core="").text == "-1\n"
