/* Memory that the ranks of a node share. MPI keeps a shared window in a file of /dev/shm, which containers often limit
 * to 64 MiB; writing beyond that kills the process. So room is looked for first, and where there is too little the
 * window is a mapped, already unlinked file in the folder for temporary files. */
#define _GNU_SOURCE /* MAP_SHARED files, mkstemp */
#include "mpi/memory.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char shared_folder[] = "/dev/shm";

/* FERRY_SHARED_ROOM=<bytes> stands for what /dev/shm has left, for tests. */
static int64_t room_in(const char *folder)
{
    const char *said = getenv("FERRY_SHARED_ROOM");
    if (said && folder == shared_folder) return strtoll(said, NULL, 10);
    struct statvfs fs;
    return statvfs(folder, &fs) == 0 ? (int64_t)fs.f_bavail * (int64_t)fs.f_frsize : -1;
}

static const char *temporary_folder(void)
{
    const char *folder = getenv("TMPDIR");
    return folder && *folder ? folder : "/tmp";
}

/* Local, first rank. Where the window goes: *mapped says whether into a file of our own. */
static ferry_status choose(int *mapped, size_t bytes)
{
    char need[32], shared[32], temporary[32];
    int64_t in_shared = room_in(shared_folder), in_temporary = room_in(temporary_folder());
    const int64_t wanted = (int64_t)bytes + ((int64_t)1 << 20); /* MPI's own head */
    *mapped = 0;
    if (in_shared < 0 || in_shared >= wanted) return FERRY_OK; /* no such folder: MPI has another place */
    *mapped = 1;
    if (in_temporary >= wanted) return FERRY_OK;
    return ferry_fail(FERRY_E_MEM,
                      "no room for %s shared by the ranks of a node: %s has %s left and %s has %s; enlarge /dev/shm "
                      "(docker run --shm-size), or set TMPDIR to a folder with room",
                      ferry_size_text(need, (double)bytes), shared_folder, ferry_size_text(shared, (double)in_shared),
                      temporary_folder(), ferry_size_text(temporary, (double)(in_temporary < 0 ? 0 : in_temporary)));
}

static ferry_status create_file(int *fd, char path[PATH_MAX], size_t bytes)
{
    snprintf(path, PATH_MAX, "%s/cellferry-XXXXXX", temporary_folder());
    *fd = mkstemp(path);
    if (*fd < 0) return ferry_fail(FERRY_E_MEM, "cannot create %s: %s; set TMPDIR", path, strerror(errno));
    int error = posix_fallocate(*fd, 0, (off_t)bytes); /* takes the blocks now: a later fault would be a SIGBUS */
    if (!error) return FERRY_OK;
    unlink(path);
    close(*fd);
    *fd = -1;
    return ferry_fail(FERRY_E_MEM, "cannot enlarge %s to %zu bytes: %s; set TMPDIR", path, bytes, strerror(error));
}

static ferry_status map_file(ferry_window *out, int fd, size_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return ferry_fail(FERRY_E_MEM, "cannot map %zu shared bytes: %s", bytes, strerror(errno));
    out->base = base;
    return FERRY_OK;
}

static ferry_status open_and_map(ferry_window *out, const char *path, size_t bytes)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return ferry_fail(FERRY_E_MEM, "cannot open the shared file %s: %s", path, strerror(errno));
    ferry_status status = map_file(out, fd, bytes);
    close(fd);
    return status;
}

static ferry_status check_window(ferry_window *out, ferry_status status)
{
    if (status != FERRY_OK) ferry_window_close(out);
    return status;
}

/* Collective. */
static ferry_status map_on_all(ferry_window *out, const ferry_world *node, char path[PATH_MAX], ferry_status created)
{
    FERRY_TRY(ferry_agree(node, created));
    ferry_broadcast(node, path, PATH_MAX, 0);
    return ferry_agree(node, open_and_map(out, path, out->bytes));
}

/* Collective. The file loses its name as soon as all ranks have it, so that nothing stays behind. */
static ferry_status open_mapped(ferry_window *out, const ferry_world *node)
{
    char path[PATH_MAX] = "";
    int fd = -1;
    out->mapped = 1;
    ferry_status created = node->rank == 0 ? create_file(&fd, path, out->bytes) : FERRY_OK;
    ferry_status status = map_on_all(out, node, path, created);
    if (fd >= 0) {
        unlink(path);
        close(fd);
    }
    return check_window(out, status);
}

/* Collective. */
static void open_window(ferry_window *out, const ferry_world *node, size_t bytes)
{
    void *mine;
    MPI_Aint size;
    int unit;
    MPI_Win_allocate_shared(node->rank ? 0 : (MPI_Aint)bytes, 1, MPI_INFO_NULL, node->comm, &mine, &out->win);
    MPI_Win_shared_query(out->win, 0, &size, &unit, &out->base);
    MPI_Win_lock_all(MPI_MODE_NOCHECK, out->win);
}

ferry_status ferry_window_open(ferry_window *out, const ferry_world *node, size_t bytes)
{
    *out = (ferry_window){.win = MPI_WIN_NULL, .bytes = bytes};
    FERRY_TRY(ferry_same(node, "the size of a shared window", &bytes, sizeof bytes));
    if (node->size == 1 || bytes == 0)
        return check_window(out, ferry_agree(node, ferry_alloc_bytes(&out->base, (int64_t)bytes, 1)));
    int mapped = 0;
    FERRY_TRY(ferry_agree(node, node->rank == 0 ? choose(&mapped, bytes) : FERRY_OK));
    ferry_broadcast(node, &mapped, sizeof mapped, 0);
    if (mapped) return open_mapped(out, node);
    open_window(out, node, bytes);
    return FERRY_OK;
}

void ferry_window_sync(ferry_window *window, const ferry_world *node)
{
    if (window->win != MPI_WIN_NULL) MPI_Win_sync(window->win);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    MPI_Barrier(node->comm);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (window->win != MPI_WIN_NULL) MPI_Win_sync(window->win);
}

void ferry_window_close(ferry_window *window)
{
    if (window->base && window->win != MPI_WIN_NULL) {
        MPI_Win_unlock_all(window->win);
        MPI_Win_free(&window->win);
    } else if (window->base && window->mapped) {
        munmap(window->base, window->bytes);
    } else {
        free(window->base);
    }
    *window = (ferry_window){.win = MPI_WIN_NULL};
}
