/* Core dumps: what is left of a guest that has trapped, as a file that debuggers read.
 *
 * The format is a WebAssembly module that is never run (WebAssembly/tool-conventions, Coredump.md):
 * custom sections "core", "coremodules", "coreinstances" and "corestack", the memory with a data
 * segment for each stretch that is not zero, and globals. The C API gives the frames with their
 * offsets, the memory and what is exported; not values of locals (they are "missing", and have no
 * place here), and no globals that are not exported. */
#include "base/fsio.h"
#include "base/log.h"
#include "engine/internal.h"

#include <errno.h>
#include <unistd.h>

enum {
    PAGE_BYTES = 4096,
    WASM_PAGE_BYTES = 64 * 1024,
    GLOBALS_MAX = 1000,
    SECTION_CUSTOM = 0,
    SECTION_MEMORY = 5,
    SECTION_GLOBAL = 6,
    SECTION_DATA = 11,
    PADDED_BYTES = 5, /* a u32 that is filled in later */
};

/* ---- encoding (WebAssembly Core Specification, chapter 5) ---- */

static enum err put_u32(struct buf *text, uint32_t value) {
    do {
        uint8_t byte = (uint8_t)(value & 0x7f);
        value >>= 7;
        enum err err = buf_append_byte(text, (uint8_t)(byte | (value ? 0x80 : 0)));
        if (err) {
            return err;
        }
    } while (value);
    return ERR_OK;
}

static enum err put_signed(struct buf *text, int64_t value) {
    for (;;) {
        uint8_t byte = (uint8_t)(value & 0x7f);
        value >>= 7; /* arithmetic */
        bool is_last = (value == 0 && !(byte & 0x40)) || (value == -1 && byte & 0x40);
        enum err err = buf_append_byte(text, (uint8_t)(byte | (is_last ? 0 : 0x80)));
        if (err || is_last) {
            return err;
        }
    }
}

static void pad_u32(uint8_t bytes[PADDED_BYTES], uint32_t value) {
    for (unsigned i = 0; i < PADDED_BYTES; i++) {
        bytes[i] = (uint8_t)(((value >> (7 * i)) & 0x7f) | (i + 1 < PADDED_BYTES ? 0x80 : 0));
    }
}

static enum err put_name(struct buf *text, struct str name) {
    enum err err = put_u32(text, (uint32_t)name.length);
    return err ? err : buf_append_str(text, name);
}

/* `content` is used up. */
static enum err put_section(struct buf *text, uint8_t number, struct buf *content) {
    enum err err = buf_append_byte(text, number);
    err = err ? err : put_u32(text, (uint32_t)content->length);
    err = err ? err : buf_append_str(text, buf_str(content));
    content->length = 0;
    return err;
}

/* ---- sections ---- */

/* Offsets are relative to the function's body, whose first byte belongs to its locals: so 0 is no
 * instruction, but the entry. The engine gives that for a trap among the first instructions, since
 * its map of machine code begins there, and none for one in the prologue (a stack that is full).
 * The function is known in any case, so the frame stays. */
static enum err put_stack(const struct sandbox *sandbox, struct buf *content) {
    wasm_frame_vec_t frames;
    if (sandbox->trap) {
        wasm_trap_trace(sandbox->trap, &frames);
    } else {
        wasmtime_error_wasm_trace(sandbox->error, &frames);
    }
    enum err err = put_name(content, STR("corestack"));
    err = err ? err : buf_append_byte(content, 0);
    err = err ? err : put_name(content, STR("main"));
    err = err ? err : put_u32(content, (uint32_t)frames.size);
    for (size_t i = 0; i < frames.size && !err; i++) {
        size_t offset = wasm_frame_func_offset(frames.data[i]);
        err = buf_append_byte(content, 0);
        err = err ? err : put_u32(content, 0); /* the instance */
        err = err ? err : put_u32(content, wasm_frame_func_index(frames.data[i]));
        err = err ? err : put_u32(content, offset > UINT32_MAX ? 0 : (uint32_t)offset);
        err = err ? err : put_u32(content, 0); /* locals */
        err = err ? err : put_u32(content, 0); /* operands */
    }
    wasm_frame_vec_delete(&frames);
    return err;
}

