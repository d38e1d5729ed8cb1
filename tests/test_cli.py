"""The command line: every command against the real server, its streams, its exit statuses."""

import io
import json
import os
import pathlib
import pty
import re
import signal
import socket
import subprocess
import tarfile
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMANDS = ["create", "run", "call", "apps", "show", "open", "ps", "log", "kill", "pause", "resume",
            "env", "ls", "cat", "cp", "mv", "rm", "secret", "versions", "rollback", "alarm",
            "health"]
TIMEOUT = 120


class Started(subprocess.Popen):
    """Does not wait at the end of a `with` for what a failed test left running."""

    def __exit__(self, kind, *rest):
        if kind:
            self.kill()
        super().__exit__(kind, *rest)


class Cli:
    def __init__(self, binary, url=None):
        self.binary = str(binary)
        self.environment = {key: value for key, value in os.environ.items()
                            if key not in ("ZASM_SERVER", "ZASM_TOKEN")}
        if url:
            self.environment["ZASM_SERVER"] = url

    def __call__(self, *arguments, stdin=b"", status=0, cwd=None, **environment):
        """Runs to the end; `status` is what is expected."""
        options = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
        result = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, cwd=cwd,
                                env={**self.environment, **environment}, timeout=TIMEOUT,
                                **options)
        assert result.returncode == status, result
        return result

    def fails(self, *arguments, status=1, **options):
        """Expects one line of error, and gives it."""
        result = self(*arguments, status=status, **options)
        error = result.stderr.decode()
        assert error.startswith("error: ") and error.count("\n") == 1, error
        return error

    def start(self, *arguments, **options):
        return Started([self.binary, *map(str, arguments)], env=self.environment, **options)


@pytest.fixture(scope="module")
def cli(server, guests, tmp_path_factory):
    cli = Cli(server.binary, server.url)
    path = tmp_path_factory.mktemp("modules") / "probe.wasm"
    path.write_bytes(guests.c("probe"))
    cli.module = path
    cli("create", "probe", path)
    return cli


def run_ids(server):
    return [int(entry["name"]) for entry in
            server.client.get("/proc", headers={"Accept": "application/json"}).json()]


def newest_run(server):
    return max(run_ids(server), default=0)


def status_of(server, identifier):
    text = server.client.get(f"/proc/{identifier}/status").text
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)


# --- help and usage -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS + ["serve", "token"])
def test_help(build, command):
    cli = Cli(build / "0asm")
    for arguments in ([command, "--help"], ["help", command]):
        text = cli(*arguments).stdout.decode()
        assert f"usage: 0asm {command}" in text
    if command in COMMANDS:
        assert all(len(line) <= 110 for line in text.splitlines()), text


@pytest.mark.parametrize("command", ["help", "version"])
def test_help_of_help_and_version(build, command):
    cli = Cli(build / "0asm")
    texts = {cli(*arguments).stdout.decode()
             for arguments in ([command, "--help"], [command, "-h"], ["help", command])}
    assert len(texts) == 1 and f"usage: 0asm {command}" in texts.pop()
    assert "too much" in cli.fails(command, "run", "x", status=2)
    overview = cli("help").stdout
    assert cli("--help").stdout == cli("-h").stdout == overview
    assert cli("--version").stdout == cli("version").stdout
    assert "no command named 'explode'" in cli.fails("help", "explode", status=2)


def test_help_lists_every_command(build):
    text = Cli(build / "0asm")("help").stdout.decode()
    for command in COMMANDS + ["serve", "token", "version", "help"]:
        assert re.search(rf"^  {command} ", text, re.MULTILINE), command


def test_documentation_names_every_command_and_option(build):
    text = (ROOT / "docs" / "cli.md").read_text()
    cli = Cli(build / "0asm")
    for command in COMMANDS + ["serve", "token", "version", "help"]:
        assert f"0asm {command}" in text, command
    for command in COMMANDS:
        for option in re.findall(r"--[a-z-]+", cli(command, "--help").stdout.decode()):
            assert option in text or option == "--help", (command, option)


