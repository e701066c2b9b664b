/** make_h5ad.h - small sound .h5ad files in every encoding, built by tests. Serial: one rank calls. */
#ifndef MAKE_H5AD_H
#define MAKE_H5AD_H
#include <hdf5.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One text: fixed length 0 is variable-length UTF-8. */
static inline hid_t mk_text_type(size_t fixed)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, fixed ? fixed : H5T_VARIABLE);
    H5Tset_cset(type, fixed ? H5T_CSET_ASCII : H5T_CSET_UTF8);
    if (fixed) H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

static inline void mk_text_attribute(hid_t object, const char *name, const char *text)
{
    hid_t type = mk_text_type(0), space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, &text);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static inline void mk_encoding(hid_t object, const char *type, const char *version)
{
    if (!type) return;
    mk_text_attribute(object, "encoding-type", type);
    mk_text_attribute(object, "encoding-version", version);
}

/* A list of texts as attribute; none is an empty list of floats, as AnnData writes it. */
static inline void mk_list_attribute(hid_t object, const char *name, const char *const *texts, hsize_t count)
{
    hid_t type = count ? mk_text_type(0) : H5Tcopy(H5T_IEEE_F64LE), space = H5Screate_simple(1, &count, NULL);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (count) H5Awrite(attribute, type, texts);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static inline void mk_integers_attribute(hid_t object, const char *name, const int64_t *values, hsize_t count)
{
    hid_t space = H5Screate_simple(1, &count, NULL);
    hid_t attribute = H5Acreate2(object, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, H5T_NATIVE_INT64, values);
    H5Aclose(attribute);
    H5Sclose(space);
}

/* h5py's boolean. */
static inline hid_t mk_bool(void)
{
    int8_t no = 0, yes = 1;
    hid_t type = H5Tenum_create(H5T_STD_I8LE);
    H5Tenum_insert(type, "FALSE", &no);
    H5Tenum_insert(type, "TRUE", &yes);
    return type;
}

static inline void mk_flag_attribute(hid_t object, const char *name, int8_t value)
{
    hid_t type = mk_bool(), space = H5Screate(H5S_SCALAR);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(attribute, type, &value);
    H5Aclose(attribute);
    H5Sclose(space);
    H5Tclose(type);
}

static inline hid_t mk_group(hid_t parent, const char *name, const char *encoding, const char *version)
{
    hid_t group = H5Gcreate2(parent, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    mk_encoding(group, encoding, version);
    return group;
}

/* Dataset of `rows` x `columns` (columns 0: one dimension); values in memory type `memory`; list: creation list. */
static inline void mk_array(hid_t parent, const char *name, hid_t type, hid_t memory, hsize_t rows, hsize_t columns,
                            hid_t list, const void *values)
{
    hsize_t shape[2] = {rows, columns};
    hid_t space = H5Screate_simple(columns ? 2 : 1, shape, NULL);
    hid_t dataset = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, list, H5P_DEFAULT);
    if (values) H5Dwrite(dataset, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values);
    mk_encoding(dataset, "array", "0.2.0");
    H5Dclose(dataset);
    H5Sclose(space);
}

static inline hid_t mk_chunks(hsize_t rows, hsize_t columns)
{
    hsize_t chunk[2] = {rows, columns};
    hid_t list = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(list, columns ? 2 : 1, chunk);
    return list;
}

static inline void mk_texts(hid_t parent, const char *name, const char *const *texts, hsize_t count, size_t fixed)
{
    hid_t type = mk_text_type(fixed), space = H5Screate_simple(1, &count, NULL);
    hid_t dataset = H5Dcreate2(parent, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    char *flat = calloc(count + 1, fixed + 1);
    for (hsize_t i = 0; fixed && i < count; i++) snprintf(flat + i * fixed, fixed + 1, "%s", texts[i]);
    if (count) H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, fixed ? (const void *)flat : (const void *)texts);
    mk_encoding(dataset, "string-array", "0.2.0");
    free(flat);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Tclose(type);
}

/* Group {values, mask} around values that `name`/values already holds. */
static inline void mk_mask(hid_t group, const int8_t *mask, hsize_t count)
{
    hid_t type = mk_bool();
    mk_array(group, "mask", type, type, count, 0, H5P_DEFAULT, mask);
    H5Tclose(type);
}

static inline void mk_nullable_texts(hid_t parent, const char *name, const char *const *texts, const int8_t *mask,
                                     hsize_t count)
{
    hid_t group = mk_group(parent, name, "nullable-string-array", "0.1.0");
    mk_texts(group, "values", texts, count, 0);
    mk_mask(group, mask, count);
    H5Gclose(group);
}

/* Frame with an index of variable-length texts. */
static inline hid_t mk_frame(hid_t parent, const char *name, const char *const *index, hsize_t rows,
                             const char *const *columns, hsize_t count)
{
    hid_t group = mk_group(parent, name, "dataframe", "0.2.0");
    mk_text_attribute(group, "_index", "_index");
    mk_list_attribute(group, "column-order", columns, count);
    if (index) mk_texts(group, "_index", index, rows, 0);
    return group;
}

static inline void mk_categorical(hid_t frame, const char *name, hid_t type, const int *codes, hsize_t rows,
                                  const char *const *categories, hsize_t count)
{
    hid_t group = mk_group(frame, name, "categorical", "0.2.0");
    mk_flag_attribute(group, "ordered", 0);
    mk_array(group, "codes", type, H5T_NATIVE_INT, rows, 0, H5P_DEFAULT, codes);
    if (categories) mk_texts(group, "categories", categories, count, 0);
    H5Gclose(group);
}

/* "c0" ... "c<n-1>" in one block; free texts[0], then texts. */
static inline char **mk_names(const char *prefix, int count)
{
    char **names = malloc((size_t)(count + 1) * sizeof *names);
    char *text = malloc((size_t)(count + 1) * 24);
    for (int i = 0; i <= count; i++) {
        names[i] = text + (size_t)i * 24;
        snprintf(names[i], 24, "%s%d", prefix, i);
    }
    return names;
}

static inline void mk_names_free(char **names)
{
    free(names[0]);
    free(names);
}

/* A file with obs of `cells` cells c0 ... and the given columns still to be added, and var of `genes` genes g0 ...;
 * *obs is the open frame. */
static inline hid_t mk_file(const char *path, hid_t *obs, int cells, int genes, const char *const *columns,
                            hsize_t count)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    char **cell = mk_names("c", cells), **gene = mk_names("g", genes);
    mk_encoding(file, "anndata", "0.1.0");
    *obs = mk_frame(file, "obs", (const char *const *)cell, (hsize_t)cells, columns, count);
    hid_t var = mk_frame(file, "var", (const char *const *)gene, (hsize_t)genes, NULL, 0);
    H5Gclose(var);
    mk_names_free(cell);
    mk_names_free(gene);
    return file;
}
#endif
