#include "engine/lines.h"

#include "engine/wasm_reader.h"

enum {
    ROWS_MAX = 4 << 20,
    FILES_MAX = 100000,
    FILES_PER_UNIT_MAX = 50000,
    NAMES_BYTES_MAX = 16 << 20,
    ROW_BYTES = 12, /* module offset, file, line: little-endian u32 */
    FOOTER_MAGIC = 0x314c7a30,
};

struct row {
    uint32_t offset, file, line;
};

/* One of a unit's files. It gets a number among all when a row first uses it: most are headers
 * that no row uses. */
struct unit_file {
    struct str directory, name;
    uint32_t number; /* from 1; 0 = not used yet */
};

/* What is being made. Line 0 ends a sequence: no source is known from there on. */
struct maker {
    struct str line_strings, strings; /* .debug_line_str, .debug_str */
    uint64_t code_offset, code_end;   /* of the code section's content in the module */
    struct row *rows;
    size_t row_count, row_capacity;
    struct buf names;
    struct buf ends; /* u32: where each name ends */
    uint32_t file_count;
    struct unit_file *unit_files; /* of the unit that is being read */
    size_t unit_file_count, unit_file_capacity;
    bool out_of_memory;
};

/* --- reading .debug_line --- */

static struct str text_at(struct str section, uint64_t offset) {
    if (offset >= section.length) {
        return STR("");
    }
    struct wasm_reader reader =
        wasm_reader_of((struct str){section.data + offset, section.length - (size_t)offset});
    return wasm_text(&reader);
}

/* A value of version 5's entry formats. */
static struct str read_form(struct maker *maker, struct wasm_reader *reader, uint64_t form,
                            unsigned offset_bytes, uint64_t *ret_number) {
    *ret_number = 0;
    switch (form) {
    case 0x08: /* string */
        return wasm_text(reader);
    case 0x1f: /* line_strp */
        return text_at(maker->line_strings, wasm_fixed(reader, offset_bytes));
    case 0x0e: /* strp */
        return text_at(maker->strings, wasm_fixed(reader, offset_bytes));
    case 0x0b: /* data1 */
        *ret_number = wasm_fixed(reader, 1);
        break;
    case 0x05: /* data2 */
        *ret_number = wasm_fixed(reader, 2);
        break;
    case 0x06: /* data4 */
        *ret_number = wasm_fixed(reader, 4);
        break;
    case 0x07: /* data8 */
        *ret_number = wasm_fixed(reader, 8);
        break;
    case 0x0f: /* udata */
        *ret_number = wasm_unsigned(reader, 64);
        break;
    case 0x1e: /* data16, an MD5 */
        wasm_bytes(reader, 16);
        break;
    case 0x09: /* block */
        wasm_bytes(reader, wasm_unsigned(reader, 64));
        break;
    default:
        wasm_fail(reader);
    }
    return STR("");
}

struct unit {
    struct wasm_reader reader;
    unsigned offset_bytes;
    unsigned version;
    unsigned minimum_instruction;
    int line_base;
    unsigned line_range;
    unsigned opcode_base;
    const uint8_t *opcode_lengths;
    struct str directories[256];
    uint32_t directory_count;
};

static void add_file(struct maker *maker, struct unit *unit, struct str name, uint64_t directory) {
    if (maker->unit_file_count == maker->unit_file_capacity) {
        size_t capacity = MAX(maker->unit_file_capacity * 2, (size_t)64);
        struct unit_file *files = maker->unit_file_count < FILES_PER_UNIT_MAX
                                      ? realloc(maker->unit_files, capacity * sizeof(*files))
                                      : NULL;
        if (!files) {
            maker->out_of_memory = maker->unit_file_count < FILES_PER_UNIT_MAX;
            wasm_fail(&unit->reader);
            return;
        }
        maker->unit_files = files;
        maker->unit_file_capacity = capacity;
    }
    struct unit_file file = {.name = name};
    /* Directory 0 is where the compiler ran: of no interest to the reader. */
    if (directory > 0 && directory < unit->directory_count &&
        !(name.length > 0 && name.data[0] == '/')) {
        file.directory = unit->directories[directory];
    }
    maker->unit_files[maker->unit_file_count++] = file;
}

/* The number of a unit's file among all, from 1; 0 if there is no room for more. */
static uint32_t number_of(struct maker *maker, struct unit_file *file) {
    if (file->number != 0) {
        return file->number;
    }
    if (maker->file_count >= FILES_MAX || maker->names.length >= NAMES_BYTES_MAX) {
        return 0;
    }
    enum err err = ERR_OK;
    if (file->directory.length > 0 && file->directory.length < 1024) {
        err = buf_append_str(&maker->names, file->directory);
        err = err ? err : buf_append_byte(&maker->names, '/');
    }
    err = err ? err : buf_append(&maker->names, file->name.data, MIN(file->name.length, 1024u));
    uint32_t end = (uint32_t)maker->names.length;
    err = err ? err : buf_append(&maker->ends, &end, sizeof(end));
    if (err) {
        maker->out_of_memory = true;
        return 0;
    }
    file->number = ++maker->file_count;
    return file->number;
}

