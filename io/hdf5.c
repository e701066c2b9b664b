#include "hdf5_impl.h"
#include "lzf_impl.h"
#include "mpi/stage.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

ferry_h5_quiet ferry_h5_quiet_begin(void)
{
    ferry_h5_quiet quiet = {0};
    H5Eget_auto2(H5E_DEFAULT, &quiet.print, &quiet.payload);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    return quiet;
}

void ferry_h5_quiet_end(ferry_h5_quiet *quiet)
{
    H5Eset_auto2(H5E_DEFAULT, quiet->print, quiet->payload);
}

static herr_t keep_innermost(unsigned n, const H5E_error2_t *error, void *out)
{
    if (n == 0 && error->desc) snprintf(out, 300, "%s", error->desc);
    return 0;
}

const char *ferry_h5_reason(void)
{
    static _Thread_local char text[300];
    text[0] = 0;
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_innermost, text);
    return text[0] ? text : "no reason given";
}

bool ferry_h5_link(hid_t id, const char *path)
{
    char part[1024];
    size_t length = strlen(path);
    if (length >= sizeof part || !length) return false;
    for (size_t i = 1; i <= length; i++) { /* every step of the path has to be there, or H5Lexists fails */
        if (i < length && path[i] != '/') continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (H5Lexists(id, part, H5P_DEFAULT) <= 0) return false;
        if (i < length && H5Oexists_by_name(id, part, H5P_DEFAULT) <= 0) return false;
    }
    return true;
}

bool ferry_h5_object(hid_t id, const char *path)
{
    return ferry_h5_link(id, path) && H5Oexists_by_name(id, path, H5P_DEFAULT) > 0;
}

/* The attribute's text: scalar or a single element. */
static ferry_status read_text_attribute(char **out, hid_t attribute, hid_t type)
{
    FERRY_HID space = H5Aget_space(attribute);
    if (H5Sget_simple_extent_npoints(space) != 1) return FERRY_OK;
    if (H5Tis_variable_str(type) > 0) {
        FERRY_HID memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        char *text = NULL;
        if (H5Aread(attribute, memory, &text) < 0) return FERRY_OK;
        size_t length = text ? strlen(text) : 0;
        ferry_status status = ferry_alloc(out, (int64_t)length + 1);
        if (status == FERRY_OK && length) memcpy(*out, text, length);
        H5free_memory(text);
        return status;
    }
    size_t size = H5Tget_size(type);
    FERRY_TRY(ferry_alloc(out, (int64_t)size + 1)); /* attributes are at most 64 KiB, or in a heap of the file */
    if (H5Aread(attribute, type, *out) < 0) {
        free(*out);
        *out = NULL;
        return FERRY_OK;
    }
    (*out)[size] = 0;
    if (H5Tget_strpad(type) == H5T_STR_SPACEPAD)
        while (size && (*out)[size - 1] == ' ') (*out)[--size] = 0;
    return FERRY_OK;
}

ferry_status ferry_h5_attribute_text(char **out, hid_t object, const char *name)
{
    *out = NULL;
    if (H5Aexists(object, name) <= 0) return FERRY_OK;
    FERRY_HID attribute = H5Aopen(object, name, H5P_DEFAULT);
    FERRY_HID type = attribute > 0 ? H5Aget_type(attribute) : -1;
    if (type < 0 || H5Tget_class(type) != H5T_STRING) return FERRY_OK;
    return read_text_attribute(out, attribute, type);
}

int ferry_h5_attribute_integers(int64_t *out, int count, hid_t object, const char *name)
{
    if (H5Aexists(object, name) <= 0) return 0;
    FERRY_HID attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (attribute < 0) return -1;
    FERRY_HID type = H5Aget_type(attribute), space = H5Aget_space(attribute);
    H5T_class_t class = H5Tget_class(type);
    double real[8];
    if (H5Sget_simple_extent_npoints(space) != count || count > 8) return -1;
    if (class == H5T_INTEGER) return H5Aread(attribute, H5T_NATIVE_INT64, out) < 0 ? -1 : 1;
    if (class != H5T_FLOAT || H5Aread(attribute, H5T_NATIVE_DOUBLE, real) < 0) return -1;
    for (int i = 0; i < count; i++) {
        if (!(fabs(real[i]) < 0x1p53) || real[i] != floor(real[i])) return -1;
        out[i] = (int64_t)real[i];
    }
    return 1;
}

