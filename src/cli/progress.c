/* progress.c - a bar at most five times a second on a terminal; elsewhere a line every 10 % or minute, as job logs want
 * it. The rate is that of the whole stretch: a smoother guess of the time left than the last step's. */
#include "progress.h"
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR 24 /* characters */

static struct {
    progress_style style;
    char what[48];
    double began, drawn; /* seconds: of this stretch of work, of the last line */
    int tenth;           /* of the last plain line */
    int64_t first;       /* done when the stretch began */
    bool open;           /* a bar's line is not ended yet */
    double goal, worst;  /* error to reach, and the first that was seen; 0: none */
    bool brief;          /* no lines for what takes less than a second: nobody waits for it */
} state;

static struct {
    const ferry_world *world;
    double limit;
    pthread_t thread;
    bool running;
    atomic_bool stop;
    _Atomic double heard;
    char stage[48];
} watch;

static double clock_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const char *span(char text[32], double seconds)
{
    if (seconds < 100)
        (void)snprintf(text, 32, "%.0f s", seconds);
    else if (seconds < 6000)
        (void)snprintf(text, 32, "%.0f min", seconds / 60);
    else
        (void)snprintf(text, 32, "%.1f h", seconds / 3600);
    return text;
}

/* The part that is done. Errors fall by about the same factor in each iteration, so their logarithm is the measure. */
static double part_of(int64_t done, int64_t total, const char *note)
{
    double part = total > 0 ? (double)done / (double)total : 0, error;
    if (!(state.goal > 0) || !note || sscanf(note, "error %lf", &error) != 1 || !(error > 0)) return part;
    if (!(state.worst > 0)) state.worst = error;
    double way = state.worst > state.goal ? log(state.worst / error) / log(state.worst / state.goal) : 1;
    way = way < 0 ? 0 : way > 1 ? 1 : way;
    return way > part ? way : part;
}

/* A bar that wraps would not be drawn over. */
static int terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
    return size.ws_col;
}

static void line(int64_t done, int64_t total, const char *unit, const char *note, double part, double now)
{
    char left[64] = "", cells[BAR + 1], rest[32], text[256];
    double passed = now - state.began, rate = passed > 0 ? (double)(done - state.first) / passed : 0;
    if (part > 0 && part < 1 && passed > 0.5)
        (void)snprintf(left, sizeof left, ", %s left", span(rest, passed * (1 - part) / part));
    for (int i = 0; i < BAR; i++) cells[i] = i < part * BAR ? '#' : '.';
    cells[BAR] = 0;
    bool bar = state.style == PROGRESS_BAR;
    int used = snprintf(text, sizeof text, bar ? "%s [%s] " : "cellferry: %s ", state.what, cells);
    (void)snprintf(text + used, sizeof text - (size_t)used, "%lld of %s%lld %s, %.3g/s%s%s%s", (long long)done,
                   state.goal > 0 && note && *note ? "at most " : "", (long long)total, unit ? unit : "", rate, left,
                   note && *note ? ", " : "", note ? note : "");
    if (bar)
        fprintf(stderr, "\r%.*s\033[K", terminal_width() - 1, text);
    else
        fprintf(stderr, "%s\n", text);
}

static void begin(const char *what, int64_t done, double now)
{
    progress_end();
    (void)snprintf(state.what, sizeof state.what, "%s", what);
    state.began = state.drawn = now;
    state.first = done;
    state.tenth = 0;
    state.worst = 0;
}

static void hear(void *payload, const char *what, int64_t done, int64_t total, const char *unit, const char *note)
{
    (void)payload;
    double now = clock_now();
    atomic_store(&watch.heard, now);
    if (state.style == PROGRESS_NONE) return;
    if (strncmp(what, state.what, sizeof state.what - 1) != 0) begin(what, done, now);
    double part = part_of(done, total, note);
    int tenth = (int)(10 * part);
    if (state.style == PROGRESS_BAR && now - state.drawn < 0.2 && done < total) return;
    if (state.style == PROGRESS_PLAIN &&
        ((tenth <= state.tenth && now - state.drawn < 60) || (state.brief && now - state.began < 1)))
        return;
    if (state.style == PROGRESS_PLAIN) state.tenth = tenth;
    line(done, total, unit, note, part, now);
    state.open = state.style == PROGRESS_BAR;
    state.drawn = now;
}

void progress_start(progress_style style)
{
    state.brief = style == PROGRESS_AUTO;
    if (style == PROGRESS_AUTO) style = isatty(STDERR_FILENO) ? PROGRESS_BAR : PROGRESS_PLAIN;
    state.style = style;
    ferry_progress_listen(hear, NULL);
}

void progress_goal(double threshold)
{
    state.goal = threshold;
}

void progress_end(void)
{
    if (state.open) fprintf(stderr, "\n");
    state.open = false;
    state.what[0] = 0;
}

/* A hung job cannot meet, so the one rank that sees it ends all of them. */
static void *guard(void *unused)
{
    (void)unused;
    const double step = watch.limit < 2 ? watch.limit / 4 : 0.5;
    const struct timespec pause = {(time_t)step, (long)((step - (double)(time_t)step) * 1e9)};
    while (!atomic_load(&watch.stop)) {
        (void)nanosleep(&pause, NULL);
        if (clock_now() - atomic_load(&watch.heard) < watch.limit || atomic_load(&watch.stop)) continue;
        ferry_status why =
            ferry_fail(FERRY_E_RUN, "no progress for %g s in stage '%s' (--stall-timeout): the job is ended",
                       watch.limit, watch.stage);
        ferry_abort(watch.world, why);
    }
    return NULL;
}

ferry_status watch_start(const ferry_world *world, double seconds)
{
    if (seconds <= 0 || world->rank != 0) return FERRY_OK;
    watch.world = world;
    watch.limit = seconds;
    atomic_store(&watch.stop, false);
    atomic_store(&watch.heard, clock_now());
    if (pthread_create(&watch.thread, NULL, guard, NULL) != 0)
        return ferry_fail(FERRY_E_RUN,
                          "the watchdog of --stall-timeout cannot be started: too many threads on this node");
    watch.running = true;
    return FERRY_OK;
}

void watch_end(void)
{
    if (!watch.running) return;
    atomic_store(&watch.stop, true);
    (void)pthread_join(watch.thread, NULL);
    watch.running = false;
}

void watch_stage(const char *name)
{
    (void)snprintf(watch.stage, sizeof watch.stage, "%s", name);
    atomic_store(&watch.heard, clock_now());
    ferry_stage_begin(name);
}
