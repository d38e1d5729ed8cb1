/* Walking paths.
 *
 * A walk keeps the stack of directories that it came through: `..` goes back on the stack, never to
 * a device. So a walk can't leave its start, whatever is renamed meanwhile.
 *
 * At first names are walked several at once; the directories between them are then not known. Where
 * they are needed (the path has a `..`, or a link was met in the middle) every name is walked by
 * itself, from the start again.
 *
 * Where names are those of URLs (dev->takes_query), what begins with the one that has a `?` is one
 * name: a query has slashes and dots that are none of a path. */
#include "ns/ns_internal.h"
#include "ns/temporary.h"

enum {
    PATH_MAX_BYTES = 4096,
    NAME_MAX_BYTES = 255,
    LINKS_MAX = 40,
    REST_MAX_BYTES = 4 * PATH_MAX_BYTES, /* of the path with links replaced */
    DEPTH_MAX = 4096,                    /* directories on the stack */
    NAMES_AT_ONCE = 32,
    INLINE_LEVELS = 12,
    STEPS_AT_ONCE = 256, /* links can make a path of many thousands: then others have their turn */
};

struct walk_state {
    struct ns *ns;         /* a reference */
    struct ns_place start; /* a reference */
    unsigned flags;
    unsigned links;         /* followed so far */
    bool single;            /* every name by itself */
    bool is_url;            /* there is a `?`, and what begins with its name is one name */
    bool directory_wanted;  /* the path, or a last link's target, ended in a slash */
    struct file *link;      /* whose target is being read, or NULL */
    bool link_is_last;      /* … and which was the last component */
    struct ns_place *stack; /* `depth` places, each a reference; [0] is the start */
    size_t depth, capacity;
    struct ns_place inline_stack[INLINE_LEVELS];
    struct buf rest;    /* replaces path after a link */
    struct buf target;  /* of the link that is being read */
    struct str left;    /* what remains to be walked: in `path` or in `rest` */
    size_t path_length; /* of the path as given */
    char path[];
};

static void stack_clear(struct walk_state *state) {
    while (state->depth) {
        ns_place_done(&state->stack[--state->depth]);
    }
}

void ns_walk_done(struct ns_walk *walk) {
    struct walk_state *state = walk->state;
    if (!state) {
        return;
    }
    walk->state = NULL;
    stack_clear(state);
    if (state->stack != state->inline_stack) {
        free(state->stack);
    }
    ns_place_done(&state->start);
    file_unref(state->link);
    buf_done(&state->rest);
    buf_done(&state->target);
    ns_unref(state->ns);
    free(state);
}

/* Takes over the reference of `place`, also on an error. */
static enum err stack_push(struct walk_state *state, struct ns_place place) {
    if (state->depth == state->capacity) {
        enum err err = ERR_OK;
        size_t capacity = state->capacity * 2;
        struct ns_place *stack = NULL;
        if (capacity > DEPTH_MAX) {
            err = ERR_NAMETOOLONG;
        } else if (!(stack = calloc(capacity, sizeof *stack))) {
            err = ERR_NOMEM;
        }
        if (err != ERR_OK) {
            ns_place_done(&place);
            return err;
        }
        memcpy(stack, state->stack, state->depth * sizeof *stack);
        if (state->stack != state->inline_stack) {
            free(state->stack);
        }
        state->stack = stack;
        state->capacity = capacity;
    }
    state->stack[state->depth++] = place;
    return ERR_OK;
}

static struct ns_place *stack_top(struct walk_state *state) {
    return &state->stack[state->depth - 1];
}

static struct ns_place place_ref(const struct ns_place *place) {
    return (struct ns_place){file_ref(place->file), place->mount};
}

/* Whether a path or a link's target may be walked at all. From `query_at` on it is a query. */
static enum err check_path(struct str path, size_t query_at) {
    if (path.length == 0) {
        return ERR_NOENT;
    }
    if (path.length > PATH_MAX_BYTES) {
        return ERR_NAMETOOLONG;
    }
    if (!str_is_utf8(path)) {
        return ERR_ILSEQ;
    }
    if (memchr(path.data, 0, path.length)) {
        return ERR_INVAL;
    }
    if (path.data[0] == '/') {
        return ERR_PERM;
    }
    if (ns_has_temporary(path)) {
        return ERR_NOENT;
    }
    size_t length = 0;
    for (size_t i = 0; i < query_at; i++) {
        length = path.data[i] == '/' ? 0 : length + 1;
        if (length > NAME_MAX_BYTES) {
            return ERR_NAMETOOLONG;
        }
    }
    return ERR_OK;
}

