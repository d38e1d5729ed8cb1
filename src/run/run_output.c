/* The ordered record of a run's output, and its readers. */
#include "base/fsio.h"
#include "run/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { HEADER_SIZE = sizeof(struct output_frame), SCAN_SIZE = 4096 };

void output_init(struct output *output) {
    *output = (struct output){.memory_capacity = OUTPUT_SMALL_SIZE, .spool = -1};
    output->memory = output->small;
}

void output_done(struct output *output) {
    if (output->memory != output->small) {
        free(output->memory);
    }
    free(output->index);
    if (output->spool >= 0) {
        close(output->spool);
    }
    /* The small memory is not cleared: this is done for every run. */
    output->memory = output->small;
    output->memory_capacity = OUTPUT_SMALL_SIZE;
    output->length = output->size = output->frame_position = output->frame_count = 0;
    output->base_offset = output->base_position = 0;
    output->forgets = false;
    output->frame = (struct output_frame){0};
    output->index = NULL;
    output->index_count = output->index_capacity = 0;
    output->spool = -1;
    memset(output->last_was_newline, 0, sizeof(output->last_was_newline));
}

uint64_t output_charged(const struct output *output) {
    if (output->forgets) {
        return output->size - output->base_position;
    }
    uint64_t headers = output->frame_count * HEADER_SIZE;
    uint64_t free_headers = output->length / 4 + OUTPUT_FREE_HEADERS_MAX;
    return output->length + (headers > free_headers ? headers - free_headers : 0);
}

/* Makes the memory at least `size` bytes (at most OUTPUT_MEMORY_MAX). */
static enum err grow(struct output *output, uint64_t size) {
    if (size <= output->memory_capacity) {
        return ERR_OK;
    }
    size_t capacity = output->memory_capacity;
    while (capacity < size) {
        capacity *= 2;
    }
    capacity = MIN(capacity, (size_t)OUTPUT_MEMORY_MAX);
    uint8_t *memory =
        output->memory == output->small ? malloc(capacity) : realloc(output->memory, capacity);
    if (!memory) {
        return ERR_NOMEM;
    }
    if (output->memory == output->small) {
        memcpy(memory, output->small, MIN(output->size, (uint64_t)OUTPUT_SMALL_SIZE));
    }
    output->memory = memory;
    output->memory_capacity = capacity;
    return ERR_OK;
}

/* The file has no name from the beginning on for anybody but us: it goes with its descriptor. */
static enum err open_spool(struct output *output, struct catalog *catalog) {
    struct buf cleanup_buf path = {0};
    enum err err = catalog_temporary_path(catalog, &path);
    if (err) {
        return err;
    }
    int spool = open(buf_text(&path), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (spool < 0) {
        return err_from_errno(errno);
    }
    unlink(buf_text(&path));
    output->spool = spool;
    return ERR_OK;
}

/* Puts bytes at a position of the record, for which prepare() has made room. */
static enum err store(struct output *output, const void *data, size_t length, uint64_t position) {
    const uint8_t *bytes = data;
    position -= output->base_position;
    if (position < OUTPUT_MEMORY_MAX) {
        size_t here = (size_t)MIN((uint64_t)length, OUTPUT_MEMORY_MAX - position);
        memcpy(output->memory + position, bytes, here);
        bytes += here;
        length -= here;
        position += here;
    }
    return length ? fsio_write_at(output->spool, bytes, length, position - OUTPUT_MEMORY_MAX)
                  : ERR_OK;
}

static enum err prepare(struct output *output, struct catalog *catalog, uint64_t size) {
    enum err err = grow(output, MIN(size, (uint64_t)OUTPUT_MEMORY_MAX));
    if (!err && size > OUTPUT_MEMORY_MAX && output->spool < 0) {
        err = open_spool(output, catalog);
    }
    return err;
}

static enum err load(const struct output *output, void *data, size_t length, uint64_t position) {
    uint8_t *bytes = data;
    position -= output->base_position;
    if (position < OUTPUT_MEMORY_MAX) {
        size_t here = (size_t)MIN((uint64_t)length, OUTPUT_MEMORY_MAX - position);
        memcpy(bytes, output->memory + position, here);
        bytes += here;
        length -= here;
        position += here;
    }
    while (length > 0) {
        ssize_t got = pread(output->spool, bytes, length, (off_t)(position - OUTPUT_MEMORY_MAX));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return ERR_IO;
        }
        bytes += got;
        length -= (size_t)got;
        position += (uint64_t)got;
    }
    return ERR_OK;
}

