// SPDX-License-Identifier: Apache-2.0
/* Ends one use of messages.def. Without an include guard on purpose. */
#undef MSG
#undef U64
#undef I64
#undef BOOL
#undef STR
#undef BYTES
#undef BLOCK
#undef SUB
#undef LIST
#undef U64S
#undef BLOCKS
#undef END
#undef REQ
