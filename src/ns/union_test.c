#include "ns/memory.h"
#include "ns/pending_test.h"
#include "ns/union.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* The lowest layer holds d/f ("lower"), d/sub/, d/sub/g, file, link -> file. */
static struct file *top, *middle, *bottom; /* middle is empty */
static struct file *root;                  /* of the union */

static struct file *new_layer(uint64_t inodes_max) {
    struct file *memory;
    assert_int_equal(memory_new(&(struct memory_options){.inodes_max = inodes_max}, &memory),
                     ERR_OK);
    return pending_wrap(memory);
}

/* Splits "a/b" and finds the directory; a reference. */
static struct file *parent_of(struct file *from, const char *path, struct str *ret_name) {
    struct file *at = file_ref(from);
    struct str rest = str_of(path);
    struct str name = str_cut(&rest, '/');
    while (rest.data) {
        struct file *next = NULL;
        size_t walked;
        assert_int_equal(AWAIT(file_walk(&test_op, at, &name, 1, &walked, &next)), ERR_OK);
        file_unref(at);
        at = next;
        name = str_cut(&rest, '/');
    }
    *ret_name = name;
    return at;
}
static enum err find(struct file *from, const char *path, struct file **ret_file) {
    struct str names[16], rest = str_of(path);
    size_t count = 0, walked = 0;
    while (rest.data) {
        names[count++] = str_cut(&rest, '/');
    }
    struct file *file = NULL;
    enum err err = AWAIT(file_walk(&test_op, from, names, count, &walked, &file));
    if (err == ERR_OK && walked < count) {
        file_unref(file);
        return ERR_NOENT;
    }
    if (err == ERR_OK) {
        *ret_file = file;
    }
    return err;
}
static enum err exists(const char *path) {
    struct file *file = NULL;
    enum err err = find(root, path, &file);
    file_unref(file);
    return err;
}
static enum err make(struct file *from, const char *path, enum file_type type) {
    struct str name;
    struct file *directory = parent_of(from, path, &name), *file = NULL;
    enum err err = AWAIT(file_create(&test_op, directory, name, type, &file));
    file_unref(file);
    file_unref(directory);
    return err;
}
static enum err put(struct file *from, const char *path, const char *text) {
    struct file *file = NULL, *opened = NULL;
    enum err err = make(from, path, FILE_REGULAR);
    if (err != ERR_OK && err != ERR_EXIST) {
        return err;
    }
    err = find(from, path, &file);
    if (err == ERR_OK) {
        err = AWAIT(file_open(&test_op, file, OPEN_WRITE | OPEN_TRUNCATE, &opened));
    }
    size_t written = 0;
    if (err == ERR_OK) {
        err = AWAIT(file_write(&test_op, opened, text, strlen(text), 0, &written));
    }
    file_unref(file);
    file_unref(opened);
    return err;
}
static void check_text(struct file *file, const char *text) {
    char data[64];
    size_t read = 0;
    assert_int_equal(AWAIT(file_read(&test_op, file, data, sizeof data, 0, &read)), ERR_OK);
    assert_int_equal(read, strlen(text));
    assert_memory_equal(data, text, read);
}
static void check_path(struct file *from, const char *path, const char *text) {
    struct file *file = NULL;
    assert_int_equal(find(from, path, &file), ERR_OK);
    check_text(file, text);
    file_unref(file);
}
static enum err remove_path(const char *path, bool directory_wanted) {
    struct str name;
    struct file *directory = parent_of(root, path, &name);
    enum err err = AWAIT(file_remove(&test_op, directory, name, directory_wanted));
    file_unref(directory);
    return err;
}
static enum err move(const char *old_path, const char *new_path) {
    struct str old_name, new_name;
    struct file *old_directory = parent_of(root, old_path, &old_name);
    struct file *new_directory = parent_of(root, new_path, &new_name);
    enum err err = AWAIT(file_rename(&test_op, old_directory, old_name, new_directory, new_name));
    file_unref(old_directory);
    file_unref(new_directory);
    return err;
}
/* The names of a directory, sorted by the union or by the one layer, with a space after each. */
static void check_names(const char *path, const char *names) {
    struct dir_list list = {0};
    struct buf text = {0};
    struct file *directory = NULL;
    assert_int_equal(*path ? find(root, path, &directory) : ERR_OK, ERR_OK);
    assert_int_equal(AWAIT(file_readdir(&test_op, directory ? directory : root, &list)), ERR_OK);
    for (size_t i = 0; i < list.count; i++) {
        assert_int_equal(buf_append_str(&text, dir_list_name(&list, i)), ERR_OK);
        assert_int_equal(buf_append_byte(&text, ' '), ERR_OK);
    }
    assert_string_equal(buf_text(&text), names);
    buf_done(&text);
    dir_list_done(&list);
    file_unref(directory);
}

