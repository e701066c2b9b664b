/* help.c - `cellferry --help` and `cellferry COMMAND --help`, made from the tables. */
#include "options.h"
#include <stdio.h>
#include <string.h>

#define WIDTH  100 /* columns of a line */
#define MARGIN 30  /* where the explanations begin */

/* Prints text from column `at` on, in lines of WIDTH columns that begin at `margin`. */
static void wrap(const char *text, int at, int margin)
{
    while (*text) {
        int word = (int)strcspn(text, " \n");
        if (at > margin && at + 1 + word > WIDTH) {
            printf("\n%*s", margin, "");
            at = margin;
        } else if (at > margin) {
            at += printf(" ");
        }
        at += printf("%.*s", word, text);
        text += word;
        if (*text == '\n') {
            printf("\n%*s", margin, "");
            at = margin;
        }
        if (*text) text++;
    }
    printf("\n");
}

static void help_option(const cli_option *row)
{
    char left[96], text[512];
    const char *preset = row->preset;
    char letter[8] = "    ";
    if (row->letter) (void)snprintf(letter, sizeof letter, "-%c, ", row->letter);
    (void)snprintf(left, sizeof left, "  %s--%s%s%s", letter, row->name, row->metavar ? " " : "",
                   row->metavar ? row->metavar : "");
    int used = snprintf(text, sizeof text, "%s", row->help);
    if (row->unit) used += snprintf(text + used, sizeof text - (size_t)used, "; %s", row->unit);
    if (row->kind == OPTION_FLAG)
        (void)snprintf(text + used, sizeof text - (size_t)used, " [off]");
    else if (preset && preset[0] == '(')
        (void)snprintf(text + used, sizeof text - (size_t)used, " [%.*s]", (int)strlen(preset) - 2, preset + 1);
    else
        (void)snprintf(text + used, sizeof text - (size_t)used, " [%s]", preset ? preset : "none");
    int at = printf("%s", left);
    if (at + 2 > MARGIN) {
        printf("\n");
        at = 0;
    }
    printf("%*s", MARGIN - at, "");
    wrap(text, MARGIN, MARGIN);
}

void help_command(const cli_command *command)
{
    const cli_option *row;
    printf("usage: cellferry %s [options] %s\n\n", command->name, command->usage);
    wrap(command->text, 0, 0);
    printf("\noptions (default in brackets):\n");
    for (int i = 0; (row = options_at(command, i)); i++) help_option(row);
    printf("  -h, --help                  this text\n\nexamples:\n");
    for (const char *line = command->example; *line;) {
        int length = (int)strcspn(line, "\n");
        printf("  %.*s\n", length, line);
        line += length + (line[length] == '\n');
    }
}

void help_program(const cli_command *const *commands)
{
    printf("cellferry " CELLFERRY_VERSION " - carries cells across: optimal transport between single-cell populations, "
           "on any number of ranks\n\n"
           "usage: cellferry COMMAND [options] INPUT... -o OUTPUT\n"
           "       mpirun -n 8 cellferry COMMAND ...      the same result, eight ranks\n\ncommands:\n");
    for (; *commands; commands++) printf("  %-12s %s\n", (*commands)->name, (*commands)->line);
    printf("\n'cellferry COMMAND --help' lists every option with its default and unit; 'cellferry --version' tells the "
           "libraries.\n"
           "exit codes: 0 done, 1 failed while running, 2 wrong usage, 3 bad input, 4 not converged (result written),\n"
           "            5 does not fit in --memory (said before any work)\n");
}
