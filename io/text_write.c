/* Texts such as CSV, JSON and gnuplot scripts: rank 0 writes, all ranks learn how it went. */
#include "write_impl.h"
#include "mpi/stage.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static ferry_status write_all(const char *partial, const char *text, size_t length)
{
    struct rlimit limit; /* beyond it the kernel would end the process */
    if (!getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur != RLIM_INFINITY && length > limit.rlim_cur)
        return ferry_fail(FERRY_E_RUN, "%s: %zu bytes are more than files may have here (ulimit -f); raise it", partial,
                          length);
    int file = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (file < 0) return ferry_fail(FERRY_E_FILE, "%s: cannot be written: %s", partial, strerror(errno));
    int failed = 0;
    for (size_t at = 0; at < length && !failed;) {
        ssize_t wrote = write(file, text + at, length - at);
        if (wrote > 0)
            at += (size_t)wrote;
        else if (wrote == 0 || errno != EINTR)
            failed = wrote ? errno : EIO;
    }
    if (close(file) && !failed) failed = errno;
    if (!failed) return FERRY_OK;
    unlink(partial);
    return ferry_fail(FERRY_E_RUN, "%s: writing failed: %s; make room, then run again", partial, strerror(failed));
}

/* Local, rank 0. */
static ferry_status write_text(const char *path, bool overwrite, const char *text, size_t length)
{
    FERRY_TRY(ferry_target_check(path, overwrite));
    FERRY_AUTO char *partial = NULL;
    FERRY_TRY(ferry_alloc(&partial, (int64_t)strlen(path) + 9));
    sprintf(partial, "%s.partial", path);
    FERRY_TRY(write_all(partial, text, length));
    FERRY_TRY(ferry_target_rename(partial, path, overwrite));
    ferry_stage_wrote((int64_t)length);
    return FERRY_OK;
}

ferry_status ferry_text_write(const ferry_world *world, const char *path, bool overwrite, const char *text,
                              size_t length)
{
    return ferry_agree(world, world->rank ? FERRY_OK : write_text(path, overwrite, text, length));
}