static enum err put_global(struct buf *content, const wasmtime_val_t *value) {
    static const struct {
        uint8_t type, constant;
    } codes[] = {
        [WASMTIME_I32] = {0x7f, 0x41},
        [WASMTIME_I64] = {0x7e, 0x42},
        [WASMTIME_F32] = {0x7d, 0x43},
        [WASMTIME_F64] = {0x7c, 0x44},
    };
    const uint8_t head[] = {codes[value->kind].type, 0, codes[value->kind].constant};
    enum err err = buf_append(content, head, sizeof(head));
    switch (value->kind) {
    case WASMTIME_I32:
        err = err ? err : put_signed(content, value->of.i32);
        break;
    case WASMTIME_I64:
        err = err ? err : put_signed(content, value->of.i64);
        break;
    case WASMTIME_F32:
        err = err ? err : buf_append(content, &value->of.f32, sizeof(value->of.f32));
        break;
    default:
        err = err ? err : buf_append(content, &value->of.f64, sizeof(value->of.f64));
    }
    return err ? err : buf_append_byte(content, 0x0b);
}

/* The exported globals that are numbers. */
static enum err put_globals(const struct sandbox *sandbox, struct buf *content,
                            uint32_t *ret_count) {
    cleanup_buf struct buf globals = {0};
    uint32_t count = 0;
    enum err err = ERR_OK;
    bool has_instance = sandbox->instance.store_id != 0;
    for (size_t i = 0; has_instance && !err && count < GLOBALS_MAX; i++) {
        char *name;
        size_t length;
        wasmtime_extern_t item;
        if (!wasmtime_instance_export_nth(sandbox->context, &sandbox->instance, i, &name, &length,
                                          &item)) {
            break;
        }
        if (item.kind == WASMTIME_EXTERN_GLOBAL) {
            wasmtime_val_t value;
            wasmtime_global_get(sandbox->context, &item.of.global, &value);
            if (value.kind <= WASMTIME_F64) {
                err = put_global(&globals, &value);
                count++;
            }
            wasmtime_val_unroot(&value);
        }
        wasmtime_extern_delete(&item);
    }
    err = err ? err : put_u32(content, count);
    err = err ? err : buf_append_str(content, buf_str(&globals));
    *ret_count = count;
    return err;
}

static enum err put_instances(struct buf *content, bool has_memory, uint32_t global_count) {
    static const uint8_t one_module[] = {1, 0, 0}; /* instances, tag, index of the module */
    enum err err = put_name(content, STR("coreinstances"));
    err = err ? err : buf_append(content, one_module, sizeof(one_module));
    err = err ? err : put_u32(content, has_memory);
    if (!err && has_memory) {
        err = put_u32(content, 0);
    }
    err = err ? err : put_u32(content, global_count);
    for (uint32_t i = 0; i < global_count && !err; i++) {
        err = put_u32(content, i);
    }
    return err;
}

static enum err put_process(struct buf *head, struct buf *content, struct str name) {
    enum err err = put_name(content, STR("core"));
    err = err ? err : buf_append_byte(content, 0);
    err = err ? err : put_name(content, name);
    err = err ? err : put_section(head, SECTION_CUSTOM, content);
    err = err ? err : put_name(content, STR("coremodules"));
    err = err ? err : put_u32(content, 1);
    err = err ? err : buf_append_byte(content, 0);
    err = err ? err : put_name(content, name);
    return err ? err : put_section(head, SECTION_CUSTOM, content);
}

enum err sandbox_core(struct sandbox *sandbox, struct str name, struct sandbox_core *ret_core) {
    static const uint8_t magic[] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    cleanup_buf struct buf content = {0};
    cleanup_buf struct buf globals = {0};
    struct buf head = {0};
    uint32_t global_count = 0;
    uint64_t bytes = sandbox_memory_bytes(sandbox);
    INVARIANT(sandbox->trap || sandbox->error);

