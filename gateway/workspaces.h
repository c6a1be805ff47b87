/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of /api/workspaces, /api/files and what runs in a workspace. What is not the caller's is
 * 404. */
#pragma once

struct gw_req;

void gw_workspaces_create(struct gw_req *rq); /* workspaces.c */
void gw_workspaces_list(struct gw_req *rq);
void gw_workspaces_get(struct gw_req *rq);
void gw_workspaces_put(struct gw_req *rq);
void gw_workspaces_delete(struct gw_req *rq);
void gw_workspaces_fork(struct gw_req *rq);    /* workspace_fork.c */
void gw_workspaces_archive(struct gw_req *rq); /* workspace_archive.c */
void gw_workspaces_import(struct gw_req *rq);  /* workspace_import.c */
void gw_workspaces_upload(struct gw_req *rq);

void gw_files_tree(struct gw_req *rq); /* workspace_files.c */
void gw_files_create(struct gw_req *rq);
void gw_files_get(struct gw_req *rq);
void gw_files_content(struct gw_req *rq); /* file_content.c */
void gw_files_put(struct gw_req *rq);
void gw_files_delete(struct gw_req *rq);
void gw_files_move(struct gw_req *rq);

void gw_workspaces_run(struct gw_req *rq); /* workspace_run.c */
void gw_workspaces_sandbox(struct gw_req *rq);
void gw_sandboxes_status(struct gw_req *rq); /* sandboxes.c */
void gw_sandboxes_end(struct gw_req *rq);
void gw_processes_input(struct gw_req *rq); /* process_control.c */
void gw_processes_signal(struct gw_req *rq);
void gw_processes_cancel(struct gw_req *rq);
