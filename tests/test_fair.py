"""One app floods: another one's runs are answered, and get their part of the processor."""

import os
from pathlib import Path

import pytest

from conftest import Server
from support.modules import wat_print

SPIN = b'(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))'
MANY = 20


@pytest.fixture(scope="module")
def server(build, tmp_path_factory):
    server = Server(build, tmp_path_factory.mktemp("fair") / "state",
                    "--threads", 1, "--max-runs", MANY).start()
    yield server
    assert server.stop() == 0, server.read_log()


def status(client, run):
    lines = client.get(f"/proc/{run}/status").text.splitlines()
    return dict(line.split(": ", 1) for line in lines)


@pytest.fixture
def flood(client):
    """As many runs that compute as the app may have, and some that wait in its queue."""
    client.create("flood", SPIN)
    runs = [client.run("flood", detach="", cpu="20s").headers["run-id"] for _ in range(MANY + 5)]
    yield runs
    for run in runs:
        client.delete(f"/proc/{run}")
    for run in runs:
        assert client.get(f"/proc/{run}/wait").text.split()[0] in ("killed", "failed", "cpu")


def test_an_app_gets_its_part(client, flood, eventually):
    """All may compute for the same time. If each run had the same part, they would be through
    together; but this one has what all the others have together."""
    client.create("other", SPIN)
    eventually(lambda: all(int(status(client, run)["cpu_us"]) > 0 for run in flood[:MANY]))
    other = client.run("other", detach="", cpu="1s").headers["run-id"]
    assert client.get(f"/proc/{other}/wait").text == "cpu 137\n"
    for run in flood[:MANY]:
        now = status(client, run)
        assert now["state"] == "running" and int(now["cpu_us"]) < 1_000_000, now


def test_newcomers_of_another_app_are_answered(client, flood):
    client.create("hello", wat_print("hello"))
    for _ in range(20):
        assert client.run("hello").text == "hello"
    assert all(status(client, run)["state"] == "queued" for run in flood[MANY:])


def thread_times(server):
    """Seconds of processor time that the loop of connections had, which is the process's first
    thread, and of the threads of lower priority together."""
    pid, lower = server.process.pid, 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if int(task.name) == pid:
            first, priority = seconds, int(fields[16])
            assert priority == os.getpriority(os.PRIO_PROCESS, 0)
        elif int(fields[16]) > os.getpriority(os.PRIO_PROCESS, 0):
            lower += seconds
    return first, lower


def test_what_computes_gives_way(server, client, flood, eventually):
    eventually(lambda: all(int(status(client, run)["cpu_us"]) > 0 for run in flood[:MANY]))
    first_before, lower_before = thread_times(server)
    eventually(lambda: thread_times(server)[1] > lower_before + 0.5, seconds=120)
    assert thread_times(server)[0] < first_before + 0.25


def test_usage_is_live(client, flood, eventually):
    """Of a run that computes and makes no host call."""
    first = int(status(client, flood[0])["cpu_us"])
    eventually(lambda: int(status(client, flood[0])["cpu_us"]) > first)
    usage = client.get(f"/proc/{flood[0]}/usage").text
    assert "\nmemory_bytes: 65536\n" in usage and "\npeak_bytes: 65536\n" in usage