/* The index has an entry for the frame that begins here if the last one is far enough behind. */
static enum err note_in_index(struct output *output) {
    uint64_t last = output->index_count ? output->index[output->index_count - 1].position : 0;
    if (output->size - last < OUTPUT_INDEX_DISTANCE || output->forgets) {
        return ERR_OK;
    }
    if (output->index_count == output->index_capacity) {
        size_t capacity = output->index_capacity ? output->index_capacity * 2 : 8;
        struct output_index_entry *index =
            realloc(output->index, capacity * sizeof(output->index[0]));
        if (!index) {
            return ERR_NOMEM;
        }
        output->index = index;
        output->index_capacity = capacity;
    }
    output->index[output->index_count++] =
        (struct output_index_entry){.offset = output->length, .position = output->size};
    return ERR_OK;
}

/* Appends at most what fits in one frame. */
static enum err append_frame(struct output *output, struct catalog *catalog, unsigned stream,
                             const void *data, size_t length, uint64_t time_ns,
                             size_t *ret_appended) {
    struct output_frame *last = &output->frame;
    bool merge = output->frame_count > 0 && last->stream == stream &&
                 last->length < OUTPUT_FRAME_MAX && time_ns - last->time_ns < OUTPUT_MERGE_NS;
    size_t room = OUTPUT_FRAME_MAX - (merge ? last->length : 0);
    length = MIN(length, room);
    size_t header = merge ? 0 : (size_t)HEADER_SIZE;
    enum err err = prepare(output, catalog, output->size - output->base_position + header + length);
    /* The bytes first: should they not get to the file (a full disk), nothing has happened. */
    if (!err) {
        err = store(output, data, length, output->size + header);
    }
    struct output_frame frame = {
        .time_ns = merge ? last->time_ns : time_ns,
        .length = (uint32_t)(length + (merge ? last->length : 0)),
        .stream = stream,
    };
    uint64_t position = merge ? output->frame_position : output->size;
    if (!err) {
        err = store(output, &frame, sizeof(frame), position);
    }
    if (!err && !merge) {
        err = note_in_index(output);
    }
    if (err) {
        return err;
    }
    *last = frame;
    output->frame_position = position;
    output->frame_count += merge ? 0 : 1;
    output->length += length;
    output->size += header + length;
    *ret_appended = length;
    return ERR_OK;
}

enum err output_append(struct output *output, struct catalog *catalog, unsigned stream,
                       const void *data, size_t length, uint64_t time_ns) {
    const uint8_t *bytes = data;
    while (length > 0) {
        size_t appended;
        enum err err = append_frame(output, catalog, stream, bytes, length, time_ns, &appended);
        if (err) {
            return err;
        }
        output->last_was_newline[stream] = bytes[appended - 1] == '\n';
        bytes += appended;
        length -= appended;
    }
    return ERR_OK;
}

