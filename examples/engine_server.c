/* SPDX-License-Identifier: MIT
 * A proxy for one Docker daemon with dockline_engine, nested in a poll(2) loop of its own.
 *
 *     engine_server LISTEN UPSTREAM      127.0.0.1:PORT, and unix:///PATH or tcp://HOST:PORT
 *
 *     cc -std=c11 engine_server.c $(pkg-config --cflags --libs dockline) -o engine_server
 *     ./engine_server 127.0.0.1:2375 unix:///var/run/docker.sock
 *
 * It is read-only: requests other than GET, HEAD and exec receive a 403. SIGTERM stops it; tunnels may continue for five
 * seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dockline.h"

static dockline_engine *engine;
static volatile sig_atomic_t stop_asked;

static int is(dockline_str text, const char *word)
{
    return text.len == strlen(word) && memcmp(text.data, word, text.len) == 0;
}

/* Called for each request, on the thread of the loop. */
static void on_route(void *user, dockline_route *route)
{
    static const char message[] = "this proxy is read-only";
    dockline_request request;
    dockline_reply reply = {.status = 403, .body = message, .body_len = sizeof message - 1};
    if (dockline_route_request(route, &request, sizeof request) != DOCKLINE_OK)
        return; /* only after a bug; the client receives a 500 */
    if (is(request.method, "GET") || is(request.method, "HEAD")
        || memmem(request.target.data, request.target.len, "/exec", 5) != NULL)
        dockline_route_upstream(route, user);
    else
        dockline_route_reply(route, &reply, sizeof reply);
}

static void on_exchange(void *user, const dockline_client *client, size_t client_size,
                        const dockline_exchange_record *record, size_t record_size)
{
    (void)user, (void)client, (void)client_size, (void)record_size;
    fprintf(stderr, "%.*s %.*s %u %s\n", (int)record->method.len, record->method.data,
            (int)record->target.len, record->target.data, record->status,
            dockline_exchange_end_name(record->end));
}

static void on_log(void *user, int32_t level, dockline_str text)
{
    (void)user;
    fprintf(stderr, "%s: %.*s\n", level <= DOCKLINE_LOG_WARN ? "warning" : "info", (int)text.len, text.data);
}

static void on_signal(int number)
{
    int kept = errno;
    (void)number;
    stop_asked = 1;
    dockline_engine_wake(engine);
    errno = kept;
}

static int listen_on(char *text)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    char *port = strrchr(text, ':');
    int reuse = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (port == NULL)
        return -1;
    *port++ = '\0';
    here.sin_port = htons((uint16_t)atoi(port));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    return inet_pton(AF_INET, text, &here.sin_addr) == 1 && bind(fd, (struct sockaddr *)&here, sizeof here) == 0
            && listen(fd, SOMAXCONN) == 0
        ? fd
        : -1;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_signal};
    dockline_engine_options options = {.exchange_ended = on_exchange, .log = on_log};
    dockline_upstream_options where = {.host = DOCKLINE_STR("docker")};
    dockline_listener_options serve = {.route = on_route};
    dockline_upstream *upstream = NULL;
    struct pollfd loop = {.events = POLLIN};
    int32_t state = DOCKLINE_ENGINE_RUNNING;
    int fd = -1;
    if (argc != 3 || dockline_abi_version() != DOCKLINE_ABI_VERSION) {
        fprintf(stderr, "usage: engine_server LISTEN UPSTREAM   %s\n", dockline_version_string());
        return 2;
    }
    where.address = dockline_str_of(argv[2]);
    if (dockline_upstream_new(&where, sizeof where, &upstream) != DOCKLINE_OK || (fd = listen_on(argv[1])) < 0) {
        fprintf(stderr, "cannot listen, or no such address: %s\n", strerror(errno));
        return 1;
    }
    serve.route_user = upstream;
    if (dockline_engine_new(&options, sizeof options, &engine) != DOCKLINE_OK
        || dockline_engine_adopt_listener(engine, fd, &serve, sizeof serve, NULL) != DOCKLINE_OK
        || dockline_engine_fd(engine, &loop.fd) != DOCKLINE_OK) {
        perror("cannot serve");
        return 1;
    }
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    while (state != DOCKLINE_ENGINE_DONE) {
        uint64_t wait_ms = 0;
        dockline_engine_timeout_ms(engine, &wait_ms);
        poll(&loop, 1, wait_ms < 1000 ? (int)wait_ms : 1000); /* and for other descriptors of this program */
        if (stop_asked == 1) {
            stop_asked = 2;
            dockline_engine_stop(engine, 5000);
        }
        if (dockline_engine_poll(engine, 0, &state) != DOCKLINE_OK)
            return 1;
    }
    dockline_engine_free(engine);
    dockline_upstream_free(upstream);
    return 0;
}