static void make_union(uint64_t top_inodes_max) {
    top = new_layer(top_inodes_max);
    struct file *layers[] = {top, middle, bottom};
    assert_int_equal(union_new(layers, 3, true, &root), ERR_OK);
}
static void drop_union(void) {
    file_unref(root);
    file_unref(top);
}

static int setup(void **state) {
    (void)state;
    test_begin();
    pending_fail = 0;
    middle = new_layer(0);
    bottom = new_layer(0);
    assert_int_equal(make(bottom, "d", FILE_DIRECTORY), ERR_OK);
    assert_int_equal(put(bottom, "d/f", "lower"), ERR_OK);
    assert_int_equal(make(bottom, "d/sub", FILE_DIRECTORY), ERR_OK);
    assert_int_equal(put(bottom, "d/sub/g", "deep"), ERR_OK);
    assert_int_equal(put(bottom, "file", "file"), ERR_OK);
    assert_int_equal(AWAIT(file_symlink(&test_op, bottom, STR("link"), STR("file"))), ERR_OK);
    make_union(0);
    return 0;
}
static int teardown(void **state) {
    (void)state;
    drop_union();
    file_unref(middle);
    file_unref(bottom);
    test_end();
    assert_int_equal(pending_files, 0);
    return 0;
}

static void test_copy_up(void **state) {
    (void)state;
    struct file *file, *opened;
    struct file_stat before, after;
    assert_int_equal(find(root, "d/f", &file), ERR_OK);
    assert_int_equal(AWAIT(file_stat(&test_op, file, &before)), ERR_OK);
    assert_int_equal(AWAIT(file_open(&test_op, file, OPEN_READ | OPEN_WRITE, &opened)), ERR_OK);
    assert_int_equal(AWAIT(file_stat(&test_op, opened, &after)), ERR_OK);
    assert_int_equal(before.inode, after.inode);
    assert_int_equal(before.modified_ns, after.modified_ns);
    assert_int_not_equal(before.version, after.version);
    size_t written;
    assert_int_equal(AWAIT(file_write(&test_op, opened, "L", 1, 0, &written)), ERR_OK);
    check_text(file, "Lower"); /* who held it before sees it, too */
    check_path(root, "d/f", "Lower");
    check_path(bottom, "d/f", "lower");
    check_path(top, "d/f", "Lower");
    check_names("d", "f sub ");
    file_unref(file);
    file_unref(opened);
    struct file *again;
    assert_int_equal(find(root, "d/f", &again), ERR_OK);
    assert_int_equal(again->inode, before.inode);
    file_unref(again);
}

static void test_large_copy_stays_sparse(void **state) {
    (void)state;
    struct file *file, *opened;
    size_t done;
    assert_int_equal(make(bottom, "big", FILE_REGULAR), ERR_OK);
    assert_int_equal(find(bottom, "big", &file), ERR_OK);
    assert_int_equal(AWAIT(file_set_size(&test_op, file, 5000001)), ERR_OK);
    assert_int_equal(AWAIT(file_write(&test_op, file, "x", 1, 3000000, &done)), ERR_OK);
    file_unref(file);
    assert_int_equal(find(root, "big", &file), ERR_OK);
    assert_int_equal(AWAIT(file_open(&test_op, file, OPEN_WRITE, &opened)), ERR_OK);
    struct file_stat stat;
    char byte = 0;
    assert_int_equal(AWAIT(file_stat(&test_op, opened, &stat)), ERR_OK);
    assert_int_equal(stat.size, 5000001);
    assert_int_equal(AWAIT(file_read(&test_op, opened, &byte, 1, 3000000, &done)), ERR_OK);
    assert_int_equal(byte, 'x');
    /* One piece of 64 KiB has anything in it. */
    assert_true(memory_usage(pending_inner(top)).bytes <= 5 * 16384);
    file_unref(file);
    file_unref(opened);
}