static bool is_dot(struct str name) {
    return name.length == 1 && name.data[0] == '.';
}
static bool is_dot_dot(struct str name) {
    return name.length == 2 && name.data[0] == '.' && name.data[1] == '.';
}

/* The next component of `*left`, which is then what follows it; empty ones are skipped. False at
 * the end. `*ret_slash`: a slash came after it. */
static bool next_name(struct str *left, struct str *ret_name, bool *ret_slash) {
    size_t at = 0;
    while (at < left->length && left->data[at] == '/') {
        at++;
    }
    size_t end = at;
    while (end < left->length && left->data[end] != '/') {
        end++;
    }
    if (end == at) {
        *left = (struct str){0};
        return false;
    }
    *ret_name = (struct str){left->data + at, end - at};
    *ret_slash = end < left->length;
    *left = (struct str){left->data + end, left->length - end};
    return true;
}

static bool has_dot_dot(struct str path) {
    struct str name;
    bool slash;
    while (next_name(&path, &name, &slash)) {
        if (is_dot_dot(name)) {
            return true;
        }
    }
    return false;
}

/* Only slashes and dots follow: the component before it was the last one that names anything. */
static bool names_follow(struct str left) {
    struct str name;
    bool slash;
    return next_name(&left, &name, &slash);
}

/* Where the query of the URL begins that the path leads to through mounts alone, else its end. */
static size_t find_query(const struct ns_place *start, struct str path, unsigned flags) {
    const char *query = path.length ? memchr(path.data, '?', path.length) : NULL;
    if (!query || flags & NS_PARENT) {
        return path.length;
    }
    struct str left = {path.data, (size_t)(query - path.data)}, name;
    if (has_dot_dot(left)) {
        return path.length;
    }
    bool slash, takes_query = start->file->dev->takes_query;
    const struct ns_mount *mount = start->mount;
    while (!takes_query) {
        if (!next_name(&left, &name, &slash) || !slash) {
            return path.length;
        }
        if (!is_dot(name)) {
            mount = ns_mount_child(mount, name);
            if (!mount) {
                return path.length;
            }
            takes_query = mount->root && mount->root->dev->takes_query;
        }
    }
    return (size_t)(query - path.data);
}

static enum err restart(struct walk_state *state) {
    stack_clear(state);
    state->links = 0;
    state->directory_wanted = false;
    state->left = (struct str){state->path, state->path_length};
    return stack_push(state, place_ref(&state->start));
}

static enum err begin(struct ns *ns, const struct ns_place *start, struct str path, unsigned flags,
                      struct walk_state **ret_state) {
    if (flags & NS_PARENT && path.length > 0 && path.length <= PATH_MAX_BYTES &&
        !names_follow(path)) {
        return ERR_INVAL;
    }
    size_t query_at = find_query(start, path, flags);
    enum err err = check_path(path, query_at);
    if (err != ERR_OK) {
        return err;
    }
    if (start->file->type != FILE_DIRECTORY) {
        return ERR_NOTDIR;
    }
    struct walk_state *state = malloc(sizeof *state + path.length);
    if (!state) {
        return ERR_NOMEM;
    }
    memcpy(state->path, path.data, path.length);
    state->path_length = path.length;
    state->ns = ns_ref(ns);
    state->start = place_ref(start);
    state->flags = flags;
    state->link = NULL;
    state->link_is_last = false;
    state->stack = state->inline_stack;
    state->depth = 0;
    state->capacity = INLINE_LEVELS;
    state->rest = (struct buf){0};
    state->target = (struct buf){0};
    state->is_url = query_at < path.length;
    state->single = !state->is_url && has_dot_dot(path);
    *ret_state = state;
    return restart(state); /* can't fail: there is room for one level */
}

