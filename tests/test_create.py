"""POST /create: what is taken, what is refused and with which words, names, options, updates."""

import gzip
import io
import json
import os
import pathlib
import re
import signal
import socket
import tarfile

import pytest

from support.modules import module, wat_empty, wat_numbered, wat_print
from support.state import names_in

EMPTY = wat_empty()


def create(client, name, body=EMPTY, headers=None, **options):
    query = [("name", name)]
    for key, value in options.items():
        query += [(key, item) for item in (value if isinstance(value, list) else [value])]
    return client.post("/create", body, query=query, headers=headers)


def config(client, name):
    return client.get(f"/apps/{name}/config").json()


def info(client, name):
    text = client.get(f"/apps/{name}/info").text
    return dict(line.split(": ", 1) for line in text.splitlines())


# --- what is uploaded ---------------------------------------------------------------------------


def test_a_new_app(client, server):
    response = create(client, "first")
    assert response.status == 201
    assert "first: version 1 is online" in response.text
    assert f"http://{server.host}:{server.port}/run?name=first" in response.text
    assert client.run("first").trailers["run-exit"] == "0"
    assert client.get("/apps/first/module").body == EMPTY


def test_a_binary_module(client, guests):
    binary = guests.c("probe")
    assert create(client, "binary", binary).status == 201
    assert client.run("binary", "args", "x").text == "binary\nargs\nx\n"
    assert client.get("/apps/binary/module").body == binary


def test_text_behind_comments(client):
    text = b"\n;; a comment\n(; another\n one ;)\n" + EMPTY
    assert create(client, "commented", text).status == 201


def test_the_answer_as_json(client):
    response = create(client, "as_json", headers={"Accept": "application/json"})
    answer = response.json()
    assert response.status == 201
    assert answer["name"] == "as_json" and answer["version"] == 1 and answer["created"] is True
    assert answer["bytes"] == len(EMPTY) and len(answer["sha256"]) == 64
    assert answer["library"] is False