@pytest.mark.parametrize("arguments,words", [
    (["run"], "usage: 0asm run NAME"),
    (["run", "x", "--explode"], "there is no option --explode"),
    (["run", "x", "--memory"], "--memory needs a value"),
    (["run", "--detach=1", "x"], "takes no value"),
    (["create", "x"], "usage: 0asm create"),
    (["create", "a", "b", "c"], "'c' is too much"),
    (["ps", "x"], "'x' is too much"),
    (["kill"], "usage: 0asm kill"),
    (["cp", "a", "b"], "neither 'a' nor 'b' is APP:/FILE"),
    (["ps", "--server", "a", "--server", "b"], "given twice"),
    (["explode"], "no command named 'explode'"),
    (["version", "x"], "'x' is too much"),
])
def test_wrong_usage(build, arguments, words):
    assert words in Cli(build / "0asm").fails(*arguments, status=2)


# --- the server -----------------------------------------------------------------------------------


def test_no_server(build):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        error = Cli(build / "0asm", url).fails("apps")
    assert error == f"error: no server at {url}; start one with '0asm serve' or set $ZASM_SERVER\n"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "", "http://a b", "http://x/?a", "http://u@h"])
def test_bad_server(build, url):
    assert "URL" in Cli(build / "0asm").fails("apps", "--server", url)


def test_server_option_wins(cli, server):
    cli("apps", "--server", server.url, ZASM_SERVER="http://127.0.0.1:1")
    cli("apps", f"--server={server.url}/", ZASM_SERVER="http://127.0.0.1:1")
    cli("apps", "--server", server.url.removeprefix("http://"))


def test_proxies_of_the_environment_are_not_for_loopback(cli):
    cli("apps", http_proxy="http://127.0.0.1:1", all_proxy="http://127.0.0.1:1")


