"""A small HTTP client over raw sockets: it shows trailers, sends what it is told to, hides nothing."""

import json
import socket
import urllib.parse


class Response:
    def __init__(self, status, headers, body, trailers):
        self.status = status
        self.headers = headers  # lower-case names
        self.body = body
        self.trailers = trailers
        # How a run ended is in the head where it had ended before the answer began (docs/http.md).
        for name in ("run-exit", "run-reason", "run-cpu-us", "run-peak-bytes"):
            if name in headers:
                assert name not in trailers
                self.trailers = {**self.trailers, name: headers[name]}

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def lines(self):
        """The NDJSON events."""
        return [json.loads(line) for line in self.body.splitlines() if line]

    def __repr__(self):
        return f"<{self.status} {self.body[:500]!r} {self.trailers}>"


def parse_head(stream):
    status_line = stream.readline()
    if not status_line:
        raise ConnectionError("closed before a response")
    status = int(status_line.split()[1])
    return status, parse_fields(stream)


def parse_fields(stream):
    headers = {}
    while True:
        line = stream.readline()
        if line in (b"\r\n", b"\n", b""):
            return headers
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()


def chunks_of(stream):
    """The chunks of a chunked body; afterwards the stream stands at the trailers."""
    while True:
        size_line = stream.readline()
        if not size_line:
            raise ConnectionError("cut in the middle of a body")
        size = int(size_line.split(b";")[0], 16)
        if size == 0:
            return
        data = stream.read(size)
        if len(data) != size:
            raise ConnectionError("cut in the middle of a chunk")
        stream.read(2)
        yield data


def read_response(stream, method="GET"):
    status, headers = parse_head(stream)
    while status == 100:
        status, headers = parse_head(stream)
    trailers = {}
    if method == "HEAD" or status in (204, 304):
        body = b""
    elif headers.get("transfer-encoding") == "chunked":
        body = b"".join(chunks_of(stream))
        trailers = parse_fields(stream)
    elif "content-length" in headers:
        length = int(headers["content-length"])
        body = stream.read(length)
        if len(body) != length:
            raise ConnectionError("cut in the middle of a body")
    else:
        body = stream.read()
    return Response(status, headers, body, trailers)


class Client:
    def __init__(self, host, port, timeout=120):
        self.host, self.port, self.timeout = host, port, timeout

    def connect(self):
        return socket.create_connection((self.host.strip("[]"), self.port), timeout=self.timeout)

    def head(self, method, path, body=None, headers=None, query=None):
        """Of `headers`, a value that is a list repeats the field, one that is None takes it away."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        fields = {"Host": f"{self.host}:{self.port}", "Connection": "close"}
        if body is not None or method in ("POST", "PUT"):
            fields["Content-Length"] = str(len(body or b""))
        fields.update(headers or {})
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in fields.items():
            values = value if isinstance(value, list) else [value]
            lines += [f"{name}: {one}" for one in values if one is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def request(self, method, path, body=None, headers=None, query=None):
        """`query` is a dictionary or a list of pairs."""
        if isinstance(body, str):
            body = body.encode()
        with self.connect() as connection:
            try:
                connection.sendall(self.head(method, path, body, headers, query) + (body or b""))
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused early: the answer is there to be read
            with connection.makefile("rb") as stream:
                return read_response(stream, method)

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def put(self, path, body=b"", **options):
        return self.request("PUT", path, body, **options)

    def post(self, path, body=b"", **options):
        return self.request("POST", path, body, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def create(self, name, module, **options):
        """Uploads and expects success."""
        response = self.post("/create", module, query={"name": name, **options})
        assert response.status in (200, 201), response
        return response

    def run(self, name, *arguments, stdin=b"", headers=None, **options):
        """`options` are query parameters; a list repeats one."""
        query = [("name", name)] + [("arg", argument) for argument in arguments]
        for key, value in options.items():
            query += [(key, item) for item in (value if isinstance(value, list) else [value])]
        return self.post("/run", stdin, query=query, headers=headers)

    def run_json(self, name, *arguments, **options):
        response = self.run(name, *arguments, headers={"Accept": "application/json"}, **options)
        assert response.status == 200, response
        return response.json()

    def open(self, method, path, body=b"", headers=None, query=None):
        """Sends the request and returns the connection with its stream, the answer still to come."""
        connection = self.connect()
        connection.sendall(self.head(method, path, body, headers, query) + (body or b""))
        return connection, connection.makefile("rb")
