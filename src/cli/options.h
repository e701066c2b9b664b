/** options.h - one table per command: it drives parsing, --help, the defaults and the run record. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H
#include "json.h"
#include <cellferry.h>

/* What a value is, and where it is stored: */
typedef enum option_kind {
    OPTION_FLAG,   /* bool; takes no value */
    OPTION_TEXT,   /* const char *, NULL when not given */
    OPTION_LIST,   /* text_list: every repetition is kept */
    OPTION_COUNT,  /* int64_t >= 0, 0 when not given */
    OPTION_NUMBER, /* double, NAN when not given */
    OPTION_SIZE,   /* int64_t bytes from "4G", 0 when not given */
    OPTION_TIME,   /* double seconds from "200ms", "30s", "10m", "2h"; 0 when not given */
    OPTION_CHOICE, /* int: which of the words of metavar, "auto|cpu|gpu" */
    OPTION_MAYBE   /* const char *, NULL when not given; "" without its value, which may be left out */
} option_kind;

typedef struct text_list {
    const char **text;
    int count;
} text_list;

typedef struct cli_option {
    const char *name; /* without "--"; NULL ends a table */
    char letter;      /* 0: none */
    option_kind kind;
    const char *metavar; /* "FILE", "NUMBER", "auto|cpu|gpu"; NULL for flags */
    size_t offset;       /* of the value in the command's options struct */
    const char *preset;  /* default, as a user would type it; in "(...)": only shown, the value counts as not given;
                            NULL: none */
    const char *unit;    /* of the value, for --help; NULL: none */
    const char *help;    /* one sentence or two */
} cli_option;

/* Options of the contract that this version has not, and what it does instead. */
typedef struct absent_option {
    const char *name; /* NULL ends */
    const char *why;
} absent_option;

/* The first member of every command's options struct. Values that a command's groups do not offer keep their defaults.
 */
typedef struct common_options {
    const char *output;
    bool overwrite;
    int64_t memory; /* bytes per rank; 0: what the node has free */
    int64_t batch;  /* rows; 0: chosen */
    int64_t threads;
    int device; /* auto, cpu, gpu */
    int simd;   /* auto, generic, avx2, avx512 */
    bool plan;
    int64_t ranks, nodes;
    bool json;
    int progress; /* auto, bar, plain, none */
    double stall; /* seconds; 0: off */
    int64_t seed;
    bool verbose, quiet;
} common_options;

/* Groups of common options that a command takes. */
enum {
    GROUP_OUTPUT = 1,  /* -o, --overwrite */
    GROUP_COMPUTE = 2, /* --memory ... --seed */
    GROUP_JSON = 4,    /* --json */
    GROUP_TALK = 8     /* -v, -q */
};

struct cli_program;
typedef struct cli_command {
    const char *name;
    const char *line;    /* one line for `cellferry --help` */
    const char *usage;   /* "SOURCE [TARGET] -o PLAN.h5" */
    const char *text;    /* paragraphs for --help */
    const char *example; /* two of them, one a line */
    const cli_option *options;
    const absent_option *absent; /* NULL: none */
    int groups;
    size_t size; /* of the options struct */
    int min_inputs, max_inputs;
    /* Collective. options: the struct, filled in from the command line. */
    ferry_status (*run)(struct cli_program *program, const void *options);
} cli_command;

/* Local. words [count] after the command's name -> a filled options struct and the inputs; `help` is set when --help is
 * among them, and then nothing else is checked. All texts are borrowed from words. FERRY_E_ARG names the nearest right
 * option. Close with options_close. */
ferry_status options_parse(void *out, const char **input, int *inputs, bool *help, const cli_command *command,
                           int count, char *const *words);
/* Local. Frees the lists in it. */
void options_close(void *options, const cli_command *command);
/* Local. Every option as it is used, as members of an object that is open. */
void options_record(json *out, const void *options, const cli_command *command);
/* Local. The i-th option of a command over its own table and its groups; NULL past the end. */
const cli_option *options_at(const cli_command *command, int i);
/* Local. "30s", "10m", "200ms", "2h" -> seconds. */
ferry_status time_parse(double *seconds, const char *text);
/* Local. Appends the right one of `choices` ("a|b|c") to a message: FERRY_E_ARG. */
ferry_status choice_find(int *index, const char *what, const char *choices, const char *word);
/* Local. The words of a choice: name of index i, "" past the end; returns text. */
const char *choice_name(char text[32], const char *choices, int i);

/* Local. To stdout. */
void help_program(const cli_command *const *commands);
void help_command(const cli_command *command);
#endif
