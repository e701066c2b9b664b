/** make_files.h - the malformed files that people meet, made on purpose: a small sound .h5ad and one way to break it
 * each. */
#ifndef MAKE_FILES_H
#define MAKE_FILES_H
#include <stddef.h>

/** What a reader should try on a made file. */
typedef enum make_read { READ_OPEN, READ_X, READ_PCA, READ_TYPE, READ_SCORE, READ_NAMES } make_read;

typedef struct make_case {
    const char *name; /* the file is DIR/<name>.h5ad */
    const char *how;  /* how it is broken, in a few words */
    make_read read;   /* what meets the fault (opening may meet it earlier) */
    const char *path; /* the HDF5 path that the message has to name; "" when the file itself is meant */
    const char *says; /* a word of the message, "" for any */
    int sound;        /* 1: legal although odd: has to be read, with the value of row 0 below */
    double first;     /* X[0, 0] or X_pca[0, 0] as read, for sound files */
    void (*make)(const char *file);
} make_case;

extern const make_case make_cases[];
extern const int make_case_count;

/** Writes DIR/<name>.h5ad for case i; the path goes into `path` (room bytes). */
void make_file(char *path, size_t room, const char *dir, int i);
#endif
