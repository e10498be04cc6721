// SPDX-License-Identifier: Apache-2.0
/* The block store: what is put is read back, survives a reopening and a damaged file, and the cache
 * stays within its size without ever dropping a block that is not synced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blockindex.h"
#include "blocks.h"
#include "blockshard.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/steadfs-blocks-XXXXXX");
    return mkdtemp(dir) == NULL;
}

static int remove_dir(void **state)
{
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
    return system(cmd);
}

static struct blocks *open_store(uint64_t cache, size_t *lost)
{
    struct blocks *b;
    size_t none;
    struct blocks_options o = {.dir = dir, .cache_size = cache};
    assert_int_equal(blocks_open(&b, &o, lost != NULL ? lost : &none), 0);
    return b;
}

/* Bytes that differ from those of every other seed. */
static struct blocks_item item(uint64_t seed, uint32_t len)
{
    uint8_t *p = malloc(len);
    assert_non_null(p);
    for (uint32_t i = 0; i < len; i++) {
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = (uint8_t)(seed >> 56);
    }
    struct blocks_item it = {.p = p, .len = len};
    block_id_of(&it.id, p, len);
    return it;
}

static void drop_item(struct blocks_item *it)
{
    free((void *)(uintptr_t)it->p);
}

static void assert_holds(struct blocks *b, const struct blocks_item *it)
{
    uint8_t *got = malloc(it->len);
    assert_non_null(got);
    assert_int_equal(blocks_read(b, &it->id, 0, got, it->len), 0);
    assert_memory_equal(got, it->p, it->len);
    free(got);
}

static void put_and_read(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 1), item(2, 4096), item(3, SHARD_LARGE), item(4, BLOCK_MAX),
                              item(2, 4096)};
    assert_int_equal(blocks_put_unsynced(b, v, 5), 0);
    uint32_t len = 0;
    for (int i = 0; i < 5; i++) {
        assert_holds(b, &v[i]);
        assert_true(blocks_has(b, &v[i].id, &len));
        assert_int_equal(len, v[i].len);
    }
    uint8_t part[100];
    assert_int_equal(blocks_read(b, &v[3].id, 3000000, part, 100), 0);
    assert_memory_equal(part, (const uint8_t *)v[3].p + 3000000, 100);
    assert_int_equal(blocks_read(b, &v[1].id, 4090, part, 7), -EIO); /* beyond its end */
    struct blocks_item other = item(9, 10);
    assert_int_equal(blocks_read(b, &other.id, 0, part, 10), -ENOENT);
    struct blocks_stat st;
    blocks_stat(b, &st);
    assert_int_equal(st.unsynced_blocks, 4); /* the same bytes are stored once */
    blocks_synced(b, &v[0].id, 1);
    blocks_drop(b, &v[1].id);
    blocks_drop(b, &v[0].id); /* not in the outbox any more: stays */
    blocks_stat(b, &st);
    assert_int_equal(st.unsynced_blocks, 2);
    assert_int_equal(st.cached_bytes, 1);
    assert_false(blocks_has(b, &v[1].id, NULL));
    assert_true(blocks_has(b, &v[0].id, NULL));
    blocks_close(b);
    for (int i = 0; i < 5; i++)
        drop_item(&v[i]);
    drop_item(&other);
}

/* Files of the outbox's directory. */
static size_t shard_files(void)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strstr(e->d_name, "-out-") != NULL && strstr(e->d_name, "journal") == NULL;
    closedir(d);
    return n;
}

/* What is durable at once lies in files of its own, whether it was here before or not, and is a
 * block like others. */
static void durable_at_once(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 100), item(2, SHARD_LARGE), item(3, 200), item(4, 300)};
    assert_int_equal(blocks_put_unsynced(b, v, 1), 0);
    assert_int_equal(shard_files(), 1);
    assert_int_equal(blocks_put_durable(b, v, 3), 0); /* the first one was here */
    assert_int_equal(shard_files(), 3);
    assert_int_equal(blocks_put_unsynced(b, &v[3], 1), 0);
    assert_int_equal(shard_files(), 3);
    struct blocks_stat st;
    blocks_stat(b, &st);
    assert_int_equal(st.unsynced_blocks, 4);
    blocks_synced(b, &v[1].id, 1);
    blocks_close(b);
    size_t lost;
    b = open_store(0, &lost);
    assert_int_equal(lost, 0);
    for (int i = 0; i < 4; i++)
        assert_holds(b, &v[i]);
    blocks_close(b);
    for (int i = 0; i < 4; i++)
        drop_item(&v[i]);
}

