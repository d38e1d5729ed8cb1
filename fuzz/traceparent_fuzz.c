/* The fields traceparent and tracestate of any bytes: what is taken is handed on within its limits,
 * and read again as the same. The first line is the one, the rest the other. */
#include "base/traceparent.h"

#include "base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_parent(struct str text) {
    struct traceparent parent, again;
    if (traceparent_parse(text, &parent) != ERR_OK) {
        return;
    }
    char formatted[TRACEPARENT_TEXT_SIZE];
    traceparent_format(&parent, formatted);
    INVARIANT(strlen(formatted) == TRACEPARENT_TEXT_SIZE - 1);
    INVARIANT(traceparent_parse(str_of(formatted), &again) == ERR_OK);
    INVARIANT(memcmp(&parent, &again, sizeof parent) == 0);
    /* Only of later versions there may be more, and other digits before it. */
    INVARIANT(memcmp(text.data + 2, formatted + 2, TRACEPARENT_TEXT_SIZE - 3) == 0);
}

static void check_state(struct str text) {
    struct buf state = {0}, again = {0};
    if (tracestate_parse(text, &state) == ERR_OK) {
        INVARIANT(state.length <= TRACESTATE_MAX);
        size_t members = state.length > 0;
        for (size_t i = 0; i < state.length; i++) {
            INVARIANT(state.data[i] >= ' ' && state.data[i] <= '~');
            members += state.data[i] == ',';
        }
        INVARIANT(members <= TRACESTATE_MEMBERS_MAX);
        INVARIANT(tracestate_parse(buf_str(&state), &again) == ERR_OK);
        INVARIANT(str_equal(buf_str(&state), buf_str(&again)));
    } else {
        INVARIANT(state.length == 0);
    }
    buf_done(&state);
    buf_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str rest = {(const char *)data, size};
    check_parent(str_cut(&rest, '\n'));
    check_state(rest);
    return 0;
}
