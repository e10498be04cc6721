// SPDX-License-Identifier: Apache-2.0
/* Every pair of changes of fs/CONFLICTS.md, section "Every pair": what the table's cell says is
 * what becomes of it. One device (there) commits first, the other one (here) meets that: with
 * the journal read before it sends (or refused, and then), and knowing the whole tree (or only what
 * it touched). After it all trees are the server's, and nothing written is lost.
 *
 * The tables are the test's: a cell that is missing or says something else fails. With PAIRS_PRINT
 * set, what becomes of each pair is printed as the table would say it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "pair_outcome.h"

#define OPS_MAX 16

/* ---- how two devices' changes are related ---------------------------------------------------- */
struct relation {
    const char *test;
    const char *rows[OPS_MAX], *columns[OPS_MAX]; /* here, there; NULL-terminated */
    struct place here, there;
};

#define FILE_OPS                                                                                   \
    "write", "truncate", "chmod", "xattr", "rename", "move", "link", "unlink", "exchange", "swap", \
        "exchange kinds", "replace", "save", NULL
#define EXCHANGES "swap", "exchange kinds"
#define DIR_OPS "chmod", "xattr", "rename", "move", "rm -r", "exchange", "replace dir", "into", NULL
#define NAME_OPS "create", "create same", "mkdir", "symlink", "rename", "move in", "link", NULL
#define CHILD_OPS                                                                                  \
    "create", "mkdir", "write", "truncate", "chmod", "xattr", "rename", "move", "move in", "link", \
        "unlink", "rmdir", "exchange", "save", NULL
#define ALL_OPS                                                                                    \
    "create", "mkdir", "write", "truncate", "chmod", "xattr", "rename", "move", "link", "unlink",  \
        "rmdir", "exchange", NULL

#define CHILD                                                                                      \
    {                                                                                              \
        "d/s", "g", "e", "p", "y", NULL                                                            \
    }
#define DEEP                                                                                       \
    {                                                                                              \
        "d/s/v", "w", "e", "p", "x", NULL                                                          \
    }
#define DIR_HERE                                                                                   \
    {                                                                                              \
        "d", "s", "e", "q", NULL, NULL, "t", "p"                                                   \
    }
#define DIR_THERE                                                                                  \
    {                                                                                              \
        "d", "s", "e", "u", NULL, NULL, "i", "o"                                                   \
    }

static const struct relation relations[] = {
    {"test_pairs_one_file",
     {FILE_OPS},
     {FILE_OPS},
     {"d", "f", "e", "p", NULL, NULL, "h", "q"},
     {"d", "f", "e", "o", NULL, NULL, "l", "u"}},
    {"test_pairs_one_directory", {EXCHANGES, DIR_OPS}, {EXCHANGES, DIR_OPS}, DIR_HERE, DIR_THERE},
    {"test_pairs_one_name",
     {NAME_OPS},
     {NAME_OPS},
     {"d", "f", "e", "p", NULL, "n"},
     {"d", "h", "e", "o", NULL, "n"}},
    {"test_pairs_one_name_directories",
     {"create", "mkdir", "symlink", "rename", "move in", NULL},
     {"create", "mkdir", "symlink", "rename", "move in", NULL},
     {"d", "s", "e", "q", NULL, "n"},
     {"d", "t", "e", "u", NULL, "n"}},
    {"test_pairs_in_their_directory", {CHILD_OPS}, {DIR_OPS}, CHILD, DIR_THERE},
    {"test_pairs_directory_of_theirs", {DIR_OPS}, {CHILD_OPS}, DIR_HERE, CHILD},
    {"test_pairs_below_their_directory", {CHILD_OPS}, {DIR_OPS}, DEEP, DIR_THERE},
    {"test_pairs_directory_above_theirs", {DIR_OPS}, {CHILD_OPS}, DIR_HERE, DEEP},
    {"test_pairs_neighbours",
     {ALL_OPS},
     {ALL_OPS},
     {"d", "f", "e", "p", "i", NULL},
     {"d", "h", "e", "o", "j", NULL}},
};
#define RELATIONS (sizeof relations / sizeof *relations)

