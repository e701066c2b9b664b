/* An output from open to finish, its groups and attributes.
 *
 *  What a killed run leaves: FILE as it was, and FILE.partial marked as such. HDF5 writes metadata to the disk only at
 *  ferry_flush (the metadata cache never fills up in between), and no byte that an earlier flush refers to is changed
 *  before the next (csr_write.c), so that the partial file opens and holds what was flushed. */
#define _GNU_SOURCE /* fallocate */
#include "write_impl.h"
#include "mpi/stage.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SLACK  (16 << 10) /* metadata of a call, beside a 64th of its data */
#define COPIED (4 << 20)  /* bytes of a file that are copied at a time */

/* ---- room on the disk ---- */

/* RLIMIT_FSIZE here; beyond it the kernel would end the process. */
static int64_t file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur > (rlim_t)INT64_MAX) return INT64_MAX;
    return (int64_t)limit.rlim_cur;
}

static ferry_status check_limit(const ferry_output *output)
{
    if (output->planned <= output->limit) return FERRY_OK;
    char need[32], most[32];
    return ferry_fail(FERRY_E_RUN, "%s: it needs up to %s, but files may have %s here (ulimit -f); raise the limit",
                      output->partial, ferry_size_text(need, (double)output->planned),
                      ferry_size_text(most, (double)output->limit));
}

static ferry_status disk_full(const ferry_output *output, int64_t bytes, const char *why)
{
    struct statvfs disk;
    char need[32], left[32] = "unknown";
    if (!fstatvfs(output->reserve, &disk)) ferry_size_text(left, (double)disk.f_bavail * (double)disk.f_frsize);
    return ferry_fail(FERRY_E_RUN,
                      "%s: no room on the disk: %s; the next part needs up to %s and %s are free; make room, or name "
                      "an output on another disk",
                      output->partial, why, ferry_size_text(need, (double)bytes), left);
}

/* fallocate really takes the room; where the file system has no fallocate, look at what is free. */
static ferry_status take_room(ferry_output *output, int64_t bytes)
{
    int64_t from = output->reserved;
    if (output->planned <= from) return FERRY_OK;
    if (!fallocate(output->reserve, FALLOC_FL_KEEP_SIZE, from, output->planned - from)) {
        output->reserved = output->planned;
        return FERRY_OK;
    }
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return disk_full(output, bytes, strerror(errno));
    struct statvfs disk;
    if (fstatvfs(output->reserve, &disk) || (double)disk.f_bavail * (double)disk.f_frsize >= (double)bytes)
        return FERRY_OK;
    return disk_full(output, bytes, strerror(ENOSPC));
}

ferry_status ferry_reserve(ferry_output *output, int64_t bytes)
{
    if (output->world->rank) return FERRY_OK;
    bytes += bytes / 64 + SLACK;
    output->planned += bytes;
    FERRY_TRY(check_limit(output));
    return take_room(output, bytes);
}

/* HDF5 has just set the length of the file, which gave back what was reserved beyond it. */
static void after_flush(ferry_output *output)
{
    struct stat info;
    output->reserved = 0;
    if (output->reserve >= 0 && !fstat(output->reserve, &info)) output->planned = info.st_size;
}

/* ---- open ---- */

