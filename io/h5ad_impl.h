/* h5ad_impl.h - the parts of a .h5ad file as the reader sees them. All Local.
 *
 *  part    one HDF5 file of a data set        frame   obs, var, raw/var, a data frame in obsm: group or compound
 *  column  a column of a frame, or any list   disk    a matrix on disk: dense, CSR, CSC, data frame, compound field */
#ifndef FERRY_H5AD_IMPL_H
#define FERRY_H5AD_IMPL_H
#include "h5ad.h"
#include "hdf5_impl.h"

#define FERRY_MAX_CATEGORIES 1000000

typedef struct ferry_part {
    char *path;
    hid_t id;             /* -1: closed just now */
    int64_t first;        /* row of the data set that is this file's row 0 */
    int64_t cells, genes; /* genes of var */
    int64_t used;         /* last use, to close the longest unused when many are open */
} ferry_part;

/* *out = part k, open. */
ferry_status ferry_file_part(ferry_part **out, ferry_file *file, int k);
/* rows[*begin .. *end) are the rows that lie in part k. */
void ferry_file_rows_of(int64_t *begin, int64_t *end, const ferry_file *file, int k, const int64_t *rows,
                        int64_t count);
/* Rows ascending and inside the file? FERRY_E_ARG otherwise. */
ferry_status ferry_file_check_rows(const ferry_file *file, const int64_t *rows, int64_t count);
/* The next rows to read in one go: those of rows[k ..) that lie in [rows[k], rows[k] + limit) and near each other (no
 * whole stretch of `near` rows between two of them). Returns how many; *span = last - first + 1. */
int64_t ferry_next_run(int64_t *span, const int64_t *rows, int64_t k, int64_t count, int64_t near, int64_t limit);

typedef struct ferry_frame {
    const ferry_part *part;
    char *path; /* "obs", "raw/var", "raw.var", "obsm/df" */
    hid_t id;   /* group, or dataset of compounds */
    hid_t type; /* of a compound, -1 for a group */
    int64_t rows;
    char *index;         /* name of the index column */
    ferry_names columns; /* in order, without the index */
} ferry_frame;
ferry_status ferry_frame_open(ferry_frame *out, const ferry_part *part, const char *path);
void ferry_frame_close(ferry_frame *frame);
/* Every column of column-order is there. */
ferry_status ferry_frame_check(const ferry_frame *frame);
bool ferry_frame_has(const ferry_frame *frame, const char *column);
#define FERRY_AUTO_FRAME __attribute__((cleanup(ferry_frame_close))) ferry_frame

/* The categories of a column, read when they are first needed. */
typedef struct ferry_categories {
    bool read;
    ferry_names names;
    double *number; /* NULL: they are no numbers */
} ferry_categories;

typedef enum ferry_kind { FERRY_KIND_INTEGER, FERRY_KIND_FLOAT, FERRY_KIND_BOOLEAN, FERRY_KIND_TEXT } ferry_kind;
typedef struct ferry_column {
    const ferry_part *part;
    char *path;              /* "obs/cell_type", for messages */
    char *values;            /* path of the dataset: of codes, values or the compound */
    char *member;            /* field of a compound, else NULL */
    char *categories;        /* path of the categories of a categorical, else NULL */
    ferry_kind kind;         /* of the values; codes are integers */
    ferry_categories *known; /* of a categorical */
    bool ordered;
    hid_t data, mask; /* mask -1: no value is missing */
    hid_t type;       /* of one value in the file */
    int64_t rows;
} ferry_column;
/* Column `name` of the frame (its index too). FERRY_E_FILE when absent, naming the nearest and what there is. */
ferry_status ferry_column_open(ferry_column *out, const ferry_frame *frame, const char *name);
/* Any list in the file: array, nullable or categorical group. */
ferry_status ferry_column_open_path(ferry_column *out, const ferry_part *part, const char *path);
void ferry_column_close(ferry_column *column);
#define FERRY_AUTO_COLUMN __attribute__((cleanup(ferry_column_close))) ferry_column

/* Values [first, first + count).
 * numbers: missing is NaN, FERRY_E_FILE for texts; a categorical column gives the numbers of its categories.
 * integers: of integer and boolean columns (not categorical); missing [count] may be NULL.
 * texts: appended to out, of every kind: integers in digits, floats as Python prints them, "False" and "True", the
 * categories of a categorical ("nan" without). */