/* ---- one pair -------------------------------------------------------------------------------- */
struct cell {
    const struct relation *r;
    const char *here, *there;
    bool refused; /* here sends before it has heard of there */
    bool known;
};

static void walk(struct pair *p, struct device *d, const struct place *at)
{
    char path[128];
    device_walk(p, d, at->dir);
    device_walk(p, d, at->away);
    const char *const names[] = {at->name, at->empty, at->beside};
    for (size_t i = 0; i < 3; i++)
        if (names[i]) {
            snprintf(path, sizeof path, "%s/%s", at->dir, names[i]);
            device_walk(p, d, path);
        }
    snprintf(path, sizeof path, "%s/%s", at->away, at->other);
    device_walk(p, d, path);
    if (at->odd) {
        snprintf(path, sizeof path, "%s/%s", at->away, at->odd);
        device_walk(p, d, path);
    }
    device_walk(p, d, "e/q"); /* of "into" */
}

/* What programs of one device would have made of it. */
static void pair_expect(struct pair *p, const struct cell *c, struct outcome *o)
{
    struct device *d = &p->d[SERIAL];
    *o = (struct outcome){0};
    pair_alone(p);
    device_dump(p, d, &o->base);
    assert_int_equal(pair_do(p, d, HERE, &c->r->here, c->here), 0);
    device_dump(p, d, &o->x);
    pair_end(p);
    pair_alone(p);
    assert_int_equal(pair_do(p, d, THERE, &c->r->there, c->there), 0);
    device_dump(p, d, &o->y);
    o->serial = pair_do(p, d, HERE, &c->r->here, c->here) == 0;
    device_dump(p, d, &o->xy);
    pair_end(p);
}

static void pair_run(struct pair *p, const struct cell *c, struct outcome *o, const char **why)
{
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump *t = calloc(1, sizeof *t);
    assert_non_null(t);
    pair_begin(p, c->known);
    if (!c->known)
        walk(p, here, &c->r->here);
    assert_int_equal(pair_do(p, here, HERE, &c->r->here, c->here), 0);
    assert_int_equal(pair_do(p, there, THERE, &c->r->there, c->there), 0);
    if (c->refused)
        device_plan(p, here);
    device_commit(p, there);
    if (c->refused)
        device_send(p, here);
    pair_settle(p);
    pair_fresh(p);
    device_dump(p, &p->d[FRESH], &o->last);
    device_dump(p, here, t);
    *why = outcome_wrong(t, &o->last);
    device_dump(p, there, t);
    if (!*why)
        *why = outcome_wrong(t, &o->last);
    if (!*why)
        *why = outcome_lost(o);
    pair_end(p);
    free(t);
}

static void show(const struct cell *c, const struct outcome *o)
{
    print_message("%s: here %s, there %s, %s, %s\n", c->r->test, c->here, c->there,
                  c->refused ? "here's commit refused" : "journal read first",
                  c->known ? "whole tree known" : "only what is touched known");
    dump_print("here alone", &o->x);
    dump_print("there alone", &o->y);
    if (o->serial)
        dump_print("there, then here", &o->xy);
    dump_print("at the end", &o->last);
}

