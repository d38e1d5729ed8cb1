#include "dev/net_internal.h"

#include "base/clock.h"
#include "base/map.h"
#include "dev/serve.h"
#include "store/applog.h"

enum { ROOT_INODE = 1, FIRST_INODE = 2, HOST_AT = 1 };
/* Of what is found by its name: beside the few of the entries. */
#define NAMED_INODE (UINT64_C(1) << 63)

enum entry_kind { KIND_HTTP, KIND_REQUEST, KIND_SERVE, KIND_STREAM };
static const struct entry {
    const char *name;
    enum entry_kind kind;
    bool is_tls;
} entries[] = {
    {"http", KIND_HTTP, false},   {"https", KIND_HTTP, true},  {"request", KIND_REQUEST, false},
    {"serve", KIND_SERVE, false}, {"tcp", KIND_STREAM, false}, {"tls", KIND_STREAM, true},
};

/* ---- who uses it ---- */

static void note_line(void *context, struct str line) {
    struct run *run = context;
    struct applog *log = run_applog(run);
    if (!log) {
        return;
    }
    cleanup_buf struct buf traced = {0};
    struct traceparent own;
    if (run_traceparent(run, &own)) {
        char text[TRACEPARENT_TEXT_SIZE];
        traceparent_format(&own, text);
        if (buf_printf(&traced, STR_FORMAT ", trace %s", STR_ARGS(line), text) == ERR_OK) {
            line = buf_str(&traced);
        }
    }
    applog_append(log, clock_realtime_ns(), run_id(run), "sys", line);
}

void net_user_note(const struct net_user *user, const char *format, ...) {
    cleanup_buf struct buf line = {0};
    va_list arguments;
    va_start(arguments, format);
    enum err err = buf_vprintf(&line, format, arguments);
    va_end(arguments);
    if (!err) {
        note_line(user->run, buf_str(&line));
    }
}

/* net= of an app, as lines. */
static enum err app_hosts(const struct app *app, struct buf *lines) {
    const json_t *net = app->config ? json_object_get(app->config, "net") : NULL;
    if (json_is_string(net)) {
        return buf_append_str(lines, str_of(json_string_value(net)));
    }
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < json_array_size(net); i++) {
        err = buf_printf(lines, "%s\n", json_string_value(json_array_get(net, i)));
    }
    return err;
}

enum err net_user_init(struct net_user *user, struct op *op, const struct net_root *root) {
    struct run *run;
    if (op->who->run_id == 0 || runs_find(root->options.runs, op->who->run_id, &run) != ERR_OK) {
        return ERR_NXIO;
    }
    const struct app *app = run_app(run);
    *user = (struct net_user){.party = {.app_id = app->id, .note = note_line, .context = run},
                              .run = run};
    enum err err = app_hosts(app, &user->party.app_hosts);
    if (!err) {
        err = buf_append_str(&user->party.run_hosts, run_net(run));
    }
    if (err) {
        net_user_done(user);
    }
    return err;
}

void net_user_done(struct net_user *user) {
    net_party_done(&user->party);
    run_unref(user->run);
    user->run = NULL;
}

static bool has_field(struct str fields, const char *wanted) {
    size_t length = strlen(wanted);
    while (fields.length > 0) {
        struct str line = str_cut(&fields, '\n');
        struct str name = str_cut(&line, ':');
        if (name.length == length && strncasecmp(name.data, wanted, length) == 0) {
            return true;
        }
    }
    return false;
}

enum err net_user_trace(const struct net_user *user, struct buf *fields) {
    struct traceparent own, next;
    if (!run_traceparent(user->run, &own) || has_field(buf_str(fields), "traceparent")) {
        return ERR_OK;
    }
    struct str state = run_tracestate(user->run);
    bool has_state = state.length > 0 && !has_field(buf_str(fields), "tracestate");
    next = traceparent_child(&own);
    char text[TRACEPARENT_TEXT_SIZE];
    traceparent_format(&next, text);
    enum err err = buf_printf(fields, "traceparent: %s\n", text);
    if (!err && has_state) {
        err = buf_printf(fields, "tracestate: " STR_FORMAT "\n", STR_ARGS(state));
    }
    return err;
}

