/* Opening .h5ad files: what kind of file it is, whether it is whole, whether its shapes agree. */
#include "h5ad_impl.h"
#include "names_impl.h"
#include "mpi/exchange.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define PARTS_OPEN 64 /* files of a list open at once */

static ferry_status open_hdf5(ferry_part *part)
{
    FERRY_HID access = ferry_h5_access();
    part->id = H5Fopen(part->path, H5F_ACC_RDONLY, access);
    if (part->id >= 0) return FERRY_OK;
    const char *reason = ferry_h5_reason();
    bool cut = strstr(reason, "truncated") != NULL, busy = strstr(reason, "h5clear") != NULL;
    return ferry_fail(FERRY_E_FILE, "%s: /: %s (HDF5: %s); %s", part->path,
                      cut ? "the file is cut short" : "cannot be opened as HDF5", reason,
                      busy ? "it was left open by a program that ended early: run h5clear -s FILE, or write it again"
                           : FERRY_COPY_AGAIN);
}

ferry_status ferry_file_part(ferry_part **out, ferry_file *file, int k)
{
    ferry_part *part = file->part + k;
    part->used = ++file->uses;
    *out = part;
    if (part->id >= 0) return FERRY_OK;
    int open = 0;
    ferry_part *oldest = NULL;
    for (int i = 0; i < file->parts; i++) {
        if (file->part[i].id < 0) continue;
        open++;
        if (!oldest || file->part[i].used < oldest->used) oldest = file->part + i;
    }
    if (open >= PARTS_OPEN) ferry_hid_close(&oldest->id);
    return open_hdf5(part);
}

void ferry_file_rows_of(int64_t *begin, int64_t *end, const ferry_file *file, int k, const int64_t *rows, int64_t count)
{
    int64_t edge[2] = {file->part[k].first, file->part[k].first + file->part[k].cells}, at[2];
    for (int side = 0; side < 2; side++) {
        int64_t low = 0, high = count; /* first row that is not below the edge */
        while (low < high) {
            int64_t middle = low + (high - low) / 2;
            if (rows[middle] < edge[side])
                low = middle + 1;
            else
                high = middle;
        }
        at[side] = low;
    }
    *begin = at[0];
    *end = at[1];
}

ferry_status ferry_file_check_rows(const ferry_file *file, const int64_t *rows, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (rows[i] < 0 || rows[i] >= file->cells || (i && rows[i] <= rows[i - 1]))
            return ferry_fail(FERRY_E_ARG, "%s: row %lld is asked for (entry %lld): rows must ascend and be below %lld",
                              file->path, (long long)rows[i], (long long)i, (long long)file->cells);
    return FERRY_OK;
}

int64_t ferry_next_run(int64_t *span, const int64_t *rows, int64_t k, int64_t count, int64_t near, int64_t limit)
{
    int64_t n = 1;
    while (k + n < count && rows[k + n] - rows[k] < limit && rows[k + n] - rows[k + n - 1] <= near) n++;
    *span = rows[k + n - 1] - rows[k] + 1;
    return n;
}

/* What a file that is no HDF5 seems to be. */
static ferry_status tell_kind(const char *path, const unsigned char *head, size_t bytes)
{
    const char *kind = "not HDF5", *way = "name a .h5ad file";
    size_t at = 0;
    while (at < bytes && isspace(head[at])) at++;
    if (bytes == 0) {
        kind = "empty (0 bytes)";
        way = "copy or download it again";
    } else if (bytes - at > 1 && head[at] == '<') {
        kind = "an HTML or XML page, not HDF5";
        way = "the download brought an error page: download it again";
    } else if (bytes > 1 && head[0] == 0x1f && head[1] == 0x8b) {
        kind = "compressed with gzip";
        way = "gunzip it first";
    } else if (bytes > 1 && head[0] == 'P' && head[1] == 'K') {
        kind = "a zip archive";
        way = "unzip it first";
    } else if (bytes > 7 && !memcmp(head, "\0\0\0\0\0\0\0\0", 8)) {
        kind = "filled with zeros, not HDF5";
        way = "copy or download it again";
    }
    return ferry_fail(FERRY_E_FILE, "%s: /: %s; %s", path, kind, way);
}

