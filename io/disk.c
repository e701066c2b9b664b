/* A matrix on disk: finding it, telling its layout, checking its shape. Reading is in dense.c and sparse.c.
 *
 *  Sparse is a group {data, indices, indptr} with attributes encoding-type (csr_matrix, csc_matrix) and shape; before
 *  0.7 h5sparse_format and h5sparse_shape. raw was the groups raw.X and raw.var, obsm one dataset of compounds. */
#include "h5ad_impl.h"
#include <stdio.h>
#include <string.h>

ferry_status ferry_rep_path(char **out, const char *rep)
{
    bool path = !strcmp(rep, "X") || !strcmp(rep, "raw/X") || !strncmp(rep, "layers/", 7) || !strncmp(rep, "obsm/", 5);
    if (!strcmp(rep, "raw.X")) return ferry_path_join(out, "raw/X", NULL);
    return path ? ferry_path_join(out, rep, NULL) : ferry_path_join(out, "obsm", rep);
}

/* obsm of an old file: *type = its compound type, -1 when obsm is a group or absent. */
static hid_t compound_obsm(const ferry_part *part)
{
    if (!ferry_h5_object(part->id, "obsm")) return -1;
    FERRY_HID id = H5Oopen(part->id, "obsm", H5P_DEFAULT);
    if (id < 0 || !ferry_h5_is_dataset(id)) return -1;
    hid_t type = H5Dget_type(id);
    if (type > 0 && H5Tget_class(type) == H5T_COMPOUND) return type;
    ferry_hid_close(&type);
    return -1;
}

/* Where old files keep it. */
static const char *stored_path(const ferry_part *part, const char *path)
{
    if (!strcmp(path, "raw/X") && !ferry_h5_link(part->id, path) && ferry_h5_link(part->id, "raw.X")) return "raw.X";
    return path;
}

bool ferry_disk_exists(const ferry_part *part, const char *path)
{
    if (!strncmp(path, "obsm/", 5)) {
        FERRY_HID type = compound_obsm(part);
        if (type > 0) return H5Tget_member_index(type, path + 5) >= 0;
    }
    path = stored_path(part, path);
    if (!ferry_h5_link(part->id, path)) return false;
    if (!ferry_h5_object(part->id, path)) return true; /* opening it tells about the dead link */
    FERRY_HID id = H5Oopen(part->id, path, H5P_DEFAULT);
    if (id < 0 || !ferry_h5_is_dataset(id)) return true;
    FERRY_HID space = H5Dget_space(id);
    return H5Sget_simple_extent_type(space) != H5S_NULL; /* None is stored as an empty dataspace */
}

static ferry_status check_number_type(const ferry_disk *disk, const char *what)
{
    H5T_class_t class = H5Tget_class(disk->type);
    bool whole = class == H5T_INTEGER && H5Tget_size(disk->type) <= 8;
    bool flag = (class == H5T_ENUM || class == H5T_BITFIELD) && H5Tget_size(disk->type) == 1;
    if (whole || flag || class == H5T_FLOAT) return FERRY_OK;
    return ferry_fail(FERRY_E_FILE, "%s: %s%s: not numbers; name another representation", disk->part->path, disk->path,
                      what);
}

static ferry_status open_dense(ferry_disk *disk, const char *path, int64_t columns)
{
    hsize_t shape[8];
    const char *file = disk->part->path;
    FERRY_TRY(ferry_h5_dataset(&disk->data, disk->part->id, path, columns, file, disk->path));
    int rank = ferry_h5_shape(shape, disk->data);
    disk->layout = FERRY_DENSE;
    disk->type = H5Dget_type(disk->data);
    disk->flat = rank == 1 && strncmp(path, "obsm/", 5) != 0 && disk->part->genes == 1; /* one gene in an old file */
    if (rank != 2 && !disk->flat)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: has %d dimension%s, a matrix of cells x columns is needed; reshape it: "
                          "adata.obsm[key] = adata.obsm[key].reshape(adata.n_obs, -1)",
                          file, disk->path, rank, rank == 1 ? "" : "s");
    disk->rows = (int64_t)shape[0];
    disk->columns = disk->flat ? 1 : (int64_t)shape[1];
    return check_number_type(disk, "");
}