/* ---- nodes ---- */

enum err net_node_new(struct net_root *root, const struct dev *dev, enum file_type type,
                      unsigned traits, uint64_t inode, struct net_node **ret_node) {
    struct net_node *node = calloc(1, sizeof *node);
    if (!node) {
        return ERR_NOMEM;
    }
    file_init(&node->file, dev, root->file.device, inode, type, traits);
    file_ref(&root->file);
    node->root = root;
    *ret_node = node;
    return ERR_OK;
}

void net_node_release(struct file *file) {
    struct net_node *node = CONTAINER_OF(file, struct net_node, file);
    net_url_done(&node->url);
    file_unref(&node->root->file);
    free(node);
}

/* A number for what was asked for, the same each time. */
static uint64_t named_inode(const struct entry *entry, struct str text) {
    struct {
        uint64_t entry, hash;
    } key = {(uint64_t)(entry - entries), map_hash(text.data, text.length)};
    return map_hash(&key, sizeof key) | NAMED_INODE;
}

/* The rest of the names as "/PATH?QUERY"; the last is empty if the path ended in a slash. */
static enum err append_target(const struct str *names, size_t count, struct buf *target) {
    bool is_query = false;
    enum err err = count == 0 ? buf_append_byte(target, '/') : ERR_OK;
    for (size_t i = 0; !err && i < count; i++) {
        bool begins = !is_query && memchr(names[i].data, '?', names[i].length);
        is_query |= begins;
        err = buf_append_byte(target, '/');
        if (!err) {
            err = net_url_encode(names[i], is_query, target);
        }
    }
    return err;
}

static enum err find_url(struct op *op, struct net_root *root, const struct entry *entry,
                         const struct str *names, size_t count, struct file **ret_file) {
    cleanup_buf struct buf origin = {0};
    cleanup_net_url struct net_url url = {.is_tls = entry->is_tls};
    uint16_t port;
    enum err err = net_host_port_parse(names[0], &url.host, &port, op->message);
    if (err) {
        return err;
    }
    url.port = port ? port : entry->is_tls ? 443 : 80;
    err = append_target(names + 1, count - 1, &url.target);
    if (err) {
        return buf_fail(op->message, err, "a control character can't be in a URL");
    }
    struct net_node *node;
    err = net_url_append_origin(&url, &origin);
    if (!err) {
        err = buf_append_str(&origin, buf_str(&url.target));
    }
    if (!err) {
        err = net_node_new(root, &net_http_dev, FILE_CHARACTER_DEVICE, FILE_REWINDABLE,
                           named_inode(entry, buf_str(&origin)), &node);
    }
    if (!err) {
        node->url = url;
        url.target = (struct buf){0};
        *ret_file = &node->file;
    }
    return err;
}

static enum err find_stream(struct op *op, struct net_root *root, const struct entry *entry,
                            struct str name, struct file **ret_file) {
    struct net_url url = {.is_tls = entry->is_tls};
    enum err err = net_host_port_parse(name, &url.host, &url.port, op->message);
    if (!err && url.port == 0) {
        err = buf_fail(op->message, ERR_INVAL, "say which port: /net/%s/HOST:PORT", entry->name);
    }
    struct net_node *node;
    if (!err) {
        err = net_node_new(root, &net_stream_dev, FILE_SOCKET_STREAM, 0, named_inode(entry, name),
                           &node);
    }
    if (!err) {
        node->url = url;
        *ret_file = &node->file;
    }
    return err;
}

/* What lies below an entry. */
static enum err find_below(struct op *op, struct net_root *root, const struct entry *entry,
                           const struct str *names, size_t count, size_t *ret_walked,
                           struct file **ret_file) {
    if (entry->kind == KIND_STREAM) {
        enum err err = find_stream(op, root, entry, names[0], ret_file);
        if (!err) {
            *ret_walked = 1;
        }
        return err;
    }
    enum err err = find_url(op, root, entry, names, count, ret_file);
    if (!err) {
        *ret_walked = count;
    }
    return err;
}

/* ---- serve ---- */

