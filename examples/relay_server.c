/* SPDX-License-Identifier: MIT
 * A server on epoll that joins every connection to one upstream, with dockline_relay.
 *
 *     relay_server LISTEN UPSTREAM [IDLE-SECONDS]      addresses: HOST:PORT or unix:/PATH
 *
 *     cc -std=c11 relay_server.c $(pkg-config --cflags --libs dockline) -o relay_server
 *     ./relay_server 127.0.0.1:2375 unix:/var/run/docker.sock
 *
 * SIGTERM stops it: it takes no more connections, and the tunnels get five more seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "dockline.h"

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

/* One connection, as epoll knows it. The bits of the upstream lie above those of the downstream. */
struct end {
    struct tunnel *tunnel;
    int fd;
    int shift;
};

struct tunnel {
    struct end client, upstream;
    dockline_relay *relay; /* NULL until the upstream is connected */
    uint32_t ready;        /* events since the last pump */
    int again;             /* pump without waiting */
    uint64_t deadline_ms;
    struct tunnel *next;
};

static int epoll_fd, listener, stopping;
static dockline_worker *worker;
static dockline_relay_options options;
static struct address upstream_address;
static struct tunnel *tunnels;

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Leaves the length at 0 if there is no such address. */
static struct address parse_address(char *text)
{
    struct address address = {.len = 0};
    struct sockaddr_un *local = (struct sockaddr_un *)&address.storage;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char *port = strrchr(text, ':');
    if (strncmp(text, "unix:", 5) == 0 && strlen(text + 5) < sizeof local->sun_path) {
        local->sun_family = AF_UNIX;
        strcpy(local->sun_path, text + 5);
        address.len = sizeof *local;
    } else if (port != NULL) {
        *port++ = '\0';
        if (getaddrinfo(text, port, &hints, &found) == 0) {
            memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
            address.len = found->ai_addrlen;
            freeaddrinfo(found);
        }
    }
    return address;
}

static int watch(int fd, struct end *end)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = end};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static uint32_t ready_bits(uint32_t events)
{
    return (events & EPOLLIN ? DOCKLINE_DOWNSTREAM_READ : 0u)
        | (events & EPOLLOUT ? DOCKLINE_DOWNSTREAM_WRITE : 0u)
        | (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR) ? DOCKLINE_DOWNSTREAM_HUP : 0u);
}

static void on_log(void *user, int32_t level, dockline_str text)
{
    (void)user;
    fprintf(stderr, "%s: %.*s\n", level <= DOCKLINE_LOG_WARN ? "warning" : "info", (int)text.len, text.data);
}

static void tunnel_close(struct tunnel *tunnel)
{
    dockline_relay_free(tunnel->relay);
    close(tunnel->client.fd);
    close(tunnel->upstream.fd);
    free(tunnel);
}

static void tunnel_open(int client)
{
    struct tunnel *tunnel = malloc(sizeof *tunnel);
    if (tunnel == NULL)
        abort();
    int fd = socket(upstream_address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    *tunnel = (struct tunnel){{tunnel, client, 0}, {tunnel, fd, 4}, NULL, 0, 0, DOCKLINE_NO_DEADLINE, tunnels};
    if (fd < 0
        || (connect(fd, (struct sockaddr *)&upstream_address.storage, upstream_address.len) != 0
            && errno != EINPROGRESS)
        || watch(client, &tunnel->client) != 0 || watch(fd, &tunnel->upstream) != 0) {
        perror("upstream");
        tunnel_close(tunnel);
        return;
    }
    tunnels = tunnel;
}

/* connect has finished: makes the relay, which takes over from here. */
static int tunnel_connected(struct tunnel *tunnel)
{
    dockline_endpoint downstream = {.fd = tunnel->client.fd}, upstream = {.fd = tunnel->upstream.fd};
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(tunnel->upstream.fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0)
        fprintf(stderr, "upstream: %s\n", strerror(error));
    return error == 0
        && dockline_relay_new(worker, &options, sizeof options, &downstream, &upstream, sizeof upstream,
                              now_ms(), &tunnel->relay) == DOCKLINE_OK;
}

/* Returns whether the tunnel continues. */
static int tunnel_pump(struct tunnel *tunnel)
{
    dockline_relay_wants wants;
    dockline_relay_stats stats;
    uint32_t ready = tunnel->ready;
    tunnel->ready = 0;
    if (tunnel->relay == NULL) {
        if (!stopping && ready < DOCKLINE_UPSTREAM_READ)
            return 1; /* an event of the client only: the relay will find out by itself */
        if (stopping || !tunnel_connected(tunnel))
            return 0;
    }
    if (dockline_relay_pump(tunnel->relay, ready, now_ms(), &wants, sizeof wants) != DOCKLINE_OK)
        return 0; /* only a bug gets here */
    tunnel->again = wants.state == DOCKLINE_RELAY_YIELD;
    tunnel->deadline_ms = wants.deadline_ms;
    if (wants.state != DOCKLINE_RELAY_DONE)
        return 1;
    if (dockline_relay_stats_get(tunnel->relay, &stats, sizeof stats) == DOCKLINE_OK)
        fprintf(stderr, "tunnel: up %llu, down %llu, %s\n", (unsigned long long)stats.bytes_up,
                (unsigned long long)stats.bytes_down, dockline_close_reason_name(stats.close_reason));
    return 0;
}

static void accept_all(void)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
        tunnel_open(fd);
}

