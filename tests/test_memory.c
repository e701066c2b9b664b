/* Allocations, windows, sizes, what is used; the stages that count it; log and progress. */
#define _GNU_SOURCE /* setenv */
#include "mpi/log.h"
#include "mpi/stage.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int all_zero(const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (bytes[i]) return 0;
    return 1;
}

static void allocations(void)
{
    const int64_t sizes[] = {0, 1, 63, 4096, (int64_t)9 << 20};
    for (int i = 0; i < 5; i++) {
        FERRY_AUTO char *bytes = NULL;
        CHECK(ferry_alloc(&bytes, sizes[i]) == FERRY_OK);
        CHECK(bytes && (uintptr_t)bytes % 64 == 0 && all_zero(bytes, (size_t)sizes[i]));
        memset(bytes, 1, (size_t)sizes[i]);
    }
    double *grown = NULL;
    CHECK(ferry_alloc(&grown, 3) == FERRY_OK);
    grown[2] = 5;
    CHECK(ferry_grow(&grown, 3, 1000) == FERRY_OK);
    CHECK(grown[2] == 5 && all_zero((char *)(grown + 3), 997 * sizeof *grown));
    CHECK(ferry_grow(&grown, 1000, 2) == FERRY_OK);
    free(grown);
    char *none = NULL;
    CHECK(ferry_alloc_bytes(&none, INT64_MAX, 16) == FERRY_E_MEM);
    CHECK(ferry_alloc_bytes(&none, -1, 1) == FERRY_E_MEM);
    CHECK(ferry_alloc_bytes(&none, (int64_t)1 << 61, 1) == FERRY_E_MEM);
    CHECK(strstr(ferry_error(), "2048.0 PiB") && none == NULL);
}

/* Every call of one rank fails once, and no call of another. */
static void injected_failures(const ferry_world *world)
{
    char plan[32];
    snprintf(plan, sizeof plan, "3:%d", world->size - 1);
    setenv("FERRY_FAIL_ALLOC", plan, 1);
    int failed = 0, at = 0;
    for (int i = 1; i <= 10; i++) {
        FERRY_AUTO char *bytes = NULL;
        if (ferry_alloc(&bytes, 8) == FERRY_OK) continue;
        failed++;
        at = i;
    }
    unsetenv("FERRY_FAIL_ALLOC");
    CHECK(failed == (world->rank == world->size - 1));
    CHECK(!failed || at == 3);
}

static void one_window(const ferry_world *node, size_t count)
{
    ferry_window window;
    CHECK(ferry_window_open(&window, node, count * sizeof(int64_t)) == FERRY_OK);
    int64_t *shared = window.base;
    CHECK(window.bytes == count * sizeof(int64_t));
    CHECK(all_zero((char *)shared, window.bytes));
    ferry_window_sync(&window, node);
    for (int turn = 1; turn <= 3; turn++) {
        for (size_t i = (size_t)node->rank; i < count; i += (size_t)node->size) shared[i] = turn * (int64_t)(i + 1);
        ferry_window_sync(&window, node);
        for (size_t i = 0; i < count; i++) CHECK(shared[i] == turn * (int64_t)(i + 1));
        ferry_window_sync(&window, node);
    }
    ferry_window_close(&window);
    CHECK(window.base == NULL);
    ferry_window_close(&window);
}

static void windows(const ferry_world *world)
{
    ferry_world node;
    CHECK(ferry_world_open(&node, world->node) == FERRY_OK);
    one_window(&node, 100000);
    one_window(&node, 1);
    one_window(&node, 0);
    setenv("FERRY_SHARED_ROOM", "1000000", 1); /* as in a container: a mapped file instead */
    one_window(&node, 100000);
    one_window(&node, 1);
    if (node.size > 1) {
        ferry_window window;
        setenv("TMPDIR", "/no/such/folder", 1);
        CHECK(ferry_window_open(&window, &node, 1000) == FERRY_E_MEM);
        CHECK(strstr(ferry_error(), "TMPDIR") && window.base == NULL);
        unsetenv("TMPDIR");
    }
    unsetenv("FERRY_SHARED_ROOM");
    if (node.size > 1) {
        ferry_window window; /* nowhere is there an exbibyte: a message, and no SIGBUS later */
        CHECK(ferry_window_open(&window, &node, (size_t)1 << 60) == FERRY_E_MEM);
        CHECK(strstr(ferry_error(), "/dev/shm") && window.base == NULL);
    }
    ferry_world_close(&node);
}

