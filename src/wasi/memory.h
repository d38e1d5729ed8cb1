/* A guest's linear memory: the one place where its addresses become pointers.
 *
 * Addresses and lengths come from the guest and are hostile; every function checks them against the
 * memory as it is now, without overflow, and answers FAULT. A range of 0 bytes is always good,
 * wherever it points (WASI: empty lists have any address). No alignment is needed.
 *
 * A pointer from here is valid until control returns to the loop: the guest may grow its memory
 * when it runs again. Thread: the run's loop. */
#pragma once

#include "wasi/wasi.h"

/* `*ret_data` points at `length` bytes; not NULL. */
MUST_USE enum err guest_slice(struct guest *guest, uint32_t address, uint64_t length,
                              uint8_t **ret_data);
/* The same without a pointer: whether a result can be written there. */
MUST_USE enum err guest_check(struct guest *guest, uint32_t address, uint64_t length);
/* Copies in and out. */
MUST_USE enum err guest_read(struct guest *guest, uint32_t address, void *data, size_t length);
MUST_USE enum err guest_write(struct guest *guest, uint32_t address, const void *data,
                              size_t length);
MUST_USE enum err guest_write_u32(struct guest *guest, uint32_t address, uint32_t value);
MUST_USE enum err guest_write_u64(struct guest *guest, uint32_t address, uint64_t value);
