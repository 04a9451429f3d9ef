/* SPDX-License-Identifier: MIT
 * What a relay does with bytes: all of them, once, in order, within its bounds, by whatever means. */
#include <sys/resource.h>

#include "bed.h"

enum { SCRATCH = 64 * 1024, PREFILL = 1024 * 1024, MEGABYTE = 1024 * 1024 };

static void every_pairing_of_sides(void)
{
    for (int down = 0; down < KINDS; down++) {
        for (int up = 0; up < KINDS; up++) {
            struct bed bed;
            AT("%s to %s", kind_names[down], kind_names[up]);
            bed_open(&bed, (enum kind)down, (enum kind)up, NULL, NULL);
            bed_settle(&bed);
            expect_silence(bed.daemon);
            for (uint64_t i = 0; i < 20; i++) { /* keystrokes */
                bed_send(&bed, bed.client, 1, i, 1);
                bed_expect(&bed, bed.daemon, 1, i, 1);
                bed_send(&bed, bed.daemon, 2, i, 1);
                bed_expect(&bed, bed.client, 2, i, 1);
            }
            bed_exchange(&bed, MEGABYTE + 1, MEGABYTE + 333);
            shutdown(bed.client, SHUT_WR);
            bed_expect_end(&bed, bed.daemon, 0);
            shutdown(bed.daemon, SHUT_WR);
            bed_expect_end(&bed, bed.client, 0);
            bed_finish(&bed);
            dockline_relay_stats stats = bed_stats(&bed);
            CHECK_EQ(stats.bytes_up, MEGABYTE + 21);
            CHECK_EQ(stats.received_up, MEGABYTE + 21);
            CHECK_EQ(stats.bytes_down, MEGABYTE + 353);
            CHECK_EQ(stats.received_down, MEGABYTE + 353);
            CHECK_EQ(stats.close_reason, DOCKLINE_CLOSE_EOF);
            int plain = down <= TCP_FD && up <= TCP_FD;
            if (!plain)
                CHECK_EQ(stats.spliced_up + stats.spliced_down, 0);
            CHECK_EQ(bed.down_host.shutdowns, down > TCP_FD);
            CHECK_EQ(bed.up_host.shutdowns, up > TCP_FD);
            bed_close(&bed);
        }
    }
}

static void callbacks_without_a_descriptor(void)
{
    struct bed bed;
    dockline_relay *relay = NULL;
    AT("callbacks without a descriptor");
    bed_open(&bed, UNIX_CALLBACKS, UNIX_CALLBACKS, NULL, NULL);
    dockline_endpoint downstream = endpoint_of(UNIX_CALLBACKS, bed.down, &bed.down_host);
    dockline_endpoint upstream = endpoint_of(UNIX_CALLBACKS, bed.up, &bed.up_host);
    downstream.fd = upstream.fd = -1;
    REQUIRE(dockline_relay_new(bed.worker, NULL, 0, &downstream, &upstream, sizeof upstream, bed.now, &relay)
            == DOCKLINE_OK);
    dockline_relay_free(bed.relay);
    bed.relay = relay;
    bed_settle(&bed);
    bed_exchange(&bed, 300000, 200000);
    close(bed.client);
    bed.client = -1;
    bed_expect_end(&bed, bed.daemon, 0);
    bed_close(&bed);
}

