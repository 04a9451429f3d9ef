/* SPDX-License-Identifier: MIT
 * A relay between two socket pairs, driven as an edge-triggered host does it, in virtual time.
 *
 *     client ══ down [relay] up ══ daemon
 */
#ifndef BED_H
#define BED_H

#include <sys/epoll.h>

#include "sockets.h"

/* What a side of the relay is. */
enum kind { UNIX_FD, TCP_FD, UNIX_CALLBACKS, TCP_CALLBACKS, KINDS };

static const char *const kind_names[KINDS] = {"unix", "tcp", "unix by callbacks", "tcp by callbacks"};

/* A side that the host reads and writes by itself, as it would with TLS. */
struct host_side {
    int fd;
    size_t most; /* bytes a call moves at most, as with TLS records; 0: no limit */
    int reads, writes, shutdowns;
    unsigned scripted; /* calls that return this and do nothing: */
    int64_t answer;
};

enum { SCRIPTED_READ = 1, SCRIPTED_WRITE = 2, SCRIPTED_SHUTDOWN = 4 };

struct bed {
    dockline_worker *worker;
    dockline_relay *relay;
    dockline_relay_wants wants;
    int client, daemon; /* the test's ends */
    int down, up;       /* the relay's ends */
    struct host_side down_host, up_host;
    int epoll;
    uint64_t now;
    long pumps;
    int descriptors; /* open before */
};

static inline int64_t io_answer(ssize_t n)
{
    if (n >= 0)
        return n;
    return errno == EAGAIN ? DOCKLINE_IO_AGAIN : DOCKLINE_IO_RESET;
}

static inline size_t at_most(size_t len, size_t most)
{
    return most != 0 && most < len ? most : len;
}

static inline int64_t host_read(void *user, void *buf, size_t len)
{
    struct host_side *side = (struct host_side *)user;
    side->reads++;
    if (side->scripted & SCRIPTED_READ)
        return side->answer;
    return io_answer(recv(side->fd, buf, at_most(len, side->most), 0));
}

static inline int64_t host_write(void *user, const void *buf, size_t len)
{
    struct host_side *side = (struct host_side *)user;
    side->writes++;
    if (side->scripted & SCRIPTED_WRITE)
        return side->answer;
    return io_answer(send(side->fd, buf, at_most(len, side->most), MSG_NOSIGNAL));
}

static inline int32_t host_shutdown(void *user)
{
    struct host_side *side = (struct host_side *)user;
    side->shutdowns++;
    if (side->scripted & SCRIPTED_SHUTDOWN)
        return (int32_t)side->answer;
    return shutdown(side->fd, SHUT_WR) == 0 ? 0 : DOCKLINE_IO_RESET;
}

static inline dockline_endpoint endpoint_of(enum kind kind, int fd, struct host_side *host)
{
    dockline_endpoint endpoint;
    memset(&endpoint, 0, sizeof endpoint);
    endpoint.fd = fd;
    host->fd = fd;
    if (kind == UNIX_CALLBACKS || kind == TCP_CALLBACKS) {
        endpoint.user = host;
        endpoint.read = host_read;
        endpoint.write = host_write;
        endpoint.shutdown_write = host_shutdown;
    }
    return endpoint;
}

static inline void bed_watch(struct bed *bed, int fd, uint32_t side)
{
    struct epoll_event event;
    memset(&event, 0, sizeof event);
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.u32 = side;
    REQUIRE(epoll_ctl(bed->epoll, EPOLL_CTL_ADD, fd, &event) == 0);
}

static inline void bed_open(struct bed *bed, enum kind down, enum kind up, const dockline_relay_options *options,
                            const dockline_worker_options *bounds)
{
    int ends[2];
    memset(bed, 0, sizeof *bed);
    bed->descriptors = open_descriptors();
    bed->now = 1000;
    bed->epoll = epoll_create1(EPOLL_CLOEXEC);
    socket_pair(down == TCP_FD || down == TCP_CALLBACKS, ends);
    bed->client = ends[0];
    bed->down = ends[1];
    socket_pair(up == TCP_FD || up == TCP_CALLBACKS, ends);
    bed->daemon = ends[0];
    bed->up = ends[1];
    bed_watch(bed, bed->down, DOCKLINE_SIDE_DOWNSTREAM);
    bed_watch(bed, bed->up, DOCKLINE_SIDE_UPSTREAM);
    dockline_endpoint downstream = endpoint_of(down, bed->down, &bed->down_host);
    dockline_endpoint upstream = endpoint_of(up, bed->up, &bed->up_host);
    REQUIRE(dockline_worker_new(bounds, bounds == NULL ? 0 : sizeof *bounds, &bed->worker) == DOCKLINE_OK);
    REQUIRE(dockline_relay_new(bed->worker, options, options == NULL ? 0 : sizeof *options, &downstream, &upstream,
                               sizeof downstream, bed->now, &bed->relay) == DOCKLINE_OK);
    /* The test ends every wait by itself, so none of this is what a relay that does nothing leaves. */
    memset(&bed->wants, 0x55, sizeof bed->wants);
}

