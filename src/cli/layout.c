/* layout.c - see layout.h. */
#include "layout.h"
#include <stdio.h>
#include <stdlib.h>

ferry_machine machine_of(const cli_program *program)
{
    const common_options *common = program->common;
    ferry_machine machine = {program->world.size, program->world.nodes, program->memory};
    if (common->plan && common->ranks) machine.ranks = common->ranks < INT32_MAX ? (int)common->ranks : INT32_MAX;
    if (common->plan && common->nodes) machine.nodes = common->nodes < INT32_MAX ? (int)common->nodes : INT32_MAX;
    if (machine.nodes > machine.ranks) machine.nodes = machine.ranks;
    return machine;
}

ferry_status grid_parse(int *rows, int *cols, const char *text)
{
    *rows = *cols = 0;
    if (!text) return FERRY_OK;
    char *end, *last;
    long r = strtol(text, &end, 10), c = *end == 'x' ? strtol(end + 1, &last, 10) : 0;
    if (*end != 'x' || *last || r < 1 || c < 1 || r > 1000000 || c > 1000000)
        return ferry_fail(FERRY_E_ARG, "--grid is '%s', but has to be ROWSxCOLUMNS of ranks, such as 4x2", text);
    *rows = (int)r;
    *cols = (int)c;
    return FERRY_OK;
}

static const char *flops_text(char text[32], double flops)
{
    static const char *const unit[] = {"", "k", "M", "G", "T", "P", "E"};
    int u = 0;
    for (; flops >= 1000 && u < 6; u++) flops /= 1000;
    (void)snprintf(text, 32, "%.3g %s", flops, unit[u]);
    return text;
}

void layout_print(const ferry_layout *layout, const ferry_machine *machine)
{
    char bytes[32], flops[32], sent[32];
    printf("%d rank%s on %d node%s as a grid of %d x %d, blocks of %lld rows, at most %s of %s per rank\n",
           machine->ranks, machine->ranks == 1 ? "" : "s", machine->nodes, machine->nodes == 1 ? "" : "s",
           layout->grid_rows, layout->grid_cols, (long long)layout->batch,
           ferry_size_text(bytes, (double)layout->bytes), ferry_size_text(sent, (double)machine->memory));
    printf("%-16s %12s %12s %10s %9s %12s %12s   (per rank)\n", "phase", "rows", "bytes", "flops", "messages", "sent",
           "seconds");
    for (int i = 0; i < layout->phases; i++) {
        const ferry_phase *p = &layout->phase[i];
        printf("%-16s %12lld %12s %10s %9.0f %12s %12.3g\n", p->name, (long long)p->rows,
               ferry_size_text(bytes, (double)p->bytes), flops_text(flops, p->flops), p->messages,
               ferry_size_text(sent, p->sent_bytes), p->seconds);
    }
    printf("seconds are estimates; bytes are kept\n");
}

void layout_record(json *out, const ferry_layout *layout, const ferry_machine *machine)
{
    json_begin(out, "layout", '{');
    json_count(out, "ranks", machine->ranks);
    json_count(out, "nodes", machine->nodes);
    json_count(out, "grid_rows", layout->grid_rows);
    json_count(out, "grid_cols", layout->grid_cols);
    json_count(out, "batch", layout->batch);
    json_count(out, "panels", layout->panels);
    json_count(out, "bytes", layout->bytes);
    json_begin(out, "phases", '[');
    for (int i = 0; i < layout->phases; i++) {
        const ferry_phase *p = &layout->phase[i];
        json_begin(out, NULL, '{');
        json_text(out, "name", p->name);
        json_count(out, "rows", p->rows);
        json_count(out, "bytes", p->bytes);
        json_number(out, "flops", p->flops);
        json_number(out, "messages", p->messages);
        json_number(out, "sent_bytes", p->sent_bytes);
        json_number(out, "seconds", p->seconds);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_end(out, '}');
}