FOREIGN = {
    "component": (b"\0asm\x0d\0\1\0" + bytes(20), "wasm32-wasip1"),
    "component text": (b"(component)", "core module"),
    "wasm-bindgen": (module(imports=[("wbg", "__wbg_log_1", "func")], exports=["main"]),
                     "wasm-bindgen"),
    "Go for a browser": (module(imports=[("gojs", "runtime.wasmExit", "func")], exports=["run"]),
                         "GOOS=wasip1"),
    "Emscripten": (module(imports=[("env", "emscripten_resize_heap", "func")], exports=["main"]),
                   "STANDALONE_WASM"),
    "wasi-threads": (module(imports=[("wasi", "thread-spawn", "func")], exports=["_start"]),
                     "wasi-threads"),
    "imports a memory": (module(imports=[("env", "memory", "memory")], exports=["_start"]),
                         "env.memory"),
    "exports nothing": (module(), "neither _start nor any other function"),
    "ELF": (b"\x7fELF\2\1\1" + bytes(50), "clang --target=wasm32-wasi"),
    "PE": (b"MZ\x90\0" + bytes(50), "Windows"),
    "Mach-O": (b"\xcf\xfa\xed\xfe" + bytes(50), "macOS"),
    "ar": (b"!<arch>\nfoo", "static library"),
    "LLVM bitcode": (b"BC\xc0\xde" + bytes(50), "bitcode"),
    "zip": (b"PK\x03\x04" + bytes(50), "zip"),
    "xz": (b"\xfd7zXZ\0" + bytes(50), "xz"),
    "bzip2": (b"BZh91AY&SY" + bytes(50), "bzip2"),
    "HTML": (b"<!DOCTYPE html><html><body>404", "web page"),
    "JSON": (b'{"error": "not found"}', "JSON"),
    "a file's name": (b"@first.wasm", "--data-binary"),
    "curl -d": (b"asm\x01" + bytes(30), "--data-binary"),
    "C source": (b"#include <stdio.h>\nint main(void) { return 0; }\n", "clang"),
    "Rust source": (b"fn main() {}\n", "rustc"),
    "Go source": (b"package main\n", "GOOS=wasip1"),
    "Python source": (b"print('hello')\n", "Python"),
    "a shell script": (b"#!/bin/sh\nls\n", "shell"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(30), "PNG"),
    "an SQLite database": (b"SQLite format 3\0" + bytes(84), "SQLite"),
    "noise": (bytes(range(200, 256)) * 4, "does not begin with \\0asm"),
    "empty": (b"", "empty"),
    "one byte": (b"\0", "ends after 1 bytes"),
    "only the magic": (b"\0asm", "ends after 4 bytes"),
    "only the head": (b"\0asm\1\0\0\0", "neither _start"),
    "another version": (b"\0asm\2\0\0\0" + bytes(8), "version that does not exist"),
    "an unknown section": (b"\0asm\1\0\0\0\x7f\x01\0", "section number"),
    "text with an error": (b'(module (func (export "_start") (i32.add)))', "i32"),
    "text that stops": (b"(module (func", "expected `)`"),
    "a type error": (module(exports=["_start"], body=b"\x41\x00\x0b"), "type mismatch"),
    "memory64": (b'(module (memory i64 1) (func (export "_start")))', "wasm32"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_no_program_is_refused(client, server, name):
    body, words = FOREIGN[name]
    response = create(client, "foreign", body)
    assert 400 <= response.status < 500, response
    assert response.text.startswith("error: ")
    assert words in response.text, response
    assert client.get("/apps/foreign").status == 404
    problem = create(client, "foreign", body, headers={"Accept": "application/json"})
    assert problem.headers["content-type"] == "application/problem+json"
    assert problem.json()["status"] == problem.status == response.status
    assert words in problem.json()["detail"]


def test_nothing_is_left_of_refusals(client, server, eventually):
    for body, _ in FOREIGN.values():
        create(client, "foreign", body)
    eventually(lambda: not names_in(server.state / "tmp"))
    known = {create(client, "known", headers={"Accept": "application/json"}).json()["sha256"]}
    stored = {path.stem for path in (server.state / "modules").iterdir()}
    assert known <= stored
    import hashlib
    for body, _ in FOREIGN.values():
        if create(client, "other_foreign", body).status >= 400:
            assert hashlib.sha256(body).hexdigest() not in stored


def test_cut_off_modules(client, guests, server):
    """At every byte of a small module: never taken, never a 5xx."""
    whole = module(imports=[("wasi_snapshot_preview1", "proc_exit", "func_i32")],
                   exports=["_start"], body=b"\x41\x00\x10\x00\x0b")
    assert create(client, "whole", whole).status == 201
    for length in range(1, len(whole)):
        response = create(client, "cut", whole[:length])
        assert 400 <= response.status < 500, (length, response)
    assert client.get("/apps/cut").status == 404


def test_damaged_modules(client, guests):
    """A flipped byte anywhere: an error of the caller's, or a module that is taken."""
    whole = bytearray(module(imports=[("wasi_snapshot_preview1", "proc_exit", "func_i32")],
                             exports=["_start"], body=b"\x41\x00\x10\x00\x0b"))
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xff
        assert create(client, "damaged", bytes(damaged)).status < 500, place


def test_gzip_is_unpacked_by_nobody(client):
    response = create(client, "zipped", gzip.compress(EMPTY))
    assert response.status in (400, 422), response
    assert "gzip" in response.text or "app.wasm" in response.text


def test_unknown_imports_are_named(client):
    body = (b'(module (import "env" "first" (func)) (import "env" "second" (func (param i32)))'
            b'(func (export "_start") call 0))')
    response = create(client, "unknown", body)
    assert response.status == 201
    assert "2 imported functions" in response.text
    assert "env.first\n" in response.text and "env.second\n" in response.text
    assert "unknown: env.first\n" in client.get("/apps/unknown/info").text
    answer = create(client, "unknown", body, headers={"Accept": "application/json"}).json()
    assert answer["unknown_imports"].split() == ["env.first", "env.second"]
    result = client.run_json("unknown")
    assert result["reason"] == "trap" and "env.first" in result["stderr"]


ADD = (b'(module (func (export "add") (param i32 i32) (result i32)'
       b' local.get 0 local.get 1 i32.add)'
       b' (func (export "half") (param f64) (result f64) local.get 0 f64.const 2 f64.div))')


def test_a_library(client):
    response = create(client, "library", ADD)
    assert response.status == 201
    assert "add(i32, i32) -> i32" in response.text or "add(i32 i32) -> i32" in response.text
    assert "call=add" in response.text
    assert client.run("library", "2", "3", call="add").text == "5\n"
    assert client.run("library", "-1", "1", call="add").text == "0\n"
    assert client.run("library", "3", call="half").text == "1.5\n"


@pytest.mark.parametrize("arguments,options,words", [
    (["1"], {"call": "add"}, "takes 2 arguments"),
    (["1", "2", "3"], {"call": "add"}, "takes 2 arguments"),
    (["1", "two"], {"call": "add"}, "'two', is not an i32"),
    (["1", "2"], {"call": "sub"}, "'sub'"),
    ([], {}, "call="),
])
def test_calls_that_can_not_be(client, arguments, options, words):
    create(client, "library", ADD)
    response = client.run("library", *arguments, **options)
    assert 400 <= response.status < 500, response
    assert words in response.text


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "a-b_c", "x" * 63, "1st"])
def test_names(client, name):
    assert create(client, name).status in (200, 201)
    assert client.run(name).trailers["run-exit"] == "0"


