/* Records wait in one pool for all buckets, chained by bucket, so that a bucket that gets much uses more of the memory;
 * a full pool is written out bucket by bucket, each bucket's records in one or a few long writes. */
#define _GNU_SOURCE /* O_TMPFILE, fallocate */
#include "scratch.h"
#include "mpi/stage.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define STAGING ((int64_t)256 << 10) /* bytes of one write of pooled records */
#define WAY_OUT "free some room, or name a folder on another disk with --spill"

/* Records on their way: slot i belongs to a chain that begins at head[bucket]. */
typedef struct pool {
    int64_t room, used;
    char *records;       /* [room] of `size` bytes */
    int32_t *next;       /* [room] */
    int32_t *head, *end; /* [buckets] first and last slot, -1: none */
    char *staging;
} pool;

struct ferry_scratch {
    int file;
    char folder[PATH_MAX - 32], path[PATH_MAX]; /* path: "" once the name is gone */
    bool shared, nodes;                         /* of several ranks; on several nodes */
    size_t size;
    int64_t buckets, buffer;
    int64_t *first; /* [buckets + 1] in records */
    int64_t *done;  /* [buckets] records in the file */
    int64_t *come;  /* [buckets] the same and what waits in the pool */
    pool pool;
};

/* ---- the file ---- */

static const char *folder_of(const char *folder)
{
    if (folder && *folder) return folder;
    folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/tmp";
}

static int64_t bytes_of(const ferry_scratch *it)
{
    return it->first[it->buckets] * (int64_t)it->size;
}

static ferry_status no_folder(const ferry_scratch *it)
{
    return ferry_fail(FERRY_E_FILE, "%s: no scratch file can be made there: %s; name another folder with --spill",
                      it->folder, strerror(errno));
}

static ferry_status no_room(const ferry_scratch *it, int why)
{
    struct statvfs disk;
    char need[32], left[32] = "unknown room";
    if (!fstatvfs(it->file, &disk)) ferry_size_text(left, (double)disk.f_bavail * (double)disk.f_frsize);
    return ferry_fail(FERRY_E_RUN, "%s: a scratch file of %s does not fit: %s (%s free); " WAY_OUT, it->folder,
                      ferry_size_text(need, (double)bytes_of(it)), strerror(why), left);
}

/* Beyond RLIMIT_FSIZE the kernel would end the process. */
static ferry_status check_limit(const ferry_scratch *it)
{
    struct rlimit limit;
    char need[32], most[32];
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= (rlim_t)bytes_of(it))
        return FERRY_OK;
    return ferry_fail(
        FERRY_E_RUN, "%s: a scratch file of %s is needed, but files may have %s here (ulimit -f); raise the limit",
        it->folder, ferry_size_text(need, (double)bytes_of(it)), ferry_size_text(most, (double)limit.rlim_cur));
}

/* fallocate takes the room; where the file system has no fallocate, look at what is free. */
static ferry_status reserve(const ferry_scratch *it)
{
    const int64_t bytes = bytes_of(it);
    if (bytes == 0) return FERRY_OK;
    FERRY_TRY(check_limit(it));
    if (!fallocate(it->file, 0, 0, bytes)) return FERRY_OK;
    if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) return no_room(it, errno);
    struct statvfs disk;
    if (!fstatvfs(it->file, &disk) && (double)disk.f_bavail * (double)disk.f_frsize < (double)bytes)
        return no_room(it, ENOSPC);
    return ftruncate(it->file, bytes) ? no_room(it, errno) : FERRY_OK;
}

/* A file with a name. */
static ferry_status make_named(ferry_scratch *it)
{
    snprintf(it->path, sizeof it->path, "%s/cellferry-XXXXXX", it->folder);
    it->file = mkostemp(it->path, O_CLOEXEC);
    if (it->file >= 0) return FERRY_OK;
    it->path[0] = '\0';
    return no_folder(it);
}

