/* test_options.c - the options table: parsing, defaults, messages, and what goes into the run record. */
#include "json.h"
#include "options.h"
#include "test.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct sample_options {
    common_options common;
    double number;
    int64_t count, size;
    double time;
    const char *text, *maybe;
    text_list list;
    int choice;
    bool flag;
} sample_options;

#define AT(field) offsetof(sample_options, field)

static const cli_option table[] = {
    {"number", 0, OPTION_NUMBER, "X", AT(number), "0.05", NULL, "a number"},
    {"count", 'c', OPTION_COUNT, "N", AT(count), "7", NULL, "a count"},
    {"size", 0, OPTION_SIZE, "SIZE", AT(size), "(free)", NULL, "a size"},
    {"time", 0, OPTION_TIME, "TIME", AT(time), "(off)", NULL, "a time"},
    {"text", 0, OPTION_TEXT, "T", AT(text), NULL, NULL, "a text"},
    {"maybe", 0, OPTION_MAYBE, "[T]", AT(maybe), "(off)", NULL, "a text that may be left out"},
    {"source-where", 0, OPTION_LIST, "K=V", AT(list), NULL, NULL, "a list"},
    {"choice", 0, OPTION_CHOICE, "red|green|blue", AT(choice), "green", NULL, "a choice"},
    {"flag", 'f', OPTION_FLAG, NULL, AT(flag), NULL, NULL, "a flag"},
    {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL, NULL}};
static const absent_option absent[] = {{"rank", "not here"}, {NULL, NULL}};
static const cli_command sample = {.name = "sample",
                                   .usage = "IN [IN] -o OUT",
                                   .options = table,
                                   .absent = absent,
                                   .groups = GROUP_OUTPUT | GROUP_COMPUTE | GROUP_JSON | GROUP_TALK,
                                   .size = sizeof(sample_options),
                                   .min_inputs = 1,
                                   .max_inputs = 2};

static sample_options o;
static const char *input[2];
static int inputs;
static bool help;

/* Parses a line cut at blanks; the words live until the next call. */
static ferry_status parse(const char *line)
{
    static char text[512], *word[64];
    int count = 0;
    options_close(&o, &sample);
    (void)snprintf(text, sizeof text, "%s", line);
    for (char *w = strtok(text, " "); w && count < 64; w = strtok(NULL, " ")) word[count++] = w;
    return options_parse(&o, input, &inputs, &help, &sample, count, word);
}

/* Refused as wrong usage, with a message that names `what`. */
static bool refused(const char *line, const char *what)
{
    ferry_status status = parse(line);
    bool good = status == FERRY_E_ARG && strstr(ferry_error(), what);
    if (!good) fprintf(stderr, "'%s': status %d, message '%s', wanted '%s'\n", line, status, ferry_error(), what);
    return good;
}

static void test_values(void)
{
    CHECK(parse("in.h5ad -o out") == FERRY_OK);
    CHECK(inputs == 1 && !strcmp(input[0], "in.h5ad") && !strcmp(o.common.output, "out"));
    CHECK(o.number == 0.05 && o.count == 7 && o.choice == 1 && !o.flag && !o.text && o.list.count == 0);
    CHECK(o.size == 0 && o.time == 0 && o.common.memory == 0 && o.common.seed == 0 && !o.common.plan);
    CHECK(parse("--number=-2.5e3 a -c9 --size 1.5KiB --time 200ms b --text=--x -f --choice blue -oout "
                "--source-where k=1 --source-where k=2,3 --memory 4G -v") == FERRY_OK);
    CHECK(o.number == -2500 && o.count == 9 && o.size == 1536 && o.time == 0.2 && o.flag && o.choice == 2);
    CHECK(o.text && !strcmp(o.text, "--x") && inputs == 2 && !strcmp(input[1], "b"));
    CHECK(o.list.count == 2 && !strcmp(o.list.text[0], "k=1") && !strcmp(o.list.text[1], "k=2,3"));
    CHECK(o.common.memory == (int64_t)4 << 30 && o.common.verbose && !strcmp(o.common.output, "out"));
    CHECK(parse("-o out -- -strange- --flag") == FERRY_OK && inputs == 2 && !strcmp(input[0], "-strange-") && !o.flag);
    CHECK(parse("--plan in") == FERRY_OK && o.common.plan);
    CHECK(!o.maybe && parse("in -o out --maybe") == FERRY_OK && o.maybe && !o.maybe[0]);
    CHECK(parse("in -o out --maybe batch b") == FERRY_OK && !strcmp(o.maybe, "batch") && inputs == 2);
    CHECK(parse("--maybe in.h5ad -o out") == FERRY_OK && !o.maybe[0] && inputs == 1);
    CHECK(parse("--maybe @list.txt --maybe=x.h5 -o out") == FERRY_OK && !strcmp(o.maybe, "x.h5") && inputs == 1);
    CHECK(parse("--maybe --flag in -o out") == FERRY_OK && !o.maybe[0] && o.flag);
    CHECK(parse("--plan --ranks 64 --nodes 8 in") == FERRY_OK && o.common.ranks == 64 && o.common.nodes == 8);
    CHECK(parse("in -o out --time 2h") == FERRY_OK && o.time == 7200);
    CHECK(parse("in -o out --time 10m") == FERRY_OK && o.time == 600);
}