static void stop(void)
{
    stopping = 1;
    close(listener);
    for (struct tunnel *tunnel = tunnels; tunnel != NULL; tunnel = tunnel->next) {
        if (tunnel->relay != NULL)
            dockline_relay_drain(tunnel->relay, now_ms() + 5000);
        tunnel->again = 1;
    }
}

/* Pumps what is due; returns how long epoll may wait. (With thousands of tunnels: a list and a heap.) */
static int pump_due(void)
{
    uint64_t now = now_ms(), nearest = DOCKLINE_NO_DEADLINE;
    for (struct tunnel **link = &tunnels; *link != NULL;) {
        struct tunnel *tunnel = *link;
        if ((tunnel->ready != 0 || tunnel->again || tunnel->deadline_ms <= now) && !tunnel_pump(tunnel)) {
            *link = tunnel->next;
            tunnel_close(tunnel);
            if (!stopping)
                accept_all(); /* what found no descriptor before; new tunnels are due by their first event */
            continue;
        }
        uint64_t due = tunnel->again ? now : tunnel->deadline_ms;
        nearest = due < nearest ? due : nearest;
        link = &tunnel->next;
    }
    uint64_t wait = nearest > now ? nearest - now : 0;
    return nearest == DOCKLINE_NO_DEADLINE ? -1 : wait < 60000 ? (int)wait : 60000;
}

int main(int argc, char **argv)
{
    if (argc < 3 || argc > 4 || dockline_abi_version() != DOCKLINE_ABI_VERSION) {
        fprintf(stderr, "usage: relay_server LISTEN UPSTREAM [IDLE-SECONDS]   %s\n", dockline_version_string());
        return 2;
    }
    sigset_t stops;
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigprocmask(SIG_BLOCK, &stops, NULL);
    signal(SIGPIPE, SIG_IGN); /* not required, but it saves the library system calls */
    struct end listens = {NULL, -1, 0}, signals = {NULL, signalfd(-1, &stops, SFD_NONBLOCK | SFD_CLOEXEC), 0};
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);

    struct address here = parse_address(argv[1]);
    upstream_address = parse_address(argv[2]);
    options.idle_ms = argc == 4 ? strtoull(argv[3], NULL, 10) * 1000 : 0;
    dockline_worker_options bounds = {.log = on_log};
    int reuse = 1;
    listener = socket(here.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (here.len == 0 || upstream_address.len == 0
        || bind(listener, (struct sockaddr *)&here.storage, here.len) != 0 || listen(listener, SOMAXCONN) != 0
        || watch(listener, &listens) != 0 || watch(signals.fd, &signals) != 0
        || dockline_worker_new(&bounds, sizeof bounds, &worker) != DOCKLINE_OK) {
        perror("cannot listen, or no such address");
        return 1;
    }
    for (int timeout = -1; !stopping || tunnels != NULL; timeout = pump_due()) {
        struct epoll_event events[64];
        int n = epoll_wait(epoll_fd, events, 64, timeout);
        for (int i = 0; i < n; i++) {
            struct end *end = events[i].data.ptr;
            if (end == &signals)
                stop();
            else if (end == &listens)
                accept_all();
            else
                end->tunnel->ready |= ready_bits(events[i].events) << end->shift;
        }
    }
    dockline_worker_free(worker);
    return 0;
}
