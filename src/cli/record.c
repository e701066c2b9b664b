/* record.c - see record.h. The ranks' stage tables meet on rank 0; they are small. */
#include "record.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct rank_report {
    ferry_stages stages;
    ferry_usage usage;
} rank_report;

typedef struct totals {
    double seconds, cpu;
    int64_t peak, peak_total, read, written, sent, messages;
} totals;

/* Collective. all [ranks] on rank 0, NULL elsewhere. */
static ferry_status gather_reports(rank_report **all, const ferry_world *world)
{
    FERRY_AUTO int64_t *counts = NULL;
    rank_report mine;
    ferry_status status = ferry_alloc(&counts, world->size);
    *all = NULL;
    if (status == FERRY_OK && world->rank == 0) status = ferry_alloc(all, world->size);
    ferry_status agreed = ferry_agree(world, status);
    if (status != FERRY_OK || agreed != FERRY_OK) {
        free(*all);
        *all = NULL;
        return agreed;
    }
    memset(&mine, 0, sizeof mine);
    mine.stages = *ferry_stages_here();
    mine.usage = ferry_usage_now();
    for (int r = 0; r < world->size; r++) counts[r] = 1; /* counts and *all are there: agreed */
    ferry_gather(world, &mine, counts, *all, sizeof mine, 0);
    return FERRY_OK;
}

static const ferry_stage *stage_of(const rank_report *report, const char *name)
{
    for (int i = 0; i < report->stages.count; i++)
        if (!strcmp(report->stages.stage[i].name, name)) return &report->stages.stage[i];
    return NULL;
}

static totals total_of(const rank_report *all, int ranks, const char *name)
{
    totals t = {0};
    for (int r = 0; r < ranks; r++) {
        const ferry_stage *stage = stage_of(&all[r], name);
        if (!stage) continue;
        if (stage->seconds > t.seconds) t.seconds = stage->seconds;
        if (stage->peak_pss > t.peak) t.peak = stage->peak_pss;
        t.cpu += stage->cpu_seconds;
        t.peak_total += stage->peak_pss;
        t.read += stage->read_bytes;
        t.written += stage->written_bytes;
        t.sent += stage->sent_bytes;
        t.messages += stage->messages;
    }
    return t;
}