/* The four ways of one cell; all must end as expected (NULL: any, told in *got). */
static unsigned cell_run(struct pair *p, const struct relation *r, const char *here,
                         const char *there, const char *expected, const char **got)
{
    unsigned failed = 0;
    struct outcome *o = calloc(1, sizeof *o);
    assert_non_null(o);
    *got = NULL;
    pair_expect(p, &(struct cell){.r = r, .here = here, .there = there}, o);
    for (unsigned k = 0; k < 4; k++) {
        struct cell c = {.r = r, .here = here, .there = there, .refused = k & 1, .known = !(k & 2)};
        const char *why;
        pair_run(p, &c, o, &why);
        const char *name = outcome_name(o);
        bool differs = *got && strcmp(*got, name);
        *got = differs ? "differs" : name;
        if (!why && !differs && strcmp(name, "?") && (!expected || !strcmp(expected, name)))
            continue;
        failed++;
        print_message("FAILED: %s; outcome '%s', expected '%s'\n", why ? why : "trees are equal",
                      name, expected ? expected : "any");
        show(&c, o);
    }
    free(o);
    return failed;
}

/* ---- longer ago than history is kept --------------------------------------------------------- */
enum forgotten {
    FORGOTTEN_UNSENT,
    FORGOTTEN_UNKNOWN, /* here knows only what it touched */
    FORGOTTEN_LATE,    /* here's commit is on its way all the time */
    FORGOTTEN_LOST,    /* it was committed first, and the answer lost */
    FORGOTTEN_AMID,    /* it is sent in the middle of the comparison */
    FORGOTTEN_WAYS
};

/* The pair, where the server has forgotten there's record when here asks for it. */
static const char *forgotten_run(struct pair *p, const struct cell *c, enum forgotten way,
                                 struct outcome *o)
{
    struct device *here = &p->d[HERE], *there = &p->d[THERE];
    struct dump *t = calloc(1, sizeof *t);
    assert_non_null(t);
    pair_begin(p, way != FORGOTTEN_UNKNOWN);
    if (way == FORGOTTEN_UNKNOWN)
        walk(p, here, &c->r->here);
    assert_int_equal(pair_do(p, here, HERE, &c->r->here, c->here), 0);
    assert_int_equal(pair_do(p, there, THERE, &c->r->there, c->there), 0);
    if (way == FORGOTTEN_LATE || way == FORGOTTEN_LOST)
        device_plan(p, here);
    if (way == FORGOTTEN_LOST)
        device_send_lost(p, here);
    device_follow(p, there);
    device_commit(p, there);
    pair_forget(p);
    p->meanwhile = way == FORGOTTEN_AMID;
    device_follow(p, here);
    p->meanwhile = false;
    assert_int_equal(here->resyncs, 1);
    if (way == FORGOTTEN_LATE)
        device_send(p, here);
    pair_settle(p);
    pair_fresh(p);
    device_dump(p, &p->d[FRESH], &o->last);
    device_dump(p, here, t);
    const char *why = outcome_wrong(t, &o->last);
    device_dump(p, there, t);
    if (!why)
        why = outcome_wrong(t, &o->last);
    if (!why)
        why = outcome_lost(o);
    pair_end(p);
    free(t);
    return why;
}

static unsigned forgotten_cell(struct pair *p, const struct cell *c)
{
    static const char *const ways[] = {"unsent", "unsent, only what is touched known", "under way",
                                       "committed, answer lost", "sent amid the comparison"};
    unsigned failed = 0;
    struct outcome *o = calloc(1, sizeof *o);
    assert_non_null(o);
    pair_expect(p, c, o);
    for (unsigned way = 0; way < FORGOTTEN_WAYS; way++) {
        if (getenv("PAIRS_PRINT")) /* which one, if it does not come to an end */
            print_message("%s: here %s (%s), there %s\n", c->r->test, c->here, ways[way], c->there);
        const char *why = forgotten_run(p, c, (enum forgotten)way, o);
        if (!why)
            continue;
        failed++;
        print_message("FAILED: %s; here's change %s\n", why, ways[way]);
        show(c, o);
    }
    free(o);
    return failed;
}

/* ---- the tables of CONFLICTS.md -------------------------------------------------------------- */
static char *read_text(const char *path)
{
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *all = calloc(1, 1 << 20);
    assert_non_null(all);
    size_t n = fread(all, 1, (1 << 20) - 1, f);
    fclose(f);
    assert_true(n > 0 && n < (1 << 20) - 1);
    return all;
}

