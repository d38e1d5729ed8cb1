#!/usr/bin/env python3
"""Measures the server against nginx and wasmtime, side by side in one run: `make bench`.

A line a figure: what it is, ours, theirs, the ratio, the aim. Compare the ratios: the figures
themselves are those of this machine at this moment. docs/performance.md says how each is measured.

    bench/bench.py --build DIR [--rounds N] [FIGURE ...]
"""

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import harness
from harness import SERVER_CORE, Server

ARGUMENTS = None


def show(what, ours, theirs="", ratio="", aim="", is_met=None):
    verdict = "" if is_met is None else "  ok" if is_met else "  MISSED"
    print(f"{what:<42} {ours:>16} {theirs:>26} {ratio:>7}  {aim}{verdict}", flush=True)


def ratio_of(pairs):
    """The median of the rounds' own ratios, and how far they lie apart."""
    ratios = sorted(ours / theirs for ours, theirs in pairs)
    return statistics.median(ratios), ratios[0], ratios[-1]


def medians(pairs):
    return (statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs))


def no_wasmtime(what):
    show(what, "", "wasmtime not installed", "", "run bench/wasmtime.sh once")


def in_turn(seconds, ours, theirs):
    """Rounds of load, in turn; a warm-up goes first. Each is a process, a URL and whether it is
    POSTed to. Returns pairs of requests a second, and of processor microseconds a request."""
    for _, url, post in (ours, theirs):
        harness.load(url, 1, post=post)
    rates, costs = [], []
    for _ in range(ARGUMENTS.rounds):
        rate_pair, cost_pair = [], []
        for process, url, post in (ours, theirs):
            before = harness.cpu_seconds(process)
            rate, _, failed = harness.load(url, seconds, post=post)
            if failed:
                raise RuntimeError(f"{failed} answers of {url} were errors")
            rate_pair.append(rate)
            cost_pair.append((harness.cpu_seconds(process) - before) / (rate * seconds) * 1e6)
        rates.append(rate_pair)
        costs.append(cost_pair)
    return rates, costs


def show_rates(what, measured, name, aim, least):
    rates, costs = measured
    ours, theirs = medians(rates)
    ratio, low, high = ratio_of(rates)
    show(what, f"{ours:,.0f}/s", f"{name} {theirs:,.0f}/s", f"{ratio:.2f}",
         f"({low:.2f} to {high:.2f}) {aim}", None if least is None else ratio >= least)
    # Where something else uses the machine, wrk may be what is slow; this is not moved by that.
    ours, theirs = medians(costs)
    ratio, low, high = ratio_of([(b, a) for a, b in costs])
    show("  its processor time", f"{ours:.1f} us", f"{name} {theirs:.1f} us", f"{ratio:.2f}",
         f"({low:.2f} to {high:.2f})")


def hello():
    """POST /run of a C hello, one core, against nginx `return 200` on the same core."""
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("hello")
        run = (server.process, f"{server.url}/run?name=hello", True)
        process, url = harness.nginx(SERVER_CORE)
        show_rates("run of a C hello, one core", in_turn(2, run, (process, url, False)), "nginx",
                   "at least 0.40, aim 0.55", 0.55)
        harness.stop(process)


def web():
    """GET of a page that the same program prints (serve=cgi), a fresh sandbox each."""
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("hello", "web=public")
        page = (server.process, f"{server.url}/web/hello/", False)
        process, url = harness.nginx(SERVER_CORE)
        show_rates("web page of a C hello, one core", in_turn(2, page, (process, url, False)),
                   "nginx", "at least 0.50, aim 0.65", 0.5)
        harness.stop(process)