static ferry_status check_signature(const char *path)
{
    struct stat info;
    if (stat(path, &info)) return ferry_fail(FERRY_E_FILE, "%s: no such file; check the name", path);
    if (S_ISDIR(info.st_mode)) {
        static const char *const zarr[] = {".zgroup", ".zattrs", "zarr.json"};
        char inner[4200];
        for (size_t i = 0; i < 3; i++) {
            snprintf(inner, sizeof inner, "%.4000s/%s", path, zarr[i]);
            if (!stat(inner, &info))
                return ferry_fail(FERRY_E_FILE,
                                  "%s: a zarr store; write it as HDF5: "
                                  "anndata.read_zarr(path).write_h5ad('cells.h5ad')",
                                  path);
        }
        return ferry_fail(FERRY_E_FILE, "%s: a folder; name a .h5ad file, or @LIST.txt for several", path);
    }
    FILE *stream = fopen(path, "rb");
    if (!stream) return ferry_fail(FERRY_E_FILE, "%s: cannot be read; check its permissions", path);
    unsigned char head[512];
    size_t bytes = fread(head, 1, sizeof head, stream);
    fclose(stream);
    if (H5Fis_hdf5(path) <= 0) return tell_kind(path, head, bytes); /* looks at 0, 512, 1024, ... */
    return FERRY_OK;
}

/* Other kinds of HDF5 file that are met under the name. */
static ferry_status check_kind(const ferry_part *part)
{
    hid_t id = part->id;
    const char *kind = NULL, *way = "";
    if (ferry_h5_link(id, "obs") && ferry_h5_link(id, "var") && !ferry_h5_link(id, "mod")) return FERRY_OK;
    if (ferry_h5_link(id, "mod")) {
        kind = "a MuData file with several modalities";
        way = "write one of them: mudata.read_h5mu(path).mod[NAME].write_h5ad('cells.h5ad')";
    } else if (ferry_h5_link(id, "row_attrs")) {
        kind = "a loom file";
        way = "convert it: scanpy.read_loom(path).write_h5ad('cells.h5ad')";
    } else if (ferry_h5_link(id, "matrix/barcodes") || ferry_h5_link(id, "matrix")) {
        kind = "a Cell Ranger matrix";
        way = "convert it: scanpy.read_10x_h5(path).write_h5ad('cells.h5ad')";
    } else if (!ferry_h5_link(id, "obs")) {
        kind = "no obs, so this is not an AnnData file";
        way = "write it with anndata, or name another";
    } else {
        kind = "no var, so this is not an AnnData file";
        way = "write it with anndata, or name another";
    }
    return ferry_fail(FERRY_E_FILE, "%s: /: %s; %s", part->path, kind, way);
}

/* Cells and genes of a file that opens. */
static ferry_status measure(ferry_part *part)
{
    FERRY_AUTO_FRAME obs = {0};
    FERRY_AUTO_FRAME var = {0};
    FERRY_TRY(check_kind(part));
    FERRY_TRY(ferry_frame_open(&obs, part, "obs"));
    FERRY_TRY(ferry_frame_open(&var, part, "var"));
    FERRY_TRY(ferry_frame_check(&obs));
    FERRY_TRY(ferry_frame_check(&var));
    part->cells = obs.rows;
    part->genes = var.rows;
    return FERRY_OK;
}