static void add_directory(struct unit *unit, struct str name) {
    /* Files in directories beyond these keep their names only. */
    if (unit->directory_count < ARRAY_LENGTH(unit->directories)) {
        unit->directories[unit->directory_count++] = name;
    }
}

/* Versions 2 to 4. */
static void read_old_tables(struct maker *maker, struct unit *unit) {
    struct wasm_reader *reader = &unit->reader;
    add_directory(unit, STR(""));
    while (!reader->failed) {
        struct str name = wasm_text(reader);
        if (name.length == 0) {
            break;
        }
        add_directory(unit, name);
    }
    while (!reader->failed) {
        struct str name = wasm_text(reader);
        if (name.length == 0) {
            break;
        }
        uint64_t directory = wasm_unsigned(reader, 64);
        wasm_unsigned(reader, 64); /* time */
        wasm_unsigned(reader, 64); /* length */
        add_file(maker, unit, name, directory);
    }
}

/* Version 5: the tables describe themselves. */
static void read_table(struct maker *maker, struct unit *unit, bool files) {
    struct wasm_reader *reader = &unit->reader;
    uint64_t formats[2 * 16];
    unsigned format_count = wasm_byte(reader);
    if (format_count > 16) {
        wasm_fail(reader);
        return;
    }
    for (unsigned i = 0; i < 2 * format_count; i++) {
        formats[i] = wasm_unsigned(reader, 64);
    }
    uint64_t count = wasm_unsigned(reader, 64);
    if (format_count == 0) {
        return; /* an entry without content takes no bytes: no loop over a count of them */
    }
    for (uint64_t entry = 0; entry < count && !reader->failed; entry++) {
        struct str name = STR("");
        uint64_t directory = 0;
        for (unsigned i = 0; i < format_count; i++) {
            uint64_t number;
            struct str text =
                read_form(maker, reader, formats[2 * i + 1], unit->offset_bytes, &number);
            if (formats[2 * i] == 1) { /* DW_LNCT_path */
                name = text;
            } else if (formats[2 * i] == 2) { /* DW_LNCT_directory_index */
                directory = number;
            }
        }
        if (reader->failed) {
            break;
        }
        if (files) {
            add_file(maker, unit, name, directory);
        } else {
            add_directory(unit, name);
        }
    }
}

static void add_row(struct maker *maker, struct unit *unit, uint64_t address, uint64_t file,
                    uint64_t line) {
    uint64_t offset;
    /* Functions that the linker dropped keep rows at address 0 or at the end of all addresses. */
    if (__builtin_add_overflow(maker->code_offset, address, &offset) || address == 0 ||
        offset > maker->code_end) {
        return;
    }
    if (unit->version < 5) {
        file--; /* counted from 1 */
    }
    uint32_t number = 0;
    if (line != 0 && line <= UINT32_MAX && file < maker->unit_file_count) {
        number = number_of(maker, &maker->unit_files[file]);
    }
    if (maker->row_count == maker->row_capacity) {
        size_t capacity = MAX(maker->row_capacity * 2, (size_t)1024);
        struct row *rows =
            maker->row_count < ROWS_MAX ? realloc(maker->rows, capacity * sizeof(*rows)) : NULL;
        if (!rows) {
            maker->out_of_memory = maker->row_count < ROWS_MAX;
            wasm_fail(&unit->reader);
            return;
        }
        maker->rows = rows;
        maker->row_capacity = capacity;
    }
    maker->rows[maker->row_count++] = (struct row){
        .offset = (uint32_t)offset,
        .file = number ? number - 1 : 0,
        .line = number ? (uint32_t)line : 0,
    };
}