static void test_whiteouts(void **state) {
    (void)state;
    assert_int_equal(remove_path("file", true), ERR_NOTDIR);
    assert_int_equal(remove_path("file", false), ERR_OK);
    assert_int_equal(exists("file"), ERR_NOENT);
    assert_int_equal(remove_path("file", false), ERR_NOENT);
    check_names("", "d link ");
    assert_int_equal(put(root, "file", "new"), ERR_OK);
    check_path(root, "file", "new");
    assert_int_equal(remove_path("file", false), ERR_OK);
    check_names("", "d link ");
    /* A directory: emptied, removed, made again; what is below stays hidden. */
    assert_int_equal(remove_path("d", false), ERR_ISDIR);
    assert_int_equal(remove_path("d", true), ERR_NOTEMPTY);
    assert_int_equal(remove_path("d/f", false), ERR_OK);
    assert_int_equal(remove_path("d/sub/g", false), ERR_OK);
    assert_int_equal(remove_path("d/sub", true), ERR_OK);
    check_names("d", "");
    assert_int_equal(remove_path("d", true), ERR_OK);
    assert_int_equal(exists("d"), ERR_NOENT);
    assert_int_equal(make(root, "d", FILE_DIRECTORY), ERR_OK);
    check_names("d", "");
    assert_int_equal(exists("d/f"), ERR_NOENT);
    assert_int_equal(make(root, "d", FILE_DIRECTORY), ERR_EXIST);
    assert_int_equal(put(root, "d/f", "mine"), ERR_OK);
    check_path(root, "d/f", "mine");
    /* The same for who makes a union of these layers later. */
    struct file *layers[] = {top, middle, bottom}, *other = root;
    assert_int_equal(union_new(layers, 3, true, &root), ERR_OK);
    check_names("d", "f ");
    check_names("", "d link ");
    file_unref(root);
    root = other;
}

static void test_middle_layer(void **state) {
    (void)state;
    assert_int_equal(make(middle, "file", FILE_WHITEOUT), ERR_OK);
    assert_int_equal(make(middle, "d", FILE_DIRECTORY), ERR_OK);
    assert_int_equal(make(middle, "d/f", FILE_WHITEOUT), ERR_OK);
    assert_int_equal(put(middle, "d/m", "middle"), ERR_OK);
    check_names("", "d link ");
    check_names("d", "m sub ");
    assert_int_equal(exists("d/f"), ERR_NOENT);
    check_path(root, "d/m", "middle");
    assert_int_equal(put(root, "d/f", "top"), ERR_OK);
    check_path(root, "d/f", "top");
    assert_int_equal(remove_path("d/f", false), ERR_OK);
    assert_int_equal(remove_path("d/m", false), ERR_OK);
    check_names("d", "sub ");
    /* An opaque directory in the middle hides what is below it, also in a listing's inodes. */
    assert_int_equal(make(middle, "d/sub", FILE_DIRECTORY), ERR_OK);
    struct file *sub;
    assert_int_equal(find(middle, "d/sub", &sub), ERR_OK);
    struct file *marker = NULL;
    assert_int_equal(
        AWAIT(file_create(&test_op, sub, STR(UNION_OPAQUE_NAME), FILE_WHITEOUT, &marker)), ERR_OK);
    file_unref(marker);
    file_unref(sub);
    assert_int_equal(exists("d/sub/g"), ERR_NOENT);
    struct file *d;
    struct dir_list list = {0};
    assert_int_equal(find(root, "d", &d), ERR_OK);
    assert_int_equal(find(root, "d/sub", &sub), ERR_OK);
    assert_int_equal(AWAIT(file_readdir(&test_op, d, &list)), ERR_OK);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.entries[0].inode, sub->inode);
    dir_list_done(&list);
    file_unref(d);
    file_unref(sub);
}

