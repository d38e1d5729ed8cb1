/* Uploads: what they are, and the cure for those that are not for us. */
#include "engine/engine_test_double.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <wasm.h>
#include <wasmtime.h>

#define WASI "wasi_snapshot_preview1"
#define START "(func (export \"_start\"))"

static void expect(struct str upload, enum err expected, const char *part) {
    cleanup_buf struct buf message = {0};
    struct module_report report = {0};
    enum err err = engine_inspect(upload, 64 * MIB, &report, &message);
    if (err != expected || (part && !strstr(buf_text(&message), part))) {
        fail_msg("%s, %s; expected: %s, %s", err_text(err), buf_text(&message), err_text(expected),
                 part);
    }
    if (!err) {
        module_report_done(&report);
    } else {
        /* One sentence, nothing of the upload that could harm a terminal. */
        assert_true(message.length > 0 && message.length < 4096);
        assert_true(str_is_utf8(buf_str(&message)));
    }
}
#define EXPECT_BYTES(literal, expected, part) expect(STR(literal), expected, part)

static void expect_text(const char *text, enum err expected, const char *part) {
    expect(str_of(text), expected, part);
}

static void names_what_is_no_module(void **state) {
    (void)state;
    EXPECT_BYTES("", ERR_NOEXEC, "empty");
    EXPECT_BYTES("\0asm", ERR_NOEXEC, "ends after 4 bytes");
    EXPECT_BYTES("\0as", ERR_NOEXEC, "ends after 3 bytes");
    EXPECT_BYTES("\0asm\x0d\0\1\0", ERR_NOEXEC, "WASI 0.2 component; build with --target wasm32");
    EXPECT_BYTES("\0asm\2\0\0\0", ERR_NOEXEC, "version");
    EXPECT_BYTES("\x7f"
                 "ELF\2\1\1",
                 ERR_NOEXEC, "Linux (ELF)");
    EXPECT_BYTES("\xcf\xfa\xed\xfe\7\0\0\1", ERR_NOEXEC, "macOS");
    EXPECT_BYTES("MZ\x90\0\3", ERR_NOEXEC, "Windows");
    EXPECT_BYTES("\x1f\x8b\x08\0\0", ERR_NOEXEC, "gzip; unpack it");
    EXPECT_BYTES("PK\3\4", ERR_NOEXEC, "zip");
    EXPECT_BYTES("asm\1", ERR_NOEXEC, "--data-binary");
    EXPECT_BYTES("\n  <!DOCTYPE HTML><html>", ERR_NOEXEC, "HTML");
    EXPECT_BYTES("#include <stdio.h>\nint main(void) {}", ERR_NOEXEC, "C or C++");
    EXPECT_BYTES("// x\npackage main\n", ERR_NOEXEC, "Go");
    EXPECT_BYTES("use std::io;\nfn main() {}", ERR_NOEXEC, "Rust");
    EXPECT_BYTES("import sys\nprint(1)\n", ERR_NOEXEC, "Python");
    EXPECT_BYTES("const x = 1;\n", ERR_NOEXEC, "JavaScript");
    EXPECT_BYTES("@first.wasm", ERR_NOEXEC, "--data-binary");
    EXPECT_BYTES("----------------------------1\r\n", ERR_NOEXEC, "form");
    EXPECT_BYTES("{\"a\": 1}", ERR_NOEXEC, "JSON");
    EXPECT_BYTES("(component)", ERR_NOEXEC, "component");
    EXPECT_BYTES("\1\2\3\4\5\6\7\x88\x99", ERR_NOEXEC, "does not begin with");
    EXPECT_BYTES("x", ERR_NOEXEC, NULL);
}

static void accepts_text(void **state) {
    (void)state;
    expect_text("(module " START ")", ERR_OK, NULL);
    expect_text(";; a comment\n (; another ;) (module " START ")", ERR_OK, NULL);
    expect_text("(module (func", ERR_NOEXEC, NULL);
    expect_text("(module (func (export \"_start\") (i32.add)))", ERR_OK, NULL); /* the compiler */
    struct buf large = {0};
    assert_int_equal(buf_append_str(&large, STR("(module (; ")), ERR_OK);
    for (unsigned i = 0; i < 1 << 18; i++) {
        assert_int_equal(buf_append_str(&large, STR("xxxxx")), ERR_OK);
    }
    expect(buf_str(&large), ERR_2BIG, "1024 KiB");
    buf_done(&large);
    /* Nested deeper than any stack. */
    for (unsigned i = 0; i < 100000; i++) {
        if (i == 0) {
            assert_int_equal(buf_append_str(&large, STR("(module (func ")), ERR_OK);
        }
        assert_int_equal(buf_append_str(&large, STR("(block ")), ERR_OK);
    }
    expect(buf_str(&large), ERR_NOEXEC, NULL);
    buf_done(&large);
}

