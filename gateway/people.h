/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of accounts, sessions, keys, members, links, and of what administrators do. */
#pragma once

struct gw_req;

void gw_auth_register(struct gw_req *rq); /* accounts.c */
void gw_auth_login(struct gw_req *rq);
void gw_auth_guest(struct gw_req *rq);
void gw_auth_recover(struct gw_req *rq);
void gw_auth_logout(struct gw_req *rq); /* account_self.c */
void gw_me_get(struct gw_req *rq);
void gw_me_put(struct gw_req *rq);
void gw_sessions_list(struct gw_req *rq);
void gw_sessions_delete(struct gw_req *rq);

void gw_keys_create(struct gw_req *rq); /* keys.c */
void gw_keys_list(struct gw_req *rq);
void gw_keys_get(struct gw_req *rq);
void gw_keys_delete(struct gw_req *rq);

void gw_members_list(struct gw_req *rq); /* sharing.c */
void gw_members_put(struct gw_req *rq);
void gw_members_delete(struct gw_req *rq);
void gw_links_list(struct gw_req *rq);
void gw_links_create(struct gw_req *rq);
void gw_links_delete(struct gw_req *rq);
void gw_links_use(struct gw_req *rq); /* GET and POST /s/{slug} */

void gw_users_list(struct gw_req *rq); /* admin.c */
void gw_users_put(struct gw_req *rq);
void gw_users_recovery(struct gw_req *rq);
void gw_audit_list(struct gw_req *rq);
