#include "cli/client.h"

#include "cli/text.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#define FAILURE_BYTES_MAX (64 * KIB)
#define GATHER_BYTES_MAX (16 * MIB)
#define CONNECT_TIMEOUT_MS 10000L

struct client {
    struct buf server;
    struct buf authorization; /* the header's line, or empty */
    bool is_loopback;
    CURL *curl; /* kept for its connections; NULL while it is in use */
};

/* --- progress --------------------------------------------------------------------------------- */

void client_show_progress(const char *format, ...) {
    if (!isatty(STDERR_FILENO)) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    fputc('\r', stderr);
    vfprintf(stderr, format, arguments);
    fputs("\x1b[K", stderr); /* what is left of the line before */
    fflush(stderr);
    va_end(arguments);
}

static int on_progress(void *context, curl_off_t download_total, curl_off_t downloaded,
                       curl_off_t upload_total, curl_off_t uploaded) {
    (void)download_total, (void)downloaded;
    struct client_transfer *transfer = context;
    if (uploaded <= 0 || transfer->response.status >= 200) {
        return 0; /* nothing yet, or the answer is coming */
    }
    char done[TEXT_BYTES_SIZE], total[TEXT_BYTES_SIZE];
    text_format_bytes((uint64_t)uploaded, done);
    transfer->progress_shown = true;
    if (upload_total > 0) {
        text_format_bytes((uint64_t)upload_total, total);
        double percent = 100.0 * (double)uploaded / (double)upload_total;
        client_show_progress("%s: %s of %s (%.0f%%)", transfer->request->progress, done, total,
                             percent);
    } else {
        client_show_progress("%s: %s", transfer->request->progress, done);
    }
    return 0;
}

/* --- what libcurl calls ----------------------------------------------------------------------- */

static size_t on_read(char *data, size_t size, size_t count, void *context) {
    struct client_transfer *transfer = context;
    const struct client_request *request = transfer->request;
    if (!request->data) {
        size_t length = request->read(request->read_context, data, size * count);
        transfer->stopped = length == SIZE_MAX;
        return transfer->stopped ? CURL_READFUNC_ABORT : length;
    }
    uint64_t length = MIN(size * count, request->length - transfer->sent);
    memcpy(data, (const char *)request->data + transfer->sent, length);
    transfer->sent += length;
    return length;
}

/* A kept connection turned out to be closed: once more from the beginning. */
static int on_seek(void *context, curl_off_t offset, int origin) {
    struct client_transfer *transfer = context;
    if (!transfer->request->data || origin != SEEK_SET || offset < 0 ||
        (uint64_t)offset > transfer->request->length) {
        return CURL_SEEKFUNC_CANTSEEK;
    }
    transfer->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Whether a header's line is of this field; its value without spaces around it. */
static bool field_of(struct str line, const char *name, struct str *ret_value) {
    struct str value = line;
    struct str field = str_cut(&value, ':');
    if (!value.data || field.length != strlen(name) ||
        strncasecmp(field.data, name, field.length) != 0) {
        return false;
    }
    while (value.length > 0 && strchr(" \t", value.data[0])) {
        value.data++;
        value.length--;
    }
    while (value.length > 0 && strchr(" \t\r\n", value.data[value.length - 1])) {
        value.length--;
    }
    *ret_value = value;
    return true;
}

static size_t on_header(char *data, size_t size, size_t count, void *context) {
    struct client_transfer *transfer = context;
    struct client_response *response = &transfer->response;
    struct str line = {data, size * count};
    struct str value;
    if (str_starts(line, STR("HTTP/"))) { /* also after a "100 Continue" */
        *response = (struct client_response){.length = CLIENT_LENGTH_UNKNOWN};
        curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &response->status);
    } else if (field_of(line, "Content-Type", &value)) {
        struct str type = str_cut(&value, ';');
        snprintf(response->content_type, sizeof response->content_type, STR_FORMAT, STR_ARGS(type));
    } else if (field_of(line, "Content-Length", &value)) {
        if (str_to_u64(value, &response->length)) {
            response->length = CLIENT_LENGTH_UNKNOWN;
        }
    } else if (field_of(line, "Accept-Ranges", &value)) {
        response->accepts_ranges = str_equal_text(value, "bytes");
    } else if (field_of(line, "Run-Id", &value)) {
        uint64_t id = 0;
        if (str_to_u64(value, &id) == ERR_OK) {
            snprintf(response->run_id, sizeof response->run_id, "%" PRIu64, id);
        }
    }
    return size * count;
}

