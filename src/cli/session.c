#include "cli/session.h"

#include "cli/lines.h"
#include "cli/outlet.h"
#include "cli/text.h"
#include "cli/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Less than the server's pipe for standard input: it is taken whole, so that the answer begins even
 * if the program does not read. */
enum { SHORT_INPUT_BYTES = 32 * 1024, INPUT_PIECE_BYTES = 64 * 1024, KILL_TIMEOUT_MS = 5000 };
/* What a shell says of a process that a signal ended. */
enum { EXIT_SIGNAL = 128 };

struct session {
    struct client *client;
    const struct session_options *options;
    CURLM *multi;
    char run_id[24]; /* "" while it is not known */

    struct client_request request; /* whose answer is the output */
    struct client_transfer transfer;
    bool transfer_ended, transfer_good;
    struct event_lines lines;
    struct outlet output;
    enum err output_error;
    bool is_refused; /* the server has said why */
    bool has_ended;  /* the run, and how: */
    int exit_status;

    bool input_open; /* of ours; nothing is forwarded any more when false */
    bool input_sending;
    struct client_request input_request;
    struct client_transfer input_transfer;
    struct buf input_target;
    uint8_t piece[INPUT_PIECE_BYTES];
};

/* --- signals ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t signal_number;
static int signal_pipe[2] = {-1, -1};

static void on_signal(int number) {
    if (signal_number) {
        _exit(EXIT_SIGNAL + number); /* a second time: at once */
    }
    signal_number = number;
    int saved = errno;
    ssize_t ignored = write(signal_pipe[1], "", 1);
    (void)ignored;
    errno = saved;
}

static bool catch_signals(void) {
    if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) {
        cli_error("no pipe can be made: %s", strerror(errno));
        return false;
    }
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < ARRAY_LENGTH(numbers); i++) {
        struct sigaction before;
        struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: waiting ends */
        sigemptyset(&action.sa_mask);
        sigaction(numbers[i], NULL, &before);
        if (before.sa_handler != SIG_IGN) { /* nohup, or a shell's background job */
            sigaction(numbers[i], &action, NULL);
        }
    }
    signal(SIGPIPE, SIG_IGN);
    return true;
}

/* --- output ----------------------------------------------------------------------------------- */

static bool on_event(void *context, json_t *event) {
    struct session *session = context;
    const char *stream = json_string_value(json_object_get(event, "stream"));
    if (!stream) {
        json_t *status = json_object_get(event, "exit");
        if (json_is_integer(status)) {
            session->has_ended = true;
            int low = (int)(json_integer_value(status) & 0xff);
            session->exit_status = low || json_integer_value(status) == 0 ? low : 1;
        }
        return true;
    }
    cleanup_buf struct buf decoded = {0};
    json_t *text = json_object_get(event, "data");
    const char *encoded = json_string_value(json_object_get(event, "data64"));
    struct str data = {json_string_value(text), json_string_length(text)};
    if (encoded) {
        if (text_decode_base64(str_of(encoded), &decoded)) {
            cli_error("the server's answer is damaged: data64 is not base64");
            return false;
        }
        data = buf_str(&decoded);
    }
    int descriptor = strcmp(stream, "stderr") == 0 ? STDERR_FILENO : STDOUT_FILENO;
    session->output_error = outlet_add(&session->output, descriptor, data);
    return session->output_error == ERR_OK;
}

static bool on_answer(void *context, const struct client_response *response, const char *data,
                      size_t length) {
    struct session *session = context;
    if (!session->run_id[0]) {
        snprintf(session->run_id, sizeof session->run_id, "%s", response->run_id);
    }
    return event_lines_add(&session->lines, data, length, on_event, session);
}

/* --- standard input --------------------------------------------------------------------------- */

enum input_kind { INPUT_NONE, INPUT_SHORT, INPUT_LIVE };

/* What standard input is. A short file is read into `piece`. */
static enum input_kind look_at_input(struct session *session, size_t *ret_length) {
    struct stat status;
    if (fstat(STDIN_FILENO, &status) != 0) {
        return INPUT_NONE; /* closed */
    }
    if (S_ISCHR(status.st_mode) && status.st_rdev == makedev(1, 3)) {
        return INPUT_NONE; /* /dev/null */
    }
    if (!S_ISREG(status.st_mode)) {
        return INPUT_LIVE;
    }
    off_t position = lseek(STDIN_FILENO, 0, SEEK_CUR);
    if (position < 0 || status.st_size - position > SHORT_INPUT_BYTES) {
        return INPUT_LIVE;
    }
    size_t length = 0;
    while (length < SHORT_INPUT_BYTES) {
        ssize_t more = read(STDIN_FILENO, session->piece + length, SHORT_INPUT_BYTES - length);
        if (more <= 0) {
            break;
        }
        length += (size_t)more;
    }
    *ret_length = length;
    return length > 0 ? INPUT_SHORT : INPUT_NONE;
}