/* The line number program (6.2.5). */
static void run_program(struct maker *maker, struct unit *unit) {
    struct wasm_reader *reader = &unit->reader;
    uint64_t address = 0, file = 1, line = 1;
    while (wasm_left(reader) > 0 && !reader->failed) {
        uint8_t opcode = wasm_byte(reader);
        if (opcode >= unit->opcode_base) {
            unsigned adjusted = opcode - unit->opcode_base;
            address += (uint64_t)(adjusted / unit->line_range) * unit->minimum_instruction;
            line += (uint64_t)(int64_t)(unit->line_base + (int)(adjusted % unit->line_range));
            add_row(maker, unit, address, file, line);
            continue;
        }
        switch (opcode) {
        case 0: { /* extended */
            struct wasm_reader extended =
                wasm_reader_of(wasm_bytes(reader, wasm_unsigned(reader, 64)));
            switch (wasm_byte(&extended)) {
            case 1: /* end_sequence */
                add_row(maker, unit, address, file, 0);
                address = 0;
                file = line = 1;
                break;
            case 2: /* set_address */
                address = wasm_fixed(&extended, (unsigned)MIN(wasm_left(&extended), (size_t)8));
                break;
            default:
                break;
            }
            break;
        }
        case 1: /* copy */
            add_row(maker, unit, address, file, line);
            break;
        case 2: /* advance_pc */
            address += wasm_unsigned(reader, 64) * unit->minimum_instruction;
            break;
        case 3: /* advance_line */
            line += (uint64_t)wasm_signed(reader);
            break;
        case 4: /* set_file */
            file = wasm_unsigned(reader, 64);
            break;
        case 8: /* const_add_pc */
            address += (uint64_t)((255 - unit->opcode_base) / unit->line_range) *
                       unit->minimum_instruction;
            break;
        case 9: /* fixed_advance_pc */
            address += wasm_fixed(reader, 2);
            break;
        default: /* its arguments are all LEB128 */
            for (unsigned i = 0; i < unit->opcode_lengths[opcode - 1]; i++) {
                wasm_unsigned(reader, 64);
            }
        }
    }
}

static void read_unit(struct maker *maker, struct str bytes, unsigned offset_bytes) {
    struct unit unit = {.reader = wasm_reader_of(bytes), .offset_bytes = offset_bytes};
    maker->unit_file_count = 0;
    struct wasm_reader *reader = &unit.reader;
    unit.version = (unsigned)wasm_fixed(reader, 2);
    if (unit.version < 2 || unit.version > 5) {
        return;
    }
    if (unit.version >= 5) {
        wasm_fixed(reader, 2); /* sizes of address and segment selector */
    }
    uint64_t header_length = wasm_fixed(reader, offset_bytes);
    if (reader->failed || header_length > wasm_left(reader)) {
        return;
    }
    const uint8_t *program = reader->position + header_length;
    unit.minimum_instruction = wasm_byte(reader);
    if (unit.version >= 4) {
        wasm_byte(reader); /* maximum operations per instruction */
    }
    wasm_byte(reader); /* default_is_stmt */
    unit.line_base = (int8_t)wasm_byte(reader);
    unit.line_range = wasm_byte(reader);
    unit.opcode_base = wasm_byte(reader);
    if (unit.line_range == 0 || unit.opcode_base == 0) {
        return;
    }
    unit.opcode_lengths = (const uint8_t *)wasm_bytes(reader, unit.opcode_base - 1).data;
    if (unit.version >= 5) {
        read_table(maker, &unit, false);
        read_table(maker, &unit, true);
    } else {
        read_old_tables(maker, &unit);
    }
    if (reader->failed) {
        return;
    }
    reader->position = program;
    run_program(maker, &unit);
}

static void read_units(struct maker *maker, struct str section) {
    struct wasm_reader reader = wasm_reader_of(section);
    while (wasm_left(&reader) > 0 && !reader.failed && !maker->out_of_memory) {
        unsigned offset_bytes = 4;
        uint64_t length = wasm_fixed(&reader, 4);
        if (length == 0xffffffff) {
            offset_bytes = 8;
            length = wasm_fixed(&reader, 8);
        }
        struct str unit = wasm_bytes(&reader, length);
        if (!reader.failed) {
            read_unit(maker, unit, offset_bytes);
        }
    }
}

/* --- writing the table --- */

static int compare_rows(const void *a, const void *b) {
    const struct row *left = a, *right = b;
    if (left->offset != right->offset) {
        return left->offset < right->offset ? -1 : 1;
    }
    /* Where one sequence ends and the next begins, the beginning counts: it comes last. */
    return (left->line != 0) - (right->line != 0);
}

static enum err append_u32(struct buf *buf, uint32_t value) {
    uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                        (uint8_t)(value >> 24)};
    return buf_append(buf, bytes, sizeof(bytes));
}

