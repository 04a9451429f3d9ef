/* SPDX-License-Identifier: MIT
 * An HTTP proxy for one Docker daemon on poll(2): dockline_conn does HTTP, dockline_relay the tunnels, and the
 * sockets are this program's.
 *
 *     conn_proxy LISTEN UPSTREAM      addresses: HOST:PORT or unix:/PATH
 *
 *     cc -std=c11 conn_proxy.c $(pkg-config --cflags --libs dockline) -o conn_proxy
 *     ./conn_proxy 127.0.0.1:2375 unix:/var/run/docker.sock
 *
 * SIGTERM stops it: requests are finished, and the tunnels get five more seconds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "dockline.h"

enum { SESSIONS = 500, IDLE = 16, CONNECT_MS = 5000, DRAIN_MS = 5000, CLIENT = 0, UPSTREAM = 1 };

struct address {
    struct sockaddr_storage storage;
    socklen_t len;
};

struct session {
    int fd[2]; /* CLIENT, UPSTREAM; -1 if there is none */
    dockline_conn *conn;
    dockline_relay *relay;      /* once it is a tunnel */
    dockline_relay_wants wants; /* of the relay */
    uint64_t connecting_until;  /* 0 if the upstream is not being connected */
    uint32_t ready;             /* what poll saw, as bits of the library */
    int over;
};

static dockline_worker *worker;
static struct address upstream_address;
static struct session sessions[SESSIONS];
static int session_count, idle[IDLE], idle_count, listener = -1;
static volatile sig_atomic_t stop_asked;

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

static void close_side(struct session *session, int side)
{
    if (session->fd[side] >= 0)
        close(session->fd[side]);
    session->fd[side] = -1;
}

static void ready(struct session *session, int reused)
{
    session->connecting_until = 0;
    dockline_conn_upstream_ready(session->conn, DOCKLINE_STR("docker"), reused, now_ms());
}

static void failed(struct session *session, int32_t failure, int error)
{
    session->connecting_until = 0;
    close_side(session, UPSTREAM);
    dockline_conn_upstream_failed(session->conn, failure, error, now_ms());
}