static void test_rename(void **state) {
    (void)state;
    assert_int_equal(move("d", "e"), ERR_XDEV);
    assert_int_equal(move("d", "d/sub/x"), ERR_INVAL);
    assert_int_equal(move("d", "file"), ERR_NOTDIR);
    assert_int_equal(move("file", "d"), ERR_ISDIR);
    assert_int_equal(move("missing", "x"), ERR_NOENT);
    assert_int_equal(move("file", "file"), ERR_OK);
    struct file *held;
    assert_int_equal(find(root, "d/f", &held), ERR_OK);
    assert_int_equal(move("d/f", "file"), ERR_OK);
    check_path(root, "file", "lower");
    assert_int_equal(exists("d/f"), ERR_NOENT);
    check_names("d", "sub ");
    struct file *found;
    assert_int_equal(find(root, "file", &found), ERR_OK);
    assert_ptr_equal(found, held); /* whoever held it went with it */
    file_unref(found);
    file_unref(held);
    assert_int_equal(move("link", "d/link"), ERR_OK);
    struct buf target = {0};
    assert_int_equal(find(root, "d/link", &found), ERR_OK);
    assert_int_equal(AWAIT(file_readlink(&test_op, found, &target)), ERR_OK);
    assert_string_equal(buf_text(&target), "file");
    buf_done(&target);
    file_unref(found);
    /* A directory of the top over an emptied one of the layers below. */
    assert_int_equal(remove_path("d/sub/g", false), ERR_OK);
    assert_int_equal(make(root, "n", FILE_DIRECTORY), ERR_OK);
    assert_int_equal(put(root, "n/x", "x"), ERR_OK);
    assert_int_equal(move("n", "d/sub"), ERR_OK);
    check_names("d/sub", "x ");
    assert_int_equal(remove_path("d/sub/x", false), ERR_OK);
    assert_int_equal(move("d/sub", "sub2"), ERR_OK);
    check_names("d", "link ");
    check_names("sub2", "");
}

static void test_links(void **state) {
    (void)state;
    struct file *file;
    struct file_stat stat;
    assert_int_equal(find(root, "d/f", &file), ERR_OK);
    assert_int_equal(AWAIT(file_link(&test_op, file, root, STR("hard"))), ERR_OK);
    assert_int_equal(AWAIT(file_stat(&test_op, file, &stat)), ERR_OK);
    assert_int_equal(stat.links, 2);
    file_unref(file);
    assert_int_equal(put(root, "hard", "both"), ERR_OK);
    check_path(root, "d/f", "both");
    assert_int_equal(AWAIT(file_symlink(&test_op, root, STR("file"), STR("x"))), ERR_EXIST);
    assert_int_equal(remove_path("file", false), ERR_OK);
    assert_int_equal(AWAIT(file_symlink(&test_op, root, STR("file"), STR("x"))), ERR_OK);
    assert_int_equal(find(root, "file", &file), ERR_OK);
    assert_int_equal(file->type, FILE_SYMBOLIC_LINK);
    assert_int_equal(AWAIT(file_link(&test_op, file, root, STR("hard2"))), ERR_OK);
    file_unref(file);
}

static void test_reserved_names(void **state) {
    (void)state;
    assert_int_equal(make(root, UNION_OPAQUE_NAME, FILE_REGULAR), ERR_INVAL);
    assert_int_equal(make(root, UNION_RESERVED_PREFIX "x", FILE_DIRECTORY), ERR_INVAL);
    assert_int_equal(move("file", UNION_OPAQUE_NAME), ERR_INVAL);
    assert_int_equal(remove_path(UNION_OPAQUE_NAME, false), ERR_NOENT);
    assert_int_equal(put(bottom, UNION_RESERVED_PREFIX "x", "x"), ERR_OK);
    assert_int_equal(exists(UNION_RESERVED_PREFIX "x"), ERR_NOENT);
    check_names("", "d file link ");
}

