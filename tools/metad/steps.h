// SPDX-License-Identifier: Apache-2.0
/* The metadata server's lines in the trace, one function per step of the protocol that it takes
 * part in. All are silent when no trace is written. Any thread. */
#ifndef STEADFS_STEPS_H
#define STEADFS_STEPS_H

#include "meta.h"
#include "trace.h"

/* A4: one line per namespace, with the block servers it is assigned to. */
void step_session(struct log *l, const struct meta_caller *who, const struct m_session_ans *a);
/* A6: block ids have arrived, with a commit or as a question before one. */
void step_commit_asked(struct log *l, const struct meta_caller *who, const struct m_commit_req *q);
void step_diff_asked(struct log *l, const struct meta_caller *who, const struct m_diff_req *q);
/* A7, when something is missing; `commit` when it took effect or was refused. */
void step_commit_answered(struct log *l, const struct meta_caller *who,
                          const struct m_commit_req *q, const struct m_commit_ans *a);
void step_diff_answered(struct log *l, const struct meta_caller *who, const struct m_diff_req *q,
                        const struct m_diff_ans *a);
/* journal: records handed out. */
void step_list_answered(struct log *l, const struct meta_caller *who, const struct m_list_req *q,
                        const struct m_list_ans *a);
#endif
