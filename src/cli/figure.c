/* figure.c - see figure.h. Texts go into the script as single-quoted strings of a terminal without markup, so that
 * names such as "CD4+/CD25 T Reg_1^@" come out as they are written. */
#define _GNU_SOURCE /* posix_spawn_file_actions_addchdir_np */
#include "figure.h"
#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

void figure_add(figure_text *out, const char *fmt, ...)
{
    if (out->failed) return;
    for (int attempt = 0; attempt < 2; attempt++) {
        va_list arguments;
        va_start(arguments, fmt);
        const size_t left = out->room - out->length;
        const int wanted = vsnprintf(out->text ? out->text + out->length : NULL, left, fmt, arguments);
        va_end(arguments);
        if (wanted < 0) break;
        if ((size_t)wanted < left) {
            out->length += (size_t)wanted;
            return;
        }
        const size_t room = 2 * (out->room + (size_t)wanted) + 1024;
        char *grown = realloc(out->text, room);
        if (!grown) break;
        out->text = grown;
        out->room = room;
    }
    out->failed = true;
}

const char *figure_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* FIGURE.svg -> FIGURE.gp */
static char *beside(const char *path, size_t stem, const char *ending)
{
    char *out = NULL;
    if (ferry_alloc_bytes(&out, (int64_t)(stem + strlen(ending) + 1), 1) != FERRY_OK) return NULL;
    memcpy(out, path, stem);
    memcpy(out + stem, ending, strlen(ending) + 1);
    return out;
}

ferry_status figure_open(figure *out, const char *path)
{
    static const char *const ending[] = {".svg", ".png", ".pdf"};
    *out = (figure){.format = -1};
    const char *dot = strrchr(figure_base_name(path), '.');
    for (int i = 0; dot && i < 3; i++)
        if (strcmp(dot, ending[i]) == 0) out->format = i;
    if (!dot || out->format < 0)
        return ferry_fail(FERRY_E_ARG, "--output %s: a figure ends in .svg, .png or .pdf", path);
    const size_t stem = (size_t)(dot - path);
    out->path = beside(path, stem, dot);
    out->script_path = beside(path, stem, ".gp");
    out->data_path = beside(path, stem, ".dat");
    if (!out->path || !out->script_path || !out->data_path) {
        figure_close(out);
        return ferry_fail(FERRY_E_MEM, "no memory for the name of a figure");
    }
    out->name = figure_base_name(out->path);
    out->data_name = figure_base_name(out->data_path);
    return FERRY_OK;
}

void figure_close(figure *out)
{
    free(out->path);
    free(out->script_path);
    free(out->data_path);
    free(out->script.text);
    free(out->data.text);
    memset(out, 0, sizeof *out);
}

void figure_quote(figure_text *out, const char *text)
{
    figure_add(out, "'");
    for (const char *c = text; *c; c++) {
        if (*c == '\'')
            figure_add(out, "''");
        else
            figure_add(out, "%c", (unsigned char)*c < 0x20 ? ' ' : *c);
    }
    figure_add(out, "'");
}