static void prefilled_bytes_come_first(void)
{
    static uint8_t early[PREFILL + 1];
    struct bed bed;
    AT("prefill");
    noise_fill(1, 0, early, sizeof early);
    bed_open(&bed, UNIX_FD, TCP_FD, NULL, NULL);
    /* The sockets hold what follows already. */
    bed_send(&bed, bed.client, 1, 1000, 500);
    bed_send(&bed, bed.daemon, 2, 3, 4);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, early, 10), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, NULL, 0), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, early + 10, 990), DOCKLINE_OK);
    uint8_t greeting[3];
    noise_fill(2, 0, greeting, sizeof greeting);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, greeting, 3), DOCKLINE_OK);
    dockline_relay_stats stats = bed_stats(&bed);
    CHECK_EQ(stats.received_up, 1000);
    CHECK_EQ(stats.bytes_up, 0);
    bed_settle(&bed);
    bed_expect(&bed, bed.daemon, 1, 0, 1500);
    bed_expect(&bed, bed.client, 2, 0, 7);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, early, 1), DOCKLINE_E_STATE);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, NULL, 0), DOCKLINE_E_STATE);
    expect_silence(bed.daemon);
    stats = bed_stats(&bed);
    CHECK_EQ(stats.received_up, 1500);
    CHECK_EQ(stats.bytes_up, 1500);
    CHECK_EQ(stats.bytes_down, 7);
    bed_close(&bed);

    AT("prefill, then the end at once");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    shutdown(bed.client, SHUT_WR);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, early, 5), DOCKLINE_OK);
    bed_settle(&bed);
    bed_expect(&bed, bed.daemon, 1, 0, 5);
    bed_expect_end(&bed, bed.daemon, 0);
    bed_close(&bed);

    AT("prefill, both sides of the limit");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, early, PREFILL + 1), DOCKLINE_E_LIMIT);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, early, PREFILL - 1), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, early, 2), DOCKLINE_E_LIMIT);
    CHECK_EQ(bed_stats(&bed).received_down, PREFILL - 1);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, early + PREFILL - 1, 1), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_UPSTREAM, early, 1), DOCKLINE_E_LIMIT);
    CHECK_EQ(dockline_relay_prefill(bed.relay, DOCKLINE_SIDE_DOWNSTREAM, early, 1), DOCKLINE_OK);
    bed_settle(&bed);
    bed_expect(&bed, bed.client, 1, 0, PREFILL);
    bed_expect(&bed, bed.daemon, 1, 0, 1);
    bed_close(&bed);
}

