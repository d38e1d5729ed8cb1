"""Hostile guests and uploads: each ends with its own clear error, and nobody else notices.

One server is attacked by all tests of this file, one after the other and several at once. Meanwhile
a canary, a program of somebody else, is run again and again by a thread: it must be answered, and
rightly, during and after every attack. The last test looks at what is left behind.
"""

import gzip
import io
import itertools
import os
import random
import tarfile
import threading

import pytest

from conftest import Server
from support import boundary
from support.client import Client
from support.wasm_bytes import (CODE, DATA, END, EXPORT, FUNCTION, GLOBAL, HEADER, IMPORT, MEMORY,
                                NOTHING, START, TABLE, TYPE, WASI_FUNCTIONS, code, leb, module,
                                name, section, sections_of, signed_leb, vector)

CANARY = r"""
#include <stdio.h>
int main(int argc, char **argv) {
    FILE *file = fopen("/tmp/own", "wx"); /* nobody else's */
    if (!file || fclose(file)) return 1;
    printf("alive %s\n", argv[1]);
    return 0;
}
"""


class Canary(threading.Thread):
    """Somebody else's program, run all the time."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.client = client
        self.answers = 0
        self.failures = []
        self.ended = threading.Event()

    def run(self):
        for number in itertools.count():
            if self.ended.is_set():
                return
            try:
                response = self.client.run("canary", str(number))
                if (response.status != 200 or response.text != f"alive {number}\n"
                        or response.trailers["run-reason"] != "exit"
                        or response.trailers["run-exit"] != "0"):
                    self.failures.append(response)
            except Exception as error:  # whatever it is, it must not happen
                self.failures.append(error)
            if self.failures:
                return
            self.answers += 1

    def stop(self):
        self.ended.set()
        self.join()


class Arena:
    def __init__(self, server, guests):
        self.server, self.client, self.guests = server, server.client, guests
        self.numbers = itertools.count()
        self.client.create("canary", guests.c_text(CANARY))
        self.client.run("canary", "warm")
        self.client.create("warm", guests.c("hostile_names"))
        self.client.run("warm", "loops")
        assert self.client.delete("/apps/warm").status == 204
        self.descriptors = self.open_files()
        self.resident_bytes = server.resident_bytes()
        self.canary = Canary(Client(server.host, server.port))
        self.canary.start()

    def open_files(self):
        """What the server has open, but for compiled programs, of which some stay cached."""
        directory = f"/proc/{self.server.process.pid}/fd"
        found = []
        for number in os.listdir(directory):
            try:
                target = os.readlink(f"{directory}/{number}")
            except FileNotFoundError:
                continue  # closed meanwhile
            if ".cwasm" not in target:
                found.append(target)
        return sorted(found)

    def runs(self):
        """The numbers of the runs that have not ended."""
        found = []
        for line in self.client.get("/proc/").text.split():
            if line.strip("/").isdigit():
                response = self.client.get(f"/proc/{line.strip('/')}/status")
                if response.status == 200 and "state: ended" not in response.text:
                    found.append(int(line.strip("/")))
        return found


@pytest.fixture(scope="module")
def arena(build, guests, tmp_path_factory):
    state = tmp_path_factory.mktemp("arena") / "state"
    # What the address sanitizer keeps of freed memory is not the server's.
    options = [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=8"]
    server = Server(build, state, "--compile-memory", "512MiB", "--keep", "1s",
                    environment={"ASAN_OPTIONS": ":".join(filter(None, options))}).start()
    arena = Arena(server, guests)
    yield arena
    arena.canary.stop()
    status = server.stop()
    log = server.read_log()
    assert status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture(autouse=True)
def canary_lives(arena, eventually):
    """After each attack the canary is answered again, and it has never failed."""
    before = arena.canary.answers
    yield
    assert arena.server.process.poll() is None, arena.server.read_log()
    if arena.canary.is_alive():
        eventually(lambda: arena.canary.failures or arena.canary.answers > before)
    assert not arena.canary.failures


@pytest.fixture
def attack(arena):
    """A function that uploads a module under a new name and gives the name; gone afterwards."""
    made = []

    def upload(data, **options):
        app = f"attack{next(arena.numbers)}"
        arena.client.create(app, data, **options)
        made.append(app)
        return app

    yield upload
    for app in made:
        assert arena.client.delete(f"/apps/{app}").status == 204


# --- limits of a run -----------------------------------------------------------------------------

CPU = ("cpu", 137, "", "0asm: killed: cpu limit of 100 ms reached\n")
WALL = ("wall", 137, "", "0asm: killed: wall limit of 50 ms reached\n")

# What hostile_resources does (a volume's root is one of its files); the run's limits; the app's;
# how it ends and what it says.
RESOURCES = {
    "an endless loop": ("spin", {"cpu": "100ms"}, {}, CPU),
    "instructions that take long": ("fill", {"cpu": "100ms"}, {}, CPU),
    "host calls without end": ("call", {"cpu": "100ms"}, {}, CPU),
    "yielding without end": ("yield", {"cpu": "100ms"}, {}, CPU),
    "randomness without end": ("randomise", {"cpu": "100ms"}, {}, CPU),
    "an endless loop, by the clock": ("spin", {"wall": "50ms"}, {}, WALL),
    "sleeping for 2^64 ns": ("sleep-relative", {"wall": "50ms"}, {}, WALL),
    "sleeping until the end of time": ("sleep-absolute", {"wall": "50ms"}, {}, WALL),
    "sleeping on a clock that does not run": (
        "sleep-cpu", {}, {}, ("exit", 0, "woke: 0 1 58\n", "")),
    "recursion": ("recurse", {}, {}, ("trap", 134, "", None)),
    "growing to the limit": ("grow", {"memory": "16MiB"}, {}, ("exit", 0, "256 pages\n", "")),
    "touching all of it": ("touch", {"memory": "16MiB"}, {}, ("exit", 0, "256 pages\n", "")),
    "growing by 4 GiB": ("grow-at-once", {}, {}, ("exit", 0, "1 1\n", "")),
    "a flood of both streams": ("flood-both", {"output": "1MiB"}, {}, ("output", 137, None, None)),
    "a flood of empty lines": ("flood-lines", {"output": "64KiB"}, {}, ("output", 137, "", None)),
    "a flood of /dev/log": (
        "flood-log", {"cpu": "100ms"}, {}, CPU),
    "polling nothing": ("poll 0", {}, {}, ("exit", 0, "28 0\n", "")),
    "polling much": ("poll 4096", {}, {}, ("exit", 0, "0 4096\n", "")),
    "polling too much": ("poll 1000000", {}, {}, ("exit", 0, "48 0\n", "")),
    "filling the disk": ("fill-file big", {}, {"disk": "4MiB"},
                         ("exit", 0, "51 after 4096 KiB\n", "")),
    "filling /tmp": ("fill-file tmp/big", {}, {"tmp": "2MiB"},
                     ("exit", 0, "51 after 2048 KiB\n", "")),
    "files without end": ("make-files .", {}, {"files": "300"}, ("exit", 0, "51 after 300\n", "")),
    "files without end in /tmp": ("make-files tmp", {}, {}, ("exit", 0, "51 after 100000\n", "")),
    "hard links without end": ("make-links hard", {}, {"files": "300"},
                               ("exit", 0, "51 after 299\n", "")),
    "symbolic links without end": ("make-links soft", {}, {"files": "300"},
                                   ("exit", 0, "51 after 299\n", "")),
    "a deep tree": ("nest 3000", {}, {}, ("exit", 0, "3000 levels\n", "")),
    "listing by single bytes": ("list 2000 1", {}, {}, ("exit", 0, "0 entries\n", "")),
    "listing entry by entry": ("list 2000 40", {}, {}, ("exit", 0, "2002 entries\n", "")),
    "listing without names": ("list 2000 24", {}, {}, ("exit", 0, "2002 entries\n", "")),
    "holding listings": ("list-and-hold 20000", {}, {}, ("exit", 0, "20002 entries\n48\n", "")),
}


@pytest.mark.parametrize("words", RESOURCES, ids=lambda words: words.replace(" ", "-"))
def test_resources(arena, attack, words):
    verbs, limits, settings, (reason, status, stdout, stderr) = RESOURCES[words]
    app = attack(arena.guests.c("hostile_resources"), **settings)
    result = arena.client.run_json(app, *verbs.split(), **limits)
    assert (result["reason"], result["exit"]) == (reason, status), result
    if stdout is not None:
        assert result["stdout"] == stdout
    if stderr is not None:
        assert result["stderr"] == stderr


def test_recursion_is_named(arena, attack):
    result = arena.client.run_json(attack(arena.guests.c("hostile_resources")), "recurse")
    assert result["stderr"].startswith("0asm: trap: stack overflow: recursion too deep\n  at ")
    assert len(result["stderr"]) < 8192


def test_output_is_cut_at_its_limit(arena, attack):
    app = attack(arena.guests.c("hostile_resources"))
    response = arena.client.run(app, "flood-both", output="1MiB")
    assert response.trailers["run-reason"] == "output"
    words = b"0asm: killed: output limit of 1 MiB reached\n"
    assert response.body.endswith(words)
    assert response.body.count(b"x") == 1 << 20


def test_log_is_bounded(arena, attack):
    app = attack(arena.guests.c("hostile_resources"))
    for verb in ("flood-log", "flood-lines"):
        arena.client.run(app, verb, cpu="300ms", output="16MiB")
    assert len(arena.client.get(f"/apps/{app}/log").body) <= 64 << 20


def test_table_growth(arena, attack):
    result = arena.client.run_json(attack(b"""(module (table 1 funcref)
        (func (export "grow") (result i32) (local $size i32)
            (block (loop
                (br_if 1 (i32.eq (table.grow (ref.null func) (i32.const 1024)) (i32.const -1)))
                (br 0)))
            (drop (table.grow (ref.null func) (i32.const -1)))
            (table.size)))"""), call="grow")
    assert result["reason"] == "exit"
    assert int(result["stdout"]) <= 131072


SIZES = """open 0
0: size 0 seek 0 write 0 pwrite 0 allocate 28 advise 0
1: size 0 seek 0 write 0 pwrite 0 allocate 58 advise 0
7fffffffffffffff: size 22 seek 0 write 22 pwrite 22 allocate 22 advise 28
8000000000000000: size 22 seek 28 write 22 pwrite 28 allocate 22 advise 28
ffffffffffffffff: size 22 seek 28 write 22 pwrite 28 allocate 22 advise 28
10000000000: size 0 seek 0 write {at_tib} pwrite {at_tib} allocate 58 advise 0
20000000000000: size 22 seek 0 write 22 pwrite 22 allocate 58 advise 0
"""


@pytest.mark.parametrize("place,at_tib", [("file", 22), ("tmp/file", 0)])
def test_extreme_sizes(arena, attack, place, at_tib):
    app = attack(arena.guests.c("hostile_resources"))
    assert arena.client.run_json(app, "sizes", place)["stdout"] == SIZES.format(at_tib=at_tib)
    # A file of a TiB of nothing is not answered as a TiB.
    if place == "file":
        assert arena.client.request("HEAD", f"/apps/{app}/files/file").status == 200


def test_extreme_times(arena, attack):
    app = attack(arena.guests.c("hostile_resources"))
    assert arena.client.run_json(app, "times")["stdout"] == (
        "open 0\n0: 0 0 0 1\n7fffffffffffffff: 0 0 0 1\n8000000000000000: 28 28 0 0\n"
        "ffffffffffffffff: 28 28 0 0\nall flags: 28\n")
    assert arena.client.get(f"/apps/{app}/files/times").status == 200


# --- host calls ----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def boundary_app(arena):
    arena.client.create("boundary", boundary.calls().encode())
    yield "boundary"
    assert arena.client.delete("/apps/boundary").status in (204, 404)


@pytest.mark.parametrize("function", [f for f in WASI_FUNCTIONS if f != "proc_exit"])
def test_boundary_values(arena, boundary_app, function):
    result = arena.client.run_json(boundary_app, call=f"try_{function}", root="fresh")
    assert (result["reason"], result["exit"]) == ("exit", 0), result


def test_host_calls_at_the_deepest_point(arena, attack):
    """Every WASI function, called where the stack is just deep enough, and just too deep."""

    app = attack(boundary.deep().encode())

    def ends(function, depth):
        result = arena.client.run_json(app, str(depth), call=f"at_{function}")
        assert result["reason"] in ("exit", "trap"), result
        if result["reason"] == "trap":
            assert result["stderr"].startswith("0asm: trap: stack overflow"), result
        return result["reason"] == "exit"

    deepest, too_deep = 1, 1 << 22
    assert ends("fd_write", deepest) and not ends("fd_write", too_deep)
    while too_deep - deepest > 1:
        middle = (deepest + too_deep) // 2
        deepest, too_deep = (middle, too_deep) if ends("fd_write", middle) else (deepest, middle)
    for function in WASI_FUNCTIONS:
        # The edge is not far from here whatever the function's frame takes, and it is clean.
        outcomes = [ends(function, depth) for depth in range(deepest - 12, deepest + 13)]
        assert outcomes == sorted(outcomes, reverse=True), function


def test_iovecs(arena, attack):
    """Counts of iovecs that wrap when they are multiplied, or that are too many."""
    result = arena.client.run_json(attack(arena.guests.c_text(r"""
        #include <stdint.h>
        #include <stdio.h>
        int raw(int, int, int, int) __attribute__((
            __import_module__("wasi_snapshot_preview1"), __import_name__("fd_write")));
        int raw_read(int, int, int, int) __attribute__((
            __import_module__("wasi_snapshot_preview1"), __import_name__("fd_read")));
        static uint32_t iovecs[2 * 20000];
        int main(void) {
            static const uint32_t counts[] = {0, 1024, 1025, 10000, 20000, 1u << 29, (1u << 29) + 1,
                                              1u << 31, UINT32_MAX};
            uint32_t moved;
            for (int i = 0; i < 9; i++) {
                int written = raw(1, (int)(intptr_t)iovecs, (int)counts[i], (int)(intptr_t)&moved);
                int read = raw_read(0, (int)(intptr_t)iovecs, (int)counts[i],
                                    (int)(intptr_t)&moved);
                printf("%x: %d %d\n", counts[i], written, read);
            }
            iovecs[1] = iovecs[3] = 0x8000; /* sums and ends that wrap */
            iovecs[0] = iovecs[2] = 0xffffc000;
            printf("wrap: %d\n", raw(1, (int)(intptr_t)iovecs, 2, (int)(intptr_t)&moved));
            iovecs[0] = iovecs[2] = 0;
            iovecs[1] = iovecs[3] = 0xffffffff;
            printf("sum: %d\n", raw(1, (int)(intptr_t)iovecs, 2, (int)(intptr_t)&moved));
            return 0;
        }""")))
    assert result["stdout"] == (
        "0: 0 0\n400: 0 0\n401: 48 48\n2710: 48 48\n4e20: 48 48\n20000000: 48 48\n"
        "20000001: 48 48\n80000000: 48 48\nffffffff: 48 48\nwrap: 21\nsum: 21\n")


@pytest.mark.parametrize("status", [0, 1, 125, 126, 134, 137, 255, 256, 65536, 2**31 - 1, 2**31,
                                    2**32 - 1])
def test_exit_statuses(arena, attack, status):
    app = attack(arena.guests.c("hostile_names"))
    signed = status - 2**32 if status >= 2**31 else status
    result = arena.client.run_json(app, "exit", str(status))
    assert (result["reason"], result["exit"]) == ("exit", signed)
    assert arena.client.run(app, "exit", str(status)).trailers["run-exit"] == str(signed)


# --- names ---------------------------------------------------------------------------------------

INSIDE, OUTSIDE, NO_DIRECTORY, NOTHING_THERE = 0, 63, 54, 44
SPELLINGS = {
    "/": OUTSIDE, ".": INSIDE, "./": INSIDE, "..": OUTSIDE, "../": OUTSIDE, "../..": OUTSIDE,
    "../mark": OUTSIDE, "../../etc/passwd": OUTSIDE, "../../../../../../../etc/passwd": OUTSIDE,
    "/etc/passwd": OUTSIDE, "//etc/passwd": OUTSIDE, "/../etc/passwd": OUTSIDE,
    "/proc/self/environ": OUTSIDE, "./../mark": OUTSIDE, "sub/../../mark": OUTSIDE,
    "sub/../mark": INSIDE, "sub/../sub/../mark": INSIDE, "sub/./../mark": INSIDE,
    "sub//..//mark": INSIDE, "sub/deeper/../../mark": INSIDE, "sub/deeper/../../../mark": OUTSIDE,
    "sub/deeper/../../../../../../../etc/passwd": OUTSIDE, "sub/up/mark": INSIDE,
    "sub/up/../mark": OUTSIDE, "sub/up-two": OUTSIDE, "sub/up-two/mark": OUTSIDE,
    "sub/up-two/../mark": OUTSIDE, "sub/far": OUTSIDE, "sub/far/": OUTSIDE, "chain": INSIDE,
    "chain/mark": INSIDE, "chain/..": OUTSIDE, "chain/../mark": OUTSIDE, "sideways": OUTSIDE,
    "sideways/mark": OUTSIDE, "sub/up/sub/up/sub/up/mark": INSIDE,
    "sub/up/sub/up/sub/up/../mark": OUTSIDE, "mark/": NO_DIRECTORY, "mark//": NO_DIRECTORY,
    "mark/.": NO_DIRECTORY, "mark/..": NO_DIRECTORY, "mark/../mark": NO_DIRECTORY,
    "missing/../mark": NOTHING_THERE, "missing/../../mark": NOTHING_THERE, "tmp/..": INSIDE,
    "tmp/../mark": INSIDE, "tmp/../../mark": OUTSIDE, "dev/../../mark": OUTSIDE,
    "dev/null/../../mark": NO_DIRECTORY, "proc/../../mark": OUTSIDE,
    "proc/self/../../../mark": OUTSIDE, "env/../..": OUTSIDE, "cloud/../../mark": OUTSIDE,
    "cloud/apps/../../../mark": OUTSIDE, "..\\..\\etc\\passwd": NOTHING_THERE,
    "%2e%2e/mark": NOTHING_THERE, "..%2fmark": NOTHING_THERE, "....//mark": NOTHING_THERE,
    ".../mark": NOTHING_THERE, ".. /mark": NOTHING_THERE, "~/mark": NOTHING_THERE,
    "\uff0e\uff0e/mark": NOTHING_THERE, "..\u2215mark": NOTHING_THERE, "mark\u200b": NOTHING_THERE,
}


def lines_in(items):
    return "".join(f"{item}\n" for item in items).encode()


def test_leaving_by_a_path(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    lines = arena.client.run_json(app, "escape", stdin=lines_in(SPELLINGS))["stdout"].splitlines()
    found = dict(zip(SPELLINGS, (int(line.split(": ")[1]) for line in lines)))
    assert found == SPELLINGS
    assert lines[len(SPELLINGS):] == [
        "absolute link: 63", "from below: 63 63 63 63", "out of below: 63 63"]


def test_paths_that_are_none(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    assert arena.client.run_json(app, "bad-paths")["stdout"] == (
        "empty: 44\nnul: 28\nonly nul: 28\nnot utf-8: 25\noverlong slash: 25\nsurrogate: 25\n"
        "256: 37\n255: 0\n4096: 44\n4097: 37\n65536: 37\n65537: 48\n2^31: 48\n2^32-1: 48\n")


def test_loops_of_links(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    assert arena.client.run_json(app, "loops")["stdout"] == (
        "self: 32\nself/: 32\nself/x: 32\nping: 32\npong/..: 32\ndoubled: 32\nlink0: 32\n"
        "link99: 0\nlink60: 0\nlink59: 32\n")


def test_renames(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    assert arena.client.run_json(app, "renames")["stdout"].splitlines() == [
        "a to a: 0", "a to a/b: 28", "a to a/b/c: 28", "a to a/new: 28", "a to a/b/c/new: 28",
        ". to a/dot: 10", "a to .: 10", "a to ..: 63", ".. to a: 63", "a/b to a: 55",
        "a/b/c to a: 55", "dev to mine: 10", "a to dev: 10", "tmp to mine: 10",
        "proc to mine: 10", "a to tmp/a: 75", "dev/null to null: 63", "a/b/.. to q: 10",
        "missing to a: 44", "a to z: 0", "z to dev/z: 69", "z to proc/z: 75", "z to env/z: 69",
        "z to cloud/z: 75"]


def test_cycle_of_directories(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    assert arena.client.run_json(app, "cycle")["stdout"] == (
        "left into right: 0\nright into left: 28\nremove: 55\nremove: 0\nin removed: 44\n")


def test_descriptors_run_out(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    assert arena.client.run_json(app, "descriptors")["stdout"] == "41 after 252\nagain: 0 10\n"
    few = attack(arena.guests.c("hostile_names"), open_files="16")
    assert arena.client.run_json(few, "descriptors")["stdout"] == "41 after 12\nagain: 0 10\n"


def test_closing_everything(arena, attack):
    app = attack(arena.guests.c("hostile_names"))
    result = arena.client.run_json(app, "close-all")
    assert result["reason"] == "exit"
    assert result["stdout"] == (
        "onto itself: 0\nonto nothing: 8\nfrom nothing: 8\nfar: 8 8\nclose: 8 8 8\nstdin: 0 8\n"
        "root onto stdin: 0\nold root: 8\nmoved root: 0\n")
    assert result["stderr"] == "stdout: 0\nclose: 0 8\n"
    assert arena.client.get(f"/apps/{app}/files/x").text == "into the file\n"


# --- other people's data and the devices ---------------------------------------------------------

@pytest.fixture
def victim(arena, attack):
    """Somebody else's app with a secret in each place where there can be one, and its run."""
    app = attack(arena.guests.c("probe"), env="SECRET=hidden-variable")
    assert arena.client.run(app, "put", "/private", "hidden-file").trailers["run-exit"] == "0"
    response = arena.client.run(app, "sleep", "600000", "hidden-argument", detach="",
                                env="TOKEN=hidden-token")
    return app, int(response.text)


