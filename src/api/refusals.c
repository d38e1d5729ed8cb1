#include "api/refusals.h"

#include "base/clock.h"

#define REMEMBERED_NS (600 * NS_PER_S)

void refusals_init(struct refusals *refusals) {
    *refusals = (struct refusals){.next = 0};
    pthread_mutex_init(&refusals->mutex, NULL);
}

void refusals_done(struct refusals *refusals) {
    for (size_t i = 0; i < REFUSALS_MAX; i++) {
        buf_done(&refusals->entries[i].message);
    }
    pthread_mutex_destroy(&refusals->mutex);
}

enum err refusals_find(struct refusals *refusals, const uint8_t module_sha256[SHA256_SIZE],
                       struct buf *message) {
    uint64_t now_ns = clock_monotonic_ns();
    enum err err = ERR_OK;
    pthread_mutex_lock(&refusals->mutex);
    for (size_t i = 0; i < REFUSALS_MAX && !err; i++) {
        const struct refusal *entry = &refusals->entries[i];
        if (entry->err && entry->until_ns > now_ns &&
            memcmp(entry->module_sha256, module_sha256, SHA256_SIZE) == 0) {
            err = buf_fail(message, entry->err, "%s", buf_text(&entry->message));
        }
    }
    pthread_mutex_unlock(&refusals->mutex);
    return err;
}

void refusals_add(struct refusals *refusals, const uint8_t module_sha256[SHA256_SIZE], enum err err,
                  const struct buf *message) {
    if (err != ERR_NOEXEC && err != ERR_2BIG) {
        return;
    }
    pthread_mutex_lock(&refusals->mutex);
    struct refusal *entry = &refusals->entries[refusals->next];
    refusals->next = (refusals->next + 1) % REFUSALS_MAX;
    memcpy(entry->module_sha256, module_sha256, SHA256_SIZE);
    entry->until_ns = clock_monotonic_ns() + REMEMBERED_NS;
    entry->err = buf_fail(&entry->message, err, "%s", buf_text(message));
    pthread_mutex_unlock(&refusals->mutex);
}
