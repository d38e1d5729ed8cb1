"""Runs a program under what a unit of systemd restricts, without systemd.

    unshare --mount [--map-root-user] python3 confine.py UNIT STATE COMMAND...

What there is of the kernel without a running systemd is used: a mount namespace of our own in which
everything but the state directory is read-only, no new privileges, no capabilities, another user
where we are root, and a seccomp filter made of systemd's own lists of system calls. A setting that
is neither applied nor in NOT_HERE is an error, so that nobody adds one that is never tried.
$CONFINE_DENY_EXECUTABLE_WRITES adds what MemoryDenyWriteExecute would, roughly.
"""

import ctypes
import encodings.unicode_escape  # it can't be loaded any more once Python's files are hidden
import errno
import os
import pathlib
import re
import resource
import socket
import struct
import subprocess
import sys

NOT_HERE = {  # what is no restriction, or needs systemd itself
    "Type", "Environment", "EnvironmentFile", "ExecStart", "Restart", "RestartSec",
    "TimeoutStopSec", "KillMode", "TasksMax", "StateDirectory", "StateDirectoryMode",
    "Description", "Documentation", "After", "Wants", "WantedBy", "RemoveIPC",
    # Of the file system of the kernel, which is read-only here as everything is.
    "ProtectControlGroups", "ProtectKernelTunables", "ProtectProc",
    # Capabilities that are gone, or calls that are in none of the lists that are let through.
    "ProtectClock", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
    "AmbientCapabilities", "LockPersonality", "RestrictRealtime", "RestrictSUIDSGID",
    "RestrictNamespaces", "SystemCallErrorNumber", "SystemCallArchitectures",
}
APPLIED = {"NoNewPrivileges", "CapabilityBoundingSet", "ProtectSystem", "ProtectHome", "PrivateTmp",
           "PrivateDevices", "DynamicUser", "UMask", "LimitNOFILE", "SystemCallFilter",
           "RestrictAddressFamilies"}

libc = ctypes.CDLL(None, use_errno=True)
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_CAPBSET_DROP = 38, 22, 24
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    1, 2, 4, 32, 4096, 16384, 1 << 18)


def check(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source, target, kind, flags, options=None):
    check(libc.mount(os.fsencode(source), os.fsencode(target), kind and kind.encode(), flags,
                     options and options.encode()), f"mount {target}")


def mount_points():
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        path = fields[4].encode().decode("unicode_escape")
        options = set(fields[5].split(","))
        yield path, (MS_NOSUID if "nosuid" in options else 0) | (
            MS_NODEV if "nodev" in options else 0)


def hide(settings, state, kept):
    """The file systems: `kept` stay readable though they are in a directory that is hidden."""
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    held = {path: os.open(path, os.O_PATH) for path in (state, *kept)}
    devices = {name: os.open(f"/dev/{name}", os.O_PATH)
               for name in ("null", "zero", "full", "random", "urandom")}
    hidden = []
    if settings["ProtectHome"] == "yes":
        hidden += ["/home", "/root"]
    if settings["PrivateTmp"] == "yes":
        hidden += ["/tmp", "/var/tmp"]
    hidden = [path for path in hidden if os.path.isdir(path)]
    for path in hidden:
        mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    if settings["PrivateDevices"] == "yes":
        mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755")
        for name, descriptor in devices.items():
            pathlib.Path("/dev", name).touch()
            mount(f"/proc/self/fd/{descriptor}", f"/dev/{name}", None, MS_BIND)
    for path, descriptor in held.items():
        if path != state and os.path.exists(path):
            continue  # it is in no directory that is hidden
        is_directory = os.path.isdir(f"/proc/self/fd/{descriptor}")
        if not os.path.exists(path):
            target = pathlib.Path(path)
            (target if is_directory else target.parent).mkdir(parents=True, exist_ok=True)
            if not is_directory:
                target.touch()
        mount(f"/proc/self/fd/{descriptor}", path, None, MS_BIND | (MS_REC if is_directory else 0))
    for descriptor in [*held.values(), *devices.values()]:
        os.close(descriptor)
    if settings["ProtectSystem"] == "strict":
        temporary = {path for path in hidden if path.endswith("tmp")}
        for path, flags in sorted(set(mount_points())):
            if path != state and path not in temporary:
                try:
                    mount("none", path, None, MS_REMOUNT | MS_BIND | MS_RDONLY | flags)
                except OSError as error:  # one that is below another one and not to be seen
                    if error.errno not in (errno.EINVAL, errno.ENOENT):
                        raise


