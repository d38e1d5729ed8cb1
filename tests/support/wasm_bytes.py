"""Modules made by hand: text with calls of WASI functions, and bytes of any shape."""

# Name, parameters (i = i32, I = i64) of the functions of WASI preview 1; all but proc_exit return
# an errno.
WASI_FUNCTIONS = {
    "args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
    "clock_res_get": "ii", "clock_time_get": "iIi", "fd_advise": "iIIi", "fd_allocate": "iII",
    "fd_close": "i", "fd_datasync": "i", "fd_fdstat_get": "ii", "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii", "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi", "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii", "fd_pwrite": "iiiIi", "fd_read": "iiii",
    "fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "iIii", "fd_sync": "i",
    "fd_tell": "ii", "fd_write": "iiii", "path_create_directory": "iii",
    "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi", "path_link": "iiiiiii",
    "path_open": "iiiiiIIii", "path_readlink": "iiiiii", "path_remove_directory": "iii",
    "path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
    "poll_oneoff": "iiii", "proc_exit": "i", "proc_raise": "i", "random_get": "ii",
    "sched_yield": "", "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
TYPES = {"i": "i32", "I": "i64"}


def import_of(name):
    """The text that imports a WASI function as $NAME."""
    parameters = " ".join(TYPES[letter] for letter in WASI_FUNCTIONS[name])
    parameters = f" (param {parameters})" if parameters else ""
    result = "" if name == "proc_exit" else " (result i32)"
    return (f'(import "wasi_snapshot_preview1" "{name}" '
            f"(func ${name}{parameters}{result}))")


def leb(number):
    """An unsigned LEB128."""
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        out.append(byte | (0x80 if number else 0))
        if not number:
            return bytes(out)


def signed_leb(number):
    out = bytearray()
    while True:
        byte = number & 0x7F
        number >>= 7
        if (number == 0 and not byte & 0x40) or (number == -1 and byte & 0x40):
            out.append(byte)
            return bytes(out)
        out.append(byte | 0x80)


def vector(items):
    """A counted list."""
    items = list(items)
    return leb(len(items)) + b"".join(items)


def name(text):
    data = text if isinstance(text, bytes) else text.encode()
    return leb(len(data)) + data


def section(number, content):
    return bytes([number]) + leb(len(content)) + content


HEADER = b"\0asm\1\0\0\0"
(TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, CODE,
 DATA) = range(1, 12)
END = b"\x0b"
NOTHING = b"\x60\0\0"  # the type of a function without parameters and results


def code(*bodies):
    """The section of code; a body is given without its locals and its length."""
    return section(CODE, vector(leb(len(body) + 2) + b"\0" + body + END for body in bodies))


def module(body=b"", *, types=(NOTHING,), functions=(0,), memory=b"\0\1", exports=None, bodies=None,
           before_code=b"", after_code=b"", before_exports=b""):
    """A program: exports `_start` (function 0) and its memory, unless told otherwise."""
    if exports is None:
        exports = [name("_start") + b"\0\0"] + ([name("memory") + b"\2\0"] if memory else [])
    out = HEADER + section(TYPE, vector(types))
    out += section(FUNCTION, vector(leb(function) for function in functions))
    if memory:
        out += section(MEMORY, vector([memory]))
    out += before_exports + section(EXPORT, vector(exports)) + before_code
    out += code(*(bodies if bodies is not None else [body])) + after_code
    return out


def sections_of(data):
    """The offsets at which the sections begin, and the end."""
    offsets, at = [], 8
    while at < len(data):
        offsets.append(at)
        at += 1
        length, shift = 0, 0
        while True:
            byte = data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        at += length
    return offsets + [len(data)]