static void test_read_only(void **state) {
    (void)state;
    struct file *layers[] = {middle, bottom}, *other = root, *file, *opened;
    assert_int_equal(union_new(layers, 2, false, &root), ERR_OK);
    check_path(root, "d/f", "lower");
    assert_int_equal(make(root, "x", FILE_REGULAR), ERR_ROFS);
    assert_int_equal(remove_path("file", false), ERR_ROFS);
    assert_int_equal(move("file", "x"), ERR_ROFS);
    assert_int_equal(find(root, "file", &file), ERR_OK);
    assert_int_equal(AWAIT(file_open(&test_op, file, OPEN_WRITE, &opened)), ERR_ROFS);
    assert_int_equal(AWAIT(file_set_size(&test_op, file, 0)), ERR_ROFS);
    assert_int_equal(AWAIT(file_set_times(&test_op, file, 1, 1, 3)), ERR_ROFS);
    assert_int_equal(AWAIT(file_link(&test_op, file, root, STR("x"))), ERR_ROFS);
    file_unref(file);
    file_unref(root);
    root = other;
    assert_int_equal(union_new(layers, 0, true, &other), ERR_INVAL);
}

static void test_removed_while_held(void **state) {
    (void)state;
    struct file *file, *opened = NULL, *sub;
    assert_int_equal(find(root, "d/sub/g", &file), ERR_OK);
    assert_int_equal(find(root, "d/sub", &sub), ERR_OK);
    assert_int_equal(remove_path("d/sub/g", false), ERR_OK);
    check_text(file, "deep");
    assert_int_equal(AWAIT(file_open(&test_op, file, OPEN_WRITE, &opened)), ERR_NOENT);
    assert_int_equal(remove_path("d/sub", true), ERR_OK);
    struct dir_list list = {0};
    struct file *made = NULL;
    assert_int_equal(AWAIT(file_readdir(&test_op, sub, &list)), ERR_OK);
    assert_int_equal(list.count, 0);
    assert_int_equal(AWAIT(file_create(&test_op, sub, STR("x"), FILE_REGULAR, &made)), ERR_NOENT);
    assert_int_equal(find(sub, "g", &made), ERR_NOENT);
    file_unref(file);
    file_unref(sub);
}

/* The changes that are begun, failed or abandoned below. */
enum {
    COPY,
    REMOVE_FILE,
    REMOVE_DIRECTORY,
    MAKE_DIRECTORY,
    MAKE_FILE,
    RENAME_FILE,
    RENAME_DIRECTORY,
    CHANGES
};

static enum err prepare(int change) {
    enum err err = ERR_OK;
    if (change == REMOVE_DIRECTORY || change == MAKE_DIRECTORY || change == RENAME_DIRECTORY) {
        err = remove_path("d/sub/g", false);
    }
    if (err == ERR_OK && change == MAKE_DIRECTORY) {
        err = remove_path("d/sub", true);
    }
    if (err == ERR_OK && change == MAKE_FILE) {
        err = remove_path("file", false);
    }
    if (err == ERR_OK && change == RENAME_DIRECTORY) {
        err = make(root, "n", FILE_DIRECTORY);
        err = err == ERR_OK ? put(root, "n/x", "x") : err;
    }
    return err;
}
static struct file *change_made;
static enum err change(struct op *op, int change, struct file *d, struct file *f) {
    switch (change) {
    case COPY:
        return file_open(op, f, OPEN_WRITE, &change_made);
    case REMOVE_FILE:
        return file_remove(op, d, STR("f"), false);
    case REMOVE_DIRECTORY:
        return file_remove(op, d, STR("sub"), true);
    case MAKE_DIRECTORY:
        return file_create(op, d, STR("sub"), FILE_DIRECTORY, &change_made);
    case MAKE_FILE:
        return file_create(op, root, STR("file"), FILE_REGULAR, &change_made);
    case RENAME_FILE:
        return file_rename(op, d, STR("f"), root, STR("file"));
    default:
        return file_rename(op, root, STR("n"), d, STR("sub"));
    }
}
/* Whether the change has been made; anything but before and after fails. */
static bool check_state(int change) {
    switch (change) {
    case COPY:
        check_path(root, "d/f", "lower");
        check_names("d", "f sub ");
        return false;
    case REMOVE_FILE: {
        bool gone = exists("d/f") == ERR_NOENT;
        if (!gone) {
            check_path(root, "d/f", "lower");
        }
        check_names("d", gone ? "sub " : "f sub ");
        return gone;
    }
    case REMOVE_DIRECTORY:
    case MAKE_DIRECTORY: {
        bool there = exists("d/sub") == ERR_OK;
        check_names("d", there ? "f sub " : "f ");
        if (there && change == MAKE_DIRECTORY) {
            check_names("d/sub", "");
        }
        return there == (change == MAKE_DIRECTORY);
    }
    case MAKE_FILE: {
        bool there = exists("file") == ERR_OK;
        check_names("", there ? "d file link " : "d link ");
        if (there) {
            check_path(root, "file", "");
        }
        return there;
    }
    case RENAME_FILE: {
        bool gone = exists("d/f") == ERR_NOENT;
        check_path(root, "file", gone ? "lower" : "file");
        check_names("d", gone ? "sub " : "f sub ");
        return gone;
    }
    default: {
        bool gone = exists("n") == ERR_NOENT;
        check_names("", gone ? "d file link " : "d file link n ");
        check_names("d/sub", gone ? "x " : "");
        return gone;
    }
    }
}