def test_reading_what_belongs_to_others(arena, attack, victim):
    app, run = victim
    ours = attack(arena.guests.c("hostile_names"))
    theirs = [f"cloud/apps/{app}/{name}" for name in (
        "files/private", "env/SECRET", "config", "log", "module", "args", "versions/1/module")]
    theirs += [f"{proc}/{run}{rest}" for proc in ("proc", "cloud/proc")
               for rest in ("", "/status", "/env", "/args", "/stdin", "/stdout", "/log", "/ctl",
                            "/root", "/root/private", "/wait", "/usage")]
    theirs += [f"proc/{number}" for number in (run - 1, run + 1000, 0, -1, "00", f"0{run}", 9**30)]
    theirs += ["env/SECRET", "catalog.db", "volumes", "etc/passwd", "apps", "proc/self/root/proc/1",
               "proc/self/fd", "dev/sda", "dev/mem", "dev/tcp", "proc/meminfo", "proc/self/maps"]
    result = arena.client.run_json(ours, "probe", stdin=lines_in(theirs))
    assert result["reason"] == "exit"
    assert "hidden" not in result["stdout"] + result["stderr"]
    for path, line in zip(theirs, result["stdout"].splitlines(), strict=True):
        assert line in (f"{path}: 2 0 ", f"{path}: 44 0 "), line  # ACCES, NOENT
    assert "state: waiting" in arena.client.get(f"/proc/{run}/status").text
    assert arena.client.delete(f"/proc/{run}").status == 204