@pytest.mark.parametrize("name", [
    "", "x" * 64, "A", "a b", "a/b", "..", ".", "-a", "_a", "é", "a.b", "a\0b", "a\nb", "a%", "self "])
def test_bad_names(client, name):
    response = create(client, name)
    assert response.status == 400, response
    assert "name" in response.text or "query" in response.text


def test_a_name_is_needed(client):
    response = client.post("/create", EMPTY)
    assert response.status == 400 and "name=NAME" in response.text


def test_dash_and_underscore_are_the_same(client):
    assert create(client, "one-app").status == 201
    response = create(client, "one_app")
    assert response.status == 200
    assert client.run("one_app").status == 200 and client.run("one-app").status == 200
    assert client.get("/apps").text.splitlines().count("one-app/") == 1


# --- options ------------------------------------------------------------------------------------

GOOD = {
    "web": ["off", "private", "public"],
    "serve": ["cgi", "listen"],
    "memory": ["64KiB", "1MiB", "4GiB"],
    "wall": ["1ms", "10s", "1d"],
    "cpu": ["50ms", "30s"],
    "output": ["1", "1MiB"],
    "disk": ["10MiB"],
    "files": ["1", "1000"],
    "tmp": ["1MiB"],
    "open_files": ["8", "256"],
    "max_runs": ["1", "5"],
    "queue": ["1", "10"],
    "instances": ["1", "3", "0..2"],
    "env": ["A=1", "A=", "A=b=c"],
    "mount": ["data:/data", "data:/data:ro"],
    "net": ["none", "public", "example.org", "*.example.org:443", "[2001:db8::1]:80"],
}
BAD = {
    "web": ["yes", "PUBLIC"],
    "serve": ["fastcgi"],
    "memory": ["1", "lots", "5GiB", "-1MiB", "1MB2"],
    "wall": ["0", "x", "1us", "40d"],
    "cpu": ["0s", "-1s"],
    "output": ["0", "big"],
    "disk": ["0"],
    "files": ["0", "1.5"],
    "tmp": ["0"],
    "open_files": ["7", "65537"],
    "max_runs": ["0", "-1"],
    "queue": ["-1"],
    "instances": ["0", "3..1", "0..0", "1..", "..2", "1..1001", "1-3"],
    "env": ["A", "=1"],
    "mount": ["data", "data:relative", "data:/a:rw", "/data:/a", "data:/..", "data:/a/../b"],
    "net": ["http://x/", "a b", "x:0", "x:70000"],
}


@pytest.mark.parametrize("key,value", [(k, v) for k, values in GOOD.items() for v in values])
def test_good_options(client, key, value):
    response = create(client, "options", **{key: value})
    assert response.status in (200, 201), response
    shown = config(client, "options")
    stored = shown[{"mount": "mounts"}.get(key, key)]
    if key == "env":
        name, _, text = value.partition("=")
        assert stored == {name: text}
    elif key in ("mount",):
        assert stored == [value]
    elif key == "net":
        assert stored in (value, [value])
    else:
        assert str(stored) in (value, "24h" if value == "1d" else value)


@pytest.mark.parametrize("key,value", [(k, v) for k, values in BAD.items() for v in values])
def test_bad_options(client, key, value):
    create(client, "kept")
    before = info(client, "kept")
    response = create(client, "kept", **{key: value})
    assert response.status == 400, response
    assert key in response.text
    assert info(client, "kept") == before