/* The last entry of the index at or before `offset`. */
static struct output_index_entry find_in_index(const struct output *output, uint64_t offset) {
    size_t low = 0;
    size_t high = output->index_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (output->index[middle].offset <= offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low ? output->index[low - 1]
               : (struct output_index_entry){output->base_offset, output->base_position};
}

/* Finds the frame with the reader's next byte. Headers of small frames are read in pieces of
 * SCAN_SIZE, so that a reader that skips many of them does not ask the file for each. */
static enum err find_frame(const struct output *output, struct run_reader *reader, unsigned streams,
                           struct output_frame *ret_frame, bool *ret_found) {
    uint64_t offset = MAX(MIN(reader->offset, output->length), output->base_offset);
    uint64_t frame_offset = reader->frame_offset;
    uint64_t position = reader->frame_position;
    struct output_index_entry entry = find_in_index(output, offset);
    if (frame_offset > offset || entry.offset > frame_offset) {
        frame_offset = entry.offset;
        position = entry.position;
    }
    uint8_t piece[SCAN_SIZE];
    uint64_t piece_start = 0;
    size_t piece_length = 0;
    *ret_found = false;
    while (position < output->size) {
        if (position < piece_start || position + HEADER_SIZE > piece_start + piece_length) {
            /* The first step needs its own header only, and is mostly the last one. */
            size_t wanted = piece_length ? (size_t)SCAN_SIZE : (size_t)HEADER_SIZE;
            piece_start = position;
            piece_length = (size_t)MIN((uint64_t)wanted, output->size - position);
            enum err err = load(output, piece, piece_length, piece_start);
            if (err) {
                return err;
            }
        }
        struct output_frame frame;
        memcpy(&frame, piece + (position - piece_start), sizeof(frame));
        if (offset < frame_offset + frame.length) {
            if (frame.stream & streams) {
                *ret_frame = frame;
                *ret_found = true;
                break;
            }
            offset = frame_offset + frame.length;
        }
        if (position == output->frame_position) {
            /* The last frame may still grow: stay at it. */
            break;
        }
        frame_offset += frame.length;
        position += HEADER_SIZE + frame.length;
    }
    reader->offset = offset;
    reader->frame_offset = frame_offset;
    reader->frame_position = position;
    return ERR_OK;
}

enum err output_read(const struct output *output, struct run_reader *reader, unsigned streams,
                     void *data, size_t size, size_t *ret_read, struct output_frame *ret_frame) {
    struct output_frame frame;
    bool found;
    enum err err = find_frame(output, reader, streams, &frame, &found);
    if (err) {
        return err;
    }
    if (!found) {
        *ret_read = 0;
        return ERR_OK;
    }
    uint64_t inside = reader->offset - reader->frame_offset;
    size_t length = (size_t)MIN((uint64_t)size, frame.length - inside);
    err = load(output, data, length, reader->frame_position + HEADER_SIZE + inside);
    if (err) {
        return err;
    }
    reader->offset += length;
    *ret_read = length;
    *ret_frame = frame;
    return ERR_OK;
}

void output_forget(struct output *output, const struct run_reader *reader) {
    if (reader->offset >= output->length) {
        output->base_offset = output->length;
        output->base_position = output->size;
        output->frame_count = 0; /* the next frame is a new one */
        if (output->spool >= 0) {
            close(output->spool);
            output->spool = -1;
        }
    } else if (output->spool < 0 &&
               reader->frame_position > output->base_position + OUTPUT_MEMORY_MAX / 2) {
        size_t gone = (size_t)(reader->frame_position - output->base_position);
        size_t left = (size_t)(output->size - reader->frame_position);
        memmove(output->memory, output->memory + gone, left);
        output->base_offset = reader->frame_offset;
        output->base_position = reader->frame_position;
    }
}

void output_trim(struct output *output) {
    if (output->base_position == output->size && output->memory != output->small) {
        free(output->memory);
        output->memory = output->small;
        output->memory_capacity = OUTPUT_SMALL_SIZE;
    }
}

size_t output_room(const struct output *output) {
    /* Of all the frames that one write makes. */
    const size_t headers = (OUTPUT_MEMORY_MAX / OUTPUT_FRAME_MAX + 2) * HEADER_SIZE;
    size_t used = (size_t)(output->size - output->base_position);
    return output->spool >= 0 || used + headers > OUTPUT_MEMORY_MAX
               ? 0
               : OUTPUT_MEMORY_MAX - used - headers;
}

bool output_seek(const struct output *output, struct run_reader *reader, unsigned streams) {
    struct output_frame frame;
    bool found;
    /* An error is for the read that follows. */
    return find_frame(output, reader, streams, &frame, &found) != ERR_OK || found;
}

/* ---- readers ---- */

/* Where the run's binding reader is has changed: a guest that waits for it may go on. Called with
 * the lock. */
static void note_reader(struct run *run, const struct run_reader *reader, bool *ret_wake) {
    if (reader->binding && run->is_web) {
        bool was_full = output_room(&run->output) == 0;
        output_forget(&run->output, reader);
        *ret_wake = was_full && output_room(&run->output) > 0;
        if (run->output_ended) {
            output_trim(&run->output);
        }
        return;
    }
    if (!reader->binding || !run->has_reader) {
        return;
    }
    uint64_t lag = run->output.length - run->reader_offset;
    run->reader_offset = reader->offset;
    if (lag > RUN_READER_LAG_MAX / 2 &&
        run->output.length - reader->offset <= RUN_READER_LAG_MAX / 2) {
        *ret_wake = true;
    }
}

/* One attempt; PENDING if there is nothing and more may come. */
static enum err try_read(struct run *run, struct run_reader *reader, unsigned streams, void *data,
                         size_t size, size_t *ret_read, struct output_frame *ret_frame,
                         bool *ret_wake) {
    pthread_mutex_lock(&run->lock);
    size_t got = 0;
    bool found;
    enum err err = ERR_OK;
    if (data) {
        err = output_read(&run->output, reader, streams, data, size, &got, ret_frame);
        found = got > 0;
    } else {
        found = output_seek(&run->output, reader, streams);
    }
    if (!err) {
        note_reader(run, reader, ret_wake);
        if (!found && !run->output_ended) {
            err = ERR_PENDING;
        }
    }
    pthread_mutex_unlock(&run->lock);
    *ret_read = got;
    return err;
}

static enum err read_or_wait(struct op *op, struct run *run, struct run_reader *reader,
                             unsigned streams, void *data, size_t size, size_t *ret_read,
                             struct output_frame *ret_frame) {
    bool wake = false;
    int state = atomic_load_explicit(&run->state, memory_order_relaxed);
    bool has_begun = state != RUN_QUEUED && state != RUN_STARTING;
    enum err err = ERR_PENDING; /* of what has not begun there is hardly something to read */
    if (has_begun || op->nonblocking) {
        err = try_read(run, reader, streams, data, size, ret_read, ret_frame, &wake);
    }
    if (err == ERR_PENDING && op->nonblocking) {
        err = ERR_AGAIN;
    } else if (err == ERR_PENDING) {
        err = op_queue_wait(&run->changed, op);
        if (!err) {
            /* Once more: it may have come between the look and the wait. */
            err = try_read(run, reader, streams, data, size, ret_read, ret_frame, &wake);
        }
    }
    if (wake) {
        op_queue_wake_all(&run->changed);
    }
    return err == ERR_PENDING ? err : op_finish(op, err);
}

enum err run_output_read(struct op *op, struct run *run, struct run_reader *reader,
                         unsigned streams, void *data, size_t size, size_t *ret_read,
                         unsigned *ret_stream, uint64_t *ret_time_ns) {
    if (size == 0) {
        return ERR_INVAL;
    }
    struct output_frame frame = {.stream = RUN_STDOUT};
    size_t got;
    enum err err = read_or_wait(op, run, reader, streams, data, size, &got, &frame);
    if (!err) {
        *ret_read = got;
        *ret_stream = frame.stream;
        *ret_time_ns = frame.time_ns;
    }
    return err;
}

enum err run_output_wait(struct op *op, struct run *run, struct run_reader *reader,
                         unsigned streams) {
    struct output_frame frame;
    size_t got;
    return read_or_wait(op, run, reader, streams, NULL, 0, &got, &frame);
}

enum err run_output_poll(struct op *op, struct run *run, const struct run_reader *reader,
                         unsigned streams, unsigned *ret_ready) {
    struct run_reader place = *reader;
    place.binding = false;
    enum err err = run_output_wait(op, run, &place, streams);
    if (err == ERR_AGAIN) {
        *ret_ready = 0;
        return ERR_OK;
    }
    if (!err) {
        pthread_mutex_lock(&run->lock);
        bool has_more = output_seek(&run->output, &place, streams);
        pthread_mutex_unlock(&run->lock);
        *ret_ready = POLL_READABLE | (has_more ? 0u : POLL_HANGUP);
    }
    return err;
}

bool run_answered(struct run *run, const struct run_reader *reader, struct buf *line) {
    struct run_reader place = *reader;
    pthread_mutex_lock(&run->lock);
    bool has_more = output_seek(&run->output, &place, RUN_STDOUT);
    if (!has_more && !run->output_ended && run->too_long.length == 0) {
        run->too_long = *line;
        *line = (struct buf){0};
    }
    pthread_mutex_unlock(&run->lock);
    return has_more;
}

/* With the lock. */
static bool is_full(const struct run *run) {
    return run->is_web && !run->has_reader &&
           output_charged(&run->output) >= run->limits.output_bytes;
}

void run_bind_reader(struct run *run, struct run_reader *reader) {
    reader->binding = true;
    pthread_mutex_lock(&run->lock);
    bool was_full = is_full(run);
    run->has_reader = true;
    run->reader_offset = reader->offset;
    pthread_mutex_unlock(&run->lock);
    if (was_full) {
        op_queue_wake_all(&run->changed);
    }
}

bool run_output_is_full(struct run *run) {
    pthread_mutex_lock(&run->lock);
    bool result = is_full(run);
    pthread_mutex_unlock(&run->lock);
    return result;
}