def serve():
    """A run, and a page of the same program, against `wasmtime serve` with a component that answers
    the same: with its pooling allocator, and without."""
    command = harness.wasmtime()
    if not command:
        no_wasmtime("a C hello, one core")
        return
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("hello", "web=public")
        run = ("run of a C hello, one core", f"{server.url}/run?name=hello", True)
        page = ("web page of a C hello, one core", f"{server.url}/web/hello/", False)
        for (what, url, post), pooling, aim in (run, "y", 1), (page, "y", 2), (page, "n", 2):
            port = harness.free_port()
            process = harness.spawn(
                [command, "serve", "-O", f"pooling-allocator={pooling}", "--addr",
                 f"127.0.0.1:{port}", harness.HERE / "guests" / "serve.wat"],
                SERVER_CORE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            harness.wait_for_port(port, process)
            measured = in_turn(2, (server.process, url, post),
                               (process, f"http://127.0.0.1:{port}/", False))
            name = "wasmtime serve" if pooling == "y" else "wasmtime unpooled"
            show_rates(what, measured, name, f"aim {aim}.00", aim)
            harness.stop(process)


def kept():
    """A page of a C program that is kept and takes requests from /net/serve, against the same page
    by CGI: a fresh sandbox for each."""
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("hello", "web=public")
        server.create("kept", "web=public", "serve=listen")
        pages = [(server.process, f"{server.url}/web/{name}/", False) for name in ("kept", "hello")]
        show_rates("page by /net/serve in C, one core", in_turn(2, *pages), "serve=cgi", "", None)


def listen():
    """A page of Go's net/http that is kept, against the same program built for this machine."""
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        native, module = harness.go_guest("listen")
        server.request("POST", "/create?name=listen&web=public&serve=listen", module.read_bytes())
        port = harness.free_port()
        process = harness.spawn([native], SERVER_CORE, stderr=subprocess.DEVNULL,
                                env={**os.environ, "PORT": str(port), "GOMAXPROCS": "1"})
        harness.wait_for_port(port, process)
        measured = in_turn(2, (server.process, f"{server.url}/web/listen/", False),
                           (process, f"http://127.0.0.1:{port}/", False))
        show_rates("page by Go's net/http, one core", measured, "natively", "", None)
        harness.stop(process)


def fresh():
    """The same with root=fresh against root=keep: a tree of its own against the app's."""
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("hello")
        runs = [(server.process, f"{server.url}/run?name=hello&root={root}", True)
                for root in ("fresh", "keep")]
        show_rates("run of a C hello, root=fresh", in_turn(2, *runs), "root=keep", "aim 0.90", 0.9)


def waiting():
    """Resident memory of 10,000 guests that wait in fd_read at the same time."""
    count = 10000
    with Server(ARGUMENTS.build, "--runs", str(count), "--max-runs", str(count)) as server:
        server.create("wait")
        path = "/run?name=wait&detach&stdin=open"
        server.request("POST", path)
        before, start = server.resident_bytes(), time.monotonic()
        for _ in range(count - 1):
            server.request("POST", path)
        took = time.monotonic() - start
        # A detached run starts after its answer: the last of them may not have come to its read.
        after = 0
        while after != server.resident_bytes():
            after = server.resident_bytes()
            time.sleep(0.3)
        running = re.search(r"^zasm_runs_running\S* (\d+)", server.request("GET", "/metrics"), re.M)
        each = (after - before) / (count - 1) / 1024
        show("memory of a C guest that waits", f"{each:.1f} KiB", "", "",
             f"{running[1] if running else count} at once, {took / count * 1e6:.0f} us to start; "
             "aim 40 KiB", each <= 40)


def files():
    """Small file calls, and 200 MB in one file, against `wasmtime run --dir`."""
    command = harness.wasmtime()
    directory = harness.scratch() / "files"
    directory.mkdir(exist_ok=True)
    module = harness.guest("files")
    if command:
        compiled = harness.scratch() / "files.cwasm"
        subprocess.run([command, "compile", "-o", compiled, module], check=True)
    with Server(ARGUMENTS.build, core=None) as server:
        server.create("files")

        def ours(mode, number):
            text = server.request("POST", f"/run?name=files&arg={mode}&arg={number}")
            return [int(n) for n in text.split()]

        def theirs(mode, number):
            text = subprocess.run(
                [command, "run", "--allow-precompiled", f"--dir={directory}::/", compiled, mode,
                 str(number)], check=True, capture_output=True, text=True, timeout=60).stdout
            return [int(n) for n in text.split()]

        def measure(mode, number, rounds):
            pairs = []
            for _ in range(rounds):
                mine = ours(mode, number)
                pairs.append((mine, theirs(mode, number) if command else None))
            return pairs

        small = [(o[0], t[0] if t else 0) for o, t in measure("small", 2000, ARGUMENTS.rounds)]
        large = measure("large", 200, max(ARGUMENTS.rounds - 2, 1))
        show_times("8 small file calls", small, bool(command), 1e3, "us", "aim 1.00")
        for i, what in enumerate(["200 MB written", "200 MB read"]):
            pairs = [(o[i], t[i] if t else 0) for o, t in large]
            show_times(what, pairs, bool(command), 1e6, "ms", "")


def show_times(what, pairs, has_theirs, divisor, unit, aim):
    ours, theirs = medians(pairs)
    if not has_theirs:
        show(what, f"{ours / divisor:.1f} {unit}", "wasmtime not installed", "",
             "run bench/wasmtime.sh once")
        return
    # A time: the ratio says how many times as fast as theirs ours is.
    ratio, low, high = ratio_of([(t, o) for o, t in pairs])
    show(what, f"{ours / divisor:.1f} {unit}", f"wasmtime run {theirs / divisor:.1f} {unit}",
         f"{ratio:.2f}", f"({low:.2f} to {high:.2f}) {aim}", ratio >= 1 if aim else None)


def host_calls():
    """What a host call costs, and a run in the engine alone."""
    subprocess.run(["cmake", "--build", ARGUMENTS.build, "--target", "engine_bench"], check=True,
                   stdout=subprocess.DEVNULL)
    text = subprocess.run(
        ["taskset", "-c", SERVER_CORE, Path(ARGUMENTS.build) / "engine_bench",
         harness.guest("hello"), "1024"], check=True, capture_output=True, text=True,
        timeout=60).stdout
    for row, what in (("an immediate call", "host call that never waits"),
                      ("a call that may wait", "host call that may wait"),
                      ("the module", "run of a C hello in the engine alone")):
        match = re.search(rf"^{row}\s+([\d.]+) (\w+)", text, re.M)
        show(what, f"{match[1]} {match[2]}")


def call():
    """A call of one C app by another: question, fresh run, answer to its end."""
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("call")
        times = []
        for _ in range(1 + ARGUMENTS.rounds):
            times.append(float(server.request("POST", "/run?name=call&arg=call&arg=5000")) / 1e3)
        times = times[1:]
        middle = statistics.median(times)
        show("call between two C apps", f"{middle:.1f} us", "", "",
             f"({min(times):.1f} to {max(times):.1f}) aim 40 us", middle <= 40)


def curl(*arguments, core=SERVER_CORE):
    """The seconds that curl takes on a core, and its processor time."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(["taskset", "-c", core, "curl", "-s", "-o", "/dev/null",
                    *map(str, arguments)], check=True, timeout=120)
    seconds, after = time.monotonic() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def network():
    """/net/http by a C program against curl, to the same nginx on the other core: a small page,
    and 1 GB in each direction (what is sent goes to a sink)."""
    with Server(ARGUMENTS.build, "--threads", "1", "--allow-private", "127.0.0.1",
                core=SERVER_CORE) as server:
        server.create("fetch")
        process, url = harness.nginx(harness.LOAD_CORE)
        place = url.removeprefix("http://").rstrip("/")
        sink = f"http://127.0.0.1:{harness.Sink().port}/"

        def ours(*arguments):
            query = "".join(f"&arg={argument}" for argument in arguments)
            before = harness.cpu_seconds(server.process)
            taken = float(server.request("POST", f"/run?name=fetch{query}"))
            count = arguments[2] if arguments[0] == "get" else 1
            return taken / 1e9 * count, harness.cpu_seconds(server.process) - before

        def compare(what, divisor, unit, pairs):
            for i, line in enumerate([what, "  its processor time"]):
                times = [(a[i], b[i]) for a, b in pairs]
                own, other = medians(times)
                ratio, low, high = ratio_of([(b, a) for a, b in times])
                show(line, f"{own / divisor:,.1f} {unit}", f"curl {other / divisor:,.1f} {unit}",
                     f"{ratio:.2f}", f"({low:.2f} to {high:.2f})")

        small, down, up = [], [], []
        for _ in range(ARGUMENTS.rounds):
            small.append((ours("get", f"/net/http/{place}", 2000), curl(f"{url}?[1-2000]")))
        for _ in range(max(ARGUMENTS.rounds - 2, 1)):
            down.append((ours("down", f"/net/http/{place}/large"), curl(f"{url}large")))
            up.append((ours("up", sink, harness.LARGE_BYTES),
                       curl("-T", harness.large_file(), "-H", "Expect:", sink)))
        harness.stop(process)
        compare("GET of a small page by /net/http", 2000 * 1e-6, "us", small)
        compare("1 GiB read by /net/http", 1e-3, "ms", down)
        compare("1 GiB sent by /net/request", 1e-3, "ms", up)


def bodies():
    """1 GiB as the body of a request that a C program counts, and as the answer that it writes, by
    /run and by the web door, against nginx that drops and sends as much; the server's peak of
    memory meanwhile."""
    size = harness.LARGE_BYTES
    with Server(ARGUMENTS.build, "--threads", "1", core=SERVER_CORE) as server:
        server.create("body", "web=public", f"output={2 * size}")
        process, url = harness.nginx(SERVER_CORE)
        upload = ["-X", "POST", "-T", harness.large_file(), "-H", "Expect:"]
        ways = {
            "1 GiB as input of a run": ([*upload, f"{server.url}/run?name=body"],
                                        [*upload, f"{url}sink"]),
            "1 GiB as body to a web page": ([*upload, f"{server.url}/web/body/sink"],
                                            [*upload, f"{url}sink"]),
            "1 GiB as output of a run": (["-X", "POST", f"{server.url}/run?name=body&arg={size}"],
                                         [f"{url}large"]),
            "1 GiB from a web page": ([f"{server.url}/web/body/?{size}"], [f"{url}large"]),
        }

        def measure(whose, arguments):
            before = harness.cpu_seconds(whose)
            seconds, _ = curl("-f", *arguments, core=harness.LOAD_CORE)
            return seconds, harness.cpu_seconds(whose) - before

        for what, (ours, theirs) in ways.items():
            server.request("POST", "/run?name=body")
            before = server.reset_peak()
            pairs = [(measure(server.process, ours), measure(process, theirs))
                     for _ in range(max(ARGUMENTS.rounds - 2, 1))]
            grown = server.peak_bytes() - before
            for i, kind in enumerate([what, "  its processor time"]):
                times = [(a[i], b[i]) for a, b in pairs]
                own, other = medians(times)
                ratio, low, high = ratio_of([(b, a) for a, b in times])
                unit = [f"{size / own / 1e6:,.0f} MB/s", f"{own * 1e3:,.0f} ms"][i]
                unit_of_theirs = [f"{size / other / 1e6:,.0f} MB/s", f"{other * 1e3:,.0f} ms"][i]
                show(kind, unit, f"nginx {unit_of_theirs}", f"{ratio:.2f}",
                     f"({low:.2f} to {high:.2f})"
                     + ("" if i else f" {max(grown, 0) >> 20} MiB more memory"))
        harness.stop(process)


def ready():
    """From the start of the process to the line `listening` and to the first answer."""
    count = 1000
    with Server(ARGUMENTS.build) as server:
        state = server.state
        module = harness.guest("hello").read_bytes()
        for i in range(count):
            server.request("POST", f"/create?name=app{i}", module)
    listening, first = [], []
    for _ in range(ARGUMENTS.rounds):
        begin = time.monotonic()
        with Server(ARGUMENTS.build, state=state) as server:
            server.request("POST", "/run?name=app500")
            first.append(time.monotonic() - begin)
            listening.append(server.ready_seconds)
    show(f"ready with {count:,} apps", f"{statistics.median(listening) * 1e3:.1f} ms", "", "",
         f"first run answered after {statistics.median(first) * 1e3:.1f} ms")


def fair():
    """The 99th percentile of hello while 8 guests compute for ever, and without them."""
    with Server(ARGUMENTS.build) as server:
        server.create("hello")
        server.create("spin", "max_runs=8")

        def percentiles():
            values = []
            for _ in range(ARGUMENTS.rounds):
                _, p99, failed = harness.load(f"{server.url}/run?name=hello", 2, 8, True, None)
                if failed:
                    raise RuntimeError(f"{failed} answers were errors")
                values.append(p99)
            return values

        alone = statistics.median(percentiles())
        for _ in range(8):
            server.request("POST", "/run?name=spin&detach&cpu=10m")
        beside = percentiles()
        p99 = statistics.median(beside)
        show("99th percentile beside 8 that compute", f"{p99:.1f} ms", f"alone {alone:.1f} ms", "",
             f"({min(beside):.1f} to {max(beside):.1f}) aim 25 ms", p99 <= 25)


def crowd():
    """Memory of 20,000 slow connections, and the 99th percentile of 500 hellos a second beside them.
    First with the server on a core of its own, as the other figures, with the client of the hellos,
    which needs next to nothing; then with all of them on all cores, where the processor that the
    crowd's clients need is felt, too. Fewer, in the same shares, where a process may not have so
    many descriptors."""
    _crowd_beside("a core of the server's", harness.SERVER_CORE, harness.LOAD_CORE, aim=2)
    _crowd_beside("all on the same cores", None, None, aim=None)


def _crowd_beside(where, core, crowd_core, aim):
    readers = uploads = min(5000, (harness.allow_descriptors(22000) - 1000) // 4)
    idle = 2 * readers
    count = idle + readers + uploads
    options = ["--connections", "40000", "--head-timeout", "10m"]
    with Server(ARGUMENTS.build, *options, core=core) as server:
        server.create("hello")
        server.request("POST", "/create?name=files", harness.guest("hello").read_bytes())
        server.request("PUT", "/apps/files/files/large", bytes(4 << 20))

        def percentiles():
            return [harness.steady(server.port, "/run?name=hello", 3, core=core)[1]
                    for _ in range(ARGUMENTS.rounds)]

        alone = percentiles()
        before = server.resident_bytes()
        crowd = harness.Crowd(server.port, idle, readers, "/apps/files/files/large", uploads,
                              "/apps/files/files/upload", core=crowd_core)
        used = harness.cpu_seconds(server.process), time.monotonic()
        time.sleep(10)  # an upload comes to the end of a block
        share = (harness.cpu_seconds(server.process) - used[0]) / (time.monotonic() - used[1])
        beside = percentiles()
        during, kernel = server.resident_bytes(), harness.tcp_bytes()
        closed, read, sent = crowd.end()
        if closed:
            raise RuntimeError(f"the server has closed {closed} connections")
        deadline = time.monotonic() + 60
        while len(list(Path(f"/proc/{server.process.pid}/fd").iterdir())) > 200:
            if time.monotonic() > deadline:
                raise RuntimeError("connections of clients that have gone stay open")
            time.sleep(0.1)
        after = server.resident_bytes()
        show(f"{count:,} slow connections, {where}: memory of each",
             f"{(during - before) / count / 1024:.1f} KiB", "", "",
             f"{before >> 20} MiB, {during >> 20} MiB, after them {after >> 20} MiB; "
             f"{kernel >> 20} MiB of the kernel for TCP; "
             f"{read >> 20} MiB read, {sent >> 20} MiB sent")
        show("  their share of a core", f"{share:.2f}", "", "")
        p99, quiet = statistics.median(beside), statistics.median(alone)
        show("  99th percentile of hello beside them", f"{p99:.2f} ms", f"alone {quiet:.2f} ms",
             f"{p99 / quiet:.2f}", f"({min(beside):.2f} to {max(beside):.2f}; alone "
             f"{min(alone):.2f} to {max(alone):.2f}){f' aim {aim:.2f}' if aim else ''}",
             p99 <= aim * quiet if aim else None)


def python():
    """Python `-c 'print(1)'`, one after the other: by /run, by `wasmtime run` of the same module
    compiled in advance, by the machine's own python3, and by docker where its engine answers."""
    print_one = ["-c", "print(1)"]
    module = harness.python()
    others = {}
    command = harness.wasmtime()
    if command:
        compiled = harness.scratch() / "python.cwasm"
        subprocess.run([command, "compile", "-o", compiled, module], check=True)
        others["wasmtime run"] = [command, "run", "--allow-precompiled", compiled, *print_one]
    others["python3"] = [shutil.which("python3", path="/usr/bin") or sys.executable, *print_one]
    docker = ["docker", "run", "--rm", "--network=none", "python:3.12-slim", "python3", *print_one]
    if harness.answers(["docker", "image", "inspect", "python:3.12-slim"]):
        others["docker run"] = docker
    with Server(ARGUMENTS.build, "--threads", "1") as server:
        server.request("POST", "/create?name=python", module.read_bytes())
        path = "/run?name=python&root=fresh&arg=-c&arg=print(1)"

        def ours():
            before = harness.cpu_seconds(server.process)
            begin = time.monotonic()
            if server.request("POST", path) != "1\n":
                raise RuntimeError("Python printed something else")
            return time.monotonic() - begin, harness.cpu_seconds(server.process) - before

        ours()
        rounds = {name: [] for name in others}
        for _ in range(ARGUMENTS.rounds * 4):
            for name, arguments in others.items():
                rounds[name].append((ours(), harness.command_seconds(arguments)))
    what = "Python that prints 1, by /run"
    aims = {"wasmtime run": ("half its time: aim 2.00", 2)}
    for name, pairs in rounds.items():
        aim, least = aims.get(name, ("", None))
        for i, kind in enumerate([what, "  its processor time"]):
            if name == "docker run" and i:
                continue  # another process's
            times = [(pair[0][i] * 1e3, pair[1][i] * 1e3) for pair in pairs]
            mine, their = medians(times)
            ratio, low, high = ratio_of([(b, a) for a, b in times])
            show(kind, f"{mine:.1f} ms", f"{name} {their:.1f} ms", f"{ratio:.2f}",
                 f"({low:.2f} to {high:.2f}) {aim}", ratio >= least if least else None)
    if not command:
        no_wasmtime(what)
    if "docker run" not in others:
        show(what, "", "docker run", "", "not measured: no engine with an image python:3.12-slim")


def sandbox():
    """Pythons a second by 16 clients on two cores, and what they do to a C hello beside them: the
    99th percentile of a client that asks for 500 a second. What 16 processes that only
    compute do to it, which the server knows nothing of, is the machine's part of that."""
    with Server(ARGUMENTS.build) as server:
        server.create("hello")
        server.request("POST", "/create?name=python", harness.python().read_bytes())
        python = f"{server.url}/run?name=python&root=fresh&arg=-c&arg=print(1)"

        def percentiles():
            return harness.steady(server.port, "/run?name=hello&root=fresh", 2)

        harness.load(python, 1, 16, True, None)
        percentiles()
        alone, beside, floor, rates = [], [], [], []
        for _ in range(ARGUMENTS.rounds):
            alone.append(percentiles())
            crowd = harness.Load(python, 4, 16)
            time.sleep(1)  # until all of them are under way
            beside.append(percentiles())
            rate, _, failed = crowd.result()
            if failed:
                raise RuntimeError(f"{failed} answers were errors")
            rates.append(rate)
            burners = harness.Burners(16)
            time.sleep(0.5)
            floor.append(percentiles())
            burners.end()
        show("Python that prints 1, 16 clients", f"{statistics.median(rates):.1f}/s", "", "",
             f"({min(rates):.1f} to {max(rates):.1f}) with a hello beside it")
        for i, share in enumerate(("median", "99th percentile")):
            own = [one[i] for one in alone]
            for what, others in (("them", beside), ("16 that burn", floor)):
                mine = [one[i] for one in others]
                ratio, low, high = ratio_of(list(zip(mine, own)))
                is_aim = share != "median" and others is beside
                show(f"{share} of hello beside {what}", f"{statistics.median(mine):.2f} ms",
                     f"alone {statistics.median(own):.2f} ms", f"{ratio:.2f}",
                     f"({low:.2f} to {high:.2f}){' aim 2.00' if is_aim else ''}",
                     ratio <= 2 if is_aim else None)


FIGURES = {"hello": hello, "web": web, "serve": serve, "kept": kept, "listen": listen,
           "fresh": fresh, "waiting": waiting, "files": files, "calls": host_calls, "ready": ready,
           "fair": fair, "crowd": crowd, "bodies": bodies, "call": call, "network": network,
           "python": python, "sandbox": sandbox}


def main():
    global ARGUMENTS
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--build", required=True, help="where 0asm was built")
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison (5)")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    ARGUMENTS = parser.parse_args()
    unknown = [name for name in ARGUMENTS.figures if name not in FIGURES]
    if unknown:
        parser.error(f"no figure named {unknown[0]}; there are {', '.join(FIGURES)}")
    failed = 0
    for name in ARGUMENTS.figures or FIGURES:
        try:
            FIGURES[name]()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"{name}: not measured: {error}", flush=True)
            failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
