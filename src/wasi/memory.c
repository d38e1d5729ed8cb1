#include "wasi/memory.h"

#include "wasi/wasi_layout.h"

enum err guest_slice(struct guest *guest, uint32_t address, uint64_t length, uint8_t **ret_data) {
    static uint8_t nothing;
    if (length == 0) {
        *ret_data = &nothing;
        return ERR_OK;
    }
    if (!guest)
        return ERR_FAULT;
    size_t size = 0;
    uint8_t *base = guest->memory(guest, &size);
    if (length > size || address > size - length)
        return ERR_FAULT;
    *ret_data = base + address;
    return ERR_OK;
}

enum err guest_check(struct guest *guest, uint32_t address, uint64_t length) {
    uint8_t *data;
    return guest_slice(guest, address, length, &data);
}

enum err guest_read(struct guest *guest, uint32_t address, void *data, size_t length) {
    uint8_t *from;
    enum err err = guest_slice(guest, address, length, &from);
    if (!err && length > 0)
        memcpy(data, from, length);
    return err;
}

enum err guest_write(struct guest *guest, uint32_t address, const void *data, size_t length) {
    uint8_t *to;
    enum err err = guest_slice(guest, address, length, &to);
    if (!err && length > 0)
        memcpy(to, data, length);
    return err;
}

enum err guest_write_u32(struct guest *guest, uint32_t address, uint32_t value) {
    uint8_t bytes[4];
    layout_put_u32(bytes, value);
    return guest_write(guest, address, bytes, sizeof(bytes));
}

enum err guest_write_u64(struct guest *guest, uint32_t address, uint64_t value) {
    uint8_t bytes[8];
    layout_put_u64(bytes, value);
    return guest_write(guest, address, bytes, sizeof(bytes));
}