ferry_status ferry_column_numbers(double *out, const ferry_column *column, int64_t first, int64_t count);
ferry_status ferry_column_integers(int64_t *out, uint8_t *missing, const ferry_column *column, int64_t first,
                                   int64_t count);
ferry_status ferry_column_texts(ferry_names *out, uint8_t *missing, const ferry_column *column, int64_t first,
                                int64_t count);
/* Codes, each -1 or below categories; anything else is FERRY_E_FILE. */
ferry_status ferry_column_codes(int32_t *out, const ferry_column *column, int64_t categories, int64_t first,
                                int64_t count);
/* The categories as text, and (numbers not NULL) their values, *numbers = NULL where they are not numbers; free it. */
ferry_status ferry_column_categories(ferry_names *out, double **numbers, const ferry_column *column);
/* The rows of a column to read in one go, near for ferry_next_run. */
int64_t ferry_column_near(const ferry_column *column);
/* Python's repr of a float: "10.0", "0.1", "1e-05". */
const char *ferry_float_text(char text[32], double value, bool single);

typedef enum ferry_layout {
    FERRY_DENSE,
    FERRY_CSR,
    FERRY_CSC,
    FERRY_TABLE, /* data frame of numbers */
    FERRY_FIELD  /* field of a compound obsm */
} ferry_layout;
typedef struct ferry_disk {
    const ferry_part *part;
    char *path; /* "obsm/X_pca", for messages */
    ferry_layout layout;
    int64_t rows, columns;
    int64_t nonzeros;            /* -1 unless sparse */
    bool flat;                   /* dense, stored as one dimension */
    hid_t data, indices, indptr; /* dense and field: data alone */
    hid_t type;                  /* of one number in the file */
    char *member;
    ferry_frame frame;
} ferry_disk;
/* The matrix at `path` ("X", "raw/X", "layers/a", "obsm/X_pca") with the paths that old files use for it; opened for
 * reading the first `columns` columns (0: all). Shapes and the ends of indptr are checked. */
ferry_status ferry_disk_open(ferry_disk *out, const ferry_part *part, const char *path, int64_t columns);
void ferry_disk_close(ferry_disk *disk);
#define FERRY_AUTO_DISK __attribute__((cleanup(ferry_disk_close))) ferry_disk
bool ferry_disk_exists(const ferry_part *part, const char *path);
/* Rows `rows` - first of the file into out [count, columns] of that precision (float or double, zeroed). */
ferry_status ferry_disk_read(void *out, ferry_precision precision, ferry_disk *disk, int64_t columns,
                             const int64_t *rows, int64_t count, int64_t first);
ferry_status ferry_dense_read(void *out, ferry_precision precision, const ferry_disk *disk, int64_t columns,
                              const int64_t *rows, int64_t count, int64_t first);
ferry_status ferry_sparse_read(void *out, ferry_precision precision, const ferry_disk *disk, int64_t columns,
                               const int64_t *rows, int64_t count, int64_t first);
/* The checks of a sparse group that need no pass over its data. */
ferry_status ferry_sparse_check(const ferry_disk *disk);

struct ferry_file {
    char *path;
    int parts;
    ferry_part *part;
    int64_t cells, genes, uses;
    int genes_agree[2]; /* X, raw: 0 not compared yet, 1 the parts have the same genes in the same order */
    bool has_pca;
    char *measured; /* the representation whose parts were last found to agree, of measured_dim columns */
    int64_t measured_dim;
    ferry_disk kept; /* the matrix last read, open for kept_columns, so that the next batch finds its chunks unpacked */
    int kept_part;
    int64_t kept_columns;
};

/* "X", "layers/a", "raw/X", "obsm/X_pca" for what a user calls a representation; free it. */
ferry_status ferry_rep_path(char **out, const char *rep);
/* Names of the members of a group or compound, in the file's order of names. */
ferry_status ferry_members(ferry_names *out, const ferry_part *part, const char *path);
/* Path text of its own: "a/b" from parts a and b (b may be NULL). */
ferry_status ferry_path_join(char **out, const char *a, const char *b);
#endif