def test_writing_where_nobody_may(arena, attack, victim):
    app, run = victim
    ours = attack(arena.guests.c("hostile_names"))
    expected = {
        "dev/null": (0, 0), "dev/zero": (0, 0), "dev/random": (0, 0), "dev/full": (0, 51),
        "dev/stdin": (0, 58), "env/PATH": (44, -1), "proc/self/status": (69, -1),
        "proc/self/env": (69, -1), "proc/self/ctl explode": (0, 28),
        f"proc/{run}/ctl kill": (44, -1),
        f"proc/{run}/stdin": (44, -1), f"cloud/proc/{run}/ctl kill": (44, -1),
        f"cloud/apps/{app}/files/private": (2, -1), f"cloud/apps/{app}/config {{}}": (2, -1),
        'cloud/apps/self/config {"memory":"4GiB"}': (2, -1), "cloud/apps/self/module": (69, -1),
        "proc/self/ctl kill": None,  # its own end
    }
    result = arena.client.run_json(ours, "write", stdin=lines_in(expected))
    assert result["stdout"].splitlines() == [
        f"{words.split()[0]}: open {errors[0]} write {errors[1]}"
        for words, errors in expected.items() if errors]
    assert (result["reason"], result["exit"]) == ("killed", 137)
    assert arena.client.get(f"/apps/{app}/files/private").text == "hidden-file"
    assert "state: waiting" in arena.client.get(f"/proc/{run}/status").text
    assert arena.client.delete(f"/proc/{run}").status == 204


