"""Servers, load and requests for bench.py. Everything that is started here is ended at exit."""

import atexit
import http.client
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SERVER_CORE, LOAD_CORE = "0", "1"

_scratch = None
_processes = []


def scratch():
    """A directory of this run; removed at exit."""
    global _scratch
    if _scratch is None:
        _scratch = Path(tempfile.mkdtemp(prefix="0asm-bench-"))
    return _scratch


def _clean_up():
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    if _scratch:
        shutil.rmtree(_scratch, ignore_errors=True)


atexit.register(_clean_up)
signal.signal(signal.SIGTERM, lambda *_: exit(1))


def spawn(arguments, core=None, **options):
    if core is not None:
        arguments = ["taskset", "-c", core, *arguments]
    process = subprocess.Popen([str(a) for a in arguments], **options)
    _processes.append(process)
    return process


def stop(process, patience=15):
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, process, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nothing listens on port {port}")
            time.sleep(0.01)


def guest(name):
    """bench/guests/NAME.c, built for WASI."""
    module = scratch() / f"{name}.wasm"
    if not module.exists():
        source = HERE / "guests" / f"{name}.c"
        subprocess.run(["clang", "--target=wasm32-wasi", "-O2", "-o", module, source], check=True)
    return module


def go_guest(name):
    """bench/guests/NAME.go, built for this machine and for WASI."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from support.guests import Guests
    built = []
    for suffix, target in ("", {}), (".wasm", {"GOOS": "wasip1", "GOARCH": "wasm"}):
        built.append(scratch() / f"{name}-go{suffix}")
        subprocess.run([Guests(HERE.parent, scratch()).go_command(), "build", "-o", built[-1],
                        HERE / "guests" / f"{name}.go"], check=True,
                       env={**os.environ, "GO111MODULE": "off", **target})
    return built


class Server:
    """`0asm serve` with a state directory of its own."""

    def __init__(self, build, *options, core=None, state=None):
        self.state = state or Path(tempfile.mkdtemp(dir=scratch()))
        begin = time.monotonic()
        self.process = spawn(
            [Path(build) / "0asm", "serve", "--listen", "127.0.0.1:0", "--state", self.state,
             "--grace", "0s", "--log-level", "error", *options],
            core, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.ready_seconds = time.monotonic() - begin
        match = re.match(r"listening on (http://127\.0\.0\.1:(\d+))$", line.strip())
        if not match:
            raise RuntimeError("the server does not start")
        self.url, self.port = match[1], int(match[2])
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        self.used = time.monotonic()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()
        stop(self.process)

    def request(self, method, path, body=None):
        if time.monotonic() - self.used > 2:
            self.connection.close()  # the server closes connections that are idle; a new one opens
        self.connection.request(method, path, body)
        answer = self.connection.getresponse()
        self.used = time.monotonic()
        text = answer.read().decode()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {text.strip()}")
        return text

    def create(self, name, *options):
        query = "&".join([f"name={name}", *options])
        return self.request("POST", f"/create?{query}", guest(name).read_bytes())

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024


    def reset_peak(self):
        """The peak of resident memory begins anew. Returns what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        return self.resident_bytes()

    def peak_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024


LARGE_BYTES = 1 << 30


def large_file():
    """Of LARGE_BYTES, without taking that much disk."""
    path = scratch() / "large"
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(LARGE_BYTES)
    return path


class Sink:
    """Takes LARGE_BYTES of a request's body as fast as it comes, and answers."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        os.sched_setaffinity(0, {int(LOAD_CORE)})
        piece = bytearray(1 << 20)
        while True:
            connection, _ = self.listener.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                left = LARGE_BYTES - len(head.partition(b"\r\n\r\n")[2])
                while left > 0:
                    left -= connection.recv_into(piece)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"
                                   b"Connection: close\r\n\r\ndone")


def nginx(core):
    """nginx with one worker that answers as constantly as it can. Returns the process and a URL."""
    directory, port = scratch() / "nginx", free_port()
    directory.mkdir(exist_ok=True)
    config = directory / "nginx.conf"
    config.write_text(f"""