/* Length of the UTF-8 letter at c and its code point; 0 for a byte that is not UTF-8. */
static int letter_at(const char *c, unsigned *code)
{
    const unsigned char *u = (const unsigned char *)c;
    const int length = u[0] < 0x80 ? 1 : u[0] >> 5 == 6 ? 2 : u[0] >> 4 == 14 ? 3 : u[0] >> 3 == 30 ? 4 : 0;
    *code = length <= 1 ? u[0] : u[0] & (0x7Fu >> length);
    for (int i = 1; i < length; i++) {
        if ((u[i] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | (u[i] & 0x3F);
    }
    return length;
}

/* The text as this format can show it: bytes that are no UTF-8 become "?", and in PNG and PDF so do letters that common
 * fonts lack, for which cairo would draw boxes of any size. SVG leaves fonts to the viewer. */
static void add_shown(figure_text *to, const figure *out, const char *text)
{
    figure_text shown = {0};
    unsigned code = 0;
    figure_add(&shown, "%s", "");
    for (const char *c = text; *c;) {
        const int length = letter_at(c, &code);
        if (length == 0 || (out->format != 0 && code >= 0x2C00))
            figure_add(&shown, "?");
        else
            figure_add(&shown, "%.*s", length, c);
        c += length ? length : 1;
    }
    if (shown.failed) to->failed = true;
    figure_quote(to, shown.text ? shown.text : "");
    free(shown.text);
}

/* Pixels of the canvas are CSS pixels (1/96 inch) in all three formats; PNG has two of its own for each. */
void figure_canvas(figure *out, double width, double height)
{
    figure_text *s = &out->script;
    out->width = width;
    out->height = height;
    figure_add(s, "# cellferry plot: to draw it again, run gnuplot on this file in this folder.\n");
    if (out->format == 0)
        figure_add(
            s, "set terminal svg noenhanced size %.0f,%.0f font 'Helvetica,Arial,sans-serif,12' background '#ffffff'\n",
            width, height);
    else if (out->format == 1)
        figure_add(s,
                   "set terminal pngcairo noenhanced size %.0f,%.0f font 'Sans,9' fontscale 2 linewidth 2 pointscale 2 "
                   "background '#ffffff'\n",
                   2 * width, 2 * height);
    else
        figure_add(s,
                   "set terminal pdfcairo noenhanced size %.3fin,%.3fin font 'Sans,9' fontscale 1 linewidth 1 "
                   "background '#ffffff'\n",
                   width / 96, height / 96);
    figure_add(s, "set output ");
    figure_quote(s, out->name);
    figure_add(s, "\nset encoding utf8\nset datafile separator '\\t'\nunset key\n");
    figure_add(&out->data, "# cellferry plot: the numbers of %s\n", out->name);
}

void figure_margins(figure *out, double left, double bottom, double right, double top)
{
    const double w = out->width, h = out->height;
    figure_add(&out->script,
               "set lmargin at screen %.6f\nset rmargin at screen %.6f\nset bmargin at screen %.6f\nset tmargin at "
               "screen %.6f\n",
               left / w, right / w, bottom / h, top / h);
}

/* Font sizes are pixels; the cairo terminals count points, of which 72 make the inch that 96 pixels make. */
static double points(const figure *out, double pixels)
{
    return out->format == 0 ? pixels : pixels * 0.75;
}

void figure_label(figure *out, double x, double y, char align, double size, double rotate, const char *colour,
                  const char *text)
{
    figure_text *s = &out->script;
    figure_add(s, "set label ");
    add_shown(s, out, text);
    figure_add(s, " at screen %.6f, screen %.6f %s font ',%.4g' textcolor rgb '%s' front", x / out->width,
               y / out->height,
               align == 'l'   ? "left"
               : align == 'r' ? "right"
                              : "center",
               points(out, size), colour);
    if (rotate != 0) figure_add(s, " rotate by %.0f", rotate);
    figure_add(s, "\n");
}

void figure_rect(figure *out, double x0, double y0, double x1, double y1, const char *colour)
{
    const double w = out->width, h = out->height;
    figure_add(&out->script,
               "set object rectangle from screen %.6f, screen %.6f to screen %.6f, screen %.6f fillcolor rgb '%s' "
               "fillstyle solid 1 noborder\n",
               x0 / w, y0 / h, x1 / w, y1 / h, colour);
}

void figure_frame(figure *out, double x0, double y0, double x1, double y1)
{
    const double w = out->width, h = out->height;
    figure_add(&out->script,
               "set object rectangle from screen %.6f, screen %.6f to screen %.6f, screen %.6f fillstyle empty border "
               "linecolor rgb '%s' linewidth 0.75\n",
               x0 / w, y0 / h, x1 / w, y1 / h, FIGURE_GREY);
}

/* Radius of pointtype 7 at pointsize 1, in pixels of the canvas, as the terminals draw it. */
double figure_point_size(const figure *out, double radius)
{
    static const double unit[] = {4.5, 3, 4};
    return radius / unit[out->format];
}

void figure_dot(figure *out, double x, double y, double radius, const char *colour)
{
    figure_add(&out->script,
               "set label '' at screen %.6f, screen %.6f point pointtype 7 pointsize %.4g linecolor rgb '%s' front\n",
               x / out->width, y / out->height, figure_point_size(out, radius), colour);
}

static bool starts_letter(char c)
{
    return ((unsigned char)c & 0xC0) != 0x80; /* not a continuation byte of UTF-8 */
}

double figure_text_width(const char *text, double size)
{
    double letters = 0;
    for (const char *c = text; *c; c++) letters += starts_letter(*c);
    return 0.6 * size * letters;
}

const char *figure_fit(char out[256], const char *text, double size, double width)
{
    int64_t room = (int64_t)(width / (0.6 * size)), letters = 0;
    if (room > 120) room = 120; /* at most 2 * 120 bytes of most scripts, and a part of 256 */
    if (room < 5) room = 5;
    for (const char *c = text; *c; c++) letters += starts_letter(*c);
    const int64_t head = letters <= room ? letters : (room - 3 + 1) / 2;
    const int64_t tail = letters <= room ? 0 : room - 3 - head;
    size_t used = 0;
    int64_t letter = -1;
    bool dots = false;
    for (const char *c = text; *c && used < 250; c++) {
        letter += starts_letter(*c);
        if (letter < head || letter >= letters - tail) {
            out[used++] = *c;
        } else if (!dots) {
            memcpy(out + used, "...", 3);
            used += 3;
            dots = true;
        }
    }
    out[used] = 0;
    return out;
}

ferry_status figure_file_read(char **text, const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return ferry_fail(FERRY_E_FILE, "%s: cannot read it: %s", path, strerror(errno));
    figure_text all = {0};
    char part[65536];
    size_t got;
    while ((got = fread(part, 1, sizeof part, file)) > 0) figure_add(&all, "%.*s", (int)got, part);
    const bool bad = ferror(file) != 0;
    (void)fclose(file);
    if (!all.text) figure_add(&all, "%s", "");
    if (bad || all.failed) {
        free(all.text);
        return bad ? ferry_fail(FERRY_E_FILE, "%s: reading it failed", path)
                   : ferry_fail(FERRY_E_MEM, "%s: no memory to read it", path);
    }
    *text = all.text;
    return FERRY_OK;
}

/* ---- gnuplot ---- */

/* The folder of the figure, "." when it is the present one; free with free(). */
static char *folder_of(const char *path)
{
    const size_t length = (size_t)(figure_base_name(path) - path);
    return length == 0 ? beside(".", 1, "") : beside(path, length, "");
}

/* The environment, with a locale that has UTF-8: otherwise gnuplot says that it cannot convert a degree sign. Free with
 * free(); the texts are borrowed. */
static char **utf8_environment(void)
{
    static char locale[] = "LC_ALL=C.UTF-8";
    size_t count = 0, kept = 0;
    while (environ[count]) count++;
    char **out = NULL;
    if (ferry_alloc_bytes(&out, (int64_t)count + 2, sizeof *out) != FERRY_OK) return NULL;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "LC_ALL=", 7) != 0) out[kept++] = environ[i];
    out[kept] = locale;
    out[kept + 1] = NULL;
    return out;
}

