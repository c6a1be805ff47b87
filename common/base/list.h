/* SPDX-License-Identifier: Apache-2.0 */
/* Intrusive doubly linked list. A head is a node that links to itself. */
#pragma once

#include "common/base/def.h"

struct dbx_list {
    struct dbx_list *next, *prev;
};

static inline void dbx_list_init(struct dbx_list *head)
{
    head->next = head->prev = head;
}
static inline bool dbx_list_empty(const struct dbx_list *head)
{
    return head->next == head;
}
static inline void dbx_list_push(struct dbx_list *head, struct dbx_list *node) /* at the end */
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void dbx_list_push_front(struct dbx_list *head, struct dbx_list *node)
{
    dbx_list_push(head->next, node);
}
/* Harmless on a node that is in no list, if it was initialised. */
static inline void dbx_list_remove(struct dbx_list *node)
{
    node->next->prev = node->prev;
    node->prev->next = node->next;
    node->next = node->prev = node;
}
/* Moves all of from to the end of to, in O(1): what callbacks add to from meanwhile waits for the
 * next turn. */
static inline void dbx_list_take_all(struct dbx_list *from, struct dbx_list *to)
{
    if (dbx_list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    dbx_list_init(from);
}
#define dbx_list_entry(node, type, member) dbx_container_of(node, type, member)
#define dbx_list_first(head, type, member)                                                         \
    (dbx_list_empty(head) ? NULL : dbx_list_entry((head)->next, type, member))
#define dbx_list_each(it, tmp, head)                                                               \
    for ((it) = (head)->next, (tmp) = (it)->next; (it) != (head); (it) = (tmp), (tmp) = (it)->next)