/* An array, matrix or frame whose kind we know has as many rows as obs; what we cannot read is left for its use. */
static ferry_status check_embedding(const ferry_part *part, const char *path)
{
    hsize_t shape[8];
    FERRY_HID id = ferry_h5_object(part->id, path) ? H5Oopen(part->id, path, H5P_DEFAULT) : -1;
    if (id < 0 || !ferry_h5_is_dataset(id)) return FERRY_OK;
    int rank = ferry_h5_shape(shape, id);
    if (rank < 1 || (int64_t)shape[0] == part->cells) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s: has %lld rows, but obs has %lld cells; " FERRY_REWRITE, part->path, path,
                      (long long)shape[0], (long long)part->cells);
}

static ferry_status check_shapes(const ferry_part *part)
{
    ferry_names layers = {0}, obsm = {0};
    ferry_status status = FERRY_OK;
    char path[1100];
    if (ferry_disk_exists(part, "X")) {
        FERRY_AUTO_DISK disk = {0};
        FERRY_TRY(ferry_disk_open(&disk, part, "X", 0));
    }
    status = ferry_members(&layers, part, "layers");
    for (int64_t i = 0; i < layers.count && status == FERRY_OK; i++) {
        snprintf(path, sizeof path, "layers/%.1000s", ferry_name(&layers, i));
        status = check_embedding(part, path);
    }
    if (status == FERRY_OK) status = ferry_members(&obsm, part, "obsm");
    for (int64_t i = 0; i < obsm.count && status == FERRY_OK; i++) {
        snprintf(path, sizeof path, "obsm/%.1000s", ferry_name(&obsm, i));
        status = check_embedding(part, path);
    }
    ferry_names_close(&layers);
    ferry_names_close(&obsm);
    return status;
}

static ferry_status inspect(ferry_file *file)
{
    FERRY_H5_QUIET;
    ferry_part *part;
    file->cells = 0;
    for (int k = 0; k < file->parts; k++) {
        FERRY_TRY(check_signature(file->part[k].path));
        FERRY_TRY(ferry_file_part(&part, file, k));
        FERRY_TRY(measure(part));
        FERRY_TRY(check_shapes(part));
        part->first = file->cells;
        file->cells += part->cells;
        bool pca = ferry_disk_exists(part, "obsm/X_pca");
        file->has_pca = k == 0 ? pca : file->has_pca && pca;
    }
    file->genes = file->part[0].genes;
    return FERRY_OK;
}

/* The lines of a list, relative to its folder; blank lines and lines with # are left out. */
static ferry_status read_list(ferry_names *out, const char *list)
{
    FILE *stream = fopen(list, "r");
    if (!stream) return ferry_fail(FERRY_E_FILE, "%s: no such list of files; it names one .h5ad a line", list);
    const char *slash = strrchr(list, '/');
    int folder = slash ? (int)(slash - list) + 1 : 0;
    char line[4096], path[8300];
    ferry_status status = FERRY_OK;
    while (status == FERRY_OK && fgets(line, sizeof line, stream)) {
        size_t length = strlen(line), at = 0;
        while (length && isspace((unsigned char)line[length - 1])) line[--length] = 0;
        while (isspace((unsigned char)line[at])) at++;
        if (!line[at] || line[at] == '#') continue;
        if (line[at] == '<' || (unsigned char)line[at] == 0x89) {
            status = ferry_fail(FERRY_E_FILE, "%s: not a list; @LIST.txt is a text file naming one .h5ad a line", list);
            break;
        }
        if (folder > 4000) folder = 0;
        snprintf(path, sizeof path, "%.*s%s", line[at] == '/' ? 0 : folder, list, line + at);
        status = ferry_names_add(out, path, -1);
    }
    fclose(stream);
    if (status == FERRY_OK && !out->count)
        status = ferry_fail(FERRY_E_FILE, "%s: an empty list; it names one .h5ad a line", list);
    return status;
}

