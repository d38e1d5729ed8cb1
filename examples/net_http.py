# Makes http.client, and urllib with it, work over /net/request: requests without sockets.
# Import it before urllib.request.
import http.client
import io
import os
import select


class Answer(io.RawIOBase):
    """What is read of it has to come within the timeout, as with a socket."""

    def __init__(self, file, timeout):
        self.file, self.timeout = file, timeout
        os.fsync(file.fileno())  # that was all of the question

    def readable(self):
        return True

    def readinto(self, buffer):
        if isinstance(self.timeout, (int, float)):
            wait = select.poll()
            wait.register(self.file, select.POLLIN)
            if not wait.poll(self.timeout * 1000):
                raise TimeoutError("timed out")
        return self.file.readinto(buffer)


class RequestFile:
    """What http.client wants of a socket."""

    def __init__(self, timeout):
        self.file = open("/net/request", "r+b", buffering=0)
        self.timeout = timeout

    def sendall(self, data):
        data = memoryview(data).cast("B")
        while data:
            data = data[self.file.write(data):]

    def makefile(self, mode):
        return io.BufferedReader(Answer(self.file, self.timeout))

    def close(self):
        pass  # the response reads on; its end closes the file


class HTTPConnection(http.client.HTTPConnection):
    scheme = "http"

    def connect(self):
        self.sock = RequestFile(self.timeout)

    def putrequest(self, method, url, *arguments, **options):
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == self.default_port else f":{self.port}"
        super().putrequest(method, f"{self.scheme}://{host}{port}{url}", *arguments, **options)

    def getresponse(self):
        response = super().getresponse()
        if response.getheader("0asm-Error"):
            raise OSError(response.getheader("0asm-Error"))
        return response


class HTTPSConnection(HTTPConnection):
    scheme = "https"
    default_port = http.client.HTTPS_PORT

    def __init__(self, host, port=None, context=None, **options):
        super().__init__(host, port, **options)  # who it is, is verified outside


http.client.HTTPConnection = HTTPConnection
http.client.HTTPSConnection = HTTPSConnection
http.client._create_https_context = lambda version: None
