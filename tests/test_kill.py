"""kill -9 at any moment: what was acknowledged is there afterwards, and nothing is half.

Each cycle starts the server on the same state, checks what the last one left, does things from
several threads until the kill, and remembers what was acknowledged, and what was only asked for.
The kill comes after a random number of acknowledgements, so no cycle waits for a clock.
"""

import random
import threading

from support.modules import wat_numbered
from support.state import names_in

# Writes its argument into two files, one after the other, and ends.
WRITER = r"""
#include <stdio.h>
int main(int argc, char **argv) {
    for (int i = 1; i <= 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "/run%d", i);
        FILE *file = fopen(name, "w");
        if (argc < 2 || !file || fprintf(file, "%s", argv[1]) < 0 || fclose(file) != 0) return 1;
    }
    return 0;
}
"""
FILES = 3
# Exit statuses: the number of a version, as its module tells it.
NUMBERS = 100


class Record:
    """Of one thing that is written again and again: the last acknowledged number, and the last that
    was asked for. Every one in between may be what is there after a crash."""

    def __init__(self):
        self.acknowledged = self.asked = 0

    def allows(self, number):
        return self.acknowledged <= number <= self.asked


class Cycle:
    def __init__(self, server, records, generator):
        self.client = server.client
        self.server = server
        self.records = records
        self.left = generator.randrange(1, 40)  # acknowledgements until the kill
        self.lock = threading.Lock()
        self.failures = []

    def acknowledged(self, record):
        with self.lock:
            record.acknowledged = record.asked
            self.left -= 1
            if self.left == 0:
                self.server.process.kill()

    def repeat(self, record, write):
        """Until the server is gone."""
        while self.left > 0 or self.server.process.poll() is None:
            record.asked += 1
            try:
                response = write(record.asked)
            except (OSError, ValueError, IndexError):
                return  # cut off: it may have happened or not
            if response.status not in (200, 201, 204):
                self.failures.append(response)
                return
            self.acknowledged(record)

    def create(self, number):
        return self.client.post("/create?name=app", wat_numbered(number % NUMBERS))

    def put(self, name):
        return lambda number: self.client.put(f"/apps/app/files/{name}", content(number))

    def setting(self, number):
        return self.client.put("/apps/app/env/NUMBER", str(number))

    def run(self, number):
        response = self.client.run("writer", str(number))
        if response.status == 200 and response.trailers.get("run-exit") != "0":
            raise ValueError("it was cut off")
        return response

    def child(self, number):
        """A version with another app's program; every third one goes back by one."""
        if number % 3 == 0:
            return self.client.post("/apps/child/rollback")
        return self.client.post("/create?name=child&from=base&file=/file", content(number))

    def secret(self, number):
        return self.client.put(f"/apps/app/secrets/KEY?host=h{number}", content(number))

    def work(self):
        jobs = [(self.records["child"], self.child), (self.records["secret"], self.secret)]
        jobs += [(self.records["version"], self.create), (self.records["setting"], self.setting),
                (self.records["run"], self.run)]
        jobs += [(self.records[f"file{i}"], self.put(f"file{i}")) for i in range(FILES)]
        threads = [threading.Thread(target=self.repeat, args=job) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.server.process.wait()


def content(number):
    """Of many pages, so that half of it would show."""
    return (f"{number}\n" * (1 + number % 3000)).encode()


def number_of(body):
    lines = body.split(b"\n")
    number = int(lines[0] or 0)
    assert body == content(number), "a mixture"
    return number


def settle(record, number, what):
    assert record.allows(number), (
        f"{what}: {number} is there, {record.acknowledged} was acknowledged, {record.asked} asked")
    record.acknowledged = record.asked = number


def check(server, records):
    client = server.client
    assert names_in(server.state / "tmp") == []
    # The version: its module, what it does, and what is said of it belong together.
    text = client.get("/apps/app/info").text
    version = int(text.split("version: ")[1].split("\n")[0])
    settle(records["version"], version, "version")
    assert client.get("/apps/app/module").body == wat_numbered(version % NUMBERS)
    assert client.run("app").trailers["run-exit"] == str(version % NUMBERS)
    listed = client.get("/apps/app/versions/").text.split()
    assert listed == sorted(f"{i}/" for i in range(1, version + 1))
    # The child: a program of another app, with a file of its own.
    version = int(client.get("/apps/child/info").text.split("version: ")[1].split("\n")[0])
    settle(records["child"], version, "child")
    for number in range(max(1, version - 3), version + 1):
        body = client.get(f"/apps/child/versions/{number}/files/file").body
        assert number_of(body) == (number - 2 if number % 3 == 0 else number)
    settle(records["secret"], int(client.get("/apps/app/secrets").text.split(" h")[1]), "secret")
    settle(records["setting"], int(client.get("/apps/app/env/NUMBER").text or 0), "setting")
    for i in range(FILES):
        body = client.get(f"/apps/app/files/file{i}").body
        settle(records[f"file{i}"], number_of(body), f"file{i}")
    first, second = (int(client.get(f"/apps/writer/files/run{i}").text or -1) for i in (1, 2))
    # A run that was not acknowledged may have got anywhere, file by file.
    record = records["run"]
    for number in (first, second):
        assert record.allows(number) or (number == -1 and record.asked > record.acknowledged)
    # Begin the next cycle with both the same.
    record.asked = record.acknowledged = record.asked + 1
    assert client.run("writer", str(record.asked)).trailers["run-exit"] == "0"


def test_kill_at_any_moment(make_server, guests, pytestconfig):
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    generator = random.Random(seed)
    names = ["version", "child", "secret", "setting", "run"] + [f"file{i}" for i in range(FILES)]
    records = {name: Record() for name in names}
    server = make_server()
    client = server.client
    client.create("app", wat_numbered(1))
    client.create("writer", guests.c_text(WRITER))
    client.create("base", wat_numbered(0))
    client.post("/create?name=child&from=base&file=/file", content(1))
    client.put("/apps/app/secrets/KEY?host=h0", content(0))
    client.put("/apps/app/env/NUMBER", b"0")
    client.run("writer", "0")
    for i in range(FILES):
        client.put(f"/apps/app/files/file{i}", content(0))
    for name in ("version", "child"):
        records[name].acknowledged = records[name].asked = 1
    check(server, records)
    for _ in range(pytestconfig.getoption("--kills")):
        cycle = Cycle(server, records, generator)
        cycle.work()
        assert not cycle.failures, cycle.failures
        server.start()
        check(server, records)
    # What PUT left beside its targets goes with the next PUT.
    server.client.put("/apps/app/files/file0", content(1))
    assert server.client.get("/apps/app/files/").text == "".join(
        f"file{i}\n" for i in range(FILES))
    assert server.stop() == 0