/* A reader that does not read stops the writer, and the relay holds no more than documented. */
static void a_slow_reader_bounds_memory(uint32_t flags, enum kind kind)
{
    dockline_relay_options options = {0, 0, 0, flags, 0};
    struct bed bed;
    uint64_t sent = 0;
    int small = 32 * 1024;
    AT("back-pressure, %s, flags %u", kind_names[kind], flags);
    bed_open(&bed, kind, kind, &options, NULL);
    if (kind == TCP_FD) {
        REQUIRE(setsockopt(bed.up, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        REQUIRE(setsockopt(bed.daemon, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
        REQUIRE(setsockopt(bed.client, SOL_SOCKET, SO_SNDBUF, &small, sizeof small) == 0);
        REQUIRE(setsockopt(bed.down, SOL_SOCKET, SO_RCVBUF, &small, sizeof small) == 0);
    }
    bed_settle(&bed);
    for (;;) { /* until the client is stopped */
        struct flow flow = {bed.client, bed.daemon, 1, UINT64_MAX, sent, UINT64_MAX};
        int moved = flow_move(&flow);
        sent = flow.sent;
        CHECK(sent < 64 * MEGABYTE);
        struct pollfd entry = {bed.client, POLLOUT, 0};
        if (!bed_step(&bed, 0) && !moved && !bed_step(&bed, 100) && poll(&entry, 1, 0) == 0)
            break;
    }
    dockline_relay_stats stats = bed_stats(&bed);
    CHECK(stats.received_up > stats.bytes_up);
    CHECK(stats.spliced_up <= stats.bytes_up);
    CHECK(stats.received_up - stats.bytes_up <= (flags & DOCKLINE_RELAY_NO_SPLICE ? SCRATCH : 4 * SCRATCH));
    CHECK_EQ(bed.wants.interest & DOCKLINE_DOWNSTREAM_READ, 0);
    CHECK(bed.wants.interest & DOCKLINE_UPSTREAM_WRITE);
    /* Readiness that is none changes nothing. */
    for (int i = 0; i < 3; i++)
        bed_pump(&bed, DOCKLINE_UPSTREAM_WRITE | DOCKLINE_DOWNSTREAM_READ);
    dockline_relay_stats after = bed_stats(&bed);
    if (kind != TCP_FD) /* where the kernel may have found some room after all */
        CHECK(memcmp(&after, &stats, sizeof stats) == 0);
    /* The other direction does not mind. */
    bed_send(&bed, bed.daemon, 2, 0, 4);
    bed_expect(&bed, bed.client, 2, 0, 4);
    bed_expect(&bed, bed.daemon, 1, 0, (size_t)sent);
    CHECK_EQ(bed_stats(&bed).bytes_up, sent);
    bed_close(&bed);
}

static void bulk_is_spliced(void)
{
    static const struct {
        uint32_t flags, max_pipes, pipe_bytes;
        int spliced, most_descriptors;
    } rows[] = {
        {0, 0, 0, 1, 4},
        {0, 1, 0, 1, 2},
        {0, 8, 4096, 1, 4},
        {DOCKLINE_RELAY_NO_SPLICE, 0, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int kind = UNIX_FD; kind <= TCP_FD; kind++) {
            dockline_relay_options options = {0, 0, 0, rows[i].flags, 0};
            dockline_worker_options bounds = {NULL, NULL, rows[i].max_pipes, rows[i].pipe_bytes};
            struct bed bed;
            AT("bulk %zu, %s", i, kind_names[kind]);
            bed_open(&bed, (enum kind)kind, (enum kind)kind, &options, &bounds);
            bed_settle(&bed);
            int before = open_descriptors();
            bed_exchange(&bed, 8 * MEGABYTE, 8 * MEGABYTE);
            dockline_relay_stats stats = bed_stats(&bed);
            CHECK_EQ(stats.bytes_up, 8 * MEGABYTE);
            CHECK_EQ(stats.bytes_down, 8 * MEGABYTE);
            CHECK(stats.spliced_up <= stats.bytes_up && stats.spliced_down <= stats.bytes_down);
            if (rows[i].spliced)
                CHECK(stats.spliced_up + stats.spliced_down > MEGABYTE);
            else
                CHECK_EQ(stats.spliced_up + stats.spliced_down, 0);
            CHECK(open_descriptors() - before <= rows[i].most_descriptors);
            /* Back to keystrokes. */
            bed_send(&bed, bed.client, 3, 0, 1);
            bed_expect(&bed, bed.daemon, 3, 0, 1);
            bed_close(&bed);
        }
    }
}

/* Both directions are full, and hold as many pipes as they may. */
static void pipes_are_bounded(void)
{
    for (uint32_t max_pipes = 0; max_pipes < 3; max_pipes++) {
        dockline_worker_options bounds = {NULL, NULL, max_pipes, 0};
        struct bed bed;
        AT("max_pipes %u", max_pipes);
        bed_open(&bed, UNIX_FD, UNIX_FD, NULL, &bounds);
        bed_settle(&bed);
        int before = open_descriptors();
        struct flow flows[2] = {{bed.client, bed.daemon, 1, UINT64_MAX, 0, UINT64_MAX},
                                {bed.daemon, bed.client, 2, UINT64_MAX, 0, UINT64_MAX}};
        int quiet = 0;
        while (quiet < 3) {
            int moved = flow_move(&flows[0]) | flow_move(&flows[1]);
            quiet = bed_step(&bed, 0) || moved ? 0 : quiet + 1;
        }
        CHECK_EQ(open_descriptors() - before, max_pipes == 1 ? 2 : 4);
        bed_expect(&bed, bed.daemon, 1, 0, (size_t)flows[0].sent);
        bed_expect(&bed, bed.client, 2, 0, (size_t)flows[1].sent);
        bed_close(&bed);
    }
}

struct noted {
    int calls;
    int32_t level;
    char text[200];
};

static void note(void *user, int32_t level, dockline_str text)
{
    struct noted *noted = user;
    noted->calls++;
    noted->level = level;
    snprintf(noted->text, sizeof noted->text, "%.*s", (int)text.len, text.data);
}

static void without_pipes_it_copies_and_says_so(void)
{
    struct noted noted = {0, 0, ""};
    dockline_worker_options bounds = {note, &noted, 0, 0};
    struct rlimit before, none_left;
    struct bed bed;
    AT("no descriptor left for a pipe");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, &bounds);
    bed_settle(&bed);
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    none_left = before;
    none_left.rlim_cur = (rlim_t)bed.up + 1;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &none_left) == 0);
    bed_exchange(&bed, 2 * MEGABYTE, 2 * MEGABYTE);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    CHECK_EQ(bed_stats(&bed).spliced_up + bed_stats(&bed).spliced_down, 0);
    CHECK_EQ(noted.calls, 1);
    CHECK_EQ(noted.level, DOCKLINE_LOG_WARN);
    CHECK(strstr(noted.text, "splice") != NULL);
    bed_close(&bed);
}

static void the_log_says_what_broke(void)
{
    struct noted noted = {0, 0, ""};
    dockline_worker_options bounds = {note, &noted, 0, 0};
    struct bed bed;
    AT("log");
    bed_open(&bed, TCP_FD, UNIX_FD, NULL, &bounds);
    bed_settle(&bed);
    CHECK_EQ(noted.calls, 0);
    close_with_reset(bed.client);
    bed.client = -1;
    bed_finish(&bed);
    CHECK_EQ(noted.calls, 1);
    CHECK_EQ(noted.level, DOCKLINE_LOG_INFO);
    CHECK(strstr(noted.text, "downstream") != NULL);
    CHECK(strstr(noted.text, "reset") != NULL);
    bed_close(&bed);
    CHECK_EQ(noted.calls, 1);
}

static void a_budget_lets_others_go_first(void)
{
    dockline_relay_options options = {0, 0, 4096, DOCKLINE_RELAY_NO_SPLICE, 0};
    struct bed bed;
    AT("budget");
    bed_open(&bed, UNIX_FD, UNIX_CALLBACKS, &options, NULL);
    bed.up_host.most = 1000;
    bed_send(&bed, bed.client, 1, 0, 100000);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_YIELD);
    uint64_t received = bed_stats(&bed).received_up;
    CHECK(received > 0 && received <= SCRATCH);
    bed_expect(&bed, bed.daemon, 1, 0, 100000);
    bed_close(&bed);
}

