"""Text of guests that call every WASI function with values at the edges of what there is."""

from support.wasm_bytes import TYPES, WASI_FUNCTIONS, import_of

# Descriptors, lengths and flags as they come; those with which a call gets furthest more often.
CONSTANTS = [0, 0, 0, 0, 0, 1, 1, 3, 3, 3, 3, 3, 3, 2, 4, 5, 6, 7, 8, 24, 48, 64, 255, 256, 4095,
             4096, 65535, 65536, 65537, 1024, 1025, 10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF,
             0xFFFFFFF8, 0x20000000, 0x15555556, 0x55555556, 0x7FFFFFFFFFFFFFFF,
             0x8000000000000000, 0xFFFFFFFFFFFFFFFF]
# How far before the end of the memory a pointer is; 0 is one past it.
BEFORE_END = [0, 1, 2, 4, 7, 8, 16, 23, 24, 25, 31, 32, 47, 48, 63, 64, 65, 256, 4096, 65536]
# What the memory holds while it is called: as text NULs, no UTF-8, slashes, dots, a name.
FILLS = [0x00, 0xFF, 0x2F, 0x2E, 0x61]


def calls(rounds=3000):
    """A program with an export `try_NAME` for each WASI function: it calls it `rounds` times for
    each filling of the memory, which grows in between, with arguments from a fixed sequence. An
    answer that is no errno of WASI, or a memory that can't be used any more, is a trap."""
    text = ["(module"]
    text += [import_of(name) for name in WASI_FUNCTIONS]
    text += ['(memory (export "memory") 2)', "(global $seed (mut i64) (i64.const 1))"]
    choices = [f"(i64.const {value})" for value in CONSTANTS]
    choices += ["(i64.extend_i32_u (i32.sub (i32.mul (memory.size) (i32.const 65536)) "
                f"(i32.const {value})))" for value in BEFORE_END]
    # One of the choices by the high bits of a linear congruential generator (Knuth's MMIX).
    text.append("(func $next (result i32)"
                " (global.set $seed (i64.add (i64.mul (global.get $seed)"
                " (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))"
                f" (i32.rem_u (i32.wrap_i64 (i64.shr_u (global.get $seed) (i64.const 33)))"
                f" (i32.const {len(choices)})))")
    text.append("(func $pick (result i64)")
    text += ["(block" for _ in choices]
    text.append(f"(br_table {' '.join(str(i) for i in range(len(choices)))} (call $next))")
    text += [f") (return {choice})" for choice in choices]
    text.append("(unreachable))")
    for name, letters in WASI_FUNCTIONS.items():
        if name == "proc_exit":
            continue
        arguments = " ".join("(i32.wrap_i64 (call $pick))" if letter == "i" else "(call $pick)"
                             for letter in letters)
        text.append(f'(func (export "try_{name}") (result i32) (local $left i32) (local $ok i32)'
                    " (local $errno i32)")
        for fill in FILLS:
            text.append("(drop (memory.grow (i32.const 1)))"
                        f" (memory.fill (i32.const 0) (i32.const {fill})"
                        " (i32.mul (memory.size) (i32.const 65536)))"
                        f" (local.set $left (i32.const {rounds}))"
                        f" (loop (local.set $errno (call ${name} {arguments}))"
                        " (if (i32.gt_u (local.get $errno) (i32.const 76)) (then (unreachable)))"
                        " (if (i32.eqz (local.get $errno))"
                        " (then (local.set $ok (i32.add (local.get $ok) (i32.const 1)))))"
                        " (br_if 0 (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))")
        text.append("(i32.store (i32.const 0) (i32.const 0)) (local.get $ok))")
    text.append(")")
    return "\n".join(text)


def deep():
    """A program with an export `at_NAME` for each WASI function, which recurses as often as its
    argument says and calls the function there, harmlessly (with a descriptor, addresses and lengths
    that don't exist)."""
    text = ["(module", *(import_of(name) for name in WASI_FUNCTIONS)]
    text.append('(memory (export "memory") 1)')
    for name, letters in WASI_FUNCTIONS.items():
        arguments = " ".join(f"({TYPES[letter]}.const -1)" for letter in letters)
        result = f"(call ${name} {arguments})" + (" (i32.const 0)" if name == "proc_exit" else "")
        text.append(f"""(func $at_{name} (export "at_{name}") (param $left i32) (result i32)
            (if (result i32) (i32.eqz (local.get $left))
                (then {result})
                (else (i32.add (call $at_{name} (i32.sub (local.get $left) (i32.const 1)))
                               (i32.const 0)))))""")
    return "\n".join(text + [")"])