def test_making_things_in_system_directories(arena, attack):
    ours = attack(arena.guests.c("hostile_names"))
    result = arena.client.run_json(ours, "make-in", stdin=lines_in(
        ["dev", "proc", "env", "cloud", "cloud/apps", f"cloud/apps/{ours}"]))
    assert result["reason"] == "exit"
    for line in result["stdout"].splitlines():
        errors = [int(word) for word in line.replace(":", "").split() if word.isdigit()]
        assert len(errors) == 5 and 0 not in errors, line
        assert set(errors) <= {2, 10, 44, 54, 63, 69, 75}, line  # no IO, no surprise
    assert arena.client.get(f"/apps/{ours}/files/").text == "mine/\n"


def test_files_named_as_our_directories(arena, attack):
    """Files of an app that are named as what is mounted there are hidden, not mixed."""
    ours = attack(arena.guests.c("hostile_names"))
    for path in ("dev/null", "proc/self/status", "env/X", "cloud/apps/x", "tmp/own"):
        response = arena.client.put(f"/apps/{ours}/files/{path}", b"planted")
        assert response.status in (200, 201, 204, 403, 409), response
    result = arena.client.run_json(
        ours, "probe", stdin=b"dev/null\nenv/X\ncloud/apps/x\ntmp/own\nproc/self/args\n",
        env="Y=1")
    assert result["stdout"] == (
        f"dev/null: 0 0 \nenv/X: 44 0 \ncloud/apps/x: 44 0 \ntmp/own: 44 0 \n"
        f"proc/self/args: 0 {len(ours) + 7} {ours}\nprobe\n\n")


