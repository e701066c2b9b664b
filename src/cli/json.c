/* json.c - see json.h. Commas follow from the last character written. */
#include "json.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_put(json *out, const char *text, size_t length)
{
    if (out->failed) return;
    if (out->length + length + 1 > out->room) {
        size_t room = 2 * (out->length + length) + 256;
        char *grown = realloc(out->text, room);
        if (!grown) {
            out->failed = true;
            return;
        }
        out->text = grown;
        out->room = room;
    }
    memcpy(out->text + out->length, text, length);
    out->length += length;
    out->text[out->length] = 0;
}

static void comma(json *out)
{
    if (out->length == 0) return;
    char last = out->text[out->length - 1];
    if (last != '{' && last != '[' && last != ':') text_put(out, ",", 1);
}

static void quoted(json *out, const char *text)
{
    text_put(out, "\"", 1);
    for (const char *c = text; *c; c++) {
        char code[8];
        if (*c == '"' || *c == '\\') {
            code[0] = '\\';
            code[1] = *c;
            text_put(out, code, 2);
        } else if ((unsigned char)*c < 0x20) {
            text_put(out, code, (size_t)snprintf(code, sizeof code, "\\u%04x", (unsigned)(unsigned char)*c));
        } else {
            text_put(out, c, 1);
        }
    }
    text_put(out, "\"", 1);
}

static void start(json *out, const char *key)
{
    comma(out);
    if (!key) return;
    quoted(out, key);
    text_put(out, ":", 1);
}

void json_begin(json *out, const char *key, char bracket)
{
    start(out, key);
    text_put(out, &bracket, 1);
}

void json_end(json *out, char bracket)
{
    text_put(out, &bracket, 1);
}

void json_text(json *out, const char *key, const char *value)
{
    start(out, key);
    if (value)
        quoted(out, value);
    else
        text_put(out, "null", 4);
}

void json_number(json *out, const char *key, double value)
{
    char text[40] = "null";
    start(out, key);
    for (int digits = 9; isfinite(value) && digits <= 17; digits += 4) { /* the shortest of three that reads back */
        (void)snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    text_put(out, text, strlen(text));
}

void json_count(json *out, const char *key, int64_t value)
{
    char text[32];
    start(out, key);
    text_put(out, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
}

void json_bool(json *out, const char *key, bool value)
{
    start(out, key);
    text_put(out, value ? "true" : "false", value ? 4 : 5);
}

void json_join(json *out, const json *part)
{
    if (part->failed) out->failed = true;
    if (part->length == 0) return;
    comma(out);
    text_put(out, part->text, part->length);
}

void json_close(json *out)
{
    free(out->text);
    *out = (json){0};
}
