"""Python programs by the thousand, each with what must come of it, made from a seed.

Most compute something; what they must print comes from running the same text here. The others use
files, input, arguments and exit statuses, or are hostile: endless, greedy, loud, nosy. All of them
look first whether something is there that another run has left.
"""

import base64
import contextlib
import io
import json
import random
import urllib.parse
from dataclasses import dataclass, field

# Ends with status 99 if the run is not alone. What follows imports modules: a file of such a name
# that another run left would be taken instead of them.
PRELUDE = """\
import os, sys
left = set(os.listdir("/")) - {"cloud", "dev", "env", "net", "proc", "tmp", "main.py"}
if left or os.listdir("/tmp"):
    print("somebody was here:", left, os.listdir("/tmp"))
    os._exit(99)
"""

# What a run that has written leaves for the next ones, if they can see it.
POISON = """
for name in ("json", "random", "collections", "hashlib", "sitecustomize"):
    with open(f"/{name}.py", "w") as file: file.write("raise SystemExit('poisoned')")
with open("/tmp/left", "w") as file: file.write(os.environ.get("SECRET", "secret"))
"""


@dataclass
class Script:
    kind: str
    code: str
    arguments: list = field(default_factory=list)
    stdin: bytes = b""
    options: dict = field(default_factory=dict)  # parameters of /run
    stdout: object = ""  # text, bytes, or a predicate of the text
    stderr: str = ""     # what is in it; without it there must be none
    exit: int = 0
    reason: str = "exit"
    changed: object = None  # a list of paths; None: not looked at
    door: str = "-c"  # how it is sent: "-c", "stdin" or "form"

    def wrong(self, result):
        """What is not as it must be in a result, or None."""
        if (result["exit"], result["reason"]) != (self.exit, self.reason):
            return f"ended with {result['exit']} {result['reason']}"
        if isinstance(self.stdout, bytes):
            fits = base64.b64decode(result.get("stdout64", "")) == self.stdout
        elif callable(self.stdout):
            fits = self.stdout(result["stdout"])
        else:
            fits = result["stdout"] == self.stdout
        if not fits:
            return "another standard output"
        if self.stderr not in result["stderr"] or (result["stderr"] and not self.stderr):
            return "another standard error"
        if self.changed is not None and result.get("changed") != self.changed:
            return f"changed {result.get('changed')}"
        return None


def run_here(code):
    """What a program prints."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "script", "exec"), {"__name__": "__main__"})
    return output.getvalue()


# ---- texts of programs that compute; the same here and there ----

def word(dice):
    return "".join(dice.choices("abcdefghijklmnopqrstuvwxyzäßλ", k=dice.randint(1, 9)))


def arithmetic(dice):
    lines = [f"x = {dice.randrange(10**6)}"]
    for _ in range(dice.randint(10, 40)):
        operator = dice.choice(["+", "-", "*", "//", "%", "^", "&", "|", ">>", "<<"])
        number = dice.randint(1, 9) if operator in (">>", "<<") else dice.randint(1, 10**6)
        lines.append(f"x = (x {operator} {number}) % {dice.randint(10**8, 10**12)}")
        if dice.random() < 0.3:
            lines.append(f"print(x, x / {dice.randint(1, 99)}, divmod(-x, {dice.randint(1, 99)}))")
    return "\n".join([*lines, "print(x ** 7, pow(x, x, 10**9 + 7))"])


def sorting(dice):
    data = [(dice.randrange(1000), word(dice)) for _ in range(dice.randint(5, 80))]
    key = dice.choice(["item", "item[1]", "(-item[0], item[1])", "(len(item[1]), item)"])
    return (f"data = {data!r}\nprint(sorted(data, key=lambda item: {key}))\n"
            "print(min(data), max(data), sum(number for number, _ in data))\n"
            "print({word: number for number, word in data if number % 3 == 0})")


def text_work(dice):
    words = [word(dice) for _ in range(dice.randint(5, 60))]
    return (f"text = {' '.join(words)!r}\nprint(text.title(), text.upper().count('A'))\n"
            f"print('-'.join(reversed(text.split())), text[::{dice.randint(2, 5)}])\n"
            f"print(text.encode().hex()[:{dice.randint(10, 200)}], len(text.encode()))\n"
            f"print(f'{{text[:9]!r:>{dice.randint(10, 40)}}}|{{len(text):08.2f}}')")


def as_json(dice):
    def value(depth):
        if depth == 0 or dice.random() < 0.3:
            return dice.choice([None, True, dice.random(), dice.randrange(10**9), word(dice)])
        if dice.random() < 0.5:
            return [value(depth - 1) for _ in range(dice.randrange(5))]
        return {word(dice): value(depth - 1) for _ in range(dice.randrange(5))}
    text = json.dumps({word(dice): value(3) for _ in range(4)})
    return (f"import json\nvalue = json.loads({text!r})\n"
            "print(json.dumps(value, sort_keys=True, indent=1))\n"
            "print(json.loads(json.dumps(value)) == value)")


def numbers(dice):
    limit = dice.randint(500, 4000)
    return (f"sieve = bytearray([1]) * {limit}\nfor i in range(2, {limit}):\n"
            "    if sieve[i]: sieve[i * i::i] = bytes(len(range(i * i, len(sieve), i)))\n"
            f"print(sum(i for i in range(2, {limit}) if sieve[i]))\n"
            "def fibonacci(n):\n    a, b = 0, 1\n    for _ in range(n): a, b = b, a + b\n"
            f"    return a\nprint(fibonacci({dice.randint(50, 500)}))")


def classes(dice):
    return f"""