/* What was acknowledged and is to be sent again is of the outbox again, in a cached file as well.
 */
static void sent_again(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 100), item(2, 300000), item(3, 200), item(4, 300)};
    assert_int_equal(blocks_put_unsynced(b, v, 2), 0);
    blocks_put_cached(b, &v[2], 1);
    blocks_synced(b, &v[0].id, 1);
    blocks_synced(b, &v[1].id, 1);
    const struct block_id ids[] = {v[2].id, v[3].id, v[1].id, v[0].id, v[0].id};
    assert_int_equal(blocks_send_again(b, ids, 5), 0); /* one of them is not here */
    for (int reopened = 0; reopened < 2; reopened++) {
        struct blocks_stat st;
        blocks_stat(b, &st);
        assert_int_equal(st.unsynced_blocks, 3);
        assert_int_equal(st.unsynced_bytes, 300300);
        assert_int_equal(st.cached_bytes, 0);
        for (int i = 0; i < 3; i++)
            assert_holds(b, &v[i]);
        blocks_close(b);
        b = open_store(0, NULL);
    }
    blocks_close(b);
    for (int i = 0; i < 4; i++)
        drop_item(&v[i]);
}

static void survives_reopening(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 100), item(2, 300000), item(3, 200)};
    assert_int_equal(blocks_put_unsynced(b, v, 2), 0);
    blocks_put_cached(b, &v[2], 1);
    blocks_synced(b, &v[1].id, 1);
    blocks_close(b);
    size_t lost;
    b = open_store(0, &lost);
    assert_int_equal(lost, 0);
    for (int i = 0; i < 3; i++)
        assert_holds(b, &v[i]);
    struct block_id ids[4];
    assert_int_equal(blocks_unsynced(b, NULL, ids, 4), 1);
    assert_true(block_id_equal(&ids[0], &v[0].id));
    assert_int_equal(blocks_put_unsynced(b, &v[2], 1),
                     0); /* needed again: may not be evicted now */
    assert_int_equal(blocks_unsynced(b, NULL, ids, 4), 2);
    assert_true(block_id_compare(&ids[0], &ids[1]) < 0);
    assert_int_equal(blocks_unsynced(b, &ids[0], ids + 2, 2), 1);
    assert_true(block_id_equal(&ids[1], &ids[2]));
    assert_int_equal(blocks_flush(b), 0);
    blocks_close(b);
    for (int i = 0; i < 3; i++)
        drop_item(&v[i]);
}

static uint64_t files_named(const char *part, char *last, size_t cap)
{
    uint64_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    struct dirent *e;
    while ((e = readdir(d)) != NULL) {
        if (strstr(e->d_name, part) == NULL || strstr(e->d_name, "journal") != NULL)
            continue;
        n++;
        if (last != NULL)
            snprintf(last, cap, "%s/%s", dir, e->d_name);
    }
    closedir(d);
    return n;
}

/* 40 files' worth of one 4 MiB pattern would be slow: the store is told of a small cache instead.
 */
static void cache_is_bounded(void **state)
{
    (void)state;
    struct blocks *b = open_store(SHARD_MAX, NULL);
    struct blocks_item first = item(1000, BLOCK_MAX);
    assert_int_equal(blocks_put_unsynced(b, &first, 1), 0);
    for (uint64_t i = 0; i < 3 * SHARD_MAX / BLOCK_MAX + 2; i++) {
        struct blocks_item it = item(i, BLOCK_MAX);
        blocks_put_cached(b, &it, 1);
        drop_item(&it);
    }
    struct blocks_stat st;
    for (int i = 0; i < 1000; i++) { /* the keeper works beside us */
        blocks_stat(b, &st);
        if (st.cached_bytes <= 2 * (uint64_t)SHARD_MAX)
            break;
        usleep(10000);
    }
    assert_true(st.cached_bytes <= 2 * (uint64_t)SHARD_MAX);
    assert_true(st.cached_bytes > 0);
    assert_holds(b, &first);
    blocks_close(b);
    drop_item(&first);
}

