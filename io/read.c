/* Rows of representations, numbers and names, over the files of a data set. */
#include "read.h"
#include "h5ad_impl.h"
#include "names_impl.h"
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Everything that can be named as a representation. */
static ferry_status list_reps(ferry_names *out, const ferry_part *part)
{
    ferry_names layers = {0};
    ferry_status status = ferry_members(out, part, "obsm");
    if (status == FERRY_OK && ferry_disk_exists(part, "X")) status = ferry_names_add(out, "X", -1);
    if (status == FERRY_OK) status = ferry_members(&layers, part, "layers");
    for (int64_t i = 0; i < layers.count && status == FERRY_OK; i++) {
        char path[1100];
        snprintf(path, sizeof path, "layers/%.1000s", ferry_name(&layers, i));
        status = ferry_names_add(out, path, -1);
    }
    if (status == FERRY_OK && ferry_disk_exists(part, "raw/X")) status = ferry_names_add(out, "raw/X", -1);
    ferry_names_close(&layers);
    return status;
}

static ferry_status rep_absent(const ferry_part *part, const char *rep, const char *path)
{
    char list[500], near[120] = "";
    ferry_names names = {0};
    ferry_status status = list_reps(&names, part);
    if (status == FERRY_OK) {
        const char *nearest = ferry_names_nearest(&names, rep);
        if (nearest) snprintf(near, sizeof near, " did you mean '%.80s'?", nearest);
        status = ferry_fail(FERRY_E_FILE, "%s: %s: there is no representation '%s';%s there are: %s", part->path, path,
                            rep, near, ferry_names_list(list, sizeof list, &names, 10));
    }
    ferry_names_close(&names);
    return status;
}

/* Columns of the representation in one file. */
static ferry_status part_dim(int64_t *out, const ferry_part *part, const char *rep, const char *path)
{
    FERRY_AUTO_DISK disk = {0};
    if (!ferry_disk_exists(part, path)) return rep_absent(part, rep, path);
    FERRY_TRY(ferry_disk_open(&disk, part, path, 0));
    *out = disk.columns;
    if (disk.columns > INT_MAX)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has %lld columns, at most %d are taken", part->path, path,
                          (long long)disk.columns, INT_MAX);
    if (disk.columns == 0)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has no columns; name another representation", part->path, path);
    return FERRY_OK;
}

static const char *gene_frame(const ferry_part *part, const char *path)
{
    if (strcmp(path, "raw/X") != 0) return "var";
    return ferry_h5_link(part->id, "raw/var") ? "raw/var" : "raw.var";
}

