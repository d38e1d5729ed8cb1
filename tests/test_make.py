"""`make run` in a fresh clone: builds, starts the server, and prints the lines that work."""

import os
import pathlib
import re
import shutil
import signal
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def test_make_run_in_a_fresh_clone(tmp_path):
    # The engine comes from its cache, as it does for everybody after the first time; everything
    # else is built anew from what is committed.
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, clone], check=True)
    assert not (clone / "build").exists()
    environment = {name: value for name, value in os.environ.items()
                   if name not in ("MAKEFLAGS", "MAKELEVEL", "BUILD", "STATE")}
    environment["LISTEN"] = "127.0.0.1:0"  # 8080 may be taken
    errors = tmp_path / "errors"
    with open(errors, "w") as error_file:
        process = subprocess.Popen(["make", "run"], cwd=clone, env=environment, text=True,
                                   stdout=subprocess.PIPE, stderr=error_file,
                                   start_new_session=True)
    try:
        printed, url = "", None
        for line in process.stdout:
            printed += line
            if line.startswith("listening on "):
                url = line.split()[-1]
                break
        assert url, f"it did not start\n{printed}{errors.read_text()}"
        commands = re.findall(r"^  (curl .*)$", printed, re.M)
        assert len(commands) == 2, printed
        answers = []
        for command in commands:
            command = command.replace("http://127.0.0.1:0", url)
            result = subprocess.run(["bash", "-c", command], cwd=clone, capture_output=True,
                                    text=True, timeout=120)
            assert result.returncode == 0, result
            answers.append(result.stdout)
        assert answers[0].startswith("first_app: version 1 is online\n")
        assert answers[1] == "Hello from first_app!\n"
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)
        status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True,
                                text=True, check=True).stdout
        assert status == "", "what is built or kept is not ignored by git"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        process.stdout.close()
        shutil.rmtree(clone, ignore_errors=True)
