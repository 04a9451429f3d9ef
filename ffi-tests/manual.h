/* SPDX-License-Identifier: MIT
 * What the fragments of the manual use of a host: manual.sh puts this before each. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dockline.h"

extern int client_fd, daemon_fd;
extern dockline_worker *worker;
extern dockline_engine *engine;
extern dockline_conn *conn;
extern dockline_routes *routes;
extern dockline_conn_event event;
extern dockline_request request;
extern uint32_t interest;
extern uint64_t deadline_ms;
extern const void *early;
extern size_t early_len;

uint64_t now_ms(void);
uint32_t wait_for(uint32_t interest_bits, uint64_t until_ms);
void wait_readable(int fd, uint64_t timeout_ms);
void handle(const dockline_conn_event *what);
dockline_status serve(int listening_socket);
void on_route(void *user, dockline_route *route);
void on_slow_route(void *user, dockline_route *route);

struct question;
void ask_on_another_thread(struct question *question);
void on_answer(struct question *question, dockline_upstream *upstream);
