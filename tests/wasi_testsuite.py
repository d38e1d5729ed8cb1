#!/usr/bin/env python3
"""Runs the programs of the public WASI test suite (preview 1) on a server, over HTTP.

    tests/wasi_testsuite.py DIRECTORY --server http://127.0.0.1:8080 [--only WORDS]

DIRECTORY is a checkout of https://github.com/WebAssembly/wasi-testsuite, branch
prod/testsuite-base (the one that has the programs compiled). A program NAME.wasm may have a
description NAME.json beside it (doc/specification.md there): `args`, `env`, `root` (a directory
beside it that the program shall find at "/"), `stdout`, `stderr` and `exit_code`.

Each program becomes an app of its own with files of its own: `root` is sent as a tar and unpacked
at the top of the app's files, which is where its only preopened directory, "/", points. So nothing
of one test is seen by another and no test has to clean up.
"""

import argparse
import hashlib
import io
import json
import pathlib
import sys
import tarfile
import urllib.parse

from support.client import Client

VERSION = "wasm32-wasip1"
KNOWN_KEYS = {"args", "env", "root", "stdout", "stderr", "exit_code"}


class Case:
    """One program with what is expected of it."""

    def __init__(self, wasm):
        self.wasm = pathlib.Path(wasm)
        # tests/LANGUAGE/testsuite/wasm32-wasip1/NAME.wasm
        self.name = f"{self.wasm.parts[-4]}/{self.wasm.stem}"
        description = self.wasm.with_suffix(".json")
        config = json.loads(description.read_text()) if description.exists() else {}
        unknown = set(config) - KNOWN_KEYS
        if unknown:
            raise ValueError(f"{description}: not understood: {', '.join(sorted(unknown))}")
        self.arguments = config.get("args", [])
        self.environment = config.get("env", {})
        self.root = self.wasm.parent / config["root"] if config.get("root") else None
        self.stdout = config.get("stdout")
        self.stderr = config.get("stderr")
        self.exit_code = config.get("exit_code", 0)

    @property
    def app(self):
        """An app's name: short, and different for each program."""
        key = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        letters = "".join(c if c.isalnum() else "-" for c in self.name.lower())
        return f"{letters[:50]}-{key}"

    def __repr__(self):
        return self.name


def find_cases(directory):
    """All programs of preview 1, in a stable order."""
    pattern = f"tests/*/testsuite/{VERSION}/*.wasm"
    return [Case(path) for path in sorted(pathlib.Path(directory).glob(pattern))]


def pack(directory):
    """A tar of what is in a directory, but not what earlier test runs of others have left there."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory)
            if not any(part.endswith(".cleanup") for part in name.parts):
                archive.add(path, str(name), recursive=False)
    return data.getvalue()


def run_case(client, case):
    """Uploads, fills and runs. Returns what is wrong, a list of sentences: empty if it passed."""
    response = client.post("/create", case.wasm.read_bytes(), query={"name": case.app})
    if response.status not in (200, 201):
        return [f"/create answered {response!r}"]
    if case.root is not None:
        response = client.put(f"/apps/{case.app}/files/?unpack", pack(case.root))
        if response.status not in (200, 201, 204):
            return [f"the files were refused: {response!r}"]
    query = [("name", case.app)]
    query += [("arg", argument) for argument in case.arguments]
    query += [("env", f"{key}={value}") for key, value in case.environment.items()]
    response = client.post("/run", query=query, headers={"Accept": "application/json"})
    if response.status != 200:
        return [f"/run answered {response!r}"]
    result = response.json()
    wrong = []
    if result["reason"] != "exit":
        wrong.append(f"it ended by '{result['reason']}'")
    if result["exit"] != case.exit_code:
        wrong.append(f"exit code {result['exit']} in place of {case.exit_code}")
    for stream, expected in (("stdout", case.stdout), ("stderr", case.stderr)):
        if expected is not None and result.get(stream) != expected:
            wrong.append(f"{stream} is {result.get(stream)!r} in place of {expected!r}")
    if wrong:
        wrong += [f"{stream}: {result[stream]!r}" for stream in ("stdout", "stderr")
                  if result.get(stream)]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", help="a checkout of wasi-testsuite, prod/testsuite-base")
    parser.add_argument("--server", default="http://127.0.0.1:8080", metavar="URL")
    parser.add_argument("--only", default="", metavar="WORDS", help="of a program's name")
    options = parser.parse_args()
    address = urllib.parse.urlsplit(options.server)
    client = Client(address.hostname, address.port or 80)
    cases = [case for case in find_cases(options.directory) if options.only in case.name]
    if not cases:
        sys.exit(f"no programs in {options.directory}; is it the branch prod/testsuite-base?")
    failed = 0
    for case in cases:
        wrong = run_case(client, case)
        failed += bool(wrong)
        print(f"{'FAIL' if wrong else 'ok  '} {case.name}", *wrong, sep="\n     ")
    print(f"{len(cases) - failed} of {len(cases)} passed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