class Account:
    def __init__(self, name): self.name, self.balance = name, 0
    def __iadd__(self, amount):
        if self.balance + amount < 0: raise ValueError(f"{{self.name}} has {{self.balance}}")
        self.balance += amount
        return self
    def __repr__(self): return f"<{{self.name}} {{self.balance}}>"
def steps(seed):
    while seed:
        seed = seed * {dice.randrange(3, 99, 2)} % {dice.randint(500, 9999)}
        yield seed - {dice.randint(100, 3000)}
account, refused = Account({word(dice)!r}), 0
for number, step in enumerate(steps({dice.randint(1, 499)})):
    if number == {dice.randint(20, 300)}: break
    try: account += step
    except ValueError as error: refused += 1; last = str(error)
    finally: number += 1
print(account, refused, number, last if refused else None)
"""


def library(dice):
    return "\n".join(dice.sample([
        f"import hashlib; print(hashlib.sha256({word(dice)!r}.encode()).hexdigest())",
        f"import collections; print(collections.Counter({word(dice) * 3!r}).most_common(3))",
        f"import zlib; print(zlib.crc32({word(dice).encode()!r}),"
        f" zlib.decompress(zlib.compress(b'x' * {dice.randint(9, 9999)}))[-9:])",
        f"import struct; print(struct.pack('>IhQ', {dice.randrange(2**32)}, -3, 7).hex())",
        f"import heapq; print(heapq.nsmallest(5, {dice.sample(range(10**6), 50)}))",
        f"import math; print(math.factorial({dice.randint(10, 60)}), math.isqrt(10**{9 * 3}))",
        f"import datetime; print(datetime.date({dice.randint(1900, 2100)}, 2, 28)"
        f" + datetime.timedelta(days={dice.randint(1, 999)}))",
        f"import itertools; print(list(itertools.accumulate({dice.sample(range(999), 9)})))",
        f"import random; print(random.Random({dice.randrange(10**9)}).randrange(10**9))",
    ], dice.randint(1, 3)))


PURE = [arithmetic, sorting, text_work, as_json, numbers, classes, library]


def computing(dice):
    code = dice.choice(PURE)(dice)
    return Script("computing", code, stdout=run_here(code), changed=[])


# ---- files, input, arguments, endings ----

def files(dice):
    place = dice.choice(["/", "/", "/tmp/", "/deep/er/"])
    content = {f"{word(dice)}-{i}": (word(dice), dice.randint(1, 4000))
               for i in range(dice.randint(1, 6))}
    code = (f"place, content = {place!r}, {content!r}\nos.makedirs(place, exist_ok=True)\n"
            "for name, (text, count) in content.items():\n"
            "    with open(place + name, 'w') as file: file.write(text * count)\n"
            "for name in sorted(os.listdir(place)):\n"
            "    if name in content:\n"
            "        text = open(place + name).read()\n"
            "        print(name, len(text), text == content[name][0] * content[name][1])")
    made = [] if place == "/tmp/" else [place + name for name in content]
    made += ["/deep/", "/deep/er/"] if place == "/deep/er/" else []
    return Script("files", code, changed=sorted(made), stdout="".join(
        f"{name} {len(text) * count} True\n" for name, (text, count) in sorted(content.items())))


def rewriting(dice):
    first, second, count = word(dice), word(dice), dice.randint(2, 900)
    code = (f"with open('/a', 'w') as file: file.write({first!r} * {count})\n"
            f"with open('/a', 'a') as file: file.write({second!r})\n"
            "os.rename('/a', '/b'); os.mkdir('/gone'); os.rmdir('/gone')\n"
            "with open('/b', 'rb+') as file: file.seek(1); file.truncate(); file.write(b'!')\n"
            f"print(os.path.exists('/a'), os.path.getsize('/b'), open('/b', 'rb').read()[-1:])")
    return Script("rewriting", code, stdout="False 2 b'!'\n", changed=["/b"])


def echo(dice):
    data = "".join(f"{word(dice)} {dice.randrange(10**6)}\n" for _ in range(dice.randint(0, 3000)))
    code = "for line in sys.stdin: print(line.rstrip('\\n')[::-1])"
    answer = "".join(line[::-1] + "\n" for line in data.splitlines())
    return Script("echo", code, stdin=data.encode(), stdout=answer)


def unread(dice):
    return Script("unread", "print('did not ask')", stdin=dice.randbytes(dice.randint(1, 300000)),
                  stdout="did not ask\n")


def arguments(dice):
    given = [word(dice) + dice.choice(["", " ", "&=?", "%41", "'\""])
             for _ in range(dice.randint(1, 5))]
    secret = f"{dice.randrange(10**12)}"
    return Script("arguments", "print(sys.argv[1:], os.environ['SECRET'])", arguments=given,
                  options={"env": f"SECRET={secret}"}, stdout=f"{given!r} {secret}\n")


def binary(dice):
    data = b"\xff" + dice.randbytes(dice.randint(1, 500))
    return Script("binary", f"sys.stdout.buffer.write({data!r})", stdout=data)


def much(dice):
    line, count = word(dice) * 20, dice.randint(300, 1500)
    return Script("much", f"for i in range({count}): print(i, {line!r})",
                  stdout="".join(f"{i} {line}\n" for i in range(count)))


def status(dice):
    number = dice.randint(0, 125)
    code = dice.choice(["sys.exit({})", "os._exit({})", "raise SystemExit({})"]).format(number)
    return Script("status", code, exit=number)


def last_words(dice):
    text = word(dice)
    return Script("last words", f"sys.exit({text!r})", exit=1, stderr=text)


def exception(dice):
    code, message = dice.choice([
        ("{0} / 0", "ZeroDivisionError: division by zero"),
        ("[].pop({0})", "IndexError: pop from empty list"),
        ("raise ValueError({0})", "ValueError: {0}"),
        ("{{}}[{0}]", "KeyError: {0}"),
        ("raise RuntimeError('x') from OSError({0})", "RuntimeError: x"),
        ("import nothing_{0}", "ModuleNotFoundError: No module named 'nothing_{0}'"),
        ("open('/no/{0}')", "FileNotFoundError: [Errno 44] No such file or directory: '/no/{0}'"),
        ("{0} + 'x'", "TypeError: unsupported operand type(s) for +: 'int' and 'str'"),
    ])
    number = dice.randrange(10**9)
    return Script("exception", f"print('first')\n{code.format(number)}", stdout="first\n",
                  stderr=message.format(number), exit=1)


# ---- hostile ----

def killed(limit, text):
    return {"exit": 137, "reason": limit, "stderr": f"0asm: killed: {limit} limit of {text} reached"}


def endless(dice):
    code = dice.choice(["while True: pass", "9 ** 9 ** 9", "[0 for _ in iter(int, 1)]",
                        "import re; re.match('(a+)+$', 'a' * 99 + 'b')",
                        "while True:\n    try: raise ValueError\n    except ValueError: pass",
                        "for _ in iter(int, 1): open('/tmp/x', 'w').close()"])
    ms = dice.randint(60, 150)
    return Script("endless", f"# {dice.random()}\n{code}", options={"cpu": f"{ms}ms"},
                  **killed("cpu", f"{ms} ms"))


def asleep(dice):
    code = dice.choice(["time.sleep(1e6)", "while True: time.sleep(0.001)"])
    ms = dice.randint(50, 200)
    return Script("asleep", f"import time  # {dice.random()}\n{code}",
                  options={"wall": f"{ms}ms"}, **killed("wall", f"{ms} ms"))


def greedy(dice):
    size = dice.randint(10000, 2000000)
    code = dice.choice([f"while True: hoard.append(bytearray({size}))",
                        f"while True: hoard.append('x' * {size})",
                        f"bytearray({size * 100})"])
    return Script("greedy", f"hoard = []\n{code}", options={"memory": "24MiB"}, exit=1,
                  stderr="MemoryError")


def frugal(dice):
    """Notices that there is no more, and goes on."""
    size = dice.randint(100000, 900000)
    code = (f"hoard = []\ntry:\n    while True: hoard.append(bytearray({size}))\n"
            "except MemoryError: hoard = None\nprint('enough')")
    return Script("frugal", code, options={"memory": "24MiB"}, stdout="enough\n")


def loud(dice):
    stream, kib = dice.choice(["stdout", "stderr"]), dice.randint(4, 64)
    line = dice.choice("abcdef") * dice.randint(1, 2000)
    code = f"while True: print({line!r}, file=sys.{stream})"
    begun = ((line + "\n") * (kib * 1024 // len(line) + 1))[:kib * 1024]
    return Script("loud", code, options={"output": f"{kib}KiB"},
                  stdout=begun if stream == "stdout" else "", **killed("output", f"{kib} KiB"))


def filling(dice):
    path, limit = dice.choice([("/x", 1 << 20), ("/tmp/x", 2 << 20)])
    block = dice.randint(1000, 100000)
    code = (f"file, total = open({path!r}, 'wb', buffering=0), 0\ntry:\n"
            f"    while True: total += file.write(bytes({block}))\n"
            f"except OSError as error: print(error.errno, total <= {limit},"
            f" total > {limit // 2}, os.path.getsize({path!r}) == total)")
    return Script("filling", code, options={"disk": "1MiB"}, stdout="51 True True True\n")


def many_files(dice):
    place, count = dice.choice(["/", "/tmp/"]), dice.randint(1000, 4000)
    code = (f"for i in range({count}):\n"
            f"    os.close(os.open({place!r} + f'{{i}}', os.O_CREAT | os.O_WRONLY))\n"
            f"print(len(os.listdir({place!r})) >= {count})")
    return Script("many files", code, stdout="True\n")


def descriptors(dice):
    code = (f"opened = []\ntry:\n    while True: opened.append(open('/f{dice.random()}', 'a'))\n"
            "except OSError as error: print(error.errno, len(opened) < 20)")
    return Script("descriptors", code, options={"open_files": "20"}, stdout="41 True\n")


def deep(dice):
    code = dice.choice([
        "def f(n): return f(n + 1)\nf({0})", "x = [{0}]\nfor _ in range(9999): x = [x]\nrepr(x)",
        "def f(): yield from f()\nnext(f())  # {0}"])
    return Script("deep", code.format(dice.randrange(10**9)), exit=1,
                  stderr="RecursionError: maximum recursion depth exceeded", changed=[])


def crashing(dice):
    code = dice.choice([
        "os.abort()",
        "class A:\n    def __getattr__(self, name): return getattr(self, name + 'x')\nA().a"])
    return Script("crashing", f"# {dice.random()}\n{code}", exit=134, reason="trap",
                  stderr="0asm: trap: ")


def nosy(dice):
    """Looks for other runs' secrets."""
    code = f"""
me = open("/proc/self/status").read().split()[1]
found = [name for name in os.listdir("/proc") if name not in ("self", me)]
paths = [f"/{{root}}/{{number}}/{{file}}" for root in ("proc", "cloud/proc")
         for number in range({dice.randint(1, 400)}, 1200, 40) if str(number) != me
         for file in ("status", "stdin", "stdout", "env", "root/json.py", "ctl")]
paths += ["/json.py", "/tmp/left", "/../json.py", "/dev/../json.py", "/tmp/../../../etc/passwd",
          "/etc/passwd", "/cloud/apps/python/files/json.py", "/cloud/apps/hello/files/x"]
for path in paths:
    try:
        open(path).read(1)
        found.append(path)
    except OSError: pass
print(found)
"""
    return Script("nosy", code, stdout="[]\n", changed=[])


