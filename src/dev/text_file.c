#include "dev/text_file.h"

struct text_file {
    struct file file;
    struct buf text;
    uint64_t modified_ns; /* realtime */
};

static enum err text_read(struct op *op, struct file *file, void *data, size_t length,
                          uint64_t offset, size_t *ret_read) {
    (void)op;
    const struct buf *text = &CONTAINER_OF(file, struct text_file, file)->text;
    size_t here = offset < text->length ? MIN(length, text->length - (size_t)offset) : 0;
    if (here > 0) {
        memcpy(data, text->data + offset, here);
    }
    *ret_read = here;
    return ERR_OK;
}

static enum err text_stat(struct op *op, struct file *file, struct file_stat *ret_stat) {
    (void)op;
    const struct text_file *text = CONTAINER_OF(file, struct text_file, file);
    *ret_stat = (struct file_stat){
        .device = file->device,
        .inode = file->inode,
        .type = file->type,
        .links = 1,
        .size = text->text.length,
        .accessed_ns = text->modified_ns,
        .modified_ns = text->modified_ns,
        .changed_ns = text->modified_ns,
    };
    return ERR_OK;
}

static void text_release(struct file *file) {
    struct text_file *text = CONTAINER_OF(file, struct text_file, file);
    buf_done(&text->text);
    free(text);
}

static const struct dev text_dev = {
    .name = "text",
    .read = text_read,
    .stat = text_stat,
    .release = text_release,
};

enum err text_file_new(uint64_t device, uint64_t inode, struct buf *text, uint64_t modified_ns,
                       struct file **ret_file) {
    struct text_file *file = malloc(sizeof(*file));
    if (!file) {
        buf_done(text);
        return ERR_NOMEM;
    }
    file_init(&file->file, &text_dev, device, inode, FILE_REGULAR, FILE_SEEKABLE | FILE_READ_ONLY);
    file->text = *text;
    file->modified_ns = modified_ns;
    *text = (struct buf){0};
    *ret_file = &file->file;
    return ERR_OK;
}