/* Rank 0. Bytes of another file. */
static ferry_status copy_bytes(ferry_output *output, const char *source, int from, int64_t length)
{
    FERRY_AUTO char *part = NULL;
    int64_t done = 0;
    FERRY_TRY(ferry_alloc(&part, COPIED));
    FERRY_TRY(ferry_reserve(output, length));
    while (done < length) {
        const ssize_t got = pread(from, part, COPIED, done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            return ferry_fail(FERRY_E_FILE, "%s: cannot be read at byte %lld of %lld: %s", source, (long long)done,
                              (long long)length, got ? strerror(errno) : "it has become shorter");
        for (ssize_t at = 0; at < got;) {
            const ssize_t put = pwrite(output->reserve, part + at, (size_t)(got - at), done + at);
            if (put < 0 && errno == EINTR) continue;
            if (put <= 0)
                return ferry_fail(FERRY_E_RUN, "%s: cannot be written: %s; make room on the disk", output->partial,
                                  strerror(errno));
            at += put;
        }
        done += got;
    }
    ferry_stage_read(length);
    ferry_stage_wrote(length);
    return FERRY_OK;
}

static ferry_status copy_file(ferry_output *output, const char *source)
{
    struct stat info;
    const int from = open(source, O_RDONLY | O_CLOEXEC);
    if (from < 0) return ferry_fail(FERRY_E_FILE, "%s: cannot be read: %s", source, strerror(errno));
    ferry_status status = fstat(from, &info) ? ferry_fail(FERRY_E_FILE, "%s: %s", source, strerror(errno)) : FERRY_OK;
    if (status == FERRY_OK) status = copy_bytes(output, source, from, (int64_t)info.st_size);
    close(from);
    return status;
}

/* Rank 0 makes the file, so that what is wrong with name, folder or disk is one error of one rank. */
static ferry_status make_file(ferry_output *output, const char *source)
{
    if (output->world->rank) return FERRY_OK;
    FERRY_TRY(ferry_target_check(output->path, output->overwrite));
    if (unlink(output->partial) && errno != ENOENT)
        return ferry_fail(FERRY_E_FILE, "%s: cannot be replaced: %s; remove it", output->partial, strerror(errno));
    output->reserve = open(output->partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (output->reserve < 0)
        return ferry_fail(FERRY_E_FILE, "%s: cannot be made: %s; name an output in another folder", output->partial,
                          strerror(errno));
    return source ? copy_file(output, source) : ferry_reserve(output, 0);
}

static ferry_status see_file(const ferry_output *output)
{
    struct stat info;
    if (!stat(output->partial, &info)) return FERRY_OK;
    char host[256] = "?";
    gethostname(host, sizeof host - 1);
    return ferry_fail(FERRY_E_FILE,
                      "%s: rank 0 made it, but rank %d on %s does not see it (%s); name an output in a "
                      "folder that all nodes share",
                      output->partial, output->world->rank, host, strerror(errno));
}

static ferry_status new_output(ferry_output **out, const ferry_world *world, const char *path, bool overwrite)
{
    if (!path || !path[0]) return ferry_fail(FERRY_E_ARG, "the output has no name: give a file name");
    ferry_output *output = NULL;
    FERRY_TRY(ferry_alloc(&output, 1));
    output->world = world;
    output->overwrite = overwrite;
    output->file = output->transfer = -1;
    output->reserve = -1;
    *out = output;
    int64_t length = (int64_t)strlen(path);
    FERRY_TRY(ferry_alloc(&output->path, length + 1));
    FERRY_TRY(ferry_alloc(&output->partial, length + 9));
    memcpy(output->path, path, (size_t)length + 1);
    sprintf(output->partial, "%s.partial", path);
    return FERRY_OK;
}

/* Metadata stays in memory from flush to flush: it is small (one entry a chunk), and what is on the disk stays whole.
 */
static void keep_metadata(hid_t access)
{
    H5AC_cache_config_t cache = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    if (H5Pget_mdc_config(access, &cache) < 0) return;
    cache.set_initial_size = true;
    cache.initial_size = cache.min_size = (size_t)32 << 20;
    cache.max_size = (size_t)64 << 20;
    cache.dirty_bytes_threshold = (size_t)16 << 20;
    H5Pset_mdc_config(access, &cache);
}

static ferry_status create_file(ferry_output *output, bool copied)
{
    FERRY_H5_QUIET;
    FERRY_HID access = H5Pcreate(H5P_FILE_ACCESS);
    output->transfer = H5Pcreate(H5P_DATASET_XFER);
    H5Pset_dxpl_mpio(output->transfer, H5FD_MPIO_COLLECTIVE);
    H5Pset_fapl_mpio(access, output->world->comm, MPI_INFO_NULL);
    H5Pset_all_coll_metadata_ops(access, true);
    H5Pset_coll_metadata_write(access, true);
    keep_metadata(access);
    output->file = copied ? H5Fopen(output->partial, H5F_ACC_RDWR, access)
                          : H5Fcreate(output->partial, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    if (output->file < 0) return ferry_write_fail(output, "", copied ? "cannot be opened" : "cannot be made");
    int64_t one = 1;
    FERRY_TRY(ferry_put_values(output, "", output->file, FERRY_MARK, H5T_STD_I64LE, -1, &one));
    return ferry_flush(output);
}

static ferry_status open_output(ferry_output *output, const char *source)
{
    const ferry_world *world = output->world;
    output->limit = ferry_min(world, file_limit());
    FERRY_TRY(ferry_agree(world, make_file(output, source)));
    FERRY_TRY(ferry_agree(world, see_file(output)));
    return ferry_agree(world, create_file(output, source != NULL));
}

static ferry_status open_or_copy(ferry_output **out, const ferry_world *world, const char *path, bool overwrite,
                                 const char *source)
{
    ferry_output *output = NULL;
    *out = NULL;
    ferry_status status = ferry_agree(world, new_output(&output, world, path, overwrite));
    if (status == FERRY_OK) status = ferry_same(world, "the name of the output", path, strlen(path));
    if (status == FERRY_OK && output) status = open_output(output, source);
    if (status == FERRY_OK)
        *out = output;
    else
        ferry_output_discard(&output);
    return status;
}

ferry_status ferry_output_open(ferry_output **out, const ferry_world *world, const char *path, bool overwrite)
{
    return open_or_copy(out, world, path, overwrite, NULL);
}

ferry_status ferry_output_open_copy(ferry_output **out, const ferry_world *world, const char *path, bool overwrite,
                                    const char *source)
{
    return open_or_copy(out, world, path, overwrite, source);
}

/* ---- close ---- */

static ferry_status close_file(ferry_output *output, bool complete)
{
    FERRY_H5_QUIET;
    ferry_csr_drop(output);
    herr_t bad = 0;
    if (output->transfer >= 0) H5Pclose(output->transfer);
    if (output->file >= 0) {
        if (complete) bad = H5Adelete(output->file, FERRY_MARK);
        if (H5Fclose(output->file) < 0) bad = -1;
    }
    output->file = output->transfer = -1;
    return bad < 0 ? ferry_write_fail(output, "", "closing failed") : FERRY_OK;
}

static void free_output(ferry_output **output)
{
    ferry_output *it = *output;
    if (it->reserve >= 0) close(it->reserve);
    for (int k = 0; k < it->frame_count; k++) ferry_names_close(&it->frames[k].columns);
    free(it->frames);
    free(it->partial);
    free(it->path);
    free(it);
    *output = NULL;
}

ferry_status ferry_output_finish(ferry_output **output)
{
    ferry_output *it = *output;
    const ferry_world *world = it->world;
    ferry_status status =
        it->csr ? ferry_fail(FERRY_E_ARG, "%s: a matrix was not finished before the file", it->path) : FERRY_OK;
    status = ferry_agree(world, status);
    if (status == FERRY_OK) status = ferry_agree(world, ferry_reserve(it, 0));
    if (status == FERRY_OK) status = ferry_agree(world, close_file(it, true));
    if (status != FERRY_OK) {
        ferry_output_discard(output);
        return status;
    }
    if (world->rank == 0) status = ferry_target_rename(it->partial, it->path, it->overwrite);
    free_output(output);
    return ferry_agree(world, status);
}

void ferry_output_discard(ferry_output **output)
{
    if (!*output) return;
    close_file(*output, false);
    if ((*output)->reserve >= 0) unlink((*output)->partial); /* rank 0, when it made the file */
    free_output(output);
}

ferry_status ferry_flush(ferry_output *output)
{
    if (H5Fflush(output->file, H5F_SCOPE_GLOBAL) < 0) return ferry_write_fail(output, "", "writing failed");
    output->unflushed = 0;
    after_flush(output);
    return FERRY_OK;
}

/* ---- groups and attributes ---- */

ferry_status ferry_path(char out[FERRY_PATH], const char *path)
{
    while (path && *path == '/') path++;
    size_t length = path ? strlen(path) : 0;
    while (length && path[length - 1] == '/') length--;
    if (length >= FERRY_PATH)
        return ferry_fail(FERRY_E_ARG, "HDF5 path %.60s... is longer than %d bytes", path, FERRY_PATH - 1);
    memset(out, 0, FERRY_PATH);
    if (length) snprintf(out, FERRY_PATH, "%.*s", (int)length, path);
    if (strstr(out, "//")) return ferry_fail(FERRY_E_ARG, "HDF5 path %s has an empty part", out);
    return FERRY_OK;
}

hid_t ferry_text_type(size_t bytes)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes ? bytes : H5T_VARIABLE);
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, bytes ? H5T_STR_NULLPAD : H5T_STR_NULLTERM);
    return type;
}

