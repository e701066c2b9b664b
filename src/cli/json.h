/** json.h - writing JSON into one growing text. */
#ifndef CLI_JSON_H
#define CLI_JSON_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start from {0}. After a failed allocation every call does nothing and `failed` says so. */
typedef struct json {
    char *text; /* NUL-terminated once something was written; free with json_close */
    size_t length, room;
    bool failed;
} json;

/* Local. Characters as they are: for other texts (CSV) that grow the same way. */
void text_put(json *out, const char *text, size_t length);

/* All Local. key NULL: an element of an array, or the top. */
void json_begin(json *out, const char *key, char bracket);     /* '{' or '[' */
void json_end(json *out, char bracket);                        /* '}' or ']' */
void json_text(json *out, const char *key, const char *value); /* value NULL: null */
void json_number(json *out, const char *key, double value);    /* not finite: null */
void json_count(json *out, const char *key, int64_t value);
void json_bool(json *out, const char *key, bool value);
/* Members or elements that another json holds, joined in with a comma where one is needed. */
void json_join(json *out, const json *part);
void json_close(json *out);
#endif