@pytest.mark.parametrize("root", ["keep", "fresh", "ro"])
def test_a_time_to_live_is_for_a_volume_by_name(client, root):
    response = create(client, f"short-{root}", root=root, ttl="1h")
    assert response.status == 400 and f"root={root}" in response.text
    assert client.get(f"/apps/short-{root}").status == 404
    create(client, "short", root="sessions", ttl="1h")
    body = f'{{"root": "{root}", "ttl": "1h"}}'.encode()
    assert client.put("/apps/short/config", body).status == 400
    assert config(client, "short")["root"] == "sessions"


def test_unknown_options(client):
    response = create(client, "kept", memry="1MiB")
    assert response.status == 400 and "memry" in response.text and "memory" in response.text


def test_an_option_given_twice(client):
    response = create(client, "twice", memory=["1MiB", "2MiB"])
    assert response.status == 400 and "memory" in response.text


def test_arguments_and_environment_are_used(client, guests):
    probe = guests.c("probe")
    create(client, "defaults", probe, arg=["args", "a b", ""], env=["A=1", "B=2"])
    assert client.run("defaults").text == "defaults\nargs\na b\n\n"
    assert client.run("defaults", "args", "c").text == "defaults\nargs\nc\n"
    assert {"A=1", "B=3", "C=4"} <= set(
        client.run("defaults", "env", env=["B=3", "C=4"]).text.splitlines())


def test_limits_hold(client, guests):
    create(client, "limited", guests.c("probe"), cpu="50ms", memory="16MiB")
    assert client.run_json("limited", "spin")["reason"] == "cpu"
    assert client.run_json("limited", "eat", str(64 << 20))["exit"] != 0


# --- updates ------------------------------------------------------------------------------------


def test_update(client):
    assert create(client, "update", wat_numbered(1)).status == 201
    response = create(client, "update", wat_numbered(2))
    assert response.status == 200 and "version 2 is online" in response.text
    assert client.get("/apps/update/versions/").text.split() == ["1/", "2/"]
    assert client.get("/apps/update/versions/1/module").body == wat_numbered(1)
    assert client.get("/apps/update/module").body == wat_numbered(2)
    assert client.run("update").trailers["run-exit"] == "2"
    assert client.run("update", version="1").trailers["run-exit"] == "1"


def test_options_given_replace_their_set_and_others_stay(client):
    create(client, "sets", env=["A=1", "B=2"], arg=["x", "y"], memory="2MiB", mount="data:/data")
    create(client, "sets", env=["C=3"])
    assert config(client, "sets") == {"env": {"C": "3"}, "args": ["x", "y"], "memory": "2MiB",
                                      "mounts": ["data:/data"]}
    create(client, "sets", arg="z", memory="3MiB")
    assert config(client, "sets") == {"env": {"C": "3"}, "args": ["z"], "memory": "3MiB",
                                      "mounts": ["data:/data"]}
    create(client, "sets", env="", memory="")
    assert config(client, "sets") == {"env": {}, "args": ["z"], "mounts": ["data:/data"]}


def test_files_stay_at_an_update(client, guests):
    create(client, "files_stay", guests.c("probe"))
    client.put("/apps/files_stay/files/note", b"kept")
    create(client, "files_stay", guests.c("probe", "-DOTHER"))
    assert client.run("files_stay", "get", "/note").text == "kept"


def test_new_refuses_to_replace(client):
    assert create(client, "only_new", new="").status == 201
    response = create(client, "only_new", wat_numbered(9), new="")
    assert response.status == 409
    assert "already" in response.text and "new" in response.text
    assert info(client, "only_new")["version"] == "1"


def test_a_refused_update_changes_nothing(client):
    create(client, "steady", wat_numbered(3), env="A=1")
    before = info(client, "steady")
    for body in (b"junk", b"", wat_numbered(4) + b")"):
        assert create(client, "steady", body, env="B=2").status >= 400
    assert info(client, "steady") == before
    assert config(client, "steady") == {"env": {"A": "1"}}
    assert client.run("steady").trailers["run-exit"] == "3"


def test_the_same_module_is_compiled_once(client, server):
    compiled = next((server.state / "compiled").iterdir())
    text = wat_print("compiled once")
    create(client, "once", text)
    key = info(client, "once")["sha256"]
    before = (compiled / f"{key}.cwasm").stat()
    for name in ("once", "once_more"):
        response = create(client, name, text)
        assert "compiled before" in response.text
    after = (compiled / f"{key}.cwasm").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert client.run("once_more").text == "compiled once"


