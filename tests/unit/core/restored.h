// SPDX-License-Identifier: Apache-2.0
/* A pair of devices whose metadata server is put back to an older copy of its database. */
#ifndef CORE_RESTORED_H
#define CORE_RESTORED_H

#include "pair_ops.h"

extern struct pair *p;
extern struct device *here, *there;

/* One of a file, one of a directory; the same names for both devices. */
#define FILE_OPS 16
#define DIR_OPS 8
extern const struct place file_place, other_place, dir_place;
extern const char *const file_ops[FILE_OPS], *const dir_ops[DIR_OPS];

int restored_setup(void **state);
int restored_teardown(void **state);
/* A new pair, and a copy of the server's database. */
void begin(void);
/* A later copy of it. */
void backup(void);
void restore(void);
/* All devices have what the server has. The caller frees it. */
struct dump *settled(const char *what);
bool has_line(const struct dump *t, const struct dump_line *l);
/* Every block of a device's own (their numbers are 20 and more) that `before` shows is in `last`.
 */
void assert_written(const char *what, const struct dump *before, const struct dump *last);
unsigned copies(const struct dump *t);
/* A file of 16 bytes in d. */
uint64_t write_new(struct device *d, const char *name, unsigned tag);
void put(struct device *d, uint64_t f, uint64_t off, uint64_t len, unsigned tag);
uint64_t make_dir(struct device *d, uint64_t parent, const char *name);
void remove_dir(struct device *d, uint64_t parent, const char *name);
/* Under the name that it has. */
void move(struct device *d, uint64_t from, const char *name, uint64_t to);
/* Three commits more. */
void go_on(struct device *d);
/* Every two operations on the same or related places, one after the other. */
void every_pair(void (*fn)(const char *op, const struct place *at, const char *op2,
                           const struct place *at2));
#endif
