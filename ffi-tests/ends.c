/* SPDX-License-Identifier: MIT
 * How a relay ends: by half-closes, by resets, by limits, by the host; and what is reported. */
#include <signal.h>

#include "bed.h"

enum { MEGABYTE = 1024 * 1024, BOTH_SIDES = DOCKLINE_SIDE_DOWNSTREAM | DOCKLINE_SIDE_UPSTREAM };

static void expect_ended(const struct bed *bed, int32_t reason, int32_t first_closer, int32_t abort_sides)
{
    dockline_relay_stats stats = bed_stats(bed);
    CHECK_EQ(bed->wants.state, DOCKLINE_RELAY_DONE);
    CHECK_STR(dockline_close_reason_name(stats.close_reason), dockline_close_reason_name(reason));
    CHECK_EQ(stats.first_closer, first_closer);
    CHECK_EQ(stats.abort_sides, abort_sides);
}

static void the_client_ends_first(enum kind down, enum kind up)
{
    struct bed bed;
    AT("client first, %s to %s", kind_names[down], kind_names[up]);
    bed_open(&bed, down, up, NULL, NULL);
    bed_send(&bed, bed.client, 1, 0, 5);
    shutdown(bed.client, SHUT_WR);
    bed_settle(&bed);
    bed_expect(&bed, bed.daemon, 1, 0, 5);
    bed_expect_end(&bed, bed.daemon, 0);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
    CHECK(bed.wants.deadline_ms == DOCKLINE_NO_DEADLINE); /* the daemon may take as long as it likes */
    CHECK(bed.wants.interest & DOCKLINE_UPSTREAM_READ);
    CHECK_EQ(bed_stats(&bed).first_closer, DOCKLINE_SIDE_DOWNSTREAM);
    CHECK_EQ(bed_stats(&bed).close_reason, DOCKLINE_CLOSE_NONE);
    expect_silence(bed.client);
    bed_send(&bed, bed.daemon, 2, 0, 300000);
    bed_expect(&bed, bed.client, 2, 0, 300000);
    close(bed.daemon);
    bed.daemon = -1;
    bed_expect_end(&bed, bed.client, 0);
    bed_finish(&bed);
    expect_ended(&bed, DOCKLINE_CLOSE_EOF, DOCKLINE_SIDE_DOWNSTREAM, 0);
    CHECK_EQ(bed_stats(&bed).bytes_up, 5);
    CHECK_EQ(bed_stats(&bed).bytes_down, 300000);
    CHECK_EQ(bed_stats(&bed).error_number, 0);
    bed_close(&bed);
}

static void the_daemon_ends_first(enum kind down, enum kind up)
{
    struct bed bed;
    AT("daemon first, %s to %s", kind_names[down], kind_names[up]);
    bed_open(&bed, down, up, NULL, NULL);
    bed_send(&bed, bed.daemon, 2, 0, 7);
    shutdown(bed.daemon, SHUT_WR);
    bed_settle(&bed);
    bed_expect(&bed, bed.client, 2, 0, 7);
    bed_expect_end(&bed, bed.client, 0);
    bed_pump(&bed, 0);
    CHECK_EQ(bed.wants.deadline_ms, bed.now + 5000);
    /* Progress towards the daemon is a reason to wait. */
    bed.now += 4999;
    bed_send(&bed, bed.client, 1, 0, 300000);
    bed_expect(&bed, bed.daemon, 1, 0, 300000);
    CHECK_EQ(bed.wants.deadline_ms, bed.now + 5000);
    CHECK_EQ(bed_stats(&bed).last_activity_ms, bed.now);
    shutdown(bed.client, SHUT_WR);
    bed_expect_end(&bed, bed.daemon, 0);
    bed_finish(&bed);
    expect_ended(&bed, DOCKLINE_CLOSE_EOF, DOCKLINE_SIDE_UPSTREAM, 0);
    bed_close(&bed);
}

