// SPDX-License-Identifier: Apache-2.0
/* Reading a block for somebody else: what is told of damage, and what of bytes that moved. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "blockid.h"
#include "checked.h"

#include <errno.h>
#include <string.h>

/* A storage that answers by a script: a get gives one line after the other. */
static struct {
    struct {
        int err;
        const char *bytes;
    } get[2];
    int gets, aside, asides;
    int lost, doubted, lost_err;
} fake;

static int fake_get(struct storage *s, uint64_t ns, const struct block_id *id, struct buf *out,
                    uint64_t *logical_len)
{
    (void)s, (void)ns, (void)id;
    assert_true(fake.gets < 2);
    const char *bytes = fake.get[fake.gets].bytes;
    if (bytes)
        buf_append(out, bytes, strlen(bytes));
    *logical_len = bytes ? strlen(bytes) : 0;
    return fake.get[fake.gets++].err;
}

static int fake_set_aside(struct storage *s, const struct block_id *id)
{
    (void)s, (void)id;
    fake.asides++;
    return fake.aside;
}

static void lost(void *arg, const struct block_id *id, int err)
{
    (void)arg, (void)id;
    fake.lost++;
    fake.lost_err = err;
}

static void doubt(void *arg, const struct block_id *id)
{
    (void)arg, (void)id;
    fake.doubted++;
}

static int read_it(struct buf *out)
{
    static const struct storage_ops ops = {.get = fake_get, .set_aside = fake_set_aside};
    static const struct checked_told told = {.lost = lost, .doubt = doubt};
    struct storage s = {.ops = &ops};
    struct block_id id;
    uint64_t len = 0;
    block_id_of(&id, "right", 5);
    out->n = 0;
    buf_append(out, "before ", 7);
    int r = checked_get(&s, &told, 1, &id, out, &len);
    assert_memory_equal(out->p, "before ", 7); /* only ever appended to */
    if (r)
        assert_int_equal(out->n, 7);
    else
        assert_memory_equal(out->p + 7, "right", 5);
    if (!r)
        assert_int_equal(len, 5);
    return r;
}

#define SCRIPT(...)                                                                                \
    do {                                                                                           \
        memset(&fake, 0, sizeof fake);                                                             \
        __typeof__(fake) script = {__VA_ARGS__};                                                   \
        fake = script;                                                                             \
    } while (0)

static void what_is_right_is_given(void **state)
{
    (void)state;
    struct buf out cleanup_buf = {0};
    SCRIPT(.get = {{0, "right"}});
    assert_int_equal(read_it(&out), 0);
    SCRIPT(.get = {{-ENOENT, NULL}});
    assert_int_equal(read_it(&out), -ENOENT);
    assert_int_equal(fake.asides + fake.lost + fake.doubted, 0);
}

static void damage_is_set_aside_and_told(void **state)
{
    (void)state;
    struct buf out cleanup_buf = {0};
    SCRIPT(.get = {{0, "wrong"}});
    assert_int_equal(read_it(&out), -EUCLEAN);
    assert_int_equal(fake.asides, 1);
    assert_int_equal(fake.lost, 1);
    assert_int_equal(fake.lost_err, 0);
    SCRIPT(.get = {{-EUCLEAN, NULL}});
    assert_int_equal(read_it(&out), -EUCLEAN);
    assert_int_equal(fake.lost, 1);
    SCRIPT(.get = {{0, "wrong"}},
           .aside = -EIO); /* the disk fails meanwhile: nothing is lost yet */
    assert_int_equal(read_it(&out), -EIO);
    assert_int_equal(fake.lost_err, -EIO);
    assert_int_equal(fake.doubted, 1);
    SCRIPT(.get = {{-EIO, NULL}});
    assert_int_equal(read_it(&out), -EIO);
    assert_int_equal(fake.asides + fake.lost, 0);
    assert_int_equal(fake.doubted, 1);
}

/* Its bytes went to another place between the look-up and the reading. */
static void what_moved_is_read_again(void **state)
{
    (void)state;
    struct buf out cleanup_buf = {0};
    SCRIPT(.get = {{-EUCLEAN, NULL}, {0, "right"}}, .aside = -EALREADY);
    assert_int_equal(read_it(&out), 0);
    assert_int_equal(fake.gets, 2);
    SCRIPT(.get = {{0, "half of"}, {-ENOENT, NULL}}, .aside = -EALREADY); /* it was removed */
    assert_int_equal(read_it(&out), -ENOENT);
    SCRIPT(.get = {{0, "wrong"}, {-EUCLEAN, "rig"}}, .aside = -EALREADY);
    assert_int_equal(read_it(&out), -EIO); /* not lost, and not said to be */
    assert_int_equal(fake.lost, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_right_is_given),
        cmocka_unit_test(damage_is_set_aside_and_told),
        cmocka_unit_test(what_moved_is_read_again),
    };
    return cmocka_run_group_tests_name("checked", tests, NULL, NULL);
}