# --- uploads -------------------------------------------------------------------------------------

LOOP = b"\x03\x40\x0c\x00\x0b"
PLAIN = module()
EMPTY_ITEMS = [name("_start") + b"\0\0"]


def with_import(library, word, rest):
    return (HEADER + section(TYPE, vector([NOTHING]))
            + section(IMPORT, vector([name(library) + name(word) + rest]))
            + section(FUNCTION, vector([leb(0)])) + section(MEMORY, vector([b"\0\1"]))
            + section(EXPORT, vector([name("_start") + b"\0\1"])) + code(b"\x10\0"))


def with_section(number, content, kind=EXPORT):
    """A section where it belongs: between the functions and the exports."""
    assert kind == EXPORT
    return (HEADER + section(TYPE, vector([NOTHING])) + section(FUNCTION, vector([leb(0)]))
            + section(number, content) + section(EXPORT, vector(EMPTY_ITEMS)) + code(b""))


def with_locals(count):
    body = leb(1) + leb(count) + b"\x7f" + END
    return (HEADER + section(TYPE, vector([NOTHING])) + section(FUNCTION, vector([leb(0)]))
            + section(EXPORT, vector(EMPTY_ITEMS)) + section(CODE, leb(1) + leb(len(body)) + body))


def data_at(offset):
    return b"\0\x41" + signed_leb(offset) + END + leb(1) + b"x"


