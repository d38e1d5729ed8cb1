"""The public WASI test suite, preview 1, through HTTP: one test a program.

The programs are not part of this repository: say where they are with --wasi-testsuite DIRECTORY or
$WASI_TESTSUITE (see wasi_testsuite.py). Without them, the tests at the end still show that the
adapter tells passing from failing, with a suite of their own.
"""

import json

import pytest

from wasi_testsuite import find_cases, run_case

PROGRAMS = 72  # that the suite has for preview 1


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        directory = metafunc.config.getoption("--wasi-testsuite")
        cases = find_cases(directory) if directory else []
        metafunc.parametrize("case", cases, ids=repr)


def test_program(client, case):
    wrong = run_case(client, case)
    assert not wrong, "\n".join([f"{case.name}:", *wrong])


def test_all_programs_are_found(pytestconfig):
    directory = pytestconfig.getoption("--wasi-testsuite")
    if not directory:
        pytest.skip("no --wasi-testsuite")
    assert len(find_cases(directory)) >= PROGRAMS


# ---- the adapter itself ----

EVERYTHING = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    char word[32] = "";
    FILE *file = fopen("/inner/file", "r");
    if (!file || !fgets(word, sizeof word, file)) return 1;
    if (fopen("/left.cleanup", "r")) return 2;
    if (argc != 3 || strcmp(argv[1], "one") || strcmp(argv[2], "a \"b\" & c\n")) return 3;
    const char *value = getenv("KEY");
    if (!value || strcmp(value, "x = y")) return 4;
    FILE *out = fopen("/made", "wx"); /* fails if an earlier run's files are seen */
    if (!out || fclose(out)) return 5;
    printf("found %s", word);
    fprintf(stderr, "warned");
    return 33;
}
"""

GOOD = {"args": ["one", "a \"b\" & c\n"], "env": {"KEY": "x = y"}, "root": "files.dir",
        "stdout": "found word", "stderr": "warned", "exit_code": 33}


@pytest.fixture
def suite(tmp_path, guests):
    """A function that adds a program with its description to a small suite."""
    directory = tmp_path / "tests" / "c" / "testsuite" / "wasm32-wasip1"
    (directory / "files.dir" / "inner").mkdir(parents=True)
    (directory / "files.dir" / "inner" / "file").write_text("word")
    (directory / "files.dir" / "left.cleanup").write_text("of an earlier run")

    def add(name, description=None, text=EVERYTHING):
        (directory / f"{name}.wasm").write_bytes(guests.c_text(text))
        if description is not None:
            (directory / f"{name}.json").write_text(json.dumps(description))

    add.path = tmp_path
    return add


def outcomes(client, suite):
    return {case.name: run_case(client, case) for case in find_cases(suite.path)}


def test_adapter_passes_what_is_right(client, suite):
    suite("everything", GOOD)
    suite("everything-again", GOOD)
    suite("undescribed", text="int main(void) { return 0; }")
    assert outcomes(client, suite) == {"c/everything": [], "c/everything-again": [],
                                       "c/undescribed": []}


@pytest.mark.parametrize("change,words", [
    ({"exit_code": 0}, "exit code 33 in place of 0"),
    ({"stdout": "found words"}, "stdout is 'found word' in place of 'found words'"),
    ({"stderr": ""}, "stderr is 'warned' in place of ''"),
    ({"args": ["one"]}, "exit code 3 in place of 33"),
    ({"env": {}}, "exit code 4 in place of 33"),
    ({"root": None}, "exit code 1 in place of 33"),
])
def test_adapter_reports_what_is_wrong(client, suite, change, words):
    suite(f"wrong-{next(iter(change))}", {**GOOD, **change})
    [wrong] = outcomes(client, suite).values()
    assert words in wrong, wrong


def test_adapter_reports_traps_and_refusals(client, suite):
    suite("trap", text="int main(void) { __builtin_trap(); }")
    suite("refused")
    refused = next(suite.path.rglob("refused.wasm"))
    refused.write_bytes(refused.read_bytes()[:100])
    results = outcomes(client, suite)
    assert "it ended by 'trap'" in results["c/trap"]
    assert results["c/refused"][0].startswith("/create answered <422")


def test_adapter_does_not_pass_over_what_it_does_not_know(suite):
    suite("newer", {"operations": []})
    with pytest.raises(ValueError, match="operations"):
        find_cases(suite.path)
