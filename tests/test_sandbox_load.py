"""A thousand different Python scripts, many of them hostile, by 16 clients at once, each in a fresh
sandbox: every result is right, nobody else's program notices, and nothing is left behind."""

import os
import queue
import re
import threading

import pytest

from conftest import Server
from support import scripts
from support.client import Client
from support.form import form_of
from support.modules import wat_print
from support.state import names_in

SEED = "0asm"
CLIENTS = 16


@pytest.fixture(scope="module")
def server(build, guests, tmp_path_factory):
    # What the address sanitizer keeps of freed memory is not the server's.
    options = [os.environ.get("ASAN_OPTIONS"), "quarantine_size_mb=8"]
    server = Server(build, tmp_path_factory.mktemp("load") / "state", "--keep", "1ms",
                    environment={"ASAN_OPTIONS": ":".join(filter(None, options))}).start()
    server.client.create("python", guests.python(), tmp="2MiB")
    server.client.create("hello", wat_print("hello"))
    yield server
    status, log = server.stop(), server.read_log()
    assert status == 0, f"the server ended with {status}:\n{log}"
    assert "Sanitizer" not in log and "runtime error" not in log, log


def send(client, script):
    """One request by the script's door: the program in a parameter, as input, or as a file."""
    options = [("name", "python"), ("root", "fresh"), *script.options.items()]
    headers = {"Accept": "application/json"}
    if script.door == "-c":
        program, body = ["-c", script.code], script.stdin
    elif script.door == "stdin":
        program, body = ["-", *script.arguments], script.code.encode()
    else:
        program = ["/main.py"]
    options += [("arg", argument) for argument in dict.fromkeys(program)]
    if script.door != "stdin":
        options += [("arg", argument) for argument in script.arguments]
    if script.door == "form":
        body, fields = form_of(*options, ("/main.py", script.code), ("stdin", script.stdin))
        return client.post("/run", body, headers={**headers, **fields})
    return client.post("/run", body, headers=headers, query=options)


def run_all(server, made):
    """Runs them by all clients at once. Returns what was wrong, and the ids of the runs."""
    waiting, wrong, ids = queue.SimpleQueue(), [], []
    for number, script in enumerate(made):
        waiting.put((number, script))

    def work():
        client = Client(server.host, server.port, timeout=600)
        while not wrong:
            try:
                number, script = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                response = send(client, script)
                result = response.json() if response.status == 200 else None
                complaint = script.wrong(result) if result else f"refused with {response.status}"
                if complaint:
                    wrong.append((number, script.kind, script.door, complaint, response.text[-2000:],
                                  script.code))
                    return
                ids.append(result["id"])
                if number % 10 == 0 and client.run("hello").text != "hello":
                    wrong.append((number, "somebody else's program was answered wrongly"))
            except Exception as error:  # whatever it is, it must not happen
                wrong.append((number, script.kind, script.door, error))

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong, ids


class Left:
    """What there is of a server when no run is left."""

    def __init__(self, server, eventually):
        eventually(lambda: server.client.get("/proc").text == "", seconds=120)
        gauges = dict(re.findall(r"^zasm_runs_(running|queued|kept) (\d+)$",
                                 server.client.get("/metrics").text, re.M))
        assert gauges == {"running": "0", "queued": "0", "kept": "0"}
        state = server.state
        assert names_in(state / "tmp") == []
        self.files = sorted(str(path.relative_to(state)) for path in state.rglob("*")
                            if "logs" not in path.parts)
        self.volume_bytes = {path.name: path.stat().st_size
                             for path in (state / "volumes").glob("*")}
        self.resident_bytes = server.resident_bytes()
        self.server = server

    def open_files(self):
        """What the server has open but for connections, which come and go."""
        directory = f"/proc/{self.server.process.pid}/fd"
        found = []
        for number in os.listdir(directory):
            try:
                target = os.readlink(f"{directory}/{number}")
            except FileNotFoundError:
                continue  # closed meanwhile
            if not target.startswith("socket:"):
                found.append(target)
        return sorted(found)


def test_the_scripts_differ():
    made = scripts.make(SEED, 1000)
    assert len({(script.code, *script.arguments, script.stdin) for script in made}) == 1000
    assert {script.kind.replace(" ", "_") for script in made} == {
        kind.__name__ for kind in scripts.KINDS}
    assert {script.door for script in made} == {"-c", "form", "stdin"}


def test_a_thousand_scripts(server, eventually, pytestconfig):
    # The first of all kinds: slots of the pool, caches, the logs' files.
    wrong, _ = run_all(server, scripts.make("warm", 4 * CLIENTS))
    assert not wrong, wrong[0]
    before = Left(server, eventually)
    opened = before.open_files()

    made = scripts.make(SEED, pytestconfig.getoption("--scripts"))
    wrong, ids = run_all(server, made)
    assert not wrong, wrong[0]
    assert len(set(ids)) == len(made)

    after = Left(server, eventually)
    eventually(lambda: after.open_files() == opened)
    assert after.files == before.files
    assert after.volume_bytes == before.volume_bytes
    grown = after.resident_bytes - before.resident_bytes
    print(f"resident memory grew by {grown >> 10} KiB to {after.resident_bytes >> 20} MiB")
    # What was freed goes back to the system when the server is idle.
    most = before.resident_bytes + (256 << 20 if server.is_sanitized() else 24 << 20)
    eventually(lambda: server.resident_bytes() < most, seconds=60)