static void lingering(void)
{
    static const uint64_t lingers[] = {0, 1, 60000, UINT64_MAX};
    for (size_t i = 0; i < 4; i++) {
        dockline_relay_options options = {0, lingers[i], 0, 0, 0};
        uint64_t linger = lingers[i] == 0 ? 5000 : lingers[i];
        struct bed bed;
        AT("linger %ju", (uintmax_t)lingers[i]);
        bed_open(&bed, TCP_FD, UNIX_FD, &options, NULL);
        bed_send(&bed, bed.daemon, 2, 0, 7);
        close(bed.daemon);
        bed.daemon = -1;
        bed_settle(&bed);
        bed_expect(&bed, bed.client, 2, 0, 7);
        bed_expect_end(&bed, bed.client, 0);
        if (linger == UINT64_MAX) {
            CHECK(bed.wants.deadline_ms == DOCKLINE_NO_DEADLINE);
            bed.now += UINT64_C(1) << 40;
            CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
        } else {
            CHECK_EQ(bed.wants.deadline_ms, bed.now + linger);
            bed.now += linger - 1;
            CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
            bed.now++;
            CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
            expect_ended(&bed, DOCKLINE_CLOSE_LINGER, DOCKLINE_SIDE_UPSTREAM, 0);
        }
        bed_close(&bed);
    }
}

static void resets(enum kind down, enum kind up, int from_client)
{
    struct bed bed;
    AT("%s reset, %s to %s", from_client ? "client" : "daemon", kind_names[down], kind_names[up]);
    bed_open(&bed, down, up, NULL, NULL);
    int *breaking = from_client ? &bed.client : &bed.daemon;
    int other = from_client ? bed.daemon : bed.client;
    int32_t side = from_client ? DOCKLINE_SIDE_DOWNSTREAM : DOCKLINE_SIDE_UPSTREAM;
    bed_settle(&bed);
    bed_send(&bed, *breaking, 1, 0, 100);
    bed_expect(&bed, other, 1, 0, 100);
    if (down >= UNIX_CALLBACKS) {
        struct host_side *host = from_client ? &bed.down_host : &bed.up_host;
        host->scripted = SCRIPTED_READ;
        host->answer = DOCKLINE_IO_RESET;
        bed_pump(&bed, from_client ? DOCKLINE_DOWNSTREAM_READ : DOCKLINE_UPSTREAM_READ);
    } else {
        close_with_reset(*breaking);
        *breaking = -1;
    }
    bed_finish(&bed);
    expect_ended(&bed, from_client ? DOCKLINE_CLOSE_DOWNSTREAM_RESET : DOCKLINE_CLOSE_UPSTREAM_RESET, side,
                 BOTH_SIDES);
    CHECK_EQ(bed_stats(&bed).error_number, ECONNRESET);
    /* Not a clean end: neither before the host closes nor after it. */
    expect_silence(other);
    bed_hang_up(&bed);
    if (down == TCP_FD || down == TCP_CALLBACKS) {
        wait_for(other, POLLIN);
        uint8_t byte;
        CHECK(recv(other, &byte, 1, 0) == -1 && errno == ECONNRESET);
    }
    bed_close(&bed);
}

static void the_host_says_that_a_peer_is_gone(void)
{
    static const struct {
        uint32_t ready;
        int32_t reason, side;
    } rows[] = {
        {DOCKLINE_DOWNSTREAM_GONE, DOCKLINE_CLOSE_DOWNSTREAM_RESET, DOCKLINE_SIDE_DOWNSTREAM},
        {DOCKLINE_UPSTREAM_GONE, DOCKLINE_CLOSE_UPSTREAM_RESET, DOCKLINE_SIDE_UPSTREAM},
    };
    for (size_t i = 0; i < 2; i++) {
        struct bed bed;
        AT("gone %zu", i);
        bed_open(&bed, UNIX_CALLBACKS, UNIX_CALLBACKS, NULL, NULL);
        bed_settle(&bed);
        CHECK_EQ(bed_pump(&bed, rows[i].ready), DOCKLINE_RELAY_DONE);
        expect_ended(&bed, rows[i].reason, rows[i].side, BOTH_SIDES);
        bed_close(&bed);
    }
}