ferry_status ferry_put_values(ferry_output *output, const char *path, hid_t object, const char *name, hid_t type,
                              int64_t count, const void *values)
{
    if (H5Aexists(object, name) > 0) H5Adelete(object, name);
    hsize_t size = (hsize_t)(count > 0 ? count : 0);
    FERRY_HID space = count < 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &size, NULL);
    FERRY_HID attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute >= 0 && (count == 0 || H5Awrite(attribute, type, values) >= 0)) return FERRY_OK;
    char what[256];
    snprintf(what, sizeof what, "attribute %.150s cannot be written", name);
    return ferry_write_fail(output, path, what);
}

ferry_status ferry_put_text(ferry_output *output, const char *path, hid_t object, const char *name, const char *text)
{
    FERRY_HID type = ferry_text_type(0);
    return ferry_put_values(output, path, object, name, type, -1, &text);
}

ferry_status ferry_put_encoding(ferry_output *output, const char *path, hid_t object, const char *type,
                                const char *version)
{
    if (!type) return FERRY_OK;
    FERRY_TRY(ferry_put_text(output, path, object, "encoding-type", type));
    return ferry_put_text(output, path, object, "encoding-version", version ? version : "0.1.0");
}

static ferry_status put_group(ferry_output *output, const char *path, const char *encoding, const char *version)
{
    FERRY_HID group = !path[0] ? H5Gopen2(output->file, "/", H5P_DEFAULT)
                      : ferry_h5_link(output->file, path)
                          ? H5Gopen2(output->file, path, H5P_DEFAULT)
                          : H5Gcreate2(output->file, path, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    if (group < 0) return ferry_write_fail(output, path, "the group cannot be made");
    return ferry_put_encoding(output, path, group, encoding, version);
}

ferry_status ferry_parents(ferry_output *output, const char *path)
{
    char part[FERRY_PATH] = "";
    for (size_t i = 1; path[0] && path[i]; i++) {
        if (path[i] != '/') continue;
        memcpy(part, path, i);
        if (!ferry_h5_link(output->file, part)) FERRY_TRY(put_group(output, part, "dict", "0.1.0"));
    }
    return FERRY_OK;
}

static ferry_status make_group(ferry_output *output, const char *path, const char *encoding, const char *version)
{
    FERRY_H5_QUIET;
    FERRY_TRY(ferry_parents(output, path));
    return put_group(output, path, encoding, version);
}

static ferry_status remove_link(ferry_output *output, const char *path)
{
    FERRY_H5_QUIET;
    for (int k = 0; k < output->frame_count; k++) {
        const size_t length = strlen(output->frames[k].path);
        if (!strncmp(path, output->frames[k].path, length) && path[length] == '/')
            FERRY_TRY(ferry_frame_forget(&output->frames[k], path + length + 1));
    }
    if (!path[0] || !ferry_h5_link(output->file, path)) return FERRY_OK;
    return H5Ldelete(output->file, path, H5P_DEFAULT) < 0 ? ferry_write_fail(output, path, "it cannot be removed")
                                                          : FERRY_OK;
}

ferry_status ferry_output_remove(ferry_output *output, const char *path)
{
    char at[FERRY_PATH];
    FERRY_TRY(ferry_agree(output->world, ferry_path(at, path)));
    FERRY_TRY(ferry_same(output->world, "the path of what is removed", at, sizeof at));
    return ferry_agree(output->world, remove_link(output, at));
}

ferry_status ferry_output_group(ferry_output *output, const char *path, const char *encoding, const char *version)
{
    char at[FERRY_PATH];
    FERRY_TRY(ferry_agree(output->world, ferry_path(at, path)));
    FERRY_TRY(ferry_same(output->world, "the path of a group", at, sizeof at));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, 0)));
    return ferry_agree(output->world, make_group(output, at, encoding, version));
}

