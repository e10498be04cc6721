// SPDX-License-Identifier: Apache-2.0
/* Capabilities and receipts: each field comes back; nothing changed, cut or mixed up is believed.
 */
#include "token.h"
#include "unit.h"

#include <errno.h>
#include <string.h>

static const struct token_key key = {.id = 3, .key = "0123456789abcdef0123456789abcde"};
static const uint8_t incarnation[16] = "incarnation-0001";

static const struct m_capability capability = {.server = 1,
                                               .ns = 2,
                                               .device = 300,
                                               .account = 4,
                                               .rights = RIGHT_READ | RIGHT_WRITE,
                                               .expiry_ms = 1700000000000};

static struct m_receipt a_receipt(void)
{
    struct m_receipt r = {.server = 1, .ns = 2, .len = 4096, .time_ms = 1700000000000};
    memset(r.block.b + 1, 0xab, 32);
    r.incarnation = bytes_of(incarnation, sizeof(incarnation));
    return r;
}

static void all_fields_come_back(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf t cleanup_buf = {0};
    struct m_capability c;
    capability_seal(&capability, &key, &t);
    assert_int_equal(capability_open(&c, bytes_of(t.p, t.n), &key, &a), 0);
    assert_int_equal(c.server, 1);
    assert_int_equal(c.ns, 2);
    assert_int_equal(c.device, 300);
    assert_int_equal(c.account, 4);
    assert_int_equal(c.rights, 3);
    assert_int_equal(c.expiry_ms, 1700000000000);
    assert_int_equal(c.key_id, 3);

    struct m_receipt sent = a_receipt(), r;
    t.n = 0;
    receipt_seal(&sent, &key, &t);
    assert_true(t.n <= 256); /* the limit of the messages that carry it */
    assert_int_equal(receipt_open(&r, bytes_of(t.p, t.n), &key, &a), 0);
    assert_int_equal(r.server, 1);
    assert_int_equal(r.ns, 2);
    assert_memory_equal(&r.block, &sent.block, sizeof(r.block));
    assert_int_equal(r.len, 4096);
    assert_true(bytes_equal(r.incarnation, sent.incarnation));
    assert_int_equal(r.time_ms, 1700000000000);
    assert_int_equal(r.key_id, 3);
    struct m_receipt peeked;
    assert_int_equal(receipt_peek(&peeked, bytes_of(t.p, t.n), &a), 0);
    assert_int_equal(peeked.time_ms, r.time_ms);
}

static void other_keys(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf t cleanup_buf = {0};
    struct m_capability c, zero = {0};
    capability_seal(&capability, &key, &t);
    struct token_key other_id = key, other_secret = key;
    other_id.id = 4;
    other_secret.key[31] ^= 1;
    assert_int_equal(capability_open(&c, bytes_of(t.p, t.n), &other_id, &a), -EKEYREJECTED);
    assert_int_equal(capability_open(&c, bytes_of(t.p, t.n), &other_secret, &a), -EACCES);
    assert_memory_equal(&c, &zero, sizeof(c));
}

