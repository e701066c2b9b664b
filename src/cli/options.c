/* options.c - from words to a struct, by the table; see options.h. */
#include "options.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(common_options, field)

static const cli_option output_options[] = {
    {"output", 'o', OPTION_TEXT, "FILE", AT(output), "(required)", NULL,
     "result file; written as FILE.partial and renamed when complete"},
    {"overwrite", 0, OPTION_FLAG, NULL, AT(overwrite), NULL, NULL, "replace an existing result"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

static const cli_option compute_options[] = {
    {"memory", 0, OPTION_SIZE, "SIZE", AT(memory), "(free on the node / ranks on it)", "bytes per rank, as in 4G",
     "limit of the proportional set size of each rank; kept, or refused before any work"},
    {"batch-size", 0, OPTION_COUNT, "N", AT(batch), "(chosen from --memory)", "rows",
     "rows of a row block; bounds memory and never changes the result"},
    {"threads", 0, OPTION_COUNT, "N", AT(threads), "(CPUs of the rank's affinity mask, shared fairly)", "threads",
     "OpenMP threads per rank; OMP_NUM_THREADS sets another default"},
    {"device", 0, OPTION_CHOICE, "auto|cpu|gpu", AT(device), "auto", NULL, "where the block kernels run"},
    {"simd", 0, OPTION_CHOICE, "auto|generic|avx2|avx512", AT(simd), "auto", NULL,
     "the CPU kernels; auto: the best level that all ranks have"},
    {"plan", 0, OPTION_FLAG, NULL, AT(plan), NULL, NULL,
     "print the phases with rows, bytes per rank, flops, messages and estimated time, and stop"},
    {"ranks", 0, OPTION_COUNT, "N", AT(ranks), "(those started)", "ranks", "ranks that --plan describes"},
    {"nodes", 0, OPTION_COUNT, "N", AT(nodes), "(those started on)", "nodes", "nodes that --plan describes"},
    {"progress", 0, OPTION_CHOICE, "auto|bar|plain|none", AT(progress), "auto", NULL,
     "on stderr: a bar on a terminal, otherwise a line every 10 % or minute"},
    {"stall-timeout", 0, OPTION_TIME, "TIME", AT(stall), "(off)", "such as 200ms, 30s, 10m, 2h",
     "end the job when it makes no progress for so long; choose more than one iteration takes"},
    {"seed", 0, OPTION_COUNT, "N", AT(seed), "0", NULL,
     "seed of every random choice; the result does not depend on the number of ranks"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

static const cli_option json_options[] = {{"json", 0, OPTION_FLAG, NULL, AT(json), NULL, NULL,
                                           "the run record as one JSON object on stdout instead of the summary"},
                                          {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

static const cli_option talk_options[] = {
    {"verbose", 'v', OPTION_FLAG, NULL, AT(verbose), NULL, NULL,
     "more talk on stderr; ends with the memory and time table per stage and rank"},
    {"quiet", 'q', OPTION_FLAG, NULL, AT(quiet), NULL, NULL, "no talk on stderr but warnings and errors"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};

const cli_option *options_at(const cli_command *command, int i)
{
    const struct {
        int group;
        const cli_option *rows;
    } part[] = {{GROUP_OUTPUT, output_options},
                {0, command->options},
                {GROUP_COMPUTE, compute_options},
                {GROUP_JSON, json_options},
                {GROUP_TALK, talk_options}};
    for (size_t p = 0; p < sizeof part / sizeof *part; p++) {
        if (!part[p].rows || (part[p].group && !(command->groups & part[p].group))) continue;
        for (const cli_option *row = part[p].rows; row->name; row++)
            if (i-- == 0) return row;
    }
    return NULL;
}

/* Word i of "a|b|c" and its length; NULL past the end. */
static const char *word_of(const char *choices, int i, size_t *length)
{
    while (i-- > 0) {
        choices = strchr(choices, '|');
        if (!choices) return NULL;
        choices++;
    }
    *length = strcspn(choices, "|");
    return choices;
}

const char *choice_name(char text[32], const char *choices, int i)
{
    size_t length;
    const char *word = word_of(choices, i, &length);
    (void)snprintf(text, 32, "%.*s", word ? (int)length : 0, word ? word : "");
    return text;
}

ferry_status choice_find(int *index, const char *what, const char *choices, const char *word)
{
    size_t length;
    const char *at;
    for (int i = 0; (at = word_of(choices, i, &length)); i++) {
        if (strlen(word) != length || strncmp(at, word, length) != 0) continue;
        *index = i;
        return FERRY_OK;
    }
    return ferry_fail(FERRY_E_ARG, "%s is '%s', but has to be one of %s", what, word, choices);
}

ferry_status time_parse(double *seconds, const char *text)
{
    static const struct {
        const char *unit;
        double seconds;
    } units[] = {{"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}};
    char *end;
    double number = strtod(text, &end);
    for (size_t i = 0; end != text && i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].unit) != 0 || !(number > 0) || !isfinite(number)) continue;
        *seconds = number * units[i].seconds;
        return FERRY_OK;
    }
    return ferry_fail(FERRY_E_ARG, "'%s' is no time: write 200ms, 30s, 10m or 2h", text);
}

static ferry_status count_parse(int64_t *out, const char *name, const char *text)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (end == text || *end || errno || number < 0)
        return ferry_fail(FERRY_E_ARG, "--%s is '%s', but has to be a whole number from 0", name, text);
    *out = number;
    return FERRY_OK;
}

static ferry_status number_parse(double *out, const char *name, const char *text)
{
    char *end;
    *out = strtod(text, &end);
    if (end == text || *end || !isfinite(*out))
        return ferry_fail(FERRY_E_ARG, "--%s is '%s', but has to be a number", name, text);
    return FERRY_OK;
}

static ferry_status list_add(text_list *list, const char *text)
{
    const char **grown = realloc(list->text, sizeof *grown * (size_t)(list->count + 1));
    if (!grown) return ferry_fail(FERRY_E_MEM, "out of memory while reading the command line");
    list->text = grown;
    list->text[list->count++] = text;
    return FERRY_OK;
}

static ferry_status size_value(int64_t *out, const cli_option *row, const char *text)
{
    if (ferry_size_parse(out, text) != FERRY_OK || *out <= 0)
        return ferry_fail(FERRY_E_ARG, "--%s is '%s', but has to be a size such as 512M, 4G or 1.5GiB", row->name,
                          text);
    return FERRY_OK;
}

static ferry_status set(void *options, const cli_option *row, const char *text)
{
    char what[64];
    void *value = (char *)options + row->offset;
    (void)snprintf(what, sizeof what, "--%s", row->name);
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)value = true;
        break;
    case OPTION_TEXT:
    case OPTION_MAYBE:
        *(const char **)value = text;
        break;
    case OPTION_LIST:
        return list_add(value, text);
    case OPTION_COUNT:
        return count_parse(value, row->name, text);
    case OPTION_NUMBER:
        return number_parse(value, row->name, text);
    case OPTION_SIZE:
        return size_value(value, row, text);
    case OPTION_TIME:
        if (time_parse(value, text) != FERRY_OK)
            return ferry_fail(FERRY_E_ARG, "%s: '%s' is no time: write 200ms, 30s, 10m or 2h", what, text);
        break;
    case OPTION_CHOICE:
        return choice_find(value, what, row->metavar, text);
    }
    return FERRY_OK;
}

static ferry_status set_defaults(void *out, const cli_command *command)
{
    const cli_option *row;
    memset(out, 0, command->size);
    for (int i = 0; (row = options_at(command, i)); i++) {
        if (row->kind == OPTION_NUMBER) *(double *)((char *)out + row->offset) = NAN;
        if (row->preset && row->preset[0] != '(') FERRY_TRY(set(out, row, row->preset));
    }
    return FERRY_OK;
}

static const cli_option *find_long(const cli_command *command, const char *name, size_t length)
{
    const cli_option *row;
    for (int i = 0; (row = options_at(command, i)); i++)
        if (strlen(row->name) == length && !strncmp(row->name, name, length)) return row;
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter)
{
    const cli_option *row;
    for (int i = 0; (row = options_at(command, i)); i++)
        if (row->letter == letter) return row;
    return NULL;
}

static ferry_status unknown(const cli_command *command, const char *word, size_t length)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%.*s", (int)(length < 60 ? length : 60), word);
    for (const absent_option *a = command->absent; a && a->name; a++)
        if (!strcmp(a->name, name)) return ferry_fail(FERRY_E_ARG, "--%s: %s", name, a->why);
    ferry_names names = {0};
    const cli_option *row;
    ferry_status status = FERRY_OK;
    for (int i = 0; status == FERRY_OK && (row = options_at(command, i)); i++)
        status = ferry_names_add(&names, row->name, (int64_t)strlen(row->name));
    const char *near = status == FERRY_OK ? ferry_names_nearest(&names, name) : NULL;
    status = near ? ferry_fail(FERRY_E_ARG, "%s has no option --%s; did you mean --%s?", command->name, name, near)
                  : ferry_fail(FERRY_E_ARG, "%s has no option --%s; 'cellferry %s --help' lists them all",
                               command->name, name, command->name);
    ferry_names_close(&names);
    return status;
}

/* Of an option that may do without: a word that is neither an option nor an input. */
static bool may_be_value(const char *word)
{
    const size_t length = strlen(word);
    if (word[0] == '-' || word[0] == '@' || strchr(word, '/')) return false;
    return !(length > 3 && !strcmp(word + length - 3, ".h5")) && !(length > 5 && !strcmp(word + length - 5, ".h5ad"));
}

/* The option at word *i; *i moves on over its value. */
static ferry_status take_option(void *out, const cli_command *command, int count, char *const *words, int *i)
{
    const char *word = words[*i], *value = NULL;
    const cli_option *row;
    if (word[1] == '-') {
        size_t length = strcspn(word + 2, "=");
        row = find_long(command, word + 2, length);
        if (!row) return unknown(command, word + 2, length);
        if (word[2 + length]) value = word + 3 + length;
    } else {
        row = find_letter(command, word[1]);
        if (!row || (word[2] && row->kind == OPTION_FLAG))
            return ferry_fail(FERRY_E_ARG, "%s has no option %s; 'cellferry %s --help' lists them all", command->name,
                              word, command->name);
        if (word[2]) value = word + 2;
    }
    if (row->kind == OPTION_FLAG && value)
        return ferry_fail(FERRY_E_ARG, "--%s takes no value, but '%s' was given", row->name, value);
    if (row->kind == OPTION_MAYBE && !value) {
        value = *i + 1 < count && may_be_value(words[*i + 1]) ? words[++*i] : "";
    } else if (row->kind != OPTION_FLAG && !value) {
        if (*i + 1 >= count) return ferry_fail(FERRY_E_ARG, "--%s needs a value: %s", row->name, row->metavar);
        value = words[++*i];
    }
    return set(out, row, value);
}

static ferry_status check(const void *options, int inputs, const cli_command *command)
{
    const common_options *common = options;
    if (inputs < command->min_inputs)
        return ferry_fail(FERRY_E_ARG, "%s needs an input: cellferry %s %s", command->name, command->name,
                          command->usage);
    if ((command->groups & GROUP_OUTPUT) && !common->output && !common->plan)
        return ferry_fail(FERRY_E_ARG, "%s needs -o FILE for its result: cellferry %s %s", command->name, command->name,
                          command->usage);
    if ((common->ranks || common->nodes) && !common->plan)
        return ferry_fail(FERRY_E_ARG, "--ranks and --nodes describe another machine to --plan; "
                                       "a run has the ranks that mpirun or srun starts");
    if (common->verbose && common->quiet) return ferry_fail(FERRY_E_ARG, "-v and -q contradict each other: give one");
    return FERRY_OK;
}

static bool asks_help(const char *word)
{
    return !strcmp(word, "--help") || !strcmp(word, "-h");
}

ferry_status options_parse(void *out, const char **input, int *inputs, bool *help, const cli_command *command,
                           int count, char *const *words)
{
    bool only_inputs = false;
    *inputs = 0;
    *help = false;
    FERRY_TRY(set_defaults(out, command));
    for (int i = 0; i < count && !*help; i++) *help = asks_help(words[i]);
    for (int i = 0; i < count && !*help; i++) {
        if (!only_inputs && !strcmp(words[i], "--")) {
            only_inputs = true;
        } else if (!only_inputs && words[i][0] == '-' && words[i][1]) {
            FERRY_TRY(take_option(out, command, count, words, &i));
        } else if (*inputs == command->max_inputs) {
            return ferry_fail(FERRY_E_ARG, "'%s' is one input too many: cellferry %s %s", words[i], command->name,
                              command->usage);
        } else {
            input[(*inputs)++] = words[i];
        }
    }
    return *help ? FERRY_OK : check(out, *inputs, command);
}

void options_close(void *options, const cli_command *command)
{
    const cli_option *row;
    for (int i = 0; (row = options_at(command, i)); i++) {
        if (row->kind != OPTION_LIST) continue;
        text_list *list = (text_list *)((char *)options + row->offset);
        free(list->text);
        *list = (text_list){0};
    }
}

static void record_list(json *out, const char *name, const text_list *list)
{
    json_begin(out, name, '[');
    for (int i = 0; i < list->count; i++) json_text(out, NULL, list->text[i]);
    json_end(out, ']');
}

void options_record(json *out, const void *options, const cli_command *command)
{
    const cli_option *row;
    for (int i = 0; (row = options_at(command, i)); i++) {
        const void *value = (const char *)options + row->offset;
        char word[32];
        switch (row->kind) {
        case OPTION_FLAG:
            json_bool(out, row->name, *(const bool *)value);
            break;
        case OPTION_TEXT:
        case OPTION_MAYBE:
            json_text(out, row->name, *(const char *const *)value);
            break;
        case OPTION_LIST:
            record_list(out, row->name, value);
            break;
        case OPTION_COUNT:
        case OPTION_SIZE:
            json_count(out, row->name, *(const int64_t *)value);
            break;
        case OPTION_NUMBER:
        case OPTION_TIME:
            json_number(out, row->name, *(const double *)value);
            break;
        case OPTION_CHOICE:
            json_text(out, row->name, choice_name(word, row->metavar, *(const int *)value));
            break;
        }
    }
}