/* The k-th cell of a table's line, without blanks around it; false: there are not so many. */
static bool cell_text(const char *line, size_t k, char *out, size_t cap)
{
    const char *end = line + strcspn(line, "\n");
    for (size_t i = 0; i <= k; i++) {
        line = memchr(line, '|', (size_t)(end - line));
        if (!line++)
            return false;
    }
    const char *stop = memchr(line, '|', (size_t)(end - line));
    if (!stop)
        return false;
    while (line < stop && *line == ' ')
        line++;
    while (stop > line && stop[-1] == ' ')
        stop--;
    snprintf(out, cap, "%.*s", (int)(stop - line), line);
    return true;
}

/* What the table of `test` says of a pair; false: nothing. */
static bool expected(const char *text, const char *test, const char *here, const char *there,
                     char *out, size_t cap)
{
    char mark[80], cell[64];
    size_t column = 0;
    snprintf(mark, sizeof mark, "`%s`", test);
    const char *line = strstr(text, mark);
    line = line ? strstr(line, "\n|") : NULL;
    if (!line++)
        return false;
    while (cell_text(line, ++column, cell, sizeof cell) && strcmp(cell, there) &&
           strcmp(cell, "any"))
        ;
    if (!cell_text(line, column, cell, sizeof cell))
        return false;
    while (*line == '|') {
        if (cell_text(line, 0, cell, sizeof cell) && (!strcmp(cell, here) || !strcmp(cell, "any")))
            return cell_text(line, column, out, cap) && *out;
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return false;
}

static struct pair *pair;
static char *text;

static void run_relation(const struct relation *r)
{
    unsigned failed = 0;
    bool print = getenv("PAIRS_PRINT") != NULL;
    for (size_t i = 0; print && r->columns[i]; i++)
        print_message("%s%s |", i ? " " : "| here ↓ there → | ", r->columns[i]);
    for (size_t i = 0; r->rows[i]; i++) {
        if (print)
            print_message("\n| %s |", r->rows[i]);
        for (size_t k = 0; r->columns[k]; k++) {
            char want[64];
            const char *got;
            bool told = expected(text, r->test, r->rows[i], r->columns[k], want, sizeof want);
            if (!told && !print) {
                print_message("CONFLICTS.md, %s: nothing is said of here %s, there %s\n", r->test,
                              r->rows[i], r->columns[k]);
                failed++;
            }
            failed += cell_run(pair, r, r->rows[i], r->columns[k],
                               print  ? NULL
                               : told ? want
                                      : "-",
                               &got);
            if (print)
                print_message(" %s |", got);
        }
    }
    if (print)
        print_message("\n");
    assert_int_equal(failed, 0);
}

#define RELATION_TEST(name)                                                                        \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        for (size_t i = 0; i < RELATIONS; i++)                                                     \
            if (!strcmp(relations[i].test, #name))                                                 \
                run_relation(&relations[i]);                                                       \
    }
RELATION_TEST(test_pairs_one_file)
RELATION_TEST(test_pairs_one_directory)
RELATION_TEST(test_pairs_one_name)
RELATION_TEST(test_pairs_one_name_directories)
RELATION_TEST(test_pairs_in_their_directory)
RELATION_TEST(test_pairs_directory_of_theirs)
RELATION_TEST(test_pairs_below_their_directory)
RELATION_TEST(test_pairs_directory_above_theirs)
RELATION_TEST(test_pairs_neighbours)

/* ---- the other tables ------------------------------------------------------------------------ */
/* Whether a test program of the core runs the test. */
static bool test_exists(const char *name)
{
    static const char *const files[] = {
        TESTS_DIR "/test_core_conflict.c", TESTS_DIR "/test_core_apply.c",
        TESTS_DIR "/test_core_sent.c",     TESTS_DIR "/test_conflict_pairs.c",
        TESTS_DIR "/test_forgotten.c",     TESTS_DIR "/test_restored.c",
        TESTS_DIR "/test_parted.c",        TESTS_DIR "/test_core_resent.c",
        TESTS_DIR "/test_restored_sent.c", TESTS_DIR "/test_core_removed.c"};
    char run[2][96];
    bool found = false;
    snprintf(run[0], sizeof run[0], " T(%s),", name);
    snprintf(run[1], sizeof run[1], " cmocka_unit_test(%s),", name);
    for (size_t i = 0; !found && i < sizeof files / sizeof *files; i++) {
        char *source = read_text(files[i]);
        found = strstr(source, run[0]) || strstr(source, run[1]);
        free(source);
    }
    return found;
}

/* Tests named by a line of the document; those that do not exist are told, and make it -1. */
static int tests_of(const char *line)
{
    int n = 0;
    bool missing = false;
    const char *end = line + strcspn(line, "\n");
    for (const char *at = line; (at = strstr(at, "`test_")) && at < end; at++) {
        char name[80];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(at + 1, "`\n"), at + 1);
        if (strchr(name, '.')) /* a file */
            continue;
        n++;
        if (!test_exists(name))
            print_message("CONFLICTS.md names %s, which no test program runs\n", name);
        missing |= !test_exists(name);
    }
    return missing ? -1 : n;
}

static void test_rows_have_their_tests(void **state)
{
    unsigned failed = 0, rows = 0;
    bool pairs = false;
    (void)state;
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (!strncmp(line, "## ", 3))
            pairs = !strncmp(line, "## Every pair", 13);
        bool row =
            !pairs && *line == '|' && strncmp(line, "| ---", 5) && strncmp(line, "| here |", 8);
        int n = tests_of(line);
        if (row && n == 0)
            print_message("CONFLICTS.md: no test in: %.*s\n", (int)strcspn(line, "\n"), line);
        failed += n < 0 || (row && n == 0);
        rows += row;
    }
    assert_true(rows > 20);
    assert_int_equal(failed, 0);
}