bool ferry_h5_attribute_flag(hid_t object, const char *name, bool fallback)
{
    if (H5Aexists(object, name) <= 0) return fallback;
    FERRY_HID attribute = H5Aopen(object, name, H5P_DEFAULT);
    FERRY_HID type = attribute > 0 ? H5Aget_type(attribute) : -1, space = attribute > 0 ? H5Aget_space(attribute) : -1;
    H5T_class_t class = type > 0 ? H5Tget_class(type) : H5T_NO_CLASS;
    if ((class != H5T_ENUM && class != H5T_INTEGER) || H5Sget_simple_extent_npoints(space) != 1) return fallback;
    FERRY_HID base = class == H5T_ENUM ? H5Tget_super(type) : H5Tcopy(type);
    union {
        unsigned char byte[16];
        int64_t word;
    } value = {{0}};
    if (H5Tget_size(base) > sizeof value || H5Aread(attribute, type, &value) < 0) return fallback;
    for (size_t i = 0; i < H5Tget_size(base); i++)
        if (value.byte[i]) return true;
    return false;
}

hid_t ferry_h5_access(void)
{
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
    H5Pset_file_locking(access, 0, 1); /* the environment variable HDF5_USE_FILE_LOCKING still overrides this */
#else
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
#endif
    return access;
}

int ferry_h5_shape(hsize_t shape[8], hid_t dataset)
{
    FERRY_HID space = H5Dget_space(dataset);
    int rank = space > 0 ? H5Sget_simple_extent_ndims(space) : -1;
    if (rank < 0 || rank > 8 || H5Sget_simple_extent_type(space) == H5S_NULL) return -1;
    if (rank > 0 && H5Sget_simple_extent_dims(space, shape, NULL) < 0) return -1;
    for (int i = 0; i < rank; i++)
        if (shape[i] > INT64_MAX / 2) return -1;
    return rank;
}

bool ferry_h5_chunk(hsize_t chunk[8], hid_t dataset)
{
    FERRY_HID plist = H5Dget_create_plist(dataset);
    return plist > 0 && H5Pget_layout(plist) == H5D_CHUNKED && H5Pget_chunk(plist, 8, chunk) > 0;
}

static ferry_status check_filters(hid_t dataset, const char *file, const char *where)
{
    FERRY_HID plist = H5Dget_create_plist(dataset);
    int filters = plist > 0 ? H5Pget_nfilters(plist) : 0;
    for (int i = 0; i < filters; i++) {
        char name[64] = "";
        unsigned flags, config;
        size_t parameters = 0;
        H5Z_filter_t filter = H5Pget_filter2(plist, (unsigned)i, &flags, &parameters, NULL, sizeof name, name, &config);
        if (filter < 0 || H5Zfilter_avail(filter) > 0) continue;
        static const struct {
            int id;
            const char *name;
        } known[] = {{32001, "blosc"}, {32004, "lz4"},  {32008, "bitshuffle"},
                     {32013, "zfp"},   {32015, "zstd"}, {32026, "blosc2"}};
        for (size_t k = 0; k < sizeof known / sizeof *known; k++)
            if (known[k].id == filter) snprintf(name, sizeof name, "%s", known[k].name);
        return ferry_fail(FERRY_E_FILE,
                          "%s: %s: compressed with filter %d (%s), which this HDF5 does not have; set HDF5_PLUGIN_PATH "
                          "to the folder of its plugin (Python's hdf5plugin brings one), or write the file anew with "
                          "compression='gzip'",
                          file, where, (int)filter, name[0] ? name : "unnamed");
    }
    return FERRY_OK;
}