static void test_help(void)
{
    CHECK(parse("--help") == FERRY_OK && help);
    CHECK(parse("in --nonsense -h") == FERRY_OK && help);
    CHECK(parse("in -o out") == FERRY_OK && !help);
}

static void test_refusals(void)
{
    CHECK(refused("in -o out --nunber 3", "--number"));
    CHECK(refused("in -o out --source-were k=1", "--source-where"));
    CHECK(refused("in -o out --memry 4G", "--memory"));
    CHECK(refused("in -o out --rank 5", "not here"));
    CHECK(refused("in -o out -x", "-x"));
    CHECK(refused("in -o out --number", "needs a value"));
    CHECK(refused("in -o out --number 1x", "1x"));
    CHECK(refused("in -o out --number nan", "nan"));
    CHECK(refused("in -o out --count -1", "-1"));
    CHECK(refused("in -o out --count 99999999999999999999", "99999999999999999999"));
    CHECK(refused("in -o out --size 0", "size"));
    CHECK(refused("in -o out --time 3", "200ms"));
    CHECK(refused("in -o out --choice pink", "red|green|blue"));
    CHECK(refused("in -o out --choice gree", "red|green|blue"));
    CHECK(refused("in -o out --flag=1", "no value"));
    CHECK(refused("a b c -o out", "'c'"));
    CHECK(refused("-o out", "input"));
    CHECK(refused("in", "-o FILE"));
    CHECK(refused("in -o out --ranks 3", "--plan"));
    CHECK(refused("in -o out -v -q", "-q"));
}

static void test_record(void)
{
    json out = {0};
    CHECK(parse("in -o out --source-where k=\"1 --text a\\b --choice red") == FERRY_OK);
    json_begin(&out, NULL, '{');
    options_record(&out, &o, &sample);
    json_number(&out, "nothing", NAN);
    json_number(&out, "third", 1.0 / 3);
    json_end(&out, '}');
    CHECK(!out.failed && out.text);
    CHECK(strstr(out.text, "\"number\":0.05,"));
    CHECK(strstr(out.text, "\"source-where\":[\"k=\\\"1\"]"));
    CHECK(strstr(out.text, "\"text\":\"a\\\\b\""));
    CHECK(strstr(out.text, "\"choice\":\"red\""));
    CHECK(strstr(out.text, "\"nothing\":null"));
    CHECK(strstr(out.text, "\"third\":0.33333333333333331"));
    for (int i = 0; options_at(&sample, i); i++) { /* every option is in it, and has a sentence for --help */
        char key[64];
        (void)snprintf(key, sizeof key, "\"%s\":", options_at(&sample, i)->name);
        CHECK(strstr(out.text, key) && options_at(&sample, i)->help);
    }
    json_close(&out);
}

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    test_values();
    test_help();
    test_refusals();
    test_record();
    options_close(&o, &sample);
    return test_end();
}