static void drop_name(ferry_scratch *it)
{
    if (it->path[0]) unlink(it->path);
    it->path[0] = '\0';
}

static ferry_status make_nameless(ferry_scratch *it)
{
    it->file = open(it->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (it->file >= 0) return FERRY_OK;
    FERRY_TRY(make_named(it)); /* a file system without O_TMPFILE */
    drop_name(it);
    return FERRY_OK;
}

/* ---- open, close ---- */

static ferry_status new_scratch(ferry_scratch **out, const char *folder, const int64_t *lengths, int64_t buckets,
                                size_t size, int64_t buffer)
{
    ferry_scratch *it = NULL;
    FERRY_TRY(ferry_alloc(&it, 1));
    *out = it;
    it->file = -1;
    it->size = size;
    it->buckets = buckets;
    it->buffer = buffer;
    folder = folder_of(folder);
    if (strlen(folder) >= sizeof it->folder)
        return ferry_fail(FERRY_E_ARG, "--spill %.60s...: the name of the folder is too long", folder);
    snprintf(it->folder, sizeof it->folder, "%s", folder);
    FERRY_TRY(ferry_alloc(&it->first, buckets + 1));
    FERRY_TRY(ferry_alloc(&it->done, buckets));
    FERRY_TRY(ferry_alloc(&it->come, buckets));
    for (int64_t b = 0; b < buckets; b++) it->first[b + 1] = it->first[b] + lengths[b];
    return FERRY_OK;
}

static ferry_status open_alone(ferry_scratch **out, const char *folder, const int64_t *lengths, int64_t buckets,
                               size_t size, int64_t buffer)
{
    FERRY_TRY(new_scratch(out, folder, lengths, buckets, size, buffer));
    FERRY_TRY(make_nameless(*out));
    return reserve(*out);
}

ferry_status ferry_scratch_open(ferry_scratch **out, const char *folder, const int64_t *lengths, int64_t buckets,
                                size_t size, int64_t buffer)
{
    *out = NULL;
    ferry_status status = open_alone(out, folder, lengths, buckets, size, buffer);
    if (status != FERRY_OK) ferry_scratch_close(out);
    return status;
}

/* The file that rank 0 has made and enlarged. */
static ferry_status join(ferry_scratch *it, const char *path)
{
    struct stat info;
    it->file = open(path, O_RDWR | O_CLOEXEC);
    if (it->file >= 0 && !fstat(it->file, &info) && info.st_size == bytes_of(it)) return FERRY_OK;
    char host[256] = "?";
    gethostname(host, sizeof host - 1);
    return ferry_fail(FERRY_E_FILE,
                      "%s: rank 0 made a scratch file there, but %s does not see it (%s); name a folder that all nodes "
                      "share with --spill",
                      it->folder, host, it->file < 0 ? strerror(errno) : "another file");
}

/* Collective. */
static ferry_status open_on_all(ferry_scratch *it, const ferry_world *world)
{
    char path[PATH_MAX] = "";
    it->shared = true;
    it->nodes = world->nodes > 1;
    ferry_status status = FERRY_OK;
    if (world->rank == 0) {
        status = make_named(it);
        if (status == FERRY_OK) status = reserve(it);
        snprintf(path, sizeof path, "%s", it->path);
    }
    FERRY_TRY(ferry_agree(world, status));
    ferry_broadcast(world, path, sizeof path, 0);
    FERRY_TRY(ferry_agree(world, world->rank == 0 ? FERRY_OK : join(it, path)));
    if (!it->nodes) drop_name(it); /* all have it open */
    return FERRY_OK;
}

ferry_status ferry_scratch_open_shared(ferry_scratch **out, const ferry_world *world, const char *folder,
                                       const int64_t *lengths, int64_t buckets, size_t size, int64_t buffer)
{
    *out = NULL;
    ferry_status status = ferry_agree(world, new_scratch(out, folder, lengths, buckets, size, buffer));
    if (status == FERRY_OK && *out) status = open_on_all(*out, world);
    if (status != FERRY_OK) ferry_scratch_close(out);
    return status;
}

static void close_pool(pool *it)
{
    free(it->records);
    free(it->next);
    free(it->head);
    free(it->end);
    free(it->staging);
    *it = (pool){0};
}

void ferry_scratch_close(ferry_scratch **scratch)
{
    ferry_scratch *it = *scratch;
    if (!it) return;
    drop_name(it);
    if (it->file >= 0) close(it->file);
    close_pool(&it->pool);
    free(it->first);
    free(it->done);
    free(it->come);
    free(it);
    *scratch = NULL;
}

/* ---- bytes ---- */

static ferry_status write_all(const ferry_scratch *it, const char *from, int64_t bytes, int64_t at)
{
    for (int64_t done = 0; done < bytes;) {
        const ssize_t n = pwrite(it->file, from + done, (size_t)(bytes - done), (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return ferry_fail(FERRY_E_RUN, "%s: writing a scratch file failed: %s; " WAY_OUT, it->folder,
                              n ? strerror(errno) : "nothing was written");
        done += n;
    }
    ferry_stage_wrote(bytes);
    return FERRY_OK;
}

static ferry_status read_all(const ferry_scratch *it, char *to, int64_t bytes, int64_t at)
{
    for (int64_t done = 0; done < bytes;) {
        const ssize_t n = pread(it->file, to + done, (size_t)(bytes - done), (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return ferry_fail(FERRY_E_RUN,
                              "%s: reading a scratch file failed: %s; check the disk, or name another "
                              "folder with --spill",
                              it->folder, n ? strerror(errno) : "it has become shorter");
        done += n;
    }
    ferry_stage_read(bytes);
    return FERRY_OK;
}

static ferry_status check_range(const ferry_scratch *it, int64_t bucket, int64_t first, int64_t count)
{
    if (bucket >= 0 && bucket < it->buckets && first >= 0 && count >= 0 &&
        first <= it->first[bucket + 1] - it->first[bucket] - count)
        return FERRY_OK;
    return ferry_fail(FERRY_E_ARG, "scratch file: records %lld to %lld of bucket %lld, which has %lld",
                      (long long)first, (long long)(first + count), (long long)bucket,
                      bucket >= 0 && bucket < it->buckets ? (long long)(it->first[bucket + 1] - it->first[bucket])
                                                          : -1);
}

static int64_t place(const ferry_scratch *it, int64_t bucket, int64_t record)
{
    return (it->first[bucket] + record) * (int64_t)it->size;
}

ferry_status ferry_scratch_read(const ferry_scratch *scratch, int64_t bucket, int64_t first, int64_t count,
                                void *records)
{
    FERRY_TRY(check_range(scratch, bucket, first, count));
    return read_all(scratch, records, count * (int64_t)scratch->size, place(scratch, bucket, first));
}

ferry_status ferry_scratch_write(ferry_scratch *scratch, int64_t bucket, int64_t first, int64_t count,
                                 const void *records)
{
    FERRY_TRY(check_range(scratch, bucket, first, count));
    return write_all(scratch, records, count * (int64_t)scratch->size, place(scratch, bucket, first));
}

/* ---- appends ---- */

static ferry_status open_pool(ferry_scratch *it)
{
    pool *p = &it->pool;
    const int64_t each = (int64_t)it->size + (int64_t)sizeof *p->next;
    int64_t room = (it->buffer - STAGING - it->buckets * 8) / each;
    if (room > it->first[it->buckets]) room = it->first[it->buckets];
    if (room > INT32_MAX) room = INT32_MAX;
    if (room < 1) room = 1;
    FERRY_TRY(ferry_alloc_bytes(&p->records, room, it->size));
    FERRY_TRY(ferry_alloc(&p->next, room));
    FERRY_TRY(ferry_alloc(&p->head, it->buckets));
    FERRY_TRY(ferry_alloc(&p->end, it->buckets));
    FERRY_TRY(ferry_alloc_bytes(&p->staging, STAGING / (int64_t)it->size + 1, it->size));
    for (int64_t b = 0; b < it->buckets; b++) p->head[b] = p->end[b] = -1;
    p->room = room;
    p->used = 0;
    return FERRY_OK;
}

static void pool_add(ferry_scratch *it, int64_t bucket, const char *record)
{
    pool *p = &it->pool;
    const int32_t slot = (int32_t)p->used++;
    memcpy(p->records + (size_t)slot * it->size, record, it->size);
    p->next[slot] = -1;
    if (p->head[bucket] < 0)
        p->head[bucket] = slot;
    else
        p->next[p->end[bucket]] = slot;
    p->end[bucket] = slot;
}

static ferry_status empty_bucket(ferry_scratch *it, int64_t bucket)
{
    pool *p = &it->pool;
    const int64_t most = STAGING / (int64_t)it->size + 1;
    for (int32_t slot = p->head[bucket]; slot >= 0;) {
        int64_t n = 0;
        for (; slot >= 0 && n < most; slot = p->next[slot])
            memcpy(p->staging + (size_t)n++ * it->size, p->records + (size_t)slot * it->size, it->size);
        FERRY_TRY(write_all(it, p->staging, n * (int64_t)it->size, place(it, bucket, it->done[bucket])));
        it->done[bucket] += n;
    }
    p->head[bucket] = p->end[bucket] = -1;
    return FERRY_OK;
}

static ferry_status empty_pool(ferry_scratch *it)
{
    if (it->pool.used)
        for (int64_t b = 0; b < it->buckets; b++) FERRY_TRY(empty_bucket(it, b));
    it->pool.used = 0;
    return FERRY_OK;
}

/* Records that fill a good part of the pool go to the file as they are. */
static ferry_status append_direct(ferry_scratch *it, int64_t bucket, const void *records, int64_t count)
{
    FERRY_TRY(empty_bucket(it, bucket)); /* its slots stay unused until the pool is emptied */
    FERRY_TRY(ferry_scratch_write(it, bucket, it->done[bucket], count, records));
    it->done[bucket] += count;
    return FERRY_OK;
}

ferry_status ferry_scratch_append(ferry_scratch *scratch, int64_t bucket, const void *records, int64_t count)
{
    if (count == 0) return FERRY_OK;
    FERRY_TRY(check_range(scratch, bucket, 0, count));
    FERRY_TRY(check_range(scratch, bucket, scratch->come[bucket], count));
    pool *p = &scratch->pool;
    if (!p->room) FERRY_TRY(open_pool(scratch));
    scratch->come[bucket] += count;
    if (count > p->room / 4) return append_direct(scratch, bucket, records, count);
    for (int64_t i = 0; i < count; i++) {
        if (p->used == p->room) FERRY_TRY(empty_pool(scratch));
        pool_add(scratch, bucket, (const char *)records + (size_t)i * scratch->size);
    }
    return FERRY_OK;
}

ferry_status ferry_scratch_flush(ferry_scratch *scratch)
{
    FERRY_TRY(empty_pool(scratch));
    close_pool(&scratch->pool);
    return FERRY_OK;
}

/* Ranks of one node see each other's writes at once; other nodes when they are at the file's server. */
static ferry_status make_visible(ferry_scratch *it)
{
    FERRY_TRY(ferry_scratch_flush(it));
    if (it->nodes && fdatasync(it->file))
        return ferry_fail(FERRY_E_RUN, "%s: a scratch file cannot be brought to the disk: %s; " WAY_OUT, it->folder,
                          strerror(errno));
    return FERRY_OK;
}

ferry_status ferry_scratch_share(ferry_scratch *scratch, const ferry_world *world)
{
    return ferry_agree(world, make_visible(scratch));
}
