"""What strangers' programs start and leave waiting takes no app's places from its clients."""

import pytest

from test_calls import living, status_of

# With APP and COUNT it starts so many runs of the app that wait for the end of their input, and
# lives on; without it is a page, when its input has ended.
PROGRAM = r"""
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 3) {
        while (getchar() != EOF) {
        }
        printf("Content-Type: text/plain\n\nhere\n");
        return 0;
    }
    char path[300], id[32];
    int started = 0;
    snprintf(path, sizeof path, "/cloud/apps/%s/start", arguments[1]);
    for (int left = atoi(arguments[2]); left > 0; left--) {
        int file = open(path, O_RDWR);
        if (write(file, "stdin=open\n", 11) == 11 && read(file, id, sizeof id) > 0) {
            started++;
        }
        close(file);
    }
    FILE *done = fopen("/done", "w");
    fprintf(done, "%d\n", started);
    fclose(done);
    for (;;) {
        poll(NULL, 0, 100000);
    }
}
"""
PLACES = 16
ANSWER = "Content-Type: text/plain\n\nhere\n"


@pytest.fixture
def client(make_server, guests):
    client = make_server("--max-runs", PLACES, "--queue", PLACES, "--queue-wait", "1h").client
    module = guests.c_text(PROGRAM)
    client.create("victim", module, web="public")
    client.create("attacker", module, web="public")
    client.create("caller", guests.c("caller"))
    return client


def attack(client, eventually, victim):
    """A stranger's run, and how many it could start."""
    answer = client.run("attacker", victim, "60", root="fresh", net="none", detach="")
    assert answer.status == 202, answer
    run = answer.text.strip()
    eventually(lambda: client.get(f"/proc/{run}/root/done").text[:1].isdigit())
    return run, int(client.get(f"/proc/{run}/root/done").text)


def states(client, app):
    found = [status_of(client, run) for run in living(client)]
    return [status["state"] for status in found if status["app"].split("@")[0] == app]


def assert_clients_are_answered(client, app):
    for _ in range(3):
        assert client.run(app).text == ANSWER
        assert client.post(f"/apps/{app}/call", "x").text == ANSWER
        page = client.get(f"/web/{app}/")
        assert page.status == 200 and page.text == "here\n", page


def leave_nothing(client, eventually, runs):
    for run in runs:
        client.delete(f"/proc/{run}")
    eventually(lambda: living(client) == [])
    assert client.run("caller", "ask", "victim", "x").text.endswith("[here\n].\n")


def test_another_app_s_places(client, eventually):
    """Of 16 places and 16 in the queue programs have eight each; the first has four of those."""
    first, started = attack(client, eventually, "victim")
    assert started == 8
    second, started = attack(client, eventually, "victim")
    assert started == 4
    assert_clients_are_answered(client, "victim")
    # Nor does another program wait.
    assert client.run("caller", "ask", "victim", "x").text.endswith("[here\n].\n")
    more = [attack(client, eventually, "victim")[0] for _ in range(4)]
    assert sum(state == "queued" for state in states(client, "victim")) == PLACES // 2
    assert len(states(client, "victim")) == PLACES
    assert_clients_are_answered(client, "victim")
    text = client.run("caller", "ask", "victim", "x").text
    assert "Resource busy: programs have started 8 runs of 'victim' that are under way" in text
    leave_nothing(client, eventually, [first, second, *more])


def test_the_own_app_s_places(client, eventually):
    runs = [attack(client, eventually, "attacker")[0] for _ in range(4)]
    assert len(states(client, "attacker")) == 4 + PLACES
    assert_clients_are_answered(client, "attacker")
    leave_nothing(client, eventually, runs)


def test_calls_of_oneself_have_an_end(client, guests):
    """Those that nobody else could ever let go on are refused at once."""
    client.create("deep", guests.c("caller"), max_runs="8")
    text = client.run("deep", "deep", "deep").text.replace("stdout: ", "")
    assert "deep at 2\n" in text and "deep at 3" not in text
    assert "max_runs (now 8) has to be four times as large as its calls of itself are deep" in text
