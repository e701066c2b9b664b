/* Scratch files: records in any order of arrival come back by bucket, whatever the buffer; shared by ranks; nothing
 * stays in the folder; a full or missing folder is said. */
#include "io/scratch.h"
#include "test.h"
#include <dirent.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct record {
    int32_t bucket, number, more[3];
} record;

#define BUCKETS 7
static const int64_t lengths[BUCKETS] = {0, 5, 1, 900, 33, 0, 2500};
static char folder[64];

static record make(int64_t bucket, int64_t number)
{
    return (record){(int32_t)bucket, (int32_t)number, {(int32_t)(bucket * 1000 + number), 7, -1}};
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *all = opendir(folder);
    for (struct dirent *one; all && (one = readdir(all));) count += one->d_name[0] != '.';
    if (all) closedir(all);
    return count;
}

static void check_bucket(const ferry_scratch *scratch, int64_t bucket)
{
    record *got = malloc(sizeof *got * (size_t)(lengths[bucket] + 1));
    CHECK(ferry_scratch_read(scratch, bucket, 0, lengths[bucket], got) == FERRY_OK);
    bool good = true;
    for (int64_t i = 0; i < lengths[bucket]; i++) {
        const record want = make(bucket, i);
        good = good && !memcmp(&got[i], &want, sizeof want);
    }
    CHECK(good);
    free(got);
}

/* Runs of records, the buckets in turn; runs of many lengths. */
static void fill(ferry_scratch *scratch, int rank, int size)
{
    int64_t at[BUCKETS] = {0};
    record run[600];
    for (int64_t turn = 0, left = 1; left; turn++) {
        left = 0;
        for (int64_t b = rank; b < BUCKETS; b += size) {
            int64_t n = 1 + (turn * 7 + b * 13) % (turn % 5 == 4 ? 600 : 9);
            if (n > lengths[b] - at[b]) n = lengths[b] - at[b];
            for (int64_t i = 0; i < n; i++) run[i] = make(b, at[b] + i);
            CHECK(ferry_scratch_append(scratch, b, run, n) == FERRY_OK);
            at[b] += n;
            left += lengths[b] - at[b];
        }
    }
}

static void check_alone(int64_t buffer)
{
    ferry_scratch *scratch;
    CHECK(ferry_scratch_open(&scratch, folder, lengths, BUCKETS, sizeof(record), buffer) == FERRY_OK);
    if (!scratch) return;
    CHECK(files_in_folder() == 0); /* it has no name */
    fill(scratch, 0, 1);
    CHECK(ferry_scratch_flush(scratch) == FERRY_OK);
    for (int64_t b = 0; b < BUCKETS; b++) check_bucket(scratch, b);
    const record other = make(99, 99);
    record back[3];
    CHECK(ferry_scratch_write(scratch, 3, 10, 1, &other) == FERRY_OK);
    CHECK(ferry_scratch_read(scratch, 3, 9, 3, back) == FERRY_OK);
    CHECK(back[0].number == 9 && back[1].number == 99 && back[2].number == 11);
    check_bucket(scratch, 4);
    CHECK(ferry_scratch_read(scratch, 2, 0, 2, back) == FERRY_E_ARG);
    CHECK(ferry_scratch_read(scratch, BUCKETS, 0, 1, back) == FERRY_E_ARG);
    CHECK(ferry_scratch_append(scratch, 2, &other, 1) == FERRY_E_ARG); /* it is full */
    ferry_scratch_close(&scratch);
    CHECK(scratch == NULL);
    ferry_scratch_close(&scratch);
}

/* Bucket b belongs to rank b mod size; all read all. */
static ferry_status share(const ferry_world *world, const char *where, bool look)
{
    ferry_scratch *scratch;
    ferry_status status =
        ferry_scratch_open_shared(&scratch, world, where, lengths, BUCKETS, sizeof(record), 10000 * (world->rank + 1));
    if (status == FERRY_OK) {
        fill(scratch, world->rank, world->size);
        status = ferry_scratch_share(scratch, world);
        if (look && world->nodes == 1) CHECK(files_in_folder() == 0); /* the name is gone */
        for (int64_t b = 0; status == FERRY_OK && b < BUCKETS; b++) check_bucket(scratch, b);
    }
    ferry_barrier(world);
    ferry_scratch_close(&scratch);
    ferry_barrier(world);
    if (look) CHECK(files_in_folder() == 0);
    return status;
}

/* Every meeting fails once, on every rank. */
static void check_failures(const ferry_world *world)
{
    for (int rank = 0; rank < world->size; rank++) {
        ferry_status status = FERRY_E_MPI;
        for (int n = 1; status != FERRY_OK && n < 50; n++) {
            char plan[32];
            snprintf(plan, sizeof plan, "%d:%d", n, rank);
            setenv("FERRY_FAIL", plan, 1);
            status = share(world, folder, true);
            const int64_t mine = (int64_t)status;
            CHECK(ferry_max(world, mine) == ferry_min(world, mine));
        }
        CHECK(status == FERRY_OK);
        unsetenv("FERRY_FAIL");
    }
}

static void check_messages(const ferry_world *world)
{
    ferry_scratch *scratch;
    char missing[96];
    snprintf(missing, sizeof missing, "%s/missing", folder);
    CHECK(ferry_scratch_open(&scratch, missing, lengths, BUCKETS, sizeof(record), 1000) == FERRY_E_FILE);
    CHECK(!scratch && strstr(ferry_error(), missing) && strstr(ferry_error(), "--spill"));
    const int64_t huge[1] = {(int64_t)1 << 50};
    CHECK(ferry_scratch_open(&scratch, folder, huge, 1, 64, 1000) == FERRY_E_RUN);
    CHECK(!scratch && strstr(ferry_error(), "64.0 PiB") && strstr(ferry_error(), "--spill"));
    CHECK(share(world, missing, false) == FERRY_E_FILE);
    CHECK(strstr(ferry_error(), "--spill"));
    struct rlimit old, low;
    getrlimit(RLIMIT_FSIZE, &old);
    low = old;
    low.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &low);
    CHECK(ferry_scratch_open(&scratch, folder, lengths, BUCKETS, sizeof(record), 1000) == FERRY_E_RUN);
    setrlimit(RLIMIT_FSIZE, &old);
    CHECK(strstr(ferry_error(), "ulimit"));
    ferry_barrier(world);
    CHECK(files_in_folder() == 0);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    ferry_world world;
    ferry_world_open(&world, MPI_COMM_WORLD);
    if (world.rank == 0) {
        snprintf(folder, sizeof folder, "/tmp/test_scratch.XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
    }
    ferry_broadcast(&world, folder, sizeof folder, 0);
    if (world.rank == 0) {
        check_alone(0);
        check_alone(3000);
        check_alone(1 << 20);
    }
    ferry_barrier(&world);
    CHECK(share(&world, folder, true) == FERRY_OK);
    check_failures(&world);
    check_messages(&world);
    ferry_barrier(&world);
    if (world.rank == 0) CHECK(rmdir(folder) == 0);
    ferry_world_close(&world);
    return test_end();
}