/* A link was met: its target has been read and takes its place in the path. */
static enum err splice_target(struct walk_state *state) {
    struct str target = buf_str(&state->target);
    enum err err = check_path(target, target.length);
    if (err != ERR_OK) {
        return err;
    }
    if (!state->single && has_dot_dot(target)) {
        state->single = true;
        return restart(state);
    }
    if (target.length + state->left.length > REST_MAX_BYTES) {
        return ERR_NAMETOOLONG;
    }
    /* What is left begins with a slash, if it is not empty. */
    struct buf rest = {0};
    err = buf_append_str(&rest, target);
    if (err == ERR_OK) {
        err = buf_append_str(&rest, state->left);
    }
    if (err != ERR_OK) {
        buf_done(&rest);
        return err;
    }
    buf_done(&state->rest);
    state->rest = rest;
    state->left = buf_str(&state->rest);
    return ERR_OK;
}

static enum err read_link(struct op *op, struct walk_state *state) {
    /* After PENDING a device may have appended nothing only: begin with an empty buffer anyway. */
    state->target.length = 0;
    enum err err = file_readlink(op, state->link, &state->target);
    if (err == ERR_PENDING) {
        return err;
    }
    file_unref(state->link);
    state->link = NULL;
    return err == ERR_OK ? splice_target(state) : err;
}

/* A component was found to be `place` (taken over): goes into it, or follows it. `last`: nothing
 * but slashes follows. `*ret_found`: it is what was looked for, `place` is on the stack. */
static enum err enter(struct op *op, struct walk_state *state, struct ns_place place, bool last,
                      bool *ret_found) {
    uint8_t type = place.file->type;
    if (type == FILE_WHITEOUT) {
        ns_place_done(&place);
        return ERR_NOENT;
    }
    bool must_be_directory = !last || state->directory_wanted;
    if (type == FILE_SYMBOLIC_LINK && (must_be_directory || state->flags & NS_FOLLOW)) {
        if (++state->links > LINKS_MAX) {
            ns_place_done(&place);
            return ERR_LOOP;
        }
        state->link = place.file; /* a link has no mounts below it */
        return ERR_OK;
    }
    if (must_be_directory && type != FILE_DIRECTORY) {
        const char *why = place.file->dev->not_directory;
        ns_place_done(&place);
        return why ? buf_fail(op->message, ERR_NOTDIR, "%s", why) : ERR_NOTDIR;
    }
    *ret_found = last;
    return stack_push(state, place);
}

/* The path ends in nothing but slashes, which mean something to the device. */
static bool takes_slash(struct walk_state *state, struct str after) {
    size_t slashes = 0;
    while (slashes < after.length && after.data[slashes] == '/') {
        slashes++;
    }
    return stack_top(state)->file->dev->takes_slash && slashes > 0 && slashes == after.length;
}

/* Walks several names at once: what is left but the last component with NS_PARENT. Nothing is
 * mounted at the first one. */
static enum err walk_many(struct op *op, struct walk_state *state, bool *ret_found) {
    struct str names[NAMES_AT_ONCE], left = state->left, after = left;
    size_t count = 0;
    bool slash = false, last = false;
    while (count < NAMES_AT_ONCE) {
        struct str name;
        if (!next_name(&left, &name, &slash)) {
            break;
        }
        if (state->is_url && memchr(name.data, '?', name.length)) {
            name.length += left.length;
            left.data += left.length;
            left.length = 0;
            state->directory_wanted = false;
        }
        if (is_dot(name)) {
            if (count == 0 || names_follow(left)) {
                continue;
            }
            break; /* at the end: step by step */
        }
        last = !names_follow(left);
        if (last && state->flags & NS_PARENT) {
            break;
        }
        names[count++] = name;
        after = left;
    }
    last = !names_follow(after);
    if (takes_slash(state, after) && count > 0 && count < NAMES_AT_ONCE) {
        names[count++] = STR("");
        state->directory_wanted = false;
    } else if (last && after.length > 0) {
        state->directory_wanted = true;
    }
    size_t walked = 0;
    struct file *file = NULL;
    enum err err = file_walk(op, stack_top(state)->file, names, count, &walked, &file);
    if (err != ERR_OK) {
        return err;
    }
    if (walked < count) {
        last = false;
        if (file->type == FILE_DIRECTORY) {
            file_unref(file);
            return ERR_NOENT;
        }
        if (file->type == FILE_SYMBOLIC_LINK) {
            if (walked > 1) {
                file_unref(file);
                state->single = true;
                return restart(state);
            }
            after = (struct str){names[0].data + names[0].length,
                                 (size_t)(state->left.data + state->left.length -
                                          (names[0].data + names[0].length))};
        }
    } else if (file->type == FILE_SYMBOLIC_LINK && walked > 1 &&
               (!last || state->directory_wanted || state->flags & NS_FOLLOW)) {
        file_unref(file);
        state->single = true;
        return restart(state);
    }
    state->left = after;
    return enter(op, state, (struct ns_place){file, NULL}, last, ret_found);
}

