"""What runs that start others can have of the server: how long, and how much of theirs is kept."""

import pytest

from support.modules import wat_print


@pytest.fixture
def start(make_server, guests):
    def start(*options):
        server = make_server(*options)
        server.client.create("caller", guests.c("caller"))
        server.client.create("hello", wat_print("hello"))
        return server
    return start


def is_kept(client, run):
    return client.get(f"/proc/{run}/status").status == 200


def has_ended(client, run):
    return "state: ended\n" in client.get(f"/proc/{run}/status").text


@pytest.mark.parametrize("root", ["keep", "fresh"])
def test_a_started_run_is_kept_no_longer_than_its_starter_may_be(start, eventually, root):
    """Longer than usual only if its starter is: so the client of that has said it."""
    client = start("--keep", "1ms").client
    brief = client.run("caller", "leave", "hello", "keep=1h", root=root).text.strip()
    eventually(lambda: not is_kept(client, brief))
    lasting = client.run("caller", "leave", "hello", "keep=1h", root=root, keep="1h").text.strip()
    eventually(lambda: has_ended(client, lasting))
    # What it starts without a word of it is kept as usual.
    usual = client.run("caller", "leave", "hello", root=root, keep="1h").text.strip()
    eventually(lambda: not is_kept(client, usual))
    assert is_kept(client, lasting)


def test_a_flood_of_started_runs(start, guests, eventually):
    """Two thousand in a row, each to be kept for another time: nothing of them is left but what
    may be, and what others have is as it was."""
    server = start("--keep", "1h", "--kept-runs", "100")
    client = server.client
    client.create("other", wat_print("other"))
    asked = client.run("hello").headers["run-id"]
    started = client.run("caller", "leave", "other").text.strip()
    eventually(lambda: has_ended(client, started))
    assert client.run("caller", "flood", "hello", "200", stderr="off").text == "200 of 200\n"
    before = server.descriptors(), server.resident_bytes()
    assert client.run("caller", "flood", "hello", "2000", stderr="off").text == "2000 of 2000\n"
    after = server.descriptors(), server.resident_bytes()
    assert after[0] <= before[0] + 5, (before, after)  # connections may come and go
    if not server.is_sanitized():
        assert after[1] < before[1] + (16 << 20), (before, after)
    kept = client.get("/proc").text.split()
    assert len(kept) <= 100
    assert is_kept(client, asked) and is_kept(client, started)


def test_what_it_took_to_fail_is_charged(start):
    """Also that of a run which never had a guest's turn."""
    client = start().client
    result = client.run_json("caller", "start", "hello", "", "stdin=open", "call=nothing")
    assert result["stdout"].startswith("wait: failed 126\n"), result
    status = client.get(f"/proc/{result['id']}/status").text
    below = int(status.split("cpu_us_of_started: ")[1].split()[0])
    assert below > 0, status