static ferry_status open_field(ferry_disk *disk, const char *name)
{
    hsize_t shape[8], dims[8];
    const char *file = disk->part->path;
    FERRY_TRY(ferry_path_join(&disk->member, name, NULL));
    FERRY_TRY(ferry_h5_dataset(&disk->data, disk->part->id, "obsm", 0, file, "obsm"));
    disk->layout = FERRY_FIELD;
    FERRY_HID whole = H5Dget_type(disk->data);
    int field = H5Tget_member_index(whole, name);
    if (field < 0 || ferry_h5_shape(shape, disk->data) != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s: missing; " FERRY_REWRITE, file, disk->path);
    FERRY_HID member = H5Tget_member_type(whole, (unsigned)field);
    if (H5Tget_class(member) != H5T_ARRAY || H5Tget_array_ndims(member) != 1)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: has one dimension, a matrix of cells x columns is needed; " FERRY_REWRITE, file,
                          disk->path);
    H5Tget_array_dims2(member, dims);
    disk->type = H5Tget_super(member);
    disk->rows = (int64_t)shape[0];
    disk->columns = (int64_t)dims[0];
    return check_number_type(disk, "");
}

static ferry_status open_member(hid_t *out, const ferry_disk *disk, const char *path, const char *name)
{
    char inner[1100], where[1100];
    snprintf(inner, sizeof inner, "%.1000s/%s", path, name);
    snprintf(where, sizeof where, "%.1000s/%s", disk->path, name);
    return ferry_h5_dataset(out, disk->part->id, inner, 0, disk->part->path, where);
}

static ferry_status open_sparse(ferry_disk *disk, hid_t group, const char *path, const char *format)
{
    const char *file = disk->part->path;
    int64_t shape[2];
    int found = ferry_h5_attribute_integers(shape, 2, group, "shape");
    if (found == 0) found = ferry_h5_attribute_integers(shape, 2, group, "h5sparse_shape");
    if (found == 0)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: sparse without attribute shape (rows, columns); set it, or " FERRY_REWRITE, file,
                          disk->path);
    if (found < 0 || shape[0] < 0 || shape[1] < 0)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: attribute shape is not two whole numbers (rows, columns); " FERRY_REWRITE, file,
                          disk->path);
    disk->layout = !strncmp(format, "csc", 3) ? FERRY_CSC : FERRY_CSR;
    disk->rows = shape[0];
    disk->columns = shape[1];
    FERRY_TRY(open_member(&disk->data, disk, path, "data"));
    FERRY_TRY(open_member(&disk->indices, disk, path, "indices"));
    FERRY_TRY(open_member(&disk->indptr, disk, path, "indptr"));
    disk->type = H5Dget_type(disk->data);
    FERRY_TRY(check_number_type(disk, "/data"));
    hsize_t length[8];
    if (ferry_h5_shape(length, disk->data) != 1)
        return ferry_fail(FERRY_E_FILE, "%s: %s/data: is not 1-D; " FERRY_REWRITE, file, disk->path);
    disk->nonzeros = (int64_t)length[0];
    return ferry_sparse_check(disk);
}

static ferry_status open_group(ferry_disk *disk, hid_t group, const char *path)
{
    FERRY_AUTO char *encoding = NULL, *format = NULL;
    FERRY_TRY(ferry_h5_attribute_text(&encoding, group, "encoding-type"));
    FERRY_TRY(ferry_h5_attribute_text(&format, group, "h5sparse_format"));
    if (encoding && !strcmp(encoding, "dataframe")) {
        disk->layout = FERRY_TABLE;
        FERRY_TRY(ferry_frame_open(&disk->frame, disk->part, path));
        disk->rows = disk->frame.rows;
        disk->columns = disk->frame.columns.count;
        return FERRY_OK;
    }
    const char *sparse = encoding ? encoding : format;
    if (sparse && (!strncmp(sparse, "csr", 3) || !strncmp(sparse, "csc", 3)))
        return open_sparse(disk, group, path, sparse);
    return ferry_fail(
        FERRY_E_FILE,
        "%s: %s: a group of encoding-type %s; csr_matrix, csc_matrix, dataframe and arrays can be read; " FERRY_REWRITE,
        disk->part->path, disk->path, sparse ? sparse : "absent");
}