static size_t on_write(char *data, size_t size, size_t count, void *context) {
    struct client_transfer *transfer = context;
    const struct client_request *request = transfer->request;
    size_t length = size * count;
    if (transfer->progress_shown) {
        transfer->progress_shown = false;
        client_show_progress("%s", "");
    }
    if (transfer->response.status >= 300) {
        if (transfer->failure.length + length <= FAILURE_BYTES_MAX) {
            cli_check(buf_append(&transfer->failure, data, length));
        }
        return length;
    }
    if (request->write) {
        bool goes_on = request->write(request->write_context, &transfer->response, data, length);
        transfer->stopped = !goes_on;
        return goes_on ? length : 0;
    }
    if (request->gather) {
        if (length > GATHER_BYTES_MAX - MIN(request->gather->length, GATHER_BYTES_MAX)) {
            cli_error("the server's answer is too long");
            transfer->stopped = true;
            return 0;
        }
        cli_check(buf_append(request->gather, data, length));
    }
    return length;
}

/* --- a transfer ------------------------------------------------------------------------------- */

static void add_header(struct client_transfer *transfer, const char *line) {
    struct curl_slist *longer = curl_slist_append(transfer->headers, line);
    cli_check(longer ? ERR_OK : ERR_NOMEM);
    transfer->headers = longer;
}

static void add_headers(struct client_transfer *transfer) {
    const struct client_request *request = transfer->request;
    cleanup_buf struct buf line = {0};
    if (request->accept) {
        cli_check(buf_printf(&line, "Accept: %s", request->accept));
        add_header(transfer, buf_text(&line));
    }
    if (request->destination) {
        line.length = 0;
        cli_check(buf_printf(&line, "Destination: %s", request->destination));
        add_header(transfer, buf_text(&line));
    }
    if (transfer->client->authorization.length > 0) {
        add_header(transfer, buf_text(&transfer->client->authorization));
    }
    if (!request->file_count && (request->data || request->read)) {
        add_header(transfer, "Content-Type: application/octet-stream");
    }
}

static curl_mimepart *add_part(curl_mime *form, struct str field) {
    cleanup_buf struct buf name = {0};
    cli_check(buf_append_str(&name, field));
    curl_mimepart *part = curl_mime_addpart(form);
    cli_check(part && curl_mime_name(part, buf_text(&name)) == CURLE_OK ? ERR_OK : ERR_NOMEM);
    return part;
}

static void set_form(struct client_transfer *transfer) {
    const struct client_request *request = transfer->request;
    curl_mime *form = curl_mime_init(transfer->curl);
    cli_check(form ? ERR_OK : ERR_NOMEM);
    transfer->form = form;
    for (size_t i = 0; i < request->file_count; i++) {
        const struct client_file *file = &request->files[i];
        /* One that can't be read makes the transfer fail. */
        CURLcode code = curl_mime_filedata(add_part(form, file->field), file->path);
        (void)code;
    }
    if (request->data && request->length > 0) {
        cli_check(curl_mime_data(add_part(form, STR("stdin")), request->data, request->length) ==
                          CURLE_OK
                      ? ERR_OK
                      : ERR_NOMEM);
    }
    curl_easy_setopt(transfer->curl, CURLOPT_MIMEPOST, form);
}