static enum err serve_open(struct op *op, struct file *file, unsigned open_flags,
                           struct file **ret_file) {
    (void)open_flags;
    struct net_node *node = CONTAINER_OF(file, struct net_node, file);
    struct run *run;
    if (op->who->run_id == 0 ||
        runs_find(node->root->options.runs, op->who->run_id, &run) != ERR_OK) {
        return ERR_NXIO;
    }
    struct file *listener = run_listener(run);
    enum err err = listener ? serve_file_open(listener, file->device, file->inode, ret_file)
                            : buf_fail(op->message, ERR_NXIO,
                                       "requests come to programs that are kept: set serve=listen, "
                                       "and open a page of the app");
    run_unref(run);
    return err;
}

static const struct dev serve_dev = {
    .name = "serve",
    .open = serve_open,
    .release = net_node_release,
};

/* ---- the directories ---- */

static const struct dev entry_dev;

static bool is_directory(const struct entry *entry) {
    return entry->kind == KIND_HTTP || entry->kind == KIND_STREAM;
}

static enum err find_entry(struct net_root *root, const struct entry *entry,
                           struct file **ret_file) {
    bool has_entries = is_directory(entry);
    const struct dev *dev = has_entries                 ? &entry_dev
                            : entry->kind == KIND_SERVE ? &serve_dev
                                                        : &net_request_dev;
    struct net_node *node;
    enum err err = net_node_new(root, dev, has_entries ? FILE_DIRECTORY : FILE_CHARACTER_DEVICE,
                                has_entries ? 0 : FILE_REWINDABLE,
                                FIRST_INODE + (uint64_t)(entry - entries), &node);
    if (!err) {
        *ret_file = &node->file;
    }
    return err;
}

static enum err entry_walk(struct op *op, struct file *directory, const struct str *names,
                           size_t count, size_t *ret_walked, struct file **ret_file) {
    struct net_node *node = CONTAINER_OF(directory, struct net_node, file);
    return find_below(op, node->root, &entries[directory->inode - FIRST_INODE], names, count,
                      ret_walked, ret_file);
}

/* Any host can be reached, none is listed. */
static enum err entry_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    (void)op, (void)directory, (void)ret_list;
    return ERR_OK;
}

static const struct dev entry_dev = {
    .name = "net",
    .takes_slash = true,
    .takes_query = true,
    .walk = entry_walk,
    .readdir = entry_readdir,
    .release = net_node_release,
};

static enum err root_walk(struct op *op, struct file *directory, const struct str *names,
                          size_t count, size_t *ret_walked, struct file **ret_file) {
    struct net_root *root = net_root_of(directory);
    for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
        if (!str_equal_text(names[0], entries[i].name)) {
            continue;
        }
        size_t walked = 0;
        bool has_slash = count == HOST_AT + 1 && names[HOST_AT].length == 0;
        bool is_below = count > HOST_AT && is_directory(&entries[i]) && !has_slash;
        enum err err = is_below ? find_below(op, root, &entries[i], names + HOST_AT,
                                             count - HOST_AT, &walked, ret_file)
                                : find_entry(root, &entries[i], ret_file);
        if (!err) {
            *ret_walked = HOST_AT + walked + (has_slash && is_directory(&entries[i]));
        }
        return err;
    }
    return ERR_NOENT;
}

static enum err root_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    (void)op, (void)directory;
    enum err err = ERR_OK;
    for (size_t i = 0; !err && i < ARRAY_LENGTH(entries); i++) {
        err = dir_list_add(ret_list, str_of(entries[i].name), FIRST_INODE + i,
                           is_directory(&entries[i]) ? FILE_DIRECTORY : FILE_CHARACTER_DEVICE);
    }
    return err;
}

static void root_release(struct file *file) {
    free(net_root_of(file));
}

static const struct dev root_dev = {
    .name = "net",
    .takes_slash = true,
    .takes_query = true,
    .walk = root_walk,
    .readdir = root_readdir,
    .release = root_release,
};

enum err dev_net_new(const struct dev_net_options *options, struct file **ret_root) {
    struct net_root *root = calloc(1, sizeof *root);
    if (!root) {
        return ERR_NOMEM;
    }
    file_init(&root->file, &root_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY, 0);
    root->options = *options;
    *ret_root = &root->file;
    return ERR_OK;
}