static void no_bit_can_change(void **state)
{
    (void)state;
    struct buf t cleanup_buf = {0};
    struct m_receipt sent = a_receipt(), r;
    struct m_capability c;
    receipt_seal(&sent, &key, &t);
    size_t receipt_len = t.n;
    capability_seal(&capability, &key, &t);
    for (size_t bit = 0; bit < t.n * 8; bit++) {
        struct arena a cleanup_arena = {0};
        t.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (bit / 8 < receipt_len)
            assert_int_not_equal(receipt_open(&r, bytes_of(t.p, receipt_len), &key, &a), 0);
        else
            assert_int_not_equal(
                capability_open(&c, bytes_of(t.p + receipt_len, t.n - receipt_len), &key, &a), 0);
        t.p[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

/* Every field is under the MAC: a token with one field changed, and the MAC of the unchanged one.
 */
static void no_field_can_change(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf t cleanup_buf = {0}, forged cleanup_buf = {0};
    capability_seal(&capability, &key, &t);
    for (size_t i = 0; i < m_capability_desc.fields_n; i++) {
        struct m_capability c = capability;
        c.key_id = key.id;
        *(uint64_t *)(void *)((char *)&c + m_capability_desc.fields[i].offset) += 1;
        forged.n = 0;
        msg_encode(&m_capability_desc, &c, &forged);
        buf_append(&forged, t.p + t.n - 32, 32);
        int err = capability_open(&c, bytes_of(forged.p, forged.n), &key, &a);
        bool is_key_id = strcmp(m_capability_desc.fields[i].name, "key_id") == 0;
        assert_int_equal(err, is_key_id ? -EKEYREJECTED : -EACCES);
    }
}

static void cut_or_lengthened(void **state)
{
    (void)state;
    struct buf t cleanup_buf = {0};
    struct m_receipt sent = a_receipt(), r;
    receipt_seal(&sent, &key, &t);
    for (size_t n = 0; n < t.n; n++) {
        struct arena a cleanup_arena = {0};
        assert_int_not_equal(receipt_open(&r, bytes_of(t.p, n), &key, &a), 0);
    }
    struct arena a cleanup_arena = {0};
    assert_int_equal(receipt_open(&r, bytes_of(NULL, 0), &key, &a), -EBADMSG);
    buf_append(&t, "", 1);
    assert_int_not_equal(receipt_open(&r, bytes_of(t.p, t.n), &key, &a), 0);
}

/* A token of one kind is none of the other, even where the bytes would decode. */
static void kinds_are_kept_apart(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf c cleanup_buf = {0}, r cleanup_buf = {0};
    struct m_receipt sent = a_receipt(), receipt;
    struct m_capability opened;
    capability_seal(&capability, &key, &c);
    receipt_seal(&sent, &key, &r);
    assert_int_equal(receipt_open(&receipt, bytes_of(c.p, c.n), &key, &a), -EBADMSG);
    assert_int_equal(capability_open(&opened, bytes_of(r.p, r.n), &key, &a), -EBADMSG);
}

static void an_incarnation_has_16_bytes(void **state)
{
    (void)state;
    struct arena a cleanup_arena = {0};
    struct buf t cleanup_buf = {0};
    struct m_receipt r = a_receipt();
    r.incarnation.n = 15;
    r.key_id = key.id;
    msg_encode(&m_receipt_desc, &r, &t);
    uint8_t mac[32] = {0};
    buf_append(&t, mac, sizeof(mac));
    assert_int_equal(receipt_peek(&r, bytes_of(t.p, t.n), &a), -EBADMSG);
}

/* The format does not change by accident: the bytes as computed by Python's hmac and hand-written
 * msgpack. */
static void bytes_on_the_wire(void **state)
{
    (void)state;
    struct buf t cleanup_buf = {0};
    static const uint8_t expected[] = {
        0x87, 0x01, 0x01, 0x02, 0x02, 0x03, 0xcd, 0x01, 0x2c, 0x04, 0x04, 0x05, 0x03, 0x06, 0xcf,
        0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x07, 0x03, 0x98, 0x88, 0x81, 0x16, 0x67,
        0x37, 0x0c, 0x00, 0x0e, 0xe8, 0x45, 0x96, 0x1e, 0xf0, 0xdb, 0x3c, 0xd7, 0x6a, 0x98, 0x2d,
        0x76, 0xfa, 0x9d, 0x36, 0xde, 0x71, 0x58, 0xa7, 0x59, 0xce, 0x0c, 0xdf};
    capability_seal(&capability, &key, &t);
    assert_int_equal(t.n, sizeof(expected));
    assert_memory_equal(t.p, expected, sizeof(expected));
}

static void random_bytes_differ(void **state)
{
    (void)state;
    uint8_t a[64] = {0}, b[64] = {0};
    random_bytes(a, sizeof(a));
    random_bytes(b, sizeof(b));
    random_bytes(b, 0);
    assert_memory_not_equal(a, b, sizeof(a));
    assert_memory_not_equal(a + 32, a, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_fields_come_back),        cmocka_unit_test(other_keys),
        cmocka_unit_test(no_bit_can_change),           cmocka_unit_test(no_field_can_change),
        cmocka_unit_test(cut_or_lengthened),           cmocka_unit_test(kinds_are_kept_apart),
        cmocka_unit_test(an_incarnation_has_16_bytes), cmocka_unit_test(bytes_on_the_wire),
        cmocka_unit_test(random_bytes_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
