/* figure_json.c - just enough JSON: finding members of a well-formed record without building a tree. */
#include "figure_json.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *figure_json_space(const char *c)
{
    while (*c == ' ' || *c == '\n' || *c == '\r' || *c == '\t') c++;
    return c;
}

/* Past the value that begins at c, at most at the closing NUL. */
const char *figure_json_past(const char *c)
{
    int depth = 0;
    c = figure_json_space(c);
    do {
        if (*c == '"') {
            for (c++; *c && *c != '"'; c++)
                if (*c == '\\' && c[1]) c++;
            if (*c) c++;
        } else if (*c == '{' || *c == '[') {
            depth++;
            c++;
        } else if (*c == '}' || *c == ']') {
            depth--;
            c++;
        } else if (depth == 0) {
            while (*c && !strchr(",]} \n\r\t", *c)) c++;
        } else if (*c) {
            c++;
        }
    } while (*c && depth > 0);
    return c;
}

/* The value of a member of the object at c, NULL if it has none. */
const char *figure_json_member(const char *c, const char *key)
{
    const size_t length = strlen(key);
    c = figure_json_space(c);
    if (*c != '{') return NULL;
    for (c = figure_json_space(c + 1); *c == '"'; c = figure_json_space(c)) {
        const char *name = c + 1;
        c = figure_json_space(figure_json_past(c));
        if (*c != ':') return NULL;
        const char *value = figure_json_space(c + 1);
        if (strncmp(name, key, length) == 0 && name[length] == '"') return value;
        c = figure_json_space(figure_json_past(value));
        if (*c == ',') c++;
    }
    return NULL;
}

double figure_json_number(const char *object, const char *key)
{
    const char *value = figure_json_member(object, key);
    char *end = NULL;
    if (!value) return NAN;
    const double out = strtod(value, &end);
    return end == value ? NAN : out;
}

const char *figure_json_text(char *out, size_t room, const char *object, const char *key)
{
    const char *value = figure_json_member(object, key);
    size_t used = 0;
    if (value && *value == '"')
        for (value++; *value && *value != '"' && used + 1 < room; value++) {
            if (*value == '\\' && value[1]) value++;
            out[used++] = *value;
        }
    out[used] = 0;
    return out;
}

ferry_status figure_json_record(char **out, const char *path)
{
    char head[8] = {0};
    FILE *file = fopen(path, "rb");
    if (file) {
        if (fread(head, 1, sizeof head, file) < sizeof head) head[0] = 0;
        (void)fclose(file);
    }
    if (memcmp(head, "\211HDF\r\n\032\n", 8) != 0) return figure_file_read(out, path);
    ferry_stored *stored = NULL;
    FERRY_TRY(ferry_stored_open(&stored, path));
    const ferry_status status = ferry_stored_text(out, stored, "uns/cellferry/record");
    ferry_stored_close(&stored);
    return status;
}