/* Genes of part k have the names of part 0, in the same order? Both are open. */
static ferry_status compare_genes(const ferry_part *a, const ferry_part *b, const char *path)
{
    FERRY_AUTO_FRAME frame_a = {0};
    FERRY_AUTO_FRAME frame_b = {0};
    FERRY_AUTO_COLUMN genes_a = {0};
    FERRY_AUTO_COLUMN genes_b = {0};
    FERRY_TRY(ferry_frame_open(&frame_a, a, gene_frame(a, path)));
    FERRY_TRY(ferry_frame_open(&frame_b, b, gene_frame(b, path)));
    FERRY_TRY(ferry_column_open(&genes_a, &frame_a, frame_a.index));
    FERRY_TRY(ferry_column_open(&genes_b, &frame_b, frame_b.index));
    int64_t n = genes_a.rows < genes_b.rows ? genes_a.rows : genes_b.rows;
    for (int64_t first = 0; first < n; first += 4096) {
        int64_t count = n - first < 4096 ? n - first : 4096;
        ferry_names x = {0}, y = {0};
        ferry_status status = ferry_column_texts(&x, NULL, &genes_a, first, count);
        if (status == FERRY_OK) status = ferry_column_texts(&y, NULL, &genes_b, first, count);
        for (int64_t i = 0; i < count && status == FERRY_OK; i++)
            if (strcmp(ferry_name(&x, i), ferry_name(&y, i)) != 0)
                status = ferry_fail(FERRY_E_FILE,
                                    "%s: %s: gene %lld is '%.60s', but '%.60s' in %s: the files of a list "
                                    "need the same genes in the same order; subset and order them alike",
                                    b->path, frame_b.path, (long long)(first + i), ferry_name(&y, i), ferry_name(&x, i),
                                    a->path);
        ferry_names_close(&x);
        ferry_names_close(&y);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

/* Columns of the representation, the same in every file. */
static ferry_status measure_rep(int64_t *out, ferry_file *file, const char *rep, const char *path)
{
    bool embedding = !strncmp(path, "obsm/", 5);
    int *agree = file->genes_agree + !strcmp(path, "raw/X");
    for (int k = 0; k < file->parts; k++) {
        ferry_part *part, *first;
        int64_t here = 0;
        FERRY_TRY(ferry_file_part(&first, file, 0));
        FERRY_TRY(ferry_file_part(&part, file, k));
        FERRY_TRY(part_dim(&here, part, rep, path));
        if (k && here != *out)
            return ferry_fail(
                FERRY_E_FILE, "%s: %s: has %lld columns, but %lld in %s: the files of a list must agree; %s",
                part->path, path, (long long)here, (long long)*out, first->path,
                embedding ? "name another representation, or leave the file out" : "subset them to the same genes");
        *out = here;
        if (k && !embedding && !*agree) FERRY_TRY(compare_genes(first, part, path));
    }
    if (!embedding) *agree = 1;
    return FERRY_OK;
}

static ferry_status rep_dim(int *out, ferry_file *file, const char *rep, int dims)
{
    FERRY_AUTO char *path = NULL;
    FERRY_TRY(ferry_rep_path(&path, rep));
    if (!file->measured || strcmp(file->measured, path) != 0) {
        int64_t dim = 0;
        FERRY_TRY(measure_rep(&dim, file, rep, path));
        free(file->measured);
        file->measured = path;
        path = NULL;
        file->measured_dim = dim;
    }
    if (dims < 0 || dims > file->measured_dim)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has %lld columns, the first %d are asked for; lower --dims",
                          file->path, file->measured, (long long)file->measured_dim, dims);
    *out = dims ? dims : (int)file->measured_dim;
    return FERRY_OK;
}

ferry_status ferry_rep_dim(int *out, ferry_file *file, const char *rep, int dims)
{
    FERRY_H5_QUIET;
    return rep_dim(out, file, rep, dims);
}

/* The matrix in part k, open for `columns` columns: the one that was read last, or opened now. */
static ferry_status keep_disk(ferry_file *file, int k, const char *path, int64_t columns)
{
    ferry_disk *kept = &file->kept;
    if (kept->path && file->kept_part == k && file->kept_columns == columns && !strcmp(kept->path, path))
        return FERRY_OK;
    ferry_part *part;
    ferry_disk_close(kept);
    FERRY_TRY(ferry_file_part(&part, file, k));
    FERRY_TRY(ferry_disk_open(kept, part, path, columns));
    file->kept_part = k;
    file->kept_columns = columns;
    return FERRY_OK;
}

static ferry_status read_rep(ferry_matrix *out, ferry_file *file, const char *rep, ferry_precision precision,
                             const int64_t *rows, int64_t count)
{
    FERRY_AUTO char *path = NULL;
    FERRY_TRY(ferry_rep_path(&path, rep));
    for (int k = 0; k < file->parts; k++) {
        int64_t begin, end;
        ferry_file_rows_of(&begin, &end, file, k, rows, count);
        if (begin == end) continue;
        FERRY_TRY(keep_disk(file, k, path, out->dim));
        void *to =
            precision == FERRY_DOUBLE ? (void *)(out->d + begin * out->dim) : (void *)(out->f + begin * out->dim);
        FERRY_TRY(
            ferry_disk_read(to, precision, &file->kept, out->dim, rows + begin, end - begin, file->part[k].first));
    }
    return FERRY_OK;
}

ferry_status ferry_read_rep(ferry_matrix *out, ferry_file *file, const char *rep, int dims, ferry_precision precision,
                            const int64_t *rows, int64_t count)
{
    FERRY_H5_QUIET;
    int dim = 0;
    *out = (ferry_matrix){0};
    FERRY_TRY(ferry_file_check_rows(file, rows, count));
    FERRY_TRY(rep_dim(&dim, file, rep, dims));
    FERRY_TRY(ferry_matrix_open(out, count, dim, precision));
    ferry_status status = read_rep(out, file, rep, precision, rows, count);
    if (status != FERRY_OK) ferry_matrix_close(out);
    return status;
}

int64_t ferry_matrix_nonfinite(int64_t *first, const ferry_matrix *matrix)
{
    int64_t found = 0;
    *first = -1;
    for (int64_t i = 0; i < matrix->rows; i++) {
        bool finite = true;
        for (int64_t j = i * matrix->dim; j < (i + 1) * matrix->dim && finite; j++)
            finite = matrix->f ? isfinite(matrix->f[j]) : isfinite(matrix->d[j]);
        if (finite) continue;
        if (!found) *first = i;
        found++;
    }
    return found;
}

/* splitmix64's finisher. */
static uint64_t mix(uint64_t h)
{
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9U;
    h = (h ^ h >> 27) * 0x94D049BB133111EBU;
    return h ^ h >> 31;
}

uint64_t ferry_fingerprint(const ferry_matrix *matrix, int64_t first)
{
    uint64_t sum = 0;
    for (int64_t i = 0; i < matrix->rows; i++) {
        uint64_t h = mix((uint64_t)(first + i) + 0x9E3779B97F4A7C15U);
        for (int64_t j = i * matrix->dim; j < (i + 1) * matrix->dim; j++) {
            uint64_t word = 0;
            if (matrix->f)
                memcpy(&word, matrix->f + j, sizeof(float));
            else
                memcpy(&word, matrix->d + j, sizeof(double));
            h = (h ^ word) * 0x9E3779B97F4A7C15U;
            h ^= h >> 29;
        }
        sum += mix(h);
    }
    return sum;
}

/* Column `name` of obs in part k; name NULL: its index. */
static ferry_status open_obs(ferry_column *out, const ferry_part *part, const char *name)
{
    FERRY_AUTO_FRAME obs = {0};
    FERRY_TRY(ferry_frame_open(&obs, part, "obs"));
    return ferry_column_open(out, &obs, name ? name : obs.index);
}

static ferry_status part_numbers(double *out, const ferry_column *column, int64_t first, const int64_t *rows,
                                 int64_t count)
{
    FERRY_AUTO double *slab = NULL;
    int64_t span, near = ferry_column_near(column);
    FERRY_TRY(ferry_alloc(&slab, FERRY_SLAB_ROWS));
    FERRY_TRY(ferry_column_numbers(slab, column, 0, 0)); /* texts are refused even where no row is asked for */
    for (int64_t k = 0, n; k < count; k += n) {
        n = ferry_next_run(&span, rows, k, count, near, FERRY_SLAB_ROWS);
        FERRY_TRY(ferry_column_numbers(slab, column, rows[k] - first, span));
        for (int64_t i = 0; i < n; i++) out[k + i] = slab[rows[k + i] - rows[k]];
    }
    return FERRY_OK;
}

ferry_status ferry_read_numbers(double **out, ferry_file *file, const char *column, const int64_t *rows, int64_t count)
{
    FERRY_H5_QUIET;
    FERRY_AUTO double *number = NULL;
    *out = NULL;
    FERRY_TRY(ferry_file_check_rows(file, rows, count));
    FERRY_TRY(ferry_alloc(&number, count));
    for (int k = 0; k < file->parts; k++) { /* every file is looked at: a column that one of them lacks is an error */
        int64_t begin, end;
        ferry_part *part;
        FERRY_AUTO_COLUMN obs = {0};
        ferry_file_rows_of(&begin, &end, file, k, rows, count);
        FERRY_TRY(ferry_file_part(&part, file, k));
        FERRY_TRY(open_obs(&obs, part, column));
        FERRY_TRY(part_numbers(number + begin, &obs, part->first, rows + begin, end - begin));
    }
    *out = number;
    number = NULL;
    return FERRY_OK;
}

static ferry_status part_names(ferry_names *out, const ferry_column *column, int64_t first, const int64_t *rows,
                               int64_t count)
{
    int64_t span, near = ferry_column_near(column);
    for (int64_t k = 0, n; k < count; k += n) {
        n = ferry_next_run(&span, rows, k, count, near, FERRY_SLAB_ROWS);
        if (n == span) {
            FERRY_TRY(ferry_column_texts(out, NULL, column, rows[k] - first, span));
            continue;
        }
        ferry_names all = {0};
        ferry_status status = ferry_column_texts(&all, NULL, column, rows[k] - first, span);
        for (int64_t i = 0; i < n && status == FERRY_OK; i++) {
            int64_t at = rows[k + i] - rows[k];
            status = ferry_names_add(out, ferry_name(&all, at), ferry_name_length(&all, at));
        }
        ferry_names_close(&all);
        FERRY_TRY(status);
    }
    return FERRY_OK;
}

static ferry_status cell_names(ferry_names *out, ferry_file *file, const int64_t *rows, int64_t count)
{
    FERRY_TRY(ferry_file_check_rows(file, rows, count));
    for (int k = 0; k < file->parts; k++) {
        int64_t begin, end;
        ferry_part *part;
        FERRY_AUTO_COLUMN index = {0};
        ferry_file_rows_of(&begin, &end, file, k, rows, count);
        if (begin == end) continue;
        FERRY_TRY(ferry_file_part(&part, file, k));
        FERRY_TRY(open_obs(&index, part, NULL));
        FERRY_TRY(part_names(out, &index, part->first, rows + begin, end - begin));
    }
    return FERRY_OK;
}

ferry_status ferry_read_cell_names(ferry_names *out, ferry_file *file, const int64_t *rows, int64_t count)
{
    FERRY_H5_QUIET;
    *out = (ferry_names){0};
    ferry_status status = cell_names(out, file, rows, count);
    if (status != FERRY_OK) ferry_names_close(out);
    return status;
}

/* Columns of an embedding: of a data frame by name, otherwise KEY-0, KEY-1, ... as scanpy calls them. */
static ferry_status embedding_names(ferry_names *out, const ferry_part *part, const char *path, int64_t first,
                                    int64_t count)
{
    FERRY_AUTO_DISK disk = {0};
    FERRY_TRY(ferry_disk_open(&disk, part, path, 0));
    if (first < 0 || count < 0 || first > disk.columns - count)
        return ferry_fail(FERRY_E_ARG, "%s: %s: columns beyond %lld are asked for", part->path, path,
                          (long long)disk.columns);
    for (int64_t i = first; i < first + count; i++) {
        char name[300];
        snprintf(name, sizeof name, "%.250s-%lld", path + 5, (long long)i);
        FERRY_TRY(ferry_names_add(out, disk.layout == FERRY_TABLE ? ferry_name(&disk.frame.columns, i) : name, -1));
    }
    return FERRY_OK;
}

static ferry_status gene_names(ferry_names *out, ferry_file *file, const char *rep, int64_t first, int64_t count)
{
    ferry_part *part;
    FERRY_AUTO char *path = NULL;
    FERRY_AUTO_FRAME var = {0};
    FERRY_AUTO_COLUMN index = {0};
    FERRY_TRY(ferry_file_part(&part, file, 0));
    FERRY_TRY(ferry_rep_path(&path, rep ? rep : "X"));
    if (!strncmp(path, "obsm/", 5)) return embedding_names(out, part, path, first, count);
    FERRY_TRY(ferry_frame_open(&var, part, gene_frame(part, path)));
    FERRY_TRY(ferry_column_open(&index, &var, var.index));
    return ferry_column_texts(out, NULL, &index, first, count);
}

ferry_status ferry_read_gene_names(ferry_names *out, ferry_file *file, const char *rep, int64_t first, int64_t count)
{
    FERRY_H5_QUIET;
    *out = (ferry_names){0};
    ferry_status status = gene_names(out, file, rep, first, count);
    if (status != FERRY_OK) ferry_names_close(out);
    return status;
}