# --- seccomp --------------------------------------------------------------------------------------


def call_numbers():
    text = subprocess.run(["cc", "-E", "-dM", "-"], input="#include <asm/unistd.h>\n", text=True,
                          capture_output=True, check=True).stdout
    return {name: int(number) for name, number in
            re.findall(r"^#define __NR_(\w+) (\d+)$", text, re.M)}


def calls_of(names):
    """Of systemd's lists, by its own word."""
    found = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        text = subprocess.run(["systemd-analyze", "syscall-filter", name], text=True,
                              capture_output=True, check=True).stdout
        found |= calls_of(line.strip() for line in text.splitlines()[1:]
                          if line.strip() and not line.strip().startswith("#"))
    return found


def instruction(code, value, yes=0, no=0):
    return struct.pack("=HBBI", code, yes, no, value)


LOAD, EQUALS, ANY_OF, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW = 0x7FFF0000


def refuse(number):
    return instruction(RETURN, 0x00050000 | number)


def seccomp_filter(settings):
    numbers = call_numbers()
    allowed = sorted(numbers[name] for name in calls_of(settings["SystemCallFilter"].split())
                     if name in numbers)
    families = [getattr(socket, name)
                for name in settings["RestrictAddressFamilies"].split()]
    program = [instruction(LOAD, 0)]
    # A call with an argument that matters is decided on where it is found.
    program += [instruction(EQUALS, numbers["socket"], 0, 2 + 2 * len(families)),
                instruction(LOAD, 16)]
    for family in families:
        program += [instruction(EQUALS, family, 0, 1), instruction(RETURN, ALLOW)]
    program += [refuse(errno.EAFNOSUPPORT)]
    if os.environ.get("CONFINE_DENY_EXECUTABLE_WRITES"):
        for name in ("mprotect", "pkey_mprotect"):
            program += [instruction(EQUALS, numbers[name], 0, 4), instruction(LOAD, 32),
                        instruction(ANY_OF, 4, 0, 1), refuse(errno.EPERM),
                        instruction(RETURN, ALLOW)]
    for number in allowed:
        program += [instruction(EQUALS, number, 0, 1), instruction(RETURN, ALLOW)]
    return program + [refuse(errno.EPERM)]


def apply_filter(program):
    code = b"".join(program)
    memory = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("@HxxxxxxP", len(program), ctypes.addressof(memory))
    check(libc.prctl(PR_SET_SECCOMP, 2, ctypes.create_string_buffer(head, len(head)), 0, 0),
          "seccomp")


# --- all of it ------------------------------------------------------------------------------------


def settings_of(unit):
    found = dict(line.split("=", 1) for line in pathlib.Path(unit).read_text().splitlines()
                 if "=" in line and not line.startswith("#"))
    unknown = set(found) - APPLIED - NOT_HERE
    assert not unknown, f"this does not know {unknown}: apply it, or say why not"
    assert APPLIED <= set(found), APPLIED - set(found)
    return found


def main(unit, state, *command):
    settings = settings_of(unit)
    program = seccomp_filter(settings)  # while the compiler can still be asked
    kept = [path for path in os.environ.get("CONFINE_KEPT", "").split(":") if path]
    hide(settings, state, kept)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = min(int(settings["LimitNOFILE"]), hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    os.umask(int(settings["UMask"], 8))
    assert settings["CapabilityBoundingSet"] == "" and settings["DynamicUser"] == "yes"
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    if os.environ.get("CONFINE_USER"):
        user = int(os.environ["CONFINE_USER"])
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)  # and the capabilities with it
    else:
        check(libc.syscall(126, ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0)),
                           ctypes.create_string_buffer(24)), "capset")
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    apply_filter(program)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
