"""Fixtures of the scenario tests: the real server on a port of its own, real guests, real curl.

A scenario never sleeps for synchronisation: it waits for the event (`eventually` polls where there
is no event to wait for), and never asserts a wall-clock time.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from support.client import Client
from support.guests import Guests

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--build", default="build", help="the build directory")
    parser.addoption("--wasi-testsuite", default=os.environ.get("WASI_TESTSUITE"),
                     help="a directory with WebAssembly/wasi-testsuite (branch prod/testsuite-base)")
    parser.addoption("--serve-option", action="append", default=[],
                     help="an option for every server, such as --runs=100; tests may override it")
    parser.addoption("--kills", type=int, default=100, help="cycles of the kill -9 test")
    parser.addoption("--scripts", type=int, default=1000,
                     help="Python programs of the test of sandboxes under load")


def pytest_configure(config):
    Server.common_options = config.getoption("--serve-option")


@pytest.fixture(scope="session")
def build(pytestconfig):
    path = pathlib.Path(pytestconfig.getoption("--build"))
    return path if path.is_absolute() else ROOT / path


@pytest.fixture(scope="session")
def guests(build):
    return Guests(ROOT, build)


class Server:
    """A running `0asm serve` with a client for it."""

    common_options = []

    def __init__(self, build, state, *options, environment=None, listen="127.0.0.1:0"):
        self.binary = build / "0asm"
        self.state = pathlib.Path(state)
        self.options = [*self.common_options, *(str(option) for option in options)]
        self.environment = {**os.environ, **(environment or {})}
        self.listen = listen
        self.process = None
        self.log = None

    def start(self):
        self.log = tempfile.NamedTemporaryFile(prefix="0asm-log-", mode="w+", errors="replace")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--listen", self.listen, "--state", self.state, *self.options],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=self.environment)
        first = self.process.stdout.readline()
        if not first.startswith("listening on http://"):
            self.process.wait(timeout=30)
            raise RuntimeError(f"the server did not start: {first!r}\n{self.read_log()}")
        self.url = first.split()[-1].rstrip("/")
        self.host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.port = int(port)
        self.client = Client(self.host, self.port)
        return self

    def read_log(self):
        with open(self.log.name, errors="replace") as text:
            return text.read()

    def kill(self):
        """As a power cut: SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout=60):
        """SIGTERM and the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=timeout)
        return status

    def is_sanitized(self):
        """Whether it was built with a sanitizer: that keeps freed memory and reserves addresses."""
        program = self.binary.read_bytes()
        return b"__asan_init" in program or b"__tsan_init" in program

    def descriptors(self):
        """How many it has open, without the logs of apps: one each, whenever it is written."""
        directory, count = f"/proc/{self.process.pid}/fd", 0
        for name in os.listdir(directory):
            try:
                count += not os.readlink(f"{directory}/{name}").startswith(f"{self.state}/logs/")
            except FileNotFoundError:
                pass  # closed meanwhile
        return count

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def make_server(build, tmp_path_factory):
    """Makes servers that end with the test: make_server(*options, state=DIR)."""
    servers = []

    def make(*options, state=None, environment=None, start=True, listen="127.0.0.1:0"):
        state = state or tmp_path_factory.mktemp("state") / "state"
        server = Server(build, state, *options, environment=environment, listen=listen)
        servers.append(server)
        return server.start() if start else server

    yield make
    for server in servers:
        if server.process and server.process.poll() is None:
            end(server)
    for server in servers:
        if server.log:
            log = server.read_log()
            assert "Sanitizer" not in log and "runtime error" not in log, log


def end(server):
    """Kills it; one with a sanitizer is asked first, because leaks are looked for at such an end."""
    if server.is_sanitized():
        try:
            server.stop()
            return
        except subprocess.TimeoutExpired:
            pass
    server.kill()


@pytest.fixture(scope="module")
def server(build, tmp_path_factory):
    """One server for a module; it must still be alive at its end and stop cleanly."""
    state = tmp_path_factory.mktemp("state") / "state"
    running = Server(build, state).start()
    yield running
    alive = running.process.poll() is None
    status = running.stop() if alive else running.process.returncode
    log = running.read_log()
    shutil.rmtree(state, ignore_errors=True)
    assert alive, f"the server died with {status}:\n{log}"
    assert status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture
def client(server):
    return server.client


@pytest.fixture
def eventually():
    def wait(condition, seconds=120):
        """Polls until the condition is true; fails after a bound that is generous to a machine with
        much else to do, and to sanitizers."""
        end = time.monotonic() + seconds
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.01)

    return wait