/* Every meeting of every kind of window fails once on one rank. */
static void window_failures(const ferry_world *world, const char *room)
{
    int clean = 0;
    ferry_world node;
    CHECK(ferry_world_open(&node, world->node) == FERRY_OK);
    if (room) setenv("FERRY_SHARED_ROOM", room, 1);
    for (int n = 1; n < 20 && !clean; n++) {
        char plan[32];
        ferry_window window;
        snprintf(plan, sizeof plan, "%d:%d", n, world->size - 1);
        setenv("FERRY_FAIL", plan, 1);
        ferry_status status = ferry_window_open(&window, &node, 4096);
        unsetenv("FERRY_FAIL");
        CHECK(ferry_max(&node, status) == ferry_min(&node, status));
        CHECK((status == FERRY_OK) == (window.base != NULL));
        clean = status == FERRY_OK;
        CHECK(!clean || n > 1);
        ferry_window_close(&window);
    }
    unsetenv("FERRY_SHARED_ROOM");
    CHECK(clean);
    ferry_world_close(&node);
}

static void sizes(void)
{
    const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"1000000", 1000000},
                {"4G", (int64_t)4 << 30},
                {"512M", 512 << 20},
                {"1.5GiB", 3 << 29},
                {"2k", 2048},
                {"1 TiB", (int64_t)1 << 40},
                {"3GB", (int64_t)3000000000},
                {"7 B", 7},
                {"0", 0}};
    const char *bad[] = {"", "G", "-1G", "4X", "4Gi", "nan", "inf", "1e30", "4G 2", "12 monkeys"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t bytes = -1;
        CHECK(ferry_size_parse(&bytes, good[i].text) == FERRY_OK && bytes == good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t bytes = -1;
        CHECK(ferry_size_parse(&bytes, bad[i]) == FERRY_E_ARG && bytes == -1);
    }
    char text[32];
    CHECK(!strcmp(ferry_size_text(text, 37.25 * (1 << 30)), "37.2 GiB"));
    CHECK(!strcmp(ferry_size_text(text, 12), "12 bytes"));
}

static void usage(void)
{
    const int64_t bytes = (int64_t)32 << 20;
    int64_t before = ferry_usage_now().pss;
    FERRY_AUTO char *memory = NULL;
    CHECK(ferry_alloc(&memory, bytes) == FERRY_OK);
    memset(memory, 1, (size_t)bytes);
    ferry_usage with = ferry_usage_now();
    CHECK(with.pss - before > bytes / 2 && with.pss - before < bytes * 2);
    CHECK(with.peak_pss >= with.pss && with.peak_rss >= bytes);
    free(memory);
    memory = NULL;
    ferry_usage after = ferry_usage_now();
    CHECK(after.peak_pss >= with.peak_pss);
#ifndef __SANITIZE_ADDRESS__ /* which keeps freed memory for a while */
    CHECK(after.pss < with.pss - bytes / 2);
#endif
    CHECK(ferry_memory_free() > 1 << 20 && ferry_memory_free() < (int64_t)1 << 50);
}