static void set_body(struct client_transfer *transfer) {
    const struct client_request *request = transfer->request;
    CURL *curl = transfer->curl;
    if (strcmp(request->method, "HEAD") == 0) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
        return;
    }
    if (request->file_count > 0) {
        set_form(transfer);
    } else if (request->data || request->read) {
        curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_read);
        curl_easy_setopt(curl, CURLOPT_READDATA, transfer);
        curl_easy_setopt(curl, CURLOPT_SEEKFUNCTION, on_seek);
        curl_easy_setopt(curl, CURLOPT_SEEKDATA, transfer);
        curl_off_t length =
            request->length == CLIENT_LENGTH_UNKNOWN ? -1 : (curl_off_t)request->length;
        curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE, length);
        curl_easy_setopt(curl, CURLOPT_UPLOAD_BUFFERSIZE, 256 * 1024L);
        if (!request->data) {
            /* It could not be sent twice, if a kept connection turns out to be closed. */
            curl_easy_setopt(curl, CURLOPT_FRESH_CONNECT, 1L);
        }
    } else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 0L);
        add_header(transfer, "Content-Type:");
    }
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

bool client_transfer_init(struct client_transfer *transfer, struct client *client,
                          const struct client_request *request) {
    *transfer = (struct client_transfer){.request = request, .client = client};
    CURL *curl = client->curl ? STEAL(client->curl) : curl_easy_init();
    if (!curl) {
        cli_error("libcurl can't be started");
        return false;
    }
    curl_easy_reset(curl);
    transfer->curl = curl;
    cleanup_buf struct buf url = {0};
    cli_check(buf_printf(&url, "%s%s", buf_text(&client->server), request->target));
    curl_easy_setopt(curl, CURLOPT_URL, buf_text(&url));
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->curl_error);
    if (request->timeout_ms) {
        curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    }
    if (client->is_loopback) {
        curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* whatever the environment says */
    }
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    if (request->progress && isatty(STDERR_FILENO)) {
        curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
        curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
        curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    }
    add_headers(transfer);
    set_body(transfer);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, transfer->headers);
    return true;
}

/* What the server said, from its text ("error: ...") or problem details (RFC 9457). */
static void say_failure(struct client_transfer *transfer) {
    struct str text = buf_str(&transfer->failure);
    json_t *problem = json_loadb(text.data ? text.data : "", text.length, 0, NULL);
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    if (detail) {
        cli_error("%s", detail);
    } else if (str_starts(text, STR("error: "))) {
        text.data += strlen("error: ");
        text.length -= strlen("error: ");
        cli_error(STR_FORMAT, (int)MIN(text.length, FAILURE_BYTES_MAX), text.data);
    } else {
        cli_error("%s answered with status %ld, and not as 0asm does; is it the right server? "
                  "(--server, $ZASM_SERVER)",
                  client_server(transfer->client), transfer->response.status);
    }
    json_decref(problem);
}

static void say_unreachable(const struct client_transfer *transfer, CURLcode code) {
    const char *server = client_server(transfer->client);
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        cli_error("no server at %s; start one with '0asm serve' or set $ZASM_SERVER", server);
        break;
    case CURLE_COULDNT_RESOLVE_HOST:
        cli_error("the host of %s is not known; check --server or $ZASM_SERVER", server);
        break;
    case CURLE_URL_MALFORMAT:
        cli_error("%s is not a URL of a server; write it like " CLIENT_DEFAULT_SERVER, server);
        break;
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SEND_ERROR:
        cli_error("the connection to %s was lost; is the server still running?", server);
        break;
    default:
        cli_error("%s: %s", server,
                  transfer->curl_error[0] ? transfer->curl_error : curl_easy_strerror(code));
    }
}

bool client_transfer_finish(struct client_transfer *transfer, CURLcode code) {
    if (transfer->progress_shown) {
        transfer->progress_shown = false;
        client_show_progress("%s", "");
    }
    if (transfer->stopped) {
        return false;
    }
    /* A server that refuses an upload may close before it has taken all: its answer counts. */
    if (transfer->response.status >= 300) {
        if (!transfer->request->quiet) {
            say_failure(transfer);
        }
        return false;
    }
    if (code != CURLE_OK) {
        say_unreachable(transfer, code);
        return false;
    }
    return true;
}