/* What was read before a reset is delivered before the reset is passed on. */
static void the_prefix_survives_a_reset(void)
{
    struct bed bed;
    AT("prefix");
    bed_open(&bed, TCP_FD, TCP_FD, NULL, NULL);
    bed_settle(&bed);
    uint8_t early[50000];
    noise_fill(1, 0, early, sizeof early);
    REQUIRE(send(bed.daemon, early, sizeof early, 0) == sizeof early);
    while (bed_stats(&bed).received_down < sizeof early)
        bed_step(&bed, PATIENCE_MS);
    close_with_reset(bed.daemon);
    bed.daemon = -1;
    bed_finish(&bed);
    expect_ended(&bed, DOCKLINE_CLOSE_UPSTREAM_RESET, DOCKLINE_SIDE_UPSTREAM, BOTH_SIDES);
    CHECK_EQ(bed_stats(&bed).bytes_down, sizeof early);
    bed_hang_up(&bed);
    for (size_t at = 0; at < sizeof early;) {
        uint8_t chunk[4096];
        wait_for(bed.client, POLLIN);
        ssize_t n = recv(bed.client, chunk, sizeof chunk, 0);
        REQUIRE(n > 0);
        REQUIRE(noise_matches(1, at, chunk, (size_t)n));
        at += (size_t)n;
    }
    bed_expect_end(&bed, bed.client, ECONNRESET);
    bed_close(&bed);
}

static void callbacks_that_talk_nonsense_are_a_broken_connection(void)
{
    static const struct {
        unsigned scripted;
        int64_t answer;
    } rows[] = {
        {SCRIPTED_READ, INT32_MAX},  {SCRIPTED_READ, INT64_MAX},   {SCRIPTED_READ, -3},
        {SCRIPTED_READ, INT64_MIN},  {SCRIPTED_WRITE, 11},         {SCRIPTED_WRITE, INT64_MAX},
        {SCRIPTED_WRITE, -3},        {SCRIPTED_WRITE, INT64_MIN},  {SCRIPTED_SHUTDOWN, 1},
        {SCRIPTED_SHUTDOWN, -3},     {SCRIPTED_SHUTDOWN, INT32_MIN},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct bed bed;
        AT("nonsense %zu: call %u answers %jd", i, rows[i].scripted, (intmax_t)rows[i].answer);
        bed_open(&bed, UNIX_CALLBACKS, UNIX_FD, NULL, NULL);
        bed_settle(&bed);
        bed.down_host.scripted = rows[i].scripted;
        bed.down_host.answer = rows[i].answer;
        bed_send(&bed, bed.client, 1, 0, 10);
        bed_send(&bed, bed.daemon, 2, 0, 10);
        if (rows[i].scripted == SCRIPTED_SHUTDOWN)
            shutdown(bed.daemon, SHUT_WR);
        bed_settle(&bed);
        bed_finish(&bed);
        expect_ended(&bed, DOCKLINE_CLOSE_DOWNSTREAM_RESET,
                     rows[i].scripted == SCRIPTED_SHUTDOWN ? DOCKLINE_SIDE_UPSTREAM : DOCKLINE_SIDE_DOWNSTREAM,
                     BOTH_SIDES);
        CHECK(bed_stats(&bed).error_number != 0);
        bed_close(&bed);
    }
}

static void a_half_close_may_take_several_tries(void)
{
    struct bed bed;
    AT("shutdown answers AGAIN");
    bed_open(&bed, UNIX_FD, UNIX_CALLBACKS, NULL, NULL);
    bed_settle(&bed);
    bed.up_host.scripted = SCRIPTED_SHUTDOWN;
    bed.up_host.answer = DOCKLINE_IO_AGAIN;
    shutdown(bed.client, SHUT_WR);
    bed_pump(&bed, DOCKLINE_DOWNSTREAM_READ | DOCKLINE_DOWNSTREAM_HUP);
    CHECK_EQ(bed.up_host.shutdowns, 1);
    CHECK(bed.wants.interest & DOCKLINE_UPSTREAM_WRITE);
    bed_pump(&bed, 0);
    CHECK_EQ(bed.up_host.shutdowns, 1);
    bed.up_host.scripted = 0;
    bed_pump(&bed, DOCKLINE_UPSTREAM_WRITE);
    bed_pump(&bed, DOCKLINE_UPSTREAM_WRITE);
    CHECK_EQ(bed.up_host.shutdowns, 2);
    bed_expect_end(&bed, bed.daemon, 0);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
    bed_close(&bed);
}