    enum err err = buf_append(&head, magic, sizeof(magic));
    err = err ? err : put_process(&head, &content, name);
    err = err ? err : put_globals(sandbox, &globals, &global_count);
    err = err ? err : put_instances(&content, sandbox->has_memory, global_count);
    err = err ? err : put_section(&head, SECTION_CUSTOM, &content);
    err = err ? err : put_stack(sandbox, &content);
    err = err ? err : put_section(&head, SECTION_CUSTOM, &content);
    if (!err && sandbox->has_memory) {
        static const uint8_t one_memory[] = {1, 0}; /* memories, no maximum */
        err = buf_append(&content, one_memory, sizeof(one_memory));
        err = err ? err : put_u32(&content, (uint32_t)(bytes / WASM_PAGE_BYTES));
        err = err ? err : put_section(&head, SECTION_MEMORY, &content);
    }
    err = err ? err : put_section(&head, SECTION_GLOBAL, &globals);
    if (err) {
        buf_done(&head);
        return err;
    }
    size_t length = 0;
    *ret_core = (struct sandbox_core){
        .head = head,
        .memory = sandbox->guest.memory(&sandbox->guest, &length),
        .memory_bytes = bytes,
    };
    return ERR_OK;
}

void sandbox_core_done(struct sandbox_core *core) {
    buf_done(&core->head);
}

/* ---- writing ---- */

struct writer {
    int descriptor;
    uint64_t position, bytes_max;
};

static enum err write_more(struct writer *writer, const void *data, size_t length) {
    if (length > writer->bytes_max - writer->position) {
        return ERR_2BIG;
    }
    enum err err = fsio_write_at(writer->descriptor, data, length, writer->position);
    writer->position += err ? 0 : length;
    return err;
}

static bool is_zero(const uint8_t *page) {
    return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

/* An active segment: its memory is the first one, its offset a constant. */
static enum err write_segment(struct writer *writer, const uint8_t *memory, uint64_t offset,
                              uint64_t length) {
    cleanup_buf struct buf head = {0};
    static const uint8_t start[] = {0, 0x41};
    enum err err = buf_append(&head, start, sizeof(start));
    err = err ? err : put_signed(&head, (int32_t)(uint32_t)offset);
    err = err ? err : buf_append_byte(&head, 0x0b);
    err = err ? err : put_u32(&head, (uint32_t)length);
    err = err ? err : write_more(writer, head.data, head.length);
    return err ? err : write_more(writer, memory + offset, (size_t)length);
}

static enum err write_data(struct writer *writer, const struct sandbox_core *core) {
    /* Section, its size and the number of segments, which are known afterwards. */
    uint8_t head[1 + 2 * PADDED_BYTES] = {SECTION_DATA};
    uint64_t section_position = writer->position;
    enum err err = write_more(writer, head, sizeof(head));
    uint32_t count = 0;
    for (uint64_t offset = 0; offset < core->memory_bytes && !err;) {
        uint64_t end = offset;
        while (end < core->memory_bytes && !is_zero(core->memory + end)) {
            end += PAGE_BYTES;
        }
        if (end > offset) {
            err = write_segment(writer, core->memory, offset, end - offset);
            count++;
        }
        offset = end + PAGE_BYTES; /* that one is zero */
    }
    if (err) {
        return err;
    }
    uint64_t size = writer->position - section_position - 1 - PADDED_BYTES;
    pad_u32(head + 1, (uint32_t)size);
    pad_u32(head + 1 + PADDED_BYTES, count);
    return fsio_write_at(writer->descriptor, head, sizeof(head), section_position);
}

enum err sandbox_core_write(const struct sandbox_core *core, int descriptor, uint64_t bytes_max,
                            uint64_t *ret_bytes) {
    struct writer writer = {.descriptor = descriptor, .bytes_max = MIN(bytes_max, 2 * GIB)};
    enum err err = write_more(&writer, core->head.data, core->head.length);
    if (!err && core->memory_bytes > 0) {
        err = write_data(&writer, core);
    }
    if (!err) {
        *ret_bytes = writer.position;
    }
    return err;
}
