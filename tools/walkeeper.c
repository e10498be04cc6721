// SPDX-License-Identifier: Apache-2.0
/* The hook runs after each commit, in the writer's thread, with no transaction open: there the log
 * is either handed to the keeper, or finished. */
#include "walkeeper.h"

#include "walpair.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_TIMES 4 /* a log that has grown so many times too long is copied by the writer */

struct walkeeper {
    sqlite3 *writer, *aside; /* aside: the thread's, opened when it is needed */
    char *path;
    int pages;
    pthread_t thread;
    pthread_mutex_t lock; /* the rest */
    pthread_cond_t there;
    bool due, copied, quit; /* copied: but for what came meanwhile */
};

static bool aside_open(struct walkeeper *k)
{
    if (k->aside)
        return true;
    /* a connection knows of the log once it has read */
    if (sqlite3_open_v2(k->path, &k->aside, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) ==
            SQLITE_OK &&
        sqlite3_exec(k->aside, "SELECT 1 FROM sqlite_schema LIMIT 1", NULL, NULL, NULL) ==
            SQLITE_OK)
        return true;
    sqlite3_close(k->aside);
    k->aside = NULL;
    return false;
}

static void copy_log(struct walkeeper *k, sqlite3 *db, const char *name)
{
    walpair_changes(k->path);
    sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    walpair_rests(k->path);
}

static void *keeper_main(void *arg)
{
    struct walkeeper *k = arg;
    pthread_mutex_lock(&k->lock);
    while (!k->quit) {
        if (!k->due) {
            pthread_cond_wait(&k->there, &k->lock);
            continue;
        }
        pthread_mutex_unlock(&k->lock);
        if (aside_open(k)) /* what cannot be done now is left to the writer */
            copy_log(k, k->aside, NULL);
        pthread_mutex_lock(&k->lock);
        k->due = false;
        k->copied = true;
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

static int committed(void *arg, sqlite3 *db, const char *name, int pages)
{
    struct walkeeper *k = arg;
    pthread_mutex_lock(&k->lock);
    /* never beside the keeper, or just before it: SQLite before 3.51.3 may take a log that a commit
     * begins anew meanwhile for one that is copied (https://www.sqlite.org/wal.html#walresetbug) */
    bool finish = !k->due && (k->copied || pages >= PAGES_TIMES * k->pages);
    k->copied &= !finish;
    if (!finish && !k->due && pages >= k->pages) {
        k->due = true;
        pthread_cond_signal(&k->there);
    }
    pthread_mutex_unlock(&k->lock);
    if (finish)
        copy_log(k, db, name);
    return SQLITE_OK;
}

struct walkeeper *walkeeper_new(sqlite3 *db, const char *path, int pages)
{
    struct walkeeper *k = calloc(1, sizeof *k);
    if (!k || !(k->path = strdup(path)))
        abort();
    k->writer = db;
    k->pages = pages;
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->there, NULL);
    if (pthread_create(&k->thread, NULL, keeper_main, k)) {
        pthread_mutex_destroy(&k->lock);
        pthread_cond_destroy(&k->there);
        free(k->path);
        free(k);
        return NULL;
    }
    sqlite3_wal_hook(db, committed, k);
    walpair_rests(path); /* only the keeper changes it from now on */
    return k;
}

void walkeeper_free(struct walkeeper *k)
{
    if (!k)
        return;
    sqlite3_wal_hook(k->writer, NULL, NULL);
    pthread_mutex_lock(&k->lock);
    k->quit = true;
    pthread_cond_signal(&k->there);
    pthread_mutex_unlock(&k->lock);
    pthread_join(k->thread, NULL);
    walpair_changes(k->path); /* when the last connection is closed */
    sqlite3_close(k->aside);
    pthread_mutex_destroy(&k->lock);
    pthread_cond_destroy(&k->there);
    free(k->path);
    free(k);
}