/* A TLS library gives one record a call, and the socket below may be empty already: only AGAIN means that
 * nothing is left, and no further edge comes. */
static void a_short_count_of_a_callback_proves_nothing(void)
{
    struct bed bed;
    AT("records");
    bed_open(&bed, UNIX_CALLBACKS, UNIX_FD, NULL, NULL);
    bed.down_host.most = 16 * 1024;
    bed_settle(&bed);
    bed_send(&bed, bed.client, 1, 0, 50000);
    bed_pump(&bed, DOCKLINE_DOWNSTREAM_READ);
    CHECK_EQ(bed_stats(&bed).bytes_up, 50000);
    bed_close(&bed);

    AT("records out");
    bed_open(&bed, UNIX_FD, UNIX_CALLBACKS, NULL, NULL);
    bed.up_host.most = 16 * 1024;
    bed_settle(&bed);
    bed_send(&bed, bed.client, 1, 0, 50000);
    bed_pump(&bed, DOCKLINE_DOWNSTREAM_READ);
    CHECK_EQ(bed_stats(&bed).bytes_up, 50000);
    bed_close(&bed);
}

static void a_callback_that_takes_nothing_is_asked_again_when_ready(void)
{
    static const int64_t answers[] = {DOCKLINE_IO_AGAIN, 0};
    for (size_t i = 0; i < 2; i++) {
        struct bed bed;
        AT("write answers %d", (int)answers[i]);
        bed_open(&bed, UNIX_FD, UNIX_CALLBACKS, NULL, NULL);
        bed_settle(&bed);
        bed.up_host.scripted = SCRIPTED_WRITE;
        bed.up_host.answer = answers[i];
        bed_send(&bed, bed.client, 1, 0, 10);
        bed_pump(&bed, DOCKLINE_DOWNSTREAM_READ);
        CHECK(bed.wants.interest & DOCKLINE_UPSTREAM_WRITE);
        CHECK_EQ(bed.up_host.writes, 1);
        bed_pump(&bed, 0);
        CHECK_EQ(bed.up_host.writes, 1);
        bed.up_host.scripted = 0;
        bed_pump(&bed, DOCKLINE_UPSTREAM_WRITE);
        CHECK_EQ(bed.up_host.writes, 2);
        bed_expect(&bed, bed.daemon, 1, 0, 10);
        bed_close(&bed);
    }
}

