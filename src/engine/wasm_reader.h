/* Reading the bytes of a WebAssembly module (and of DWARF, which uses the same numbers): a cursor
 * that can't leave its bytes. After the first failure everything reads as zero and `failed` stays
 * set, so that a caller may check once at the end of a structure. Loops must check in their
 * condition. Source: WebAssembly Core Specification, chapter 5. */
#pragma once

#include "base/buf.h"

struct wasm_reader {
    const uint8_t *position;
    const uint8_t *end;
    bool failed;
};

static inline struct wasm_reader wasm_reader_of(struct str bytes) {
    const uint8_t *data = (const uint8_t *)bytes.data;
    return (struct wasm_reader){data, data + bytes.length, false};
}
static inline size_t wasm_left(const struct wasm_reader *reader) {
    return (size_t)(reader->end - reader->position);
}
static inline void wasm_fail(struct wasm_reader *reader) {
    reader->failed = true;
    reader->position = reader->end;
}
static inline uint8_t wasm_byte(struct wasm_reader *reader) {
    if (reader->position == reader->end) {
        reader->failed = true;
        return 0;
    }
    return *reader->position++;
}
/* LEB128 of at most `bits` bits; what does not fit is a failure. */
static inline uint64_t wasm_unsigned(struct wasm_reader *reader, unsigned bits) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte = wasm_byte(reader);
        uint64_t part = byte & 0x7f;
        if (bits - shift < 7 && part >> (bits - shift) != 0) {
            break;
        }
        value |= part << shift;
        if (!(byte & 0x80)) {
            return reader->failed ? 0 : value;
        }
    }
    wasm_fail(reader);
    return 0;
}
static inline uint32_t wasm_u32(struct wasm_reader *reader) {
    return (uint32_t)wasm_unsigned(reader, 32);
}
/* Signed LEB128; bits beyond 64 are dropped. */
static inline int64_t wasm_signed(struct wasm_reader *reader) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte = wasm_byte(reader);
        if (shift < 64) {
            value |= (uint64_t)(byte & 0x7f) << shift;
        }
        if (!(byte & 0x80)) {
            if ((byte & 0x40) && shift + 7 < 64) {
                value |= ~(uint64_t)0 << (shift + 7);
            }
            return reader->failed ? 0 : (int64_t)value;
        }
    }
    wasm_fail(reader);
    return 0;
}
/* The next `length` bytes. */
static inline struct str wasm_bytes(struct wasm_reader *reader, uint64_t length) {
    if (length > wasm_left(reader)) {
        wasm_fail(reader);
        return (struct str){(const char *)reader->end, 0};
    }
    struct str bytes = {(const char *)reader->position, (size_t)length};
    reader->position += length;
    return bytes;
}
/* Bytes after their length: names, contents of sections, bodies. */
static inline struct str wasm_vector(struct wasm_reader *reader) {
    return wasm_bytes(reader, wasm_u32(reader));
}
/* Fixed-size little-endian numbers of 1 to 8 bytes (DWARF's). */
static inline uint64_t wasm_fixed(struct wasm_reader *reader, unsigned bytes) {
    struct str data = wasm_bytes(reader, bytes);
    uint64_t value = 0;
    for (size_t i = 0; i < data.length && i < sizeof(value); i++) {
        value |= (uint64_t)(uint8_t)data.data[i] << (8 * i);
    }
    return value;
}
/* Bytes up to a NUL, which is taken too. */
static inline struct str wasm_text(struct wasm_reader *reader) {
    const void *nul = memchr(reader->position, 0, wasm_left(reader));
    if (!nul) {
        wasm_fail(reader);
        return (struct str){(const char *)reader->end, 0};
    }
    struct str text = wasm_bytes(reader, (uint64_t)((const uint8_t *)nul - reader->position));
    reader->position++;
    return text;
}