/* Sends what is in `piece`, or closes the program's standard input. */
static bool send_input(struct session *session, size_t length) {
    session->input_request = (struct client_request){
        .method = length ? "PUT" : "DELETE",
        .target = buf_text(&session->input_target),
        .data = length ? session->piece : NULL,
        .length = length,
        .quiet = true,
    };
    if (length == 0) {
        session->input_open = false;
    }
    session->input_sending =
        client_transfer_init(&session->input_transfer, session->client, &session->input_request);
    if (session->input_sending) {
        curl_multi_add_handle(session->multi, session->input_transfer.curl);
    }
    return session->input_sending;
}

static bool forward_input(struct session *session) {
    ssize_t length = read(STDIN_FILENO, session->piece, sizeof session->piece);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) {
        return true;
    }
    /* A terminal that is gone reads as EIO: the end. */
    return send_input(session, length > 0 ? (size_t)length : 0);
}

static bool input_sent(struct session *session, CURLcode code) {
    struct client_transfer *transfer = &session->input_transfer;
    bool good = client_transfer_finish(transfer, code);
    long status = transfer->response.status;
    curl_multi_remove_handle(session->multi, transfer->curl);
    client_transfer_done(transfer);
    session->input_sending = false;
    if (!good && status >= 400) {
        /* The program has ended or closed it: as with a pipe, the rest is not read. */
        session->input_open = false;
        good = true;
    }
    return good;
}

/* --- the loop --------------------------------------------------------------------------------- */

static bool take_messages(struct session *session) {
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(session->multi, &left))) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode code = message->data.result;
        if (session->input_sending && message->easy_handle == session->input_transfer.curl) {
            if (!input_sent(session, code)) {
                return false;
            }
        } else {
            session->transfer_ended = true;
            if (session->has_ended && code != CURLE_OK) {
                code = CURLE_OK; /* the last event was there */
            }
            session->transfer_good = client_transfer_finish(&session->transfer, code);
            session->is_refused = session->transfer.response.status >= 400;
        }
    }
    return true;
}

static bool wait_for_something(struct session *session) {
    struct curl_waitfd watched[3];
    unsigned count = 0;
    struct pollfd output;
    watched[count++] = (struct curl_waitfd){.fd = signal_pipe[0], .events = CURL_WAIT_POLLIN};
    int input = -1;
    if (session->input_open && !session->input_sending) {
        input = (int)count;
        watched[count++] = (struct curl_waitfd){.fd = STDIN_FILENO, .events = CURL_WAIT_POLLIN};
    }
    if (outlet_poll(&session->output, &output)) {
        watched[count++] = (struct curl_waitfd){.fd = output.fd, .events = CURL_WAIT_POLLOUT};
    }
    if (curl_multi_poll(session->multi, watched, count, 1000, NULL) != CURLM_OK) {
        cli_error("waiting for the server failed");
        return false;
    }
    session->output_error = outlet_flush(&session->output, false);
    if (session->output_error) {
        return false;
    }
    if (input >= 0) {
        /* libcurl does not tell of a hang-up, as of a pipe whose other end was closed. */
        struct pollfd ready = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&ready, 1, 0) > 0) {
            return forward_input(session);
        }
    }
    return true;
}

/* Until the run has ended, or something has gone wrong. */
static bool converse(struct session *session) {
    while (!signal_number) {
        int running;
        if (curl_multi_perform(session->multi, &running) != CURLM_OK) {
            cli_error("talking to the server failed");
            return false;
        }
        if (!take_messages(session)) {
            return false;
        }
        if (session->transfer_ended) {
            return session->transfer_good;
        }
        if (!wait_for_something(session)) {
            return false;
        }
    }
    return false;
}

/* --- beginning and end ------------------------------------------------------------------------ */