static inline int bed_pump(struct bed *bed, uint32_t ready)
{
    const uint32_t waits = DOCKLINE_DOWNSTREAM_READ | DOCKLINE_DOWNSTREAM_WRITE | DOCKLINE_UPSTREAM_READ
        | DOCKLINE_UPSTREAM_WRITE;
    bed->pumps++;
    REQUIRE(dockline_relay_pump(bed->relay, ready, bed->now, &bed->wants, sizeof bed->wants) == DOCKLINE_OK);
    CHECK((bed->wants.interest & ~waits) == 0);
    if (bed->wants.state == DOCKLINE_RELAY_RUNNING) /* or it would never be pumped again */
        CHECK(bed->wants.interest != 0 || bed->wants.deadline_ms != DOCKLINE_NO_DEADLINE);
    if (bed->wants.state == DOCKLINE_RELAY_DONE)
        CHECK(bed->wants.interest == 0 && bed->wants.deadline_ms == DOCKLINE_NO_DEADLINE);
    return bed->wants.state;
}

/* Passes on the events of epoll, within a time limit. Returns whether there were any. */
static inline int bed_step(struct bed *bed, int timeout_ms)
{
    struct epoll_event events[4];
    uint32_t ready = 0;
    if (bed->wants.state == DOCKLINE_RELAY_YIELD)
        timeout_ms = 0;
    int n = epoll_wait(bed->epoll, events, 4, timeout_ms);
    for (int i = 0; i < n; i++) {
        uint32_t bits = 0;
        if (events[i].events & EPOLLIN)
            bits |= DOCKLINE_DOWNSTREAM_READ;
        if (events[i].events & EPOLLOUT)
            bits |= DOCKLINE_DOWNSTREAM_WRITE;
        if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            bits |= DOCKLINE_DOWNSTREAM_HUP;
        ready |= events[i].data.u32 == DOCKLINE_SIDE_DOWNSTREAM ? bits : bits << 4;
    }
    if (n <= 0 && bed->wants.state != DOCKLINE_RELAY_YIELD)
        return 0;
    bed_pump(bed, ready);
    return 1;
}

/* The first pump, and all that can be done at once. */
static inline void bed_settle(struct bed *bed)
{
    bed_pump(bed, 0);
    while (bed->wants.state != DOCKLINE_RELAY_DONE && bed_step(bed, 0))
        ;
}

/* Drives the relay until a descriptor of the test is ready. */
static inline void bed_wait(struct bed *bed, int fd, short events)
{
    struct pollfd entries[2] = {{fd, events, 0}, {bed->epoll, POLLIN, 0}};
    for (;;) {
        int busy = bed->wants.state == DOCKLINE_RELAY_YIELD;
        REQUIRE(poll(entries, 2, busy ? 0 : PATIENCE_MS) >= (busy ? 0 : 1));
        if (entries[0].revents != 0)
            return;
        bed_step(bed, 0);
    }
}

/* Drives the relay to its end; deadlines that are near are waited for. */
static inline void bed_finish(struct bed *bed)
{
    while (bed->wants.state != DOCKLINE_RELAY_DONE) {
        uint64_t left = bed->wants.deadline_ms - bed->now;
        int timer = bed->wants.deadline_ms != DOCKLINE_NO_DEADLINE && left < 2000;
        if (!bed_step(bed, timer ? (int)left : PATIENCE_MS)) {
            REQUIRE(timer);
            bed->now += left;
            bed_pump(bed, 0);
        }
    }
}

