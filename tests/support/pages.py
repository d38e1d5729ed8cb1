"""Apps as their visitors see them, and the programs that are kept for that."""

import functools
import re
import subprocess


def web(client, path, body=None, method=None, headers=None, *, name):
    """The page of an app, by the web door."""
    method = method or ("GET" if body is None else "POST")
    return client.request(method, f"/web/{name}{path}", body, headers=headers)


def instances(client, name):
    """run id: the rest of its line; and the facts."""
    text = client.get(f"/apps/{name}/instances").text
    facts = dict(re.findall(r"^(starts|failures|last failure): (.*)$", text, re.M))
    return dict(re.findall(r"^instance: run (\d+), (.*)$", text, re.M)), facts


def of_app(name):
    """Both, of this app where none is named."""
    return functools.partial(web, name=name), (
        lambda client, name=name: instances(client, name))


def curl(*arguments, stdin=None):
    """What curl prints; it has to succeed."""
    result = subprocess.run(["curl", "-sS", "--fail-early", "--max-time", "300", *arguments],
                            input=stdin, capture_output=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def echo_by_curl(url, directory, *framing):
    """Sends more than can wait, and asserts that all of it comes back."""
    body = bytes(range(256)) * (9 << 12)
    path = directory / "body"
    path.write_bytes(body)
    assert curl("--data-binary", f"@{path}", *framing, url) == body


def send_and_never_read(server, path):
    """A visitor that sends and does not read, until it is cut off. How much more memory the server
    had meanwhile, at most."""
    before = most = server.resident_bytes()
    with server.client.connect() as connection:
        connection.sendall(server.client.head("POST", path, headers={
            "Content-Length": str(1 << 40)}))
        try:
            while True:
                connection.sendall(bytes(1 << 18))
                most = max(most, server.resident_bytes())
        except ConnectionError:
            return most - before


def send_what_fits(client, path):
    """A visitor that has sent as much of a large body as its peer and the kernel take."""
    connection = client.connect()
    connection.sendall(client.head("POST", path, headers={"Content-Length": str(1 << 30)}))
    timeout = connection.gettimeout()
    connection.settimeout(0.2)
    in_vain = 0
    while in_vain < 3:  # a slow server is no full one
        try:
            connection.send(bytes(1 << 18))
            in_vain = 0
        except TimeoutError:
            in_vain += 1
    connection.settimeout(timeout)
    return connection