/* Given up after any number of steps, a change is made all the same, or not at all (a copy). */
static void test_abandoned_changes(void **state) {
    (void)state;
    for (int which = 0; which < CHANGES; which++) {
        enum err err = ERR_PENDING;
        for (int steps = 1; err == ERR_PENDING; steps++) {
            drop_union();
            make_union(0);
            assert_int_equal(prepare(which), ERR_OK);
            struct file *d = NULL, *f = NULL;
            assert_int_equal(find(root, "d", &d), ERR_OK);
            assert_int_equal(find(root, "d/f", &f), ERR_OK);
            struct op op;
            op_init(&op, test_loop, &test_who, test_wake);
            change_made = NULL;
            err = change(&op, which, d, f);
            for (int turn = 1; turn < steps && err == ERR_PENDING; turn++) {
                loop_turn(test_loop);
                err = change(&op, which, d, f);
            }
            op_done(&op);
            file_unref(change_made);
            while (loop_turn(test_loop)) {
            }
            /* A copy is given up. */
            assert_true(check_state(which) || which == COPY || which == RENAME_FILE);
            /* Nothing is left in the way, nor in the layer. */
            assert_int_equal(put(root, "d/new", "new"), ERR_OK);
            struct dir_list list = {0};
            struct file *in_top = NULL;
            assert_int_equal(find(top, "d", &in_top), ERR_OK);
            assert_int_equal(AWAIT(file_readdir(&test_op, in_top, &list)), ERR_OK);
            for (size_t i = 0; i < list.count; i++) {
                assert_false(str_starts(dir_list_name(&list, i), STR(UNION_RESERVED_PREFIX)));
            }
            dir_list_done(&list);
            file_unref(in_top);
            file_unref(d);
            file_unref(f);
        }
        assert_int_equal(err, ERR_OK);
    }
    test_woken = false;
}

/* Whatever fails, what is visible is as before or as after; the union goes on. */
static void test_failing_layers(void **state) {
    (void)state;
    for (int which = 0; which < CHANGES; which++) {
        bool failed = true;
        for (int fail = 1; failed; fail++) {
            drop_union();
            make_union(0);
            assert_int_equal(prepare(which), ERR_OK);
            struct file *d = NULL, *f = NULL;
            assert_int_equal(find(root, "d", &d), ERR_OK);
            assert_int_equal(find(root, "d/f", &f), ERR_OK);
            change_made = NULL;
            pending_fail = fail;
            enum err err = AWAIT(change(&test_op, which, d, f));
            failed = pending_fail == 0;
            pending_fail = 0;
            assert_true(err == ERR_OK || (failed && err == ERR_IO));
            file_unref(change_made);
            bool changed = check_state(which);
            assert_true(which == COPY || changed == (err == ERR_OK));
            assert_int_equal(put(root, "d/new", "new"), ERR_OK);
            file_unref(d);
            file_unref(f);
        }
    }
}

