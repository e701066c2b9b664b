/* Where a result goes: checks before the work, and the rename that makes it visible when it is complete. */
#include "write_impl.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder of path: "." when it has none. */
static ferry_status folder_of(char **out, const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 1;
    if (slash == path) length = 1; /* the root folder */
    FERRY_TRY(ferry_alloc(out, (int64_t)length + 1));
    memcpy(*out, slash ? path : ".", length);
    return FERRY_OK;
}

static ferry_status folder_check(const char *path)
{
    FERRY_AUTO char *folder = NULL;
    FERRY_TRY(folder_of(&folder, path));
    struct stat info;
    if (stat(folder, &info))
        return ferry_fail(FERRY_E_FILE, "%s: the folder %s cannot be used: %s; make it, or name another", path, folder,
                          strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return ferry_fail(FERRY_E_FILE, "%s: %s is a file, not a folder; name another folder", path, folder);
    if (access(folder, W_OK | X_OK))
        return ferry_fail(FERRY_E_FILE, "%s: the folder %s is not writable: %s; name another folder", path, folder,
                          strerror(errno));
    return FERRY_OK;
}

ferry_status ferry_target_check(const char *path, bool overwrite)
{
    if (!path || !path[0]) return ferry_fail(FERRY_E_ARG, "the output has no name: give a file name");
    struct stat info;
    if (!stat(path, &info)) {
        if (S_ISDIR(info.st_mode)) return ferry_fail(FERRY_E_FILE, "%s is a folder: name a file in it", path);
        if (!S_ISREG(info.st_mode))
            return ferry_fail(FERRY_E_FILE, "%s is not an ordinary file: name another output", path);
        if (!overwrite)
            return ferry_fail(FERRY_E_FILE, "%s exists already: use --overwrite to replace it, or name another output",
                              path);
    } else if (errno != ENOENT && errno != ENOTDIR) {
        return ferry_fail(FERRY_E_FILE, "%s: %s; name another output", path, strerror(errno));
    }
    if (path[strlen(path) - 1] == '/') return ferry_fail(FERRY_E_FILE, "%s is no file name: name a file in it", path);
    return folder_check(path);
}

ferry_status ferry_output_check(const char *path, bool overwrite)
{
    return ferry_target_check(path, overwrite);
}

/* FERRY_NO_SYNC in the environment: do not wait for the disk. Tests write hundreds of small files, and each would wait
 * for whatever else the machine has to bring to its disk. */
static int wait_for_disk(int file)
{
    return getenv("FERRY_NO_SYNC") ? 0 : fsync(file);
}

/* Data first, then the name: after a crash of the machine the name leads to the whole file or to the old one. */
static ferry_status sync_and_rename(const char *partial, const char *path)
{
    FERRY_AUTO char *folder = NULL;
    FERRY_TRY(folder_of(&folder, path));
    int file = open(partial, O_RDWR | O_CLOEXEC);
    if (file < 0) return ferry_fail(FERRY_E_RUN, "%s: cannot open it again: %s", partial, strerror(errno));
    struct stat info; /* cutting the file to its own length gives back what ferry_reserve took beyond its end */
    int failed = fstat(file, &info) || ftruncate(file, info.st_size) || wait_for_disk(file) ? errno : 0;
    if (close(file) && !failed) failed = errno;
    if (failed)
        return ferry_fail(FERRY_E_RUN, "%s: cannot bring it to the disk: %s; make room, then run again", partial,
                          strerror(failed));
    if (rename(partial, path))
        return ferry_fail(FERRY_E_RUN, "%s: cannot rename it to %s: %s", partial, path, strerror(errno));
    int directory = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        wait_for_disk(directory); /* some file systems refuse; the rename holds */
        close(directory);
    }
    return FERRY_OK;
}

ferry_status ferry_target_rename(const char *partial, const char *path, bool overwrite)
{
    ferry_status status = ferry_target_check(path, overwrite); /* the run was long: look again */
    if (status == FERRY_OK) status = sync_and_rename(partial, path);
    if (status != FERRY_OK) unlink(partial);
    return status;
}