static void a_daemon_that_stops_reading_is_still_heard(void)
{
    struct bed bed;
    AT("daemon stops reading");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    bed_settle(&bed);
    shutdown(bed.daemon, SHUT_RD);
    bed_send(&bed, bed.client, 1, 0, 300000);
    shutdown(bed.client, SHUT_WR);
    bed_send(&bed, bed.daemon, 2, 0, 300000);
    bed_expect(&bed, bed.client, 2, 0, 300000);
    close(bed.daemon);
    bed.daemon = -1;
    bed_expect_end(&bed, bed.client, 0);
    bed_finish(&bed);
    expect_ended(&bed, DOCKLINE_CLOSE_EOF, DOCKLINE_SIDE_UPSTREAM, 0);
    dockline_relay_stats stats = bed_stats(&bed);
    CHECK_EQ(stats.received_up, 300000);
    CHECK_EQ(stats.bytes_up, 0);
    CHECK_EQ(stats.error_number, EPIPE);
    bed_close(&bed);
}

static void idling(void)
{
    for (int kind = UNIX_FD; kind < KINDS; kind++) {
        dockline_relay_options options = {1000, 0, 0, 0, 0};
        struct bed bed;
        AT("idle, %s", kind_names[kind]);
        bed_open(&bed, (enum kind)kind, (enum kind)kind, &options, NULL);
        bed_settle(&bed);
        CHECK_EQ(bed.wants.deadline_ms, bed.now + 1000);
        bed.now += 900;
        bed_send(&bed, bed.client, 1, 0, 1);
        bed_expect(&bed, bed.daemon, 1, 0, 1);
        CHECK_EQ(bed.wants.deadline_ms, bed.now + 1000);
        bed.now += 900;
        bed_send(&bed, bed.daemon, 2, 0, 1);
        bed_expect(&bed, bed.client, 2, 0, 1);
        bed.now += 999;
        CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
        bed.now += 1;
        CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
        expect_ended(&bed, DOCKLINE_CLOSE_IDLE, DOCKLINE_SIDE_NONE, BOTH_SIDES);
        CHECK_EQ(bed_stats(&bed).last_activity_ms, bed.now - 1000);
        expect_silence(bed.client);
        expect_silence(bed.daemon);
        bed_hang_up(&bed);
        if (kind == TCP_FD || kind == TCP_CALLBACKS) {
            wait_for(bed.client, POLLIN);
            wait_for(bed.daemon, POLLIN);
            uint8_t byte;
            CHECK(recv(bed.client, &byte, 1, 0) == -1 && errno == ECONNRESET);
            CHECK(recv(bed.daemon, &byte, 1, 0) == -1 && errno == ECONNRESET);
        }
        bed_close(&bed);
    }
    struct bed bed;
    AT("idle, off by default");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    bed_settle(&bed);
    CHECK(bed.wants.deadline_ms == DOCKLINE_NO_DEADLINE);
    bed.now += UINT64_C(1) << 50;
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
    bed_close(&bed);
}

