/* The question of /apps/NAME/start, a parameter a line, and the header traceparent. */
#include "base/log.h"
#include "run/run_parameters.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_lines(struct str rest) {
    struct run_parameters parameters = {0};
    struct buf message = {0};
    while (rest.data) {
        struct str value = str_cut(&rest, '\n');
        struct str name = str_cut(&value, '=');
        enum err err = run_parameters_add(&parameters, name, value, &message);
        INVARIANT(err == ERR_OK || err == ERR_NOENT || message.length > 0);
    }
    struct run_request request;
    run_parameters_request(&parameters, &request);
    INVARIANT(request.argument_count <= RUN_ARGUMENTS_MAX);
    INVARIANT(request.has_arguments == (request.argument_count > 0));
    for (size_t i = 0; i < request.environment_count; i++) {
        struct str variable = request.environment[i];
        INVARIANT(memchr(variable.data, '=', variable.length) > (const void *)variable.data);
    }
    run_parameters_done(&parameters);
    buf_done(&message);
}

static void check_traceparent(struct str text) {
    struct traceparent traceparent, again;
    char printed[TRACEPARENT_TEXT_SIZE];
    if (traceparent_parse(text, &traceparent) != ERR_OK) {
        return;
    }
    traceparent_format(&traceparent, printed);
    INVARIANT(memcmp(printed + 2, text.data + 2, TRACEPARENT_TEXT_SIZE - 3) == 0);
    INVARIANT(traceparent_parse(str_of(printed), &again) == ERR_OK);
    INVARIANT(memcmp(&traceparent, &again, sizeof(again)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct str text = {(const char *)data, size};
    check_lines(text);
    check_traceparent(text);
    return 0;
}