static ferry_status raw_genes(int64_t *out, const ferry_part *part)
{
    FERRY_AUTO_FRAME var = {0};
    FERRY_TRY(ferry_frame_open(&var, part, ferry_h5_link(part->id, "raw/var") ? "raw/var" : "raw.var"));
    *out = var.rows;
    return FERRY_OK;
}

static ferry_status check_shape(const ferry_disk *disk)
{
    const ferry_part *part = disk->part;
    bool raw = !strcmp(disk->path, "raw/X"), embedding = !strncmp(disk->path, "obsm/", 5);
    int64_t genes = part->genes;
    if (raw) FERRY_TRY(raw_genes(&genes, part));
    bool turned = !embedding && disk->rows == genes && disk->columns == part->cells && disk->rows != disk->columns;
    if (turned)
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: is %lld x %lld, but obs has %lld cells and var %lld genes: it is "
                          "transposed; write adata.T, or swap obs and var",
                          part->path, disk->path, (long long)disk->rows, (long long)disk->columns,
                          (long long)part->cells, (long long)genes);
    if (disk->rows != part->cells)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has %lld rows, but obs has %lld cells; " FERRY_REWRITE, part->path,
                          disk->path, (long long)disk->rows, (long long)part->cells);
    if (!embedding && disk->columns != genes)
        return ferry_fail(FERRY_E_FILE, "%s: %s: has %lld columns, but %s has %lld genes; " FERRY_REWRITE, part->path,
                          disk->path, (long long)disk->columns, raw ? "raw/var" : "var", (long long)genes);
    return FERRY_OK;
}

static ferry_status open_any(ferry_disk *disk, const char *name, int64_t columns)
{
    const ferry_part *part = disk->part;
    FERRY_TRY(ferry_path_join(&disk->path, name, NULL));
    if (!strncmp(name, "obsm/", 5)) {
        FERRY_HID type = compound_obsm(part);
        if (type > 0) {
            FERRY_TRY(open_field(disk, name + 5));
            return check_shape(disk);
        }
    }
    const char *path = stored_path(part, name);
    if (!ferry_h5_link(part->id, path))
        return ferry_fail(FERRY_E_FILE, "%s: %s: missing; name another representation", part->path, name);
    if (!ferry_h5_object(part->id, path))
        return ferry_fail(
            FERRY_E_FILE,
            "%s: %s: a link that leads nowhere; put the file it points to in its place, or " FERRY_REWRITE, part->path,
            name);
    FERRY_HID id = H5Oopen(part->id, path, H5P_DEFAULT);
    if (id < 0) return ferry_h5_fail(part->path, name, "cannot be opened", FERRY_COPY_AGAIN);
    if (ferry_h5_is_group(id)) {
        FERRY_TRY(open_group(disk, id, path));
    } else {
        ferry_hid_close(&id); /* so that opening it again sets the chunk cache */
        FERRY_TRY(open_dense(disk, path, columns));
    }
    return check_shape(disk);
}

ferry_status ferry_disk_open(ferry_disk *out, const ferry_part *part, const char *path, int64_t columns)
{
    *out = (ferry_disk){.part = part, .nonzeros = -1, .data = -1, .indices = -1, .indptr = -1, .type = -1};
    ferry_status status = open_any(out, path, columns);
    if (status != FERRY_OK) ferry_disk_close(out);
    return status;
}

void ferry_disk_close(ferry_disk *disk)
{
    ferry_hid_close(&disk->data);
    ferry_hid_close(&disk->indices);
    ferry_hid_close(&disk->indptr);
    ferry_hid_close(&disk->type);
    free(disk->path);
    free(disk->member);
    ferry_frame_close(&disk->frame);
    *disk = (ferry_disk){.nonzeros = -1, .data = -1, .indices = -1, .indptr = -1, .type = -1};
}

ferry_status ferry_disk_read(void *out, ferry_precision precision, ferry_disk *disk, int64_t columns,
                             const int64_t *rows, int64_t count, int64_t first)
{
    if (count == 0 || columns == 0) return FERRY_OK;
    if (disk->layout == FERRY_CSR || disk->layout == FERRY_CSC)
        return ferry_sparse_read(out, precision, disk, columns, rows, count, first);
    return ferry_dense_read(out, precision, disk, columns, rows, count, first);
}