# --- the upload itself --------------------------------------------------------------------------


def test_progress_as_events(client):
    response = create(client, "events", headers={"Accept": "application/x-ndjson"})
    assert response.status == 200
    events = response.lines()
    assert events[0] == {"event": "received", "bytes": len(EMPTY)}
    assert events[-1]["event"] == "done" and events[-1]["version"] == 1
    assert events[-1]["created"] is True


def test_a_failure_as_an_event(client):
    events = create(client, "events2", b"junk", headers={"Accept": "application/x-ndjson"}).lines()
    assert events[-1]["event"] == "error" and events[-1]["status"] == 422
    assert "WebAssembly" in events[-1]["detail"]


def test_chunked(client):
    with client.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(client.head("POST", "/create?name=chunked", b"", {
            "Content-Length": None, "Transfer-Encoding": "chunked"}))
        for byte in EMPTY:
            connection.sendall(b"1\r\n" + bytes([byte]) + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert b" 201 " in stream.readline()
    assert client.get("/apps/chunked/module").body == EMPTY


@pytest.fixture(scope="module")
def small_server(build, tmp_path_factory):
    from conftest import Server
    state = tmp_path_factory.mktemp("state") / "state"
    running = Server(build, state, "--upload", "64KiB", "--module", "16KiB").start()
    yield running
    assert running.stop() == 0


def test_too_large_by_its_length(small_server):
    """Refused by the head alone: not a byte of the body is waited for."""
    client = small_server.client
    with client.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(client.head("POST", "/create?name=large", b"", {
            "Content-Length": str(1 << 30)}))
        assert b" 413 " in stream.readline()
    assert not names_in(small_server.state / "tmp")


def test_too_large_in_chunks(small_server, eventually):
    client = small_server.client
    piece = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
    with client.connect() as connection, connection.makefile("rb") as stream:
        connection.sendall(client.head("POST", "/create?name=large", b"", {
            "Content-Length": None, "Transfer-Encoding": "chunked"}))
        for _ in range(10):
            connection.sendall(piece)
        connection.sendall(b"0\r\n\r\n")
        assert b" 413 " in stream.readline()
    eventually(lambda: not names_in(small_server.state / "tmp"))


@pytest.mark.parametrize("size,status", [(64 << 10, 201), ((64 << 10) + 1, 413)])
def test_exactly_the_limit(small_server, size, status):
    text = b";;" + b"-" * (size - 3 - len(EMPTY)) + b"\n" + EMPTY
    assert len(text) == size
    response = create(small_server.client, "exact", text)
    expected = status if status == 413 else 413  # a module may have 16 KiB here
    assert response.status == expected, response


def test_too_large_for_a_module(small_server):
    text = b";;" + b"-" * (20 << 10) + b"\n" + EMPTY
    response = create(small_server.client, "exact", text)
    assert response.status == 413 and "16384" in response.text
    assert create(small_server.client, "exact", EMPTY).status == 201


def test_refused_while_stopping(make_server, guests, eventually):
    server = make_server("--grace", "60s")
    client = server.client
    create(client, "probe", guests.c("probe"))
    # An attached run keeps the server from ending; a connection that is open already still works.
    run, run_stream = client.open("POST", "/run?name=probe&arg=wait&detach&stdin=open")
    identifier = run_stream.read().split(b"\r\n\r\n")[1].strip().decode()
    late, late_stream = client.connect(), None
    late_stream = late.makefile("rb")
    late.sendall(client.head("GET", "/healthz", headers={"Connection": "keep-alive"}))
    from support.client import read_response
    assert read_response(late_stream).status == 200
    server.process.send_signal(signal.SIGTERM)
    eventually(lambda: "stopping" in server.read_log())
    late.sendall(client.head("POST", "/create?name=late", EMPTY) + EMPTY)
    response = read_response(late_stream)
    assert response.status == 503 and "stopping" in response.text
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=60) == 0, server.read_log()


def test_an_archive_with_the_program_alone(client):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("app.wasm")
        program = wat_print("alone")
        member.size = len(program)
        archive.addfile(member, io.BytesIO(program))
    assert create(client, "alone", data.getvalue()).status == 201
    assert client.run("alone").text == "alone"
