#include "dev/env.h"

#include "dev/text_file.h"

enum { ROOT_INODE = 1, FIRST_INODE = 2 };

struct env_root {
    struct file file;
    struct runs *runs;
};

/* The run on whose behalf this is done; NOENT for the control door. */
static enum err run_of(struct op *op, struct file *file, struct run **ret_run) {
    if (op->who->run_id == 0) {
        return ERR_NOENT;
    }
    return runs_find(CONTAINER_OF(file, struct env_root, file)->runs, op->who->run_id, ret_run);
}

/* The next variable's name and value; false at the end. `*rest` walks through the strings. */
static bool next_variable(const struct wasi_strings *strings, uint32_t index, const char **rest,
                          struct str *ret_name, struct str *ret_value) {
    if (index == strings->count) {
        return false;
    }
    struct str value = str_of(*rest);
    *rest += value.length + 1;
    *ret_name = str_cut(&value, '=');
    *ret_value = value;
    return true;
}

/* Whether a variable's name can be one of a file; others are in the environment only. */
static bool is_file_name(struct str name) {
    return name.length > 0 && name.length <= 255 && !memchr(name.data, '/', name.length) &&
           !str_equal_text(name, ".") && !str_equal_text(name, "..") && str_is_utf8(name);
}

static enum err open_variable(struct file *directory, struct run *run, struct str wanted,
                              struct file **ret_file) {
    const struct wasi_strings *strings = run_environment(run);
    const char *rest = (const char *)strings->bytes.data;
    struct str name, value;
    for (uint32_t i = 0; next_variable(strings, i, &rest, &name, &value); i++) {
        if (is_file_name(name) && str_equal(name, wanted)) {
            struct buf text = {0};
            enum err err = buf_append_str(&text, value);
            return err ? err
                       : text_file_new(directory->device, FIRST_INODE + i, &text,
                                       run_status(run).created_ns, ret_file);
        }
    }
    return ERR_NOENT;
}

static enum err env_walk(struct op *op, struct file *directory, const struct str *names,
                         size_t count, size_t *ret_walked, struct file **ret_file) {
    (void)count; /* a file is never walked through: that stops ns, as it should */
    struct run *run;
    enum err err = run_of(op, directory, &run);
    if (err) {
        return err;
    }
    err = open_variable(directory, run, names[0], ret_file);
    run_unref(run);
    if (!err) {
        *ret_walked = 1;
    }
    return err;
}

static enum err env_readdir(struct op *op, struct file *directory, struct dir_list *ret_list) {
    struct run *run;
    enum err err = run_of(op, directory, &run);
    if (err) {
        return err == ERR_NOENT ? ERR_OK : err;
    }
    const struct wasi_strings *strings = run_environment(run);
    const char *rest = (const char *)strings->bytes.data;
    struct str name, value;
    for (uint32_t i = 0; !err && next_variable(strings, i, &rest, &name, &value); i++) {
        if (is_file_name(name)) {
            err = dir_list_add(ret_list, name, FIRST_INODE + i, FILE_REGULAR);
        }
    }
    run_unref(run);
    return err;
}

static void env_release(struct file *file) {
    free(CONTAINER_OF(file, struct env_root, file));
}

static const struct dev env_dev = {
    .name = "env",
    .walk = env_walk,
    .readdir = env_readdir,
    .release = env_release,
};

enum err dev_env_new(struct runs *runs, struct file **ret_root) {
    struct env_root *root = malloc(sizeof(*root));
    if (!root) {
        return ERR_NOMEM;
    }
    file_init(&root->file, &env_dev, dev_next_number(), ROOT_INODE, FILE_DIRECTORY, FILE_READ_ONLY);
    root->runs = runs;
    *ret_root = &root->file;
    return ERR_OK;
}
