"""Bodies of forms: multipart/form-data as browsers send it."""

BOUNDARY = "----0asm-test-boundary"


def part(name, content):
    """One part; `name` and `content` are text or bytes."""
    name = name if isinstance(name, bytes) else name.encode()
    content = content if isinstance(content, bytes) else content.encode()
    return (f"--{BOUNDARY}\r\n".encode() + b'Content-Disposition: form-data; name="' + name
            + b'"\r\n\r\n' + content + b"\r\n")


def form_of(*parts):
    """The body and the headers of a form; each part is a pair."""
    body = b"".join(part(*pair) for pair in parts) + f"--{BOUNDARY}--\r\n".encode()
    return body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
