/* A to-do list that lives in memory: a program that is kept, and takes requests from /net/serve.
 * GET shows the list, POST adds an item, DELETE takes the first one away. Build it with clang
 * --target=wasm32-wasi -O2 -o todo.wasm todo.c */
#include <stdio.h>
#include <string.h>

#define ITEMS_MAX 100

static char items[ITEMS_MAX][200];
static int count;

/* The method, of which the program's answer depends; what follows the head is the body. */
static void read_head(FILE *request, char method[16]) {
    static char line[64 * 1024];
    method[0] = '\0';
    if (fgets(line, sizeof line, request)) {
        sscanf(line, "%15s", method);
    }
    while (fgets(line, sizeof line, request) && strcmp(line, "\r\n") != 0) {
    }
}

static void answer(FILE *request) {
    char method[16];
    read_head(request, method);
    if (strcmp(method, "POST") == 0 && count < ITEMS_MAX) {
        char *item = items[count++];
        size_t length = fread(item, 1, sizeof items[0] - 1, request);
        item[length] = '\0';
    } else if (strcmp(method, "DELETE") == 0 && count > 0) {
        memmove(items[0], items[1], sizeof items - sizeof items[0]);
        count--;
    } else if (strcmp(method, "GET") != 0) {
        fseek(request, 0, SEEK_CUR);
        fprintf(request, "Status: 409 Conflict\n\nthe list is full, or empty\n");
        return;
    }
    fseek(request, 0, SEEK_CUR); /* as C asks for between reading and writing */
    for (int i = 0; i < count; i++) {
        fprintf(request, "%d. %s\n", i + 1, items[i]);
    }
    fprintf(request, "%d to do\n", count);
}

int main(void) {
    for (;;) {
        FILE *request = fopen("/net/serve", "r+");
        if (!request) {
            perror("/net/serve");
            return 1;
        }
        answer(request);
        fclose(request);
    }
}