static void draining(void)
{
    struct bed bed;
    AT("drain");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    bed_settle(&bed);
    CHECK_EQ(dockline_relay_drain(bed.relay, 3000), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_drain(bed.relay, 5000), DOCKLINE_OK);
    bed_pump(&bed, 0);
    CHECK_EQ(bed.wants.deadline_ms, 3000);
    CHECK_EQ(dockline_relay_drain(bed.relay, 2000), DOCKLINE_OK);
    bed.now = 1999;
    bed_send(&bed, bed.client, 1, 0, 10);
    bed_expect(&bed, bed.daemon, 1, 0, 10);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_RUNNING);
    CHECK_EQ(bed.wants.deadline_ms, 2000);
    bed.now = 2000;
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
    expect_ended(&bed, DOCKLINE_CLOSE_DRAIN, DOCKLINE_SIDE_NONE, BOTH_SIDES);
    bed_close(&bed);

    AT("drain, over already");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    CHECK_EQ(dockline_relay_drain(bed.relay, 0), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
    expect_ended(&bed, DOCKLINE_CLOSE_DRAIN, DOCKLINE_SIDE_NONE, BOTH_SIDES);
    bed_close(&bed);

    AT("drain, ended by itself before");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    CHECK_EQ(dockline_relay_drain(bed.relay, UINT64_MAX), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_drain(bed.relay, 1000000), DOCKLINE_OK);
    shutdown(bed.client, SHUT_WR);
    shutdown(bed.daemon, SHUT_WR);
    bed_settle(&bed);
    bed_finish(&bed);
    int32_t first_closer = bed_stats(&bed).first_closer;
    bed.now = 1000000;
    CHECK_EQ(dockline_relay_kill(bed.relay), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, DOCKLINE_DOWNSTREAM_GONE | DOCKLINE_UPSTREAM_GONE), DOCKLINE_RELAY_DONE);
    expect_ended(&bed, DOCKLINE_CLOSE_EOF, first_closer, 0);
    bed_close(&bed);
}

static void killing(void)
{
    struct bed bed;
    AT("kill");
    bed_open(&bed, UNIX_FD, UNIX_FD, NULL, NULL);
    bed_send(&bed, bed.client, 1, 0, 10);
    CHECK_EQ(dockline_relay_kill(bed.relay), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, 0xff), DOCKLINE_RELAY_DONE);
    expect_ended(&bed, DOCKLINE_CLOSE_KILLED, DOCKLINE_SIDE_NONE, BOTH_SIDES);
    expect_silence(bed.daemon);
    /* Done is done. */
    uint64_t at = bed.now;
    bed.now += 1000000;
    CHECK_EQ(bed_pump(&bed, 0xff), DOCKLINE_RELAY_DONE);
    CHECK_EQ(dockline_relay_drain(bed.relay, 0), DOCKLINE_OK);
    CHECK_EQ(dockline_relay_kill(bed.relay), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
    expect_ended(&bed, DOCKLINE_CLOSE_KILLED, DOCKLINE_SIDE_NONE, BOTH_SIDES);
    CHECK_EQ(bed_stats(&bed).last_activity_ms, at);
    bed_close(&bed);

    AT("kill in the middle of a transfer");
    bed_open(&bed, TCP_FD, TCP_FD, NULL, NULL);
    bed_settle(&bed);
    bed_exchange(&bed, 2 * MEGABYTE, 2 * MEGABYTE);
    struct flow flow = {bed.client, bed.daemon, 3, UINT64_MAX, 0, UINT64_MAX};
    for (int round = 0; round < 100; round++) {
        flow_move(&flow);
        bed_step(&bed, 0);
    }
    CHECK_EQ(dockline_relay_kill(bed.relay), DOCKLINE_OK);
    CHECK_EQ(bed_pump(&bed, 0), DOCKLINE_RELAY_DONE);
    expect_ended(&bed, DOCKLINE_CLOSE_KILLED, DOCKLINE_SIDE_NONE, BOTH_SIDES);
    bed_close(&bed);
}

/* A relay that its host frees unfinished leaves the sockets as they are. */
static void freeing_is_not_closing(void)
{
    struct bed bed;
    AT("free");
    bed_open(&bed, TCP_FD, TCP_CALLBACKS, NULL, NULL);
    bed_settle(&bed);
    bed_exchange(&bed, 1000, 1000);
    int calls = bed.up_host.reads + bed.up_host.writes + bed.up_host.shutdowns;
    dockline_relay_free(bed.relay);
    bed.relay = NULL;
    CHECK_EQ(bed.up_host.reads + bed.up_host.writes + bed.up_host.shutdowns, calls);
    expect_silence(bed.client);
    CHECK_EQ(send(bed.down, "x", 1, 0), 1);
    wait_for(bed.client, POLLIN);
    uint8_t byte;
    CHECK(recv(bed.client, &byte, 1, 0) == 1 && byte == 'x');
    bed_close(&bed);
}

