// SPDX-License-Identifier: Apache-2.0
/* The log and the trace of one program.
 *
 * Log lines, for people: TIME LEVEL COMPONENT[ ns=N][ node=N][ device=N][ request=N][ op=ID]: text.
 * Of lines that one place in the code writes, LOG_BURST are written in LOG_WINDOW_S seconds; how
 * many were left out is said by the next one. Trace lines, for tests and the curious, one per
 * protocol step: TIME STEP key=value…; STEP is one of A1…A8, put, commit, journal. Never
 * credentials; at most 20 ids, then a count. All functions may be called from any thread. A NULL
 * log or trace is silent.
 */
#ifndef STEADFS_TRACE_H
#define STEADFS_TRACE_H

#include "buf.h"

enum log_level { LOG_L_ERROR, LOG_L_WARN, LOG_L_INFO, LOG_L_DEBUG };

struct log; /* log lines and trace lines of one program */

/* log_path, trace_path: appended to; NULL log_path: stderr; NULL trace_path: no trace.
 * 0 or -errno of opening. */
int log_open(struct log **out, const char *component, const char *log_path, const char *trace_path,
             enum log_level level);
void log_close(struct log *l);
/* Goes on in new files where the old ones were moved away; a failure is logged. Any thread. */
void log_reopen(struct log *l);
/* Whether lines of the level are written. */
bool log_shows(const struct log *l, enum log_level level);
/* error, warn, info or debug. 0 or -EINVAL. */
int log_level_of(const char *word, enum log_level *out);
#define LOG_BURST 100
#define LOG_WINDOW_S 10
/* What a line is about; 0: not said. op: what a program asked a mount for, or a batch of its
 * background, by the mount's own name for it: the same in the logs of all who did a part of it. */
struct log_where {
    uint64_t ns, node, request, device;
    const char *op; /* NULL or "": none */
};
#define LOG_OP_MAX 112 /* bytes of op with its end; several are separated by commas */
void log_about(struct log *l, enum log_level level, const struct log_where *where, const char *fmt,
               ...) __attribute__((format(printf, 4, 5)));
void log_printf(struct log *l, enum log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* One trace line, built piece by piece and written by trace_end. */
struct trace {
    struct log *log;
    struct buf line;
};
bool trace_on(const struct log *l);
struct trace trace_begin(struct log *l, const char *step);
void trace_u64(struct trace *t, const char *key, uint64_t value);
void trace_str(struct trace *t, const char *key, const char *value);
/* ids=hex12,hex12,…(+N): first 12 hex digits each, at most 20 */
void trace_ids(struct trace *t, const char *key, const struct block_id *ids, size_t n);
void trace_end(struct trace *t);
#endif
