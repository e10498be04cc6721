// SPDX-License-Identifier: Apache-2.0
/* Which threads are about to die. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "killed.h"

static void reads_the_pending_signals(void **state)
{
    (void)state;
    assert_true(status_says_killed(
        "Name:\tx\nThreads:\t1\nSigQ:\t0/1\nSigPnd:\t0000000000000100\nShdPnd:\t0\n"));
    assert_true(status_says_killed("Name:\tx\nSigPnd:\t0000000000000301\n"));
    assert_false(
        status_says_killed("Name:\tx\nSigPnd:\t0000000000000200\nShdPnd:\t0000000000000100\n"));
    assert_false(status_says_killed("Name:\tSigPnd:100\nSigPnd:\t0000000000000000\n"));
    assert_true(status_says_killed("Name:\tx\n")); /* nothing is known of it */
}

static void knows_the_living(void **state)
{
    (void)state;
    assert_false(thread_killed((uint32_t)gettid()));
    assert_false(thread_killed(0)); /* of another process id namespace: not known */
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_true(thread_killed((uint32_t)child));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_pending_signals),
        cmocka_unit_test(knows_the_living),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