/* exit status of gnuplot, or -1 with errno of the start */
static int run_gnuplot(const char *folder, const char *script)
{
    char *const arguments[] = {(char[]){"gnuplot"}, (char *)script, NULL};
    FERRY_AUTO char **environment = utf8_environment();
    posix_spawn_file_actions_t actions;
    pid_t child = 0;
    if (!environment || posix_spawn_file_actions_init(&actions) != 0) return -1;
    int failed = posix_spawn_file_actions_addchdir_np(&actions, folder);
    if (!failed) failed = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", 0, 0);
    if (!failed) failed = posix_spawnp(&child, "gnuplot", &actions, NULL, arguments, environment);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (failed) {
        errno = failed;
        return -1;
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

ferry_status figure_draw(const figure *out)
{
    FERRY_AUTO char *folder = folder_of(out->path);
    if (!folder) return ferry_fail(FERRY_E_MEM, "no memory to start gnuplot");
    const char *script = figure_base_name(out->script_path);
    const int code = run_gnuplot(folder, script);
    if (code == 127 || (code < 0 && errno == ENOENT))
        return ferry_fail(
            FERRY_E_DEVICE,
            "there is no gnuplot to draw %s: the script and its numbers are in %s and %s; install gnuplot "
            "(gnuplot-nox on Debian), then: cd %s && gnuplot %s",
            out->path, out->script_path, out->data_path, folder, script);
    struct stat drawn;
    if (code != 0 || stat(out->path, &drawn) != 0 || drawn.st_size == 0)
        return ferry_fail(FERRY_E_RUN, "gnuplot could not draw %s (%s; exit code %d); to see why: cd %s && gnuplot %s",
                          out->path, code < 0 ? strerror(errno) : "its messages are above", code, folder, script);
    return FERRY_OK;
}

/* Script and data are by-products: they may replace their own kind, not a file of the user's. */
static ferry_status may_write(const char *path, bool overwrite, bool by_product)
{
    static const char ours[] = "# cellferry plot";
    char head[sizeof ours] = {0};
    if (overwrite || access(path, F_OK) != 0) return FERRY_OK;
    if (by_product) {
        FILE *file = fopen(path, "rb");
        if (file) {
            const size_t got = fread(head, 1, sizeof ours - 1, file);
            (void)fclose(file);
            if (got == sizeof ours - 1 && memcmp(head, ours, got) == 0) return FERRY_OK;
        }
    }
    return ferry_fail(FERRY_E_FILE, "%s exists: give --overwrite or another --output", path);
}

ferry_status figure_check(const figure *out, bool overwrite)
{
    FERRY_TRY(may_write(out->path, overwrite, false));
    FERRY_TRY(may_write(out->script_path, overwrite, true));
    return may_write(out->data_path, overwrite, true);
}

/* A path that rank 0 made, the same on all ranks. */
static void share_path(char path[4096], const ferry_world *world, const char *mine)
{
    if (world->rank == 0) (void)snprintf(path, 4096, "%s", mine);
    ferry_broadcast(world, path, 4096, 0);
}

ferry_status figure_write(const figure *out, const ferry_world *world)
{
    char path[4096] = "";
    share_path(path, world, out->data_path);
    FERRY_TRY(ferry_text_write(world, path, true, out->data.text, out->data.length));
    share_path(path, world, out->script_path);
    FERRY_TRY(ferry_text_write(world, path, true, out->script.text, out->script.length));
    return ferry_agree(world, world->rank == 0 ? figure_draw(out) : FERRY_OK);
}