/* Starts the run detached; its id is known then. */
static bool start_dialogue(struct session *session, struct buf *target) {
    cleanup_buf struct buf ignored = {0};
    cli_check(buf_append_str(target, session->options->target));
    text_add_parameter(target, "detach", NULL);
    text_add_parameter(target, "stdin", "open");
    struct client_request request = {.method = "POST",
                                     .target = buf_text(target),
                                     .files = session->options->files,
                                     .file_count = session->options->file_count,
                                     .gather = &ignored};
    struct client_response response;
    if (!client_perform(session->client, &request, &response)) {
        session->is_refused = response.status >= 400;
        return false;
    }
    if (!response.run_id[0]) {
        cli_error("the server did not say which run it started");
        return false;
    }
    snprintf(session->run_id, sizeof session->run_id, "%s", response.run_id);
    cli_check(buf_printf(&session->input_target, "/proc/%s/stdin", session->run_id));
    target->length = 0;
    cli_check(buf_printf(target, "/proc/%s/log?follow&attach", session->run_id));
    session->request.method = "GET";
    session->input_open = true;
    return true;
}

static bool begin(struct session *session, struct buf *target) {
    size_t length = 0;
    session->request = (struct client_request){
        .method = "POST",
        .accept = "application/x-ndjson",
        .write = on_answer,
        .write_context = session,
    };
    enum input_kind kind = look_at_input(session, &length);
    if (kind == INPUT_LIVE) {
        if (!start_dialogue(session, target)) {
            return false;
        }
    } else {
        cli_check(buf_append_str(target, session->options->target));
        session->request.files = session->options->files;
        session->request.file_count = session->options->file_count;
        session->request.data = kind == INPUT_SHORT ? session->piece : NULL;
        session->request.length = length;
    }
    session->request.target = buf_text(target);
    session->multi = curl_multi_init();
    if (!session->multi) {
        cli_error("libcurl can't be started");
        return false;
    }
    if (!client_transfer_init(&session->transfer, session->client, &session->request)) {
        return false;
    }
    curl_multi_add_handle(session->multi, session->transfer.curl);
    return true;
}

static void kill_run(struct session *session) {
    if (!session->run_id[0] || session->has_ended) {
        return; /* closing the connection ends what is attached */
    }
    cleanup_buf struct buf target = {0};
    cli_check(buf_printf(&target, "/proc/%s/ctl", session->run_id));
    struct client_request request = {
        .method = "PUT",
        .target = buf_text(&target),
        .data = "kill\n",
        .length = strlen("kill\n"),
        .quiet = true,
        .timeout_ms = KILL_TIMEOUT_MS,
    };
    bool ignored = client_perform(session->client, &request, NULL);
    (void)ignored;
}

/* The exit status of a conversation that did not come to its end; the run is ended. */
static int give_up(struct session *session) {
    kill_run(session);
    if (signal_number) {
        enum err ignored = outlet_flush(&session->output, false);
        (void)ignored;
        return EXIT_SIGNAL + (int)signal_number;
    }
    if (session->output_error == ERR_PIPE) {
        return EXIT_SIGNAL + SIGPIPE;
    }
    if (session->output_error) {
        cli_error("standard output can't be written: %s", err_text(session->output_error));
    }
    return session->is_refused ? SESSION_NOT_STARTED : 1;
}

/* What is still queued; whoever reads it may be slow. */
static enum err flush_all(struct session *session) {
    enum err err = ERR_INTR;
    while (err == ERR_INTR && !signal_number) {
        err = outlet_flush(&session->output, true);
    }
    return err;
}

static int finish(struct session *session, bool good) {
    if (good && !session->has_ended) {
        cli_error("the server did not say how the run ended; '0asm log %s' may",
                  session->options->app);
        good = false;
    }
    if (good) {
        session->output_error = flush_all(session);
        good = session->output_error == ERR_OK;
    }
    if (good && session->options->trace) {
        bool ignored = trace_print(session->client, session->run_id, stderr); /* it has said why */
        (void)ignored;
    }
    return good ? session->exit_status : give_up(session);
}

static void session_free(struct session *session) {
    if (session->multi) {
        if (session->transfer.curl) {
            curl_multi_remove_handle(session->multi, session->transfer.curl);
        }
        if (session->input_sending) {
            curl_multi_remove_handle(session->multi, session->input_transfer.curl);
            client_transfer_done(&session->input_transfer);
        }
        client_transfer_done(&session->transfer);
        curl_multi_cleanup(session->multi);
    }
    event_lines_done(&session->lines);
    outlet_done(&session->output);
    buf_done(&session->input_target);
    free(session);
}

int session_run(struct client *client, const struct session_options *options) {
    struct session *session = calloc(1, sizeof *session);
    cli_check(session ? ERR_OK : ERR_NOMEM);
    session->client = client;
    session->options = options;
    outlet_init(&session->output);
    cleanup_buf struct buf target = {0};
    int status = 1;
    if (catch_signals()) {
        bool begun = begin(session, &target);
        status = begun ? finish(session, converse(session)) : give_up(session);
    }
    session_free(session);
    return status;
}