worker_processes 1;
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port};
        location /large {{ alias {large_file()}; sendfile on; }}
        location / {{ default_type text/plain; return 200 "Hello, world!\\n"; }}
    }}
}}
""")
    process = spawn(["nginx", "-p", directory, "-c", config], core, stderr=subprocess.DEVNULL)
    wait_for_port(port, process)
    return process, f"http://127.0.0.1:{port}/"


def cpu_seconds(process):
    """Processor time of all threads so far."""
    total = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _post_script():
    script = scratch() / "post.lua"
    script.write_text('wrk.method = "POST"\n')
    return script


class Burners:
    """Processes that do nothing but compute, of a lower priority as a server's threads that do."""

    def __init__(self, count, nice=5):
        self.processes = [spawn(["nice", "-n", nice, "sh", "-c", "while :; do :; done"])
                          for _ in range(count)]

    def end(self):
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.wait()


class Load:
    """wrk at work; `result` waits for it."""

    def __init__(self, url, seconds, connections=64, post=True, core=None):
        arguments = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency"]
        if post:
            arguments += ["-s", _post_script()]
        self.seconds = seconds
        self.process = spawn([*arguments, url], core, stdout=subprocess.PIPE, text=True)

    def result(self):
        """Requests a second, milliseconds of the 99th percentile, refused answers."""
        text, _ = self.process.communicate(timeout=self.seconds + 30)
        if self.process.returncode:
            raise RuntimeError(f"wrk ended with {self.process.returncode}")
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
        number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s|m)\b", text).groups()
        p99 = float(number) * {"us": 1e-3, "ms": 1, "s": 1e3, "m": 6e4}[unit]
        failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        return rate, p99, int(failed[1]) if failed else 0


def load(url, seconds, connections=64, post=False, core=LOAD_CORE):
    """The figures of one such load."""
    return Load(url, seconds, connections, post, core).result()


def c_program(name):
    """bench/NAME.c, built for this machine."""
    binary = scratch() / name
    if not binary.exists():
        subprocess.run(["cc", "-O2", "-D_GNU_SOURCE", "-o", binary, HERE / f"{name}.c"], check=True)
    return binary


def steady(port, path, seconds, rate=500, core=None):
    """POSTs at a steady rate, see steady.c. The 50th and 99th percentile in milliseconds."""
    command = [c_program("steady"), str(port), path, str(seconds), str(rate)]
    if core is not None:
        command = ["taskset", "-c", core, *command]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    return [float(number) / 1e3 for number in answer.stdout.split()]


def answers(arguments, seconds=20):
    """Whether a command can be run and succeeds."""
    try:
        return subprocess.run(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                              timeout=seconds).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def command_seconds(arguments):
    """Runs a command: seconds that passed, and of processor time."""
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (time.monotonic() - begin,
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def python():
    """CPython for WASI, as the tests have it."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from support.guests import Guests
    module = scratch() / "python.wasm"
    if not module.exists():
        module.write_bytes(Guests(HERE.parent, scratch()).python())
    return module


class Crowd:
    """Many slow clients of a server at once: see crowd.c."""

    def __init__(self, port, idle, readers, read_path, uploads, upload_path, core=None):
        self.process = spawn([c_program("crowd"), port, idle, readers, read_path, uploads, upload_path],
                             core, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("ready "):
            raise RuntimeError("so many clients can't be opened here")

    def end(self):
        """How many the server has closed, and the bytes that were read and sent."""
        self.process.stdin.close()
        closed, moved = self.process.stdout.readlines()
        self.process.wait()
        return int(closed.split()[1]), *(int(number) for number in moved.split()[1:])


def tcp_bytes():
    """What the kernel has taken for the buffers of all TCP connections of the machine."""
    text = Path("/proc/net/sockstat").read_text()
    return int(re.search(r"^TCP:.* mem (\d+)", text, re.M)[1]) * resource.getpagesize()


def allow_descriptors(count):
    """For this process and all that it starts. Returns how many there may be, at most `count`."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for number in (max(hard, count), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))
            return min(number, count)
        except (ValueError, OSError):
            pass
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], count)


def wasmtime():
    """The command to compare with, or None: from bench/wasmtime.sh, or else from the path."""
    text = subprocess.run([HERE / "wasmtime.sh", "--path"], check=True, capture_output=True,
                          text=True).stdout
    return text.strip() if os.access(text.strip(), os.X_OK) else shutil.which("wasmtime")
