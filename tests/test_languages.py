"""Programs by the compilers and interpreters that people use: C, Go, Rust, CPython."""

import io
import re
import tarfile
import textwrap

import pytest


def tar_of(files):
    """A tar archive of a dictionary of names and contents."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            content = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return data.getvalue()


@pytest.fixture(scope="module")
def language(server, guests):
    """Uploads the guest of a language, once, and gives its app's name."""
    built = {"c": guests.c, "go": guests.go, "rust": guests.rust}
    created = set()

    def upload(name):
        if name not in created:
            server.client.create(f"language_{name}", built[name]("language"))
            created.add(name)
        return f"language_{name}"

    return upload


# How many checks each guest prints, so that one that ends early doesn't pass.
@pytest.mark.parametrize("name,checks", [("c", 55), ("go", 36), ("rust", 17)])
def test_library_of_the_language(client, language, name, checks):
    response = client.run(language(name), env="LANGUAGE_TEST=a=b", root="fresh",
                          stdin=b"a line\nthe last")
    lines = response.text.splitlines()
    assert [line for line in lines if line.startswith("bad")] == []
    assert sum(line.startswith("ok ") for line in lines) == checks, response.text
    assert response.trailers["run-exit"] == "0"
    if name != "c":
        assert [line for line in lines if line.startswith("read ")] == [
            "read a line", "read the last"]


@pytest.mark.parametrize("name", ["c", "go", "rust", "py"])
def test_first_program(client, guests, python, name):
    if name == "py":
        app = "first_py"
        client.create(app, tar_of({
            "app.wasm": python,
            "first.py": (guests.examples / "first.py").read_bytes()}), arg="/first.py")
        before = ["/first.py"]
    else:
        app = f"first-{name}"
        client.create(app, getattr(guests, name)("first"))
        before = []
    hello = f"Hello from {'/first.py' if before else app}!\n"
    assert client.run(app).text == hello
    assert client.run(app, *before, "one", "zwei ü", stdin=b"a\nb\n").text == (
        hello + "  argument 1: one\n  argument 2: zwei ü\n  lines of input: 2\n")


def test_goroutines_run_while_one_reads(client, language):
    # Standard input stays open and empty: what the others do must not wait for it.
    identifier = client.post("/run", query={
        "name": language("go"), "env": "LANGUAGE_TEST=a=b", "root": "fresh", "detach": "",
        "stdin": "open"}).text.strip()
    connection, stream = client.open("GET", f"/proc/{identifier}/stdout")
    for line in stream:
        if line == b"waiting\n":
            break
    else:
        pytest.fail("it ended before it waited")
    assert client.put(f"/proc/{identifier}/stdin", b"from outside\n").status < 300
    for line in stream:
        if line == b"read from outside\n":
            break
    else:
        pytest.fail("it did not read")
    assert client.delete(f"/proc/{identifier}/stdin").status == 204
    assert b"ok standard input ended\n" in stream.read()
    assert client.get(f"/proc/{identifier}/wait").text == "exit 0\n"
    connection.close()


def test_go_copies_a_large_input(client, language):
    data = bytes(range(256)) * 8192
    assert client.run(language("go"), "copy", stdin=data).body == data


def test_go_panic(client, language):
    response = client.run(language("go"), "panic")
    assert "panic: assignment to entry in nil map" in response.text
    assert "main.main()" in response.text
    assert response.trailers["run-exit"] == "2"


def test_rust_panic_shows_the_backtrace(client, language):
    response = client.run(language("rust"), "panic")
    assert "index out of bounds: the len is 3 but the index is 7" in response.text
    assert response.trailers["run-reason"] == "trap"
    assert "at language::crash_here" in response.text
    assert "at language::main" in response.text


def test_rust_panic_shows_lines_with_debug_information(client, guests):
    client.create("rust-debug", guests.rust("language", "-g"))
    line = next(number for number, text in enumerate(
        guests._source("language.rs").read_text().splitlines(), 1) if "numbers[index]" in text)
    response = client.run("rust-debug", "panic")
    assert f"language.rs:{line})" in response.text


def test_c_trap_shows_lines_with_debug_information(client, guests):
    module = guests.c_text("""
        __attribute__((noinline)) static int crash_here(int count) {
            int more = count + 1;
            return *(volatile int *)(0xfffffff0 - more);
        }
        int main(int argc, char **argv) {
            return crash_here(argc) + 1;
        }
        """, "-g")
    client.create("c-debug", module)
    text = client.run("c-debug").text
    assert re.search(r"at crash_here \(.*\.c:4\)\n  at main \(.*\.c:7\)\n", text), text


# --- CPython -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def python(guests):
    return guests.python()


@pytest.fixture(scope="module")
def py(server, python):
    """CPython alone, as the app `py`."""
    server.client.create("py", python)
    return server.client


def run_script(client, script, *arguments, app="py", **options):
    response = client.run(app, *arguments, stdin=textwrap.dedent(script).encode(), **options)
    assert response.trailers["run-exit"] == "0", response
    return response.text


