#include "names.h"
#include "names_impl.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

ferry_status ferry_names_add(ferry_names *names, const char *name, int64_t length)
{
    if (length < 0) length = (int64_t)strlen(name);
    if (names->count + 2 > names->room) {
        int64_t room = names->room ? 2 * names->room : 64;
        FERRY_TRY(ferry_grow(&names->start, names->start ? names->count + 1 : 0, room));
        names->room = room;
    }
    int64_t used = names->start[names->count];
    if (used + length + 1 > names->text_room) {
        int64_t room = names->text_room ? 2 * names->text_room : 1024;
        if (room < used + length + 1) room = used + length + 1;
        FERRY_TRY(ferry_grow(&names->text, used, room));
        names->text_room = room;
    }
    if (length) memcpy(names->text + used, name, (size_t)length);
    names->text[used + length] = 0;
    names->count++;
    names->start[names->count] = used + length + 1;
    return FERRY_OK;
}

int64_t ferry_names_find(const ferry_names *names, const char *name)
{
    for (int64_t i = 0; i < names->count; i++)
        if (!strcmp(ferry_name(names, i), name)) return i;
    return -1;
}

void ferry_names_close(ferry_names *names)
{
    free(names->start);
    free(names->text);
    *names = (ferry_names){0};
}

/* Levenshtein distance of texts of at most 64 bytes, letters compared without case; more than `most` comes back as
 * most + 1. */
static int edits(const char *a, size_t na, const char *b, size_t nb, int most)
{
    if (na > 64 || nb > 64 || (na > nb ? na - nb : nb - na) > (size_t)most) return most + 1;
    int row[65];
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            int change = diagonal + (tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]));
            int above = row[j];
            int best = change < above + 1 ? change : above + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
            diagonal = above;
        }
    }
    return row[nb] < most ? row[nb] : (row[nb] == most ? most : most + 1);
}

const char *ferry_names_nearest(const ferry_names *names, const char *name)
{
    size_t length = strlen(name);
    int best = (int)(length / 3 < 1 ? 1 : length / 3) + 1;
    const char *nearest = NULL;
    for (int64_t i = 0; i < names->count; i++) {
        const char *other = ferry_name(names, i);
        int distance = edits(name, length, other, strlen(other), best - 1);
        if (distance >= best) continue;
        best = distance;
        nearest = other;
        if (best == 0) break;
    }
    if (nearest || length < 3) return nearest;
    for (int64_t i = 0; i < names->count; i++) /* "pca" for "X_pca" */
        if (strstr(ferry_name(names, i), name)) return ferry_name(names, i);
    return NULL;
}

const char *ferry_names_list(char *text, size_t size, const ferry_names *names, int most)
{
    size_t used = 0;
    text[0] = 0;
    for (int64_t i = 0; i < names->count; i++) {
        if (i == most || used + 80 > size) {
            snprintf(text + used, size - used, " and %lld more", (long long)(names->count - i));
            break;
        }
        int n = snprintf(text + used, size - used, "%s%.60s", i ? ", " : "", ferry_name(names, i));
        used += n > 0 ? (size_t)n : 0;
    }
    if (!names->count) snprintf(text, size, "none");
    return text;
}

/* FNV-1a, then a mix, because the table takes the low bits. */
static uint64_t hash(const char *name, int64_t length)
{
    uint64_t h = 14695981039346656037U;
    for (int64_t i = 0; i < length; i++) h = (h ^ (unsigned char)name[i]) * 1099511628211U;
    h ^= h >> 32;
    return h * 0x9E3779B97F4A7C15U >> 8;
}

/* The slot that holds name, or the free one where it belongs. */
static int64_t slot_of(const ferry_name_index *index, const ferry_names *names, const char *name, int64_t length)
{
    int64_t s = (int64_t)(hash(name, length) & (uint64_t)(index->room - 1));
    while (index->slot[s]) {
        int64_t i = index->slot[s] - 1;
        if (ferry_name_length(names, i) == length && !memcmp(ferry_name(names, i), name, (size_t)length)) break;
        s = (s + 1) & (index->room - 1);
    }
    return s;
}

static ferry_status widen(ferry_name_index *index, const ferry_names *names)
{
    ferry_name_index wide = {.room = index->room ? 2 * index->room : 256};
    FERRY_TRY(ferry_alloc(&wide.slot, wide.room));
    for (int64_t i = 0; i < names->count; i++)
        wide.slot[slot_of(&wide, names, ferry_name(names, i), ferry_name_length(names, i))] = i + 1;
    free(index->slot);
    *index = wide;
    return FERRY_OK;
}

ferry_status ferry_name_index_add(int64_t *at, bool *fresh, ferry_name_index *index, ferry_names *names,
                                  const char *name, int64_t length)
{
    if (2 * (names->count + 1) > index->room) FERRY_TRY(widen(index, names));
    int64_t s = slot_of(index, names, name, length);
    bool absent = index->slot[s] == 0;
    if (absent) {
        FERRY_TRY(ferry_names_add(names, name, length));
        index->slot[s] = names->count;
    }
    *at = index->slot[s] - 1;
    if (fresh) *fresh = absent;
    return FERRY_OK;
}

int64_t ferry_name_index_find(const ferry_name_index *index, const ferry_names *names, const char *name, int64_t length)
{
    if (!index->room) return -1;
    return index->slot[slot_of(index, names, name, length)] - 1;
}

void ferry_name_index_close(ferry_name_index *index)
{
    free(index->slot);
    *index = (ferry_name_index){0};
}
