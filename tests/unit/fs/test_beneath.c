// SPDX-License-Identifier: Apache-2.0
/* Requests before libfuse sees them, and the answer to the kernel's first one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/fuse.h>
#include <string.h>

#include "fuse_beneath.h"

static uint8_t request[256];
static struct fuse_in_header *const head = (struct fuse_in_header *)(void *)request;

static size_t pass(struct fuse_beneath *b, uint32_t opcode, const void *body, size_t n)
{
    *head = (struct fuse_in_header){
        .len = (uint32_t)(sizeof(*head) + n), .opcode = opcode, .unique = 7};
    memcpy(request + sizeof(*head), body, n);
    size_t size = fuse_beneath_request(b, request, sizeof(*head) + n);
    assert_int_equal(size, head->len);
    return size;
}

static void begin(struct fuse_beneath *b, uint32_t offers, uint32_t libfuse, uint32_t want)
{
    struct fuse_init_in in = {.major = 7, .minor = 38, .flags = offers};
    struct fuse_out_header out = {.unique = 6};
    struct fuse_init_out init = {.flags = libfuse};
    struct iovec v[2] = {{&out, sizeof(out)}, {&init, sizeof(init)}};
    pass(b, FUSE_INIT, &in, sizeof(in));
    fuse_beneath_answer(b, v, 2);
    assert_int_equal(init.flags, libfuse); /* of another request */
    out.unique = 7;
    fuse_beneath_answer(b, v, 2);
    assert_int_equal(init.flags, want);
    init.flags = libfuse;
    fuse_beneath_answer(b, v, 2);
    assert_int_equal(init.flags, libfuse); /* once */
}

static void asks_for_what_is_offered(void **state)
{
    (void)state;
    struct fuse_beneath b = {0};
    begin(&b, FUSE_ASYNC_READ, 5, 5);
    assert_false(b.long_setxattr);
    begin(&b, FUSE_HANDLE_KILLPRIV_V2, 5, 5 | FUSE_HANDLE_KILLPRIV_V2);
    assert_false(b.long_setxattr);
    begin(&b, ~0u, 5, 5 | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
    assert_true(b.long_setxattr);
}

static void makes_a_create_of_a_tmpfile(void **state)
{
    (void)state;
    struct fuse_beneath b = {0};
    struct fuse_create_in in = {.mode = 0100600};
    pass(&b, 51, &in, sizeof(in));
    assert_int_equal(head->opcode, FUSE_CREATE);
    assert_true(b.tmpfile);
    pass(&b, FUSE_CREATE, &in, sizeof(in));
    assert_false(b.tmpfile);
}

static void notes_what_takes_set_ids_away(void **state)
{
    (void)state;
    struct fuse_beneath b = {0};
    struct fuse_write_in w = {.write_flags = FUSE_WRITE_KILL_SUIDGID};
    pass(&b, FUSE_WRITE, &w, sizeof(w));
    assert_true(b.kill_priv);
    w.write_flags = FUSE_WRITE_CACHE;
    pass(&b, FUSE_WRITE, &w, sizeof(w));
    assert_false(b.kill_priv);
    struct fuse_setattr_in s = {.valid = FATTR_SIZE | FATTR_KILL_SUIDGID};
    pass(&b, FUSE_SETATTR, &s, sizeof(s));
    assert_true(b.kill_priv);
    struct fuse_open_in o = {.open_flags = FUSE_OPEN_KILL_SUIDGID};
    pass(&b, FUSE_OPEN, &o, sizeof(o));
    assert_true(b.kill_priv);
    pass(&b, FUSE_GETATTR, &o, sizeof(o));
    assert_false(b.kill_priv);
    pass(&b, FUSE_WRITE, &w, 3); /* too short: libfuse's matter */
    assert_false(b.kill_priv);
}

static void shortens_setxattr(void **state)
{
    (void)state;
    struct fuse_beneath b = {0};
    struct {
        struct fuse_setxattr_in in;
        char rest[16];
    } in = {.in = {.size = 5, .flags = 2, .setxattr_flags = FUSE_SETXATTR_ACL_KILL_SGID},
            .rest = "user.a\0value"};
    pass(&b, FUSE_SETXATTR, &in, sizeof(in)); /* not agreed on */
    assert_int_equal(head->len, sizeof(*head) + sizeof(in));
    begin(&b, ~0u, 0, FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT);
    pass(&b, FUSE_SETXATTR, &in, sizeof(in));
    assert_int_equal(head->len, sizeof(*head) + sizeof(in) - 8);
    assert_true(b.acl_drops_sgid);
    const uint8_t *body = request + sizeof(*head);
    assert_memory_equal(body, &in, 8);
    assert_memory_equal(body + 8, in.rest, sizeof(in.rest));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_what_is_offered),
        cmocka_unit_test(makes_a_create_of_a_tmpfile),
        cmocka_unit_test(notes_what_takes_set_ids_away),
        cmocka_unit_test(shortens_setxattr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
