"""Transaction files, calls between apps, and what a program learns of failures."""

ERRSTR = r"""
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <unistd.h>

static void show(const char *when) {
    char text[2048] = "";
    FILE *file = fopen("/proc/self/errstr", "r");
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    printf("%s: %s%s", when, text, length ? "" : "(nothing)\n");
}

int main(void) {
    show("before");
    fopen("/no/such/file", "r");
    show("an error that says all");
    int control = open("/proc/self/ctl", O_WRONLY);
    int result = (int)write(control, "dance\n", 6);
    printf("%d %s\n", result, strerror(errno));
    show("one with a text");
    fopen("/no/such/file", "r");
    show("it stays");
    write(control, "sing\n", 5);
    show("the next one");
}
"""


def test_errstr_says_why_the_last_call_failed(client, guests):
    client.create("errstr", guests.c_text(ERRSTR))
    assert client.run("errstr").text.splitlines() == [
        "before: (nothing)",
        "an error that says all: (nothing)",
        "-1 Invalid argument",
        "one with a text: 'dance' can't be done to a run; there are pause, resume and kill",
        "it stays: 'dance' can't be done to a run; there are pause, resume and kill",
        "the next one: 'sing' can't be done to a run; there are pause, resume and kill",
    ]
