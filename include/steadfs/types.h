// SPDX-License-Identifier: Apache-2.0
/* Words shared by every part: identifiers, limits and error codes of the protocol.
 *
 * A node id names an inode in the whole installation: device number (23 bits) << 40 | counter (40
 * bits), at most 63 bits in all, so that it is also st_ino. Device 0 is the metadata server itself
 * (roots of namespaces, mount nodes). 0 is no node.
 * An SJID is the number of a commit in the server journal of one namespace; the first is 1.
 */
#ifndef STEADFS_TYPES_H
#define STEADFS_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STEADFS_WIRE_VERSION 1

#define BLOCK_MAX (4u << 20) /* longest block, logical bytes */
#define BLOCK_ID_LEN 33      /* kind byte, then 32 bytes */
#define BLOCK_KIND_SHA256 0  /* the 32 bytes are SHA-256 of the stored bytes */

#define NAME_LEN_MAX 255                /* bytes of an entry's name */
#define COPY_MARK " (conflicted copy, " /* in the name of one */
#define TARGET_LEN_MAX 4095             /* bytes of a symbolic link's target */
#define XATTR_NAME_MAX 255
#define XATTR_VALUE_MAX 65536
#define XATTRS_MAX 256 /* of a node: all of them fit in an answer to node */
#define FILE_SIZE_MAX INT64_MAX
#define DEPTH_MAX 4096u /* directories from a root down to one that gets a name */

#define DEVICE_BITS 23
#define NODE_COUNTER_BITS 40
#define NODE_ID(device, counter) (((uint64_t)(device) << NODE_COUNTER_BITS) | (uint64_t)(counter))
#define NODE_DEVICE(node) ((uint32_t)((node) >> NODE_COUNTER_BITS))

/* Limits of one message; both ends check before memory is taken. */
#define MSG_BODY_MAX (32u << 20) /* any msgpack message */
#define MSG_DEPTH_MAX 8
#define PUT_BATCH_BYTES (16u << 20) /* raw block bytes of one put or get */
#define PUT_BATCH_BLOCKS 1024
#define WHERE_ITEMS_MAX 256      /* files and folders of one question where */
#define WHERE_LEFT_MAX 16384     /* … found and not looked into, in one answer */
#define IDS_MAX 65536            /* block ids in one diff, commit or locate */
#define CHANGES_ROWS_MAX 262144  /* rows of one commit */
#define LOCK_RANGES_MAX 256      /* locked stretches of one file by one device */
#define BACKGROUND_ROWS_MAX 1000 /* rows of one background commit */
#define BACKGROUND_BYTES_MAX (1u << 20)
#define PAGE_ROWS_MAX 8192 /* rows of one page: readdir, extents, list */
#define NODE_NAMES_MAX 256 /* names of one node in an answer */
#define MARKS_MAX 8192     /* of a journal, in one list */

/* A block's id. Compared and stored as its 33 bytes. */
struct block_id {
    uint8_t b[BLOCK_ID_LEN];
};

/* A run of bytes owned by somebody else. */
struct bytes {
    const uint8_t *p;
    size_t n;
};

/* Node types on the wire and in every table. */
enum node_type {
    NODE_NONE = 0,
    NODE_REG = 1,
    NODE_DIR = 2,
    NODE_SYMLINK = 3,
    NODE_FIFO = 4,
    NODE_SOCK = 5,
    NODE_CHR = 6,
    NODE_BLK = 7,
    NODE_MOUNT = 8, /* where another namespace appears; only in root namespaces */
};

/* Roles of an account in a namespace; each includes those below it. */
enum role { ROLE_NONE = 0, ROLE_VIEWER = 1, ROLE_EDITOR = 2, ROLE_OWNER = 3 };

/* Rights in a capability. */
#define RIGHT_READ 1u
#define RIGHT_WRITE 2u

/* Outcome of a commit (m_commit_ans.status). */
enum commit_status {
    COMMIT_COMMITTED = 0,
    COMMIT_MISSING = 1,  /* nothing changed; upload `missing` and `elsewhere`, commit again */
    COMMIT_CONFLICT = 2, /* final: a base did not match */
    COMMIT_REFUSED = 3,  /* final: quota, role, membership, assignment, invalid */
};

/* Why rows were refused (m_row_ref.reason). */
enum refusal {
    REFUSED_NONE = 0,
    REFUSED_BASE = 1,       /* conflict: the base did not match */
    REFUSED_EXISTS = 2,     /* conflict: result would have two of one name, or the id existed */
    REFUSED_NOT_EMPTY = 3,  /* conflict: a removed directory has entries */
    REFUSED_PARENT = 4,     /* conflict: the parent is gone or no directory */
    REFUSED_CYCLE = 5,      /* conflict: a directory below itself */
    REFUSED_QUOTA = 6,      /* -> EDQUOT */
    REFUSED_ROLE = 7,       /* -> EROFS (viewer) */
    REFUSED_MEMBER = 8,     /* -> EACCES: no longer a member, or the namespace is gone */
    REFUSED_ASSIGNMENT = 9, /* -> EACCES: a target is not assigned */
    REFUSED_INVALID = 10,   /* -> EINVAL: breaks a rule of the data model */
    REFUSED_REQUEST = 11,   /* request number with other changes */
    REFUSED_TOO_LARGE = 12, /* too much for one commit: send less at once */
};

/* Bits of m_node_change.facets. */
#define FACET_CREATE 1u  /* the node is new: type, rdev, target, attributes and times count */
#define FACET_ATTR 2u    /* mode, uid, gid */
#define FACET_CONTENT 4u /* size, mtime, ranges */
#define FACET_TIMES 8u   /* mtime and ctime alone: no base, the later commit wins */

/* Kinds of rows in m_row_ref. */
enum row_kind {
    ROW_NODE_ATTR = 1,
    ROW_NODE_CONTENT = 2,
    ROW_ENTRY = 3,
    ROW_XATTR = 4,
    ROW_NODE = 5
};

/* Codes in m_error, each with the HTTP status it travels under. */
enum error_code {
    ERR_BAD_MESSAGE = 400,
    ERR_UNAUTHENTICATED = 401,
    ERR_FORBIDDEN = 403,
    ERR_NOT_FOUND = 404,
    ERR_CONFLICT = 409,
    ERR_RESYNC = 410, /* the number asked for is below the history floor */
    ERR_TOO_LARGE = 413,
    ERR_VERSION = 426,
    ERR_BUSY = 429, /* as much of this is under way as may be: again in a moment */
    ERR_INTERNAL = 500,
    ERR_UNAVAILABLE = 503, /* draining, overloaded: try again */
    ERR_FULL = 507,
    ERR_QUOTA = 509, /* an account has as much here as it may that was never committed */
};

#endif
