"""Small WebAssembly modules, written byte by byte (the binary format) or as text."""


def leb(number):
    """An unsigned LEB128."""
    encoded = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        if not number:
            encoded.append(byte)
            return bytes(encoded)
        encoded.append(byte | 0x80)


def text(name):
    data = name.encode()
    return leb(len(data)) + data


def section(number, content):
    return bytes([number]) + leb(len(content)) + content


def vector(items):
    return leb(len(items)) + b"".join(items)


KINDS = {"func": b"\x00\x00", "func_i32": b"\x00\x01", "memory": b"\x02\x00\x01"}


def module(imports=(), exports=(), body=b"\x0b"):
    """Imports are (module, name, kind); each export is a function of its own with this body."""
    functions = sum(kind.startswith("func") for _, _, kind in imports)
    binary = b"\0asm\1\0\0\0"
    binary += section(1, vector([b"\x60\x00\x00", b"\x60\x01\x7f\x00"]))
    if imports:
        binary += section(2, vector([text(m) + text(n) + KINDS[k] for m, n, k in imports]))
    if exports:
        binary += section(3, vector([b"\x00"] * len(exports)))
        binary += section(7, vector([text(name) + b"\x00" + leb(functions + i)
                                     for i, name in enumerate(exports)]))
        code = b"\x00" + body
        binary += section(10, vector([leb(len(code)) + code] * len(exports)))
    return binary


def wat_empty():
    return b'(module (func (export "_start")))'


def wat_numbered(number):
    """Its exit status is the number: so two versions can be told apart."""
    return (f'(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
            f' (memory (export "memory") 1)'
            f' (func (export "_start") i32.const {number} call $exit))').encode()


def wat_print(line):
    """Prints the line, as it is."""
    length = len(line.encode())
    return (f'(module (import "wasi_snapshot_preview1" "fd_write"'
            f' (func $write (param i32 i32 i32 i32) (result i32)))'
            f' (memory (export "memory") 1) (data (i32.const 64) "{line}")'
            f' (func (export "_start")'
            f' (i32.store (i32.const 0) (i32.const 64))'
            f' (i32.store (i32.const 4) (i32.const {length}))'
            f' (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))'
            ).encode()