static void names_who_made_it(void **state) {
    (void)state;
    expect_text("(module (import \"wbg\" \"__wbg_log_1\" (func)) (func (export \"x\")))",
                ERR_NOEXEC, "wasm-bindgen");
    expect_text("(module (import \"gojs\" \"runtime.wasmExit\" (func)) (func (export \"run\")))",
                ERR_NOEXEC, "GOOS=wasip1");
    expect_text("(module (import \"env\" \"emscripten_memcpy_js\" (func)) (func (export \"x\")))",
                ERR_NOEXEC, "STANDALONE_WASM");
    expect_text("(module (import \"a\" \"b\" (func)) (func (export \"x\")))", ERR_NOEXEC,
                "Emscripten");
    expect_text("(module (import \"env\" \"memory\" (memory 1 2 shared)) " START ")", ERR_NOEXEC,
                "one thread");
    expect_text("(module (import \"wasi\" \"thread-spawn\" (func (param i32) (result i32))) " START
                ")",
                ERR_NOEXEC, "wasi-threads");
    expect_text("(module (import \"wasi:cli/run@0.2.0\" \"x\" (func)) " START ")", ERR_NOEXEC,
                "WASI 0.2");
    expect_text("(module (import \"env\" \"memory\" (memory 1)) " START ")", ERR_NOEXEC,
                "imports a memory, env.memory, which");
    expect_text("(module (import \"env\" \"\\1bx\" (global i32)) " START ")", ERR_NOEXEC,
                "imports a global, env.?x");
    expect_text("(module (import \"env\" \"t\" (table 1 funcref)) " START ")", ERR_NOEXEC,
                "a table");
    expect_text("(module (memory i64 1) " START ")", ERR_NOEXEC, "memory64");
    expect_text("(module (memory 1) (memory 1) " START ")", ERR_NOEXEC, "several memories");
    expect_text("(module (type (struct)) " START ")", ERR_NOEXEC, "WasmGC");
    expect_text("(module (tag) " START ")", ERR_NOEXEC, "exceptions");
    expect_text("(module (memory 1))", ERR_NOEXEC, "nothing to run");
    expect_text("(module (@custom \"linking\" \"x\") " START ")", ERR_NOEXEC, "object file");
    expect_text("(module (@custom \"dylink.0\" \"x\") " START ")", ERR_NOEXEC, "shared library");
    /* With imports of WASI it may have whatever it does not call. */
    expect_text("(module (import \"wbg\" \"__wbg_log_1\" (func)) (import \"" WASI
                "\" \"sched_yield\" (func (result i32))) " START ")",
                ERR_OK, NULL);
}

static void limits_are_checked(void **state) {
    (void)state;
    expect_text("(module (memory 1024) " START ")", ERR_OK, NULL);
    expect_text("(module (memory 1025) " START ")", ERR_2BIG,
                "at least 65600 KiB of memory; the limit is 65536 KiB (memory=SIZE");
    expect_text("(module (memory 65536) " START ")", ERR_2BIG,
                "at least 4096 MiB of memory; the limit is 64 MiB (memory=SIZE");
    expect_text("(module (table 131073 funcref) " START ")", ERR_2BIG, "elements in a table");
    expect_text("(module (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) "
                "(table 1 funcref) " START ")",
                ERR_2BIG, "5 tables");
    /* Declarations without content: a count of functions, of types, of local variables. */
    EXPECT_BYTES("\0asm\1\0\0\0\1\5\xff\xff\xff\xff\x0f", ERR_2BIG, "types");
    EXPECT_BYTES("\0asm\1\0\0\0\1\4\1\x60\0\0\3\5\xff\xff\xff\xff\x0f", ERR_2BIG, "functions");
    EXPECT_BYTES("\0asm\1\0\0\0\1\4\1\x60\0\0\3\2\1\0\x0a\x0a\1\x08\1\xff\xff\xff\x0f\x7f\x0b\0",
                 ERR_2BIG, "local variables");
    EXPECT_BYTES("\0asm\1\0\0\0\1\6\1\x60\xe9\x07\x7f\x7f", ERR_2BIG, "parameters");
    EXPECT_BYTES("\0asm\1\0\0\0\2\5\xff\xff\xff\xff\x0f", ERR_2BIG, "imports");
    EXPECT_BYTES("\0asm\1\0\0\0\7\5\xff\xff\xff\xff\x0f", ERR_2BIG, "exports");
}

