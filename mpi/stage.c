#define _GNU_SOURCE /* clock_gettime */
/* One table per process; stages follow one another. A stage begun twice goes on where it stopped. Bytes are counted by
 * any thread, stages are begun and ended between parallel regions. */
#include "mpi/stage.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

static ferry_stages table;
static ferry_stage *now; /* NULL between stages */
static double began, began_cpu, sampled = -1;
static int64_t pss; /* as it was at `sampled` */

static double seconds(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Reading it takes 0.2 ms and more: not twice where one stage ends and the next begins. */
static void look(double at)
{
    if (at - sampled > 1e-3) {
        pss = ferry_usage_now().pss;
        sampled = at;
    }
    if (now && pss > now->peak_pss) now->peak_pss = pss;
}

static void end(void)
{
    double at = seconds(CLOCK_MONOTONIC);
    look(at);
    now->seconds += at - began;
    now->cpu_seconds += seconds(CLOCK_PROCESS_CPUTIME_ID) - began_cpu;
    now = NULL;
}

/* A full table takes the rest into its last stage. */
static ferry_stage *find(const char *name)
{
    for (int i = 0; i < table.count; i++)
        if (!strncmp(table.stage[i].name, name, sizeof table.stage[i].name - 1)) return &table.stage[i];
    if (table.count == FERRY_STAGES) {
        snprintf(table.stage[FERRY_STAGES - 1].name, sizeof table.stage[0].name, "other");
        return &table.stage[FERRY_STAGES - 1];
    }
    ferry_stage *stage = &table.stage[table.count++];
    snprintf(stage->name, sizeof stage->name, "%s", name);
    return stage;
}

void ferry_stage_begin(const char *name)
{
    if (now) end();
    if (!name) return;
    now = find(name);
    began = seconds(CLOCK_MONOTONIC);
    began_cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    look(began);
}

static void add(int64_t *counter, int64_t bytes)
{
    __atomic_fetch_add(counter, bytes, __ATOMIC_RELAXED);
}

void ferry_stage_read(int64_t bytes)
{
    add(&table.read_bytes, bytes);
    if (now) add(&now->read_bytes, bytes);
}

void ferry_stage_wrote(int64_t bytes)
{
    add(&table.written_bytes, bytes);
    if (now) add(&now->written_bytes, bytes);
}

void ferry_stage_sent(int64_t bytes)
{
    add(&table.sent_bytes, bytes);
    add(&table.messages, 1);
    if (!now) return;
    add(&now->sent_bytes, bytes);
    add(&now->messages, 1);
}

void ferry_stage_sample(void)
{
    double at = seconds(CLOCK_MONOTONIC);
    if (at - sampled >= 0.25) look(at);
}

const ferry_stages *ferry_stages_here(void)
{
    return &table;
}