def serve_answers(*answers):
    """A server that gives these answers, each on a connection of its own; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


def answer(body=b"", status=200, content_type="application/json"):
    return (f"HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def test_errors_of_a_server_do_nothing_to_the_terminal(build):
    body = b"error: \x1b]0;owned\x07 \xc2\x9b31m \xff\n second line\n"
    url = serve_answers(answer(body, status=404))
    error = Cli(build / "0asm", url).fails("show", "x")
    assert error == "error: \\x1b]0;owned\\x07 \\xc2\\x9b31m \\xff\\x0a second line\n"


def test_another_kind_of_server(build):
    url = serve_answers(answer(b"<html>", status=404))
    assert "answered with status 404, and not as 0asm does" in Cli(build / "0asm", url).fails("apps")


def test_a_server_that_cuts_its_answer(build):
    url = serve_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[]")
    assert "connection" in Cli(build / "0asm", url).fails("apps")


def test_names_of_a_server_are_checked(build):
    url = serve_answers(answer(b'[{"name":"\\u001b[2J"},{"n":"x"},{"name":"good"}]'))
    assert Cli(build / "0asm", url)("apps", "-q").stdout == b"good\n"


# The ids are short because pytest hands them to what it starts, in the environment.
@pytest.mark.parametrize("line", [b"[]", b"{", b'{"stream":"stdout","data64":"A"}', b"x" * 1100000],
                         ids=["array", "half", "base64", "long"])
def test_damaged_events(build, line):
    url = serve_answers(answer(line + b"\n", content_type="application/x-ndjson"))
    assert "damaged" in Cli(build / "0asm", url).fails("run", "x", stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("entries", [
    [("../out", tarfile.REGTYPE, "", b"x")],
    [("ABSOLUTE/out", tarfile.REGTYPE, "", b"x")],
    [("link", tarfile.SYMTYPE, "..", b""), ("link/out", tarfile.REGTYPE, "", b"x")],
    [("hard", tarfile.LNKTYPE, "../secret", b""), ("hard", tarfile.REGTYPE, "", b"x")],
    [("hard", tarfile.LNKTYPE, "../secret", b"")],
    [("link", tarfile.SYMTYPE, "../secret", b""), ("link", tarfile.REGTYPE, "", b"x")],
    [("device", tarfile.CHRTYPE, "", b""), ("fifo", tarfile.FIFOTYPE, "", b"")],
])
def test_a_tar_writes_nothing_outside(build, tmp_path, entries):
    (tmp_path / "secret").write_bytes(b"secret")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, link, data in entries:
            member = tarfile.TarInfo(name.replace("ABSOLUTE", str(tmp_path)))
            member.type, member.linkname, member.size, member.mode = kind, link, len(data), 0o4755
            tar.addfile(member, io.BytesIO(data))
    url = serve_answers(answer(b"[]"), answer(stream.getvalue(), content_type="application/x-tar"))
    arguments = ["cp", "-r", "x:/", str(tmp_path / "in")]
    result = subprocess.run([build / "0asm", *arguments, "--server", url], capture_output=True)
    assert result.returncode in (0, 1) and b"Sanitizer" not in result.stderr
    assert sorted(os.listdir(tmp_path)) == ["in", "secret"]
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert (tmp_path / "secret").stat().st_nlink == 1
    for path in (tmp_path / "in").rglob("*"):
        assert path.is_symlink() or path.is_file() or path.is_dir()
        assert not path.lstat().st_mode & 0o6000


def test_token(make_server, build):
    server = make_server(listen="0.0.0.0:0", environment={"ZASM_TOKEN": "a-token-of-24-characters"})
    url = f"http://127.0.0.1:{server.port}"
    cli = Cli(build / "0asm", url)
    assert "oken" in cli.fails("apps")
    assert "oken" in cli.fails("apps", ZASM_TOKEN="another-token-of-some-length")
    assert "control character" in cli.fails("apps", ZASM_TOKEN="x\r\nX-Evil: 1")
    cli("apps", ZASM_TOKEN="a-token-of-24-characters")


# --- create ---------------------------------------------------------------------------------------


def test_create(cli):
    assert b"version 1 is online" in cli("create", "made", cli.module).stdout
    assert b"version 2 is online" in cli("create", "made", cli.module, "--arg", "args").stdout
    assert cli("run", "made").stdout == b"made\nargs\n"
    assert "already" in cli.fails("create", "made", cli.module, "--new")


def test_create_from_standard_input(cli):
    cli("create", "piped", "-", stdin=cli.module.read_bytes())
    assert cli("run", "piped", "args", "x").stdout == b"piped\nargs\nx\n"


def test_create_with_options(cli):
    cli("create", "options", cli.module, "--env", "A=1", "--env=B=x=y", "--memory", "16MiB",
        "--arg", "env")
    output = cli("run", "options").stdout.decode().splitlines()
    assert "A=1" in output and "B=x=y" in output
    text = cli("show", "options").stdout.decode()
    assert "memory: 16MiB" in text and "arg: env" in text and "env: A" in text


def test_create_from_a_directory(cli, tmp_path):
    (tmp_path / "app.wasm").write_bytes(cli.module.read_bytes())
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "grüße.txt").write_text("hello")
    (tmp_path / "data" / ("long" * 40)).write_bytes(bytes(range(256)) * 4096)
    (tmp_path / "link").symlink_to("data/deep/grüße.txt")
    os.mkfifo(tmp_path / "fifo")
    result = cli("create", "directory", tmp_path)
    assert b"left out" in result.stderr and b"fifo" in result.stderr
    assert cli("run", "directory", "get", "/data/deep/grüße.txt").stdout == b"hello"
    assert cli("run", "directory", "get", "/link").stdout == b"hello"
    assert cli("cat", f"directory:/data/{'long' * 40}").stdout == bytes(range(256)) * 4096
    (tmp_path / "app.wasm").unlink()
    assert "has no app.wasm" in cli.fails("create", "directory", tmp_path)


@pytest.mark.parametrize("data,words", [
    (b"", "empty"), (b"not a module at all", ""), (b"\0asm\x0d\0\1\0", "component"),
])
def test_create_refuses(cli, tmp_path, data, words):
    path = tmp_path / "bad.wasm"
    path.write_bytes(data)
    assert words in cli.fails("create", "refused", path)
    assert "refused" not in cli("apps", "-q").stdout.decode()


def test_create_of_what_is_not_there(cli):
    assert "No such file" in cli.fails("create", "x", "/nonexistent/x.wasm")
    assert "can't be the name" in cli.fails("create", "Bad/Name", cli.module)


def in_terminal(cli, *arguments):
    """Runs with standard error at a terminal; standard output and what the terminal showed."""
    master, slave = pty.openpty()
    with cli.start(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                   stderr=slave) as process:
        os.close(slave)
        output = process.stdout.read()
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        os.close(master)
    return process.returncode, output, shown


def test_create_at_a_terminal(cli, tmp_path):
    bad = tmp_path / "bad.wasm"
    bad.write_bytes(b"no module")
    status, output, shown = in_terminal(cli, "create", "shown", cli.module)
    assert status == 0 and b"version 1 is online" in output and b"0asm run shown" in output
    assert b"(100%)" in shown or b"uploaded" in shown
    # What there is to warn of is told here, too.
    (tmp_path / "files" / "tmp").mkdir(parents=True)
    (tmp_path / "files" / "tmp" / "x").write_bytes(b"1")
    status, output, _ = in_terminal(cli, "create", "shown2", tmp_path / "files", "--from", "shown",
                                    "--arg", "/no.py")
    assert status == 0 and b"server has its own files:\n    tmp/x\n" in output
    assert b"  its first argument is no file that its runs see:\n    /no.py\n" in output
    status, output, shown = in_terminal(cli, "create", "shown", bad)
    assert status == 1 and output == b"" and b"error: " in shown


# --- run ------------------------------------------------------------------------------------------


def test_run_separates_the_streams(cli):
    result = cli("run", "probe", "lines", "3")
    assert result.stdout == b"out 0\nout 1\nout 2\n"
    assert result.stderr == b"err 0\nerr 1\nerr 2\n"


def test_run_options_and_arguments(cli):
    assert cli("run", "probe", "args", "--memory", "-x").stdout == b"probe\nargs\n--memory\n-x\n"
    assert cli("run", "probe", "--arg", "args", "--", "--", "-y").stdout == b"probe\nargs\n--\n-y\n"
    assert "behind --" in cli.fails("run", "probe", "-x", status=2)
    assert b"K=v w&=%\n" in cli("run", "--env", "K=v w&=%", "probe", "env").stdout


@pytest.mark.parametrize("arguments,passed", [
    (["probe", "args", "--cpu", "200ms"], ["args", "--cpu", "200ms"]),
    (["probe", "--cpu", "20s", "args", "--cpu"], ["args", "--cpu"]),
    (["--cpu=20s", "probe", "--", "args", "-h"], ["args", "-h"]),
    (["--", "probe", "args", "--", "--help"], ["args", "--", "--help"]),
    (["probe", "--arg", "args", "--", "--help"], ["args", "--help"]),
    (["--arg", "args", "probe", "--", "--"], ["args", "--"]),
    (["probe", "args", "--help"], ["args", "--help"]),
])
def test_run_tells_its_options_from_the_programs(cli, arguments, passed):
    assert cli("run", *arguments).stdout.decode().splitlines() == ["probe", *passed]


def test_run_with_files(cli, server, guests, tmp_path):
    server.client.create("files", guests.c("files"))
    (tmp_path / "a").write_bytes(b"\r\n--x" * 1000)
    (tmp_path / "b").write_text("two")
    both = ["--file", "/in/a=a", "--file=/in/b=b"]
    assert cli("run", "files", *both, "--root", "fresh", "get /in/a", "get /in/b",
               cwd=tmp_path).stdout == b"\r\n--x" * 1000 + b"two"
    # Together with standard input of each kind.
    for data in (b"short", b"long" * 20000):
        (tmp_path / "input").write_bytes(data)
        with open(tmp_path / "input") as stdin:
            assert cli("run", "files", *both, "cat", cwd=tmp_path, stdin=stdin).stdout == data
        assert cli("run", "files", *both, "cat", cwd=tmp_path, stdin=data).stdout == data
    run = cli("run", "--detach", "--root", "ro", "files", *both, "cat", cwd=tmp_path,
              stdin=b"in").stdout.decode().strip()
    assert server.client.get(f"/proc/{run}/stdout").text == "in"
    # With a session they stay.
    cli("run", "files", "--root", "cli-session", "--ttl", "1h", "--file", "/kept=b", cwd=tmp_path)
    assert server.client.get("/vol/cli-session/files/kept").text == "two"
    assert "PATH begins with a slash" in cli.fails("run", "files", "--file", "x=y")
    assert "PATH begins with a slash" in cli.fails("run", "files", "--file", "/x")
    assert "missing can't be read" in cli.fails("run", "files", "--file", "/x=missing")
    assert "is no regular file" in cli.fails("run", "files", "--file", "/x=.", cwd=tmp_path)
    assert "directory of the system" in cli.fails("run", "files", "--file", "/proc/x=b", status=126,
                                                  cwd=tmp_path)


def test_run_json(cli, server, guests, tmp_path):
    server.client.create("files", guests.c("files"))
    got = json.loads(cli("run", "--json", "--root=fresh", "files", "put /x 1", "cat",
                         stdin=b"in").stdout)
    assert (got["stdout"], got["exit"], got["changed"]) == ("in", 0, ["/x"])
    (tmp_path / "b").write_text("two")
    got = json.loads(cli("run", "--json", "--root=fresh", "files", "--file", "/b=b", "get /b", "cat",
                         "get /none", stdin=b"in", cwd=tmp_path).stdout)
    assert (got["stdout"], got["exit"]) == ("twoin", 1)
    cli.fails("run", "--json", "nobody", status=126)
    cli.fails("run", "--json", "--detach", "files", status=2)


def test_kill_by_tag(cli):
    for job in ("a", "a", "b"):
        cli("run", "--detach", "--tag", f"kill:{job}", "--tag", "kill-all:1", "probe", "spin")
    assert cli("kill", "--tag", "kill:a").stdout == b"2 ended\n"
    assert cli("kill", "--tag", "kill:b", "--tag", "kill-all:1").stdout == b"1 ended\n"
    cli.fails("kill", status=2)
    cli.fails("kill", "--tag", "kill:a", "7", status=2)



@pytest.mark.parametrize("arguments", [["--help"], ["probe", "-h"], ["--env", "A=1", "probe", "--help"]])
def test_run_help(cli, arguments):
    assert "usage: 0asm run " in cli("run", *arguments).stdout.decode()


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("option,value,words", [
    ("--call", "nosuch", "no function named 'nosuch'"),
    ("--memory", "64KiB", "needs more memory"),
    ("--version", "999", "no version 999"),
])
def test_run_that_can_not_start(cli, option, value, words, live):
    with open(os.devnull, "rb") as null:
        error = cli.fails("run", "probe", option, value, stdin=b"" if live else null, status=126)
    assert words in error


def test_run_detached_that_is_refused(cli):
    cli.fails("run", "-d", "probe", "--version", "999", status=126)


@pytest.mark.parametrize("size", [1, 5000, 32768, 32769, 3_000_000])
def test_run_standard_input(cli, tmp_path, size):
    data = (bytes(range(256)) * (size // 256 + 1))[:size]
    path = tmp_path / "input"
    path.write_bytes(data)
    with open(path, "rb") as file:
        assert cli("run", "probe", "echo", stdin=file).stdout == data
    assert cli("run", "probe", "echo", stdin=data).stdout == data


def test_run_standard_input_from_the_middle_of_a_file(cli, tmp_path):
    path = tmp_path / "input"
    path.write_bytes(b"read already, and the rest")
    with open(path, "rb", buffering=0) as file:
        file.read(13)
        assert cli("run", "probe", "echo", stdin=file).stdout == b" and the rest"


def test_run_without_standard_input(cli):
    with open(os.devnull, "rb") as null:
        assert cli("run", "probe", "wait", stdin=null).stdout == b"waiting\ngot -1\n"


def test_run_whose_program_does_not_read(cli):
    data = b"x" * 3_000_000
    assert cli("run", "probe", "args", stdin=data).stdout == b"probe\nargs\n"


def test_run_dialogue(cli):
    with cli.start("run", "probe", "wait", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"waiting\n"  # before anything was sent
        process.stdin.write(b"A")
        process.stdin.flush()
        assert process.stdout.readline() == b"got 65\n"  # while our input is still open
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("arguments,status", [
    (["exit", "0"], 0), (["exit", "7"], 7), (["trap"], 134),
])
@pytest.mark.parametrize("live", [True, False])
def test_run_exit_status(cli, arguments, status, live):
    with open(os.devnull, "rb") as null:
        result = cli("run", "probe", *arguments, stdin=b"" if live else null, status=status)
    assert (b"unreachable" in result.stderr) == (status == 134)


def test_run_says_why_it_was_ended(cli):
    result = cli("run", "probe", "--cpu", "50ms", "spin", status=137)
    assert b"cpu limit" in result.stderr


def test_run_bytes(cli):
    assert cli("run", "probe", "bytes").stdout == b"\xff\xfe\x00\x01"


def test_run_large_output(cli):
    assert len(cli("run", "probe", "flood", 20 << 20).stdout) == 20 << 20


@pytest.mark.parametrize("stdin", [subprocess.PIPE, subprocess.DEVNULL])
def test_a_slow_reader_of_ours_holds_up_nothing(cli, server, eventually, stdin):
    # The server would end a client that takes nothing for some time, as with `| less`.
    before = newest_run(server)
    with cli.start("run", "probe", "flood", 20 << 20, stdin=stdin,
                   stdout=subprocess.PIPE) as process:
        identifier = eventually(lambda: max(newest_run(server) - before, 0) and newest_run(server))
        run = eventually(lambda: (lambda found: found if found["state"] == "ended" else None)(
            status_of(server, identifier)))
        assert run["reason"] == "exit"
        assert len(process.stdout.read()) == 20 << 20
        assert process.wait(TIMEOUT) == 0


def test_run_of_no_app(cli):
    assert "no app named 'nobody'" in cli.fails("run", "nobody", status=126)
    assert "memory" in cli.fails("run", "probe", "--memory", "lots", status=126)


@pytest.mark.parametrize("stdin", [subprocess.PIPE, subprocess.DEVNULL])
@pytest.mark.parametrize("number,status", [
    (signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)])
def test_the_end_of_the_command_ends_the_run(cli, server, eventually, stdin, number, status):
    with cli.start("run", "probe", "sleep", "600000", stdin=stdin,
                   stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"sleeping\n"
        identifier = newest_run(server)
        process.send_signal(number)
        assert process.wait(TIMEOUT) == status
    run = eventually(lambda: (lambda found: found if found["state"] == "ended" else None)(
        status_of(server, identifier)))
    assert run["reason"] in ("killed", "client")


@pytest.mark.parametrize("stdin", [subprocess.PIPE, subprocess.DEVNULL])
def test_a_broken_pipe_ends_the_run(cli, server, eventually, stdin):
    with cli.start("run", "probe", "flood", "60000000", stdin=stdin, stdout=subprocess.PIPE,
                   stderr=subprocess.PIPE) as process:
        assert process.stdout.read(10) == b"x" * 10
        identifier = newest_run(server)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(TIMEOUT) == 141
    eventually(lambda: status_of(server, identifier)["state"] == "ended")


def test_the_end_of_the_server(make_server, guests, build):
    server = make_server()
    server.client.create("probe", guests.c("probe"))
    cli = Cli(build / "0asm", server.url)
    with cli.start("run", "probe", "sleep", "600000", stdin=subprocess.PIPE,
                   stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        server.kill()
        assert process.wait(TIMEOUT) == 1
        assert process.stderr.read().startswith(b"error: ")


def test_run_at_a_terminal(cli):
    master, slave = pty.openpty()
    with cli.start("run", "probe", "wait", stdin=slave, stdout=subprocess.PIPE) as process:
        os.close(slave)
        assert process.stdout.readline() == b"waiting\n"
        os.write(master, b"\x04")  # Ctrl-D
        assert process.stdout.readline() == b"got -1\n"
        assert process.wait(TIMEOUT) == 0
    os.close(master)


def test_run_detached(cli, server):
    identifier = cli("run", "--detach", "probe", "echo", stdin=b"sent along").stdout.decode().strip()
    server.client.get(f"/proc/{identifier}/wait")
    assert cli("log", identifier).stdout == b"sent along"


# --- looking at things ----------------------------------------------------------------------------


def test_apps_and_show(cli):
    assert "probe" in cli("apps", "-q").stdout.decode().splitlines()
    rows = [line.split() for line in cli("apps").stdout.decode().splitlines()]
    assert rows[0] == ["NAME", "VERSION", "SIZE", "CHANGED"]
    assert any(row[0] == "probe" and row[1] == "1" for row in rows)
    assert "name: probe\nversion: 1\n" in cli("show", "probe").stdout.decode()
    assert "no app named 'nobody'" in cli.fails("show", "nobody")


def test_ps_kill_pause_resume(cli, server, eventually):
    null = subprocess.DEVNULL
    identifiers = []
    for number in (1, 2):
        with cli.start("run", "-d", "--tag", "job:ps", "--tag", f"n:{number}", "probe", "sleep",
                       "600000", stdin=null, stdout=subprocess.PIPE) as process:
            identifiers.append(process.stdout.read().decode().strip())
    assert cli("ps", "-q", "--tag", "job:ps").stdout.decode().split() == identifiers
    assert cli("ps", "-q", "--tag", "n:2").stdout.decode().split() == identifiers[1:]
    assert cli("ps", "-q", "--tag", "job:ps",
               "--tag", "n:1").stdout.decode().split() == identifiers[:1]
    assert "a tag is KEY:VALUE" in cli.fails("ps", "--tag", "job")
    row = next(line for line in cli("ps").stdout.decode().splitlines()
               if line.startswith(identifiers[0] + " "))
    assert row.split()[1] == "probe"
    cli("pause", identifiers[0])
    eventually(lambda: status_of(server, identifiers[0])["state"] == "paused")
    cli("resume", identifiers[0])
    cli("resume", identifiers[1])  # it was not paused
    eventually(lambda: status_of(server, identifiers[0])["state"] != "paused")
    cli("kill", *identifiers)
    eventually(lambda: cli("ps", "-q", "--tag", "job:ps").stdout == b"")
    assert cli("ps", "-aq", "--tag", "job:ps", status=2)  # letters are not joined
    assert cli("ps", "-a", "-q", "--tag", "job:ps").stdout.decode().split() == identifiers
    assert "killed" in cli("ps", "--all").stdout.decode()
    cli("kill", identifiers[0])
    for command in ("pause", "resume"):
        assert f"run {identifiers[0]} has ended" in cli.fails(command, identifiers[0])


def test_ps_sorts_ids_as_numbers(cli, server):
    null = subprocess.DEVNULL
    while newest_run(server) < 11:
        cli("run", "probe", "args", stdin=null)
    listed = [int(line) for line in cli("ps", "-a", "-q").stdout.split()]
    assert listed == sorted(listed) and listed[0] < 10 < listed[-1], listed


def test_kill_of_no_run(cli):
    assert "no run 999999" in cli.fails("kill", "999999")
    assert "not the id of a run" in cli.fails("kill", "probe")
    assert "not the id of a run" in cli.fails("pause", "1/../2")


def test_log(cli, server):
    identifier = cli("run", "-d", "probe", "lines", "2").stdout.decode().strip()
    server.client.get(f"/proc/{identifier}/wait")
    assert cli("log", identifier).stdout == b"out 0\nerr 0\nout 1\nerr 1\n"
    assert cli("log", identifier, "--from", "6").stdout == b"err 0\nout 1\nerr 1\n"
    assert cli("log", "-f", identifier).stdout == b"out 0\nerr 0\nout 1\nerr 1\n"
    lines = cli("log", "probe", "--run", identifier).stdout.decode().splitlines()
    assert any(line.split()[1:] == [identifier, "out", "out", "1"] for line in lines)
    assert "no run 999999" in cli.fails("log", "999999")
    assert "no app named 'nobody'" in cli.fails("log", "nobody")


def test_log_follows_a_run(cli):
    with cli.start("run", "probe", "wait", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as run:
        assert run.stdout.readline() == b"waiting\n"
        identifier = cli("ps", "-q").stdout.decode().split()[-1]
        with cli.start("log", "-f", identifier, stdout=subprocess.PIPE) as log:
            assert log.stdout.readline() == b"waiting\n"
            run.stdin.write(b"B")
            run.stdin.flush()
            assert log.stdout.readline() == b"got 66\n"
            assert log.wait(TIMEOUT) == 0
        assert run.wait(TIMEOUT) == 0


def test_env(cli):
    cli("create", "environment", cli.module)
    cli("env", "environment", "A=1", "B=x=y z", "C=")
    assert cli("env", "environment").stdout == b"A=1\nB=x=y z\nC=\n"
    assert cli("env", "environment", "B").stdout == b"x=y z\n"
    assert b"B=x=y z\n" in cli("run", "environment", "env").stdout
    cli("env", "environment", "--unset", "B")
    assert cli("env", "environment").stdout == b"A=1\nC=\n"
    cli.fails("env", "environment", "B")
    assert "can't be the name of a variable" in cli.fails("env", "environment", "../args=x")
    cli("env", "environment", "D=\x1b[2J")
    assert b"D=\\x1b[2J\n" in cli("env", "environment").stdout


# --- files ----------------------------------------------------------------------------------------


@pytest.fixture
def app(cli):
    cli("create", "filed", cli.module)
    yield "filed"
    cli("rm", "-r", "filed")


def test_files(cli, app, tmp_path):
    local = tmp_path / "a file"
    local.write_bytes(b"content")
    cli("cp", local, f"{app}:/dir/")
    cli("cp", local, f"{app}:/dir/b#?%.txt")
    cli("cp", "-", f"{app}:/dir/c", stdin=b"from a pipe")
    assert cli("ls", f"{app}:/dir").stdout == b"a file\nb#?%.txt\nc\n"
    assert cli("ls", app).stdout == b"dir/\n"
    assert cli("cat", f"{app}:/dir/b#?%.txt", f"{app}:/dir/c").stdout == b"contentfrom a pipe"
    cli("cp", f"{app}:/dir/c", tmp_path)
    assert (tmp_path / "c").read_bytes() == b"from a pipe"
    cli("cp", f"{app}:/dir/c", tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == b"from a pipe"
    assert cli("cp", f"{app}:/dir/c", "-").stdout == b"from a pipe"
    cli("mv", f"{app}:/dir/c", f"{app}:/e")
    assert cli("cat", f"{app}:/e").stdout == b"from a pipe"
    cli("mv", f"{app}:/e", f"{app}:/dir")
    assert cli("cat", f"{app}:/dir/e").stdout == b"from a pipe"
    cli("rm", f"{app}:/dir/e")
    assert "no such file" in cli.fails("cat", f"{app}:/dir/e")
    assert "is a directory" in cli.fails("rm", f"{app}:/dir")
    assert "is a directory" in cli.fails("cat", f"{app}:/dir")
    assert "is a directory" in cli.fails("cp", f"{app}:/dir", tmp_path / "x")
    assert not (tmp_path / "x").exists() and len(list(tmp_path.iterdir())) == 3
    cli("rm", "-r", f"{app}:/dir")
    assert cli("ls", f"{app}:/").stdout == b""


def test_a_json_file_is_no_directory(cli, app):
    cli("cp", "-", f"{app}:/x.json", stdin=b'[{"name":"trap"}]')
    assert cli("cat", f"{app}:/x.json").stdout == b'[{"name":"trap"}]'
    assert cli("ls", f"{app}:/x.json").stdout == b"filed:/x.json\n"
    cli("rm", f"{app}:/x.json")


def test_directories(cli, app, tmp_path):
    source = tmp_path / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "file").write_bytes(b"x" * 100_000)
    (source / "empty").mkdir()
    (source / "top").write_bytes(b"")
    (source / "link").symlink_to("deep/er/file")
    assert "is a directory" in cli.fails("cp", source, f"{app}:/")
    cli("cp", "-r", source, f"{app}:/")
    assert cli("ls", f"{app}:/source").stdout.decode().split() == ["deep/", "empty/", "link", "top"]
    cli("cp", "-r", f"{source}/.", f"{app}:/other")
    assert len(cli("cat", f"{app}:/other/link").stdout) == 100_000
    cli("cp", "-r", f"{app}:/source", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "er" / "file").read_bytes() == b"x" * 100_000
    assert (tmp_path / "back" / "empty").is_dir()
    assert os.readlink(tmp_path / "back" / "link") == "deep/er/file"
    cli("cp", "-r", f"{app}:/source/deep", tmp_path)
    assert (tmp_path / "deep" / "er" / "file").exists()
    cli("create", "second", cli.module)
    cli("cp", "-r", f"{app}:/source", "second:/copy")
    cli("cp", f"{app}:/source/deep/er/file", "second:/single")
    assert len(cli("cat", "second:/copy/deep/er/file", "second:/single").stdout) == 200_000


def test_paths_stay_within_the_files_of_the_app(cli, app):
    for command in (["rm", "-r", f"{app}:/.."], ["cat", f"{app}:/../config"],
                    ["mv", f"{app}:/x", f"{app}:/../../y"], ["ls", f"{app}:/a/../.."]):
        assert "'..' can't be used" in cli.fails(*command)
    assert app in cli("apps", "-q").stdout.decode().split()
    assert "is no path on an app" in cli.fails("cat", app)
    assert "is no path on an app" in cli.fails("ls", "UPPER:/x")


def test_rm_of_an_app(cli):
    cli("create", "doomed", cli.module)
    assert "rm -r doomed" in cli.fails("rm", "doomed")
    cli("rm", "-r", "doomed")
    assert "doomed" not in cli("apps", "-q").stdout.decode().split()
    assert "no app named 'doomed'" in cli.fails("rm", "-r", "doomed")


# --- open ---------------------------------------------------------------------------------------


def test_open(cli, server):
    cli("create", "a_page", cli.module)
    assert cli("open", "--print", "a_page").stdout.decode() == (
        f"http://a-page.localhost:{server.port}/\n")
    assert cli("open", "a_page").stdout.decode().endswith(".localhost:%d/\n" % server.port)
    assert "no app named 'nobody'" in cli.fails("open", "nobody")
    server.client.put("/apps/a_page/config", b'{"web": "off"}')
    assert "'web' is 'off'" in cli.fails("open", "a_page")


def test_open_elsewhere(build):
    url = serve_answers(answer(b"name: x\nweb: public\n", content_type="text/plain"))
    printed = Cli(build / "0asm", url + "/cloud")("open", "x").stdout.decode()
    assert printed == f"{url}/cloud/web/x/\n"