# A function that makes the upload; what /create says.
REFUSED = {
    "nothing": (lambda: b"", 400, "the body is empty"),
    "four bytes": (lambda: b"\0asm", 422, "the upload ends after 4 bytes"),
    "a header": (lambda: HEADER, 422, "nothing to run"),
    "4 GiB of memory": (lambda: module(memory=b"\0" + leb(65536)), 413,
                        "at least 4096 MiB of memory; the limit is 256 MiB"),
    "a bit more memory": (lambda: module(memory=b"\0" + leb(4097)), 413,
                          "at least 262208 KiB of memory; the limit is 262144 KiB"),
    "more than 4 GiB": (lambda: module(memory=b"\0" + leb(65537)), 422, "memory section"),
    "2^32-1 pages": (lambda: module(memory=b"\0" + leb(2**32 - 1)), 422, "memory section"),
    "4 GiB as text": (lambda: b'(module (memory 65536) (func (export "_start")))', 413,
                      "at least 4096 MiB"),
    "memory64": (lambda: module(memory=b"\4\1"), 422, "memory64"),
    "shared memory": (lambda: module(memory=b"\3\1\1"), 422, "wasi-threads"),
    "two memories": (lambda: with_section(MEMORY, vector([b"\0\1"] * 2)), 422, "several memories"),
    "a million data segments": (
        lambda: module(after_code=section(DATA, leb(10**6) + data_at(0) * 10**6)), 413,
        "1000000 data segments"),
    "two million functions": (
        lambda: HEADER + section(TYPE, vector([NOTHING]))
        + section(FUNCTION, leb(2 * 10**6) + bytes(2 * 10**6)), 413, "2000000 functions"),
    "a count that lies": (lambda: HEADER + section(TYPE, leb(2**32 - 1) + NOTHING), 413,
                          "4294967295 types"),
    "a type of a million": (
        lambda: module(types=(NOTHING, b"\x60" + leb(1 << 20) + b"\x7f" * (1 << 20) + b"\0")),
        413, "parameters or results of one function"),
    "50001 locals": (lambda: with_locals(50001), 413, "50001 local variables"),
    "2^32-1 locals": (lambda: with_locals(2**32 - 1), 413, "4294967295 local variables"),
    "a function of 8 MB": (lambda: module(b"\1" * 8000000), 413, "bytes in one function"),
    "a table of 2^32-1": (lambda: with_section(TABLE, vector([b"\x70\0" + leb(2**32 - 1)])), 413,
                          "4294967295 elements in a table"),
    "a hundred thousand tables": (lambda: with_section(TABLE, vector([b"\x70\0\0"] * 10**5)), 413,
                                  "tables"),
    "a million globals": (
        lambda: with_section(GLOBAL, vector([b"\x7f\0\x41\0\x0b"] * 10**6)), 413,
        "1000000 globals"),
    "a million exports": (
        lambda: module(exports=EMPTY_ITEMS + [name(str(i)) + b"\0\0" for i in range(10**6)]), 413,
        "1000001 exports"),
    "two exports of a name": (lambda: module(exports=EMPTY_ITEMS * 2), 422, "duplicate export"),
    "an export of nothing": (lambda: module(exports=[name("_start") + b"\0\7"]), 422, "export"),
    "a name that is no text": (
        lambda: module(exports=EMPTY_ITEMS + [name(b"\xff\xfe") + b"\0\0"]), 422, "UTF-8"),
    "a name of a megabyte": (
        lambda: module(exports=EMPTY_ITEMS + [name("x" * 10**6) + b"\0\0"]), 422, "out of bounds"),
    "a start that is a memory": (lambda: module(exports=[name("_start") + b"\2\0"]), 422,
                                 "nothing to run"),
    "a start with a parameter": (lambda: module(types=(b"\x60\1\x7f\0",)), 422, "_start"),
    "nothing exported": (lambda: module(exports=[]), 422, "nothing to run"),
    "an imported memory": (lambda: with_import("env", "memory", b"\2\0\1"), 422, "env.memory"),
    "a million imports": (
        lambda: HEADER + section(TYPE, vector([NOTHING])) + section(
            IMPORT, vector(name("w") + name(str(i)) + b"\0\0" for i in range(10**6))), 413,
        "1000000 imports"),
    "a start section of nothing": (lambda: module(before_code=section(START, leb(9))), 422,
                                   "unknown function 9"),
    "a section twice": (lambda: PLAIN + code(b""), 422, "two code sections"),
    "a section that does not exist": (lambda: PLAIN + section(99, b"x"), 422, "section number 99"),
    "a section of 4 GiB": (lambda: PLAIN + b"\0" + leb(2**32 - 1), 422, "cut off"),
    "a length without an end": (lambda: PLAIN + b"\0" + b"\xff" * 10, 422, "cut off"),
    "values left over": (lambda: module(b"\x41\0" * 100000), 422, "type mismatch"),
    "a br_table of a million": (
        lambda: module(b"\x41\0\x0e" + leb(10**6) + bytes(10**6 + 1)), 422, "br_table"),
    "text that is none": (lambda: b"(module (((((( garbage", 422, "expected valid module field"),
    "a million parentheses": (lambda: b"(module " + b"(" * 900000, 422, "expected"),
    "an endless string": (lambda: b'(module (data "' + b"x" * 100000, 422, "end-of-file"),
    "an endless comment": (lambda: b"(module " + b"(;" * 400000, 422, "unterminated"),
    "text that is no UTF-8": (lambda: b"(module \xff\xfe)", 422, "utf-8"),
    "much text": (lambda: b"(module" + b" " * (2 << 20) + b")", 413, "1024 KiB"),
}


@pytest.mark.parametrize("words", REFUSED, ids=lambda words: words.replace(" ", "-"))
def test_refused_uploads(arena, words):
    make, status, text = REFUSED[words]
    response = arena.client.post("/create", make(), query={"name": "refused"})
    assert response.status == status, response
    assert text in response.text and response.text.startswith("error: ")
    assert len(response.body) < 4096
    assert arena.client.get("/apps/refused").status == 404