/* Sends bytes of a stream from one of the test's ends. */
static inline void bed_send(struct bed *bed, int fd, unsigned seed, uint64_t from, size_t len)
{
    uint8_t chunk[16384];
    while (len > 0) {
        size_t n = at_most(len, sizeof chunk);
        noise_fill(seed, from, chunk, n);
        ssize_t sent = send(fd, chunk, n, MSG_NOSIGNAL);
        if (sent < 0) {
            REQUIRE(errno == EAGAIN);
            bed_wait(bed, fd, POLLOUT);
            continue;
        }
        from += (uint64_t)sent;
        len -= (size_t)sent;
    }
}

/* Reads exactly these bytes of a stream at one of the test's ends. */
static inline void bed_expect(struct bed *bed, int fd, unsigned seed, uint64_t from, size_t len)
{
    uint8_t chunk[16384];
    while (len > 0) {
        bed_wait(bed, fd, POLLIN);
        ssize_t n = recv(fd, chunk, at_most(len, sizeof chunk), 0);
        REQUIRE(n > 0);
        REQUIRE(noise_matches(seed, from, chunk, (size_t)n));
        from += (uint64_t)n;
        len -= (size_t)n;
    }
}

/* Nothing has arrived, and no end either. */
static inline void expect_silence(int fd)
{
    uint8_t byte;
    CHECK(recv(fd, &byte, 1, 0) == -1 && errno == EAGAIN);
}

/* The next thing to arrive is the clean end (0) or an error. */
static inline void bed_expect_end(struct bed *bed, int fd, int error)
{
    uint8_t byte;
    bed_wait(bed, fd, POLLIN);
    errno = 0;
    CHECK_EQ(recv(fd, &byte, 1, 0), error == 0 ? 0 : -1);
    CHECK_EQ(errno, error);
}

/* One direction of an exchange, as the test sees it. */
struct flow {
    int source, target;
    unsigned seed;
    uint64_t len, sent, received;
};

static inline int flow_move(struct flow *flow)
{
    static uint8_t chunk[128 * 1024];
    int moved = 0;
    if (flow->sent < flow->len) {
        size_t n = at_most((size_t)(flow->len - flow->sent), sizeof chunk);
        noise_fill(flow->seed, flow->sent, chunk, n);
        ssize_t sent = send(flow->source, chunk, n, MSG_NOSIGNAL);
        if (sent > 0) {
            flow->sent += (uint64_t)sent;
            moved = 1;
        }
    }
    ssize_t n = flow->received < flow->len ? recv(flow->target, chunk, sizeof chunk, 0) : 0;
    if (n > 0) {
        REQUIRE(noise_matches(flow->seed, flow->received, chunk, (size_t)n));
        flow->received += (uint64_t)n;
        moved = 1;
    }
    return moved;
}

/* Moves many bytes both ways at the same time, and compares every one. */
static inline void bed_exchange(struct bed *bed, uint64_t up, uint64_t down)
{
    struct flow flows[2] = {{bed->client, bed->daemon, 11, up, 0, 0}, {bed->daemon, bed->client, 12, down, 0, 0}};
    while (flows[0].received < up || flows[1].received < down) {
        int moved = flow_move(&flows[0]) | flow_move(&flows[1]);
        if (bed_step(bed, 0) || moved)
            continue;
        struct pollfd entries[3] = {{bed->epoll, POLLIN, 0}, {bed->client, POLLIN, 0}, {bed->daemon, POLLIN, 0}};
        if (flows[0].sent < up)
            entries[1].events |= POLLOUT;
        if (flows[1].sent < down)
            entries[2].events |= POLLOUT;
        REQUIRE(poll(entries, 3, PATIENCE_MS) > 0);
    }
}

static inline dockline_relay_stats bed_stats(const struct bed *bed)
{
    dockline_relay_stats stats;
    memset(&stats, 0x55, sizeof stats);
    REQUIRE(dockline_relay_stats_get(bed->relay, &stats, sizeof stats) == DOCKLINE_OK);
    return stats;
}

/* What the host does with a relay that is done. */
static inline void bed_hang_up(struct bed *bed)
{
    dockline_relay_free(bed->relay);
    bed->relay = NULL;
    close(bed->down);
    close(bed->up);
    bed->down = bed->up = -1;
}

/* Frees the rest, and sees that nothing is left. */
static inline void bed_close(struct bed *bed)
{
    dockline_relay_free(bed->relay);
    dockline_worker_free(bed->worker);
    close_if_open(bed->down);
    close_if_open(bed->up);
    close_if_open(bed->client);
    close_if_open(bed->daemon);
    close(bed->epoll);
    CHECK_EQ(open_descriptors(), bed->descriptors);
}

#endif