/* Every pair, when the journal does not reach back: nothing is lost, trees are equal. */
static void test_pairs_longer_ago_than_history(void **state)
{
    unsigned failed = 0;
    (void)state;
    for (const struct relation *r = relations; r < relations + RELATIONS; r++)
        for (size_t i = 0; strcmp(r->test, "test_pairs_neighbours") && r->rows[i]; i++)
            for (size_t k = 0; r->columns[k]; k++)
                failed += forgotten_cell(
                    pair, &(struct cell){.r = r, .here = r->rows[i], .there = r->columns[k]});
    assert_int_equal(failed, 0);
}

static int setup(void **state)
{
    (void)state;
    pair = pair_new();
    text = read_text(CONFLICTS_MD);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    pair_free(pair);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest forgotten[] = {
        cmocka_unit_test(test_pairs_longer_ago_than_history),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_have_their_tests),
        cmocka_unit_test(test_pairs_one_file),
        cmocka_unit_test(test_pairs_one_directory),
        cmocka_unit_test(test_pairs_one_name),
        cmocka_unit_test(test_pairs_one_name_directories),
        cmocka_unit_test(test_pairs_in_their_directory),
        cmocka_unit_test(test_pairs_directory_of_theirs),
        cmocka_unit_test(test_pairs_below_their_directory),
        cmocka_unit_test(test_pairs_directory_above_theirs),
        cmocka_unit_test(test_pairs_neighbours),
    };
    simvfs_quick();
    if (getenv("PAIRS_ONLY"))
        cmocka_set_test_filter(getenv("PAIRS_ONLY"));
    if (argc > 1 && !strcmp(argv[1], "forgotten"))
        return cmocka_run_group_tests(forgotten, setup, teardown);
    return cmocka_run_group_tests(tests, setup, teardown);
}