ferry_status ferry_h5_unreadable(hid_t dataset, const char *file, const char *where)
{
    char reason[300];
    snprintf(reason, sizeof reason, "%s", ferry_h5_reason());
    FERRY_TRY(check_filters(dataset, file, where));
    return ferry_fail(FERRY_E_FILE, "%s: %s: cannot be read (HDF5: %s); " FERRY_COPY_AGAIN, file, where, reason);
}

/* Cache for the chunks of one band of rows, so that reading on in rows unpacks each chunk once. */
static hid_t access_list(hid_t dataset, int64_t columns)
{
    hsize_t chunk[8], shape[8];
    int rank = ferry_h5_shape(shape, dataset);
    if (rank < 1 || !ferry_h5_chunk(chunk, dataset)) return H5P_DEFAULT;
    FERRY_HID type = H5Dget_type(dataset);
    double bytes = (double)H5Tget_size(type), chunks = 1;
    for (int i = 0; i < rank; i++) bytes *= (double)chunk[i];
    if (rank > 1) {
        hsize_t wanted = columns > 0 && (hsize_t)columns < shape[1] ? (hsize_t)columns : shape[1];
        hsize_t touched = (wanted + chunk[1] - 1) / chunk[1];
        chunks = (double)touched;
    }
    double room = bytes * (chunks + 1);
    if (room > (double)FERRY_SLAB_BYTES) room = (double)FERRY_SLAB_BYTES;
    if (room < bytes) room = bytes;
    if (room < 1 << 20) room = 1 << 20;
    hid_t list = H5Pcreate(H5P_DATASET_ACCESS);
    H5Pset_chunk_cache(list, 10007, (size_t)room, 1.0);
    return list;
}

ferry_status ferry_h5_dataset(hid_t *out, hid_t id, const char *path, int64_t columns, const char *file,
                              const char *where)
{
    ferry_lzf_register();
    if (!ferry_h5_link(id, path)) return ferry_fail(FERRY_E_FILE, "%s: %s: missing; " FERRY_REWRITE, file, where);
    if (!ferry_h5_object(id, path))
        return ferry_fail(
            FERRY_E_FILE,
            "%s: %s: a link that leads nowhere; put the file it points to in its place, or " FERRY_REWRITE, file,
            where);
    FERRY_HID object = H5Oopen(id, path, H5P_DEFAULT);
    if (object < 0) return ferry_h5_fail(file, where, "cannot be opened", FERRY_COPY_AGAIN);
    if (!ferry_h5_is_dataset(object))
        return ferry_fail(FERRY_E_FILE, "%s: %s: a group where an array should be; " FERRY_REWRITE, file, where);
    hid_t list = access_list(object, columns);
    ferry_hid_close(&object); /* the cache is set by the first opening of a dataset */
    *out = H5Dopen2(id, path, list);
    ferry_status status = FERRY_OK;
    if (*out < 0) status = ferry_h5_fail(file, where, "cannot be opened", FERRY_COPY_AGAIN);
    if (list > 0) H5Pclose(list);
    return status;
}

ferry_status ferry_h5_read(void *out, hid_t dataset, hid_t type, int64_t first, int64_t count, const char *file,
                           const char *where)
{
    if (count == 0) return FERRY_OK;
    FERRY_HID space = H5Dget_space(dataset);
    FERRY_HID memory = -1;
    if (space > 0 && H5Sget_simple_extent_ndims(space) == 1) {
        hsize_t start = (hsize_t)first, n = (hsize_t)count;
        H5Sselect_hyperslab(space, H5S_SELECT_SET, &start, NULL, &n, NULL);
        memory = H5Screate_simple(1, &n, NULL);
    } else {
        memory = H5Screate(H5S_SCALAR);
    }
    if (H5Dread(dataset, type, memory, space, H5P_DEFAULT, out) < 0) return ferry_h5_unreadable(dataset, file, where);
    ferry_stage_read(count * (int64_t)H5Tget_size(type));
    return FERRY_OK;
}