def meddling(dice):
    """Writes where it may not, removes what it can, and leaves what others would fall over."""
    code = f"""
for path in ("/cloud/apps/python/files/json.py", "/cloud/apps/python/config", "/proc/1/ctl",
             "/cloud/vol/x{dice.randrange(999)}/files/x", "/env/PATH", "/proc/self/status"):
    try:
        with open(path, "w") as file: file.write("kill")
        print("wrote", path)
    except OSError: pass
try: os.rename("/tmp", "/elsewhere"); print("renamed")
except OSError: pass
""" + POISON
    return Script("meddling", code, options={"env": f"SECRET={dice.randrange(10**9)}"},
                  changed=[f"/{name}.py" for name in ("collections", "hashlib", "json", "random",
                                                      "sitecustomize")])


def elsewhere(dice):
    """Processes, threads, sockets: none of it is there."""
    code, words = dice.choice([
        ("os.fork()", "AttributeError: module 'os' has no attribute 'fork'"),
        ("os.system('ls')", "AttributeError: module 'os' has no attribute 'system'"),
        ("import threading; threading.Thread(target=print).start()",
         "RuntimeError: can't start new thread"),
        ("import socket; socket.socket().connect(('127.0.0.1', 80))",
         "OSError: [Errno 58] Not supported"),
        ("import subprocess; subprocess.run(['ls'])",
         "OSError: [Errno 58] wasi does not support processes."),
    ])
    return Script("elsewhere", f"# {dice.random()}\n{code}", exit=1, stderr=words)