static void damaged_outbox_is_salvaged(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[40];
    for (uint64_t i = 0; i < 40; i++)
        v[i] = item(i, 60000);
    assert_int_equal(blocks_put_unsynced(b, v, 40), 0);
    blocks_close(b);
    char path[400] = "";
    assert_int_equal(files_named("out-small", path, sizeof(path)), 1);
    /* the description's pages are the first ones behind the schema: overwrite the table's root */
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint8_t junk[16384];
    memset(junk, 0x5a, sizeof(junk));
    for (off_t page = 2; page < 3; page++)
        assert_int_equal(pwrite(fd, junk, sizeof(junk), page * 16384), sizeof(junk));
    close(fd);
    size_t lost = 12345;
    b = open_store(0, &lost);
    size_t held = 0;
    for (int i = 0; i < 40; i++)
        held += blocks_has(b, &v[i].id, NULL) ? 1 : 0;
    /* either everything could be read by number, or what could not is counted */
    assert_true(held + lost >= 40);
    assert_true(held > 0);
    for (int i = 0; i < 40; i++)
        if (blocks_has(b, &v[i].id, NULL))
            assert_holds(b, &v[i]);
    assert_int_equal(files_named("damaged", NULL, 0), 1);
    blocks_close(b);
    for (int i = 0; i < 40; i++)
        drop_item(&v[i]);
}

/* A block that was fetched and then put by a program lies in a file of the cache, which is not
 * simply dropped when it is damaged. */
static void damaged_cache_gives_what_is_unsynced(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 60000), item(2, 60000)};
    blocks_put_cached(b, v, 2);
    assert_int_equal(blocks_put_unsynced(b, &v[1], 1), 0);
    assert_int_equal(blocks_flush(b), 0);
    blocks_close(b);
    char path[400] = "";
    assert_int_equal(files_named("fetched-small", path, sizeof(path)), 1);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    uint8_t junk[16384];
    memset(junk, 0x5a, sizeof(junk));
    assert_int_equal(pwrite(fd, junk, sizeof(junk), 2 * 16384), sizeof(junk));
    close(fd);
    size_t lost;
    b = open_store(0, &lost);
    assert_true(blocks_has(b, &v[1].id, NULL));
    assert_holds(b, &v[1]);
    struct blocks_stat st;
    blocks_stat(b, &st);
    assert_true(st.unsynced_blocks > 0);
    blocks_close(b);
    drop_item(&v[0]);
    drop_item(&v[1]);
}

static void verify_reads_every_block(void **state)
{
    (void)state;
    char path[100];
    snprintf(path, sizeof(path), "%s/shard", dir);
    struct shard *s = shard_new(path, false);
    struct blocks_item v = item(1, 50000);
    uint32_t row;
    assert_int_equal(shard_put(s, &v, 1, true, &row), 0);
    assert_int_equal(shard_verify(s), 0);
    shard_hibernate(s);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    uint8_t all[400000];
    size_t n = fread(all, 1, sizeof(all), f);
    const uint8_t *at = memmem(all, n, (const uint8_t *)v.p + 20000, 64);
    assert_non_null(at);
    assert_int_equal(fseek(f, at - all, SEEK_SET), 0);
    assert_int_equal(fputc(at[0] ^ 1, f), at[0] ^ 1);
    fclose(f);
    assert_int_equal(shard_verify(s), -EIO);
    shard_free(s);
    drop_item(&v);
}

/* After another boot, blocks in files not known to be durable are believed only if they match their
 * id. */
static void torn_by_power_loss(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 50000), item(2, 50000)};
    assert_int_equal(blocks_put_unsynced(b, v, 2), 0);
    blocks_close(b);
    char path[400] = "", boot[100];
    assert_int_equal(files_named(".open", path, sizeof(path)), 1);
    FILE *f = fopen(path, "r+");
    assert_non_null(f);
    uint8_t all[400000];
    size_t n = fread(all, 1, sizeof(all), f);
    const uint8_t *at = memmem(all, n, (const uint8_t *)v[1].p + 20000, 64);
    assert_non_null(at);
    assert_int_equal(fseek(f, at - all, SEEK_SET), 0);
    assert_int_equal(fputc(at[0] ^ 1, f), at[0] ^ 1);
    fclose(f);
    snprintf(boot, sizeof(boot), "%s/boot", dir);
    f = fopen(boot, "w");
    assert_non_null(f);
    fputs("another boot\n", f);
    fclose(f);
    size_t lost;
    b = open_store(0, &lost);
    assert_int_equal(lost, 1);
    assert_holds(b, &v[0]);
    assert_false(blocks_has(b, &v[1].id, NULL));
    blocks_close(b);
    drop_item(&v[0]);
    drop_item(&v[1]);
}