/* Rank 0's text to all. */
static ferry_status share_text(char **out, const ferry_world *world, const char *text)
{
    int64_t length = text ? (int64_t)strlen(text) : 0;
    ferry_broadcast(world, &length, sizeof length, 0);
    FERRY_TRY(ferry_agree(world, ferry_alloc(out, length + 1)));
    if (world->rank == 0 && text) memcpy(*out, text, (size_t)length);
    ferry_broadcast(world, *out, (size_t)length, 0);
    return FERRY_OK;
}

static ferry_status attribute(ferry_output *output, const char *path, const char *name, const char *text, double value)
{
    FERRY_H5_QUIET;
    FERRY_HID object = H5Oopen(output->file, path[0] ? path : "/", H5P_DEFAULT);
    if (object < 0) return ferry_fail(FERRY_E_ARG, "%s: %s is not there to take %s", output->partial, path, name);
    if (text) return ferry_put_text(output, path, object, name, text);
    return ferry_put_values(output, path, object, name, H5T_NATIVE_DOUBLE, -1, &value);
}

ferry_status ferry_output_attribute_text(ferry_output *output, const char *path, const char *name, const char *text)
{
    char at[FERRY_PATH];
    FERRY_AUTO char *all = NULL;
    FERRY_TRY(ferry_agree(output->world, ferry_path(at, path)));
    FERRY_TRY(ferry_same(output->world, "the path of an attribute", at, sizeof at));
    FERRY_TRY(share_text(&all, output->world, text));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, (int64_t)strlen(all))));
    return ferry_agree(output->world, attribute(output, at, name, all, 0));
}

