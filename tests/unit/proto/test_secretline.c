// SPDX-License-Identifier: Apache-2.0
/* A secret's line, from a file or from standard input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "secretline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void expect(const char *text, size_t n, int want, const char *line)
{
    char path[] = "/tmp/secretline-XXXXXX", out[SECRETLINE_MAX];
    int fd = mkstemp(path), fds[2];
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, n), (ssize_t)n);
    close(fd);
    assert_int_equal(secretline_read(path, "x", out), want);
    if (!want)
        assert_string_equal(out, line);
    unlink(path);
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], text, n), (ssize_t)n);
    close(fds[1]);
    int kept = dup(STDIN_FILENO);
    assert_true(kept >= 0 && dup2(fds[0], STDIN_FILENO) == STDIN_FILENO);
    assert_int_equal(secretline_read("-", "x", out), want);
    if (!want)
        assert_string_equal(out, line);
    assert_true(dup2(kept, STDIN_FILENO) == STDIN_FILENO);
    close(kept);
    close(fds[0]);
}

static void test_lines(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int want;
        const char *line;
    } cases[] = {
        {"abc", 0, "abc"},           {"abc\n", 0, "abc"},  {"abc\r\nmore\n", 0, "abc"},
        {" \tab c \t\n", 0, "ab c"}, {"", -ENODATA, NULL}, {"\nabc\n", -ENODATA, NULL},
        {"   \n", -ENODATA, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i].text, strlen(cases[i].text), cases[i].want, cases[i].line);
    char *many = malloc(SECRETLINE_MAX), out[SECRETLINE_MAX];
    assert_non_null(many);
    memset(many, 'a', SECRETLINE_MAX);
    expect(many, SECRETLINE_MAX, -EMSGSIZE, NULL);
    many[SECRETLINE_MAX - 2] = '\0';
    char *longest = strdup(many);
    many[SECRETLINE_MAX - 2] = '\n';
    expect(many, SECRETLINE_MAX - 1, 0, longest);
    free(longest);
    free(many);
    assert_int_equal(secretline_read("/nonexistent", "x", out), -ENOENT);
}

static void test_hide(void **state)
{
    (void)state;
    char argument[] = "secret";
    secretline_hide(argument);
    assert_string_equal(argument, "xxxxxx");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines), cmocka_unit_test(test_hide)};
    return cmocka_run_group_tests_name("secretline", tests, NULL, NULL);
}