static ferry_status name_parts(ferry_file *file, const char *path)
{
    ferry_names names = {0};
    ferry_status status = path[0] == '@' ? read_list(&names, path + 1) : ferry_names_add(&names, path, -1);
    if (status == FERRY_OK) status = ferry_path_join(&file->path, path, NULL);
    if (status == FERRY_OK) status = ferry_alloc(&file->part, names.count);
    for (int64_t i = 0; i < names.count && status == FERRY_OK; i++) {
        file->part[i].id = -1;
        status = ferry_path_join(&file->part[i].path, ferry_name(&names, i), NULL);
        file->parts = (int)i + 1;
    }
    ferry_names_close(&names);
    return status;
}

/* What rank 0 found, for all: the others need not look again, and cannot find something else. */
static void share(ferry_file *file, const ferry_world *world)
{
    int64_t facts[3] = {file->cells, file->genes, file->has_pca};
    ferry_broadcast(world, facts, sizeof facts, 0);
    file->cells = facts[0];
    file->genes = facts[1];
    file->has_pca = facts[2] != 0;
    for (int k = 0; k < file->parts; k++) {
        int64_t part[3] = {file->part[k].first, file->part[k].cells, file->part[k].genes};
        ferry_broadcast(world, part, sizeof part, 0);
        file->part[k].first = part[0];
        file->part[k].cells = part[1];
        file->part[k].genes = part[2];
    }
}

static ferry_status open_here(ferry_file *file)
{
    FERRY_H5_QUIET;
    ferry_part *part;
    ferry_status status = FERRY_OK;
    for (int k = 0; k < file->parts && k < PARTS_OPEN && status == FERRY_OK; k++)
        status = ferry_file_part(&part, file, k);
    return status;
}

/* A list that is not the same on every node must not make ranks talk past each other. */
static ferry_status same_parts(const ferry_file *file, int64_t parts)
{
    if (file->parts == parts) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE,
                      "%s: names %d files on one node and %lld on another; put it on a shared file system", file->path,
                      file->parts, (long long)parts);
}

static ferry_status open_all(ferry_file **out, const ferry_world *world, const char *path)
{
    ferry_status status = ferry_alloc(out, 1);
    if (status == FERRY_OK) status = name_parts(*out, path);
    FERRY_TRY(ferry_agree(world, status));
    int64_t parts = (*out)->parts;
    ferry_broadcast(world, &parts, sizeof parts, 0);
    FERRY_TRY(ferry_agree(world, same_parts(*out, parts)));
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? inspect(*out) : FERRY_OK));
    share(*out, world);
    return ferry_agree(world, open_here(*out));
}

ferry_status ferry_file_open(ferry_file **out, const ferry_world *world, const char *path)
{
    *out = NULL;
    ferry_status status = open_all(out, world, path);
    if (status != FERRY_OK) ferry_file_close(out);
    return status;
}

void ferry_file_close(ferry_file **file)
{
    if (!*file) return;
    ferry_disk_close(&(*file)->kept);
    free((*file)->measured);
    for (int k = 0; k < (*file)->parts; k++) {
        ferry_hid_close(&(*file)->part[k].id);
        free((*file)->part[k].path);
    }
    free((*file)->part);
    free((*file)->path);
    free(*file);
    *file = NULL;
}

const char *ferry_file_path(const ferry_file *file)
{
    return file->path;
}

int64_t ferry_file_cells(const ferry_file *file)
{
    return file->cells;
}

int64_t ferry_file_genes(const ferry_file *file)
{
    return file->genes;
}

const char *ferry_file_default_rep(const ferry_file *file)
{
    return file->has_pca ? "X_pca" : "X";
}

bool ferry_file_has_obs(const ferry_file *file, const char *column)
{
    FERRY_H5_QUIET;
    for (int k = 0; k < file->parts; k++) {
        ferry_part *part;
        ferry_frame obs = {0};
        if (ferry_file_part(&part, (ferry_file *)file, k) != FERRY_OK) return false;
        bool has = ferry_frame_open(&obs, part, "obs") == FERRY_OK && ferry_frame_has(&obs, column);
        ferry_frame_close(&obs);
        if (!has) return false;
    }
    return true;
}
