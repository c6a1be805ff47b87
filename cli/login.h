/* SPDX-License-Identifier: Apache-2.0 */
/* devbox login: e-mail and password become a key of this machine's own, kept 0600 below
 * ~/.config/devbox (XDG_CONFIG_HOME). */
#pragma once

/* email NULL: it is asked for. The password is read from the terminal, else from stdin's first
 * line. */
int cli_login(const char *urls, const char *ca_file, const char *email);