static void reports_what_it_is(void **state) {
    (void)state;
    cleanup_buf struct buf message = {0};
    struct module_report report;
    assert_int_equal(engine_inspect(STR("(module (import \"" WASI "\" \"fd_write\""
                                        " (func (param i32 i32 i32 i32) (result i32)))"
                                        " (import \"" WASI "\" \"fd_read\" (func (param i64)))"
                                        " (import \"" WASI "\" \"nonsense\" (func))"
                                        " (import \"env\" \"a\\0ab\" (func (param f64)))"
                                        " (memory 3) (func (export \"other\")) " START ")"),
                                    64 * MIB, &report, &message),
                     ERR_OK);
    assert_int_equal(report.kind, MODULE_COMMAND);
    assert_int_equal(report.unknown_imports, 3);
    assert_string_equal(buf_text(&report.unknown_names),
                        WASI ".fd_read\n" WASI ".nonsense\nenv.a?b\n");
    assert_int_equal(report.memory_minimum_bytes, 3 * 64 * KIB);
    assert_int_equal(report.exports.length, 0);
    module_report_done(&report);

    assert_int_equal(
        engine_inspect(
            STR("(module (import \"env\" \"f\" (func $f (param f32)))"
                " (func (export \"add\") (param i32 i64) (result i32) unreachable)"
                " (export \"f\" (func $f)) (memory (export \"memory\") 1)"
                " (func (export \"_initialize\"))"
                " (func (export \"v\") (param v128 funcref) (result f64 i32) unreachable)"
                " (func (export \"_start\") (param i32)))"),
            64 * MIB, &report, &message),
        ERR_OK);
    assert_int_equal(report.kind, MODULE_LIBRARY);
    assert_string_equal(buf_text(&report.exports), "add(i32 i64) -> i32\nf(f32) -> nothing\n"
                                                   "v(v128 ref) -> f64 i32\n");
    module_report_done(&report);
}

/* Every beginning of a module, and every byte of it changed, ends in an answer. */
static void damaged_modules_are_refused(void **state) {
    (void)state;
    wasm_byte_vec_t module;
    static const char text[] =
        "(module (type (func (param i32 i64) (result f32)))"
        " (import \"" WASI "\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))"
        " (import \"env\" \"x\" (func)) (table 3 10 funcref) (memory 1 2)"
        " (global (mut i32) (i32.const 1)) (func $f (local i32 f64) (local.set 0 (i32.const 1)))"
        " (export \"f\" (func $f)) (elem (i32.const 0) func $f) (data (i32.const 0) \"abc\")"
        " (@custom \"c\" \"ddd\") " START ")";
    assert_null(wasmtime_wat2wasm(text, strlen(text), &module));
    struct module_report report;
    cleanup_buf struct buf message = {0};
    unsigned refused = 0;
    for (size_t length = 0; length <= module.size; length++) {
        /* A copy of exactly that length, so that a sanitizer sees the first byte too many. */
        char *copy = malloc(length + 1);
        assert_non_null(copy);
        copy = realloc(copy, length ? length : 1);
        memcpy(copy, module.data, length);
        enum err err = engine_inspect((struct str){copy, length}, 64 * MIB, &report, &message);
        if (err) {
            refused++;
        } else {
            module_report_done(&report);
        }
        free(copy);
    }
    assert_true(refused > module.size * 8 / 10); /* it may end between sections */
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    for (size_t position = 0; position < module.size; position++) {
        for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
            char *copy = malloc(module.size);
            assert_non_null(copy);
            memcpy(copy, module.data, module.size);
            copy[position] = (char)values[i];
            enum err err =
                engine_inspect((struct str){copy, module.size}, 64 * MIB, &report, &message);
            assert_true(err == ERR_OK || err == ERR_NOEXEC || err == ERR_2BIG);
            if (!err) {
                module_report_done(&report);
            }
            free(copy);
        }
    }
    wasm_byte_vec_delete(&module);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_what_is_no_module), cmocka_unit_test(accepts_text),
        cmocka_unit_test(names_who_made_it),       cmocka_unit_test(limits_are_checked),
        cmocka_unit_test(reports_what_it_is),      cmocka_unit_test(damaged_modules_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
