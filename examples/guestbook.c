/* A guestbook: a web page by CGI. GET shows it, POST adds an entry. Build it with
 *     clang --target=wasm32-wasi -O2 -o guestbook.wasm guestbook.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOOK "/guestbook.txt" /* in the app's volume: it stays */
#define ENTRY_MAX 1000

static void print_escaped(const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<':
            fputs("&lt;", stdout);
            break;
        case '&':
            fputs("&amp;", stdout);
            break;
        default:
            putchar(*text);
        }
    }
}

static int digit_of(char digit) {
    const char *digits = "0123456789abcdef";
    const char *found = digit ? strchr(digits, digit | 0x20) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* The form encoding of HTML: '+' is a space, %XX a byte. What is no text becomes a space. */
static void decode(char *text) {
    char *out = text;
    for (; *text; text++) {
        char byte = *text == '+' ? ' ' : *text;
        if (*text == '%' && digit_of(text[1]) >= 0 && digit_of(text[2]) >= 0) {
            byte = (char)(digit_of(text[1]) * 16 + digit_of(text[2]));
            text += 2;
        }
        *out++ = (unsigned char)byte < ' ' ? ' ' : byte;
    }
    *out = '\0';
}

static int add_entry(void) {
    char form[sizeof "entry=" + 3 * ENTRY_MAX];
    form[fread(form, 1, sizeof form - 1, stdin)] = '\0';
    char *entry = strncmp(form, "entry=", 6) == 0 ? form + 6 : form;
    decode(entry);
    FILE *book = fopen(BOOK, "a");
    if (!book || fprintf(book, "%s\n", entry) < 0 || fclose(book) != 0) {
        printf("Status: 507 Insufficient Storage\n\n");
        return 1;
    }
    printf("Status: 303 See Other\nLocation: %s/\n\n", getenv("SCRIPT_NAME"));
    return 0;
}

static int show_book(void) {
    printf("Content-Type: text/html; charset=utf-8\n\n"
           "<!doctype html><title>Guestbook</title><h1>Guestbook</h1>\n"
           "<form method=post><input name=entry maxlength=%d><button>Sign</button></form>\n<ul>\n",
           ENTRY_MAX);
    FILE *book = fopen(BOOK, "r");
    char line[4 * ENTRY_MAX];
    while (book && fgets(line, sizeof line, book)) {
        line[strcspn(line, "\n")] = '\0';
        fputs("<li>", stdout);
        print_escaped(line);
        putchar('\n');
    }
    puts("</ul>");
    return 0;
}

int main(void) {
    const char *method = getenv("REQUEST_METHOD");
    if (!method) {
        puts("This is a web page: 0asm open guestbook");
        return 0;
    }
    return strcmp(method, "POST") == 0 ? add_entry() : show_book();
}