RUN = ("exit", 0, "")
# What is taken, and how it runs.
TAKEN = {
    "data beyond the memory": (lambda: module(after_code=section(DATA, vector([data_at(65536)]))),
                               ("trap", 134, "memory access out of bounds")),
    "data at 2^32-1": (lambda: module(after_code=section(DATA, vector([data_at(-1)]))),
                       ("trap", 134, "memory access out of bounds")),
    "sparse data": (lambda: module(memory=b"\0" + leb(4096), after_code=section(
        DATA, vector(data_at(i << 20) for i in range(256)))), RUN),
    "a hundred thousand data segments": (
        lambda: module(after_code=section(DATA, vector([data_at(0)] * 100000))), RUN),
    "many functions": (lambda: module(functions=(0,) * 20000, bodies=[b""] * 20000), RUN),
    "deeply nested blocks": (lambda: module(b"\x02\x40" * 100000 + END * 100000), RUN),
    "deeply nested text": (lambda: b'(module (func (export "_start") ' + b"(block " * 50000
                           + b")" * 50000 + b"))", RUN),
    "many large br_tables": (
        lambda: module((b"\x41\0\x0e" + leb(1000) + bytes(1001)) * 1000), RUN),
    "a million values": (lambda: module(b"\x41\0" * 10**6 + b"\x1a" * 10**6), RUN),
    "50000 locals": (lambda: with_locals(50000), RUN),
    "no memory": (lambda: module(memory=None), RUN),
    "a function named memory": (
        lambda: module(exports=EMPTY_ITEMS + [name("memory") + b"\0\0"]), RUN),
    "an unknown import": (lambda: with_import("evil", "escape", b"\0\0"),
                          ("trap", 134, "called evil.escape, which does not exist here")),
    "a WASI function of another type": (
        lambda: with_import("wasi_snapshot_preview1", "fd_write", b"\0\0"),
        ("trap", 134, "called wasi_snapshot_preview1.fd_write")),
    "a start section that loops": (
        lambda: module(functions=(0, 0), bodies=[b"", LOOP], before_code=section(START, leb(1))),
        ("cpu", 137, "cpu limit of 100 ms reached")),
    "a start section that traps": (
        lambda: module(functions=(0, 0), bodies=[b"", b"\0"], before_code=section(START, leb(1))),
        ("trap", 134, "unreachable")),
    "a start section that exits": (
        lambda: b"""(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (func $first (call $exit (i32.const 7))) (start $first)
            (func (export "_start") unreachable))""", ("exit", 7, "")),
    "WASI without a memory": (
        lambda: b"""(module (import "wasi_snapshot_preview1" "random_get"
            (func $random (param i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (func (export "_start") (call $exit (call $random (i32.const 0) (i32.const 8)))))""",
        ("exit", 21, "")),
    "damaged names": (lambda: PLAIN + section(0, b"\x04name\1" + leb(2**31)), RUN),
    "damaged debug information": (
        lambda: module(b"\0") + b"".join(
            section(0, name(word) + random.Random(2).randbytes(5000))
            for word in (".debug_line", ".debug_info", ".debug_abbrev", ".debug_str")),
        ("trap", 134, "unreachable")),
    "a name with control characters": (
        lambda: module(b"\0") + section(0, name("name") + b"\1" + leb(len(
            vector([leb(0) + name("a\x1b[2J\nb")]))) + vector([leb(0) + name("a\x1b[2J\nb")])),
        ("trap", 134, "at a?[2J")),
    "10 MB of nothing": (lambda: PLAIN + section(0, name("x") + bytes(10 << 20)), RUN),
}


@pytest.mark.parametrize("words", TAKEN, ids=lambda words: words.replace(" ", "-"))
def test_odd_uploads_that_run(arena, attack, words):
    make, (reason, status, text) = TAKEN[words]
    result = arena.client.run_json(attack(make()), cpu="100ms")
    assert (result["reason"], result["exit"]) == (reason, status), result
    assert text in result["stderr"] if text else result["stderr"] == ""