def garbage(dice):
    return Script("garbage", f"print({dice.random()}", exit=1,
                  stderr="SyntaxError: '(' was never closed")


USUAL = [computing] * 10 + [files] * 3 + [rewriting, echo, unread, arguments, binary, much, status,
                                          last_words, exception, exception]
HOSTILE = [endless, asleep, greedy, frugal, loud, filling, many_files, descriptors, deep, crashing,
           nosy, meddling, meddling, elsewhere, garbage]
KINDS = list(dict.fromkeys(USUAL + HOSTILE))


def make(seed, count):
    """So many scripts, all different: a fourth of them hostile, each kind among the first."""
    made = {}
    dice = random.Random(seed)
    while len(made) < count:
        kinds = HOSTILE if dice.random() < 0.25 else USUAL
        kind = KINDS[len(made)] if len(made) < len(KINDS) else dice.choice(kinds)
        script = kind(dice)
        script.code = PRELUDE + script.code
        script.door = dice.choice(["-c", "form", "stdin"])
        if script.door == "stdin" and (script.stdin or script.kind == "echo" or script.arguments):
            script.door = "form"  # its standard input can't be the script
        if script.door == "-c" and len(urllib.parse.quote(script.code)) > 12000:
            script.door = "form"  # a path has 16 KiB
        made.setdefault((script.code, *script.arguments, script.stdin), script)
    return list(made.values())