ferry_status ferry_output_attribute_number(ferry_output *output, const char *path, const char *name, double value)
{
    char at[FERRY_PATH];
    FERRY_TRY(ferry_agree(output->world, ferry_path(at, path)));
    FERRY_TRY(ferry_same(output->world, "the path of an attribute", at, sizeof at));
    ferry_broadcast(output->world, &value, sizeof value, 0);
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, 0)));
    return ferry_agree(output->world, attribute(output, at, name, NULL, value));
}

/* ---- scalars ---- */

/* Rank 0 writes the one element. */
static ferry_status put_scalar(ferry_output *output, const char *path, hid_t type, hid_t memory, const void *value,
                               const char *encoding)
{
    FERRY_HID space = H5Screate(H5S_SCALAR);
    FERRY_HID plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
    FERRY_HID dataset = H5Dcreate2(output->file, path, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (dataset < 0) return ferry_write_fail(output, path, "the dataset cannot be made");
    FERRY_TRY(ferry_put_encoding(output, path, dataset, encoding, "0.2.0"));
    if (output->world->rank) H5Sselect_none(space);
    if (H5Dwrite(dataset, memory, space, space, output->transfer, value) < 0)
        return ferry_write_fail(output, path, "writing failed");
    return FERRY_OK;
}

static ferry_status scalar(ferry_output *output, const char *path, const char *text, double value, int64_t count,
                           char kind)
{
    FERRY_H5_QUIET;
    FERRY_TRY(ferry_parents(output, path));
    if (ferry_h5_link(output->file, path))
        return ferry_fail(FERRY_E_ARG, "%s: %s is written twice", output->partial, path);
    if (kind == 'd') return put_scalar(output, path, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value, "numeric-scalar");
    if (kind == 'i') return put_scalar(output, path, H5T_STD_I64LE, H5T_NATIVE_INT64, &count, "numeric-scalar");
    FERRY_HID type = ferry_text_type(text[0] ? strlen(text) : 1); /* "" is one NUL; anndata strips it */
    return put_scalar(output, path, type, type, text, "string");
}

static ferry_status write_scalar(ferry_output *output, const char *path, const char *text, double value, int64_t count,
                                 char kind)
{
    char at[FERRY_PATH];
    FERRY_TRY(ferry_agree(output->world, ferry_path(at, path)));
    FERRY_TRY(ferry_same(output->world, "the path of a scalar", at, sizeof at));
    FERRY_TRY(ferry_agree(output->world, ferry_reserve(output, text ? (int64_t)strlen(text) : 8)));
    return ferry_agree(output->world, scalar(output, at, text, value, count, kind));
}

ferry_status ferry_output_number(ferry_output *output, const char *path, double value)
{
    return write_scalar(output, path, NULL, value, 0, 'd');
}

ferry_status ferry_output_count(ferry_output *output, const char *path, int64_t value)
{
    return write_scalar(output, path, NULL, 0, value, 'i');
}

ferry_status ferry_output_text(ferry_output *output, const char *path, const char *text)
{
    FERRY_AUTO char *all = NULL;
    FERRY_TRY(share_text(&all, output->world, text));
    return write_scalar(output, path, all, 0, 0, 't');
}
