/* Recognising what is no WASI program, to say how to make one of it. */
#include "engine/inspect.h"

/* --- not a module at all --- */

struct signature {
    const char *bytes;
    size_t length;
    const char *sentence;
};
#define SIGNATURE(bytes, sentence)                                                                 \
    { bytes, sizeof(bytes) - 1, sentence }

#define SEND_BINARY "send the file itself: curl --data-binary @file.wasm"
#define UNPACK "unpack it and send the .wasm file inside"
#define NATIVE                                                                                     \
    "compile for WebAssembly instead, for example: clang --target=wasm32-wasi, "                   \
    "GOOS=wasip1 GOARCH=wasm go build, cargo build --target wasm32-wasip1"

static const struct signature signatures[] = {
    SIGNATURE("\x7f"
              "ELF",
              "this is a program for Linux (ELF), not WebAssembly; " NATIVE),
    SIGNATURE("MZ", "this is a program for Windows (PE), not WebAssembly; " NATIVE),
    SIGNATURE("\xfe\xed\xfa\xce", "this is a program for macOS (Mach-O), not WebAssembly; " NATIVE),
    SIGNATURE("\xfe\xed\xfa\xcf", "this is a program for macOS (Mach-O), not WebAssembly; " NATIVE),
    SIGNATURE("\xce\xfa\xed\xfe", "this is a program for macOS (Mach-O), not WebAssembly; " NATIVE),
    SIGNATURE("\xcf\xfa\xed\xfe", "this is a program for macOS (Mach-O), not WebAssembly; " NATIVE),
    SIGNATURE("\xca\xfe\xba\xbe", "this is a program for macOS or Java, not WebAssembly; " NATIVE),
    SIGNATURE("!<arch>", "this is a static library (.a); link it into a program and send that"),
    SIGNATURE("BC\xc0\xde", "this is LLVM bitcode; link it into a WebAssembly program and send "
                            "that"),
    SIGNATURE("\x1f\x8b", "this is compressed with gzip; " UNPACK),
    SIGNATURE("PK\x03\x04", "this is a zip archive; " UNPACK),
    SIGNATURE("\x28\xb5\x2f\xfd", "this is compressed with zstd; " UNPACK),
    SIGNATURE("\xfd"
              "7zXZ",
              "this is compressed with xz; " UNPACK),
    SIGNATURE("BZh", "this is compressed with bzip2; " UNPACK),
    /* curl -d leaves out NUL, CR and LF. */
    SIGNATURE("asm\x01", "the upload was changed on its way (curl -d does that); "
                         "use --data-binary @file.wasm"),
    SIGNATURE("--", "this looks like a form; " SEND_BINARY),
    SIGNATURE("\x89PNG", "this is a picture (PNG), not a WebAssembly module"),
    SIGNATURE("%PDF", "this is a PDF, not a WebAssembly module"),
    SIGNATURE("SQLite format 3", "this is an SQLite database, not a WebAssembly module"),
};

static bool begins_with_ignoring_case(struct str text, const char *beginning) {
    size_t length = strlen(beginning);
    return text.length >= length && strncasecmp(text.data, beginning, length) == 0;
}

/* After spaces, and comments of the text format (";; to the end of line", "(; inside ;)"). */
static struct str skip_blank(struct str text) {
    if (text.length >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0) {
        text.data += 3; /* a byte order mark */
        text.length -= 3;
    }
    while (text.length > 0) {
        size_t skip = 0;
        if (strchr(" \t\r\n", text.data[0]) && text.data[0]) {
            skip = 1;
        } else if (str_starts(text, STR(";;"))) {
            const char *newline = memchr(text.data, '\n', text.length);
            skip = newline ? (size_t)(newline - text.data) + 1 : text.length;
        } else if (str_starts(text, STR("(;"))) {
            const char *end = memmem(text.data, text.length, ";)", 2);
            skip = end ? (size_t)(end - text.data) + 2 : text.length;
        }
        if (skip == 0) {
            break;
        }
        text.data += skip;
        text.length -= skip;
    }
    return text;
}

bool inspect_is_text_module(struct str upload) {
    return str_starts(skip_blank(upload), STR("(module"));
}

/* A line of the beginning that starts like this. */
static bool has_line(struct str text, const char *beginning) {
    size_t length = strlen(beginning);
    struct str rest = {text.data, MIN(text.length, (size_t)4096)};
    while (rest.length > 0) {
        struct str line = str_cut(&rest, '\n');
        if (line.length >= length && memcmp(line.data, beginning, length) == 0) {
            return true;
        }
    }
    return false;
}

struct language {
    const char *name;
    const char *cure;
    const char *lines[6];
};
static const struct language languages[] = {
    {"C or C++",
     "compile it: clang --target=wasm32-wasi -O2 -o app.wasm app.c",
     {"#include", "int main(", NULL}},
    {"Go", "compile it: GOOS=wasip1 GOARCH=wasm go build -o app.wasm", {"package ", NULL}},
    {"Rust",
     "compile it: rustc --target wasm32-wasip1 -O app.rs",
     {"fn main(", "use std::", "pub fn ", NULL}},
    {"Python",
     "upload a Python interpreter built for WASI once and send this as its input",
     {"def ", "#!/usr/bin/env python", "#!/usr/bin/python", "print(", "from ", NULL}},
    {"JavaScript",
     "upload a JavaScript engine built for WASI (QuickJS) once and send this as its input",
     {"const ", "let ", "function ", "export ", "console.log", NULL}},
    {"Python or JavaScript",
     "upload an interpreter built for WASI once and send this as its input",
     {"import ", "class ", "async ", "var ", "//", NULL}},
    {"a shell script", "programs here are WebAssembly modules", {"#!", NULL}},
};