def test_truncated_everywhere(arena):
    """A module cut off in each of its sections."""
    whole = arena.guests.c("hostile_names")
    offsets = sections_of(whole)
    cuts = {offset + more for offset in offsets for more in (-2, -1, 1, 2, 3)}
    cuts |= {(one + other) // 2 for one, other in zip(offsets, offsets[1:])} | set(range(1, 64))
    for cut in sorted(cut for cut in cuts - set(offsets) if 0 < cut < len(whole)):
        response = arena.client.post("/create", whole[:cut], query={"name": "cut"})
        assert response.status == 422, (cut, response)
    assert arena.client.get("/apps/cut").status == 404


def test_random_bytes(arena):
    whole = bytearray(arena.guests.c_text("int main(void) { return 0; }"))
    for seed in range(20):
        dice = random.Random(seed)
        data = bytearray(whole)
        for _ in range(dice.choice([1, 4, 64])):
            data[dice.randrange(8, len(data))] = dice.randrange(256)
        for upload in (dice.randbytes(dice.choice([1, 100, 10000])),
                       HEADER + dice.randbytes(1000), bytes(data)):
            response = arena.client.post("/create", upload, query={"name": "dice"})
            assert 200 <= response.status < 500, (seed, response)
            if response.status < 300:  # the damage does not show: it runs as it likes
                arena.client.run("dice", cpu="50ms", wall="1s", memory="16MiB", output="64KiB")
                assert arena.client.delete("/apps/dice").status == 204


def test_compiler_takes_too_much_memory(arena):
    """Several at once, each stopped at its limit."""
    results = []

    def upload(number):
        body = b"\x02\x40" * (1500000 + number) + END * (1500000 + number)
        results.append(arena.client.post("/create", module(body), query={"name": f"big{number}"}))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if arena.server.is_sanitized():
        # A sanitizer reserves terabytes of addresses: its compiler runs without that limit.
        assert all(response.status in (201, 413) for response in results), results
        for number in range(4):
            arena.client.delete(f"/apps/big{number}")
        return
    assert [response.status for response in results] == [413] * 4, results
    assert all("compiling took more than 512 MiB" in response.text for response in results)


def test_compiler_takes_too_long(make_server):
    server = make_server("--compile-time", "1s")
    body = b"\x41\0" + b"\x41\1\x6a" * 1000000 + b"\x1a"
    response = server.client.post("/create", module(body), query={"name": "slow"})
    assert response.status == 413
    assert "compiling took" in response.text and "1 s" in response.text
    assert server.client.get("/apps/slow").status == 404
    assert server.stop() == 0


BAD_NAMES = ["..", ".", "/", "a/b", "../x", "A", "-x", "_x", "x" * 64, "x" * 100000, "a b", "%00",
             "\u00e4", "a.b", "a\n", "a\tb", "'", '"', "<script>", "a\u202eb", "self"]


@pytest.mark.parametrize("app", BAD_NAMES, ids=lambda app: repr(app[:8]))
def test_bad_names_of_apps(arena, app):
    response = arena.client.post("/create", PLAIN, query={"name": app})
    assert response.status in (400, 414, 431), response
    if response.status == 400:
        assert "can't be a name" in response.text and len(response.body) < 1000


def archive(*entries):
    """A tar of (name, type, content or target)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as out:
        for path, kind, content in entries:
            entry = tarfile.TarInfo(path)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
                out.addfile(entry, io.BytesIO(content))
            else:
                entry.linkname = content or ""
                out.addfile(entry)
    return data.getvalue()


FILE, LINK, HARD, DEVICE, FIFO, DIRECTORY = (
    tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
    tarfile.DIRTYPE)
ARCHIVES = {
    "a name with ..": (lambda: archive(("../evil", FILE, b"x")), 400, "'..'"),
    "a name with .. inside": (lambda: archive(("a/../../evil", FILE, b"x")), 400, "'..'"),
    "an absolute name": (lambda: archive(("/etc/evil", FILE, b"x")), 400, "absolute"),
    "a file through a link": (
        lambda: archive(("l", LINK, "../../../../tmp"), ("l/evil", FILE, b"x")), 400, "l/evil"),
    "a file through an absolute link": (
        lambda: archive(("l", LINK, "/etc"), ("l/evil", FILE, b"x")), 400, "l"),
    "a hard link to outside": (lambda: archive(("h", HARD, "../../etc/passwd")), 400, "'..'"),
    "an absolute hard link": (lambda: archive(("h", HARD, "/etc/passwd")), 400, "absolute"),
    "a hard link to nothing": (lambda: archive(("h", HARD, "nothing")), 400, "hard link"),
    "a device": (lambda: archive(("null", DEVICE, None)), 400, "device"),
    "a pipe": (lambda: archive(("pipe", FIFO, None)), 400, "pipe"),
    "a long name": (lambda: archive(("n" * 300, FILE, b"x")), 400, "nnn"),
    "a deep name": (lambda: archive(("d/" * 3000 + "d", FILE, b"x")), 400, "d/d/d"),
    "too many files": (lambda: archive(*((f"m{i}", FILE, b"") for i in range(300))), 507, "space"),
    "a file too large": (lambda: archive(("big", FILE, bytes(8 << 20))), 507, "space"),
    "a bomb": (lambda: gzip.compress(archive(("big", FILE, bytes(200 << 20)))), 507, "space"),
    "a cut archive": (lambda: archive(("cut", FILE, bytes(100000)))[:50000], 400, ""),
    "no archive": (lambda: b"ustar" * 1000, 400, "tar"),
}


@pytest.mark.parametrize("words", ARCHIVES, ids=lambda words: words.replace(" ", "-"))
def test_archives(arena, attack, words):
    make, status, text = ARCHIVES[words]
    app = attack(PLAIN, disk="4MiB", files="100")
    response = arena.client.put(f"/apps/{app}/files/?unpack", make())
    assert response.status == status, response
    assert text in response.text and len(response.body) < 8192
    assert arena.client.get(f"/apps/{app}/files/evil").status == 404


# --- many at once --------------------------------------------------------------------------------

def test_all_at_once(arena, attack):
    """Sixty hostile runs together, each ends by its own limit."""
    app = attack(arena.guests.c("hostile_resources"), disk="4MiB", files="1000", tmp="1MiB")
    kinds = [("spin", {"cpu": "100ms"}, "cpu"), ("call", {"cpu": "100ms"}, "cpu"),
             ("flood-both", {"output": "1MiB"}, "output"),
             ("sleep-relative", {"wall": "50ms"}, "wall"),
             ("recurse", {}, "trap"), ("touch", {"memory": "32MiB"}, "exit")]
    reasons = []

    def run(verb, limits, reason):
        response = arena.client.run(app, verb, **limits)
        reasons.append((verb, response.trailers.get("run-reason"), reason))

    threads = [threading.Thread(target=run, args=kind) for kind in kinds * 10]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reasons) == 60
    assert all(found == wanted for _, found, wanted in reasons), reasons


def test_queue_of_an_app_is_bounded(arena, attack):
    app = attack(arena.guests.c("hostile_resources"), max_runs="2", queue="3")
    started = [arena.client.run(app, "sleep-relative", detach="") for _ in range(5)]
    assert [response.status for response in started] == [202] * 5
    refused = [arena.client.run(app, "spin") for _ in range(10)]
    assert [response.status for response in refused] == [429] * 10, refused[0]
    assert all(int(response.headers["retry-after"]) > 0 for response in refused)
    for response in started:
        assert arena.client.delete(f"/proc/{response.text.strip()}").status == 204


def test_deleting_an_app_under_attack(arena, eventually):
    arena.client.create("doomed", arena.guests.c("hostile_resources"))
    runs = [arena.client.run("doomed", verb, detach="").text.strip()
            for verb in ("spin", "sleep-relative", "make-files tmp", "flood-log", "yield")
            for verb in verb.split()[:1]]
    assert arena.client.delete("/apps/doomed").status == 204
    for run in runs:
        arena.client.delete(f"/proc/{run}")
    eventually(lambda: not set(map(int, runs)) & set(arena.runs()))


# --- afterwards ----------------------------------------------------------------------------------

def test_nothing_is_left(arena, eventually):
    arena.canary.stop()
    assert not arena.canary.failures
    eventually(lambda: not arena.runs())
    assert set(arena.client.get("/apps/").text.split()) <= {"boundary/", "canary/"}
    # Ended runs are forgotten, and with the last of them goes what is left of removed apps.
    arena.client.delete("/apps/boundary")
    eventually(lambda: not arena.client.get("/proc/").text)

    def nothing_more_is_open():
        now = arena.open_files()
        return len(now) <= len(arena.descriptors) and not any("deleted" in path for path in now)

    eventually(nothing_more_is_open, seconds=90)
    temporary = arena.server.state / "tmp"
    assert not temporary.exists() or list(temporary.iterdir()) == []
    grown = arena.server.resident_bytes() - arena.resident_bytes
    print("resident memory grew by", grown)
    assert grown < 256 << 20