static void find_upstream(struct session *session, int may_reuse)
{
    char byte;
    while (may_reuse && idle_count > 0) {
        int fd = idle[--idle_count];
        if (recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN) {
            session->fd[UPSTREAM] = fd;
            ready(session, 1);
            return;
        }
        close(fd); /* the daemon has closed it */
    }
    int fd = socket(upstream_address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    session->fd[UPSTREAM] = fd;
    if (fd < 0)
        failed(session, DOCKLINE_FAILED_OVERLOADED, errno);
    else if (connect(fd, (struct sockaddr *)&upstream_address.storage, upstream_address.len) == 0)
        ready(session, 0);
    else if (errno == EINPROGRESS)
        session->connecting_until = now_ms() + CONNECT_MS;
    else
        failed(session, DOCKLINE_FAILED_UNREACHABLE, errno);
}

/* poll reported the result of connect, or its time has passed. */
static void check_connect(struct session *session)
{
    int error = 0;
    socklen_t len = sizeof error;
    if (session->ready >= DOCKLINE_UPSTREAM_READ) {
        getsockopt(session->fd[UPSTREAM], SOL_SOCKET, SO_ERROR, &error, &len);
        if (error == 0)
            ready(session, 0);
        else
            failed(session, DOCKLINE_FAILED_UNREACHABLE, error);
    } else if (now_ms() >= session->connecting_until) {
        failed(session, DOCKLINE_FAILED_TIMEOUT, 0);
    }
}

static void release_upstream(struct session *session, int keep)
{
    if (keep && idle_count < IDLE && listener >= 0) {
        idle[idle_count++] = session->fd[UPSTREAM];
        session->fd[UPSTREAM] = -1;
    }
    session->connecting_until = 0;
    close_side(session, UPSTREAM);
}

static void log_exchange(const struct session *session)
{
    dockline_exchange_record record;
    if (dockline_conn_record_get(session->conn, &record, sizeof record) == DOCKLINE_OK)
        fprintf(stderr, "%.*s %.*s %u %s %s\n", (int)record.method.len, record.method.data,
                (int)record.target.len, record.target.data, record.status,
                dockline_exchange_end_name(record.end), dockline_cause_name(record.failure.cause));
}

/* HTTP has ended: a relay takes both sockets and the bytes that were read already. */
static void become_tunnel(struct session *session)
{
    dockline_endpoint client = {.fd = session->fd[CLIENT]}, upstream = {.fd = session->fd[UPSTREAM]};
    dockline_conn_tunnel early;
    session->over = dockline_conn_tunnel_take(session->conn, &early, sizeof early) != DOCKLINE_OK
        || dockline_relay_new(worker, NULL, 0, &client, &upstream, sizeof client, now_ms(), &session->relay)
            != DOCKLINE_OK
        || dockline_relay_prefill(session->relay, DOCKLINE_SIDE_DOWNSTREAM, early.from_downstream,
                                  early.from_downstream_len)
            != DOCKLINE_OK
        || dockline_relay_prefill(session->relay, DOCKLINE_SIDE_UPSTREAM, early.from_upstream,
                                  early.from_upstream_len)
            != DOCKLINE_OK;
    dockline_conn_free(session->conn);
    session->conn = NULL;
    session->ready = 0;
}

static void take_events(struct session *session)
{
    struct linger reset = {1, 0};
    dockline_conn_event event;
    while (session->conn != NULL && !session->over
           && dockline_conn_next_event(session->conn, &event, sizeof event) == DOCKLINE_OK
           && event.kind != DOCKLINE_EVENT_NONE) {
        switch (event.kind) {
        case DOCKLINE_EVENT_NEED_UPSTREAM:
            find_upstream(session, (event.flags & DOCKLINE_EVENT_MAY_REUSE) != 0);
            break;
        case DOCKLINE_EVENT_RELEASE_UPSTREAM:
            release_upstream(session, (event.flags & DOCKLINE_EVENT_KEEP) != 0);
            break;
        case DOCKLINE_EVENT_EXCHANGE_ENDED:
            log_exchange(session);
            break;
        case DOCKLINE_EVENT_TUNNEL:
            become_tunnel(session);
            break;
        default: /* DOCKLINE_EVENT_CLOSED */
            if (event.flags & DOCKLINE_EVENT_RESET)
                setsockopt(session->fd[CLIENT], SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
            session->over = 1;
        }
    }
}

/* Writes to a side once and reads from it once. Returns whether anything happened. */
static int move_side(struct session *session, int side)
{
    static uint8_t bytes[65536];
    int32_t name = side == CLIENT ? DOCKLINE_SIDE_DOWNSTREAM : DOCKLINE_SIDE_UPSTREAM;
    int fd = session->fd[side], shift = side * 4, moved = 0;
    uint32_t interest = 0;
    uint64_t deadline_ms;
    const uint8_t *data;
    size_t len;
    if (fd < 0 || (side == UPSTREAM && session->connecting_until != 0))
        return 0;
    dockline_conn_wants(session->conn, &interest, &deadline_ms);
    if (interest >> shift & DOCKLINE_DOWNSTREAM_WRITE) {
        dockline_conn_output_view(session->conn, name, &data, &len);
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        if (n > 0)
            dockline_conn_output_sent(session->conn, name, (size_t)n, now_ms());
        else if (errno != EAGAIN)
            dockline_conn_output_refused(session->conn, name, errno, now_ms());
        moved |= n > 0 || errno != EAGAIN;
    } else if (interest >> shift & DOCKLINE_DOWNSTREAM_SHUT) {
        shutdown(fd, SHUT_WR);
        dockline_conn_shut_done(session->conn, name, now_ms());
        moved = 1;
    }
    dockline_conn_wants(session->conn, &interest, &deadline_ms);
    if (interest >> shift & DOCKLINE_DOWNSTREAM_READ) {
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n > 0)
            dockline_conn_feed(session->conn, name, bytes, (size_t)n, now_ms());
        else if (n == 0)
            dockline_conn_feed_eof(session->conn, name, now_ms());
        else if (errno != EAGAIN)
            dockline_conn_feed_error(session->conn, name, errno, now_ms());
        moved |= n >= 0 || errno != EAGAIN;
    }
    return moved;
}

static void step(struct session *session)
{
    if (session->conn != NULL) {
        dockline_conn_handle_timeout(session->conn, now_ms());
        if (session->connecting_until != 0)
            check_connect(session);
        take_events(session);
        /* Bounded, so that other sessions have their turn; poll will report the rest. */
        for (int rounds = 0, moved = 1; rounds < 64 && moved; rounds++) {
            moved = 0;
            for (int side = CLIENT; side <= UPSTREAM && session->conn != NULL && !session->over; side++) {
                moved |= move_side(session, side);
                take_events(session);
            }
        }
    }
    if (session->relay != NULL && !session->over)
        session->over = dockline_relay_pump(session->relay, session->ready, now_ms(), &session->wants,
                                            sizeof session->wants)
                != DOCKLINE_OK
            || session->wants.state == DOCKLINE_RELAY_DONE;
    session->ready = 0;
}

/* Fills in what poll waits for, and returns until when. */
static uint64_t prepare(struct session *session, struct pollfd *polls)
{
    uint32_t interest = session->wants.interest;
    uint64_t deadline_ms = session->wants.state == DOCKLINE_RELAY_YIELD ? 0 : session->wants.deadline_ms;
    if (session->conn != NULL) {
        dockline_conn_wants(session->conn, &interest, &deadline_ms);
        if (session->connecting_until != 0) {
            interest |= DOCKLINE_UPSTREAM_WRITE;
            deadline_ms = session->connecting_until < deadline_ms ? session->connecting_until : deadline_ms;
        }
    }
    for (int side = CLIENT; side <= UPSTREAM; side++, interest >>= 4) {
        short events = (short)((interest & DOCKLINE_DOWNSTREAM_READ ? POLLIN : 0)
                               | (interest & (DOCKLINE_DOWNSTREAM_WRITE | DOCKLINE_DOWNSTREAM_SHUT) ? POLLOUT : 0));
        polls[side] = (struct pollfd){events != 0 ? session->fd[side] : -1, events, 0};
    }
    return deadline_ms;
}

static uint32_t ready_bits(short events)
{
    return (events & POLLIN ? DOCKLINE_DOWNSTREAM_READ : 0u) | (events & POLLOUT ? DOCKLINE_DOWNSTREAM_WRITE : 0u)
        | (events & (POLLHUP | POLLERR) ? DOCKLINE_DOWNSTREAM_HUP : 0u);
}

static void accept_all(void)
{
    int fd;
    while (session_count < SESSIONS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = &sessions[session_count];
        *session = (struct session){.fd = {fd, -1}};
        if (dockline_conn_new(NULL, 0, NULL, 0, now_ms(), &session->conn) == DOCKLINE_OK)
            session_count++;
        else
            close(fd);
    }
}

static void stop(void)
{
    close(listener);
    listener = -1;
    while (idle_count > 0)
        close(idle[--idle_count]);
    for (int i = 0; i < session_count; i++) {
        dockline_conn_drain(sessions[i].conn, now_ms()); /* one of the two is NULL, which is refused without harm */
        dockline_relay_drain(sessions[i].relay, now_ms() + DRAIN_MS);
        step(&sessions[i]);
    }
}

static void on_signal(int number)
{
    (void)number;
    stop_asked = 1;
}

int main(int argc, char **argv)
{
    static struct pollfd polls[2 * SESSIONS + 1];
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t stops, none;
    int reuse = 1;
    if (argc != 3 || dockline_abi_version() != DOCKLINE_ABI_VERSION) {
        fprintf(stderr, "usage: conn_proxy LISTEN UPSTREAM   %s\n", dockline_version_string());
        return 2;
    }
    sigemptyset(&none);
    sigemptyset(&stops);
    sigaddset(&stops, SIGTERM);
    sigprocmask(SIG_BLOCK, &stops, NULL); /* except during ppoll */
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    struct address here = parse_address(argv[1]);
    upstream_address = parse_address(argv[2]);
    listener = socket(here.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
    if (here.len == 0 || upstream_address.len == 0
        || bind(listener, (struct sockaddr *)&here.storage, here.len) != 0 || listen(listener, SOMAXCONN) != 0
        || dockline_worker_new(NULL, 0, &worker) != DOCKLINE_OK) {
        perror("cannot listen, or no such address");
        return 1;
    }
    while (listener >= 0 || session_count > 0) {
        uint64_t now = now_ms(), nearest = now + 60000;
        for (int i = 0; i < session_count; i++) {
            uint64_t deadline_ms = prepare(&sessions[i], &polls[2 * i]);
            nearest = deadline_ms < nearest ? deadline_ms : nearest;
        }
        int polled = session_count;
        polls[2 * polled] = (struct pollfd){polled < SESSIONS ? listener : -1, POLLIN, 0};
        uint64_t wait = nearest > now ? nearest - now : 0;
        struct timespec timeout = {(time_t)(wait / 1000), (long)(wait % 1000) * 1000000};
        int n = ppoll(polls, (nfds_t)(2 * polled + 1), &timeout, &none);
        if (stop_asked && listener >= 0)
            stop();
        if (n > 0 && polls[2 * polled].revents != 0 && listener >= 0)
            accept_all();
        for (int i = session_count - 1; i >= 0; i--) {
            struct session *session = &sessions[i];
            if (n > 0 && i < polled)
                session->ready |= ready_bits(polls[2 * i].revents) | ready_bits(polls[2 * i + 1].revents) << 4;
            if (!session->over)
                step(session);
            if (session->over) {
                dockline_conn_free(session->conn);
                dockline_relay_free(session->relay);
                close_side(session, CLIENT);
                close_side(session, UPSTREAM);
                sessions[i] = sessions[--session_count];
            }
        }
    }
    dockline_worker_free(worker);
    return 0;
}
