// SPDX-License-Identifier: Apache-2.0
/* What several of the driver's tests do with calls and status. */
#include <stdio.h>
#include <string.h>

#include "frame.h"
#include "world.h"

/* The driver runs already, and looks at it. */
void race_percent(unsigned n)
{
    pthread_mutex_lock(&fs.lock);
    fs.opt.race_percent = n;
    pthread_mutex_unlock(&fs.lock);
}

static struct fake_call *open_at(const char *method, const char *url)
{
    struct fake_call *found = NULL;
    pthread_mutex_lock(&net_lock);
    for (size_t i = 0; i < calls_n && !found; i++)
        if (calls[i].open && !strcmp(calls[i].method, method) && !strcmp(calls[i].url, url))
            found = &calls[i];
    pthread_mutex_unlock(&net_lock);
    return found;
}

struct fake_call *call_wait_at(const char *method, const char *url)
{
    struct fake_call *c;
    WAIT_FOR((c = open_at(method, url)) != NULL);
    return c;
}

struct fake_call *call_later_at(const char *method, const char *url)
{
    struct fake_call *c;
    UNTIL_LATER((c = open_at(method, url)) != NULL);
    return c;
}

void answer_get(struct fake_call *c, const struct block_id *id, const char *text)
{
    struct rpc_result r = {.status = 200};
    struct m_get_item item = {.block = *id,
                              .stored_len = text ? strlen(text) : 0,
                              .logical_len = text ? strlen(text) : 0,
                              .error = text ? 0 : ERR_NOT_FOUND};
    struct m_get_head h = {.items = &item, .items_n = 1};
    frame_head(&m_get_head_desc, &h, &r.body);
    if (text)
        buf_append(&r.body, text, strlen(text));
    call_end(c, &r);
}

/* What the status says of the namespace's key; NULL: null. */
bool status_says(const char *key, const char *text)
{
    struct buf status = {0};
    char want[128];
    sync_status(fs.sync, &status);
    buf_append(&status, "", 1);
    snprintf(want, sizeof want, text ? "\"%s\": \"%s" : "\"%s\": null", key, text);
    bool said = strstr((const char *)status.p, want) != NULL;
    buf_free(&status);
    return said;
}
