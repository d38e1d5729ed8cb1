"""What is handed out: the tarball of `make dist`, the Dockerfile, the unit of systemd.

No Docker engine is needed: the Dockerfile is read, and its last stage must install the packages
that hold the libraries which the program needs.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time

import pytest

from support.client import Client

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Of glibc's packages; these the tarball takes from the machine.
GLIBC = {"linux-vdso.so.1", "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1",
         "libpthread.so.0", "libresolv.so.2", "libutil.so.1", "ld-linux-x86-64.so.2",
         "ld-linux-aarch64.so.1"}
LOADED_BY_GLIBC = re.compile(r"libnss_\w+\.so\.2|libnss_\w+-[\d.]+\.so|gconv")


def output_of(*arguments, **options):
    result = subprocess.run(arguments, capture_output=True, text=True, **options)
    assert result.returncode == 0, result
    return result.stdout


# --- the tarball ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tarball(build):
    made = output_of(ROOT / "tools" / "dist.sh", build / "dist")
    return ROOT / made.strip()


@pytest.fixture(scope="module")
def unpacked(tarball, tmp_path_factory):
    target = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(tarball) as archive:
        names = archive.getnames()
        assert {name.split("/")[0] for name in names} == {tarball.name.removesuffix(".tar.gz")}
        assert all(entry.uid == 0 and not entry.mode & 0o022 for entry in archive)
        archive.extractall(target)
    # Not where it was built, in a place that has nothing to do with it.
    return target / tarball.name.removesuffix(".tar.gz")


def test_its_size_is_as_documented(tarball):
    documented = re.search(r"\(about (\d+) MB\)", (ROOT / "docs" / "deploy.md").read_text())
    assert abs(tarball.stat().st_size / 1e6 - int(documented[1])) < 1.5


CLEAN = {"PATH": "/nonexistent", "LC_ALL": "C"}


def test_what_is_in_the_tarball(unpacked):
    for name in ("README.md", "docs/deploy.md", "docs/tree/root.md", "share/man/man1/0asm.1",
                 "share/bash-completion/completions/0asm", "share/zsh/site-functions/_0asm",
                 "systemd/0asm.service", "samples/first.wasm", "examples/first.c"):
        assert (unpacked / name).stat().st_size > 0, name
    assert os.access(unpacked / "bin" / "0asm", os.X_OK)
    assert ".TH 0ASM 1" in (unpacked / "share/man/man1/0asm.1").read_text()


def test_what_the_page_takes_from_the_tarball_is_there(unpacked):
    page = (ROOT / "docs" / "deploy.md").read_text()
    named = set(re.findall(r"/opt/0asm/([\w./-]*\w)", page))
    assert {"bin/0asm", "systemd/0asm.service", "share/man/man1/0asm.1", "share/man",
            "share/bash-completion/completions/0asm", "share/zsh/site-functions/_0asm"} <= named
    for name in named:
        assert (unpacked / name).exists(), name
    completion = unpacked / "share/bash-completion/completions/0asm"
    assert " 0asm" in output_of("bash", "--norc", "-c", f"source {completion} && complete -p 0asm")
    if shutil.which("man"):
        page = output_of("man", "-M", unpacked / "share" / "man", "0asm",
                         env={**os.environ, "MANPAGER": "cat", "LC_ALL": "C.UTF-8"})
        assert "0asm serve" in re.sub(".\b", "", page)


def test_every_library_has_its_licence(unpacked):
    licences = " ".join(path.name for path in (unpacked / "licenses").iterdir())
    for library in (unpacked / "lib").iterdir():
        # libcurl.so.4 is of libcurl4; libcom_err.so.2 of libcom-err2.
        stem = library.name.split(".so")[0].replace("_", "-").split("-2.")[0]
        stem = {"libbrotlicommon": "libbrotli", "libbrotlidec": "libbrotli", "libcrypto": "libssl",
                "liblber": "libldap", "libz": "zlib", "libgssapi-krb5": "libgssapi-krb5"}.get(stem, stem)
        assert stem in licences, f"{library.name}: {licences}"
    for archive in ("libuv", "libsqlite3", "libjansson", "libarchive"):
        assert archive in licences
    crates = {path.name for path in (unpacked / "licenses" / "crates").iterdir()}
    assert any(name.startswith("wasmtime-") for name in crates)


def test_only_glibc_comes_from_elsewhere(unpacked):
    binary = unpacked / "bin" / "0asm"
    listed = output_of(binary, env={**CLEAN, "LD_TRACE_LOADED_OBJECTS": "1"})
    found = dict(re.findall(r"^\s*(\S+) => (\S+)", listed, re.M))
    assert "libcurl.so.4" in found
    for soname, path in found.items():
        if soname not in GLIBC:
            assert pathlib.Path(path).resolve().parent == unpacked / "lib", listed
    # A library that is not in the way of anybody: none is there in vain.
    assert {path.name for path in (unpacked / "lib").iterdir()} == set(found) - GLIBC


def test_it_runs_from_there(unpacked, tmp_path, eventually):
    state = tmp_path / "state"
    binary = unpacked / "bin" / "0asm"
    # Through a link, as one in /usr/local/bin would be.
    link = tmp_path / "0asm"
    link.symlink_to(binary)
    server = subprocess.Popen([link, "serve", "--listen", "127.0.0.1:0", "--state", state],
                              env=CLEAN, cwd=tmp_path, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
    try:
        url = server.stdout.readline().split()[-1]
        environment = {**CLEAN, "ZASM_SERVER": url}
        assert output_of(link, "health", env=environment) == "ok\n"
        created = output_of(link, "create", "first_app", unpacked / "samples" / "first.wasm",
                            env=environment)
        assert created.startswith("first_app: version 1 is online\n"), created
        assert output_of(link, "run", "first_app", env=environment,
                         stdin=subprocess.DEVNULL) == "Hello from first_app!\n"
        mapped = {line.split()[-1] for line in
                  pathlib.Path(f"/proc/{server.pid}/maps").read_text().splitlines()
                  if ".so" in line.split()[-1]}
        assert any(path.startswith(str(unpacked / "lib")) for path in mapped)
        for path in mapped:
            name = os.path.basename(path)
            assert (path.startswith(str(unpacked / "lib") + "/") or name in GLIBC
                    or LOADED_BY_GLIBC.search(path)), path
        # An archive goes through libarchive, zstd is asked for by name.
        host, port = url.removeprefix("http://").rsplit(":", 1)
        client = Client(host, int(port))
        assert client.put("/apps/first_app/files/a", b"text").status < 300
        packed = client.get("/apps/first_app/files/", headers={"Accept": "application/x-tar"})
        assert packed.status == 200 and b"text" in packed.body
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=60)
        assert server.returncode == 0, log
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()


def test_the_same_sources_make_the_same_tarball(tarball, build):
    before = tarball.read_bytes()
    output_of(ROOT / "tools" / "dist.sh", build / "dist")
    assert tarball.read_bytes() == before


# --- the unit of systemd ----------------------------------------------------------------------


UNIT = ROOT / "packaging" / "0asm.service"


def unit_settings():
    settings = {}
    for line in UNIT.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            assert key not in settings or key == "Environment", key
            settings[key] = value
    return settings


def test_the_unit_starts_a_server(build, tmp_path):
    words = shlex.split(unit_settings()["ExecStart"])
    assert words[0] == "/opt/0asm/bin/0asm" and words[-1] == "$ZASM_OPTIONS"
    words[0] = str(build / "0asm")
    words[-1:] = ["--listen", "127.0.0.1:0", "--log-level", "info"]  # the last of an option counts
    words = [word.replace("%S", str(tmp_path)) for word in words]
    assert str(tmp_path / "0asm") in words
    server = subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        assert not line.strip().endswith(":8080")
        assert (tmp_path / "0asm" / "catalog.db").exists()
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert server.returncode == 0


def test_the_unit_gives_runs_their_grace(build):
    settings = unit_settings()
    grace = re.search(r"--grace TIME .*\((\d+)s\)", output_of(build / "0asm", "serve", "--help"))
    assert int(settings["TimeoutStopSec"]) > 2 * int(grace[1])
    assert settings["Restart"] == "on-failure"
    assert settings["EnvironmentFile"] == "-/etc/0asm/environment"


def test_the_unit_restricts(build):
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "DynamicUser"):
        assert unit_settings()[key] == "yes"
    assert unit_settings()["ProtectSystem"] == "strict"


def test_systemd_accepts_the_unit(build, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd is not installed")
    text = UNIT.read_text().replace("/opt/0asm/bin/0asm", str((build / "0asm").resolve()))
    text = re.sub(r"^Documentation=.*\n", "", text, flags=re.M)  # the page is not installed
    unit = tmp_path / "0asm.service"
    unit.write_text(text)
    result = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    complaints = [line for line in result.stderr.splitlines() if "0asm.service" in line]
    assert result.returncode == 0 and not complaints, result.stderr


# Under what the unit restricts: by systemd itself where it runs, else by what it uses of the kernel.


def confined(tmp_path, state, environment=None):
    """The words before a command, and its environment; a skip where that can't be had."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze, which knows systemd's lists of system calls, is not installed")
    unshare = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    tried = subprocess.run([*unshare, "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"no mount namespace can be made here: {tried.stderr.strip()}")
    user = {} if os.getuid() else {"CONFINE_USER": "65534"}
    if user:
        os.chown(state, 65534, 65534)
    words = [*unshare, sys.executable, str(ROOT / "tests" / "support" / "confine.py"), str(UNIT),
             str(state)]
    kept = {str(tmp_path / "0asm"), sys.prefix, sys.base_prefix}
    # The search for leaks traces the process, which is not for a service.
    sanitizer = ":".join(filter(None, [os.environ.get("ASAN_OPTIONS"), "detect_leaks=0"]))
    return words, {**os.environ, "CONFINE_KEPT": ":".join(sorted(kept)), "ASAN_OPTIONS": sanitizer,
                   **user, **(environment or {})}


def by_systemd(tmp_path, state):
    if not pathlib.Path("/run/systemd/system").exists() or os.getuid() != 0:
        pytest.skip("systemd does not run here, or we may not ask it to run something")
    settings = unit_settings()
    after = list(settings)[list(settings).index("LimitNOFILE"):]
    properties = [f"--property={key}={settings[key]}" for key in after if key != "WantedBy"]
    properties += [f"--property=BindReadOnlyPaths={tmp_path / '0asm'}"]
    return ["systemd-run", "--pipe", "--wait", "--collect", "--quiet", *properties], None


@pytest.mark.parametrize("how", ["confined", "by_systemd"])
def test_the_server_works_under_the_unit(build, guests, tmp_path, how):
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    shutil.copy(build / "0asm", tmp_path / "0asm")
    place = state if how == "confined" else "/var/lib/0asm"
    before, environment = globals()[how](tmp_path, state)
    server = subprocess.Popen(
        [*before, tmp_path / "0asm", "serve", "--listen", "127.0.0.1:0", "--state", place],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = server.stdout.readline()
        assert line.startswith("listening on http://"), server.communicate()
        host, port = line.split()[-1].strip("/").removeprefix("http://").rsplit(":", 1)
        client = Client(host, int(port))
        created = client.post("/create?name=first", guests.c("first"))
        assert created.status == 201, created
        assert client.run("first").text == "Hello from first_app!\n".replace("first_app", "first")
        client.create("files", guests.c("files"))
        assert client.run("files", "put /x 1", "get /x", "put /tmp/y 2", "get /tmp/y").text == "12"
        assert client.get("/apps/files/files/x").text == "1"
        trap = client.run("files", "get /nothing")
        assert "No such file" in trap.text
        # A name is looked up, and what it is refused for is its address.
        client.create("asks", guests.c("files"), net="localhost")
        assert client.run("asks", "get /net/http/localhost/").status == 200
        if how == "confined":
            status = pathlib.Path(f"/proc/{server.pid}/status").read_text()
            assert "NoNewPrivs:\t1\n" in status and "Seccomp:\t2\n" in status
            assert "CapEff:\t0000000000000000\n" in status
            assert "CapBnd:\t0000000000000000\n" in status
            mounts = pathlib.Path(f"/proc/{server.pid}/mountinfo").read_text()
            assert re.search(r" / / ro[ ,]", mounts), mounts
            assert all(path.stat().st_mode & 0o077 == 0 for path in state.rglob("*"))
        server.terminate()
        _, log = server.communicate(timeout=60)
        assert server.returncode == 0, log
        assert "Sanitizer" not in log and "runtime error" not in log, log
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()


PROBE = r"""
import errno, os, socket, sys
state, binary, hidden = sys.argv[1:]
def tried(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print(tried(lambda: open("/usr/made", "w")), tried(lambda: open("/etc/made", "w")),
      tried(lambda: open(state + "/made", "w")), tried(lambda: open("/tmp/made", "w")),
      tried(lambda: open(binary, "a")), tried(lambda: open(hidden)),
      any(" /root " in line and " tmpfs " in line for line in open("/proc/self/mountinfo")), sorted(os.listdir("/dev")), tried(lambda: socket.socket(socket.AF_PACKET)),
      tried(lambda: socket.socket(socket.AF_INET)), tried(lambda: os.chroot("/")),
      tried(lambda: os.setuid(0)), sep="\n")
"""


def test_the_restrictions_are_there(build, tmp_path):
    """Or the test before this one would be of nothing."""
    state = tmp_path / "state"
    state.mkdir()
    for name in ("0asm", "hidden"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o666)
    before, environment = confined(tmp_path, state)
    result = subprocess.run([*before, sys.executable, "-c", PROBE, state, tmp_path / "0asm",
                             tmp_path / "hidden"],
                            env=environment, capture_output=True, text=True)
    assert result.stdout.splitlines() == [
        "EROFS", "EROFS", "done", "done", "EROFS", "ENOENT", "True",
        "['full', 'null', 'random', 'urandom', 'zero']", "EAFNOSUPPORT", "done", "EPERM",
        "EPERM" if os.getuid() == 0 else "done"], result


def test_the_unit_lets_compiled_code_be_executed(build, guests, tmp_path):
    """MemoryDenyWriteExecute refuses what the engine does, to make executable what it wrote: with
    it the server is of no use, so the unit must not have it."""
    assert "MemoryDenyWriteExecute" not in unit_settings()
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    shutil.copy(build / "0asm", tmp_path / "0asm")
    before, environment = confined(tmp_path, state, {"CONFINE_DENY_EXECUTABLE_WRITES": "1"})
    server = subprocess.Popen(
        [*before, tmp_path / "0asm", "serve", "--listen", "127.0.0.1:0", "--state", state],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = server.stdout.readline()
        if line:
            host, port = line.split()[-1].strip("/").removeprefix("http://").rsplit(":", 1)
            client = Client(host, int(port))
            created = client.post("/create?name=first", guests.c("first"))
            assert created.status >= 400 or client.run("first").status >= 400
    finally:
        server.kill()
        server.communicate()


# --- the proxy of docs/deploy.md --------------------------------------------------------------


def test_nginx_as_documented(make_server, guests, tmp_path):
    nginx = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")
    if not nginx:
        pytest.skip("nginx is not installed")
    server = make_server("--trust-proxy", "127.0.0.1", "--domain", "cloud.example.org",
                         environment={"ZASM_TOKEN": "0123456789abcdef"})
    page = (ROOT / "docs" / "deploy.md").read_text()
    block = re.search(r"```text\n(server \{\n.*?\n\}\n)```", page, re.S)[1]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    block = re.sub(r"listen 443 ssl;", f"listen 127.0.0.1:{port};", block)
    block = re.sub(r"^ *ssl_.*\n", "", block, flags=re.M)
    block = block.replace("127.0.0.1:8080", f"127.0.0.1:{server.port}")
    config = tmp_path / "nginx.conf"
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in
                        ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    config.write_text(f"daemon off;\npid {tmp_path}/pid;\nerror_log {tmp_path}/error.log;\n"
                      f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{block}}}\n")
    process = subprocess.Popen([nginx, "-p", tmp_path, "-c", config], stderr=subprocess.PIPE)
    try:
        # It listens once its master has written the pid.
        end = time.monotonic() + 60
        while not (tmp_path / "pid").exists():
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        proxy = Client("127.0.0.1", port)
        host = {"Host": "cloud.example.org"}
        token = {**host, "Authorization": "Bearer 0123456789abcdef"}
        assert proxy.get("/apps", headers=host).status == 401
        assert proxy.get("/healthz", headers=host).status == 200
        created = proxy.post("/create?name=first_app", guests.c("first"), headers=token)
        assert created.status == 201, created
        answer = proxy.post("/run?name=first_app", headers=token)
        assert answer.status == 200 and answer.body == b"Hello from first_app!\n"
    finally:
        process.terminate()
        process.communicate()


# --- the Dockerfile ---------------------------------------------------------------------------


def dockerfile():
    """The stages: lists of (instruction, arguments)."""
    text = (ROOT / "packaging" / "Dockerfile").read_text()
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M)
    text = text.replace("\\\n", " ")
    stages = []
    for line in filter(str.strip, text.splitlines()):
        instruction, arguments = line.split(None, 1)
        assert instruction in ("FROM", "RUN", "COPY", "WORKDIR", "USER", "VOLUME", "EXPOSE",
                               "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"), line
        if instruction == "FROM":
            stages.append([])
        stages[-1].append((instruction, arguments.strip()))
    return stages


def only(stage, instruction):
    found = [arguments for name, arguments in stage if name == instruction]
    assert len(found) == 1, (instruction, found)
    return found[0]


def test_the_dockerfile_is_whole(build, tmp_path):
    building, final = dockerfile()
    assert only(building, "FROM") == "rust:1.95-bookworm AS build"
    assert only(final, "FROM") == "debian:12-slim"
    setup = (ROOT / "tools" / "setup.sh").read_text()
    assert "Rust 1.95 or newer" in setup
    for instruction, arguments in building:
        if instruction == "COPY":
            assert (ROOT / arguments.split()[0]).exists(), arguments
        if instruction == "RUN":
            for command in arguments.split("&&"):
                program = command.split()[0]
                assert program == "strip" or os.access(ROOT / program, os.X_OK), command
    for arguments in (a for i, a in final if i == "COPY"):
        source = arguments.split()[1]
        assert arguments.startswith("--from=build /src/build/"), arguments
        name = source.removeprefix("/src/build/")
        assert name == "0asm" or name.startswith("samples/"), name
    user = only(final, "USER").split(":")[0]
    install = only(final, "RUN")
    assert user.isdigit() and f"--uid {user} " in install
    state = only(final, "VOLUME")
    assert f" {state}" in install and only(final, "EXPOSE") == "8080"
    assert json.loads(only(final, "ENTRYPOINT")) == ["0asm"]
    command = json.loads(only(final, "CMD"))
    assert command == ["serve", "--listen", "0.0.0.0:8080", "--state", state]
    health = only(final, "HEALTHCHECK")
    assert json.loads(health[health.index("CMD ") + 4:]) == ["0asm", "health"]


def test_what_the_image_starts(build, make_server, tmp_path):
    command = json.loads(only(dockerfile()[1], "CMD"))
    command[command.index("0.0.0.0:8080")] = "0.0.0.0:0"
    command[command.index("/var/lib/0asm")] = str(tmp_path / "state")
    environment = {name: value for name, value in os.environ.items() if name != "ZASM_TOKEN"}
    result = subprocess.run([build / "0asm", *command], env=environment, capture_output=True,
                            text=True, timeout=60)
    assert result.returncode == 1 and "ZASM_TOKEN" in result.stderr, "no token, no server"
    server = make_server(listen="0.0.0.0:0", environment={"ZASM_TOKEN": "0123456789abcdef"})
    assert server.client.get("/apps").status == 401
    token = {"Authorization": "Bearer 0123456789abcdef"}
    assert server.client.get("/apps", headers=token).status == 200


def test_the_build_stage_gets_its_sources():
    ignore = (ROOT / "packaging" / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in kept), kept
    # What CMake needs to configure.
    cmake = (ROOT / "CMakeLists.txt").read_text()
    used = {match.split("/")[0] for match in re.findall(r"\b(src|fuzz|examples|cmake)/", cmake)}
    assert used <= kept and {"engine", "tools", "CMakeLists.txt"} <= kept


def test_the_image_has_every_library(build, server):
    if not shutil.which("dpkg-query"):
        pytest.skip("this is not Debian")
    if server.is_sanitized():
        pytest.skip("a sanitizer's libraries are in no image")
    installed = {}
    fields = "${Package}\t${Essential}\t${Depends},${Pre-Depends}\n"
    for line in output_of("dpkg-query", "-W", "-f", fields).splitlines():
        name, essential, depends = line.split("\t")
        needed = set(re.findall(r"(?:^|[,|]) *([\w.+-]+)", depends))
        installed[name] = (essential == "yes", needed)
    install = only(dockerfile()[1], "RUN")
    named = set(re.search(r"--no-install-recommends\s+([\w.+ -]+?)\s*&&", install)[1].split())
    assert named <= set(installed) | {"tzdata"}, f"unknown: {named - set(installed)}"
    image, todo = set(), list(named) + [name for name, (essential, _) in installed.items()
                                        if essential]
    while todo:
        name = todo.pop()
        if name not in image:
            image.add(name)
            todo += installed.get(name, (False, ()))[1]
    listed = output_of("ldd", build / "0asm")
    direct = set(re.findall(r"NEEDED.*\[(.*)\]", output_of("readelf", "-d", build / "0asm")))
    for soname, path in re.findall(r"^\s*(\S+) => (\S+)", listed, re.M):
        owner = None
        for form in (path, "/usr" + path, path.removeprefix("/usr")):
            result = subprocess.run(["dpkg", "-S", form], capture_output=True, text=True)
            if result.returncode == 0:
                owner = result.stdout.split(":")[0]
                break
        assert owner, f"{soname} is of no package: {path}"
        assert owner in image, f"{soname} needs {owner}, which the image has not"
        if soname in direct and owner not in ("libc6", "libgcc-s1"):
            assert owner in named, f"{owner} is only there because another package needs it"
