"""`0asm completion bash` and `zsh`, in the shells; the manual page; `0asm health`."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

TIMEOUT = 120

# What readline does: the words of a line, cut at COMP_WORDBREAKS, too.
BASH = r"""
source "$1"
COMP_LINE=$2 COMP_POINT=${#2}
read -r -a COMP_WORDS <<<"$(printf '%s' "$2" | sed 's/[:=]/ & /g')"
[[ $2 == *[[:space:]:=] ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_0asm
((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}"
"""

# zsh's own functions are replaced by some that print.
ZSH = r"""
compdef() { :; }
compset() { PREFIX=${PREFIX#*=}; }
compadd() {
    while [[ $1 != -- ]]; do shift; done
    shift
    local reply
    for reply; do [[ $reply == "$PREFIX"* ]] && print -r -- "$reply"; done
    return 0
}
_files() { print -r -- "(files $*)"; }
source "$1"
words=(${(z)2})
[[ $2 == *' ' ]] && words+=("")
CURRENT=${#words}
PREFIX=${words[CURRENT]}
_0asm
return 0
"""


@pytest.fixture(scope="module")
def environment(server):
    environment = {name: value for name, value in os.environ.items() if name != "ZASM_TOKEN"}
    environment.update(ZASM_SERVER=server.url,
                       PATH=f"{server.binary.parent.resolve()}:{environment['PATH']}")
    return environment


@pytest.fixture(scope="module")
def app(server, guests, environment):
    for name in ("first_app", "further"):
        response = server.client.post(f"/create?name={name}", guests.c("first"))
        assert response.status == 201, response
    for path in ("notes.txt", "data/one", "data/with%20space"):
        assert server.client.put(f"/apps/first_app/files/{path}", b"x").status < 300


@pytest.fixture(params=["bash", "zsh"])
def complete(request, server, environment, tmp_path):
    shell = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = tmp_path / "completion"
    script.write_bytes(subprocess.run([server.binary, "completion", shell], check=True,
                                      capture_output=True).stdout)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "local.wasm").write_bytes(b"")

    def run(line, separately=False, **further):
        """What may take the place of the last word. In bash, what follows its last ':' or '='."""
        result = subprocess.run([shell, "-c", BASH if shell == "bash" else ZSH, shell, script, line],
                                env={**environment, **further}, cwd=tmp_path / "here",
                                capture_output=True, text=True, timeout=TIMEOUT)
        assert result.returncode == 0 and result.stderr == "", result
        replies = set(result.stdout.splitlines())
        if separately and shell == "bash":
            before = re.match(r".*[:=]", line.split()[-1])
            replies = {(before[0] if before else "") + reply for reply in replies}
        return replies

    run.shell = shell
    return run


def test_commands(complete):
    assert {"serve", "run", "create", "help"} <= complete("0asm ")
    assert complete("0asm comple") == {"completion"}
    assert complete("0asm nosuch x") == set()
    assert complete("0asm help com") == {"completion"}
    assert complete("0asm completion ") == {"bash", "zsh"}


def test_names_of_apps(complete, app):
    assert complete("0asm show ") == {"first_app", "further"}
    assert complete("0asm show fi") == {"first_app"}
    assert complete("0asm show first_app ") == set()
    assert complete("0asm run --memory 64MiB fu") == {"further"}
    assert complete("0asm run --memory fu") == set()
    assert complete("0asm run -- fu") == {"further"}


def test_options_and_their_values(complete, app):
    assert {"--memory", "--root", "--server", "--help"} <= complete("0asm run --")
    assert complete("0asm apps -") == {"-q", "--quiet", "--server", "--help"}
    assert complete("0asm run --ro") == {"--root"}
    assert complete("0asm run --root ") == {"keep", "fresh", "ro"}
    assert "--detached-wall" in complete("0asm serve --deta")
    values = complete("0asm run --root=f")
    assert values == {"fresh"}  # the shells have what stands before it


def test_runs(complete, server, app):
    answer = server.client.post("/run?name=first_app&detach&stdin=open")
    identifier = answer.headers["run-id"]
    try:
        assert identifier in complete("0asm kill ")
        assert {identifier, "first_app"} <= complete("0asm log ")
    finally:
        server.client.put(f"/proc/{identifier}/ctl", b"kill\n")


def test_files_of_apps(complete, app):
    assert complete("0asm cat fi") == {"first_app:/"}
    assert complete("0asm cat first_app:/", True) == {"first_app:/notes.txt", "first_app:/data/"}
    assert complete("0asm cat first_app:/data/o", True) == {"first_app:/data/one"}
    assert complete("0asm cat first_app:/x first_app:/data/o", True) == {"first_app:/data/one"}
    spaced = complete("0asm cat first_app:/data/w", True)
    assert spaced == {r"first_app:/data/with\ space" if complete.shell == "bash"
                      else "first_app:/data/with space"}


def test_files_of_this_machine(complete, app):
    expected = {"local.wasm"} if complete.shell == "bash" else {"(files )"}
    assert complete("0asm create new ") == expected
    assert complete("0asm cp ") == expected | {"first_app:/", "further:/"}


def test_without_a_server(complete):
    nobody = {"ZASM_SERVER": "http://127.0.0.1:1"}
    assert complete("0asm show ", **nobody) == set()
    assert "--memory" in complete("0asm run --", **nobody)


def test_completion_misused(server):
    for arguments in ([], ["fish"], ["bash", "zsh"]):
        result = subprocess.run([server.binary, "completion", *arguments], capture_output=True,
                                text=True)
        assert result.returncode == 2 and result.stderr.startswith("error: "), result


# --- the manual page --------------------------------------------------------------------------


def manual(binary):
    return subprocess.run([binary, "docs", "man"], check=True, capture_output=True, text=True).stdout


def test_manual_page_has_every_command_and_option(server):
    page = manual(server.binary)
    help_text = subprocess.run([server.binary, "help"], check=True, capture_output=True,
                               text=True).stdout
    for command in re.findall(r"^  (\w+) ", help_text, re.M):
        assert f"\n.SS {command.upper()}\n.B 0asm {command}\n" in page
    serve = subprocess.run([server.binary, "serve", "--help"], check=True, capture_output=True,
                           text=True).stdout
    for option in re.findall(r"^  --([\w-]+)", serve, re.M):
        assert "\\-\\-" + option.replace("-", "\\-") in page


def test_manual_page_is_clean_roff(server, tmp_path):
    page = manual(server.binary)
    macros = {line.split()[0] for line in page.splitlines() if line.startswith(".")}
    assert macros <= {'.\\"', ".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".I", ".BR", ".RI", ".BI",
                      ".EX", ".EE"}, macros
    assert page.count("\n.EX\n") == page.count("\n.EE\n")
    assert not re.search(r"\\(?![-e&(\"])", page), "an escape that is none of ours"
    if shutil.which("man") and shutil.which("groff"):
        path = tmp_path / "0asm.1"
        path.write_text(page)
        result = subprocess.run(["man", "--warnings", "-l", path], capture_output=True, text=True,
                                env={**os.environ, "LC_ALL": "C.UTF-8", "MANPAGER": "cat"})
        assert result.returncode == 0 and result.stderr == "", result.stderr
        assert "a WebAssembly cloud" in result.stdout


# --- health -----------------------------------------------------------------------------------


def test_health(server, environment):
    result = subprocess.run([server.binary, "health"], env=environment, capture_output=True,
                            text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "ok\n", "")


def test_health_needs_no_token(make_server):
    server = make_server(listen="0.0.0.0:0", environment={"ZASM_TOKEN": "x" * 32})
    url = f"http://127.0.0.1:{server.port}"
    clean = {name: value for name, value in os.environ.items() if name != "ZASM_TOKEN"}
    result = subprocess.run([server.binary, "health", "--server", url], env=clean,
                            capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "ok\n"), result


def test_health_of_nobody(server):
    result = subprocess.run([server.binary, "health", "--server", "http://127.0.0.1:1"],
                            capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