/* One component. `*ret_found`: the walk is at its end, what was found is on the stack; with
 * NS_PARENT the directory is, and `*ret_name` is the last component. */
static enum err step(struct op *op, struct walk_state *state, struct str *ret_name,
                     bool *ret_found) {
    struct str left = state->left, name;
    bool slash;
    if (!next_name(&left, &name, &slash)) {
        /* Only when a link led here: its target was all dots, or slashes. */
        *ret_found = true;
        return state->flags & NS_PARENT ? ERR_INVAL : ERR_OK;
    }
    bool last = !names_follow(left);
    if (is_dot(name) || is_dot_dot(name)) {
        if (last && state->flags & NS_PARENT) {
            return ERR_INVAL;
        }
        if (is_dot_dot(name)) {
            if (state->depth == 1) {
                return ERR_PERM;
            }
            ns_place_done(&state->stack[--state->depth]);
        }
        state->left = left;
        if (last) {
            state->directory_wanted = true;
            *ret_found = true;
        }
        return ERR_OK;
    }
    if (last && slash) {
        state->directory_wanted = true;
    }
    struct ns_place *top = stack_top(state);
    if (last && state->flags & NS_PARENT && !(state->flags & NS_FOLLOW)) {
        *ret_name = name;
        *ret_found = true;
        return ERR_OK;
    }
    if (!state->single && !(last && state->flags & NS_PARENT) &&
        !ns_mount_child(top->mount, name)) {
        return walk_many(op, state, ret_found);
    }
    struct ns_place place;
    enum err err = ns_step(op, state->ns, top, name, &place);
    if (last && state->flags & NS_PARENT) {
        bool is_link = err == ERR_OK && place.file->type == FILE_SYMBOLIC_LINK;
        if (err == ERR_OK && !is_link) {
            ns_place_done(&place);
        }
        if (err == ERR_NOENT || (err == ERR_OK && !is_link)) {
            *ret_name = name;
            *ret_found = true;
            return ERR_OK;
        }
    }
    if (err != ERR_OK) {
        return err;
    }
    state->left = left;
    return enter(op, state, place, last, ret_found);
}

enum err ns_walk(struct op *op, struct ns_walk *walk, struct ns *ns, const struct ns_place *start,
                 struct str path, unsigned ns_walk_flags, struct ns_walk_result *ret_result) {
    enum err err = ERR_OK;
    struct walk_state *state = walk->state;
    if (!state) {
        err = begin(ns, start, path, ns_walk_flags, &state);
        if (err != ERR_OK) {
            return err;
        }
        walk->state = state;
    }
    struct str name = {0};
    bool found = false;
    for (unsigned steps = 0; err == ERR_OK && !found; steps++) {
        if (steps == STEPS_AT_ONCE) {
            op_wake(op);
            return ERR_PENDING;
        }
        err = state->link ? read_link(op, state) : step(op, state, &name, &found);
    }
    if (err == ERR_PENDING) {
        return err;
    }
    if (err != ERR_OK) {
        ns_walk_done(walk);
        return err;
    }
    const struct ns_place *top = stack_top(state);
    *ret_result = (struct ns_walk_result){
        .place = place_ref(top),
        .name = name,
        .directory_wanted = state->directory_wanted,
        .is_mount_point = name.length && ns_mount_child(top->mount, name),
    };
    if (!(ns_walk_flags & NS_PARENT)) {
        ns_walk_done(walk);
    }
    return ERR_OK;
}