/* At the quota a file of the top can still be removed, and nothing else breaks. */
static void test_quota(void **state) {
    (void)state;
    for (uint64_t inodes = 1; inodes < 12; inodes++) {
        for (int which = 0; which < CHANGES; which++) {
            drop_union();
            make_union(0);
            assert_int_equal(prepare(which), ERR_OK);
            uint64_t used = memory_usage(pending_inner(top)).inodes;
            drop_union();
            make_union(used + inodes - 1);
            if (prepare(which) != ERR_OK) {
                continue; /* it needs more than what is left in the end */
            }
            struct file *d = NULL, *f = NULL;
            assert_int_equal(find(root, "d", &d), ERR_OK);
            assert_int_equal(find(root, "d/f", &f), ERR_OK);
            change_made = NULL;
            enum err err = AWAIT(change(&test_op, which, d, f));
            assert_true(err == ERR_OK || err == ERR_NOSPC);
            file_unref(change_made);
            assert_true(which == COPY || check_state(which) == (err == ERR_OK));
            file_unref(d);
            file_unref(f);
        }
    }
}

/* Two changes at the same time take turns. */
static void test_turns(void **state) {
    (void)state;
    struct op ops[8];
    struct file *d, *made[8] = {0};
    enum err errs[8];
    assert_int_equal(find(root, "d", &d), ERR_OK);
    for (int i = 0; i < 8; i++) {
        op_init(&ops[i], test_loop, &test_who, test_wake);
        errs[i] = ERR_PENDING;
    }
    for (bool waits = true; waits; loop_turn(test_loop)) {
        waits = false;
        for (int i = 0; i < 8; i++) {
            if (errs[i] == ERR_PENDING) {
                errs[i] = file_create(&ops[i], d, STR("one"), FILE_REGULAR, &made[i]);
                waits = waits || errs[i] == ERR_PENDING;
            }
        }
    }
    int made_count = 0;
    for (int i = 0; i < 8; i++) {
        made_count += errs[i] == ERR_OK;
        assert_true(errs[i] == ERR_OK || errs[i] == ERR_EXIST);
        file_unref(made[i]);
        op_done(&ops[i]);
    }
    assert_int_equal(made_count, 1);
    file_unref(d);
    while (loop_turn(test_loop)) {
    }
    test_woken = false;
}

/* Another union of the same layers, as another run of the app has it. */
static void test_two_unions(void **state) {
    (void)state;
    struct file *layers[] = {top, middle, bottom}, *mine = root, *other, *held, *opened;
    assert_int_equal(union_new(layers, 3, true, &other), ERR_OK);
    assert_int_equal(find(mine, "d/f", &held), ERR_OK);
    root = other;
    assert_int_equal(put(other, "d/f", "other"), ERR_OK);
    assert_int_equal(put(other, "d/new", "new"), ERR_OK);
    assert_int_equal(remove_path("file", false), ERR_OK);
    root = mine;
    check_path(mine, "d/f", "other");
    check_path(mine, "d/new", "new");
    assert_int_equal(exists("file"), ERR_NOENT);
    /* Held from before, it is a file whose name has gone to another one. */
    check_text(held, "lower");
    assert_int_equal(AWAIT(file_open(&test_op, held, OPEN_WRITE, &opened)), ERR_NOENT);
    check_path(mine, "d/f", "other");
    file_unref(held);
    file_unref(other);
}

static void test_deep_tree(void **state) {
    (void)state;
    pending_off = true;
    struct file *at = file_ref(root);
    for (int depth = 0; depth < 20000; depth++) {
        struct file *next = NULL;
        assert_int_equal(AWAIT(file_create(&test_op, at, STR("n"), FILE_DIRECTORY, &next)), ERR_OK);
        file_unref(at);
        at = next;
    }
    file_unref(at); /* gives up 20,000 nodes, one held by the other, without recursion */
    pending_off = false;
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        TEST(test_copy_up),
        TEST(test_large_copy_stays_sparse),
        TEST(test_whiteouts),
        TEST(test_middle_layer),
        TEST(test_rename),
        TEST(test_links),
        TEST(test_reserved_names),
        TEST(test_read_only),
        TEST(test_removed_while_held),
        TEST(test_abandoned_changes),
        TEST(test_failing_layers),
        TEST(test_quota),
        TEST(test_turns),
        TEST(test_two_unions),
        TEST(test_deep_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