static enum err write_table(struct maker *maker, struct buf *table) {
    uint64_t wanted = (uint64_t)maker->row_count * ROW_BYTES + maker->ends.length + 4 +
                      maker->names.length + LINES_FOOTER_BYTES;
    enum err err = buf_reserve(table, (size_t)wanted);
    if (err) {
        return err;
    }
    for (size_t i = 0; i < maker->row_count && !err; i++) {
        err = append_u32(table, maker->rows[i].offset);
        err = err ? err : append_u32(table, maker->rows[i].file);
        err = err ? err : append_u32(table, maker->rows[i].line);
    }
    err = err ? err : append_u32(table, 0); /* where the first name begins */
    for (uint32_t i = 0; i < maker->file_count && !err; i++) {
        uint32_t end;
        memcpy(&end, maker->ends.data + i * sizeof(end), sizeof(end));
        err = append_u32(table, end);
    }
    err = err ? err : buf_append_str(table, buf_str(&maker->names));
    const uint32_t footer[] = {(uint32_t)maker->row_count,    maker->file_count,
                               (uint32_t)maker->names.length, (uint32_t)wanted,
                               (uint32_t)(wanted >> 32),      FOOTER_MAGIC};
    for (size_t i = 0; i < ARRAY_LENGTH(footer) && !err; i++) {
        err = append_u32(table, footer[i]);
    }
    return err;
}

enum err lines_make(struct str module, struct buf *table) {
    struct maker maker = {0};
    struct str lines = {0};
    struct wasm_reader reader = wasm_reader_of(module);
    wasm_bytes(&reader, 8);
    while (wasm_left(&reader) > 0 && !reader.failed) {
        uint8_t id = wasm_byte(&reader);
        struct str content = wasm_vector(&reader);
        if (id == 10) {
            maker.code_offset = (uint64_t)(content.data - module.data);
            maker.code_end = maker.code_offset + content.length;
        } else if (id == 0) {
            struct wasm_reader custom = wasm_reader_of(content);
            struct str name = wasm_vector(&custom);
            struct str data = {(const char *)custom.position, wasm_left(&custom)};
            if (str_equal_text(name, ".debug_line")) {
                lines = data;
            } else if (str_equal_text(name, ".debug_line_str")) {
                maker.line_strings = data;
            } else if (str_equal_text(name, ".debug_str")) {
                maker.strings = data;
            }
        }
    }
    if (maker.code_offset == 0 || maker.code_end > UINT32_MAX || lines.length == 0) {
        return ERR_OK;
    }
    read_units(&maker, lines);
    enum err err = maker.out_of_memory ? ERR_NOMEM : ERR_OK;
    if (!err && maker.row_count > 0 && maker.names.length <= UINT32_MAX) {
        qsort(maker.rows, maker.row_count, sizeof(*maker.rows), compare_rows);
        err = write_table(&maker, table);
    }
    free(maker.rows);
    free(maker.unit_files);
    buf_done(&maker.names);
    buf_done(&maker.ends);
    return err;
}

/* --- using it --- */

static uint32_t u32_at(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
           (uint32_t)bytes[3] << 24;
}

uint64_t lines_length(const uint8_t footer[LINES_FOOTER_BYTES]) {
    if (u32_at(footer + 20) != FOOTER_MAGIC) {
        return 0;
    }
    return u32_at(footer + 12) | (uint64_t)u32_at(footer + 16) << 32;
}

enum err lines_open(const uint8_t *table, uint64_t length, struct lines *ret_lines) {
    if (length < LINES_FOOTER_BYTES) {
        return ERR_BADMSG;
    }
    const uint8_t *footer = table + length - LINES_FOOTER_BYTES;
    struct lines lines = {.row_count = u32_at(footer),
                          .file_count = u32_at(footer + 4),
                          .names_length = u32_at(footer + 8)};
    uint64_t rows_bytes = (uint64_t)lines.row_count * ROW_BYTES;
    uint64_t files_bytes = ((uint64_t)lines.file_count + 1) * 4;
    if (lines_length(footer) != length ||
        rows_bytes + files_bytes + lines.names_length + LINES_FOOTER_BYTES != length) {
        return ERR_BADMSG;
    }
    lines.rows = table;
    lines.files = table + rows_bytes;
    lines.names = (const char *)lines.files + files_bytes;
    *ret_lines = lines;
    return ERR_OK;
}

bool lines_find(const struct lines *lines, uint64_t module_offset, struct str *ret_file,
                uint32_t *ret_line) {
    /* The last row at or before the offset. */
    uint32_t low = 0, high = lines->row_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (u32_at(lines->rows + (size_t)middle * ROW_BYTES) <= module_offset) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) {
        return false;
    }
    const uint8_t *row = lines->rows + (size_t)(low - 1) * ROW_BYTES;
    uint32_t file = u32_at(row + 4), line = u32_at(row + 8);
    if (line == 0 || file >= lines->file_count) {
        return false;
    }
    uint32_t begin = u32_at(lines->files + (size_t)file * 4);
    uint32_t end = u32_at(lines->files + (size_t)file * 4 + 4);
    if (begin > end || end > lines->names_length) {
        return false;
    }
    *ret_file = (struct str){lines->names + begin, end - begin};
    *ret_line = line;
    return true;
}