enum err inspect_refuse_foreign(struct str upload, struct buf *message) {
    if (upload.length == 0) {
        return buf_fail(message, ERR_NOEXEC, "the upload is empty; " SEND_BINARY);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(signatures); i++) {
        if (str_starts(upload, (struct str){signatures[i].bytes, signatures[i].length})) {
            return buf_fail(message, ERR_NOEXEC, "%s", signatures[i].sentence);
        }
    }
    if (upload.length < 8 && memcmp(upload.data, "\0asm", MIN(upload.length, (size_t)4)) == 0) {
        return buf_fail(message, ERR_NOEXEC,
                        "the upload ends after %zu bytes; a WebAssembly module is longer",
                        upload.length);
    }
    struct str text = skip_blank(upload);
    if (begins_with_ignoring_case(text, "<!doctype") || begins_with_ignoring_case(text, "<html")) {
        return buf_fail(message, ERR_NOEXEC,
                        "this is a web page (HTML), perhaps the error page of a download; "
                        "look into the file");
    }
    if (str_starts(text, STR("(component"))) {
        return buf_fail(message, ERR_NOEXEC,
                        "this is the text of a component (WASI 0.2); write a core module: (module");
    }
    if (str_starts(text, STR("{")) || str_starts(text, STR("["))) {
        return buf_fail(message, ERR_NOEXEC, "this looks like JSON; " SEND_BINARY);
    }
    if (str_starts(text, STR("@"))) {
        return buf_fail(message, ERR_NOEXEC, "this looks like a file's name; " SEND_BINARY);
    }
    for (size_t i = 0; i < ARRAY_LENGTH(languages); i++) {
        for (const char *const *line = languages[i].lines; *line; line++) {
            if (has_line(text, *line)) {
                return buf_fail(message, ERR_NOEXEC,
                                "this looks like source text (%s), not a WebAssembly module; %s",
                                languages[i].name, languages[i].cure);
            }
        }
    }
    return buf_fail(
        message, ERR_NOEXEC,
        "this is not a WebAssembly module: it does not begin with \\0asm; " SEND_BINARY);
}

/* --- modules for somebody else --- */

void inspect_note_import(struct inspect_imports *imports, struct str module, struct str name) {
    if (str_starts(module, STR("wbg")) || str_starts(module, STR("__wbindgen")) ||
        str_starts(name, STR("__wbg_")) || str_starts(name, STR("__wbindgen"))) {
        imports->wasm_bindgen = true;
    } else if (str_equal_text(module, "gojs") || str_equal_text(module, "go")) {
        imports->go_js = true;
    } else if (str_equal_text(module, "wasi") && str_equal_text(name, "thread-spawn")) {
        imports->threads = true;
    } else if (str_starts(module, STR("wasi:")) || str_equal_text(module, "cm32p2") ||
               str_starts(module, STR("cm32p2|"))) {
        imports->component = true;
    } else if ((str_equal_text(module, "env") &&
                (str_starts(name, STR("emscripten_")) || str_starts(name, STR("_emscripten_")) ||
                 str_starts(name, STR("__syscall_")) || str_starts(name, STR("invoke_")) ||
                 str_equal_text(name, "__cxa_throw") || str_starts(name, STR("_embind_")) ||
                 str_equal_text(name, "__assert_fail"))) ||
               (str_equal_text(module, "a") && name.length <= 2)) {
        imports->emscripten = true;
    }
}

enum err inspect_judge_imports(const struct inspect_imports *imports, struct buf *message) {
    if (imports->threads) {
        return buf_fail(message, ERR_NOEXEC,
                        "this was built for wasi-threads, and programs here have one thread; build "
                        "with --target wasm32-wasip1 (without -threads, without -pthread)");
    }
    if (imports->component) {
        return buf_fail(message, ERR_NOEXEC,
                        "this is the core of a WASI 0.2 component; build with --target "
                        "wasm32-wasip1");
    }
    if (imports->wasi > 0) {
        return ERR_OK; /* it may import more than it calls */
    }
    if (imports->wasm_bindgen) {
        return buf_fail(message, ERR_NOEXEC,
                        "this was made by wasm-bindgen and needs a browser or Node.js; build "
                        "without it: cargo build --target wasm32-wasip1");
    }
    if (imports->go_js) {
        return buf_fail(message, ERR_NOEXEC,
                        "this was built by Go for a browser (GOOS=js); build with GOOS=wasip1 "
                        "GOARCH=wasm");
    }
    if (imports->emscripten) {
        return buf_fail(message, ERR_NOEXEC,
                        "this was built by Emscripten for JavaScript; build with "
                        "emcc -sSTANDALONE_WASM, or with clang --target=wasm32-wasi");
    }
    return ERR_OK;
}
