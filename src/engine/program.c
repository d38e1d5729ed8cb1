#include "base/sha256.h"
#include "engine/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void program_delete(struct program *program) {
    if (program->instance_pre) {
        wasmtime_instance_pre_delete(program->instance_pre);
    }
    if (program->has_exports) {
        wasm_exporttype_vec_delete(&program->exports);
    }
    if (program->module) {
        wasmtime_module_delete(program->module);
    }
    if (program->lines_data) {
        munmap((void *)(uintptr_t)program->lines_data, program->lines_length);
    }
    free(program);
}

/* The table of source lines lies at the end of the file. It is no reason to fail. */
static void map_lines(struct program *program, int descriptor, uint64_t size) {
    uint8_t footer[LINES_FOOTER_BYTES];
    if (size < sizeof(footer) || pread(descriptor, footer, sizeof(footer),
                                       (off_t)(size - sizeof(footer))) != sizeof(footer)) {
        return;
    }
    uint64_t length = lines_length(footer);
    if (length == 0 || length > size) {
        return;
    }
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t start = size - length, mapped_start = start / page * page;
    size_t mapped_length = (size_t)(size - mapped_start);
    void *data = mmap(NULL, mapped_length, PROT_READ, MAP_PRIVATE, descriptor, (off_t)mapped_start);
    if (data == MAP_FAILED) {
        return;
    }
    if (lines_open((const uint8_t *)data + (start - mapped_start), length, &program->lines)) {
        munmap(data, mapped_length);
        return;
    }
    program->lines_data = data;
    program->lines_length = mapped_length;
}

const wasm_functype_t *program_export(const struct program *program, struct str name) {
    for (size_t i = 0; i < program->exports.size; i++) {
        const wasm_name_t *exported = wasm_exporttype_name(program->exports.data[i]);
        const wasm_externtype_t *type = wasm_exporttype_type(program->exports.data[i]);
        if (wasm_externtype_kind(type) == WASM_EXTERN_FUNC &&
            str_equal(name, (struct str){exported->data, exported->size})) {
            return wasm_externtype_as_functype_const(type);
        }
    }
    return NULL;
}

static bool exports_plain_function(const struct program *program, struct str name) {
    const wasm_functype_t *type = program_export(program, name);
    return type && wasm_functype_params(type)->size == 0 && wasm_functype_results(type)->size == 0;
}

/* Everything after the file's content has been found to be the right one. */
static enum err link_program(struct program *program, const char *path, struct buf *message) {
    struct engine *engine = program->engine;
    wasmtime_error_t *error =
        wasmtime_module_deserialize_file(engine->wasm, path, &program->module);
    if (error) {
        cleanup_buf struct buf text = {0};
        engine_take_error(error, &text);
        /* What the pool has no room for stays so, however often it is compiled. */
        bool too_big = strstr(buf_text(&text), "pooling allocator") ||
                       strstr(buf_text(&text), "exceeds the") ||
                       strstr(buf_text(&text), "instance allocation");
        return buf_fail(message, too_big ? ERR_2BIG : ERR_STALE, "%s", buf_text(&text));
    }
    wasmtime_module_exports(program->module, &program->exports);
    program->has_exports = true;
    program->has_start = exports_plain_function(program, STR("_start"));
    program->has_initialize = exports_plain_function(program, STR("_initialize"));

    wasmtime_linker_t *linker = wasmtime_linker_new(engine->wasm);
    enum err err = hostcalls_define(engine, linker, program->module, message);
    if (!err) {
        error = wasmtime_linker_instantiate_pre(linker, program->module, &program->instance_pre);
        if (error) {
            cleanup_buf struct buf text = {0};
            engine_take_error(error, &text);
            err = buf_fail(message, ERR_NOEXEC, "%s", buf_text(&text));
        }
    }
    wasmtime_linker_delete(linker);
    return err;
}

enum err program_load(struct engine *engine, const char *compiled_path, const uint8_t sha256[32],
                      struct program **ret_program, struct buf *message) {
    /* One descriptor for all: what is hashed is what is mapped, whatever becomes of the name. */
    int descriptor = open(compiled_path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor < 0) {
        int reason = errno;
        return buf_fail(message,
                        reason == ENOENT || reason == ELOOP ? ERR_STALE : err_from_errno(reason),
                        "compiled code can't be opened: %s", strerror(reason));
    }
    struct program *program = NULL;
    struct stat status;
    uint8_t hash[SHA256_SIZE];
    enum err err = ERR_OK;
    if (fstat(descriptor, &status) != 0) {
        err = buf_fail(message, err_from_errno(errno), "%s", strerror(errno));
        goto end;
    }
    if (!S_ISREG(status.st_mode) || status.st_size <= 0) {
        err = buf_fail(message, ERR_STALE, "compiled code is missing");
        goto end;
    }
    err = sha256_of_descriptor(descriptor, hash);
    if (err) {
        err = buf_fail(message, err, "compiled code can't be read: %s", err_text(err));
        goto end;
    }
    if (memcmp(hash, sha256, SHA256_SIZE) != 0) {
        err = buf_fail(message, ERR_STALE, "compiled code was altered");
        goto end;
    }
    program = calloc(1, sizeof(*program));
    if (!program) {
        err = buf_fail(message, ERR_NOMEM, "out of memory");
        goto end;
    }
    atomic_init(&program->references, 1);
    program->engine = engine;
    map_lines(program, descriptor, (uint64_t)status.st_size);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", descriptor);
    err = link_program(program, path, message);
end:
    close(descriptor);
    if (err) {
        if (program) {
            program_delete(program);
        }
        return err;
    }
    *ret_program = program;
    return ERR_OK;
}

struct program *program_ref(struct program *program) {
    atomic_fetch_add_explicit(&program->references, 1, memory_order_relaxed);
    return program;
}

void program_unref(struct program *program) {
    if (program && atomic_fetch_sub_explicit(&program->references, 1, memory_order_acq_rel) == 1) {
        program_delete(program);
    }
}
