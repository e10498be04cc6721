// SPDX-License-Identifier: Apache-2.0
/* Log and trace lines as they stand in the files. */
#include "blockid.h"
#include "trace.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 4
#define LINES 500

struct files {
    char dir[64], log[128], trace[128];
};

static int set_up(void **state)
{
    struct files *f = calloc(1, sizeof(*f));
    snprintf(f->dir, sizeof(f->dir), "/tmp/steadfs-trace-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->log, sizeof(f->log), "%s/log", f->dir);
    snprintf(f->trace, sizeof(f->trace), "%s/trace", f->dir);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct files *f = *state;
    unlink(f->log);
    unlink(f->trace);
    rmdir(f->dir);
    free(f);
    return 0;
}

/* The whole file as text. */
static char *contents(const char *path)
{
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    char *text = calloc(1, 1u << 20);
    size_t n = fread(text, 1, (1u << 20) - 1, in);
    text[n] = '\0';
    fclose(in);
    return text;
}

/* What stands behind the first line's time, without its end of line. */
static char *after_time(char *text)
{
    char *blank = strchr(text, ' ');
    assert_non_null(blank);
    assert_int_equal(blank - text, strlen("2026-01-31T12:00:00.123456Z"));
    assert_int_equal(blank[-1], 'Z');
    char *end = strchr(blank, '\n');
    assert_non_null(end);
    *end = '\0';
    return blank + 1;
}

/* As logrotate does it: lines go on in a new file, and none is lost. */
static void files_that_are_moved_away(void **state)
{
    struct files *f = *state;
    struct log *l;
    char moved[160];
    snprintf(moved, sizeof(moved), "%s/moved", f->dir);
    assert_int_equal(log_open(&l, "test", f->log, f->trace, LOG_L_INFO), 0);
    log_printf(l, LOG_L_INFO, "one");
    assert_int_equal(rename(f->log, moved), 0);
    log_printf(l, LOG_L_INFO, "two");
    log_reopen(l);
    log_printf(l, LOG_L_INFO, "three");
    char *old = contents(moved), *new = contents(f->log);
    assert_non_null(strstr(old, "one\n"));
    assert_non_null(strstr(old, "two\n"));
    assert_null(strstr(old, "three"));
    assert_string_equal(after_time(new), "INFO test: three");
    free(old);
    free(new);
    unlink(f->log);
    assert_int_equal(mkdir(f->log, 0700), 0); /* it cannot be opened: the old one goes on */
    log_reopen(l);
    assert_int_equal(rmdir(f->log), 0);
    log_close(l);
    unlink(moved);
    assert_int_equal(log_open(&l, "test", NULL, NULL, LOG_L_ERROR), 0);
    log_reopen(l); /* standard error stays */
    log_close(l);
}

static void a_trace_line(void **state)
{
    struct files *f = *state;
    struct log *l;
    assert_int_equal(log_open(&l, "test", f->log, f->trace, LOG_L_INFO), 0);
    assert_true(trace_on(l));
    struct block_id id;
    assert_int_equal(block_id_parse(&id, "ba7816bf8f01cfea414140de5dae2223"
                                         "b00361a396177a9cb410ff61f20015ad"),
                     0);
    struct trace t = trace_begin(l, "A6");
    trace_u64(&t, "ns", 7);
    trace_str(&t, "name", "a b\n100%");
    trace_ids(&t, "ids", &id, 1);
    trace_ids(&t, "missing", NULL, 0);
    trace_end(&t);
    log_close(l);
    char *text = contents(f->trace);
    assert_string_equal(after_time(text), "A6 ns=7 name=a%20b%0A100%25 ids=ba7816bf8f01 missing=");
    free(text);
}

static void at_most_20_ids(void **state)
{
    struct files *f = *state;
    struct log *l;
    assert_int_equal(log_open(&l, "test", f->log, f->trace, LOG_L_INFO), 0);
    struct block_id ids[23] = {{{0}}};
    for (size_t n = 20; n <= 23; n += 3) {
        struct trace t = trace_begin(l, "put");
        trace_ids(&t, "ids", ids, n);
        trace_end(&t);
    }
    log_close(l);
    char *text = contents(f->trace);
    char *second = strchr(text, '\n') + 1;
    assert_null(memmem(text, (size_t)(second - text), "(+", 2));
    char *line = after_time(second);
    assert_non_null(strstr(line, "000000000000(+3)"));
    unsigned commas = 0;
    for (char *p = line; *p; p++)
        commas += *p == ',';
    assert_int_equal(commas, 19);
    free(text);
}

static void log_lines(void **state)
{
    struct files *f = *state;
    struct log *l;
    assert_int_equal(log_open(&l, "metad", f->log, NULL, LOG_L_INFO), 0);
    assert_false(trace_on(l));
    log_printf(l, LOG_L_DEBUG, "not at this level");
    log_printf(l, LOG_L_WARN, "name %s", "a\nERROR forged\x7f");
    struct trace t = trace_begin(l, "A1"); /* silent without a trace */
    trace_u64(&t, "ns", 1);
    trace_str(&t, "x", "y");
    trace_end(&t);
    log_close(l);
    char *text = contents(f->log);
    assert_string_equal(after_time(text), "WARN metad: name a?ERROR forged?");
    free(text);
}

static void an_endless_text_is_cut(void **state)
{
    struct files *f = *state;
    struct log *l;
    assert_int_equal(log_open(&l, "metad", f->log, NULL, LOG_L_INFO), 0);
    log_printf(l, LOG_L_ERROR, "%0100000d", 1);
    log_close(l);
    char *text = contents(f->log);
    assert_in_range(strlen(text), 4000, 4200);
    assert_int_equal(text[strlen(text) - 1], '\n');
    free(text);
}

static void log_says_what_it_is_about(void **state)
{
    struct files *f = *state;
    struct log *l;
    assert_int_equal(log_open(&l, "mount", f->log, NULL, LOG_L_INFO), 0);
    log_about(l, LOG_L_WARN, &(struct log_where){.ns = 3, .request = 9}, "refused");
    struct log_where all = {.ns = 3, .node = 4, .device = 5, .request = 9, .op = "5-1f"};
    log_about(l, LOG_L_INFO, &all, "done");
    assert_true(log_shows(l, LOG_L_INFO) && !log_shows(l, LOG_L_DEBUG));
    log_close(l);
    char *text = contents(f->log);
    assert_non_null(strstr(text, " WARN mount ns=3 request=9: refused\n"));
    assert_non_null(strstr(text, " INFO mount ns=3 node=4 device=5 request=9 op=5-1f: done\n"));
    free(text);
}

static size_t lines_of(const char *text, const char *with)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr(p, with)); p++)
        n++;
    return n;
}