static void index_against_a_list(void **state)
{
    (void)state;
    enum { N = 5000 };
    struct block_index x = {0};
    struct block_id *ids = calloc(N, sizeof(*ids));
    bool *in = calloc(N, sizeof(*in));
    assert_non_null(ids);
    assert_non_null(in);
    for (uint32_t i = 0; i < N; i++)
        block_id_of(&ids[i], &i, sizeof(i));
    srand(1);
    for (int k = 0; k < 100000; k++) {
        uint32_t i = (uint32_t)rand() % N;
        struct block_at *at = block_index_find(&x, &ids[i]);
        assert_int_equal(at != NULL, in[i]);
        if (at != NULL) {
            assert_int_equal(at->row, i);
            block_index_remove(&x, at);
        } else {
            block_index_add(&x, &ids[i], 1 + i % 3, i, 7, false);
        }
        in[i] = !in[i];
    }
    block_index_remove_file(&x, 2);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(block_index_find(&x, &ids[i]) != NULL, in[i] && i % 3 != 1);
    block_index_free(&x);
    free(ids);
    free(in);
}

/* What a full disk does to it: the outbox says so, a fetched block is held in memory for its
 * reader. */
static void no_room(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 1 << 20), item(2, 1 << 20)};
    struct rlimit was, small = {.rlim_cur = 300000};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int rc = blocks_put_unsynced(b, v, 1);
    blocks_put_cached(b, &v[1], 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_true(rc == -EIO || rc == -ENOSPC);
    assert_false(blocks_has(b, &v[0].id, NULL));
    assert_holds(b, &v[1]);
    assert_int_equal(blocks_put_unsynced(b, v, 1), 0); /* with room again */
    assert_holds(b, &v[0]);
    blocks_close(b);
    drop_item(&v[0]);
    drop_item(&v[1]);
}

/* What is to stay free on the disk is not given to data that are not sent. */
static void the_outbox_leaves_room(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v[] = {item(1, 1 << 20), item(2, 1 << 20)};
    struct blocks_stat st;
    assert_int_equal(blocks_put_unsynced(b, v, 1), 0);
    blocks_stat(b, &st);
    assert_true(st.keep_free > 0 && st.keep_free <= 64u << 20);
    blocks_close(b);
    struct blocks_options o = {.dir = dir, .keep_free = 1ull << 60};
    size_t lost;
    assert_int_equal(blocks_open(&b, &o, &lost), 0);
    assert_int_equal(blocks_put_unsynced(b, &v[1], 1), -ENOSPC);
    assert_false(blocks_has(b, &v[1].id, NULL));
    assert_holds(b, &v[0]);
    blocks_stat(b, &st);
    assert_true(st.keep_free == 1ull << 60 && st.free_bytes > 0 && st.free_bytes < st.keep_free);
    blocks_synced(b, &v[0].id, 1); /* what is sent is sent all the same */
    blocks_stat(b, &st);
    assert_int_equal(st.unsynced_blocks, 0);
    blocks_close(b);
    drop_item(&v[0]);
    drop_item(&v[1]);
}

/* A block that is in the cache and cannot be made unsynced for want of room: every attempt says so,
 * and what the store says afterwards is what it says after reopening. */
