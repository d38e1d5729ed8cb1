"""Servers on loopback that guests talk to: HTTP that does what its path says, TLS with an authority
of its own, bare sockets."""

import http.server
import pathlib
import socket
import ssl
import subprocess
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.peer.note_connection(self.client_address)

    def log_message(self, *arguments):
        pass

    def send(self, status, body=b"", **fields):
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def read_body(self):
        """The length of the body and its first bytes."""
        count, first = 0, b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data = self.rfile.read(size)
                assert self.rfile.readline() == b"\r\n"
                count, first = count + len(data), (first + data)[:100]
            assert self.rfile.readline() == b"\r\n"
            return count, first
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            data = self.rfile.read(min(left, 65536))
            if not data:
                break
            count, first, left = count + len(data), (first + data)[:100], left - len(data)
        return count, first

    def handle_any(self):
        peer = self.server.peer
        path, _, query = self.path.partition("?")
        name, *rest = path.strip("/").split("/")
        count, first = self.read_body()
        peer.requests.append((self.command, self.path, dict(self.headers), count))
        if name == "status":
            self.send(int(rest[0]), b"no\n")
        elif name == "redirect":
            self.send(int(rest[0]), b"", Location=peer.locations[query])
        elif name == "loop":
            self.send(302, b"", Location=f"/loop/{int(rest[0]) + 1}")
        elif name == "bytes":
            self.send_response(200)
            self.send_header("Content-Length", rest[0])
            self.end_headers()
            left, piece = int(rest[0]), b"d" * 65536
            while left:
                left -= self.wfile.write(piece[:left])
        elif name == "chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for i in range(int(rest[0])):
                self.chunk(b"piece %d\n" % i)
            self.wfile.write(b"0\r\nX-Trailer: yes\r\n\r\n")
        elif name == "wait":
            peer.reached.release()
            peer.gate.acquire()
            self.send(200, b"at last\n")
        elif name == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
            self.close_connection = True
        elif name == "cutchunks":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            self.close_connection = True
        elif name == "raw":
            self.wfile.write(peer.raw)
            self.close_connection = True
        elif name == "echo":
            text = f"{self.command} {self.path} {count} ".encode() + first + b"\n"
            fields = "".join(f"{key}: {value}\n" for key, value in self.headers.items())
            self.send(200, text + fields.encode())
        else:
            self.send(200, f"hello {self.path}\n".encode())

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = handle_any


class Peer:
    """An HTTP server; `context` makes it one with TLS."""

    def __init__(self, address="127.0.0.1", context=None):
        self.requests, self.locations, self.connections = [], {}, []
        self.raw = b""
        self.reached, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.server = http.server.ThreadingHTTPServer((address, 0), Handler, False)
        self.server.request_queue_size = 128
        self.server.daemon_threads = True
        self.server.block_on_close = False
        self.server.peer = self
        self.server.server_bind()
        self.server.server_activate()
        self.server.handle_error = lambda *arguments: None
        if context:
            # The handshake is the handler's, so that a guest that stops does not stop the server.
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True,
                                                     do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.host = f"{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def note_connection(self, address):
        self.connections.append(address)

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


class Streams:
    """A TCP server that gives each connection to `handle` in a thread."""

    def __init__(self, handle, context=None):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.handle, self.context = handle, context
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
                self.handle(connection)
            except OSError:
                pass

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Authority:
    """An authority made by openssl, and certificates by it."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.file = self.directory / "ca.pem"
        self.run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                 "-nodes", "-days", "30", "-subj", "/CN=test authority", "-keyout", "ca.key",
                 "-out", "ca.pem")

    def run(self, *arguments):
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True,
                       capture_output=True)

    def context(self, names):
        """Of a server whose certificate is for `names`: "DNS:localhost,IP:127.0.0.1"."""
        stem = "".join(c if c.isalnum() else "-" for c in names)
        (self.directory / f"{stem}.ext").write_text(f"subjectAltName={names}\n")
        self.run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                 "-subj", "/CN=peer", "-keyout", f"{stem}.key", "-out", f"{stem}.csr")
        self.run("x509", "-req", "-days", "30", "-in", f"{stem}.csr", "-CA", "ca.pem", "-CAkey",
                 "ca.key", "-CAcreateserial", "-extfile", f"{stem}.ext", "-out", f"{stem}.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.directory / f"{stem}.pem", self.directory / f"{stem}.key")
        return context