/* A host on poll(2) that registers interest and nothing else. */
static void a_level_triggered_host(void)
{
    struct bed bed;
    AT("level-triggered");
    bed_open(&bed, UNIX_FD, TCP_FD, NULL, NULL);
    struct flow flows[2] = {{bed.client, bed.daemon, 1, 3 * MEGABYTE, 0, 0}, {bed.daemon, bed.client, 2, 3 * MEGABYTE, 0, 0}};
    bed_pump(&bed, 0);
    int ended = 0;
    while (bed.wants.state != DOCKLINE_RELAY_DONE) {
        flow_move(&flows[0]);
        flow_move(&flows[1]);
        if (!ended && flows[0].received == flows[0].len && flows[1].received == flows[1].len) {
            /* Idle: a host that waits for interest sleeps. */
            struct pollfd quiet[2] = {{bed.down, POLLIN, 0}, {bed.up, POLLIN, 0}};
            while (bed_pump(&bed, 0) == DOCKLINE_RELAY_YIELD)
                ;
            CHECK_EQ(bed.wants.interest, DOCKLINE_DOWNSTREAM_READ | DOCKLINE_UPSTREAM_READ);
            CHECK_EQ(poll(quiet, 2, 0), 0);
            shutdown(bed.client, SHUT_WR);
            shutdown(bed.daemon, SHUT_WR);
            ended = 1;
        }
        uint32_t interest = bed.wants.interest;
        struct pollfd entries[4] = {
            {bed.down, 0, 0}, {bed.up, 0, 0}, {bed.client, 0, 0}, {bed.daemon, 0, 0},
        };
        entries[0].events = (short)((interest & DOCKLINE_DOWNSTREAM_READ ? POLLIN : 0)
                                    | (interest & DOCKLINE_DOWNSTREAM_WRITE ? POLLOUT : 0));
        entries[1].events = (short)((interest & DOCKLINE_UPSTREAM_READ ? POLLIN : 0)
                                    | (interest & DOCKLINE_UPSTREAM_WRITE ? POLLOUT : 0));
        for (int i = 0; i < 2; i++) {
            entries[2].events |= flows[i].sent < flows[i].len && i == 0 ? POLLOUT : 0;
            entries[3].events |= flows[i].sent < flows[i].len && i == 1 ? POLLOUT : 0;
        }
        entries[2].events |= flows[1].received < flows[1].len ? POLLIN : 0;
        entries[3].events |= flows[0].received < flows[0].len ? POLLIN : 0;
        int busy = bed.wants.state == DOCKLINE_RELAY_YIELD;
        REQUIRE(poll(entries, 4, busy ? 0 : PATIENCE_MS) >= (busy ? 0 : 1));
        uint32_t ready = 0;
        for (int i = 0; i < 2; i++) {
            uint32_t bits = (entries[i].revents & POLLIN ? DOCKLINE_DOWNSTREAM_READ : 0u)
                | (entries[i].revents & POLLOUT ? DOCKLINE_DOWNSTREAM_WRITE : 0u)
                | (entries[i].revents & (POLLHUP | POLLERR) ? DOCKLINE_DOWNSTREAM_HUP : 0u);
            ready |= bits << (4 * i);
        }
        if (busy || ready != 0)
            bed_pump(&bed, ready);
        CHECK(bed.pumps < 20000);
    }
    dockline_relay_stats stats = bed_stats(&bed);
    CHECK_EQ(stats.bytes_up, 3 * MEGABYTE);
    CHECK_EQ(stats.bytes_down, 3 * MEGABYTE);
    CHECK_EQ(stats.close_reason, DOCKLINE_CLOSE_EOF);
    bed_close(&bed);
}