def test_python_command(py):
    assert py.run("py", "-c", "print(1)").text == "1\n"
    assert py.run("py", "-c", "import sys; print(sys.argv)", "a", "b c").text == (
        "['-c', 'a', 'b c']\n")


def test_python_script_on_standard_input(py):
    assert run_script(py, "print('from', 'a script')") == "from a script\n"
    assert run_script(py, "import sys; print(sys.argv[1:])", "-", "x") == "['x']\n"


def test_python_reads_standard_input(py):
    response = py.run("py", "-c", "import sys; print(sum(map(int, sys.stdin)))", stdin=b"1\n2\n39\n")
    assert response.text == "42\n"


def test_python_library(py):
    assert run_script(py, """
        import collections, csv, datetime, decimal, hashlib, json, random, re, sqlite3, zoneinfo
        print(json.dumps({"a": [1, 2.5, None]}))
        print(hashlib.sha256(b"").hexdigest()[:8])
        with sqlite3.connect(":memory:") as memory:
            print(memory.execute("select 6 * 7").fetchone())
        print(datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc).isoformat())
        print(len(random.sample(range(100), 5)), decimal.Decimal(1) / 8)
        """) == ('{"a": [1, 2.5, null]}\ne3b0c442\n(42,)\n2024-02-29T00:00:00+00:00\n5 0.125\n')


def test_python_files_persist(py):
    script = """
        import os, pathlib
        os.makedirs("/data/inner", exist_ok=True)
        with open("/data/inner/counts", "a") as file:
            file.write("x")
        print(pathlib.Path("/data/inner/counts").read_text())
        """
    assert run_script(py, script) == "x\n"
    assert run_script(py, script) == "xx\n"
    assert py.get("/apps/py/files/data/inner/counts").text == "xx"
    assert py.put("/apps/py/files/data/inner/counts", b"from outside").status < 300
    assert run_script(py, script) == "from outsidex\n"


def test_python_database_in_the_volume(py):
    script = """
        import sqlite3
        database = sqlite3.connect("/kept.sqlite")
        database.execute("create table if not exists visits (number integer)")
        database.execute("insert into visits select count(*) from visits")
        database.commit()
        print(database.execute("select count(*), max(number) from visits").fetchone())
        """
    assert run_script(py, script) == "(1, 0)\n"
    assert run_script(py, script) == "(2, 1)\n"


def test_python_files_and_directories(py):
    assert run_script(py, """
        import os, shutil, tempfile
        with tempfile.TemporaryDirectory() as directory:
            for i in range(50):
                open(os.path.join(directory, str(i)), "w").close()
            print(len(os.listdir(directory)), directory.startswith("/tmp/"))
        print(os.path.exists(directory), os.getcwd())
        os.makedirs("/tree/a/b")
        os.symlink("b", "/tree/a/link")
        print(sorted(os.listdir("/tree/a")), os.readlink("/tree/a/link"))
        os.rename("/tree/a", "/tree/c")
        shutil.rmtree("/tree")
        try:
            os.stat("/tree")
        except FileNotFoundError as error:
            print("gone")
        try:
            open("/env/X", "w")
        except OSError as error:
            print(error.strerror)
        print(len(os.urandom(16)), os.environ["A"])
        """, root="fresh", env="A=b") == (
        "50 True\nFalse /\n['b', 'link'] b\ngone\nRead-only file system\n16 b\n")


def test_python_exception_and_exit_status(py):
    response = py.run("py", "-c", "1/0")
    assert "ZeroDivisionError: division by zero" in response.text
    assert response.trailers["run-exit"] == "1"
    assert py.run("py", "-c", "raise SystemExit(42)").trailers["run-exit"] == "42"


PACKAGE = {
    "mypackage/__init__.py": "from .greeting import greet\n",
    "mypackage/greeting.py": "def greet(name):\n    return f'hello, {name}'\n",
    "mypackage/__main__.py": "import sys\nfrom . import greet\nprint(greet(sys.argv[1]))\n",
}


def test_python_package_uploaded_with_the_interpreter(client, python):
    client.create("py-package", tar_of({"app.wasm": python, **PACKAGE}))
    command = "import mypackage; print(mypackage.greet('tar'), mypackage.__file__)"
    expected = "hello, tar /mypackage/__init__.py\n"
    assert client.run("py-package", "-c", command).text == expected
    assert client.run("py-package", "-c", command).text == expected  # now from __pycache__
    assert client.run("py-package", "-m", "mypackage", "you").text == "hello, you\n"
    assert run_script(client, command, app="py-package") == expected


def test_python_package_added_to_an_app(py):
    response = py.put("/apps/py/files/lib/?unpack", tar_of(PACKAGE))
    assert response.status < 300, response
    command = "import mypackage; print(mypackage.greet('files'))"
    assert py.run("py", "-c", command, env="PYTHONPATH=/lib").text == "hello, files\n"