void client_transfer_done(struct client_transfer *transfer) {
    if (!transfer->curl) {
        return;
    }
    curl_easy_setopt(transfer->curl, CURLOPT_MIMEPOST, NULL);
    curl_mime_free(STEAL(transfer->form));
    if (!transfer->client->curl) {
        transfer->client->curl = transfer->curl;
    } else {
        curl_easy_cleanup(transfer->curl);
    }
    transfer->curl = NULL;
    curl_slist_free_all(transfer->headers);
    transfer->headers = NULL;
    buf_done(&transfer->failure);
}

bool client_perform(struct client *client, const struct client_request *request,
                    struct client_response *ret_response) {
    struct client_transfer transfer;
    bool done = client_transfer_init(&transfer, client, request);
    if (done) {
        done = client_transfer_finish(&transfer, curl_easy_perform(transfer.curl));
    }
    if (ret_response) {
        *ret_response = transfer.response;
    }
    client_transfer_done(&transfer);
    return done;
}

bool client_get(struct client *client, const char *target, const char *accept,
                struct buf *ret_content) {
    struct client_request request = {
        .method = "GET", .target = target, .accept = accept, .gather = ret_content};
    return client_perform(client, &request, NULL);
}

bool client_response_is_directory(const struct client_response *response) {
    return strcmp(response->content_type, "application/json") == 0 && !response->accepts_ranges;
}

/* --- life ------------------------------------------------------------------------------------- */

const char *client_server(const struct client *client) {
    return buf_text(&client->server);
}

static bool has_control_characters(const char *text) {
    for (; *text; text++) {
        if ((uint8_t)*text <= ' ' || *text == 0x7f) {
            return true;
        }
    }
    return false;
}

static bool is_loopback_url(const char *url) {
    const char *host = strstr(url, "://");
    if (!host) {
        return false;
    }
    host += 3;
    struct str rest = str_of(host);
    struct str name = host[0] == '[' ? str_cut(&rest, ']') : str_cut(&rest, ':');
    return str_equal_text(name, "localhost") || str_equal_text(name, "[::1") ||
           str_starts(name, STR("127."));
}

static bool set_server(struct client *client, const char *server) {
    if (!server[0] || has_control_characters(server) || strpbrk(server, "?#@")) {
        cli_error("'%s' is not a URL of a server; write it like " CLIENT_DEFAULT_SERVER, server);
        return false;
    }
    if (!strstr(server, "://")) {
        cli_check(buf_append_str(&client->server, STR("http://")));
    } else if (strncmp(server, "http://", 7) != 0 && strncmp(server, "https://", 8) != 0) {
        cli_error("'%s' is neither an http nor an https URL", server);
        return false;
    }
    cli_check(buf_append_str(&client->server, str_of(server)));
    while (client->server.data[client->server.length - 1] == '/') {
        client->server.data[--client->server.length] = 0;
    }
    client->is_loopback = is_loopback_url(buf_text(&client->server));
    return true;
}

size_t client_read_input(void *context, char *data, size_t size) {
    (void)context;
    for (;;) {
        ssize_t length = read(STDIN_FILENO, data, size);
        if (length >= 0) {
            return (size_t)length;
        }
        if (errno != EINTR) {
            cli_error("standard input can't be read: %s", strerror(errno));
            return SIZE_MAX;
        }
    }
}

struct client *client_new(const char *server) {
    const char *environment = getenv("ZASM_SERVER");
    if (!server) {
        server = environment && environment[0] ? environment : CLIENT_DEFAULT_SERVER;
    }
    struct client *client = calloc(1, sizeof *client);
    cli_check(client ? ERR_OK : ERR_NOMEM);
    const char *token = getenv("ZASM_TOKEN");
    if (!set_server(client, server)) {
        client_free(client);
        return NULL;
    }
    if (token && token[0]) {
        if (has_control_characters(token)) {
            cli_error("$ZASM_TOKEN has a space or control character in it");
            client_free(client);
            return NULL;
        }
        cli_check(buf_printf(&client->authorization, "Authorization: Bearer %s", token));
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        cli_error("libcurl can't be started");
        client_free(client);
        return NULL;
    }
    return client;
}

void client_free(struct client *client) {
    if (!client) {
        return;
    }
    if (client->curl) {
        curl_easy_cleanup(client->curl);
    }
    buf_done(&client->server);
    buf_done(&client->authorization);
    free(client);
}