static void record_stages(json *out, const rank_report *all, int ranks)
{
    json_begin(out, "stages", '[');
    for (int i = 0; i < all[0].stages.count; i++) {
        const char *name = all[0].stages.stage[i].name;
        totals t = total_of(all, ranks, name);
        json_begin(out, NULL, '{');
        json_text(out, "name", name);
        json_number(out, "seconds", t.seconds);
        json_number(out, "cpu_seconds", t.cpu);
        json_count(out, "peak_pss", t.peak);
        json_count(out, "peak_pss_total", t.peak_total);
        json_count(out, "read_bytes", t.read);
        json_count(out, "written_bytes", t.written);
        json_count(out, "sent_bytes", t.sent);
        json_count(out, "messages", t.messages);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static void record_memory(json *out, const cli_program *program, const rank_report *all)
{
    int64_t pss = 0, pss_total = 0, rss = 0, rss_total = 0, read = 0, written = 0, sent = 0;
    for (int r = 0; r < program->world.size; r++) {
        const ferry_usage *usage = &all[r].usage;
        if (usage->peak_pss > pss) pss = usage->peak_pss;
        if (usage->peak_rss > rss) rss = usage->peak_rss;
        pss_total += usage->peak_pss;
        rss_total += usage->peak_rss;
        for (int i = 0; i < all[r].stages.count; i++) {
            read += all[r].stages.stage[i].read_bytes;
            written += all[r].stages.stage[i].written_bytes;
            sent += all[r].stages.stage[i].sent_bytes;
        }
    }
    json_begin(out, "memory", '{');
    json_count(out, "limit", program->memory);
    json_count(out, "peak_pss", pss);
    json_count(out, "peak_pss_total", pss_total);
    json_count(out, "peak_rss", rss);
    json_count(out, "peak_rss_total", rss_total);
    json_end(out, '}');
    json_begin(out, "bytes", '{');
    json_count(out, "read", read);
    json_count(out, "written", written);
    json_count(out, "sent", sent);
    json_end(out, '}');
}

static bool plain_word(const char *word)
{
    return *word && !word[strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=/.,:@%")];
}

char *record_command_line(const cli_program *program)
{
    size_t length = 1;
    for (int i = 0; i < program->word_count; i++) length += 4 * strlen(program->words[i]) + 3;
    char *text = malloc(length), *at = text;
    for (int i = 0; text && i < program->word_count; i++) {
        const char *word = program->words[i];
        bool quote = !plain_word(word);
        if (i) *at++ = ' ';
        if (quote) *at++ = '\'';
        for (; *word; word++) {
            if (*word == '\'')
                at += sprintf(at, "'\\''");
            else
                *at++ = *word;
        }
        if (quote) *at++ = '\'';
    }
    if (text) *at = 0;
    return text;
}

static void record_head(json *out, const cli_program *program)
{
    char *line = record_command_line(program);
    json_text(out, "program", "cellferry");
    json_text(out, "version", CELLFERRY_VERSION);
    json_text(out, "command", program->command->name);
    json_text(out, "command_line", line);
    json_text(out, "mpi", ferry_mpi_version());
    json_count(out, "hosts", program->world.nodes);
    json_count(out, "ranks", program->world.size);
    json_count(out, "threads", program->threads);
    json_text(out, "simd", program->kernels ? program->kernels->name : NULL);
    json_text(out, "device", "cpu");
    free(line);
}

/* Local, on rank 0. */
static ferry_status compose(json *out, const cli_program *program, const rank_report *all)
{
    json_begin(out, NULL, '{');
    record_head(out, program);
    json_begin(out, "inputs", '[');
    json_join(out, &program->inputs_json);
    json_end(out, ']');
    json_begin(out, "options", '{');
    options_record(out, program->options, program->command);
    json_end(out, '}');
    json_begin(out, "figures", '{');
    json_join(out, &program->figures);
    json_end(out, '}');
    record_stages(out, all, program->world.size);
    record_memory(out, program, all);
    json_number(out, "seconds", now_seconds() - program->started);
    json_end(out, '}');
    if (out->failed) return ferry_fail(FERRY_E_MEM, "out of memory while writing the run record");
    return FERRY_OK;
}

ferry_status record_text(char **text, const cli_program *program)
{
    const ferry_world *world = &program->world;
    FERRY_AUTO rank_report *all = NULL;
    json out = {0};
    *text = NULL;
    FERRY_TRY(gather_reports(&all, world));
    ferry_status status = ferry_agree(world, world->rank == 0 && all ? compose(&out, program, all) : FERRY_OK);
    if (status == FERRY_OK) {
        int64_t length = ferry_max(world, (int64_t)out.length);
        status = ferry_agree(world, ferry_alloc(text, length + 1));
        if (status == FERRY_OK && world->rank == 0 && out.text) memcpy(*text, out.text, (size_t)length);
        if (status == FERRY_OK) ferry_broadcast(world, *text, (size_t)length + 1, 0);
    }
    if (status != FERRY_OK) {
        free(*text);
        *text = NULL;
    }
    json_close(&out);
    return status;
}

static void print_table(const rank_report *all, int ranks)
{
    char peak[32], read[32], written[32], sent[32];
    fprintf(stderr, "%-12s %6s %10s %10s %12s %12s %12s %12s %9s\n", "stage", "rank", "seconds", "CPU s", "peak PSS",
            "read", "written", "sent", "messages");
    for (int i = 0; i < all[0].stages.count; i++) {
        for (int r = 0; r < ranks; r++) {
            const ferry_stage *s = stage_of(&all[r], all[0].stages.stage[i].name);
            if (!s) continue;
            fprintf(stderr, "%-12.12s %6d %10.3f %10.3f %12s %12s %12s %12s %9lld\n", s->name, r, s->seconds,
                    s->cpu_seconds, ferry_size_text(peak, (double)s->peak_pss),
                    ferry_size_text(read, (double)s->read_bytes), ferry_size_text(written, (double)s->written_bytes),
                    ferry_size_text(sent, (double)s->sent_bytes), (long long)s->messages);
        }
    }
}

ferry_status record_table(const cli_program *program)
{
    FERRY_AUTO rank_report *all = NULL;
    FERRY_TRY(gather_reports(&all, &program->world));
    if (program->world.rank == 0 && all) print_table(all, program->world.size);
    return FERRY_OK;
}

ferry_status record_write(ferry_output *output, const cli_program *program, const char *kind)
{
    FERRY_AUTO char *text = NULL;
    FERRY_TRY(record_text(&text, program));
    FERRY_TRY(ferry_output_group(output, "uns/cellferry", "dict", "0.1.0"));
    FERRY_TRY(ferry_output_text(output, "uns/cellferry/kind", kind));
    FERRY_TRY(ferry_output_text(output, "uns/cellferry/version", CELLFERRY_VERSION));
    return ferry_output_text(output, "uns/cellferry/record", text);
}