static void stages(const ferry_world *world)
{
    const int64_t messages = ferry_stages_here()->messages, sent = ferry_stages_here()->sent_bytes;
    const int64_t told = world->size > 1; /* a rank alone has nobody to tell */
    ferry_stage_begin("read");
    ferry_stage_read(100);
    double started = MPI_Wtime();
    while (MPI_Wtime() - started < 0.02) continue;
    ferry_stage_sample();
    ferry_stage_begin("solve");
    CHECK(ferry_max(world, 1) == 1);
    ferry_stage_begin("read"); /* goes on */
    ferry_stage_read(20);
    ferry_stage_wrote(3);
    ferry_stage_begin(NULL);
    ferry_stage_begin(NULL);
    ferry_stage_read(1); /* between stages: in the totals alone */
    const ferry_stages *table = ferry_stages_here();
    CHECK(table->count == 2 && !strcmp(table->stage[0].name, "read") && !strcmp(table->stage[1].name, "solve"));
    CHECK(table->stage[0].read_bytes == 120 && table->stage[0].written_bytes == 3 && table->read_bytes == 121);
    CHECK(table->stage[1].sent_bytes == 8 * told && table->sent_bytes == sent + 8 * told &&
          table->messages == messages + told && table->stage[1].messages == told);
    CHECK(table->stage[0].seconds >= 0.02 && table->stage[0].seconds < 20 && table->stage[0].cpu_seconds > 0);
    CHECK(table->stage[0].peak_pss > 0);
    for (int i = 0; i < 2 * FERRY_STAGES; i++) {
        char name[64];
        snprintf(name, sizeof name, "a stage with a name that is too long for its place %d", i);
        ferry_stage_begin(i % 2 ? name : name + 40);
    }
    ferry_stage_begin(NULL);
    CHECK(table->count == FERRY_STAGES && !strcmp(table->stage[FERRY_STAGES - 1].name, "other"));
}

struct heard {
    int calls;
    int64_t done;
};

static void listen(void *payload, const char *what, int64_t done, int64_t total, const char *unit, const char *note)
{
    struct heard *heard = payload;
    heard->calls++;
    heard->done = done;
    CHECK(!strcmp(what, "sparsify") && total == 10 && !strcmp(unit, "rows") && !strcmp(note, "error 3.1e-3"));
}

static void talk(const ferry_world *world)
{
    struct heard heard = {0};
    ferry_progress(world, "sparsify", 1, 10, "rows", NULL); /* nobody listens */
    ferry_progress_listen(listen, &heard);
    ferry_progress(world, "sparsify", 4, 10, "rows", "error 3.1e-3");
    ferry_progress_listen(NULL, NULL);
    CHECK(heard.calls == (world->rank == 0) && heard.done == (world->rank ? 0 : 4));

    /* what reaches stderr: warnings of every rank, talk of rank 0, nothing above the level */
    char text[4096] = "", want[256];
    int ends[2], old = dup(2);
    CHECK(pipe(ends) == 0);
    dup2(ends[1], 2);
    ferry_log(world, FERRY_WARN, "careful %d", 1);
    ferry_log(world, FERRY_INFO, "hello");
    ferry_log(world, FERRY_DEBUG, "hidden");
    ferry_log_level(FERRY_WARN);
    ferry_log(world, FERRY_INFO, "hidden");
    ferry_log_level(FERRY_QUIET);
    ferry_log(world, FERRY_WARN, "hidden");
    ferry_log_level(FERRY_INFO);
    dup2(old, 2);
    close(old);
    close(ends[1]);
    CHECK(read(ends[0], text, sizeof text - 1) > 0);
    close(ends[0]);
    if (world->rank)
        snprintf(want, sizeof want, "cellferry: warning: rank %d: careful 1\n", world->rank);
    else
        snprintf(want, sizeof want, "cellferry: warning: careful 1\ncellferry: hello\n");
    CHECK(!strcmp(text, want));
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    CHECK(ferry_world_open(&world, MPI_COMM_WORLD) == FERRY_OK);
    allocations();
    injected_failures(&world);
    windows(&world);
    window_failures(&world, NULL);
    window_failures(&world, "0");
    sizes();
    usage();
    stages(&world);
    talk(&world);
    ferry_world_close(&world);
    return test_end();
}
