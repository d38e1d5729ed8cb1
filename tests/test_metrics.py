"""/metrics: counters that add up, and histograms of the times of runs."""

import re

from support.modules import wat_print


def metrics(client):
    """Values by name with labels; the text must be in Prometheus' format."""
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    values = {}
    for line in response.text.splitlines():
        if not line.startswith("#"):
            name, value = re.fullmatch(r'([a-z_]+(?:\{[a-z]+="[^"]*"\})?) (\S+)', line).groups()
            assert name not in values
            values[name] = float(value)
    return values


def histogram(values, name):
    buckets = [(float(key.split('"')[1]), value) for key, value in values.items()
               if key.startswith(f"zasm_{name}_bucket")]
    ends = [end for end, _ in buckets]
    counts = [count for _, count in buckets]
    assert ends == sorted(ends) and ends[-1] == float("inf")
    assert counts == sorted(counts) and counts[-1] == values[f"zasm_{name}_count"]
    return counts[-1], values[f"zasm_{name}_sum"], buckets


def test_times_of_runs(make_server, eventually):
    client = make_server("--max-runs", 1).client
    client.create("hello", wat_print("hello"))
    client.create("spin", b'(module (memory (export "memory") 1)'
                          b' (func (export "_start") (loop $again (br $again))))')
    for name in ("run_queue_seconds", "run_start_seconds", "run_seconds"):
        assert histogram(metrics(client), name)[:2] == (0, 0)
    for _ in range(5):
        assert client.run("hello").text == "hello"
    first = client.run("spin", detach="").headers["run-id"]
    second = client.run("spin", detach="", cpu="100ms").headers["run-id"]
    eventually(lambda: "state: running\n" in client.get(f"/proc/{first}/status").text)
    assert "state: queued\n" in client.get(f"/proc/{second}/status").text
    client.delete(f"/proc/{first}")
    assert client.get(f"/proc/{first}/wait").text == "killed 137\n"
    assert client.get(f"/proc/{second}/wait").text == "cpu 137\n"
    # The second spin waited for the first one. Each run so far has begun after its admission.
    values = metrics(client)
    queued_sum, started_sum = (histogram(values, f"run_{name}_seconds")[1]
                               for name in ("queue", "start"))
    assert 0 < queued_sum <= started_sum
    # One that never begins: it was admitted, and that is all.
    client.run("hello", memory="1KiB", headers={"Accept": "application/json"})
    values = metrics(client)
    queued = histogram(values, "run_queue_seconds")[0]
    started = histogram(values, "run_start_seconds")[0]
    ran, ran_sum, buckets = histogram(values, "run_seconds")
    assert (queued, started, ran) == (8, 7, 7)
    assert ran_sum >= 0.1  # the second spin computed for that long
    assert dict(buckets)[0.1] <= 6
    assert values['zasm_runs_ended_total{reason="cpu"}'] == 1
    assert values['zasm_runs_ended_total{reason="killed"}'] == 1
    assert values["zasm_runs_started_total"] == 7
    assert values['zasm_runs_refused_total{reason="limit"}'] == 1
    assert values["zasm_runs_running"] == 0


def test_refused_runs_are_not_started_ones(make_server, eventually):
    """Each is counted once, by why it was refused."""
    client = make_server("--max-runs", 1, "--queue", 0).client
    client.create("hello", wat_print("hello"))
    client.create("spin", b'(module (memory (export "memory") 1)'
                          b' (func (export "_start") (loop $again (br $again))))')
    spin = client.run("spin", detach="").headers["run-id"]
    eventually(lambda: "state: running\n" in client.get(f"/proc/{spin}/status").text)
    for status, reason, options in [
            (404, "missing", {"name": "nobody"}), (404, "missing", {"version": "7"}),
            (404, "missing", {"call": "nothing"}), (413, "limit", {"memory": "1KiB"}),
            (413, "limit", {"arg": "x" * 300_000}), (400, "invalid", {"root": "No"}),
            (400, "invalid", {"cpu": "much"}), (429, "queue", {"name": "spin"})]:
        before = metrics(client)
        form = "\r\n".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'
            for name, value in {"name": "hello", **options}.items()) + "\r\n--x--\r\n"
        answer = client.post("/run", form.encode(),
                             headers={"Content-Type": "multipart/form-data; boundary=x"})
        assert answer.status == status, answer
        after = metrics(client)
        key = f'zasm_runs_refused_total{{reason="{reason}"}}'
        assert after[key] == before[key] + 1, (reason, options)
        assert sum(value for name, value in after.items() if "refused" in name) == 1 + sum(
            value for name, value in before.items() if "refused" in name)
        assert after["zasm_runs_started_total"] == before["zasm_runs_started_total"] == 1
    client.delete(f"/proc/{spin}")


def refused(client, name):
    return {key.split('"')[1]: value for key, value in metrics(client).items()
            if key.startswith(f"zasm_{name}_refused_total")}


def test_runs_refused_before_they_have_an_app(server):
    """Whatever is wrong with the request itself, its form, or what `start` was given."""
    client = server.client
    client.create("hello", wat_print("hello"))
    form = {"Content-Type": "multipart/form-data; boundary=x"}

    def field(name):
        return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\nhello\r\n'.encode()

    for status, reason, path, body, headers in [
            (400, "invalid", "/run?name=hello&colour=red", b"", {}), (400, "invalid", "/run", b"", {}),
            (400, "invalid", "/run?name=hello&root=", b"", {}),
            (404, "missing", "/run?name=nobody", b"", {}),
            (400, "invalid", "/run", b"x", {"Content-Type": "multipart/form-data"}),
            (400, "invalid", "/run", b"no form", form), (400, "invalid", "/run", field("name"), form),
            (400, "invalid", "/run", field("colour") + b"--x--\r\n", form),
            (400, "invalid", "/run", field("/tmp/x") + b"--x--\r\n", form),
            (400, "invalid", "/run", field("name") + field("name") + b"--x--\r\n", form),
            (413, "limit", "/run", b"".join(field(f"/{i}") for i in range(10001)), form),
            (400, "invalid", "/apps/hello/start", b"colour=red\n", {}),
            (404, "missing", "/apps/hello/start", b"version=7\n", {}),
            (400, "invalid", "/apps/hello/start", b"root=No\n", {})]:
        before = refused(client, "runs")
        answer = client.post(path, body, headers=headers)
        assert answer.status == status, (path, body[:99], answer)
        before[reason] += 1
        assert refused(client, "runs") == before, (path, body[:99])
    assert metrics(client)["zasm_runs_started_total"] == 0


def test_requests_that_nothing_is_done_for(server):
    client = server.client
    for reason, head in [
            ("malformed", b"GET /apps HTTP/1.1\r\n\r\n"), ("malformed", b"GET  / HTTP/1.1\r\n\r\n"),
            ("access", b"GET /apps HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"),
            ("access", b"GET /web/x/ HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
                       b"Connection: close\r\n\r\n"),
            ("request", b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            ("request", b"PATCH / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"),
            ("request", b"GET /%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")]:
        before = refused(client, "http")
        with client.connect() as connection, connection.makefile("rb") as stream:
            connection.sendall(head)
            assert stream.read().startswith(b"HTTP/1.1 4"), head
        before[reason] += 1
        assert refused(client, "http") == before, head