static void sockets_are_tuned_unless_told_not_to(void)
{
    for (uint32_t keep = 0; keep < 2; keep++) {
        dockline_relay_options options = {0, 0, 0, keep ? DOCKLINE_RELAY_KEEP_SOCKET_OPTIONS : 0, 0};
        struct bed bed;
        AT("socket options, keep %u", keep);
        bed_open(&bed, TCP_FD, TCP_CALLBACKS, &options, NULL);
        int ends[2] = {bed.down, bed.up};
        for (int i = 0; i < 2; i++) {
            CHECK_EQ(int_option(ends[i], IPPROTO_TCP, TCP_NODELAY) != 0, !keep);
            CHECK_EQ(int_option(ends[i], SOL_SOCKET, SO_KEEPALIVE) != 0, !keep);
            if (!keep) {
                CHECK_EQ(int_option(ends[i], IPPROTO_TCP, TCP_KEEPIDLE), 30);
                CHECK_EQ(int_option(ends[i], IPPROTO_TCP, TCP_KEEPINTVL), 10);
                CHECK_EQ(int_option(ends[i], IPPROTO_TCP, TCP_KEEPCNT), 6);
            }
        }
        bed_close(&bed);
    }
}

/* Relays of one worker, one of them in the middle of something, and the worker freed before them. */
static void relays_share_a_worker_that_goes_first(void)
{
    enum { RELAYS = 20 };
    static struct bed beds[RELAYS];
    AT("shared worker");
    int before = open_descriptors();
    dockline_worker *worker = NULL;
    REQUIRE(dockline_worker_new(NULL, 0, &worker) == DOCKLINE_OK);
    for (int i = 0; i < RELAYS; i++) {
        bed_open(&beds[i], UNIX_FD, UNIX_FD, NULL, NULL);
        dockline_endpoint downstream = endpoint_of(UNIX_FD, beds[i].down, &beds[i].down_host);
        dockline_endpoint upstream = endpoint_of(UNIX_FD, beds[i].up, &beds[i].up_host);
        dockline_relay_free(beds[i].relay);
        dockline_worker_free(beds[i].worker);
        beds[i].worker = NULL;
        REQUIRE(dockline_relay_new(worker, NULL, 0, &downstream, &upstream, sizeof upstream, 0, &beds[i].relay)
                == DOCKLINE_OK);
    }
    dockline_worker_free(worker);
    /* Every one ends up with bytes that its reader does not take. */
    for (int i = 0; i < RELAYS; i++) {
        bed_settle(&beds[i]);
        for (int round = 0; round < 40; round++) {
            struct flow flow = {beds[i].client, beds[i].daemon, (unsigned)i, UINT64_MAX, 0, UINT64_MAX};
            flow_move(&flow);
            bed_step(&beds[i], 0);
        }
        dockline_relay_stats stats = bed_stats(&beds[i]);
        CHECK(stats.received_up > stats.bytes_up);
    }
    for (int i = 0; i < RELAYS; i++) {
        struct bed *bed = &beds[i];
        uint8_t chunk[1024];
        wait_for(bed->daemon, POLLIN);
        CHECK_EQ(recv(bed->daemon, chunk, sizeof chunk, 0), sizeof chunk);
        CHECK(noise_matches((unsigned)i, 0, chunk, sizeof chunk));
        bed_hang_up(bed);
    }
    for (int i = 0; i < RELAYS; i++) {
        close(beds[i].client);
        close(beds[i].daemon);
        close(beds[i].epoll);
    }
    CHECK_EQ(open_descriptors(), before);
}

int main(void)
{
    every_pairing_of_sides();
    callbacks_without_a_descriptor();
    prefilled_bytes_come_first();
    for (int kind = UNIX_FD; kind <= TCP_FD; kind++) {
        a_slow_reader_bounds_memory(0, (enum kind)kind);
        a_slow_reader_bounds_memory(DOCKLINE_RELAY_NO_SPLICE, (enum kind)kind);
    }
    a_slow_reader_bounds_memory(DOCKLINE_RELAY_NO_SPLICE, UNIX_CALLBACKS);
    bulk_is_spliced();
    pipes_are_bounded();
    without_pipes_it_copies_and_says_so();
    the_log_says_what_broke();
    a_budget_lets_others_go_first();
    a_short_count_of_a_callback_proves_nothing();
    a_callback_that_takes_nothing_is_asked_again_when_ready();
    a_level_triggered_host();
    sockets_are_tuned_unless_told_not_to();
    relays_share_a_worker_that_goes_first();
    return check_summary("relay");
}
