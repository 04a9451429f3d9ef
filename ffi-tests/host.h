/* SPDX-License-Identifier: MIT
 * A host of an engine: what the callbacks receive is noted, and the engine is nested in a poll(2) loop. */
#ifndef HOST_H
#define HOST_H

#include "daemon.h"

struct host {
    dockline_engine *engine;
    dockline_upstream *upstream, *dead;
    dockline_route *later; /* the last request that waits */
    uint64_t tunnel; /* the number of the last one */
    char records[1024]; /* what the callbacks received */
    char log[1024];
    char listener[64], address[64];
    int routed;
};

static inline void append(char *to, size_t size, const char *text)
{
    size_t len = strlen(to);
    snprintf(to + len, size - len, "%s%s", len == 0 ? "" : ", ", text);
}

static inline void note_client(struct host *host, const dockline_client *client, size_t size)
{
    REQUIRE(size >= sizeof *client);
    snprintf(host->listener, sizeof host->listener, "%.*s", (int)client->listener.len, client->listener.data);
    if (client->ip_len == 4)
        inet_ntop(AF_INET, client->ip, host->address, sizeof host->address);
    else if (client->flags & DOCKLINE_CLIENT_UNIX)
        snprintf(host->address, sizeof host->address, "uid %u", client->uid);
    else
        snprintf(host->address, sizeof host->address, "nowhere");
}

static inline void on_exchange(void *user, const dockline_client *client, size_t client_size,
                        const dockline_exchange_record *record, size_t record_size)
{
    struct host *host = user;
    char text[256];
    REQUIRE(record_size >= sizeof *record);
    note_client(host, client, client_size);
    snprintf(text, sizeof text, "%.*s %u %s %.*s%s", (int)record->target.len, record->target.data,
             record->status, dockline_exchange_end_name(record->end), (int)record->upstream.len,
             record->upstream.data, record->flags & DOCKLINE_EXCHANGE_REUSED ? " again" : "");
    append(host->records, sizeof host->records, text);
    if (record->route.data != NULL) {
        snprintf(text, sizeof text, "by %.*s", (int)record->route.len, record->route.data);
        append(host->records, sizeof host->records, text);
    }
    CHECK_EQ(record->tunnel_id != 0, record->tunnel != 0);
    host->tunnel = record->tunnel_id;
    if (record->failure.side != DOCKLINE_SIDE_NONE) {
        snprintf(text, sizeof text, "failed: %d %s %s %d", record->failure.side,
                 dockline_phase_name(record->failure.phase), dockline_cause_name(record->failure.cause),
                 record->failure.error_number);
        append(host->records, sizeof host->records, text);
    }
}

static inline void on_tunnel(void *user, const dockline_client *client, size_t client_size,
                      const dockline_tunnel_record *record, size_t record_size)
{
    struct host *host = user;
    char text[256];
    REQUIRE(record_size >= sizeof *record);
    note_client(host, client, client_size);
    if (record->tunnel != 0)
        CHECK_EQ(record->id, host->tunnel);
    snprintf(text, sizeof text, "tunnel %.*s %d %.*s up %ju down %ju %s", (int)record->target.len,
             record->target.data, record->tunnel, (int)record->upstream.len, record->upstream.data,
             (uintmax_t)record->bytes_up, (uintmax_t)record->bytes_down,
             dockline_close_reason_name(record->close_reason));
    CHECK_EQ(record->failure.cause, record->close_reason == DOCKLINE_CLOSE_KILLED  ? DOCKLINE_CAUSE_KILLED
                                    : record->close_reason == DOCKLINE_CLOSE_DRAIN ? DOCKLINE_CAUSE_DRAINED
                                                                                   : DOCKLINE_CAUSE_NONE);
    append(host->records, sizeof host->records, text);
}

static inline void on_log(void *user, int32_t level, dockline_str text)
{
    struct host *host = user;
    char line[256];
    snprintf(line, sizeof line, "%d %.*s", level, (int)text.len, text.data);
    append(host->log, sizeof host->log, line);
}

static inline void host_open(struct host *host, const char *address, const char *spare)
{
    dockline_engine_options options;
    dockline_upstream_options upstream;
    memset(host, 0, sizeof *host);
    memset(&options, 0, sizeof options);
    memset(&upstream, 0, sizeof upstream);
    options.user = host;
    options.exchange_ended = on_exchange;
    options.tunnel_ended = on_tunnel;
    options.log = on_log;
    REQUIRE_OK(dockline_engine_new(&options, sizeof options, &host->engine));
    upstream.address = dockline_str_of(address);
    upstream.name = DOCKLINE_STR("daemon");
    REQUIRE_OK(dockline_upstream_new(&upstream, sizeof upstream, &host->upstream));
    if (spare != NULL)
        REQUIRE_OK(dockline_upstream_add_address(host->upstream, dockline_str_of(spare)));
}

static inline void host_close(struct host *host)
{
    dockline_engine_free(host->engine);
    dockline_upstream_free(host->upstream);
}

static inline uint64_t serve(struct host *host, int fd, int32_t service, dockline_route_callback route)
{
    dockline_listener_options options;
    uint64_t listener = 0;
    memset(&options, 0, sizeof options);
    options.name = DOCKLINE_STR("front");
    options.service = service;
    if (route != NULL) {
        options.route = route;
        options.route_user = host;
    } else {
        options.upstream = host->upstream;
    }
    REQUIRE_OK(dockline_engine_adopt_listener(host->engine, fd, &options, sizeof options, &listener));
    return listener;
}

static inline dockline_engine_stats stats_of(struct host *host)
{
    dockline_engine_stats stats;
    REQUIRE_OK(dockline_engine_stats_get(host->engine, &stats, sizeof stats));
    return stats;
}

/* One turn of a loop that has other descriptors as well. Returns whether fd is readable. */
static inline int turn(struct host *host, int fd)
{
    struct pollfd entries[2] = {{-1, POLLIN, 0}, {fd, POLLIN, 0}};
    uint64_t timeout_ms;
    int32_t state = -1;
    REQUIRE_OK(dockline_engine_fd(host->engine, &entries[0].fd));
    REQUIRE_OK(dockline_engine_timeout_ms(host->engine, &timeout_ms));
    int wait = timeout_ms < PATIENCE_MS ? (int)timeout_ms : PATIENCE_MS;
    int n = poll(entries, 2, wait);
    REQUIRE(n > 0 || wait < PATIENCE_MS);
    REQUIRE_OK(dockline_engine_poll(host->engine, 0, &state));
    CHECK(state >= DOCKLINE_ENGINE_RUNNING && state <= DOCKLINE_ENGINE_DONE);
    return entries[1].revents != 0;
}

static inline void expect_bytes(struct host *host, int fd, const char *expected)
{
    char got[1024];
    size_t len = 0;
    while (len < strlen(expected)) {
        if (!turn(host, fd))
            continue;
        ssize_t n = recv(fd, got + len, strlen(expected) - len, 0);
        REQUIRE(n > 0);
        len += (size_t)n;
    }
    got[len] = '\0';
    CHECK_STR(got, expected);
}

static inline void expect_end(struct host *host, int fd)
{
    char byte;
    while (!turn(host, fd)) {
    }
    CHECK_EQ(recv(fd, &byte, 1, 0), 0);
}

static inline void say(int fd, const char *text)
{
    REQUIRE(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

#endif
