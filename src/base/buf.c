#include "base/buf.h"

#include <stdio.h>

enum { CAPACITY_MIN = 63 };

void buf_done(struct buf *buf) {
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_wipe(struct buf *buf) {
    if (buf->data) {
        explicit_bzero(buf->data, buf->capacity + 1);
    }
    buf_done(buf);
}

enum err buf_reserve(struct buf *buf, size_t extra) {
    if (extra <= buf->capacity - buf->length) {
        return ERR_OK;
    }
    /* Objects are at most PTRDIFF_MAX bytes long; one byte is for the NUL. */
    if (extra > (size_t)PTRDIFF_MAX - 1 - buf->length) {
        return ERR_NOMEM;
    }
    size_t wanted = buf->length + extra;
    size_t doubled = buf->capacity <= (size_t)PTRDIFF_MAX / 4 ? buf->capacity * 2 + 1 : wanted;
    size_t capacity = MAX(MAX(wanted, doubled), (size_t)CAPACITY_MIN);
    uint8_t *data = realloc(buf->data, capacity + 1);
    if (!data) {
        return ERR_NOMEM;
    }
    data[buf->length] = 0;
    buf->data = data;
    buf->capacity = capacity;
    return ERR_OK;
}

enum err buf_append(struct buf *buf, const void *data, size_t length) {
    if (length == 0) {
        return ERR_OK;
    }
    enum err err = buf_reserve(buf, length);
    if (err) {
        return err;
    }
    memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    buf->data[buf->length] = 0;
    return ERR_OK;
}

enum err buf_append_str(struct buf *buf, struct str text) {
    return buf_append(buf, text.data, text.length);
}

enum err buf_append_byte(struct buf *buf, uint8_t byte) {
    return buf_append(buf, &byte, 1);
}

enum err buf_vprintf(struct buf *buf, const char *format, va_list arguments) {
    size_t room = buf->data ? buf->capacity - buf->length + 1 : 0;
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(room ? (char *)buf->data + buf->length : NULL, room, format, arguments);
    enum err err = ERR_OK;
    if (length < 0) {
        err = ERR_INVAL;
    } else if (length > 0 && (size_t)length >= room) {
        err = buf_reserve(buf, (size_t)length);
        if (!err) {
            vsnprintf((char *)buf->data + buf->length, (size_t)length + 1, format, again);
        }
    }
    va_end(again);
    if (!err) {
        buf->length += (size_t)length;
    } else if (buf->data) {
        buf->data[buf->length] = 0; /* takes the beginning that fitted back */
    }
    return err;
}

enum err buf_printf(struct buf *buf, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(buf, format, arguments);
    va_end(arguments);
    return err;
}

void buf_consume(struct buf *buf, size_t length) {
    if (length == 0) {
        return;
    }
    if (length >= buf->length) {
        buf->length = 0;
    } else {
        memmove(buf->data, buf->data + length, buf->length - length);
        buf->length -= length;
    }
    if (buf->data) {
        buf->data[buf->length] = 0;
    }
}

enum err buf_fail(struct buf *message, enum err err, const char *format, ...) {
    if (!message) {
        return err;
    }
    /* A new one, because the arguments may point at the old text. */
    struct buf text = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err print_err = buf_vprintf(&text, format, arguments);
    va_end(arguments);
    if (print_err) {
        buf_done(&text);
    }
    buf_done(message);
    *message = text;
    return err;
}
