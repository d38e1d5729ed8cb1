/* Runs a fuzzer's function over files that are there, without a fuzzing engine: the corpus and the
 * inputs that once crashed are replayed in every test run.
 *     NAME_replay DIRECTORY */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    return 0;
}

static int replay(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        return 1;
    }
    static uint8_t content[1 << 20];
    size_t size = fread(content, 1, sizeof content, file);
    fclose(file);
    /* Of exact size, so that the address sanitizer sees every byte that is read too far. */
    uint8_t *data = malloc(size ? size : 1);
    if (!data) {
        return 1;
    }
    for (size_t i = 0; i < size; i++) {
        data[i] = content[i];
    }
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    LLVMFuzzerInitialize(&argc, &argv);
    DIR *directory = opendir(argv[1]);
    if (!directory) {
        perror(argv[1]);
        return 1;
    }
    int count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory))) {
        char path[4096];
        if (entry->d_name[0] == '.') {
            continue;
        }
        if ((size_t)snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name) >= sizeof path ||
            replay(path)) {
            closedir(directory);
            return 1;
        }
        count++;
    }
    closedir(directory);
    printf("%d inputs replayed\n", count);
    return count > 0 ? 0 : 1;
}
