// SPDX-License-Identifier: Apache-2.0
/* What the files of the programs share: program.c (names, choosing), program_file.c (content). */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include "sim.h"

#define FILE_MAX 256 /* bytes of a file */

/* One attempt at an operation. */
struct attempt {
    struct client *c;
    struct core *core;
    struct rng r;
    struct core_who who;
    struct core_need need;
    char text[160]; /* for the log */
};
struct place {
    uint64_t dir;
    struct bytes name;
    struct core_attr a;
};

/* A random name of a file: 0, -ENOENT: nothing has it, -EISDIR, CORE_NEED. */
int program_file(struct attempt *t, struct place *p);
uint64_t program_length(struct attempt *t); /* of a write */
/* For the log. */
void program_say_place(struct attempt *t, const struct place *p);
void program_say(struct attempt *t, const char *what, uint64_t v);
/* It was done; or a crash in its midst hid whether it was. */
bool program_may_be_done(const struct attempt *t, int err);
/* As program_sees; where the past may not be forgotten, it can always be told. */
bool program_sees_all(struct attempt *t, uint64_t node, uint64_t off, uint64_t end,
                      struct marks *out);
struct open_file *program_open_file(struct attempt *t); /* a random one, or NULL */
void program_open_node(struct attempt *t, uint64_t node);
int program_write_at(struct attempt *t, uint64_t node, uint64_t off, uint64_t len);
/* Operations. */
int program_write(struct attempt *t);
int program_append(struct attempt *t);
int program_truncate(struct attempt *t);
int program_clone(struct attempt *t);
int program_recut(struct attempt *t);
int program_handle_write(struct attempt *t);
#endif