/* One place in a loop does not fill the disk; another is not held back by it. */
static void one_place_writes_so_many_lines(void **state)
{
    struct files *f = *state;
    struct log *l;
    assert_int_equal(log_open(&l, "mount", f->log, NULL, LOG_L_INFO), 0);
    for (int i = 0; i < 10 * LOG_BURST; i++)
        log_printf(l, LOG_L_WARN, "again and again %d", i);
    log_printf(l, LOG_L_WARN, "another place");
    log_close(l);
    char *text = contents(f->log);
    size_t n = lines_of(text, "again and again");
    assert_in_range(n, LOG_BURST, 2 * LOG_BURST); /* a window may end in between */
    assert_int_equal(lines_of(text, "another place"), 1);
    free(text);
}

static void silent_without_a_log(void **state)
{
    (void)state;
    assert_false(trace_on(NULL));
    log_printf(NULL, LOG_L_ERROR, "nothing");
    struct trace t = trace_begin(NULL, "A1");
    trace_u64(&t, "ns", 1);
    trace_ids(&t, "ids", NULL, 0);
    trace_end(&t);
    log_close(NULL);
}

static void errors_of_opening(void **state)
{
    struct files *f = *state;
    struct log *l = NULL;
    char path[200];
    snprintf(path, sizeof(path), "%s/no/log", f->dir);
    assert_int_equal(log_open(&l, "test", path, NULL, LOG_L_INFO), -ENOENT);
    assert_int_equal(log_open(&l, "test", f->log, path, LOG_L_INFO), -ENOENT);
    assert_null(l);
}

static void *write_lines(void *log)
{
    for (unsigned i = 0; i < LINES; i++) {
        struct trace t = trace_begin(log, "A2");
        trace_str(&t, "text", "0123456789012345678901234567890123456789");
        trace_end(&t);
    }
    return NULL;
}

static void lines_of_threads_do_not_mix(void **state)
{
    struct files *f = *state;
    struct log *l;
    pthread_t threads[THREADS];
    assert_int_equal(log_open(&l, "test", f->log, f->trace, LOG_L_INFO), 0);
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_lines, l), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    log_close(l);
    char *text = contents(f->trace);
    unsigned n = 0;
    char *save = NULL;
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), n++)
        assert_string_equal(line + 28, "A2 text=0123456789012345678901234567890123456789");
    assert_int_equal(n, THREADS * LINES);
    free(text);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_that_are_moved_away),
        TEST(a_trace_line),
        TEST(at_most_20_ids),
        TEST(log_lines),
        TEST(an_endless_text_is_cut),
        TEST(log_says_what_it_is_about),
        TEST(one_place_writes_so_many_lines),
        TEST(silent_without_a_log),
        TEST(errors_of_opening),
        TEST(lines_of_threads_do_not_mix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