static int sigpipe_is_pending(void)
{
    sigset_t set;
    REQUIRE(sigpending(&set) == 0);
    return sigismember(&set, SIGPIPE);
}

/* With the default disposition a SIGPIPE would end this program. */
static void no_sigpipe(int splice, int already_pending)
{
    dockline_relay_options options = {0, 0, 0, splice ? 0 : DOCKLINE_RELAY_NO_SPLICE, 0};
    struct bed bed;
    sigset_t set, before, after;
    AT("SIGPIPE, splice %d, pending %d", splice, already_pending);
    REQUIRE(sigemptyset(&set) == 0 && sigaddset(&set, SIGPIPE) == 0);
    if (already_pending) {
        REQUIRE(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        REQUIRE(raise(SIGPIPE) == 0);
    }
    REQUIRE(sigprocmask(SIG_BLOCK, NULL, &before) == 0);
    bed_open(&bed, UNIX_FD, UNIX_FD, &options, NULL);
    bed_settle(&bed);
    bed_exchange(&bed, 2 * MEGABYTE, 1);
    struct flow flow = {bed.client, bed.daemon, 3, UINT64_MAX, 0, UINT64_MAX};
    for (int round = 0; round < 100; round++) { /* until it holds bytes that the daemon does not take */
        flow_move(&flow);
        bed_step(&bed, 0);
    }
    dockline_relay_stats stats = bed_stats(&bed);
    CHECK(stats.received_up > stats.bytes_up);
    CHECK_EQ(stats.spliced_up > 0, splice);
    close(bed.daemon);
    bed.daemon = -1;
    /* The kernel may say the reset first; the write has to be tried all the same. */
    bed_pump(&bed, DOCKLINE_UPSTREAM_WRITE);
    bed_pump(&bed, DOCKLINE_UPSTREAM_WRITE | DOCKLINE_UPSTREAM_READ | DOCKLINE_UPSTREAM_HUP);
    CHECK_EQ(bed_stats(&bed).first_closer, DOCKLINE_SIDE_UPSTREAM);
    CHECK(bed_stats(&bed).error_number != 0);
    CHECK_EQ(sigpipe_is_pending(), already_pending);
    REQUIRE(sigprocmask(SIG_BLOCK, NULL, &after) == 0);
    CHECK_EQ(sigismember(&after, SIGPIPE), sigismember(&before, SIGPIPE));
    CHECK_EQ(sigismember(&after, SIGUSR1), sigismember(&before, SIGUSR1));
    if (already_pending) {
        const struct timespec at_once = {0, 0};
        CHECK_EQ(sigtimedwait(&set, NULL, &at_once), SIGPIPE);
        REQUIRE(sigprocmask(SIG_UNBLOCK, &set, NULL) == 0);
    }
    bed_close(&bed);
}

int main(void)
{
    for (int down = 0; down < KINDS; down++) {
        for (int up = 0; up < KINDS; up++) {
            the_client_ends_first((enum kind)down, (enum kind)up);
            the_daemon_ends_first((enum kind)down, (enum kind)up);
        }
    }
    lingering();
    for (int from_client = 0; from_client < 2; from_client++) {
        resets(TCP_FD, TCP_FD, from_client);
        resets(TCP_CALLBACKS, TCP_CALLBACKS, from_client);
        resets(UNIX_CALLBACKS, UNIX_CALLBACKS, from_client);
    }
    the_host_says_that_a_peer_is_gone();
    the_prefix_survives_a_reset();
    callbacks_that_talk_nonsense_are_a_broken_connection();
    a_half_close_may_take_several_tries();
    a_daemon_that_stops_reading_is_still_heard();
    idling();
    draining();
    killing();
    freeing_is_not_closing();
    REQUIRE(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    for (int splice = 0; splice < 2; splice++) {
        for (int already_pending = 0; already_pending < 2; already_pending++)
            no_sigpipe(splice, already_pending);
    }
    return check_summary("ends");
}