static void no_room_to_mark(void **state)
{
    (void)state;
    struct blocks *b = open_store(0, NULL);
    struct blocks_item v = item(1, 1 << 20);
    blocks_put_cached(b, &v, 1);
    struct rlimit was, none = {.rlim_cur = 0};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    none.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
    int first = blocks_put_unsynced(b, &v, 1), second = blocks_put_unsynced(b, &v, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    assert_true(first < 0);
    assert_true(second < 0);
    struct blocks_stat st;
    blocks_stat(b, &st);
    assert_int_equal(st.unsynced_blocks, 0);
    assert_int_equal(blocks_put_unsynced(b, &v, 1), 0);
    blocks_close(b);
    b = open_store(0, NULL);
    blocks_stat(b, &st);
    assert_int_equal(st.unsynced_blocks, 1);
    blocks_close(b);
    drop_item(&v);
}

#define RACES 300
struct race {
    struct blocks *b;
    struct blocks_item v[RACES];
    pthread_barrier_t start;
};

static void *fetch_all(void *arg)
{
    struct race *r = arg;
    for (size_t i = 0; i < RACES; i++) {
        pthread_barrier_wait(&r->start);
        blocks_put_cached(r->b, &r->v[i], 1);
    }
    return NULL;
}

/* Whoever is first, a block that a program put is unsynced, here and after reopening. */
static void put_beside_fetch(void **state)
{
    (void)state;
    struct race *r = calloc(1, sizeof(*r));
    assert_non_null(r);
    r->b = open_store(0, NULL);
    for (size_t i = 0; i < RACES; i++)
        r->v[i] = item(i, 3000);
    pthread_barrier_init(&r->start, NULL, 2);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, fetch_all, r), 0);
    for (size_t i = 0; i < RACES; i++) {
        pthread_barrier_wait(&r->start);
        assert_int_equal(blocks_put_unsynced(r->b, &r->v[i], 1), 0);
    }
    pthread_join(t, NULL);
    pthread_barrier_destroy(&r->start);
    struct blocks_stat st;
    for (int round = 0; round < 2; round++) {
        blocks_stat(r->b, &st);
        assert_int_equal(st.unsynced_blocks, RACES);
        blocks_close(r->b);
        r->b = open_store(0, NULL);
    }
    blocks_close(r->b);
    for (size_t i = 0; i < RACES; i++)
        drop_item(&r->v[i]);
    free(r);
}

/* ---- versions -------------------------------------------------------------------------------- */
static bool is_shard(const char *name)
{
    return strstr(name, ".db") != NULL && strstr(name, "-journal") == NULL;
}

/* Each file of the store is given a version; how many there are. */
static unsigned set_versions(int version)
{
    DIR *d = opendir(dir);
    unsigned n = 0;
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char path[400], sql[64];
        sqlite3 *db;
        if (!is_shard(e->d_name))
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version);
        assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
        assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
        n++;
    }
    closedir(d);
    return n;
}

static void a_newer_file_is_refused(void **state)
{
    (void)state;
    struct blocks_options o = {.dir = dir};
    struct blocks_item it[2] = {item(1, 1000), item(2, 300000)};
    size_t lost;
    struct blocks *b = open_store(0, NULL);
    assert_int_equal(blocks_put_unsynced(b, it, 2), 0);
    blocks_close(b);
    assert_true(set_versions(2) >= 2);
    assert_int_equal(blocks_open(&b, &o, &lost), -EPROTONOSUPPORT);
    assert_int_equal(lost, 0);
    set_versions(1); /* as it was: nothing was touched */
    b = open_store(0, &lost);
    assert_int_equal(lost, 0);
    assert_holds(b, &it[0]);
    assert_holds(b, &it[1]);
    blocks_close(b);
    drop_item(&it[0]);
    drop_item(&it[1]);
}

static void a_file_from_before_versions_is_read(void **state)
{
    (void)state;
    struct blocks_item it[2] = {item(1, 1000), item(2, 1000)};
    size_t lost;
    struct blocks *b = open_store(0, NULL);
    assert_int_equal(blocks_put_unsynced(b, &it[0], 1), 0);
    blocks_close(b);
    assert_true(set_versions(0) >= 1);
    b = open_store(0, &lost);
    assert_int_equal(lost, 0);
    assert_holds(b, &it[0]);
    assert_int_equal(blocks_put_unsynced(b, &it[1], 1), 0);
    blocks_close(b);
    b = open_store(0, &lost);
    assert_holds(b, &it[0]);
    assert_holds(b, &it[1]);
    blocks_close(b);
    drop_item(&it[0]);
    drop_item(&it[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(put_and_read, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(durable_at_once, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(sent_again, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(survives_reopening, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(cache_is_bounded, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(damaged_outbox_is_salvaged, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(damaged_cache_gives_what_is_unsynced, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(verify_reads_every_block, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(torn_by_power_loss, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(no_room, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(no_room_to_mark, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(the_outbox_leaves_room, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(put_beside_fetch, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_newer_file_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(a_file_from_before_versions_is_read, make_dir, remove_dir),
        cmocka_unit_test(index_against_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
